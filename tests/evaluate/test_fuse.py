"""Fusion: reciprocal ranks by ourselves, the rest by ranx, and parameters chosen on a train split."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from elastic_ir.cli import app
from elastic_ir.errors import InputError
from elastic_ir.evaluate import read_metadata, read_run
from elastic_ir.evaluate.fuse import METHODS, NORMS, fuse, optimize
from elastic_ir.evaluate.joined import write_fused
from elastic_ir.records import Ranking

ONE = {"q1": {"a": 3.0, "b": 2.0, "c": 1.0}, "q2": {"a": 5.0, "d": 1.0}, "only": {"x": 2.0, "y": 1.0}}
TWO = {"q1": {"c": 30.0, "d": 20.0}, "q2": {"d": 9.0, "a": 7.0, "b": 5.0}, "late": {"z": 1.0}}


def scores(rankings: list[Ranking]) -> dict[str, dict[str, float]]:
    return {query.query_id: {hit.doc_id: hit.score for hit in hits} for query, hits, _ in rankings}


def test_rrf_is_the_formula_and_needs_no_ranx() -> None:
    fused = scores(fuse([ONE, TWO]))
    assert fused["q1"] == pytest.approx({"c": 1 / 63 + 1 / 61, "a": 1 / 61, "d": 1 / 62, "b": 1 / 62})
    assert list(fused["q1"]) == ["c", "a", "d", "b"]  # a tie goes to the larger doc_id
    assert fused["q2"] == pytest.approx({"d": 1 / 62 + 1 / 61, "a": 1 / 61 + 1 / 62, "b": 1 / 63})
    assert list(fused) == ["q1", "q2", "only", "late"]
    assert list(fused["only"]) == ["x", "y"]
    assert scores(fuse([ONE, TWO], parameters={"k": 1}))["q2"]["b"] == 1 / 4
    code = (
        "import sys; from elastic_ir.evaluate.fuse import fuse; fuse([{'q': {'a': 1.0}}, {'q': {'b': 1.0}}]);"
        "sys.exit('ranx' in sys.modules or 'numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def without_compiling(*command: str) -> str:
    """Standard output of this Python, with numba's compiler off: ranx as it is, minus half a minute of compiling."""
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_method_of_ranx_fuses_and_a_weighted_sum_is_the_formula() -> None:
    code = f"""
import json
from elastic_ir.evaluate.fuse import METHODS, fuse, optimize
one, two, qrels = {ONE}, {TWO}, {{"q1": {{"c": 1}}, "q2": {{"d": 2, "b": 1}}}}
fused = {{}}
for name, method in METHODS.items():
    chosen = optimize([one, two], qrels, name) if method.parameters or method.optional else {{}}
    weighted = {{"weights": [0.25, 0.75]}} if name == "wsum" else json.loads(json.dumps(chosen))
    fused[name] = {{r.query.query_id: dict(h[:2] for h in r.hits) for r in fuse([one, two], name, "min-max", weighted)}}
print(json.dumps(fused))
"""
    fused = json.loads(without_compiling("-c", code))
    assert fused.keys() == METHODS.keys()
    assert fused["wsum"]["q1"] == pytest.approx({"c": 0.75, "a": 0.25, "b": 0.125, "d": 0.0})
    assert fused["wsum"]["q2"] == pytest.approx({"d": 0.75, "a": 0.25 + 0.375, "b": 0.0})
    assert list(fused["wsum"]["q2"]) == ["d", "a", "b"]
    for name, queries in fused.items():
        assert set(queries["q1"]) == {"a", "b", "c", "d"}, name
        assert (queries["only"], queries["late"]) == ({"x": 2.0, "y": 1.0}, {"z": 1.0}), name


