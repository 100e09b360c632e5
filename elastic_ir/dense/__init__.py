"""``ElasticDenser``: texts to unit vectors by any sub-network."""

from elastic_ir.dense.denser import DenserSettings, ElasticDenser, check_settings, denser_settings, pool

__all__ = ["DenserSettings", "ElasticDenser", "check_settings", "denser_settings", "pool"]
