"""The trainer: one loop for all objectives, seeded, resumable, logged."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from elastic_ir.durable import whole, writer_lock
from elastic_ir.elastic import ElasticLM, ElasticScorer, Tokens, load_checkpoint, save_checkpoint
from elastic_ir.elastic.checkpoint import Checkpoint
from elastic_ir.elastic.int8 import int8_is_available
from elastic_ir.elastic.precision import bf16_is_native
from elastic_ir.errors import ConfigError, ModelError
from elastic_ir.subnet import Subnet
from elastic_ir.train.classifier import ClassifierObjective
from elastic_ir.train.curves import draw
from elastic_ir.train.denser import DenserObjective
from elastic_ir.train.ranker import RankerObjective
from elastic_ir.train.recipe import Recipe, identity, same_recipe
from elastic_ir.train.relation import RelationObjective
from elastic_ir.train.sampling import strategy
from elastic_ir.train.student import own_names

logger = logging.getLogger(__name__)

STATE, LOG, CURVES = "state.safetensors", "log.jsonl", "losses.png"


class Objective(Protocol):
    """What differs between recipes."""

    @property
    def student(self) -> ElasticLM | ElasticScorer:
        """What learns."""

    @property
    def teacher(self) -> nn.Module:
        """What it learns from; the trainer moves it to where it will compute."""

    @property
    def tokens(self) -> Tokens:
        """Of both."""

    def prepare(self) -> None:
        """Bring the student's heads and neurons in order; not called where a run is resumed."""

    def batch(self, step: int) -> Any:
        """What is learned from in the zero-based ``step``: a tuple of tensors, the same whenever it is asked for."""

    def losses(self, batch: Any, subnets: list[Subnet]) -> Iterator[tuple[Subnet, Tensor]]:
        """The loss of each of ``subnets``, a scalar, largest subnet first; each is propagated back before the next."""


OBJECTIVES: dict[str, Callable[[Recipe, Checkpoint], Objective]] = {
    "encoder": RelationObjective,
    "denser": DenserObjective,
    "ranker": RankerObjective,
    "classifier": ClassifierObjective,
}

Report = Callable[[int, dict[str, float]], None]
"""Called after each step with the number of steps done and the loss of each subnet."""


def train(recipe: Recipe, report: Report | None = None) -> Path:
    """Run ``recipe`` to its end, continuing where an earlier run stopped.

    Returns:
        The folder of the finished checkpoint, ``<output>/checkpoint``.

    Raises:
        ConfigError: if the recipe cannot be run here, or a loss is not finite.
        ModelError: if the teacher cannot be read.
        IndexLockedError: if another process trains in ``output``.
    """
    recipe = _for_this_machine(recipe)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    before = torch.get_float32_matmul_precision()
    if recipe.device == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cuda.enable_cudnn_sdp(False)  # plans anew for every shape of a batch
    try:
        with writer_lock(Path(recipe.output), "run"):
            run = _Run(recipe)
            for step in range(run.step, recipe.steps):
                losses = run.advance(step)
                if report is not None:
                    report(step + 1, losses)
            return run.finish()
    finally:
        torch.set_float32_matmul_precision(before)


