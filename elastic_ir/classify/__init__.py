"""The elastic model as a classifier of one or two sentences (arXiv:2311.07204)."""

from elastic_ir.classify.classifier import ClassifierSettings, ElasticClassifier

__all__ = ["ClassifierSettings", "ElasticClassifier"]
