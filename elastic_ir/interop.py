"""Runs, judgements, indexes and pipelines in the forms of ranx, PyTerrier, pyserini and BEIR.

``evaluate.read_run`` reads pyserini's TREC and MS MARCO runs, ``read_kilt_run`` its third form. ``lucene_retriever``
searches its Lucene folders; pyserini opens the ``lucene`` folder of our index generations.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elastic_ir.answer import Hits
from elastic_ir.errors import InputError, RunFileError
from elastic_ir.evaluate.trec import numbered_lines, strictly_falling, trec_order
from elastic_ir.pipeline import Pipeline
from elastic_ir.records import Qrels, Query, Run

if TYPE_CHECKING:
    import pandas as pd

    from elastic_ir.level import Level
    from elastic_ir.retrieve import BM25Retriever

DOCUMENT_COLUMNS = frozenset({"docno", "docid", "score", "rank", "text", "title"})
"""What a PyTerrier frame says of a document; its other columns are the query's."""


def to_ranx(run: Run, name: str | None = None) -> Any:
    """``run`` as a ``ranx.Run`` that ranx orders as trec_eval does.

    ranx leaves the order of equal scores to chance, so they are told apart by the least step of a float32.
    Queries without hits, which ranx cannot hold, are left out.

    Raises:
        InputError: if a score is NaN.
    """
    import ranx

    ordered = {q: trec_order(scores, f"query {q!r}") for q, scores in run.items() if scores}
    falling = {q: _falling([(doc_id, run[q][doc_id]) for doc_id in doc_ids]) for q, doc_ids in ordered.items()}
    return ranx.Run(falling, name=name)


def qrels_to_ranx(qrels: Qrels) -> Any:
    """``qrels`` as ``ranx.Qrels``; queries without judgements are left out."""
    import ranx

    return ranx.Qrels({query_id: dict(grades) for query_id, grades in qrels.items() if grades})


def from_ranx(values: Any) -> Run | Qrels:
    """A ``ranx.Run`` (scores become float) or ``ranx.Qrels`` (grades become int) as a plain dictionary.

    Raises:
        InputError: if it is neither.
    """
    import ranx

    if not isinstance(values, ranx.Run | ranx.Qrels):
        raise InputError(f"found {type(values).__name__}; wanted a ranx.Run or ranx.Qrels")
    number = float if isinstance(values, ranx.Run) else int
    plain = values.to_dict()
    return {str(q): {str(doc_id): number(value) for doc_id, value in docs.items()} for q, docs in plain.items()}


def to_beir(answers: Iterable[Hits]) -> Run:
    """Answers of ``Pipeline.run`` as BEIR's results: query_id -> doc_id -> score, no two of a query equal."""
    return {hits.query.query_id: _falling([(hit.doc_id, hit.score) for hit in hits]) for hits in answers}


class BeirRetriever:
    """A pipeline where BEIR's ``EvaluateRetrieval`` wants a model: its ``search`` has BEIR's signature.

    The pipeline has indexed the corpus already; the one given is only compared with what is found.

    Args:
        pipeline: searches; who made it closes it.
        level: operating point for all queries; None means the idle level.
    """

    def __init__(self, pipeline: Pipeline, level: Level | str | None = None) -> None:
        self.pipeline, self.level = pipeline, level

    def search(
        self, corpus: Mapping[str, Any], queries: Mapping[str, str], top_k: int, score_function: str = "", **_: Any
    ) -> Run:
        """The ``top_k`` best documents for each query; ``score_function`` is the pipeline's own, whatever is asked.

        Raises:
            InputError: if a document found is not in ``corpus``: the pipeline searches another collection.
        """
        asked = (Query(query_id, text) for query_id, text in queries.items())
        results = to_beir(self.pipeline.run(asked, top_k, self.level))
        for query_id, scores in results.items():
            if strange := next((doc_id for doc_id in scores if doc_id not in corpus), None):
                raise InputError(
                    f"query {query_id!r} found document {strange!r}, which the corpus lacks; "
                    "wanted a pipeline over the same corpus"
                )
        return results


