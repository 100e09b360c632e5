"""What a report is about: one section a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from elastic_ir.evaluate.evaluation import Evaluation
from elastic_ir.evaluate.operating import Sidecar

QUERIES_SHOWN = 10


class Section(NamedTuple):
    """One dataset's part of a report.

    Attributes:
        title: names the dataset.
        evaluation: figures of the runs.
        queries: query_id -> text; None shows ids alone.
        metadata: run -> its sidecar; None, or a run left out, leaves out what only a sidecar knows.
    """

    title: str
    evaluation: Evaluation
    queries: Mapping[str, str] | None = None
    metadata: Mapping[str, Mapping[str, Any]] | None = None

    @property
    def sidecars(self) -> Mapping[str, Sidecar]:
        """``metadata``, empty where there is none."""
        return self.metadata or {}


class Change(NamedTuple):
    """One query on which a run and the baseline differ."""

    query_id: str
    text: str
    before: float
    after: float

    @property
    def difference(self) -> float:
        """Above 0 where the run is better."""
        return self.after - self.before


def changes(section: Section, run: str, measure: str) -> list[Change]:
    """Every judged query, the run's largest win first."""
    figures, texts = section.evaluation.per_query, section.queries or {}
    before, after = figures[section.evaluation.baseline][measure], figures[run][measure]
    found = [Change(query_id, texts.get(query_id, ""), before[query_id], after[query_id]) for query_id in before]
    return sorted(found, key=lambda change: (-change.difference, change.query_id))


def wins_and_losses(found: list[Change]) -> dict[str, list[Change]]:
    """The largest of each, ``QUERIES_SHOWN`` at most."""
    return {
        "Largest wins": [change for change in found if change.difference > 0][:QUERIES_SHOWN],
        "Largest losses": [change for change in reversed(found) if change.difference < 0][:QUERIES_SHOWN],
    }


def amount(value: float | None) -> str:
    """Milliseconds or GFLOPs as they are shown; nothing where they are not known."""
    return "" if value is None else f"{value:,.1f}" if value >= 100 else f"{value:.3g}"


def made_by(about: Sidecar) -> dict[str, str]:
    """The main facts of what produced a run, as text; what the sidecar lacks is left out."""
    pipeline, machine = (about[key] if isinstance(about.get(key), Mapping) else {} for key in ("pipeline", "machine"))
    models, versions = (about[key] if isinstance(about.get(key), Mapping) else {} for key in ("models", "versions"))
    levels = (
        sorted({str(level) for level in about["levels"].values()}) if isinstance(about.get("levels"), Mapping) else []
    )
    named = {role: pipeline[role].get("model", "") for role in models if isinstance(pipeline.get(role), Mapping)}
    named |= {"ranker": pipeline["reranker"].get("model", "")} if isinstance(pipeline.get("reranker"), Mapping) else {}
    facts = {
        "level": ", ".join(levels[:3]) + (f" and {len(levels) - 3} more" if len(levels) > 3 else ""),
        "model": ", ".join(f"{named.get(role, '')} {role} {str(mark)[:12]}".strip() for role, mark in models.items()),
        "index": _index(about),
        "versions": ", ".join(f"{name} {version}" for name, version in _versions(about, versions)),
        "machine": ", ".join(str(value) for value in machine.values()),
    }
    return {name: fact for name, fact in facts.items() if fact}


def _index(about: Sidecar) -> str:
    corpus = str(about.get("corpus_sha256", ""))[:12]
    generation = f"generation {about['generation']}" if "generation" in about else ""
    return ", ".join(part for part in (generation, corpus and f"corpus {corpus}") if part)


def _versions(about: Sidecar, versions: Mapping[str, Any]) -> list[tuple[str, Any]]:
    own = [("elastic_ir", about["elastic_ir"])] if "elastic_ir" in about else []
    return [*own, *versions.items()]
