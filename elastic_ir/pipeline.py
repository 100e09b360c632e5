"""``Pipeline``: retrieve, then rerank, at the level that the load allows."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, overload

from elastic_ir.assembly import Parts, assemble
from elastic_ir.config import PipelineConfig, read_config
from elastic_ir.errors import BackendError, InputError
from elastic_ir.level import Level
from elastic_ir.records import Degradation, Hit, Query, Ranking
from elastic_ir.schedule import InFlight, Load, Policy, shrink_with_load
from elastic_ir.stage import SearchContext, timed

logger = logging.getLogger(__name__)

DEFAULT = Path(__file__).parent / "defaults" / "default.yaml"
MAX_K = 10_000
MAX_QUERY_CHARACTERS = 10_000
"""A longer query is cut here, before tokenizing, and the answer says so."""


class Degraded(NamedTuple):
    """Why an answer is less than what was asked for.

    ``reasons`` are words of ``records.Degradation``; ``candidates`` were retrieved; ``detail`` is for people.
    """

    reasons: tuple[str, ...]
    level: Level
    requested_level: Level
    candidates: int
    detail: str


class Hits(Sequence[Hit]):
    """The answer to one query: hits, best first, and how they came about.

    Attributes:
        query: as searched.
        level: operating point that answered.
        degraded: None when everything asked for was done.
        latency_ms: wall-clock milliseconds of the whole search.
        stage_ms: stage name -> milliseconds.
        generation: number of the index generation that answered.
    """

    def __init__(
        self,
        query: Query,
        hits: Sequence[Hit],
        level: Level,
        degraded: Degraded | None,
        latency_ms: float,
        stage_ms: Mapping[str, float],
        generation: int,
    ) -> None:
        self.query, self._hits, self.level, self.degraded = query, tuple(hits), level, degraded
        self.latency_ms, self.stage_ms, self.generation = latency_ms, dict(stage_ms), generation

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Hit]: ...
    def __getitem__(self, index: int | slice) -> Hit | Sequence[Hit]:
        return self._hits[index]

    def __len__(self) -> int:
        return len(self._hits)

    def __repr__(self) -> str:
        note = f", degraded={self.degraded.reasons}" if self.degraded else ""
        return f"Hits({len(self)} for {self.query.text!r}, level={self.level}, latency_ms={self.latency_ms:.1f}{note})"


class Pipeline:
    """Searches one index; safe to share between threads.

    Close it, or use it in a ``with`` block, to end its child process.

    Example:
        >>> from elastic_ir import Pipeline
        >>> with Pipeline.from_config() as pipeline:  # docstrings of this Python, indexed on first use
        ...     hits = pipeline.search("read a csv file", k=3)
    """

    def __init__(self, config: PipelineConfig, parts: Parts, policy: Policy = shrink_with_load) -> None:
        self.config, self.level = config, parts.level
        self._parts, self._policy, self._in_flight = parts, policy, InFlight()
        self._closed = False

    @classmethod
    def from_config(
        cls,
        config: str | Path | Mapping[str, Any] | PipelineConfig | None = None,
        *,
        dataset: str | None = None,
        split: str | None = None,
        index: str | Path | None = None,
        progress: bool | None = None,
    ) -> Pipeline:
        """Build a pipeline; its index is opened, or built on first use, before this returns.

        Args:
            config: path of a YAML file, a mapping, or None for the default: elastic search over ``pydocs``.
            dataset: replaces the configuration's; ``pydocs``, a BEIR folder or an ir_datasets id.
            split: replaces the configuration's.
            index: replaces the configuration's; a folder that ``elastic-ir index`` made.
            progress: show bars on stderr; None on a terminal only.

        Raises:
            ConfigError: if the configuration does not hold.
            DatasetError, ModelError, IndexNotFoundError, IndexCorruptError, IndexMismatchError: before any query.
        """
        settings = read_config(DEFAULT if config is None else config)
        changes = {"dataset": dataset, "split": split, "index": None if index is None else str(index)}
        settings = settings.model_copy(update={key: value for key, value in changes.items() if value is not None})
        parts = assemble(settings, progress)
        return cls(settings, parts)

    @property
    def parts(self) -> Parts:
        """What it is made of, for tools that measure a part on its own."""
        return self._parts

    @property
    def index_path(self) -> Path:
        """Folder of the index searched."""
        return self._parts.generation.path.parent

    @property
    def generation(self) -> int:
        """Number of the index generation searched."""
        return self._parts.generation.number

    @property
    def corpus_sha256(self) -> str:
        """Digest of the documents searched, in order."""
        return self._parts.generation.manifest.corpus_sha256

    @property
    def models(self) -> dict[str, str]:
        """Role -> fingerprint of each model."""
        return self._parts.models

    def flops(self, level: Level | str | None = None) -> float:
        """Floating-point operations of the models for one typical query at ``level``; None means the idle level."""
        level = Level.parse(level) if isinstance(level, str) else level
        return self._parts.flops(level or self.level)

    def to_config(self) -> dict[str, Any]:
        """The configuration as plain data; ``from_config`` of it gives the same pipeline."""
        return self.config.model_dump(mode="json")

    def search(
        self,
        query: str,
        k: int = 10,
        level: Level | str | None = None,
        deadline_ms: float | None = None,
        *,
        cancelled: Callable[[], bool] | None = None,
    ) -> Hits:
        """The best ``k`` documents for ``query``, with their texts.

        Args:
            query: the question; one over 10,000 characters is cut, and the answer says so.
            k: hits wanted, 1..10,000.
            level: operating point, used exactly; None lets the depth budget shrink with the searches in flight.
            deadline_ms: milliseconds from now after which the best order so far is returned; None means no limit.
            cancelled: asked between chunks of reranking; True ends the work early.

        Raises:
            InputError: for an empty query, or k or deadline out of range.
            SubnetError: if this pipeline does not have this level.
            BackendError: if no retriever can answer, or the pipeline was closed.
        """
        with self._in_flight.search() as in_flight:
            requested = self._requested(level)
            chosen = requested
            if level is None and self.config.shrink_with_load:
                chosen = self._policy(Load(in_flight, requested))
            return self._search([_checked(query)], k, requested, chosen, deadline_ms, cancelled, texts=True)[0]

    def run(
        self, queries: Iterable[Query], k: int = 1000, level: Level | str | None = None, *, batch: int = 32
    ) -> Iterator[Hits]:
        """Search many queries, streamed in batches, without texts: what a TREC run is made of.

        Args:
            queries: in any number; read ``batch`` at a time.
            k: hits wanted of each.
            level: operating point for all; None means the idle level.
            batch: queries that share one pass.

        Yields:
            One ``Hits`` a query, in order; latencies are those of its batch divided by its size.
        """
        requested, waiting = self._requested(level), iter(queries)
        while chunk := list(islice(waiting, batch)):
            notes = [_checked(query.text, query.query_id) for query in chunk]
            yield from self._search(notes, k, requested, requested, None, None, texts=False)

    def close(self) -> None:
        """End child processes and let go of the index."""
        self._closed = True
        self._parts.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _requested(self, level: Level | str | None) -> Level:
        if level is None:
            return self.level
        level = Level.parse(level) if isinstance(level, str) else level
        self._parts.check(level)
        return level

    def _search(
        self,
        asked: list[Ranking],
        k: int,
        requested: Level,
        level: Level,
        deadline_ms: float | None,
        cancelled: Callable[[], bool] | None,
        *,
        texts: bool,
    ) -> list[Hits]:
        if self._closed:
            raise BackendError("the pipeline was closed; open another to search")
        if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= MAX_K:
            raise InputError(f"k is {k!r}; wanted a whole number from 1 to {MAX_K:,}")
        if deadline_ms is not None and not deadline_ms > 0:
            raise InputError(f"deadline_ms is {deadline_ms!r}; wanted milliseconds above 0")
        started = time.perf_counter()
        deadline = None if deadline_ms is None else time.monotonic() + deadline_ms / 1000
        context = SearchContext(k=k, level=level, deadline=deadline, cancelled=cancelled or (lambda: False))
        rankings = timed(self._parts.stage, asked, context)
        elapsed = (time.perf_counter() - started) * 1000 / len(asked)
        stage_ms = {name: ms / len(asked) for name, ms in context.latencies_ms.items()}
        return [
            Hits(
                ranking.query,
                self._with_text(ranking.hits[:k]) if texts else ranking.hits[:k],
                _answered(level, ranking),
                _degraded(ranking, level, requested),
                elapsed,
                stage_ms,
                self.generation,
            )
            for ranking in rankings
        ]

    def _with_text(self, hits: Sequence[Hit]) -> list[Hit]:
        documents = self._parts.generation.documents
        return [hit._replace(text=documents.text(hit.doc_id)) for hit in hits]


def _checked(text: str, query_id: str = "") -> Ranking:
    name = f"query {query_id!r}" if query_id else "the query"
    if not isinstance(text, str):
        raise InputError(f"{name} is {type(text).__name__}; wanted a string")
    if not text.strip():
        raise InputError(f"{name} is empty; wanted some words to search for")
    if len(text) <= MAX_QUERY_CHARACTERS:
        return Ranking(Query(query_id, text))
    detail = f"{name} has {len(text):,} characters; the first {MAX_QUERY_CHARACTERS:,} were searched"
    logger.warning(detail)
    cut = Query(query_id, text[:MAX_QUERY_CHARACTERS])
    return Ranking(cut, degraded=(Degradation("query_cut", "pipeline", detail),))


def _answered(level: Level, ranking: Ranking) -> Level:
    """The level that really answered: what failed is not in it."""
    reasons = {note.reason for note in ranking.degraded}
    if "dense_down" in reasons:
        level = Level("bm25", None, level.rerank)
    elif "bm25_down" in reasons and level.retriever == "hybrid":
        level = level._replace(retriever="dense")
    return level._replace(rerank=None) if "ranker_down" in reasons else level


def _degraded(ranking: Ranking, level: Level, requested: Level) -> Degraded | None:
    notes = list(ranking.degraded)
    if level != requested:
        notes.insert(0, Degradation("load", "pipeline", f"{requested} asked for, {level} spent"))
    if not notes:
        return None
    detail = "; ".join(note.detail for note in notes if note.detail)
    reasons = tuple(dict.fromkeys(note.reason for note in notes))
    return Degraded(reasons, _answered(level, ranking), requested, len(ranking.hits), detail)
