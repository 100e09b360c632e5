"""``Pipeline``: retrieve, then rerank, at the level that the load allows."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from elastic_ir.answer import Hits, degraded_of, level_of
from elastic_ir.assembly import Parts, assemble
from elastic_ir.config import PipelineConfig, read_config
from elastic_ir.datasets import EMBEDDED
from elastic_ir.errors import BackendError, ConfigError, InputError
from elastic_ir.level import Level
from elastic_ir.machine import machine, threads
from elastic_ir.records import Degradation, Hit, Query, Ranking
from elastic_ir.schedule import Scheduler
from elastic_ir.schedule.ladderfile import LadderFile, read_ladder
from elastic_ir.schedule.underload import under_load
from elastic_ir.stage import SearchContext, timed

logger = logging.getLogger(__name__)

DEFAULT = Path(__file__).parent / "defaults" / "default.yaml"
MAX_K = 10_000
MAX_QUERY_CHARACTERS = 10_000
"""A longer query is cut here, before tokenizing, and the answer says so."""
_LONGEST_MS = 86_400_000


class Pipeline:
    """Searches one index; safe to share between threads.

    Close it, or use it in a ``with`` block, to end its child process.

    Example:
        >>> from elastic_ir import Pipeline
        >>> with Pipeline.from_config() as pipeline:  # docstrings of this Python, indexed on first use
        ...     hits = pipeline.search("read a csv file", k=3)
    """

    def __init__(self, config: PipelineConfig, parts: Parts, scheduler: Scheduler | None = None) -> None:
        self.config, self.scheduler = config, scheduler or Scheduler()
        ladder = self.scheduler.ladder
        self.level = parts.level if ladder is None else ladder.rungs[0].level
        self._parts, self._closed = parts, False
        for rung in () if ladder is None else ladder.rungs:
            parts.check(rung.level)

    @classmethod
    def from_config(
        cls,
        config: str | Path | Mapping[str, Any] | PipelineConfig | None = None,
        *,
        dataset: str | None = None,
        split: str | None = None,
        index: str | Path | None = None,
        ladder: str | Path | None = None,
        progress: bool | None = None,
    ) -> Pipeline:
        """Build a pipeline; its index is opened, or built on first use, before this returns.

        Args:
            config: path of a YAML file, a mapping, or None for the default: elastic search over ``pydocs``.
            dataset: replaces the configuration's; anything that ``elastic_ir.datasets.load`` takes.
            split: replaces the configuration's.
            index: replaces the configuration's; a folder that ``elastic-ir index`` made.
            ladder: replaces the configuration's; a file that ``elastic-ir sweep`` wrote, here and for these models.
            progress: show bars on stderr; None on a terminal only.

        Raises:
            ConfigError: if the configuration does not hold.
            DatasetError, ModelError, IndexNotFoundError, IndexCorruptError, IndexMismatchError: before any query.
        """
        settings = read_config(DEFAULT if config is None else config)
        if config is None and dataset is not None and dataset not in EMBEDDED:  # its cut is that of docstrings
            settings = settings.model_copy(
                update={"denser": settings.denser.model_copy(update={"document_tokens": None})}
            )
        changes = {"dataset": dataset, "split": split, "index": index, "ladder": ladder}
        settings = settings.model_copy(update={key: str(value) for key, value in changes.items() if value is not None})
        ladder_file = None if settings.ladder is None else read_ladder(Path(settings.ladder))
        if ladder_file is not None:
            ladder_file.check(machine(), threads())
        parts = assemble(settings, progress)
        try:
            return cls(settings, parts, Scheduler(None if ladder_file is None else ladder_file.of(parts.models)))
        except Exception:
            parts.close()
            raise

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

    def checked_level(self, level: Level | str | None) -> Level:
        """``level`` itself; None means the idle level.

        Raises:
            SubnetError: if this pipeline cannot run it.
        """
        if level is None:
            return self.level
        level = level if isinstance(level, Level) else Level.parse(str(level))
        self._parts.check(level)
        return level

    def warm_up(self, *levels: Level | str) -> None:
        """Start what the first search at one of ``levels`` (none: the idle level) would start: Java, for BM25.

        Without it the first such search takes most of a second longer. What cannot be started the search itself tells.

        Raises:
            SubnetError: if this pipeline cannot run one of ``levels``.
        """
        wanted = [self.checked_level(level) for level in levels] or [self.level]
        if self._parts.lucene is not None and any(level.retriever != "dense" for level in wanted):
            with suppress(BackendError):
                self._parts.lucene.search(["warm up"], 1)

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
            level: operating point, used exactly; None takes it from the ladder, or the depth budget, by the load.
            deadline_ms: milliseconds from now after which the best order so far is returned, and which the level is
                chosen to meet; None means no limit, and a level that meets the ladder's SLO.
            cancelled: asked between chunks of reranking; True ends the work early.

        Raises:
            InputError: for an empty query, or k or deadline out of range.
            SubnetError: if this pipeline does not have this level.
            BackendError: if no retriever can answer, or the pipeline was closed.
        """
        check_limits(k, deadline_ms)
        requested, seconds = self.checked_level(level), None if deadline_ms is None else deadline_ms / 1000
        free = level is None and self.config.shrink_with_load
        with self.scheduler.search(requested, seconds) if free else nullcontext(requested) as chosen:
            context = SearchContext(k, chosen, _ends(deadline_ms), cancelled=cancelled or (lambda: False))
            return self._search([_checked(query)], requested, context, texts=True)[0]

    def run(
        self,
        queries: Iterable[Query],
        k: int = 1000,
        level: Level | str | None = None,
        *,
        batch: int = 32,
        ladder: LadderFile | str | Path | None = None,
        load: str | None = None,
    ) -> Iterator[Hits]:
        """Search many queries, streamed in batches, without texts: what a TREC run is made of.

        Args:
            queries: in any number; read ``batch`` at a time.
            k: hits wanted of each.
            level: operating point for all; None means the idle level.
            batch: queries that share one pass.
            ladder: measured levels, of any machine, for ``load``; None means the pipeline's own.
            load: how the queries arrive, e.g. ``poisson:40`` (see ``schedule.arrivals``): each is answered at the
                level that our policy takes on a virtual clock with the ladder's times; None answers all at ``level``.

        Yields:
            One ``Hits`` a query, in order; latencies are those of its batch divided by its size.

        Raises:
            ConfigError: for a load without a ladder, or a ladder of other models.
            InputError: for a load that cannot be read, or a batch of less than 1.
        """
        if batch < 1:
            raise InputError(f"batch is {batch}; wanted at least 1")
        if load is None:
            requested, waiting = self.checked_level(level), iter(queries)
            while chunk := list(islice(waiting, batch)):
                yield from self.answers(chunk, k, requested, [requested] * len(chunk))
            return
        asked = list(queries)
        levels = self.levels_under(load, len(asked), ladder)
        for first in range(0, len(asked), batch):
            yield from self.answers(asked[first : first + batch], k, levels[0], levels[1][first : first + batch])

    def levels_under(
        self, load: str, count: int, ladder: LadderFile | str | Path | None = None
    ) -> tuple[Level, list[Level]]:
        """The dearest level of ``ladder`` (None: the pipeline's own), and that of each of ``count`` queries in ``run``.

        Raises:
            ConfigError: without a ladder, or for one of other models.
            InputError: for a load that cannot be read.
        """
        if ladder is None:
            if self.config.ladder is None:
                raise ConfigError("a load needs a ladder; make one with elastic-ir sweep and give it as `ladder`")
            ladder = self.config.ladder
        file = ladder if isinstance(ladder, LadderFile) else read_ladder(Path(ladder))
        rungs = file.of(self.models)
        for rung in rungs.rungs:
            self._parts.check(rung.level)
        return rungs.rungs[0].level, under_load(rungs, load, count)

    def answers(
        self,
        queries: Sequence[Query],
        k: int,
        requested: Level,
        levels: Sequence[Level],
        *,
        deadline_ms: float | None = None,
        abandoned: Callable[[Query], bool] | None = None,
        chunk_tokens: int | None = None,
        texts: bool = False,
    ) -> list[Hits]:
        """One batch of ``run``: each of ``queries`` at its level, where ``requested`` was; one level shares a pass.

        Args:
            queries: each with an id of its own where ``abandoned`` tells them apart.
            k: hits wanted of each.
            requested: level that an answer at another one is less than.
            levels: one for each query.
            deadline_ms: as in ``search``, of them all.
            abandoned: asked between encoding, each retriever and chunks of reranking: nothing more is done for a query
                of which it is True, and its answer, noted ``abandoned``, has the hits found so far.
            chunk_tokens: of a chunk; None: as many as are fast.
            texts: add the hits' texts.
        """
        check_limits(k, deadline_ms)
        notes = [_checked(query.text, query.query_id) for query in queries]
        found: dict[int, Hits] = {}
        deadline = _ends(deadline_ms)
        for level in dict.fromkeys(levels):
            rows = [row for row, its in enumerate(levels) if its == level]
            asked = [notes[row] for row in rows]
            context = SearchContext(
                k, level, deadline, abandoned=abandoned or (lambda _: False), chunk_tokens=chunk_tokens
            )
            found |= dict(zip(rows, self._search(asked, requested, context, texts=texts), strict=True))
        return [found[row] for row in range(len(queries))]

    def close(self) -> None:
        """End child processes and let go of the index."""
        self._closed = True
        self._parts.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _search(self, asked: list[Ranking], requested: Level, context: SearchContext, *, texts: bool) -> list[Hits]:
        if self._closed:
            raise BackendError("the pipeline was closed; open another to search")
        started = time.perf_counter()
        k, level = context.k, context.level or self.level
        with self._parts.ahead() if context.deadline is not None else nullcontext():
            rankings = timed(self._parts.stage, asked, context)
        elapsed = (time.perf_counter() - started) * 1000 / len(asked)
        stage_ms = {name: ms / len(asked) for name, ms in context.latencies_ms.items()}
        smallest = None if self._parts.denser is None else self._parts.denser.config.smallest
        return [
            Hits(
                ranking.query,
                self._with_text(ranking.hits[:k]) if texts else ranking.hits[:k],
                level_of(level, ranking, smallest),
                degraded_of(ranking, level, requested, smallest),
                elapsed,
                stage_ms,
                self.generation,
            )
            for ranking in rankings
        ]

    def _with_text(self, hits: Sequence[Hit]) -> list[Hit]:
        documents = self._parts.generation.documents
        return [hit._replace(text=documents.text(hit.doc_id)) for hit in hits]


def check_limits(k: int, deadline_ms: float | None = None) -> None:
    """Refuse hits or milliseconds that no search takes.

    Raises:
        InputError: naming what there may be.
    """
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= MAX_K:
        raise InputError(f"k is {k!r}; wanted a whole number from 1 to {MAX_K:,}")
    if deadline_ms is None:
        return
    if not isinstance(deadline_ms, int | float) or isinstance(deadline_ms, bool) or not 0 < deadline_ms <= _LONGEST_MS:
        raise InputError(f"deadline_ms is {deadline_ms!r}; wanted milliseconds above 0, a day at most")


def _ends(deadline_ms: float | None) -> float | None:
    """When ``deadline_ms`` from now is, on the monotonic clock."""
    return None if deadline_ms is None else time.monotonic() + deadline_ms / 1000


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
