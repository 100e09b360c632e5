"""The classifier's objective: fine-tuning on labels, then every sub-network answers as the fine-tuned teacher does."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from random import Random
from typing import NamedTuple

import torch
from torch import Tensor

from elastic_ir.classify.classifier import ClassifierSettings, sequences_of
from elastic_ir.elastic import ElasticConfig, ElasticScorer, TokenBatch, load_checkpoint
from elastic_ir.elastic.checkpoint import Checkpoint
from elastic_ir.elastic.importance import measure, reorder
from elastic_ir.errors import ConfigError
from elastic_ir.subnet import Subnet
from elastic_ir.train.data import batches_of_alike, read_examples, sentences
from elastic_ir.train.losses import answer_loss, label_loss
from elastic_ir.train.near import NearWords
from elastic_ir.train.recipe import Recipe
from elastic_ir.train.sampling import subnets
from elastic_ir.train.student import (
    check_shape,
    full_only,
    hidden_states,
    last,
    load_start,
    start_own,
    states_loss,
    taught_by,
    with_own,
)

_OWN = "own", "own_layers", "own_last"
_MOVED = 0.5
"""Share of its weights' norm by which fine-tuning may move a layer; other models differ by more than all of it."""


class LabelledBatch(NamedTuple):
    """Texts or pairs, and their labels ``[B]``: int64 numbers of labels, or float32 of a regression.

    ``known`` ``[B]`` bool: whose label is known; the words of the others were changed.
    """

    tokens: TokenBatch
    labels: Tensor
    known: Tensor


