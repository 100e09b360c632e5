"""Figures by hand and against trec_eval; tables; comparison."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from io import StringIO

import numpy as np
import pytest
import pytrec_eval
from rich.console import Console

from elastic_ir.errors import InputError
from elastic_ir.evaluate import Evaluation, cross_check, evaluate
from elastic_ir.evaluate.figures import EngineName, in_blocks
from elastic_ir.records import Qrels, Run

QRELS: Qrels = {"q1": {"a": 2, "b": 1, "c": 0}, "q2": {"x": 1}, "q3": {"n": 0, "m": -2}, "unjudged": {}}
FIRST: Run = {"q1": {"c": 3.0, "a": 2.0, "z": 1.0, "b": 0.5}, "q3": {"m": 1.0}, "other": {"a": 1.0}}
SECOND: Run = {"q1": {"a": 1.0, "b": 1.0}, "q2": {"y": 2.0, "x": 1.0}, "q3": {}}


@pytest.fixture(scope="module")
def small() -> Evaluation:
    return evaluate(
        QRELS, {"first": FIRST, "sec|ond_{": SECOND}, ["nDCG@10", "recip_rank", "recall_2", "map", "ndcg@10"]
    )


def test_figures_by_hand(small: Evaluation) -> None:
    ideal = 2 + 1 / math.log2(3)
    assert small.measures == ("ndcg@10", "mrr", "recall@2", "map")
    first = {measure: figures["q1"] for measure, figures in small.per_query["first"].items()}
    assert first == pytest.approx(
        {
            "ndcg@10": (2 / math.log2(3) + 1 / math.log2(5)) / ideal,
            "mrr": 1 / 2,
            "recall@2": 1 / 2,
            "map": (1 / 2 + 2 / 4) / 2,
        }
    )
    second = {measure: figures["q1"] for measure, figures in small.per_query["sec|ond_{"].items()}
    assert second == pytest.approx({"ndcg@10": (1 + 2 / math.log2(3)) / ideal, "mrr": 1.0, "recall@2": 1.0, "map": 1.0})


def test_missing_queries_count_zero_and_are_counted(small: Evaluation) -> None:
    assert small.queries == 3
    assert small.missing == {"first": 1, "sec|ond_{": 1}
    assert small.per_query["first"]["mrr"] == {"q1": 0.5, "q2": 0.0, "q3": 0.0}
    assert small.means["first"]["mrr"] == pytest.approx(0.5 / 3)
    assert small.means["sec|ond_{"]["mrr"] == pytest.approx(1.5 / 3)


def test_evaluation_leaves_its_input_alone() -> None:
    qrels, run = {"q": {"a": 1}, "r": {"a": 1}}, {"q": {"b": 1.0, "a": 1.0}}
    evaluate(qrels, {"run": run}, ["map"])
    assert (qrels, run) == ({"q": {"a": 1}, "r": {"a": 1}}, {"q": {"b": 1.0, "a": 1.0}})


EVERY_MEASURE = (
    *("ndcg@10", "ndcg", "ndcg_burges@5", "dcg@10", "dcg_burges", "map", "map@20", "map-l2", "mrr", "mrr@10", "mrr-l3"),
    *("recall@100", "recall@100-l2", "precision@5", "f1@5", "hit_rate@3", "r-precision", "r-precision-l2", "hits"),
    *("hits@7-l2", "bpref", "bpref-l2", "rbp.80", "rbp.95-l2", "judged@10"),
)


def tied(seed: int, runs: int) -> tuple[Qrels, dict[str, Run]]:
    """Six queries, judged from -2 to 3, and runs full of ties, some of which only float32 makes."""
    random = np.random.default_rng(seed)
    documents = [f"d{number}" for number in range(150)]
    qrels: Qrels = {
        f"q{number}": {
            str(doc): int(random.integers(-2, 4)) for doc in random.choice(documents, random.integers(1, 40), False)
        }
        for number in range(6)
    }
    found: dict[str, Run] = {}
    for number in range(runs):
        kinds = (
            random.integers(0, 3, 150) / 1.0,
            random.normal(size=150),
            1 + random.normal(size=150) * 1e-8,
            random.choice([1e39, 1e300, -1e39], 150),
        )
        found[f"run{number}"] = {
            query_id: {
                str(doc): float(score)
                for doc, score in zip(
                    random.permutation(documents)[: random.integers(1, 151)], kinds[number % 4], strict=False
                )
            }
            for query_id in qrels
            if random.random() < 0.9
        }
    return qrels, found


@pytest.mark.parametrize("engine_name", ["numpy", "ranx"])
def test_agrees_with_trec_eval_on_runs_full_of_ties(engine_name: EngineName) -> None:
    qrels, runs = tied(7, 24)
    qrels |= {"one": {"d1": 1}, "none": {"d1": 0, "d2": -1}, "absent": {"d1": 2}}
    for run in runs.values():
        run |= {"one": {"d1": 0.5, "d2": 0.5, "d3": 0.5}, "none": {"d2": 1.0, "d1": 1.0}, "unjudged": {"d1": 1.0}}
    measures = [m for m in EVERY_MEASURE if not m.startswith(("dcg", "rbp", "f1"))]
    evaluation = evaluate(qrels, runs, measures, permutations=10, resamples=10, engine_name=engine_name)
    assert evaluation.engine == engine_name
    checked = cross_check(evaluation, qrels, runs)
    assert checked.unchecked == ()
    assert checked.figures == len(measures) * 24 * 9
    assert checked.largest < 1e-12, checked


def test_trec_eval_itself_is_asked() -> None:
    """The counterpart's name and ranking by hand, so that ``cross_check`` cannot agree with itself."""
    qrels, runs = tied(8, 4)
    evaluation = evaluate(qrels, runs, ["ndcg@10", "bpref", "mrr@10", "f1@5"], permutations=10)
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut_10", "bpref", "recip_rank", "P_5", "recall_5"})
    for name, run in runs.items():
        for query_id, theirs in evaluator.evaluate(run).items():
            ours = {measure: figures[query_id] for measure, figures in evaluation.per_query[name].items()}
            first, precision, recall = theirs["recip_rank"], theirs["P_5"], theirs["recall_5"]
            assert ours["ndcg@10"] == pytest.approx(theirs["ndcg_cut_10"], abs=1e-12)
            assert ours["bpref"] == pytest.approx(theirs["bpref"], abs=1e-12)
            assert ours["mrr@10"] == pytest.approx(first if first > 0.0999 else 0.0, abs=1e-12)
            wanted = 2 * precision * recall / (precision + recall) if precision else 0.0
            assert ours["f1@5"] == pytest.approx(wanted, abs=1e-12)


