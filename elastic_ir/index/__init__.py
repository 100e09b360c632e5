"""Indexes on disk: FAISS vectors, Lucene, documents and token ids, as immutable generations."""

from elastic_ir.index.build import Tokenize, build_index
from elastic_ir.index.dense import DenseIndex
from elastic_ir.index.encoding import DocumentEncoder
from elastic_ir.index.generation import Generation, open_index
from elastic_ir.index.manifest import Manifest
from elastic_ir.index.stores import DocumentStore, TokenStore
from elastic_ir.index.verify import VerifyReport, verify_index

__all__ = [
    "DenseIndex",
    "DocumentEncoder",
    "DocumentStore",
    "Generation",
    "Manifest",
    "TokenStore",
    "Tokenize",
    "VerifyReport",
    "build_index",
    "open_index",
    "verify_index",
]