class FrameRetriever:
    """A pipeline that reads and writes PyTerrier's frames; ``pyterrier_retriever`` makes it one of its transformers.

    Args:
        pipeline: searches; who made it closes it.
        k: hits of each query.
        level: operating point for all queries; None means the idle level.
    """

    def __init__(self, pipeline: Pipeline, k: int = 1000, level: Level | str | None = None) -> None:
        self.pipeline, self.k, self.level = pipeline, k, level

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """``qid, query`` and any more columns of queries in; those with ``docno, score, rank`` (from 0) out.

        Documents that are in the frame already are left out: this is a first stage.

        Raises:
            InputError: if a column is missing.
        """
        import pandas as pd

        if missing := {"qid", "query"} - set(inp.columns):
            raise InputError(f"the frame has columns {', '.join(map(str, inp.columns))}; wanted also {sorted(missing)}")
        columns = [column for column in inp.columns if column not in DOCUMENT_COLUMNS]
        asked = inp[columns].drop_duplicates("qid")
        queries = (Query(str(qid), query) for qid, query in zip(asked["qid"], asked["query"], strict=True))
        answers = self.pipeline.run(queries, self.k, self.level)
        rows = [
            (*query, doc_id, score, rank)
            for query, hits in zip(asked.itertuples(index=False, name=None), answers, strict=True)
            for rank, (doc_id, score) in enumerate(_falling([(hit.doc_id, hit.score) for hit in hits]).items())
        ]
        return pd.DataFrame(rows, columns=[*columns, "docno", "score", "rank"])

    def search(self, query: str, qid: str = "1", sort: bool = True) -> pd.DataFrame:
        """One query's frame; it is always sorted."""
        import pandas as pd

        return self.transform(pd.DataFrame([(qid, query)], columns=["qid", "query"]))


def pyterrier_retriever(pipeline: Pipeline, k: int = 1000, level: Level | str | None = None) -> FrameRetriever:
    """A ``FrameRetriever`` that is a ``pyterrier.Transformer`` too, for ``>>``, ``%`` and ``pt.Experiment``.

    Raises:
        InputError: if PyTerrier is not installed; ``FrameRetriever`` itself works without.
    """
    try:
        import pyterrier
    except ImportError as exc:
        raise InputError("PyTerrier is not installed; run 'pip install python-terrier', or use FrameRetriever") from exc
    made = type("ElasticRetriever", (FrameRetriever, pyterrier.Transformer), {})
    retriever: FrameRetriever = made(pipeline, k, level)
    return retriever


def from_frame(frame: pd.DataFrame) -> Run:
    """A PyTerrier result (``qid, docno, score``) as a run.

    Raises:
        InputError: if a column is missing.
    """
    if missing := {"qid", "docno", "score"} - set(frame.columns):
        raise InputError(f"the frame has columns {', '.join(map(str, frame.columns))}; wanted also {sorted(missing)}")
    run: Run = {}
    for qid, docno, score in zip(frame["qid"], frame["docno"], frame["score"], strict=True):
        run.setdefault(str(qid), {})[str(docno)] = float(score)
    return run


def read_kilt_run(path: Path | str) -> Run:
    """A run in KILT's form, as pyserini writes it: a JSON object a line; the score is 1 / rank.

    A document that comes again (another passage of the same page) keeps its best rank.

    Raises:
        RunFileError: with the line, if it is not of this form, or a query comes twice.
    """
    run: Run = {}
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}"
        try:
            answer = json.loads(line)
            query_id, doc_ids = str(answer["id"]), list(_kilt_documents(answer))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            wanted = 'wanted {"id": ..., "output": [{"provenance": [{"wikipedia_id": ...}]}]}'
            raise RunFileError(f"{where}: not a line of a KILT run ({type(exc).__name__}: {exc}); {wanted}") from exc
        if query_id in run:
            raise RunFileError(f"{where}: query {query_id!r} comes twice; wanted each once")
        run[query_id] = {doc_id: 1 / rank for rank, doc_id in enumerate(dict.fromkeys(doc_ids), 1)}
    return run


def lucene_retriever(folder: Path, candidates: int = 1000, *, k1: float = 0.9, b: float = 0.4) -> BM25Retriever:
    """BM25 over a Lucene index that Anserini or pyserini made: a stage to compose, to be closed after use.

    Args:
        folder: the index, e.g. what ``python -m pyserini.index.lucene --index FOLDER`` wrote.
        candidates: hits for the stages that follow.
        k1: how soon a term's frequency saturates.
        b: how much a document's length counts.

    Raises:
        IndexNotFoundError: if there is no Lucene index in ``folder``.
    """
    from elastic_ir.index.lucene import LuceneIndex
    from elastic_ir.retrieve import BM25Retriever

    return BM25Retriever(LuceneIndex(folder, k1=k1, b=b), candidates)


def _kilt_documents(answer: Any) -> Iterator[str]:
    for output in answer["output"]:
        for source in output.get("provenance", ()):
            yield str(source["wikipedia_id"])


def _falling(pairs: list[tuple[str, float]]) -> dict[str, float]:
    """doc_id -> score in the order given, each score below the one before it."""
    return dict(zip((doc_id for doc_id, _ in pairs), strictly_falling([score for _, score in pairs]), strict=True))
