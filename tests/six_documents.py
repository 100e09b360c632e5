"""A small collection in the BEIR layout."""

from __future__ import annotations

from pathlib import Path


def write_six_documents(folder: Path) -> Path:
    """Six documents, three queries and their judgments, in ``folder``."""
    (folder / "qrels").mkdir(parents=True)
    texts = [
        "the cat sat on the mat",
        "a dog ran",
        "the bird flew in the sky",
        "a fish swam in the sea",
        "cat and dog",
        "big red tree",
    ]
    (folder / "corpus.jsonl").write_text(
        "".join(f'{{"_id": "d{i}", "title": "", "text": "{text}"}}\n' for i, text in enumerate(texts))
    )
    queries = {"q1": "cat on mat", "q2": "where is the fish", "q3": "red tree"}
    (folder / "queries.jsonl").write_text("".join(f'{{"_id": "{i}", "text": "{t}"}}\n' for i, t in queries.items()))
    (folder / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq1\td0\t2\nq1\td4\t1\nq2\td3\t1\nq3\td5\t1\n"
    )
    return folder
