"""FLOPs and wall-clock of every sub-network of the denser, in one run: a batch of 32 x 128 tokens, and one short query.

Beside them the same full model as transformers' BertModel (for bf16 under torch.autocast, and with weights made bf16),
and the rate of a bare matrix product as the limit.

python benchmarks/speed.py [--threads 1] [--precision fp32]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from measured import store

from elastic_ir import ElasticDenser, Subnet
from elastic_ir.elastic import TokenBatch
from elastic_ir.elastic.precision import autocast

SHAPES = {"32 x 128 tokens": (32, 128), "1 x 16 tokens": (1, 16)}
WIDTHS, DEPTHS = (1.0, 0.75, 0.5, 0.25), (12, 6, 4, 2)
PLAIN = "transformers BertModel"


def times(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each call; the calls take turns, so that none has the machine at its best alone."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if number:
                found[name].append(time.perf_counter() - started)
    return {name: median(values) for name, values in found.items()}


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="elastic-denser-small")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "int8"])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    denser = ElasticDenser.from_pretrained(arguments.model)
    config, half = denser.config, arguments.precision == "bf16"
    plain = {"fp32": denser.extract()} if not half else {"autocast": denser.extract(), "bf16 weights": denser.extract()}
    if half:
        plain["bf16 weights"].to(torch.bfloat16)
    subnets = [Subnet(width, depth) for depth in DEPTHS for width in WIDTHS]
    lines, figures = [], {}
    number = torch.bfloat16 if half else torch.float32
    a, b = torch.randn(4096, 1024).to(number), torch.randn(1024, 1024).to(number)
    for shape, (rows, length) in SHAPES.items():
        batch = TokenBatch(torch.randint(1000, 20000, (rows, length)), torch.full((rows,), length))

        def encode(subnet: Subnet, batch: TokenBatch = batch) -> object:
            with torch.inference_mode(), autocast(torch.device("cpu"), arguments.precision):
                return denser.model(batch, subnet, positions=1)

        def whole(kind: str, batch: TokenBatch = batch) -> object:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, kind == "autocast"):
                return plain[kind](input_ids=batch.input_ids)

        calls: dict[str, Callable[[], object]] = {str(subnet): partial(encode, subnet) for subnet in subnets}
        calls |= {f"{PLAIN}, full, {kind}": partial(whole, kind) for kind in plain}
        calls["matrix product"] = lambda: a @ b
        seconds = times(calls, arguments.rounds)
        full, limit = seconds[str(config.full)], 2 * a.numel() * b.shape[1] / seconds["matrix product"]
        whole_flops = config.flops(config.full, rows * length, length, 1)
        lines += [
            f"\n{shape}, {arguments.precision}, {arguments.threads} threads:\n",
            "| subnet | FLOPs of full | time of full | time ratio / FLOP ratio | ms | of a product's rate |",
            "|---|---|---|---|---|---|",
        ]
        for subnet in subnets:
            flops = config.flops(subnet, rows * length, length, 1)
            took = seconds[str(subnet)]
            shares = flops / whole_flops, took / full
            figures[f"{shape} {subnet}"] = {"flops": shares[0], "time": shares[1], "ms": 1000 * took}
            lines.append(
                f"| {subnet} | {shares[0]:.3f} | {shares[1]:.3f} | {shares[1] / shares[0]:.2f} | {1000 * took:.1f} "
                f"| {flops / took / limit:.2f} |"
            )
        for label in (label for label in calls if label.startswith(PLAIN)):
            figures[f"{shape} {label}"] = {"time": seconds[label] / full, "ms": 1000 * seconds[label]}
            lines.append(f"| {label} | | {seconds[label] / full:.3f} | | {1000 * seconds[label]:.1f} | |")
    command = f"python benchmarks/speed.py --threads {arguments.threads} --precision {arguments.precision}"
    command += f" --model {arguments.model}" if arguments.model != parser.get_default("model") else ""
    name = "speed" if arguments.precision == "fp32" else f"speed-{arguments.precision}"
    store(name, command, {"figures": figures}, "\n".join(lines).strip())


if __name__ == "__main__":
    main()
