"""Runs on disk, their figures, comparison and report."""

from elastic_ir.datasets import read_qrels
from elastic_ir.evaluate.crosscheck import CrossCheck, cross_check
from elastic_ir.evaluate.datasets import Evaluations
from elastic_ir.evaluate.evaluation import DEFAULT_MEASURES, Evaluation, evaluate
from elastic_ir.evaluate.measures import Measure
from elastic_ir.evaluate.report import write_report
from elastic_ir.evaluate.sections import Section
from elastic_ir.evaluate.sidecar import read_metadata, write_metadata
from elastic_ir.evaluate.significance import Comparison
from elastic_ir.evaluate.trec import read_run, write_run

__all__ = [
    "DEFAULT_MEASURES",
    "Comparison",
    "CrossCheck",
    "Evaluation",
    "Evaluations",
    "Measure",
    "Section",
    "cross_check",
    "evaluate",
    "read_metadata",
    "read_qrels",
    "read_run",
    "write_metadata",
    "write_report",
    "write_run",
]
