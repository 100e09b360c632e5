"""``elastic-ir glue``: the elastic model on GLUE."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elastic_ir.cli.options import say


def glue(
    task: Annotated[
        list[str] | None,
        typer.Option("--task", "-t", help="cola, rte, mrpc, stsb, sst2, wnli, qnli, qqp, mnli or all."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with TASK/train.jsonl and TASK/dev.jsonl (mnli: dev_matched, dev_mismatched), lines of "
            '{"sentence1": "..", "sentence2": "..", "label": 0}; default: the Hugging Face hub.'
        ),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Encoder to start from, e.g. google-bert/bert-base-uncased.")
    ] = "elastic-denser-small",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of runs and scores.")] = Path("runs/glue"),
    seeds: Annotated[int, typer.Option(min=1, help="Times all is repeated.")] = 1,
    subnets: Annotated[str | None, typer.Option(help="Of the elastic model, e.g. w1.00-d6,w0.50-d6.")] = None,
    strategy: Annotated[
        str, typer.Option(help="Which learn in a step: fixed (all, the full one in every second) or sandwich.")
    ] = "fixed",
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also two subnets alone, first layers alone, layers left out.")
    ] = False,
    learning_rate: Annotated[
        float, typer.Option(min=1e-8, help="Peak, of fine-tuning; 1e-4 suits small models, 3e-5 BERT-base.")
    ] = 1e-4,
    epochs: Annotated[float, typer.Option(min=0.01, help="Of fine-tuning, as a share of the task's own.")] = 1.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Training examples used; default: all.")] = None,
    report: Annotated[bool, typer.Option("--report", help="Write glue.md and glue.png into the folder.")] = False,
) -> None:
    """Fine-tune on GLUE, then teach all sub-networks; a killed run continues where it stopped.

    Example: elastic-ir glue --task rte --data GLUE --output runs/glue --report
    """
    from elastic_ir.config import checked
    from elastic_ir.glue import TASKS, Experiment, Settings, write_report
    from elastic_ir.glue.settings import SUBNETS
    from elastic_ir.progress import steps_bar

    named = list(TASKS) if not task or "all" in task else task
    options = {
        "model": model, "tasks": named, "data": data, "seeds": seeds, "strategy": strategy, "baselines": baselines,
        "learning_rate": learning_rate, "epochs": epochs, "limit": limit,
        "subnets": SUBNETS if subnets is None else [name.strip() for name in subnets.split(",")],
    }  # fmt: skip
    experiment = Experiment(checked(Settings, options, "glue options"), output)
    with steps_bar() as progress:
        experiment.run(progress)
    for score in experiment.scores:
        if score.task in named:
            measures = "  ".join(f"{name} {100 * value:.1f}" for name, value in score.measures.items())
            say(f"{score.task:5} seed {score.seed}  {score.model:12} {score.subnet:10} {measures}")
    for name, reason in experiment.skipped.items():
        say(f"{name:5} skipped: {reason}")
    if report:
        say(f"report: {write_report(experiment, output)}")
