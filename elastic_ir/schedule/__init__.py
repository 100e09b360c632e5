"""The elastic schedule: from the load seen to the level spent. Pure Python: no torch, no FAISS."""

from elastic_ir.schedule.inflight import InFlight
from elastic_ir.schedule.policies import Load, Policy, shrink_with_load

__all__ = ["InFlight", "Load", "Policy", "shrink_with_load"]