def test_blocks_change_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    qrels, runs = tied(5, 3)
    qrels["heavy"] = {f"d{number}": number % 3 for number in range(500)}
    whole = evaluate(qrels, runs, EVERY_MEASURE, permutations=10, resamples=10)
    monkeypatch.setattr("elastic_ir.evaluate.figures.CELLS", 400)
    assert len(list(in_blocks(qrels, runs.values()))) > 3
    parted = evaluate(qrels, runs, EVERY_MEASURE, permutations=10, resamples=10)
    for name, by in whole.per_query.items():
        for measure, figures in by.items():
            assert parted.per_query[name][measure] == pytest.approx(figures, abs=1e-12)


def test_counts_below_one_and_grades_beyond_a_float_are_refused() -> None:
    qrels, runs = {"q": {"a": 2000}}, {"r": {"q": {"a": 1.0}}}
    for options in ({"permutations": 0}, {"resamples": 0}):
        with pytest.raises(InputError, match="is 0; wanted 1 or more"):
            evaluate(qrels, runs, ["map"], **options)
    with pytest.raises(InputError, match=r"counts 2\^grade, and a grade is 2000"):
        evaluate(qrels, runs, ["ndcg_burges@10"])


def test_the_engines_agree() -> None:
    qrels, runs = tied(9, 8)
    by_engine = [
        evaluate(qrels, runs, EVERY_MEASURE, permutations=10, resamples=10, engine_name=name)
        for name in ("numpy", "ranx")
    ]
    for name in runs:
        for measure in by_engine[0].measures:
            first, second = (one.per_query[name][measure] for one in by_engine)
            assert first == pytest.approx(second, abs=1e-12), measure
    assert by_engine[0].judged_at_10 == by_engine[1].judged_at_10


def test_rbp_dcg_and_judged_by_hand(small: Evaluation) -> None:
    evaluation = evaluate(QRELS, {"first": FIRST}, ["RBP(rel=1,p=0.5)", "dcg@2", "Judged@3"])
    figures = {measure: by["q1"] for measure, by in evaluation.per_query["first"].items()}
    assert figures == pytest.approx({"rbp.5": 0.5 * (0.5 + 0.125), "dcg@2": 2 / math.log2(3), "judged@3": 2 / 3})
    assert small.judged_at_10["first"] == pytest.approx((3 / 4 + 1) / 2)  # q2 is missing, q3's only hit is judged
    asked = evaluate(QRELS, {"first": FIRST, "empty": {}}, ["judged@10"])
    assert asked.means["first"]["judged@10"] == pytest.approx((3 / 4 + 0 + 1) / 3)
    assert asked.judged_at_10 == {"first": small.judged_at_10["first"], "empty": 0.0}