def test_elections_are_the_same_in_every_process() -> None:
    code = f"""
import json
from elastic_ir.evaluate.fuse import fuse
for method, parameters in (("condorcet", {{}}), ("w_condorcet", {{"weights": [0.3, 0.7]}})):
    print([[hit.doc_id for hit in ranking.hits] for ranking in fuse([{ONE}, {TWO}], method, "none", parameters)])
"""
    said = set()
    for seed in ("1", "2", "3"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        said.add(done.stdout)
    (found,) = said
    assert found.splitlines()[1].startswith("[['c', 'd', 'a', 'b'], ['d', 'a', 'b']")


def test_the_majority_decides_and_circles_go_by_points() -> None:
    votes = [{"a": 3.0, "b": 2.0, "c": 1.0}, {"b": 3.0, "a": 2.0, "c": 1.0}, {"a": 3.0, "b": 2.0}]
    (elected,) = fuse([{"q": vote} for vote in votes], "condorcet")
    assert [hit.doc_id for hit in elected.hits] == ["a", "b", "c"]
    circle = [{"a": 3.0, "b": 2.0, "c": 1.0}, {"b": 3.0, "c": 2.0, "a": 1.0}, {"c": 3.0, "a": 2.0, "b": 1.0}]
    one, other = (fuse([{"q": vote} for vote in order], "condorcet")[0] for order in (circle, circle[::-1]))
    assert [hit.doc_id for hit in one.hits] == [hit.doc_id for hit in other.hits]


def test_weights_of_three_runs_are_tried_to_the_last_tenth() -> None:
    # only weights near (0.2, 0.7, 0.1) put the right document first in each query
    runs = [
        {"q1": {"r": 0.0, "x": 1.0}, "q2": {"r": 1.0, "x": 0.0, "y": 0.4}},
        {"q1": {"r": 1.0, "x": 0.72}, "q2": {"r": 0.7, "x": 1.0, "y": 0.0}},
        {"q1": {"r": 1.0, "x": 0.0}, "q2": {"r": 0.0, "x": 0.9, "y": 1.0}},
    ]
    code = f"""
from elastic_ir.evaluate.fuse import optimize
tried = []
import elastic_ir.evaluate.fuse as room
real = room.track
room.track = lambda them, name: tried.extend(them) or real(them, name)
optimize({runs}, {{"q1": {{"r": 1}}, "q2": {{"r": 1}}}}, "wsum", "none", "mrr")
print(sorted(map(tuple, tried)))
"""
    tried = json.loads(without_compiling("-c", code).replace("(", "[").replace(")", "]"))
    assert len(tried) == 66
    assert [0.2, 0.7, 0.1] in tried


@pytest.mark.parametrize("as_list", [list, tuple, np.array])
def test_weights_go_with_their_runs_where_one_lacks_the_query(as_list: type) -> None:
    code = f"""
import json
import numpy as np
from elastic_ir.evaluate.fuse import fuse
runs = [{{"q": {{"x": 2.0, "y": 1.0}}}}, {{"p": {{"x": 1.0}}}}, {{"q": {{"y": 2.0, "x": 1.0}}}}]
weights = {"np.array" if as_list is np.array else as_list.__name__}([1.0, 0.1, 0.2])
(found, _) = fuse(runs, "wsum", "min-max", {{"weights": weights}})
print(json.dumps({{hit.doc_id: hit.score for hit in found.hits}}))
"""
    assert json.loads(without_compiling("-c", code)) == {"x": 1.0, "y": 0.2}


def test_weights_are_chosen_on_the_train_split(tmp_path: Path) -> None:
    good = {"q1": {"d": 2.0, "a": 1.0}, "q2": {"b": 2.0, "a": 1.0}}
    bad = {"q1": {"a": 2.0, "d": 1.0}, "q2": {"a": 2.0, "b": 1.0}}
    for name, run in (("bad", bad), ("good", good)):
        lines = [f"{q} Q0 {d} {r} {s} t\n" for q, hits in run.items() for r, (d, s) in enumerate(hits.items(), 1)]
        (tmp_path / f"{name}.trec").write_text("".join(lines))
    (tmp_path / "train.tsv").write_text("q1\td\t1\nq1\ta\t0\nq2\tb\t1\nelsewhere\ta\t1\n")
    files, output = [str(tmp_path / "bad.trec"), str(tmp_path / "good.trec")], tmp_path / "fused.trec"
    options = ["--method", "wsum", "--optimize", "--qrels", str(tmp_path / "train.tsv"), "-o", str(output)]
    said = without_compiling("-m", "elastic_ir.cli", "runs", "fuse", *files, *options)
    assert "2 queries by wsum" in said
    assert [next(iter(hits)) for hits in read_run(output).values()] == ["d", "b"]
    metadata = read_metadata(output)
    assert metadata["fusion"]["parameters"]["weights"][1] > 0.5
    assert metadata["fusion"]["optimized"]["measure"] == "ndcg@10"
    assert [run["path"] for run in metadata["runs"]] == files


def test_the_tables_name_what_ranx_has() -> None:
    from ranx.fusion import fusion_switch
    from ranx.fusion_optimization import optimization_switch
    from ranx.normalization import norm_switch

    for name, method in METHODS.items():
        assert callable(fusion_switch(name))
        if method.parameters or method.optional:
            assert callable(optimization_switch(name))
        else:
            with pytest.raises(ValueError, match="not support"):
                optimization_switch(name)
    assert all(callable(norm_switch(name)) for name in NORMS.values() if name)


@pytest.mark.parametrize(
    ("method", "norm", "parameters", "message"),
    [
        ("wsumm", "min-max", {}, "unknown fusion method 'wsumm'; did you mean 'wsum'"),
        ("sum", "minmax", {}, "unknown normalisation 'minmax'; did you mean 'min-max'"),
        ("wsum", "min-max", {}, "needs 'weights'; --optimize --qrels TRAIN chooses it, or give weights"),
        ("posfuse", "min-max", {}, "needs 'probs'; --optimize --qrels TRAIN chooses it$"),
        ("wsum", "min-max", {"weights": [1.0]}, "found 1 weights for 2 runs"),
        ("sum", "min-max", {"weights": [1.0, 2.0]}, "takes no 'weights'; it takes no parameters"),
        ("rrf", "min-max", {"k": "many"}, "k is 'many'"),
        ("rrf", "min-max", {"k": -1}, "k is -1; wanted a whole number from 0 on"),
        ("rrf", "min-max", {"k": float("nan")}, "k is nan; wanted a number"),
        ("wsum", "min-max", {"weights": 0.5}, "weights is 0.5; wanted a list"),
        ("wsum", "min-max", {"weights": ["a", "b"]}, "weights has 'a'; wanted finite numbers"),
        ("wsum", "min-max", {"weights": [float("nan"), 1.0]}, "weights has nan"),
        ("probfuse", "min-max", {"probs": [1, 2]}, "probs has 1; wanted lists of finite numbers"),
        ("rbc", "min-max", {"phi": 2}, "phi is 2; wanted a number between 0 and 1"),
    ],
)
def test_what_does_not_fit_is_refused(method: str, norm: str, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fuse([ONE, TWO], method, norm, parameters)


def test_a_run_may_be_replaced_by_what_is_made_of_it(tmp_path: Path) -> None:
    one, two = tmp_path / "one.trec", tmp_path / "two.trec"
    one.write_text("q1 Q0 a 1 2 t\n")
    two.write_text("q1 Q0 b 1 2 t\n")
    before = hashlib.sha256(one.read_bytes()).hexdigest()
    made_of = write_fused([one, two], one, tag="t")["runs"]
    assert made_of[0]["sha256"] == before != hashlib.sha256(one.read_bytes()).hexdigest()


def test_choosing_needs_parameters_and_judged_queries() -> None:
    with pytest.raises(InputError, match="found 1 run to fuse"):
        fuse([ONE])
    with pytest.raises(InputError, match="no parameters to choose; these have: rrf"):
        optimize([ONE, TWO], {"q1": {"a": 1}}, "sum")
    for measure in ("judged@10", "bpref"):
        with pytest.raises(InputError, match=f"cannot be chosen by {measure}"):
            optimize([ONE, TWO], {"q1": {"a": 1}}, "wsum", measure=measure)
    with pytest.raises(InputError, match="no query has a relevant document"):
        optimize([ONE, TWO], {"q9": {"a": 1}}, "wsum")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--optimize"], "--optimize needs judgements"),
        (["--qrels", "x.tsv"], "together with --optimize"),
        (["--weights", "a,b"], "wanted e.g. --weights 0.3,0.7"),
        (["--param", "k"], "parameter k cannot be read from ''; wanted e.g. --weights 0.3,0.7 and --param k=60"),
        (["--optimize", "--qrels", "x.tsv", "--weights", "0.3,0.7"], "wanted one of the two"),
        (["--tag", "my tag"], "tag 'my tag'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path: Path, options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["runs", "fuse", "a.trec", "b.trec", "-o", str(tmp_path / "x.trec"), *options])
    assert message in str(result.exception)
