"""Measure names: the spellings of ranx, trec_eval and ir_measures, in one form."""

from __future__ import annotations

import re
from typing import NamedTuple

from elastic_ir.errors import InputError, nearest

SPELLINGS = {
    "ndcg": "ndcg",
    "ndcg_cut": "ndcg",
    "mrr": "mrr",
    "rr": "mrr",
    "recip_rank": "mrr",
    "map": "map",
    "ap": "map",
    "map_cut": "map",
    "recall": "recall",
    "r": "recall",
    "precision": "precision",
    "p": "precision",
    "hit_rate": "hit_rate",
    "success": "hit_rate",
    "r-precision": "r-precision",
    "rprec": "r-precision",
}
"""Lower-case spelling -> ranx's name."""

CUTOFF_REQUIRED = {"ndcg_cut", "map_cut", "recall", "r", "precision", "p", "hit_rate", "success"}
CUTOFF_REFUSED = {"r-precision", "rprec"}
_FORM = re.compile(
    r"(?P<name>[a-z_-]+?)(\(rel=(?P<rel>[1-9]\d{0,3})\))?([@_.](?P<cutoff>[1-9]\d{0,6}))?(-l(?P<level>[1-9]\d{0,3}))?"
)


class Measure(NamedTuple):
    """One measure: prints as ranx spells it (``ndcg@10``, ``recall@100-l2``) and parses back.

    ``cutoff`` None means the whole ranking. Grades of at least ``relevance`` count as relevant in the
    binary measures; nDCG always takes the grades themselves as gains (linear, as trec_eval does).
    """

    name: str
    cutoff: int | None = None
    relevance: int = 1

    @classmethod
    def parse(cls, text: str) -> Measure:
        """Read ``ndcg@10``, ``ndcg_cut_10`` or ``nDCG@10``, and so for the other measures.

        Raises:
            InputError: if the name is not known, or a cutoff is missing or out of place.
        """
        match = _FORM.fullmatch(text.lower())
        spelling = match["name"] if match else re.split(r"[@.(\d]", text.lower())[0]
        if spelling not in SPELLINGS:
            raise InputError(f"unknown measure {text!r}{nearest(spelling, SPELLINGS)}")
        if match is None or (match["rel"] and match["level"]):
            raise InputError(f"measure {text!r} cannot be read; wanted e.g. 'ndcg@10', 'recall@100' or 'recall@100-l2'")
        if spelling in CUTOFF_REQUIRED and not match["cutoff"]:
            raise InputError(f"measure {text!r} has no cutoff; wanted e.g. '{text}@10'")
        if spelling in CUTOFF_REFUSED and match["cutoff"]:
            raise InputError(f"measure {text!r} takes no cutoff; wanted '{SPELLINGS[spelling]}'")
        relevance = int(match["rel"] or match["level"] or 1)
        if SPELLINGS[spelling] == "ndcg" and relevance > 1:
            raise InputError(f"measure {text!r}: nDCG takes grades as gains; wanted it without a relevance level")
        return cls(SPELLINGS[spelling], int(match["cutoff"]) if match["cutoff"] else None, relevance)

    def __str__(self) -> str:
        cutoff = "" if self.cutoff is None else f"@{self.cutoff}"
        return f"{self.name}{cutoff}" + (f"-l{self.relevance}" if self.relevance > 1 else "")
