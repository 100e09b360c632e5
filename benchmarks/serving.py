"""The service under load, measured: real server on one core, generator on another.

Every row starts a server of its own, with one thread, on core 0; this process stays on core 1. What was measured is
kept in runs/serving and not measured again; the table is made of what is there.

elastic-ir sweep pipelines/elastic.yaml --dataset scifact --split train --threads 1 --slo-ms 250 --output chosen.json
taskset -c 0 elastic-ir profile pipelines/elastic.yaml --dataset msmarco-dl19-mini --threads 1 --ladder chosen.json
    --output profile.json --retimed ladder.json
python benchmarks/serving.py --ladder ladder.json [--slo-ms 250] [--only "4 C"]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import torch
import yaml
from measured import RESULTS, data_folder, store
from quality import PIPELINES, index_of

from elastic_ir.datasets import load as read_dataset
from elastic_ir.loadtest import Loaded, due_times, load
from elastic_ir.pipeline import Pipeline
from elastic_ir.schedule import Admission, DrainRule, Ladder
from elastic_ir.schedule.ladderfile import read_ladder
from elastic_ir.schedule.picture import draw
from elastic_ir.schedule.simulate import capacity, simulate

COLLECTION = "msmarco-dl19-mini"
SERVER_CORE, OWN_CORE = 0, 1
Figures = dict[str, Any]


class Server(NamedTuple):
    """A running service."""

    url: str
    process: subprocess.Popen[str]

    @property
    def memory_mb(self) -> float:
        """Resident memory, without the child process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024

    def metric(self, name: str) -> float:
        """One sample of ``/metrics``, with its labels as written there; 0 where there is none."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", httpx.get(f"{self.url}/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def children(self) -> list[int]:
        """Processes that it started."""
        listed = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(child) for path in listed for child in path.read_text().split()]


class Bench:
    """What all rows share: ladder, capacity, questions, and how a server is started."""

    def __init__(self, ladder: Path, slo_ms: float | None, seconds: float) -> None:
        self.path, self.seconds = ladder, seconds
        self.ladder: Ladder = read_ladder(ladder).ladder(slo_ms)
        self.slo_ms = 1000 * self.ladder.slo_s
        self.full = str(self.ladder.rungs[0].level)
        self.c = capacity(self.ladder)
        folder = str(data_folder() / "collections" / COLLECTION)
        self.queries = [query.text for query in read_dataset(folder).queries()]
        self.index = index_of(folder)

    @contextmanager
    def server(self, mode: str = "enforce", pipeline: Path = PIPELINES / "elastic.yaml") -> Iterator[Server]:
        """A server of its own, warm."""
        command = [
            sys.executable, "-m", "elastic_ir.cli", "serve", str(pipeline), "--index", str(self.index),
            "--ladder", str(self.path), "--slo-ms", f"{self.slo_ms:g}", "--port", "0", "--mode", mode, "--threads", "1",
        ]  # fmt: skip
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
        )  # fmt: skip
        assert process.stdout is not None
        try:
            lines = iter(process.stdout.readline, "")
            url = next((line.split()[0] for line in lines if line.startswith("http://")), None)
            if url is None:
                raise SystemExit(f"the server did not start: {' '.join(command)}")
            yield Server(url, process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            process.stdout.close()

    @cached_property
    def cheapest_c(self) -> float:
        """The highest Poisson rate at which the server, fixed to its cheapest level, keeps 99% within the SLO."""
        cheapest = self.ladder.rungs[-1]
        low, high = 0.0, cheapest.rate
        with self.server(f"fixed:{cheapest.level}") as server:
            self.load(server, f"poisson:{high / 4}", 5.0)
            while high - low > max(1.0, 0.05 * high):
                rate = (low + high) / 2
                kept = self.load(server, f"poisson:{rate}", 10.0).summary()["in_slo"]
                low, high = (rate, high) if kept >= 0.99 else (low, rate)
                time.sleep(1)
        return low

    def load(self, server: Server, form: str, seconds: float | None = None, **options: Any) -> Loaded:
        """A run of the generator."""
        return load(server.url, form, self.queries, seconds=seconds or self.seconds, **options)


def half(bench: Bench) -> Figures:
    """0.5 C: all in time, none refused."""
    with bench.server() as server:
        return bench.load(server, f"poisson:{0.5 * bench.c}").summary()


def four(bench: Bench) -> Figures:
    """4 C: it bends; beside it what the simulator says of the same arrivals."""
    form = f"poisson:{4 * bench.c}"
    with bench.server() as server:
        found = bench.load(server, form)
        http = {"http_ms": 1000 * server.metric("elastic_ir_http_request_seconds")}
    return found.summary() | http | beside_simulated(bench, found, form, bench.seconds, "4 C")


def four_fixed(bench: Bench) -> Figures:
    """4 C: the same server at its full level."""
    with bench.server(f"fixed:{bench.full}") as server:
        return bench.load(server, f"poisson:{4 * bench.c}").summary()


def step(bench: Bench) -> Figures:
    """0.5 C, 8 C, 0.5 C: seconds after the drop until the full level answers again."""
    part = bench.seconds / 3
    form = f"step:{0.5 * bench.c}:{8 * bench.c}:{part:g}"
    with bench.server() as server:
        found = bench.load(server, form)
    after = [one for one in found.sent if one.due >= 2 * part]
    back = next((one.due - 2 * part for one in after if one.level == bench.full), float("inf"))
    first, last = (
        [one.level == bench.full for one in found.sent if start <= one.due < start + part - 5]
        for start in (0.0, 2 * part + 5)
    )
    shares = {"full_before": sum(first) / len(first), "full_from_5_s_after": sum(last) / len(last)}
    return found.summary() | {"back_s": back} | shares | beside_simulated(bench, found, form, bench.seconds, "step")


def flood(bench: Bench) -> Figures:
    """Twice what the cheapest level can: goodput, refusals, memory."""
    most = bench.cheapest_c
    with bench.server() as server:
        bench.load(server, f"poisson:{most}", 5.0)
        before = server.memory_mb
        found = bench.load(server, f"poisson:{2 * most}").summary()
        grown = server.memory_mb - before
    return found | {"capacity": most, "goodput_share": found["goodput"] / most, "memory_growth_mb": grown}


def hang_up(bench: Bench, flooded: bool = False) -> Figures:
    """4 C, or twice what the cheapest level can, with 30% of the clients gone after 50 ms: how many were not scored."""
    rate = 2 * bench.cheapest_c if flooded else 4 * bench.c
    with bench.server() as server:
        found = bench.load(server, f"poisson:{rate}", hang_up=(0.3, 0.05)).summary()
        time.sleep(1)
        names = [f'elastic_ir_answered_total{{level="{rung.level}"}}' for rung in bench.ladder.rungs]
        names.append('elastic_ir_shed_total{reason="unfinished"}')
        scored = sum(map(server.metric, names)) - found["statuses"]["200"]
    gone = found["statuses"].get("hung up", 0)
    return found | {"hung_up": gone, "never_scored": 1 - scored / max(1, gone)}


def lucene_killed(bench: Bench) -> Figures:
    """0.5 C while the Lucene child dies every 5 s: dense requests, and how soon BM25 answers again."""
    killed: list[float] = []
    back: list[float] = []
    ended = threading.Event()

    def kill(server: Server) -> None:
        while not ended.wait(5.0):
            for child in server.children():
                os.kill(child, signal.SIGKILL)
            killed.append(time.monotonic())
            while not ended.is_set():
                answer = httpx.post(
                    f"{server.url}/v1/search",
                    json={"query": "what is a river", "level": "bm25", "deadline_ms": 5000}, timeout=30,
                )  # fmt: skip
                if answer.status_code == 200 and answer.json()["level"] == "bm25":
                    back.append(time.monotonic() - killed[-1])
                    break
                time.sleep(0.05)

    with bench.server() as server:
        killer = threading.Thread(target=kill, args=(server,))
        killer.start()
        found = bench.load(server, f"poisson:{0.5 * bench.c}", 60.0).summary()
        ended.set()
        killer.join()
    failed = sum(count for status, count in found["statuses"].items() if status != "200")
    return found | {"kills": len(killed), "failed_dense": failed, "bm25_back_s": max(back, default=float("inf"))}


def as_offline(bench: Bench) -> Figures:
    """Forced levels beside 1 C against the pipeline alone, in fp32."""
    settings = yaml.safe_load((PIPELINES / "elastic.yaml").read_text()) | {"precision": "fp32"}
    config = Path("runs/serving/fp32.yaml")
    config.write_text(yaml.safe_dump(settings))
    found: dict[str, list[tuple[list[str], list[float]]]] = {}
    levels = [str(rung.level) for rung in bench.ladder.rungs]
    with bench.server(pipeline=config) as server:
        ended, crowded = threading.Event(), 0

        def crowd() -> None:
            nonlocal crowded
            while not ended.is_set():
                crowded += len(bench.load(server, f"poisson:{bench.c}", 10.0).sent)

        beside = threading.Thread(target=crowd)
        beside.start()
        for level in levels:
            answers = [_asked(server, query, level) for query in bench.queries]
            found[level] = [([h["doc_id"] for h in hits], [h["score"] for h in hits]) for hits in answers]
        ended.set()
        beside.join()
    worst, other = 0.0, 0
    torch.set_num_threads(1)
    with Pipeline.from_config(config, index=bench.index) as pipeline:
        for level in levels:
            for query, (doc_ids, scores) in zip(bench.queries, found[level], strict=True):
                hits = pipeline.search(query, 10, level)
                other += doc_ids != [hit.doc_id for hit in hits]
                worst = max(worst, *(abs(a - hit.score) for a, hit in zip(scores, hits, strict=True)))
    return {"answers": len(levels) * len(bench.queries), "other_order": other, "worst_score": worst, "beside": crowded}


def _asked(server: Server, query: str, level: str) -> list[Figures]:
    """Hits of one forced level, however often the busy service must be asked."""
    while True:
        asked = {"query": query, "level": level, "deadline_ms": 60_000, "text": False}
        answer = httpx.post(f"{server.url}/v1/search", json=asked, timeout=60)
        if answer.status_code == 200:
            hits: list[Figures] = answer.json()["hits"]
            return hits
        time.sleep(0.2)


def beside_simulated(bench: Bench, found: Loaded, form: str, seconds: float, name: str) -> Figures:
    """The simulator's figures for the same arrivals, and both in one picture."""
    outcome = simulate(
        bench.ladder, DrainRule(bench.ladder), due_times(form, seconds, 0), admission=Admission(bench.ladder)
    )
    picture = RESULTS / f"serving-{name.replace(' ', '')}-{bench.slo_ms:.0f}ms.png"
    title = f"{name}, SLO {bench.slo_ms:.0f} ms: the service and its simulation"
    draw({"measured": found.outcome._replace(ladder=bench.ladder), "simulated": outcome}, title, picture)
    return {"simulated": {"in_slo": outcome.attainment, "quality": outcome.quality, "utility": outcome.utility}}


