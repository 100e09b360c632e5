"""What a GLUE experiment depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from elastic_ir.config import SubnetName
from elastic_ir.glue.tasks import TASKS

SUBNETS = ("w1.00-d6", "w0.50-d6", "w1.00-d2", "w0.25-d2")


class Settings(BaseModel):
    """What an experiment depends on.

    Attributes:
        model: encoder to start from: a bundled name, a folder or a hub id, e.g. ``google-bert/bert-base-uncased``.
        tasks: names in ``TASKS``; one named twice counts once.
        data: folder with ``TASK/train.jsonl`` and ``TASK/dev.jsonl``; None: the Hugging Face hub.
        seeds: how often all is repeated, with seeds 0, 1, ..
        subnets: of the elastic model, beside the full one.
        strategy: which of them learn in a step, see ``Sampling``.
        baselines: also fine-tune the first layers alone, distil the first two subnets each on its own, and leave layers
            out without training.
        learning_rate: peak rate of fine-tuning; distillation takes twice that, and three times that for what the
            smaller subnets have to themselves.
        epochs: of fine-tuning as a share of the task's own.
        distil_epochs: of distillation, times those of fine-tuning.
        limit: training examples used; None: all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "elastic-denser-small"
    tasks: tuple[str, ...] = tuple(TASKS)
    data: Path | None = None
    seeds: int = Field(default=1, gt=0)
    subnets: tuple[SubnetName, ...] = Field(default=SUBNETS, min_length=1)
    strategy: Literal["fixed", "sandwich"] = "fixed"
    baselines: bool = False
    learning_rate: float = Field(default=1e-4, gt=0)
    epochs: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    distil_epochs: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    limit: int | None = Field(default=None, gt=0)

    @field_validator("tasks")
    @classmethod
    def _known(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in tasks if name not in TASKS]
        if unknown:
            raise ValueError(f"task {unknown[0]!r} is unknown; wanted one of {', '.join(TASKS)}")
        return tuple(dict.fromkeys(tasks))