def test_large_input_takes_ranx(monkeypatch: pytest.MonkeyPatch) -> None:
    assert evaluate(QRELS, {"first": FIRST}, ["map"]).engine == "numpy"
    monkeypatch.setattr("elastic_ir.evaluate.evaluation.FORMULA_HITS", 4)
    assert evaluate(QRELS, {"first": FIRST}, ["map"]).engine == "ranx"
    with pytest.raises(InputError, match="unknown engine 'fast'; wanted 'numpy' or 'ranx'"):
        evaluate(QRELS, {"first": FIRST}, ["map"], engine_name="fast")  # type: ignore[arg-type]


def test_coverage_counts_missing_queries_aloud(small: Evaluation) -> None:
    assert small.coverage == "3 judged queries; without a hit, counted as 0: first 1, sec|ond_{ 1"
    assert (
        evaluate({"q": {"a": 1}}, {"r": {"q": {"a": 1.0}}}).coverage == "1 judged queries, all with hits in every run"
    )


@pytest.mark.parametrize(
    ("qrels", "runs", "measures", "message"),
    [
        ({"q": {}}, {"r": {}}, ["map"], "no judged query"),
        ({"q": {"a": 1}}, {}, ["map"], "no run"),
        ({"q": {"a": 1}}, {"r": {}}, [], "no measure"),
        ({"q": {"a": 1}}, {"r": {}}, ["mpa"], "unknown measure 'mpa'; did you mean 'map'"),
        ({"q": {"a": 1}}, {"r": {"z": {"a": 1.0}}}, ["map"], "run 'r' has none of the 1 judged queries"),
        (
            {"q": {"a": 1}},
            {"r": {"q": {"b": 1.0, "a": math.nan}}},
            ["map"],
            "run 'r', query 'q': document 'a' has score NaN",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    qrels: Qrels, runs: dict[str, Run], measures: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(qrels, runs, measures)


def test_a_run_without_any_hit_scores_zero() -> None:
    evaluation = evaluate({"q": {"a": 1}}, {"empty": {}}, ["map"])
    assert evaluation.means == {"empty": {"map": 0.0}}
    assert (evaluation.missing, evaluation.comparisons) == ({"empty": 1}, ())


def test_json_holds_everything(small: Evaluation) -> None:
    read = json.loads(small.to_json())
    assert read["means"] == small.means
    assert read["per_query"] == small.per_query
    assert (read["baseline"], read["queries"], read["missing"]["first"]) == ("first", 3, 1)
    assert read["comparisons"][0] == small.comparisons[0]._asdict()
    assert read["intervals"]["first"]["map"] == list(small.intervals["first"]["map"])
    assert (read["judged_at_10"], read["engine"]) == (small.judged_at_10, "numpy")


def test_an_infinite_effect_is_null_in_json() -> None:
    qrels: Qrels = {q: {"a": 1} for q in ("q1", "q2")}
    runs: dict[str, Run] = {"base": {q: {"b": 1.0} for q in qrels}, "other": {q: {"a": 1.0} for q in qrels}}
    evaluation = evaluate(qrels, runs, ["map"])
    assert evaluation.comparisons[0].effect_size == math.inf
    assert json.loads(evaluation.to_json())["comparisons"][0]["effect_size"] is None


def test_tables_hold_the_same_figures_and_escape_names(small: Evaluation) -> None:
    lines = small.to_markdown().splitlines()
    assert lines[0] == "| run | ndcg@10 | mrr | recall@2 | map |"
    assert lines[3].startswith("| sec\\|ond\\_{ | **0.")
    latex = small.to_latex(3)
    assert "sec|ond\\_\\{ & \\textbf{0." in latex
    assert Counter(latex)["{"] - latex.count("\\{") == Counter(latex)["}"]
    console = Console(width=120, record=True, file=StringIO())
    console.print(small.to_table())
    shown = console.export_text()
    console.print(small.to_comparison_table())
    assert "+0." in console.export_text()
    for run in small.means:
        assert run in shown
        for value in small.means[run].values():
            assert f"{value:.4f}" in shown
            assert f"{value:.3f}" in latex


def test_significance_is_marked_on_other_runs_only() -> None:
    qrels: Qrels = {f"q{n}": {"a": 1} for n in range(12)}
    worse: Run = {q: {"z": 2.0 + n % 2, "a": 2.5, "b": 2.4} for n, q in enumerate(qrels)}
    best: Run = {q: {"a": 1.0} for q in qrels}
    evaluation = evaluate(qrels, {"worse": worse, "best": best}, ["map"])
    assert [cell[1:] for cell in evaluation.row("worse")] == [(False, False)]
    assert [cell[1:] for cell in evaluation.row("best")] == [(True, True)]
    assert "**1.0000**†" in evaluation.to_markdown()
    assert r"\textbf{1.0000}$^\dagger$" in evaluation.to_latex()


def test_importing_the_room_loads_neither_ranx_nor_numba() -> None:
    code = "import sys, elastic_ir.evaluate; sys.exit(bool({'ranx', 'numba', 'torch', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
