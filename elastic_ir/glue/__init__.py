"""GLUE: the elastic model beyond search, as the paper evaluates it (arXiv:2311.07204; GLUE, arXiv:1804.07461)."""

from elastic_ir.glue.experiment import Experiment
from elastic_ir.glue.report import write_report
from elastic_ir.glue.settings import Settings
from elastic_ir.glue.tasks import TASKS, Task

__all__ = ["TASKS", "Experiment", "Settings", "Task", "write_report"]
