"""First stages: queries in, hits of an index out."""

from elastic_ir.retrieve.bm25 import BM25Retriever
from elastic_ir.retrieve.breaker import Breaker
from elastic_ir.retrieve.bylevel import ByLevel
from elastic_ir.retrieve.dense import DenseRetriever
from elastic_ir.retrieve.fallback import Fallback, Missing

__all__ = ["BM25Retriever", "Breaker", "ByLevel", "DenseRetriever", "Fallback", "Missing"]
