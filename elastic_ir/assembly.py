"""From a configuration to stages over an open index; every mismatch is found here, before any query."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from elastic_ir.config import PipelineConfig
from elastic_ir.datasets import load
from elastic_ir.dense import ElasticDenser
from elastic_ir.errors import ConfigError, IndexMismatchError, ModelError, SubnetError
from elastic_ir.index import Generation, open_index
from elastic_ir.index.dense import check_search
from elastic_ir.index.lucene import LuceneIndex
from elastic_ir.level import Level
from elastic_ir.library import STORED_TOKENS, cached
from elastic_ir.machine import cores, threads
from elastic_ir.rerank import ElasticRanker, Rerank
from elastic_ir.retrieve import BM25Retriever, Breaker, ByLevel, DenseRetriever, Fallback, Missing
from elastic_ir.stage import Fusion, Stage

logger = logging.getLogger(__name__)

QUERY_TOKENS, PAIR_TOKENS = 24, 160
"""Lengths that ``Parts.flops`` counts with: a prompted question, and a question with a passage."""


class Parts(NamedTuple):
    """What a pipeline is made of.

    ``level`` is that of an idle pipeline; ``retrievers`` are those a level may name; ``models`` maps role
    to fingerprint.
    """

    config: PipelineConfig
    stage: Stage
    level: Level
    retrievers: frozenset[str]
    generation: Generation
    lucene: LuceneIndex | None
    denser: ElasticDenser | None
    ranker: ElasticRanker | None
    models: dict[str, str]

    def check(self, level: Level) -> None:
        """Refuse a level these parts cannot run.

        Raises:
            SubnetError: naming what the level needs.
        """
        if level.retriever not in self.retrievers:
            known = ", ".join(sorted(self.retrievers))
            raise SubnetError(f"level {level} needs retriever {level.retriever!r}; this pipeline has {known}")
        if level.subnet is not None and self.denser is not None:
            self.denser.config.resolve(level.subnet)
        if level.rerank is None:
            return
        if self.config.reranker is None:
            raise SubnetError(f"level {level} reranks; this pipeline has no reranker")
        if level.rerank.candidates > self.config.candidates:
            raise SubnetError(f"level {level} reranks more than the {self.config.candidates} candidates retrieved")

    def tokens_of(self, doc_ids: Sequence[str]) -> list[Sequence[int]]:
        """Token ids of documents as the ranker reads them, without special tokens."""
        if self.ranker is None:
            raise ConfigError("this pipeline has no reranker; wanted one, whose tokenizer reads the documents")
        return _token_ids(self.generation, self.ranker)(doc_ids)

    def flops(self, level: Level) -> float:
        """Floating-point operations of the models for one query at ``level``; searching an index counts none.

        For a query of ``QUERY_TOKENS`` and candidates that make pairs of ``PAIR_TOKENS``, so that levels, not
        texts, are compared.
        """
        total = 0.0
        if level.subnet is not None and self.denser is not None:
            total += self.denser.flops(level.subnet, QUERY_TOKENS, QUERY_TOKENS)
        if level.rerank is not None and self.ranker is not None:
            settings = level.rerank
            last = self.ranker.config.deepest(settings.width)
            steps = self.ranker.plan(settings.budget, settings.candidates, last)
            total += self.ranker.flops(steps, PAIR_TOKENS)
        return total

    def ahead(self) -> AbstractContextManager[None]:
        """For searches that do not wait for Java: where there is no core beside theirs, its start waits for them."""
        if self.lucene is None or cores() > threads():
            return nullcontext()
        return self.lucene.giving_way()

    def close(self) -> None:
        """End the child process and let go of the index."""
        self.stage.close()
        if self.lucene is not None:
            self.lucene.close()
        self.generation.close()


def assemble(config: PipelineConfig, progress: bool | None = None) -> Parts:
    """Load models, open the index (or build the cached one) and join the stages.

    A denser that cannot be loaded is no error where ``config.fallback`` lets BM25 answer. An explicit index
    that does not fit is one always.

    Raises:
        ConfigError, DatasetError, ModelError, IndexNotFoundError, IndexCorruptError, IndexMismatchError: each
            before any query.
    """
    denser, failure = _denser(config)
    level = config.level(denser.config.full if denser else None)
    if denser is not None:
        denser.config.resolve(level.subnet)
    ranker = ElasticRanker.from_pretrained(config.reranker.model) if config.reranker else None
    generation = _generation(config, denser, ranker, progress)
    lucene: LuceneIndex | None = None
    bm25: Stage | None = None
    if generation.lucene_path is not None:
        settings = config.bm25
        lucene = LuceneIndex(generation.lucene_path, k1=settings.k1, b=settings.b, rm3=settings.rm3)
        bm25 = Breaker(BM25Retriever(lucene, config.candidates, threads=min(4, torch.get_num_threads())))
    retrievers = _retrievers(config, level, denser, failure, generation, bm25)
    stage: Stage = ByLevel(retrievers, config.retriever)
    if ranker is not None and config.reranker is not None and level.rerank is not None:
        weight = config.reranker.retriever_weight
        stage = stage >> Rerank(ranker, _token_ids(generation, ranker), level.rerank, config.precision, weight)
    models = {"denser": denser.fingerprint} if denser else {}
    models |= {"ranker": ranker.fingerprint} if ranker else {}
    return Parts(config, stage, level, frozenset(retrievers), generation, lucene, denser, ranker, models)


def _denser(config: PipelineConfig) -> tuple[ElasticDenser | None, ModelError | None]:
    """The denser, or why BM25 must stand in for it."""
    if not config.wants_vectors:
        return None, None
    try:
        return ElasticDenser.from_pretrained(config.denser.model), None
    except ModelError as exc:
        if not config.fallback:
            raise
        logger.warning("BM25 answers: %s", exc)
        return None, exc


def _generation(
    config: PipelineConfig, denser: ElasticDenser | None, ranker: ElasticRanker | None, progress: bool | None
) -> Generation:
    if config.index is not None:
        generation = open_index(Path(config.index))
        _warn_of_another_collection(config, generation)
        return generation
    if config.dataset is None:
        raise ConfigError("the pipeline names neither `dataset` nor `index`; give one, e.g. --dataset pydocs")
    if denser is not None:
        settings = config.denser
        check_search(settings.factory, denser.card().dimension, settings.nprobe, settings.ef_search)
    dataset, tokens = load(config.dataset, config.split), ranker.tokens if ranker else None
    return cached(dataset, denser, config.denser, config.precision, progress, tokens=tokens)


def _warn_of_another_collection(config: PipelineConfig, generation: Generation) -> None:
    """Say so where the first document of a dataset on this disk, named beside the index, is not in it."""
    if config.dataset is None or not Path(config.dataset).exists():
        return
    first = next(iter(load(config.dataset, config.split).documents()), None)
    if first is not None and first.doc_id not in generation.rows:
        logger.warning(
            "index %s, made of %s, does not hold document %r of dataset %s; is it another collection's?",
            config.index, generation.manifest.source or "documents without a name", first.doc_id, config.dataset,
        )  # fmt: skip


def _retrievers(
    config: PipelineConfig,
    level: Level,
    denser: ElasticDenser | None,
    failure: ModelError | None,
    generation: Generation,
    bm25: Stage | None,
) -> dict[str, Stage]:
    """Retriever -> stage: the configured one, and those that a level may name in its place."""
    if not config.wants_vectors:
        return {"bm25": _present(bm25, "BM25", generation)}
    if config.index is not None and generation.manifest.encoder is None:
        raise IndexMismatchError(
            f"index {generation.path.parent} holds no vectors, which retriever {config.retriever!r} needs; "
            "build it again with a model, or search it with retriever 'bm25'"
        )
    if failure is not None:  # and BM25 may stand in
        if bm25 is None:
            raise failure
        return {config.retriever: Fallback(Missing(failure), bm25), "bm25": bm25}
    dense = _dense(config, level, denser, generation)
    if bm25 is None or (config.retriever, config.fallback) == ("dense", False):
        return {config.retriever: dense if config.retriever == "dense" else _present(bm25, "BM25", generation)}
    weights = (config.fusion.dense_weight, 1 - config.fusion.dense_weight)
    hybrid = Fusion(
        [dense, bm25],
        method=config.fusion.method,
        weights=weights,
        depth=config.candidates,
        fallback=config.fallback,
    )
    if not config.fallback:
        return {"hybrid": hybrid}
    assert denser is not None
    smallest = _dense(config, level._replace(subnet=denser.config.smallest), denser, generation)
    return {"dense": Fallback(dense, bm25), "hybrid": hybrid, "bm25": Fallback(bm25, smallest)}


def _dense(config: PipelineConfig, level: Level, denser: ElasticDenser | None, generation: Generation) -> Stage:
    if denser is None or generation.dense is None:
        raise IndexMismatchError(f"index {generation.path.parent} holds no vectors; build it again with a model")
    generation.dense.check(denser.card())
    encode = partial(denser.encode_query, precision=config.precision)
    index = generation.dense.tuned(nprobe=config.denser.nprobe, ef_search=config.denser.ef_search)
    return DenseRetriever(encode, index, config.candidates, level.subnet)


def _present(stage: Stage | None, name: str, generation: Generation) -> Stage:
    if stage is None:
        raise IndexMismatchError(f"index {generation.path.parent} holds no {name} side; build it again")
    return stage


def _token_ids(generation: Generation, ranker: ElasticRanker) -> Callable[[Sequence[str]], list[Sequence[int]]]:
    """Stored token ids where the index was built with this tokenizer; otherwise texts are tokenized per query."""
    store, documents, tokens = generation.tokens, generation.documents, ranker.tokens
    if store is not None and store.tokenizer_fingerprint == tokens.fingerprint:
        return lambda doc_ids: [store.tokens(doc_id).tolist() for doc_id in doc_ids]
    logger.info("the index has no token ids of this ranker's tokenizer: documents are tokenized at query time")
    return lambda doc_ids: list(tokens.ids([documents.text(doc_id) for doc_id in doc_ids], STORED_TOKENS))
