"""The paper's online simulation on a measured ladder: concurrency rises and falls, elastic against all else.

Every shape of load, in multiples of the capacity C, with every policy; thresholds are tuned on each shape (on other
seeds), static levels as they are, and the fluid bound beside them. Then the same with a table that is wrong.

The ladder is chosen on one collection; with --on, the quality that counts is that of its levels on another, whose
judgements only measure: no policy knows them, and none is tuned on them. The times are those of that other collection
where elastic-ir profile --ladder .. --retimed .. measured them there.

elastic-ir sweep pipelines/elastic.yaml --dataset $ELASTIC_IR_DATA/collections/scifact --output ladder.json
python benchmarks/online.py --ladder ladder.json --on msmarco-dl19-mini [--slo-ms 250]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from measured import RESULTS, data_folder, is_current, store
from quality import HITS, PIPELINES, index_of

from elastic_ir.datasets import load
from elastic_ir.evaluate import evaluate, read_run
from elastic_ir.pipeline import Pipeline
from elastic_ir.runs import write
from elastic_ir.schedule import Admission, DrainRule, Ladder, Rung
from elastic_ir.schedule.arrivals import arrivals
from elastic_ir.schedule.compare import ELASTIC, TUNING_SEED, Row, admission_of, policies
from elastic_ir.schedule.ladderfile import read_ladder
from elastic_ir.schedule.picture import draw
from elastic_ir.schedule.simulate import capacity, simulate

BASELINES = ["thresholds", "head-slack", "aimd", "static"]


def judged_on(ladder: Ladder, collection: str, runs: Path) -> Ladder:
    """``ladder`` with the quality of its levels on ``collection``."""
    folder = str(data_folder() / "collections" / collection)
    dataset, found = load(folder), {}
    for number, rung in enumerate(ladder.rungs):
        path = runs / f"{collection}.level-{number}-{str(rung.level).replace(':', '_')}.trec"
        if not is_current(path):
            with Pipeline.from_config(PIPELINES / "elastic.yaml", index=index_of(folder)) as pipeline:
                write(pipeline, dataset.queries(), path, tag=f"level{number}", k=HITS, level=rung.level)
        found[str(rung.level)] = read_run(path)
    means = evaluate(dataset.qrels(), found, ("ndcg@10",), permutations=100).means
    rungs = [rung._replace(quality=means[str(rung.level)]["ndcg@10"]) for rung in ladder.rungs]
    return ladder._replace(rungs=tuple(rungs))


def shapes(c: float, trace: Path) -> dict[str, str]:
    """Name of a load -> its arrivals."""
    named = {f"{k:g} C": f"poisson:{k * c}" for k in (0.5, 1, 2, 4)}
    named["MMPP 0.5-8 C"] = f"mmpp:{0.5 * c}:{8 * c}:4:1.5"
    named["Gamma CV2 8, 2 C"] = f"gamma:{2 * c}:8"
    named["step 0.5-8-0.5 C"] = f"step:{0.5 * c}:{8 * c}:10"
    return named | {f"trace {k:g} C": f"trace:{trace}:{k * c}" for k in (0.5, 1, 2, 4)}


def measured(ladder: Ladder, judged: Ladder, form: str, requests: int, seeds: int) -> list[Row]:
    """Every policy on one shape, the mean over seeds: they know ``ladder``, but ``judged`` counts."""
    chosen = policies(ladder, [ELASTIC, *BASELINES], arrivals(form, requests, TUNING_SEED), Admission(ladder))
    rows = []
    for name, policy in chosen.items():
        own = admission_of(policy, ladder)
        runs = [
            Row.of(name, simulate(judged, policy, arrivals(form, requests, seed), admission=own, seed=seed))
            for seed in range(seeds)
        ]
        rows.append(Row.mean(runs))
    return rows


def wrong_table(ladder: Ladder, c: float, requests: int, seeds: int) -> dict[str, dict[str, float]]:
    """In time, after 10 seconds, where service takes 2.5 times what the table says."""
    found: dict[str, dict[str, float]] = {}
    for rate in (1, 2):
        for corrected in (True, False):
            runs = [
                simulate(
                    ladder, DrainRule(ladder), arrivals(f"poisson:{rate * c}", requests, seed),
                    admission=Admission(ladder), seed=seed, slowdown=2.5, correct=corrected,
                ).after(10)
                for seed in range(seeds)
            ]  # fmt: skip
            label = f"{rate} C, {'corrected' if corrected else 'not corrected'}"
            found[label] = {"in time": sum(run.attainment for run in runs) / seeds}
    return found


def _level_line(rung: Rung) -> str:
    p50, p95 = (1000 * times[0] for times in (rung.typical or rung.seconds, rung.seconds))
    return f"| `{rung.level}` | {rung.quality:.4f} | {p50:.1f} / {p95:.1f} ms | {rung.rate:.1f} |"


def reader(description: str | None) -> argparse.ArgumentParser:
    """The options of every benchmark of a schedule on a ladder."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ladder", type=Path, required=True)
    parser.add_argument("--on", help="collection whose judgements give the quality; default: the ladder's own")
    parser.add_argument("--runs", type=Path, default=Path("runs/online"), help="folder of the levels' runs")
    parser.add_argument("--slo-ms", type=float, help="default: the ladder's")
    return parser


