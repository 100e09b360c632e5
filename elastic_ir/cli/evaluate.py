"""``elastic-ir evaluate``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from elastic_ir.cli.options import SplitOption, check_file, say
from elastic_ir.errors import DatasetError, ElasticIRError, InputError

if TYPE_CHECKING:
    from elastic_ir.datasets import Dataset
    from elastic_ir.records import Qrels, Run

MEASURES = ("ndcg@10", "mrr@10", "recall@100", "map")
BY_ANSWER = ("hit_rate", "mrr", "precision")
"""Measures that need not know of right passages that no run found."""


def evaluate(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="TREC runs; the first is the baseline. {dataset} in a path stands for the dataset: its folder's name, "
            "or its id with - for /; e.g. 'runs/bm25-{dataset}.trec'."
        ),
    ],
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset",
            "-d",
            help="A folder in the BEIR layout, an ir_datasets id, or pydocs; several: -d data/scifact -d data/cacm, "
            "each with its table, and {dataset} in every run's path.",
        ),
    ] = None,
    split: SplitOption = None,
    qrels: Annotated[Path | None, typer.Option(help="TREC or BEIR qrels instead of a dataset.")] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated measures as ranx, trec_eval or ir_measures spell them, e.g. "
            "'ndcg@10,recip_rank,AP(rel=2),Judged@10'. Default: ndcg@10,mrr@10,recall@100,map; with --answers "
            "hit_rate@1, @5, @20 and @100."
        ),
    ] = None,
    margin: Annotated[
        float, typer.Option(help="Loss that still counts as no worse in the test of non-inferiority, e.g. 0.02.")
    ] = 0.01,
    cross_check: Annotated[
        bool,
        typer.Option(
            "--cross-check",
            help="Compute every figure again with trec_eval; a difference above 1e-10 is an error, e.g. "
            "--qrels q.txt run.trec --cross-check. Needs pytrec-eval-terrier.",
        ),
    ] = False,
    answers: Annotated[
        bool,
        typer.Option(
            "--answers",
            help="Judge by answer string instead: a passage is right when it holds one, normalised as DPR "
            "does, and hit_rate@k is top-k accuracy. E.g. -d dpr-w100/natural-questions/dev run.trec --answers.",
        ),
    ] = False,
    engine: Annotated[
        str | None,
        typer.Option(help="numpy (starts at once) or ranx (fast when large), e.g. ranx. Default: by size."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Tables as .json, .tex or .md.")] = None,
    report: Annotated[Path | None, typer.Option(help="Report as .html, .md, .tex or .json, e.g. report.html.")] = None,
) -> None:
    """Evaluate runs as trec_eval does, over all judged queries; every other run is tested against the first.

    Example: elastic-ir evaluate --dataset beir/scifact/test runs/bm25.trec runs/elastic.trec --report report.html
    """
    from elastic_ir.datasets import load
    from elastic_ir.evaluate import Evaluations, Section, read_metadata, read_qrels, read_run, write_report
    from elastic_ir.evaluate import cross_check as check_figures
    from elastic_ir.evaluate import evaluate as evaluate_runs
    from elastic_ir.evaluate.answers import ANSWER_MEASURES
    from elastic_ir.evaluate.datasets import PLACEHOLDER, label_of, runs_of
    from elastic_ir.evaluate.files import replacing
    from elastic_ir.evaluate.report import check_report
    from elastic_ir.terminal import show_evaluations

    if answers and qrels is not None:
        raise InputError("--answers needs --dataset, whose questions and passages it reads; --qrels FILE has neither")
    if (qrels is None) == (not dataset):
        raise InputError("wanted exactly one of --dataset D (once or more) and --qrels FILE")
    if qrels is not None and any(PLACEHOLDER in str(path) for path in runs):
        raise InputError(f"{PLACEHOLDER} in a run's path needs --dataset; --qrels FILE names none")
    forms = {".json": Evaluations.to_json, ".tex": Evaluations.to_latex, ".md": Evaluations.to_markdown}
    if output is not None and output.suffix not in forms:
        raise InputError(f"output {output} ends in {output.suffix!r}; wanted one of {', '.join(forms)}")
    if report is not None:
        check_report(report)
        if output is not None and output.resolve() == report.resolve():
            raise InputError(f"--output and --report are both {output}; wanted two files")
    for path in (output, report):
        check_file(path)
    sources = {label_of(name): load(name, split) for name in dataset or ()}
    labels = [label_of(name) for name in dataset] if dataset else [str(qrels)]
    default = ANSWER_MEASURES if answers else MEASURES
    measures = list(default) if metrics is None else [name for name in _split_measures(metrics) if name]
    sections = []
    for label, paths in runs_of(runs, labels).items():
        source = sources.get(label)
        read = {name: read_run(path) for name, path in paths.items()}
        if source is not None:
            judged = _by_answer(source, read, measures) if answers else source.qrels()
        else:
            judged = read_qrels(str(qrels))
        result = evaluate_runs(judged, read, measures, margin=margin, engine_name=_engine(engine))
        if cross_check:
            checked = check_figures(result, judged, read)
            say(f"{label}: {checked}")
            checked.demand()
        texts = _texts(source) if source and report else None
        about = {n: m for n, path in paths.items() if (m := _metadata(read_metadata, path)) is not None}
        sections.append(Section(label, result, texts, about))
    results = Evaluations(dict(zip(labels, (section.evaluation for section in sections), strict=True)))
    show_evaluations(results)
    if output is not None:
        with replacing(output) as file:
            file.write(forms[output.suffix](results).encode(errors="replace").decode())
    if report is not None:
        write_report(sections, report)


def _by_answer(source: Dataset, runs: dict[str, Run], measures: list[str]) -> Qrels:
    """Judgments of runs over a dataset whose questions come with answers, as deep as the measures look."""
    from elastic_ir.evaluate import Measure
    from elastic_ir.evaluate.answers import DEPTH, answer_qrels, wanted_documents

    parsed = [Measure.parse(name) for name in measures]
    other = next((str(one) for one in parsed if one.name not in BY_ANSWER or one.cutoff is None), None)
    if other is not None:
        raise InputError(
            f"{other} asks for all right passages; with --answers wanted {', '.join(BY_ANSWER)} at a cutoff"
        )
    depth, answers = max([DEPTH, *(one.cutoff or 0 for one in parsed)]), source.answers()
    texts = source.texts_of(wanted_documents(runs.values(), answers, depth))
    return answer_qrels(answers, texts, runs.values(), depth)


def _texts(source: Dataset) -> dict[str, str] | None:
    """query_id -> text; None where there are judgements but no queries."""
    try:
        return {query.query_id: query.text for query in source.queries()}
    except DatasetError:
        return None


def _metadata(read: Any, path: Path) -> dict[str, Any] | None:
    try:
        return dict(read(path))
    except (OSError, ElasticIRError):
        return None


def _split_measures(text: str) -> list[str]:
    """At commas outside parentheses: ``AP(rel=2),RBP(rel=1,p=0.8)`` are two."""
    return [name.strip() for name in re.split(r",(?![^()]*\))", text)]


def _engine(name: str | None) -> Literal["numpy", "ranx"] | None:
    match name:
        case None | "numpy" | "ranx":
            return name
    raise InputError(f"engine is {name!r}; wanted numpy or ranx")
