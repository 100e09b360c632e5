"""The version of elastic_ir."""

__version__ = "0.1.0"
