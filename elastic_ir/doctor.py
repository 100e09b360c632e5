"""``elastic-ir doctor``: what this machine has, and what is missing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from typing import NamedTuple


class Finding(NamedTuple):
    """One thing looked at."""

    name: str
    ok: bool
    detail: str


def examine() -> Iterator[Finding]:
    """Look at everything search depends on, one finding at a time; nothing raises."""
    for name, look in _LOOKS.items():
        try:
            yield Finding(name, True, look())
        except Exception as exc:
            yield Finding(name, False, str(exc) or type(exc).__name__)


def _java() -> str:
    from elastic_ir.index.java import java_home

    return str(java_home())


def _lucene() -> str:
    from tempfile import TemporaryDirectory

    from elastic_ir.index.lucene import LuceneIndex, build_lucene

    with TemporaryDirectory() as folder:
        from pathlib import Path

        path = Path(folder) / "lucene"
        build_lucene([("a", "a cat sat"), ("b", "a dog ran")], path)
        index = LuceneIndex(path)
        try:
            found = index.search(["dog"], 1)[0].hits[0][0]
        finally:
            index.close()
    if found != "b":
        raise RuntimeError(f"searched two documents for 'dog' and found {found!r}; wanted 'b'")
    return "two documents indexed and searched"


def _threads() -> str:
    import torch

    from elastic_ir.machine import cores

    return f"{cores()} cores, torch {torch.__version__} with {torch.get_num_threads()} threads"


def _precision() -> str:
    import torch

    from elastic_ir.elastic.precision import resolve

    return f"documents and reranking use {resolve(torch.device('cpu'), 'auto')}, the fastest format here"


def _faiss() -> str:
    import faiss

    return f"faiss {faiss.__version__}, {faiss.get_compile_options().strip()}"


def _models() -> str:
    from elastic_ir.elastic.checkpoint import bundled_names, load_checkpoint

    names = bundled_names()
    for name in names:
        load_checkpoint(name)
    if not names:
        raise RuntimeError("no bundled checkpoint; install the package again")
    return ", ".join(names)


def _cache() -> str:
    from elastic_ir.library import cache_folder

    folder = cache_folder()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise RuntimeError(f"{folder} cannot be written; set XDG_CACHE_HOME to a folder that can")
    indexes = sorted(path for path in folder.iterdir() if (path / "CURRENT").is_file())
    sizes = [sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6 for path in indexes]
    told = [f"{path.name} {size:.1f} MB" for path, size in zip(indexes, sizes, strict=True)]
    return ", ".join([f"{folder}: {len(indexes)} indexes, {sum(sizes):.1f} MB", *told])


def _offline() -> str:
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return (
        "offline by HF_HUB_OFFLINE" if HF_HUB_OFFLINE else "not tried; models of the hub need it, bundled ones do not"
    )


def _extras() -> str:
    extras = {"serve": "uvicorn", "glue": "datasets"}
    missing = [name for name, module in extras.items() if find_spec(module) is None]
    names = ", ".join(name for name in extras if name not in missing) or "none"
    return names + (f"; for more: pip install -e '.[{','.join(missing)}]' in the checkout" if missing else "")


_LOOKS: dict[str, Callable[[], str]] = {
    "java": _java,
    "lucene": _lucene,
    "threads": _threads,
    "precision": _precision,
    "faiss": _faiss,
    "models": _models,
    "cache": _cache,
    "network": _offline,
    "extras": _extras,
}