def main() -> None:
    """Simulate, print and store."""
    parser = reader(__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    ladder = read_ladder(arguments.ladder).ladder(arguments.slo_ms)
    judged = judged_on(ladder, arguments.on, arguments.runs) if arguments.on else ladder
    name = "online" if arguments.slo_ms is None else f"online-{arguments.slo_ms:.0f}ms"
    c = capacity(ladder)
    trace = data_folder() / "traces" / "azure-llm-conv.txt"
    figures: dict[str, dict[str, dict[str, float]]] = {}
    lines = [
        f"C = {c:.2f} queries a second ({ladder.rungs[0].level}, 99% within {1000 * ladder.slo_s:.0f} ms)\n",
        "| level | nDCG@10 | one query, p50 / p95 | queries a second |\n|---|---|---|---|",
        *(_level_line(rung) for rung in judged.rungs),
        "",
        "| load | fluid bound | elastic (in time, utility) | thresholds | head slack | AIMD | best static | full |",
        "|---|---|---|---|---|---|---|---|",
    ]
    worst: dict[str, float] = {}
    for shape, form in shapes(c, trace).items():
        rows = {row.policy: row for row in measured(ladder, judged, form, arguments.requests, arguments.seeds)}
        static = [row for policy, row in rows.items() if policy.startswith("static")]
        best = max(static, key=lambda row: row.utility)
        times = arrivals(form, arguments.requests, 0)
        bound = judged.fluid_bound(len(times) / float(times[-1]))
        shown = [rows[ELASTIC], rows["thresholds"], rows["head-slack"], rows["aimd"], best, static[0]]
        lines.append(
            f"| {shape} | {bound:.4f} | " + " | ".join(f"{r.attainment:.2%}, {r.utility:.4f}" for r in shown) + " |"
        )
        figures[shape] = {row.policy: row._asdict() for row in rows.values()} | {"fluid bound": {"utility": bound}}
        for policy, row in rows.items():
            worst[policy] = min(worst.get(policy, 1.0), row.utility / bound)
        print(lines[-1], flush=True)
    cells = ", ".join(f"{policy} {share:.3f}" for policy, share in worst.items())
    lines.append(f"\nUtility on the worst shape, share of the fluid bound: {cells}.")
    wrong = wrong_table(ladder, c, arguments.requests, arguments.seeds)
    cells = ", ".join(f"{label} {found['in time']:.2%}" for label, found in wrong.items())
    lines.append(f"\nService 2.5 times slower than the table, in time after 10 s: {cells}.")
    flood = arrivals(f"poisson:{2 * ladder.rungs[-1].rate}", 5 * arguments.requests, 0)
    served = simulate(ladder, DrainRule(ladder), flood, admission=Admission(ladder)).goodput / ladder.rungs[-1].rate
    lines.append(f"\nTwice the cheapest level's capacity: goodput {served:.1%} of it.")
    form = f"step:{0.5 * c}:{8 * c}:10"
    chosen = policies(ladder, [ELASTIC, "full"], flood, Admission(ladder))
    times = arrivals(form, round(10 * 9 * c), 0)  # 10 seconds of 0.5 C, of 8 C and of 0.5 C again
    outcomes = {
        name: simulate(judged, policy, times, admission=admission_of(policy, ladder)) for name, policy in chosen.items()
    }
    draw(outcomes, f"load from 0.5 C to 8 C and back, SLO {1000 * ladder.slo_s:.0f} ms", RESULTS / f"{name}.png")
    command = f"python benchmarks/online.py --ladder LADDER --slo-ms {1000 * ladder.slo_s:g}"
    command += f" --on {arguments.on}" * bool(arguments.on)
    command += f" --requests {arguments.requests} --seeds {arguments.seeds}"
    found = {"C": c, "figures": figures, "wrong table": wrong, "goodput at twice the cheapest": served}
    store(name, command, found, "\n".join(lines))


if __name__ == "__main__":
    main()
