"""``Recipe``: everything a training run depends on, read from YAML and checked before any work."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from elastic_ir.config import SubnetName, checked, read_yaml
from elastic_ir.dense import DenserSettings
from elastic_ir.errors import ConfigError


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _at_home(text: str) -> str:
    return str(Path(text).expanduser()) if text.startswith("~") else text


Place = Annotated[str, AfterValidator(_at_home)]
"""A folder, or the name of a model; ``~`` is the user's home."""


class TextSource(_Settings):
    """Texts for a denser: one field of a JSONL file (``.gz`` allowed).

    Attributes:
        role: ``query`` texts get the query prompt, ``document`` texts the document prompt.
        share: relative frequency of this source in a batch.
        span_words: (least, most) words of a random span taken from each text; None takes the whole text.
        limit: rows read; None reads all.
    """

    path: str
    field: str = "query"
    role: Literal["query", "document"] = "query"
    share: float = Field(default=1.0, gt=0)
    span_words: tuple[int, int] | None = None
    limit: int | None = Field(default=None, gt=0)

    @field_validator("span_words")
    @classmethod
    def _rising(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and not 1 <= value[0] <= value[1]:
            raise ValueError("wanted two word counts, the lesser one first, e.g. [5, 26]")
        return value


class TextStream(_Settings):
    """Texts of one kind for a denser, drawn once into a pool, and the steps they fill.

    Attributes:
        texts: the sources of the pool.
        pool: texts drawn from them by their shares; the teacher's vector of each is computed once and kept.
        batch: texts in a step.
        max_tokens: tokens kept of each text; the prompt and special tokens come on top.
        share: steps this stream fills, relative to the others.
        rows: how many of the batch's texts a subnet learns from in a step (0: none); a subnet that is not named
            learns from all. Small subnets are cheap: give them more.
        teach_states: the teacher runs in every step of this stream and teaches its hidden states as well as its
            vectors, which are then not kept: for texts used once. Both must read the same tokens, so no prompt differs.
        pairs: share of texts of which two parts, which may overlap, are read as ``[CLS] one [SEP] other [SEP]``, as
            classifiers and rerankers read two texts; of a denser, with ``teach_states`` only.
    """

    texts: tuple[TextSource, ...] = Field(min_length=1)
    pool: int = Field(default=200_000, gt=1)
    batch: int = Field(default=128, gt=1)
    max_tokens: int = Field(default=48, ge=8, le=510)
    share: int = Field(default=1, gt=0)
    rows: dict[SubnetName, Annotated[int, Field(ge=0)]] = {}
    teach_states: bool = False
    pairs: float = Field(default=0.0, ge=0, le=1)


class ListSource(_Settings):
    """Candidate lists for a ranker: JSONL lines ``{"query": str, "candidates": [str, ...]}``."""

    path: str
    limit: int | None = Field(default=None, gt=0)


class ExampleSource(_Settings):
    """Labelled examples for a classifier: JSONL lines ``{"sentence1": str, "sentence2": str, "label": label}``.

    ``sentence2`` is left out where there is one sentence; a label is its number or name, or any number of a regression.
    """

    path: str
    limit: int | None = Field(default=None, gt=0)


class Sampling(_Settings):
    """Which subnets learn in a step.

    Attributes:
        strategy: ``fixed`` takes ``subnets`` in every step, which measured best (``benchmarks/optimisers.py``); ``all``
            likewise but over the whole grid of ``widths`` x ``depths``; ``sandwich`` the largest, the smallest and
            ``random`` others of the grid.
        subnets: of ``fixed``; none means half of the layers at full and half width, a sixth at full and quarter width.
        full_every: the full subnet learns in every n-th step only; 0: never.
        taught_by: whose hidden states a smaller denser takes where the teacher does not run: those of the ``full``
            student, or of the ``nearest`` larger one of the same step.
    """

    strategy: Literal["fixed", "sandwich", "all"] = "fixed"
    subnets: tuple[SubnetName, ...] = ()
    widths: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25)
    depths: tuple[int, ...] = ()
    random: int = Field(default=2, ge=0)
    full_every: int = Field(default=1, ge=0)
    taught_by: Literal["full", "nearest"] = "full"


