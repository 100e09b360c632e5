"""Published figures on real collections, where they are present."""

from __future__ import annotations

from pathlib import Path

import pytest

from elastic_ir.datasets import load
from elastic_ir.evaluate import evaluate
from elastic_ir.pipeline import Pipeline


@pytest.mark.parametrize(
    ("name", "measure", "published", "tolerance"),
    [
        ("scifact", "ndcg@10", 0.6789, 0.0005),  # Anserini's flat index
        ("scifact", "recall@100", 0.9253, 0.0005),
        ("cacm", "map", 0.327, 0.002),
    ],
)
def test_bm25_reproduces_published_figures(
    data_folder: Path, name: str, measure: str, published: float, tolerance: float
) -> None:
    folder = str(data_folder / "collections" / name)
    dataset = load(folder)
    with Pipeline.from_config({"retriever": "bm25", "dataset": folder}) as pipeline:
        run = {
            hits.query.query_id: {hit.doc_id: hit.score for hit in hits}
            for hits in pipeline.run(dataset.queries(), 1000)
        }
    found = evaluate(dataset.qrels(), {"bm25": run}, [measure], permutations=1).means["bm25"][measure]
    assert found == pytest.approx(published, abs=tolerance)