class _Run:
    """Student, optimiser and moving average, saved together."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.output = recipe, Path(recipe.output)
        self.objective = OBJECTIVES[recipe.kind](recipe, load_checkpoint(recipe.teacher))
        self.sample = strategy(recipe.sampling, self.objective.student.config, recipe.seed)
        self.step = 0
        state = self._read_state()
        student = self.objective.student.to(recipe.device)
        if state is None:
            self.objective.prepare()
        self.objective.teacher.to(recipe.device, self._half)
        for name in recipe.keep:
            for used in student.used_by(student.config.resolve(Subnet.parse(name))):
                student.get_parameter(used).requires_grad_(False)
        if not recipe.learn_words:
            encoder = student.encoder if isinstance(student, ElasticScorer) else student
            encoder.words.weight.requires_grad_(False)
        self.weights = dict(student.named_parameters())
        self.parameters = {name: p for name, p in self.weights.items() if p.requires_grad}
        self._check_learners()
        self.optimizer = torch.optim.AdamW(self._groups(), betas=(0.9, 0.98), fused=True)
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        self._next: tuple[int, Any] = -1, None
        if state is not None:
            self._restore(state)

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters by peak learning rate and weight decay, which is for matrices only."""
        recipe, own = self.recipe, own_names(self.objective.student)
        groups: dict[tuple[float, float], list[Tensor]] = {}
        for name, p in self.parameters.items():
            peak = recipe.own_learning_rate if name in own else None
            decay = recipe.weight_decay if p.dim() > 1 else 0.0
            groups.setdefault((peak or recipe.learning_rate, decay), []).append(p)
        return [
            {"params": found, "lr": peak, "peak": peak, "weight_decay": decay}
            for (peak, decay), found in groups.items()
        ]

    @property
    def _half(self) -> torch.dtype:
        return torch.bfloat16 if self.recipe.precision == "bf16" else torch.float32

    def _check_learners(self) -> None:
        """Refuse a recipe whose subnets would have nothing to learn with."""
        learning = {str(subnet) for step in range(100) for subnet in self.sample(step)}
        if not learning:
            raise ConfigError("no subnet learns: `full_every: 0` leaves out the full one, and sampling names no other")
        for name in sorted(learning):
            if not self.objective.student.used_by(Subnet.parse(name)) & set(self.parameters):
                raise ConfigError(f"subnet {name} has no parameter left to train: `keep` holds all that it uses")

    def advance(self, step: int) -> dict[str, float]:
        """One step over the sampled subnets; gradients add up before the weights move."""
        started = time.perf_counter()
        recipe, objective = self.recipe, self.objective
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * schedule(step, recipe.steps, recipe.warmup, recipe.cooldown)
        batch = _to(self._batch(step), torch.device(recipe.device))
        found: dict[str, Tensor] = {}
        with torch.autocast(recipe.device, dtype=torch.bfloat16, enabled=recipe.precision == "bf16"):
            for subnet, loss in objective.losses(batch, self.sample(step)):
                torch.autograd.backward(loss)
                found[str(subnet)] = loss.detach()
        nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        decay = min(recipe.average, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_([*self.average.values()], [*self.parameters.values()], 1 - decay)
        if recipe.device != "cpu" and step + 1 < recipe.steps:
            self._next = step + 1, objective.batch(step + 1)  # while the GPU works
        losses = {name: loss.item() for name, loss in found.items()}
        if not all(map(math.isfinite, losses.values())):  # nothing of this step is saved
            raise ConfigError(f"step {step}: loss is not finite ({losses}); lower learning_rate")
        self.step = step + 1
        self._log(losses, time.perf_counter() - started)
        if self.step % recipe.save_every == 0 or self.step == recipe.steps:
            self._save_state()
            draw(self.output / LOG, self.output / CURVES)
        return losses

    def _batch(self, step: int) -> Any:
        made, batch = self._next
        return batch if made == step else self.objective.batch(step)

    def finish(self) -> Path:
        """Write the checkpoint of the averaged weights."""
        folder = self.output / "checkpoint"
        trained = {str(subnet) for step in range(self.recipe.steps) for subnet in self.sample(step)}
        trained |= {*self.recipe.keep}
        config = self.objective.student.config.model_copy(update={"trained": tuple(sorted(trained, reverse=True))})
        weights = {name: p.detach() for name, p in self.weights.items()} | self.average
        save_checkpoint(folder, config, weights, self.objective.tokens)
        return folder

    def _log(self, losses: dict[str, float], seconds: float) -> None:
        with (self.output / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps({"step": self.step, "seconds": round(seconds, 3), "losses": losses}) + "\n")

    def _save_state(self) -> None:
        from safetensors.torch import save_file

        tensors = {f"weights.{name}": p.detach() for name, p in self.weights.items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.items()}
        for name, p in self.parameters.items():
            if p in self.optimizer.state:  # not before its first gradient
                tensors |= {f"{key}.{name}": value for key, value in self.optimizer.state[p].items()}
        metadata = {"step": str(self.step), "recipe": json.dumps(identity(self.recipe))}
        with whole(self.output / STATE) as part:
            save_file({name: t.contiguous() for name, t in tensors.items()}, part, metadata=metadata)

    def _read_state(self) -> dict[str, Tensor] | None:
        from safetensors import safe_open

        path = self.output / STATE
        if not path.is_file():
            self._cut_log()
            return None
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            self.step = int(metadata["step"])
        except Exception as exc:
            raise ModelError(f"training state {path} is damaged ({exc}); remove it to start anew") from exc
        if "recipe" in metadata and not same_recipe(json.loads(metadata["recipe"]), identity(self.recipe)):
            raise ConfigError(f"{path} was made by another recipe; remove it to start anew, or choose another output")
        self._cut_log()
        return state

    def _cut_log(self) -> None:
        """Drop the lines of steps that were done but not saved; they will be done again."""
        log = self.output / LOG
        lines = log.read_text("utf-8").splitlines(keepends=True) if log.is_file() else []
        kept = [line for line in lines if line.endswith("\n") and _step(line) <= self.step]
        if len(kept) < len(lines):
            with whole(log) as part:
                part.write_text("".join(kept), "utf-8")

    def _restore(self, state: dict[str, Tensor]) -> None:
        logger.info("resuming %s at step %d", self.output, self.step)
        with torch.no_grad():
            for name, p in self.weights.items():
                p.copy_(state[f"weights.{name}"])
            for name, p in self.parameters.items():
                self.average[name].copy_(state[f"average.{name}"])
                if f"exp_avg.{name}" in state:
                    kept = {key: state[f"{key}.{name}"].to(p.device) for key in ("step", "exp_avg", "exp_avg_sq")}
                    self.optimizer.state[p] = kept
                    p.grad = torch.zeros_like(p)  # without one the optimiser would pass it over


def _for_this_machine(recipe: Recipe) -> Recipe:
    """``recipe`` with the device and the number formats that it means here."""
    cuda = torch.cuda.is_available()
    if recipe.device == "cuda" and not cuda:
        raise ConfigError("device cuda is not available on this machine; use device: auto or cpu")
    device = ("cuda" if cuda else "cpu") if recipe.device == "auto" else recipe.device
    fast = device == "cuda" or bf16_is_native()
    precision = ("bf16" if fast else "fp32") if recipe.precision == "auto" else recipe.precision
    int8 = recipe.teacher_int8 and device == "cpu" and precision == "fp32" and int8_is_available()
    return recipe.model_copy(update={"device": device, "precision": precision, "teacher_int8": int8})


def schedule(step: int, steps: int, warmup: int, cooldown: int) -> float:
    """Share of the peak learning rate at ``step``: linear rise, plateau, linear fall."""
    rise = (step + 1) / (warmup + 1)
    fall = (steps - step) / (cooldown + 1)
    return min(1.0, rise, fall)


def _step(line: str) -> float:
    """Of a line of the log; infinite where the line is damaged."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return float("inf")


def _to(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_to(item, device) for item in batch))
    return batch
