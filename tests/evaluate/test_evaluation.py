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
from scipy.stats import false_discovery_control, ttest_rel

from elastic_ir.errors import InputError
from elastic_ir.evaluate import Evaluation, evaluate
from elastic_ir.evaluate.significance import compare, holm
from elastic_ir.records import Qrels, Run, in_run_order

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


def test_agrees_with_trec_eval_on_runs_full_of_ties() -> None:
    random = np.random.default_rng(7)
    documents = [f"d{number}" for number in range(150)]
    qrels: Qrels = {
        f"q{number}": {
            str(doc): int(random.integers(-2, 4)) for doc in random.choice(documents, random.integers(1, 40), False)
        }
        for number in range(6)
    }
    runs: dict[str, Run] = {}
    for number in range(100):
        kinds = (
            random.integers(0, 3, 150) / 1.0,
            random.normal(size=150),
            1 + random.normal(size=150) * 1e-8,
            random.choice([1e39, 1e300, -1e39], 150),
        )
        runs[f"run{number}"] = {
            query_id: {
                str(doc): float(score)
                for doc, score in zip(
                    random.permutation(documents)[: random.integers(1, 151)], kinds[number % 4], strict=False
                )
            }
            for query_id in qrels
            if random.random() < 0.9
        }
    names = {
        "ndcg@10": "ndcg_cut_10",
        "map": "map",
        "recall@100": "recall_100",
        "mrr": "recip_rank",
        "precision@5": "P_5",
    }
    names |= {"hit_rate@5": "success_5", "r-precision": "Rprec", "map@20": "map_cut_20", "ndcg": "ndcg"}
    evaluation = evaluate(qrels, runs, [*names, "mrr@10", "recall@100-l2"], permutations=10)
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, set(names.values()))
    strict = pytrec_eval.RelevanceEvaluator(qrels, {"recall_100"}, relevance_level=2)
    first_rank = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"})
    with np.errstate(over="ignore"):
        cut = {
            name: {
                q: dict(in_run_order({d: float(np.float32(s)) for d, s in scores.items()})[:10])
                for q, scores in run.items()
            }
            for name, run in runs.items()
        }
    for name, run in runs.items():
        figures = evaluation.per_query[name]
        for query_id, wanted in evaluator.evaluate(run).items():
            for ours, theirs in names.items():
                assert figures[ours][query_id] == pytest.approx(wanted[theirs], abs=1e-12), (name, query_id, ours)
        for query_id, wanted in first_rank.evaluate(cut[name]).items():
            assert figures["mrr@10"][query_id] == pytest.approx(wanted["recip_rank"], abs=1e-12)
        for query_id, wanted in strict.evaluate(run).items():
            assert figures["recall@100-l2"][query_id] == pytest.approx(wanted["recall_100"], abs=1e-12)


def test_comparison_against_the_first_run() -> None:
    random = np.random.default_rng(3)
    base = random.random(40)
    figures = {
        "base": {"map": base, "mrr": base},
        "same": {"map": base.copy(), "mrr": base + 0.1},
        "other": {"map": base + random.normal(0.1, 0.2, 40), "mrr": base + random.normal(0.0, 0.2, 40)},
    }
    same, shifted, better, noise = compare(figures, permutations=2000, seed=1)
    assert same[:3] == ("same", "base", "map")
    assert (same.difference, same.wins, same.ties, same.losses) == (0.0, 0, 40, 0)
    assert (same.p_ttest, same.p_randomization, same.p_holm) == (1.0, 1.0, 1.0)
    assert (shifted.p_ttest, shifted.wins, shifted.difference) == (0.0, 40, pytest.approx(0.1))
    assert shifted.p_randomization == 1 / 2001
    for found in (better, noise):
        wanted = ttest_rel(figures["other"][found.measure], base).pvalue
        assert found.p_ttest == pytest.approx(wanted)
        assert found.p_randomization == pytest.approx(wanted, abs=0.03)
        assert found.wins + found.ties + found.losses == 40
    assert compare(figures, permutations=2000, seed=1) == (same, shifted, better, noise)


def test_randomization_agrees_with_every_sign_flip() -> None:
    differences = np.array([0.5, 0.25, -0.125, 0.25, 0.0])
    flips = np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1).T
    exact = np.mean(np.abs(flips @ differences) >= abs(differences.sum()))
    (found,) = compare({"a": {"m": np.zeros(5)}, "b": {"m": differences}}, permutations=20_000)
    assert found.p_randomization == pytest.approx(exact, abs=0.01)


def test_holm_by_hand() -> None:
    assert holm(np.array([0.04, 0.01, 0.03, 0.9])).tolist() == pytest.approx([0.09, 0.04, 0.09, 0.9])
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]
    assert (holm(np.full(3, 0.01)) >= false_discovery_control(np.full(3, 0.01))).all()


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
