"""The elastic schedule: from the load seen to the level spent. Pure Python: no torch, no FAISS."""

from elastic_ir.schedule.control import Admission, Correction
from elastic_ir.schedule.ladder import Ladder, Rung
from elastic_ir.schedule.policies import (
    AdditiveIncrease,
    DrainRule,
    Fixed,
    HeadSlack,
    Load,
    Policy,
    Thresholds,
    shrink_with_load,
)
from elastic_ir.schedule.scheduler import Scheduler

__all__ = [
    "AdditiveIncrease",
    "Admission",
    "Correction",
    "DrainRule",
    "Fixed",
    "HeadSlack",
    "Ladder",
    "Load",
    "Policy",
    "Rung",
    "Scheduler",
    "Thresholds",
    "shrink_with_load",
]
