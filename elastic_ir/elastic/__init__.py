"""The elastic model: one set of weights, many nested sub-networks (arXiv:2311.07204)."""

from elastic_ir.elastic.checkpoint import load_checkpoint, save_checkpoint
from elastic_ir.elastic.config import ElasticConfig
from elastic_ir.elastic.model import ElasticLM
from elastic_ir.elastic.scorer import ElasticScorer
from elastic_ir.elastic.tokens import TokenBatch, Tokens

__all__ = [
    "ElasticConfig",
    "ElasticLM",
    "ElasticScorer",
    "TokenBatch",
    "Tokens",
    "load_checkpoint",
    "save_checkpoint",
]
