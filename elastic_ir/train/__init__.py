"""Elastic optimisation: learn all sub-networks together by distillation from the full teacher.

Imports no FAISS, no pyserini, no ranx, so that it also runs where those are absent.
"""

from elastic_ir.train.recipe import Recipe, read_recipe
from elastic_ir.train.trainer import train

__all__ = ["Recipe", "read_recipe", "train"]