class LossWeights(_Settings):
    """Weights of the losses for the smaller sub-networks; None: as for the full one. A ranker has no cosine loss."""

    cosine_loss: float | None = Field(default=None, ge=0)
    hidden_loss: float | None = Field(default=None, ge=0)


class Recipe(_Settings):
    """One training run.

    Attributes:
        kind: ``encoder`` (task-agnostic), ``denser``, ``ranker`` or ``classifier``.
        teacher: checkpoint (bundled name, folder or hub id) that teaches.
        start: elastic checkpoint to go on from, its heads and neurons already in order; None starts from the teacher.
            Of a classifier: the encoder that its teacher was fine-tuned from, see ``ClassifierObjective``.
        output: folder of the run: state, log, curves and the finished checkpoint.
        teacher_cache: folder of the teacher's outputs, which runs may share; None keeps them in ``output``.
        streams: texts of an encoder or a denser.
        lists: a ranker's candidate lists.
        examples: a classifier's labelled texts.
        labels: a classifier's, in the order of their numbers; empty for a regression.
        first_layers: of an encoder as a classifier's teacher, keep the first ones only; None keeps all.
        batch: a ranker's candidate lists, or a classifier's examples, in a step.
        max_tokens: tokens kept of a ranker's query-candidate pair or a classifier's example, special tokens included.
        steps: steps in all; the learning rate rises over ``warmup``, holds, and falls to 0 over the last ``cooldown``.
        own_last: sub-networks of fewer layers end in a layer of their own (not with prefix exits).
        own_layers: subnets whose layers become their own, as narrow as they are (not with prefix exits).
        own_vectors: the smaller subnets have normalisation and biases of their own (not with prefix exits).
        own_learning_rate: peak rate of what the full one does not use; None: as for all. Layers of their own start far
            from what they must become, the shared ones near.
        keep: subnets that must compute what they do now: no parameter that they use is trained.
        learn_words: whether the vectors of the vocabulary are trained; a step is shorter where they stay.
        average: decay of the moving average of the weights that is saved; 0 saves the last weights.
        temperature: of the softmax over similarities (denser), a candidate list (ranker) or labels (classifier).
        bank: of a denser: teacher's vectors, drawn anew in each step, whose similarities to a text the student learns
            beside those of the batch; 0: those of the batch only.
        cosine_loss: weight of 1 - cosine to the teacher's vector in a denser's loss. Where a student cannot reach the
            vector it pulls it towards the mean of all, and the order of documents gets worse.
        hidden_loss: weight of the loss to the teacher's hidden states.
        label_loss: of a classifier that has a fine-tuned teacher: weight of the loss to the labels themselves.
        changed: of a classifier that has a fine-tuned teacher: share of texts in which some words are exchanged for
            near ones; the teacher answers for them, their labels are left out.
        smaller: weights of the cosine and hidden losses for all but the full model; what is not given is as for the
            full one.
        depth_rule: which layers a ranker's subnets run, see ``ElasticConfig``; ``prefix`` exits share one pass.
        cascade: sub-networks of a ranker's steps before the last, cheapest first, kept in its checkpoint; None: the
            shallowest exit.
        relation_heads: of an encoder's relations; must divide heads times head size of every subnet.
        exits: a ranker's exit depths.
        device: ``auto`` is a GPU where there is one.
        precision: ``auto`` is bf16 autocast on a GPU or where the processor multiplies it natively, else fp32.
        threads: torch threads; None leaves torch's choice.
        teacher_int8: the teacher of a ranker or classifier computes with 8-bit products where the student's are fp32
            and the processor has them.
        teacher_settings: a denser teacher's pooling and prompts, where its folder does not say.
        denser: settings of the student that differ from the teacher's, such as a shorter prompt.
    """

    kind: Literal["encoder", "denser", "ranker", "classifier"]
    teacher: Place
    start: Place | None = None
    output: Place
    teacher_cache: Place | None = None
    name: str = ""
    streams: tuple[TextStream, ...] = ()
    lists: tuple[ListSource, ...] = ()
    examples: tuple[ExampleSource, ...] = ()
    labels: tuple[str, ...] = ()
    first_layers: int | None = Field(default=None, gt=0)
    batch: int = Field(default=8, gt=0)
    max_tokens: int = Field(default=96, ge=8, le=512)
    steps: int = Field(gt=0)
    warmup: int = Field(default=50, ge=0)
    cooldown: int = Field(default=200, ge=0)
    learning_rate: float = Field(default=2e-4, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    average: float = Field(default=0.995, ge=0, lt=1)
    temperature: float = Field(default=0.05, gt=0)
    bank: int = Field(default=0, ge=0)
    cosine_loss: float = Field(default=10.0, ge=0)
    hidden_loss: float = Field(default=1.0, ge=0)
    label_loss: float = Field(default=0.0, ge=0)
    changed: float = Field(default=0.0, ge=0, le=1)
    smaller: LossWeights = LossWeights()
    own_last: bool = False
    own_layers: tuple[SubnetName, ...] = ()
    own_vectors: bool = False
    own_learning_rate: float | None = Field(default=None, gt=0)
    keep: tuple[SubnetName, ...] = ()
    learn_words: bool = True
    relation_heads: int = Field(default=12, gt=0)
    exits: tuple[int, ...] = ()
    depth_rule: Literal["prefix", "spaced"] = "prefix"
    cascade: tuple[SubnetName, ...] | None = None
    sampling: Sampling = Sampling()
    seed: int = Field(default=0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    threads: int | None = Field(default=None, gt=0)
    save_every: int = Field(default=50, gt=0)
    importance_batches: int = Field(default=4, gt=0)
    teacher_int8: bool = False
    teacher_settings: DenserSettings = DenserSettings()
    denser: DenserSettings = DenserSettings()

    def hidden_weight(self, is_full: bool) -> float:
        """Weight of the loss to hidden states, of the full model or of a smaller one."""
        smaller = self.smaller.hidden_loss
        return self.hidden_loss if is_full or smaller is None else smaller


_LENGTHS, _PLACES = {"steps", "cooldown", "save_every"}, {"output", "teacher_cache", "name"}
_MAY_CHANGE = _LENGTHS | _PLACES | {"threads", "device", "precision", "teacher_int8"}
_STAND_INS: dict[str, Any] = {"teacher": "", "output": "", "steps": 1}
"""For what a recipe must have and an identity may lack."""


def identity(recipe: Recipe, may_change: Set[str] = _MAY_CHANGE) -> dict[str, Any]:
    """What must stay the same for a run to continue: all but lengths, places and machines.

    Defaults are written out: a later release may have others.
    """
    return recipe.model_dump(mode="json", exclude=set(may_change))


def same_recipe(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two of ``identity`` are the same training; an option that one does not know is at its default."""
    try:
        then, today = (Recipe.model_validate(_STAND_INS | dict(one)) for one in (before, now))
    except ValidationError:  # an option that there is no more
        return False
    return then == today


def read_recipe(path: Path, **changes: Any) -> Recipe:
    """Read a YAML recipe, with ``changes``; ``$VARIABLES`` in its texts are replaced from the environment.

    Raises:
        ConfigError: naming the file and what is wrong.
    """
    found = _expanded(read_yaml(path, "recipe"))
    return checked(Recipe, found | changes if isinstance(found, dict) else found, str(path))


def _expanded(value: Any) -> Any:
    if isinstance(value, str):
        for name in re.findall(r"\$\{?([A-Za-z_]\w*)", value):
            if name not in os.environ:
                raise ConfigError(f"{value!r} names the environment variable {name}, which is not set")
        return os.path.expandvars(value)
    if isinstance(value, list):
        return [_expanded(item) for item in value]
    if isinstance(value, dict):
        return {key: _expanded(item) for key, item in value.items()}
    return value
