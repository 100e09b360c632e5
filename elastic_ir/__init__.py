"""Retrieve-then-rerank search whose compute stretches with the load (after arXiv:2311.07204).

Importing this package loads no torch, FAISS, numba or Java: names are resolved on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from elastic_ir.level import Level
from elastic_ir.subnet import Subnet
from elastic_ir.version import __version__

if TYPE_CHECKING:
    from elastic_ir.classify import ElasticClassifier
    from elastic_ir.client import Client
    from elastic_ir.dense import ElasticDenser
    from elastic_ir.elastic import ElasticLM
    from elastic_ir.pipeline import Pipeline
    from elastic_ir.rerank import ElasticRanker

_LAZY = {
    "Client": "elastic_ir.client",
    "ElasticClassifier": "elastic_ir.classify",
    "ElasticDenser": "elastic_ir.dense",
    "ElasticLM": "elastic_ir.elastic",
    "ElasticRanker": "elastic_ir.rerank",
    "Pipeline": "elastic_ir.pipeline",
}

__all__ = [
    "Client",
    "ElasticClassifier",
    "ElasticDenser",
    "ElasticLM",
    "ElasticRanker",
    "Level",
    "Pipeline",
    "Subnet",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'elastic_ir' has no attribute {name!r}")
