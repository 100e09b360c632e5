"""Docstrings as a collection."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from elastic_ir.datasets import load
from elastic_ir.datasets.docstrings import Sources, package


def test_public_names_and_docstrings_of_a_package(tmp_path: Path) -> None:
    files = {
        "box": '"""A box."""\nfrom box._inner import *\nfrom box.tools import saw as cut\nfrom json import dumps',
        "box._inner": (
            '__all__ = ["Lid"]\n__all__ += ["turn"]\n'
            'class _Base:\n    def shut(self):\n        """Shut it."""\n'
            'class Lid(_Base):\n    """A lid."""\n    def _spring(self):\n        """Hidden."""\n'
            'def turn():\n    """Turn it."""\ndef extra():\n    """Not declared."""\n'
        ),
        "box.tools": (
            'try:\n    from _fast import saw\nexcept ImportError:\n    def saw():\n        """Saw\n\n        wood."""\n'
            "class Plane:\n    def __init__(self, width, *, angle=45): ...\n"
            'raise SystemExit("imported")\n'
        ),
        "box._broken": "def (",
        "box.old": "print 'hello'",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "box.py").rename(tmp_path / "__init__.py")
    paths = {name: tmp_path / f"{name}.py" for name in files} | {"box": tmp_path / "__init__.py"}
    assert Sources(paths).docstrings() == {
        "box": "A box.",
        "box.Lid": "A lid.",
        "box.Lid.shut": "Shut it.",
        "box.turn": "Turn it.",
        "box.cut": "Saw\n\nwood.",
        "box.tools.Plane": "Plane(width, *, angle=45)",
    }


def test_packages_are_read_without_being_imported() -> None:
    code = (
        "import sys; from elastic_ir.datasets.docstrings import package; found = package('numpy');"
        "assert {'numpy.linalg.norm', 'numpy.concatenate', 'numpy.ndarray.reshape'} <= found.keys();"
        "assert not any('numpy.testing' in name or '._' in name for name in found);"
        "assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert package("no_such_package") == {}


def test_the_collection() -> None:
    dataset = load("pydocs")
    documents = {document.doc_id: document for document in dataset.documents()}
    assert dataset.count == len(documents)
    assert 6_000 < len(documents) <= 15_000
    assert {"csv.DictReader", "datetime.datetime.strptime", "str.split", "sorted", "os.path.join"} <= documents.keys()
    assert {
        "collections.abc.Mapping",
        "random.choice",
        "pandas.DataFrame.merge",
        "scipy.stats.pearsonr",
    } <= documents.keys()
    assert documents["csv.DictReader"].title == "csv.DictReader csv Dict Reader"
    assert all(0 < len(document.text.split()) <= 64 for document in documents.values())
    assert not any(part.startswith("_") for doc_id in documents for part in doc_id.split("."))
    assert "\n" not in "".join(document.contents for document in documents.values())
    assert list(documents) == [document.doc_id for document in load("pydocs/questions").documents()]


def test_every_question_has_an_answer_here() -> None:
    dataset = load("pydocs/questions")
    doc_ids = {document.doc_id for document in dataset.documents()}
    qrels = dataset.qrels()
    assert len(dataset.queries()) == 60
    assert [query.query_id for query in dataset.queries()] == [*qrels]
    assert [query_id for query_id, grades in qrels.items() if doc_ids.isdisjoint(grades)] == []
    assert {len(grades) for grades in qrels.values()} <= {1, 2, 3, 4}


def test_questions_are_not_copied_from_the_docstrings() -> None:
    dataset = load("pydocs")
    texts = {document.doc_id: document.text.lower() for document in dataset.documents()}
    for query in dataset.queries():
        for doc_id in dataset.qrels()[query.query_id]:
            assert query.text.lower() not in texts.get(doc_id, "")


def test_known_items_are_found_by_the_rest() -> None:
    dataset = load("pydocs/known-items")
    documents = {document.doc_id: document.text for document in dataset.documents()}
    queries = dataset.queries()
    assert len(queries) == 100 == len({query.text for query in queries})
    assert dataset.qrels() == {query.query_id: {query.query_id: 1} for query in queries}
    assert not any(documents[query.query_id].startswith(query.text) for query in queries)
    full = {document.doc_id: document.text for document in load("pydocs").documents()}
    changed = {doc_id for doc_id, text in documents.items() if full[doc_id] != text}
    assert changed == {query.query_id for query in queries}


@pytest.mark.parametrize("name", ["pydocs", "pydocs/known-items"])
def test_keys_and_fingerprints_are_stable(name: str) -> None:
    assert load(name).key == name.replace("/", "-")
    assert load(name).fingerprint() == load(name).fingerprint() != load("vaswani").fingerprint()