ROWS: dict[str, tuple[Callable[[Bench], Figures], Sequence[tuple[str, str]]]] = {
    "0.5 C": (half, [("in_slo", "{:.2%} in time"), ("statuses", "{}")]),
    "4 C": (four, [("in_slo", "{:.2%} in time"), ("quality", "quality {:.4f}"),
                     ("http_ms", "HTTP {:.2f} ms a request"), ("simulated", "simulated {}")]),
    "4 C, fixed full": (four_fixed, [("in_slo", "{:.2%} in time"), ("statuses", "{}")]),
    "step 0.5-8-0.5 C": (
        step,
        [("in_slo", "{:.2%} in time"), ("back_s", "full level {:.1f} s after the drop"),
         ("full_from_5_s_after", "{:.1%} of answers at full from 5 s after it")],
    ),
    "twice the cheapest": (
        flood,
        [("capacity", "that serves {:.0f} a second"), ("goodput_share", "goodput {:.1%} of it"),
         ("refusal_p99_ms", "refusals p99 {:.0f} ms"),
         ("memory_growth_mb", "memory {:+.0f} MB")],
    ),
    "30% hang up, 4 C": (hang_up, [("hung_up", "{:.0f} hung up"), ("never_scored", "{:.1%} never scored")]),
    "30% hang up, twice the cheapest": (
        partial(hang_up, flooded=True), [("hung_up", "{:.0f} hung up"), ("never_scored", "{:.1%} never scored")]
    ),
    "Lucene killed": (
        lucene_killed,
        [("kills", "{} kills"), ("failed_dense", "{} failed"), ("bm25_back_s", "BM25 back in {:.1f} s")],
    ),
    "forced levels, fp32": (
        as_offline,
        [("answers", "{} answers"), ("other_order", "{} in another order"), ("worst_score", "scores within {:.1e}"),
         ("beside", "beside {} others")],
    ),
}  # fmt: skip
"""Row -> (what measures it, what of it is shown)."""


