"""A folder in the BEIR layout: ``corpus.jsonl``, ``queries.jsonl``, ``qrels/<split>.tsv``; each may be gzipped.

Source: BEIR (arXiv:2104.08663).
"""

from __future__ import annotations

from collections.abc import Iterator
from logging import getLogger
from pathlib import Path

from elastic_ir.datasets.base import Dataset, digest_of, key_of
from elastic_ir.datasets.lines import SMALL_BYTES, Unseen, digest_of_file, read_lines, read_queries
from elastic_ir.datasets.qrels import read_qrels
from elastic_ir.errors import DatasetError, nearest
from elastic_ir.records import Document, Qrels, Query

CORPUS = "corpus.jsonl"

_log = getLogger(__name__)


class BeirFolder(Dataset):
    """A folder in the BEIR layout, with the judgments of one split.

    Args:
        name: the folder.
        split: name of a file in ``qrels/``, without its suffix.

    Raises:
        DatasetError: if there is no such folder, or no corpus in it.
    """

    has_splits = True

    def __init__(self, name: str, split: str = "test") -> None:
        path = Path(name)
        place = path.resolve()
        self.name, self.key = name, f"{key_of(place.name)}-{digest_of(place)[:8]}"
        self._path, self._split = path, split
        self._corpus = self._find(CORPUS)

    @property
    def count(self) -> int | None:
        """Documents of a corpus file of at most ``SMALL_BYTES``; None for others."""
        return None if self._corpus.stat().st_size > SMALL_BYTES else sum(1 for _ in read_lines(self._corpus))

    def documents(self) -> Iterator[Document]:
        """The documents in file order; only their ids are kept in memory, to find one that comes twice."""
        ids = Unseen()
        line = None
        for line in read_lines(self._corpus):
            row = line.record()
            doc_id = ids.check(line.usable_id(line.field(row, "_id"), "_id"), line)
            title = "" if row.get("title") is None else line.field(row, "title")
            yield Document(doc_id, line.field(row, "text"), title)
        if line is None:
            raise DatasetError(f"{self._corpus} has no documents; wanted at least one")

    def fingerprint(self) -> str:
        """Digest of the corpus file; of its size and time of change when it has more than ``SMALL_BYTES``."""
        return digest_of_file(self._corpus)

    def queries(self) -> list[Query]:
        """The queries judged in the split, in file order; all queries when the folder has no judgments at all."""
        path = self._find("queries.jsonl")
        queries = read_queries(path)
        if not self._splits():
            return queries
        judged = self.qrels()
        kept = [query for query in queries if query.query_id in judged]
        if not kept:
            raise DatasetError(f"{path} has none of the queries judged in split {self._split!r}; wanted the same ids")
        if len(kept) < len(judged):
            _log.warning("%s lacks %d of the queries judged in split %s", path, len(judged) - len(kept), self._split)
        return kept

    def query_ids(self) -> set[str]:
        return {query.query_id for query in read_queries(self._find("queries.jsonl"))}

    def qrels(self) -> Qrels:
        splits = self._splits()
        if not splits:
            raise DatasetError(f"{self.name} has no relevance judgments; wanted qrels/{self._split}.tsv in it")
        if self._split not in splits:
            raise DatasetError(f"{self.name} has no split {self._split!r}{nearest(self._split, splits)}")
        return read_qrels(splits[self._split])

    def answers(self) -> dict[str, tuple[str, ...]]:
        """From the field ``answers``, a list of strings, of the lines of ``queries.jsonl``."""
        path, wanted = self._find("queries.jsonl"), {query.query_id for query in self.queries()}
        found: dict[str, tuple[str, ...]] = {}
        for line in read_lines(path):
            row = line.record()
            query_id, answers = line.field(row, "_id"), row.get("answers")
            if query_id not in wanted or answers is None:
                continue
            if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
                line.fail("wanted `answers`, a list of strings")
            found[query_id] = tuple(answers)
        if not found:
            raise DatasetError(f"{path} has no answers; wanted a field `answers`, a list of strings, in its lines")
        return found

    def _find(self, name: str) -> Path:
        for path in (self._path / name, self._path / f"{name}.gz"):
            if path.is_file():
                return path
        raise DatasetError(f"{self._path} has no {name}; wanted {name} or {name}.gz in it")

    def _splits(self) -> dict[str, Path]:
        files = [*self._path.glob("qrels/*.tsv.gz"), *self._path.glob("qrels/*.tsv")]
        return {path.name.removesuffix(".gz").removesuffix(".tsv"): path for path in files}
