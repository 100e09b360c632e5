"""``ElasticDenser``: texts to unit vectors by any sub-network."""

from elastic_ir.dense.denser import DenserSettings, ElasticDenser

__all__ = ["DenserSettings", "ElasticDenser"]