def main() -> None:
    """Measure what is missing, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ladder", type=Path, required=True)
    parser.add_argument("--slo-ms", type=float, help="default: the ladder's")
    parser.add_argument("--seconds", type=float, default=120.0, help="of each row")
    parser.add_argument("--only", nargs="*", choices=list(ROWS), default=list(ROWS), metavar="ROW")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {OWN_CORE})
    bench = Bench(arguments.ladder, arguments.slo_ms, arguments.seconds)
    kept = Path("runs/serving") / f"{bench.slo_ms:.0f}ms.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, Figures] = json.loads(kept.read_text()) if kept.is_file() else {}
    if "twice the cheapest" in found:
        bench.cheapest_c = found["twice the cheapest"]["capacity"]
    for name in arguments.only:
        if name not in found:
            found[name] = ROWS[name][0](bench)
            kept.write_text(json.dumps(found, indent=1))
            print(name, found[name], flush=True)
    lines = [
        f"C = {bench.c:.2f} queries a second; SLO {bench.slo_ms:.0f} ms\n",
        "| load | measured | valid |",
        "|---|---|---|",
    ]
    for name, (_, shown) in ROWS.items():
        if name in found:
            cells = ", ".join(form.format(found[name][key]) for key, form in shown)
            lines.append(f"| {name} | {cells} | {found[name].get('valid', '-')} |")
    command = f"python benchmarks/serving.py --ladder LADDER --slo-ms {bench.slo_ms:g} --seconds {bench.seconds:g}"
    store(f"serving-{bench.slo_ms:.0f}ms", command, {"C": bench.c, "figures": found}, "\n".join(lines))


if __name__ == "__main__":
    main()
