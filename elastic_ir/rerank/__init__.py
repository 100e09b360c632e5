"""``ElasticRanker``: a cross-encoder under a depth budget."""

from elastic_ir.rerank.plan import Plan, Step, plan
from elastic_ir.rerank.ranker import ElasticRanker, RankerSettings
from elastic_ir.rerank.scored import Scored, replay
from elastic_ir.rerank.stage import Rerank

__all__ = ["ElasticRanker", "Plan", "RankerSettings", "Rerank", "Scored", "Step", "plan", "replay"]