class ClassifierObjective:
    """Of a plain encoder as teacher: the label loss of the full model, which gets a new head.

    Of a fine-tuned classifier: KL to its answers (squared error of a regression), its hidden states, and the labels.
    Where the recipe has a ``start``, the elastic encoder that the teacher was fine-tuned from, what its smaller subnets
    have to themselves is taken over: fine-tuning moves the shared weights so little that they still fit.

    Source: DynaBERT (arXiv:2004.04037), On Elastic Language Models (arXiv:2311.07204).
    """

    def __init__(self, recipe: Recipe, teacher: Checkpoint) -> None:
        self.recipe, self.tokens = recipe, teacher.tokens
        self._outputs = max(1, len(recipe.labels))
        self._taught = bool(teacher.config.exits)
        if self._taught and teacher.config.outputs != self._outputs:
            raise ConfigError(
                f"teacher {teacher.name} has {teacher.config.outputs} outputs, the recipe {len(recipe.labels)} labels; "
                "wanted a teacher fine-tuned on the same task"
            )
        known = list((teacher.config.classifier or {}).get("labels") or ())
        if self._taught and teacher.native and known != list(recipe.labels):
            raise ConfigError(f"teacher {teacher.name} knows the labels {known}, the recipe {list(recipe.labels)}")
        start = None if recipe.start is None else self._checked_start(recipe.start, teacher)
        source = full_only(teacher, recipe.first_layers)
        full, named = source.config.full, subnets(recipe.sampling, source.config)
        if not self._taught and named != [full]:
            raise ConfigError(
                f"teacher {teacher.name} is an encoder, from which the full model is fine-tuned first; wanted "
                f"`sampling: {{strategy: fixed, subnets: [{full}]}}`, or a fine-tuned classifier as teacher"
            )
        examples = read_examples(recipe.examples, recipe.labels)
        length = min(recipe.max_tokens, source.config.max_positions)
        self._sequences, self._firsts = sequences_of(self.tokens, *sentences(examples), length)
        kind = torch.int64 if recipe.labels else torch.float32
        self._labels = torch.tensor([one.label for one in examples]).to(kind)
        self._planned: tuple[int, list[list[int]]] = -1, []
        settings = ClassifierSettings(labels=recipe.labels, max_length=recipe.max_tokens).model_dump()
        shape = {"outputs": self._outputs, "classifier": settings, "exits": (full.depth,)}
        whole = source.config.model_copy(update=shape)
        config = whole.model_copy(update={"exits": tuple(sorted({subnet.depth for subnet in named}))})
        state = source.state if self._taught else {f"encoder.{name}": t for name, t in source.state.items()}
        if start is not None:
            config = config.model_copy(update={key: getattr(start.config, key) for key in _OWN})
            state = {f"encoder.{name}": t for name, t in start.state.items()} | state
        self._in_order = start is not None and len(start.config.trained) > 1
        self.student, self.teacher = ElasticScorer(with_own(config, recipe)), ElasticScorer(whole)
        state = state | self._heads(state, config)
        self._missing = load_start(self.student, source._replace(state=state))
        self.teacher.load_state_dict(state, strict=False)
        self.teacher.requires_grad_(False)

    def _checked_start(self, name: str, teacher: Checkpoint) -> Checkpoint:
        start = load_checkpoint(name)
        if not self._taught or start.config.exits:
            raise ConfigError(
                f"start {name}: wanted the elastic encoder that the teacher, a classifier, was fine-tuned from; "
                "fine-tuning itself starts from the teacher"
            )
        check_shape(start, teacher)
        first = "layers.0.qkv"
        before, after = start.state[first], teacher.state[f"encoder.{first}"]
        if torch.dist(before, after) > _MOVED * before.norm():
            raise ConfigError(f"teacher {teacher.name} was not fine-tuned from the start {name}: their weights differ")
        return start

    def _heads(self, state: dict[str, Tensor], config: ElasticConfig) -> dict[str, Tensor]:
        """A head for every exit: copies of the teacher's, or new."""
        full, size = config.num_layers, config.hidden_size
        random = torch.Generator().manual_seed(self.recipe.seed)
        new = {
            "pooler.weight": 0.02 * torch.randn(size, size, generator=random), "pooler.bias": torch.zeros(size),
            "score.weight": 0.02 * torch.randn(self._outputs, size, generator=random),
            "score.bias": torch.zeros(self._outputs),
        }  # fmt: skip
        return {
            f"heads.{depth}.{part}": state.get(f"heads.{full}.{part}", tensor).clone()
            for depth in config.exits
            for part, tensor in new.items()
        }

    def prepare(self) -> None:
        """Sort the heads and neurons of a taught student by their influence on the likeliest answer.

        Those of a ``start`` are in order.
        """
        if self._taught and not self._in_order:
            head = self.student.heads[str(self.student.config.num_layers)]
            batches = [self.batch(step).tokens for step in range(self.recipe.importance_batches)]
            reorder(
                self.student.encoder,
                measure(self.student.encoder, batches, [lambda hidden: _likeliest(head(hidden))] * len(batches)),
            )
        start_own(self.student.encoder, self._missing)

    def batch(self, step: int) -> LabelledBatch:
        """The examples of ``step``: alike in length, each used once before any is used again."""
        size = self.recipe.batch
        epoch, position = divmod(step, -(-len(self._sequences) // size))
        if epoch != self._planned[0]:
            lengths = [len(sequence) for sequence in self._sequences]
            self._planned = epoch, batches_of_alike(lengths, size, Random(f"{self.recipe.seed}:{epoch}"))
        rows = self._planned[1][position]
        sequences, random = [self._sequences[row] for row in rows], Random(f"{self.recipe.seed}:changed:{step}")
        changed = [self._taught and random.random() < self.recipe.changed for _ in rows]
        if any(changed):
            varied = zip(sequences, changed, strict=True)
            sequences = [self._near.varied(found, random) if change else found for found, change in varied]
        tokens = self.tokens.pad(sequences, [self._firsts[row] for row in rows])
        return LabelledBatch(tokens, self._labels[rows], ~torch.tensor(changed))

    @cached_property
    def _near(self) -> NearWords:
        special = {self.tokens.cls_id, self.tokens.sep_id, self.tokens.pad_id}
        used = {token for sequence in self._sequences for token in sequence} - special
        return NearWords(self.teacher.encoder.words.weight, sorted(used))

    def losses(self, batch: LabelledBatch, subnets: list[Subnet]) -> Iterator[tuple[Subnet, Tensor]]:
        """The loss of each subnet, largest first."""
        recipe, tokens, full = self.recipe, batch.tokens, self.student.config.full
        if not self._taught:
            yield full, label_loss(self.student(tokens, full).float(), batch.labels, batch.known)
            return
        wanted, answers = taught_by(self.teacher, tokens, recipe)
        for subnet in subnets:
            states = hidden_states(self.student.encoder, tokens, subnet, read=1)
            found = self.student.heads[str(subnet.depth)](last(states)).float()
            loss = answer_loss(found, answers, recipe.temperature)
            if recipe.label_loss:
                loss = loss + recipe.label_loss * label_loss(found, batch.labels, batch.known)
            if weight := recipe.hidden_weight(subnet == full):
                loss = loss + weight * states_loss(states, wanted, tokens.lengths)
            yield subnet, loss


def _likeliest(answers: Tensor) -> Tensor:
    return answers if answers.dim() == 1 else answers.amax(-1)
