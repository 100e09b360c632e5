"""Measure names: the spellings of ranx, trec_eval and ir_measures, in one form."""

from __future__ import annotations

import re
from typing import NamedTuple

from elastic_ir.errors import InputError, nearest

SPELLINGS = {
    "ndcg": "ndcg",
    "ndcg_cut": "ndcg",
    "ndcg_burges": "ndcg_burges",
    "dcg": "dcg",
    "dcg_burges": "dcg_burges",
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
    "f1": "f1",
    "hits": "hits",
    "num_rel_ret": "hits",
    "numrelret": "hits",
    "numret": "hits",
    "hit_rate": "hit_rate",
    "success": "hit_rate",
    "r-precision": "r-precision",
    "rprec": "r-precision",
    "rprecision": "r-precision",
    "bpref": "bpref",
    "rbp": "rbp",
    "judged": "judged",
}
"""Lower-case spelling -> ranx's name (``judged`` is ir_measures' alone)."""

CUTOFF_REQUIRED = {"ndcg_cut", "map_cut", "recall", "r", "precision", "p", "f1", "hit_rate", "success", "judged"}
CUTOFF_REFUSED = {"r-precision", "rprec", "rprecision", "bpref", "num_rel_ret", "numrelret", "numret"}
GRADED = {"ndcg", "ndcg_burges", "dcg", "dcg_burges"}
_BURGES = {"ndcg": "ndcg_burges", "dcg": "dcg_burges"}
_RBP = re.compile(r"rbp[.@](?P<digits>\d{1,6})(-l(?P<level>[1-9]\d{0,3}))?")
_FORM = re.compile(
    r"(?P<name>f1|[a-z_-]+?)(\((?P<parameters>[^()]*)\))?([@_.](?P<cutoff>[1-9]\d{0,6}))?(-l(?P<level>[1-9]\d{0,3}))?"
)
_PARAMETERS = {
    "rel": re.compile(r"[1-9]\d{0,3}"),
    "p": re.compile(r"0?\.\d{1,6}"),
    "dcg": re.compile(r"(?P<quote>['\"])(exp-)?log2(?P=quote)"),
}


class Measure(NamedTuple):
    """One measure: prints as ranx spells it (``ndcg@10``, ``recall@100-l2``, ``rbp.95``) and parses back.

    ``cutoff`` None means the whole ranking. Grades of at least ``relevance`` count as relevant in the
    binary measures; nDCG and DCG always take the grades themselves as gains (linear, as trec_eval does;
    ``_burges``: 2 to the grade, less 1). ``persistence`` is RBP's, whose gains are 0 or 1; None elsewhere.
    """

    name: str
    cutoff: int | None = None
    relevance: int = 1
    persistence: float | None = None

    @classmethod
    def parse(cls, text: str) -> Measure:
        """Read ``ndcg@10``, ``ndcg_cut_10`` or ``nDCG@10``, and so for the other measures.

        Raises:
            InputError: if the name is not known, or a cutoff or parameter is missing or out of place.
        """
        lower = re.sub(r"\s", "", text.lower())
        if rbp := _RBP.fullmatch(lower):
            return cls("rbp", None, int(rbp["level"] or 1), _persistence(text, f"0.{rbp['digits']}"))
        match = _FORM.fullmatch(lower)
        spelling = match["name"] if match else re.split(r"[@.(\d]", lower)[0]
        if spelling not in SPELLINGS:
            raise InputError(f"unknown measure {text!r}{nearest(spelling, SPELLINGS)}")
        parameters = _parameters(match["parameters"]) if match else None
        if match is None or parameters is None or ("rel" in parameters and match["level"]):
            raise InputError(f"measure {text!r} cannot be read; wanted e.g. 'ndcg@10', 'recall@100' or 'recall@100-l2'")
        name, cutoff = SPELLINGS[spelling], match["cutoff"]
        relevance = int(parameters.get("rel") or match["level"] or 1)
        if spelling in CUTOFF_REQUIRED and not cutoff:
            raise InputError(f"measure {text!r} has no cutoff; wanted e.g. '{text}@10'")
        if spelling in CUTOFF_REFUSED and cutoff:
            raise InputError(f"measure {text!r} takes no cutoff; wanted '{name}'")
        if name in GRADED and relevance > 1:
            raise InputError(f"measure {text!r}: nDCG takes grades as gains; wanted it without a relevance level")
        if name == "judged" and ("rel" in parameters or match["level"]):
            raise InputError(f"measure {text!r}: any grade is a judgement; wanted 'judged@{cutoff}'")
        if "dcg" in parameters and name not in _BURGES:
            raise InputError(f"measure {text!r} has no gains to choose; wanted 'dcg=' only on ndcg and dcg")
        if "p" in parameters and name != "rbp":
            raise InputError(f"measure {text!r} has no persistence; wanted 'p=' only on rbp")
        if spelling == "numret" and "rel" not in parameters:
            raise InputError(f"measure {text!r} counts hits of any kind; wanted 'NumRet(rel=1)' or 'hits'")
        if name == "rbp":
            if "rel" not in parameters or cutoff:
                raise InputError(f"measure {text!r}: RBP is binary here; wanted 'rbp.80' or 'RBP(rel=1,p=0.8)'")
            return cls("rbp", None, relevance, _persistence(text, parameters.get("p", "0.8")))
        if "exp" in parameters.get("dcg", ""):
            name = _BURGES[name]
        return cls(name, int(cutoff) if cutoff else None, relevance)

    def __str__(self) -> str:
        cutoff = "" if self.cutoff is None else f"@{self.cutoff}"
        if self.persistence is not None:
            cutoff = f"{self.persistence:.6f}".rstrip("0")[1:]
        return f"{self.name}{cutoff}" + (f"-l{self.relevance}" if self.relevance > 1 else "")


def _parameters(text: str | None) -> dict[str, str] | None:
    """``rel=2,p=0.8`` as a dict; None if one is unknown, twice there or without its kind of value."""
    parameters: dict[str, str] = {}
    for part in text.split(",") if text is not None else ():
        key, _, value = part.partition("=")
        if key in parameters or key not in _PARAMETERS or not _PARAMETERS[key].fullmatch(value):
            return None
        parameters[key] = value
    return parameters


def _persistence(text: str, number: str) -> float:
    persistence = float(number)
    if persistence == 0:
        raise InputError(f"measure {text!r} has persistence 0; wanted one in (0, 1), e.g. 'rbp.80'")
    return persistence
