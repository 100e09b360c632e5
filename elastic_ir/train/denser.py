"""The denser's objective: every subnet's vector of a text becomes the teacher's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from elastic_ir.dense import DenserSettings, ElasticDenser, check_settings, denser_settings, pool
from elastic_ir.durable import whole
from elastic_ir.elastic import ElasticLM, TokenBatch
from elastic_ir.elastic.checkpoint import Checkpoint, load_checkpoint
from elastic_ir.elastic.importance import sort_by_importance
from elastic_ir.errors import ConfigError
from elastic_ir.progress import track
from elastic_ir.subnet import Subnet
from elastic_ir.train.data import TextStreams
from elastic_ir.train.losses import cosine_loss, similarity_loss
from elastic_ir.train.recipe import LossWeights, Recipe
from elastic_ir.train.sampling import nearest_larger, subnets
from elastic_ir.train.student import (
    States,
    changed,
    check_start,
    hidden_states,
    last,
    load_start,
    start_own,
    states_loss,
    with_own,
)

_BATCH_BESIDE_BANK = 0.2
"""Weight of the similarities within the batch where there is a bank: a text's own vector, which only the batch has,
would else outweigh its neighbours."""
_CHUNK = 8192
"""Texts whose teacher vectors are written together."""


class TextBatch(NamedTuple):
    """Texts of one stream: its number, their tokens, and the teacher's unit vectors ``[B, D]``.

    ``vectors`` is None where the teacher runs in the step itself. ``bank``: the teacher's unit vectors ``[N, D]`` of
    other texts, or None.
    """

    stream: int
    tokens: TokenBatch
    vectors: Tensor | None
    bank: Tensor | None


class DenserObjective:
    """Cosine to the teacher's vector, in-batch similarities, and the hidden states of the full student.

    Source: On Elastic Language Models (arXiv:2311.07204); KALE (arXiv:2304.01016) for aligning queries only;
    US-Nets (arXiv:1903.05134) for teaching the small by the full one of the same step.
    """

    def __init__(self, recipe: Recipe, teacher: Checkpoint) -> None:
        self.recipe, self.tokens = recipe, teacher.tokens
        given = recipe.teacher_settings.model_dump(exclude_unset=True)
        taught_by = denser_settings(teacher, given)
        self.settings = denser_settings(teacher, given | recipe.denser.model_dump(exclude_unset=True))
        start = teacher if recipe.start is None else load_checkpoint(recipe.start)
        check_start(start, teacher)
        config = changed(start.config, denser=self.settings.model_dump(), depth_rule="spaced")
        self.student = ElasticLM(with_own(config, recipe))
        self._missing = load_start(self.student, start)
        self._check(recipe)
        self._texts = TextStreams(recipe, self.tokens, config.max_positions)
        self._sequences = [pool.sequences(_prompts(self.settings)) for pool in self._texts.pools]
        encoder = ElasticDenser.from_checkpoint(teacher, device=recipe.device, **taught_by.model_dump())
        asked = [pool.sequences(_prompts(taught_by)) for pool in self._texts.pools]
        cache = Path(recipe.teacher_cache or recipe.output)
        self._vectors: list[NDArray[np.float16] | None] = []
        for number, stream in enumerate(recipe.streams):
            if stream.teach_states and asked[number] != self._sequences[number]:
                raise ConfigError(f"stream {number}: teach_states needs texts that teacher and student read alike")
        for stream, sequences in zip(recipe.streams, asked, strict=True):
            self._vectors.append(None if stream.teach_states else _vectors(cache, encoder, sequences))
        self.teacher = encoder.model.requires_grad_(False)

    def _check(self, recipe: Recipe) -> None:
        """Refuse before any of the teacher's vectors is computed what would be refused after."""
        check_settings(self.settings, self.student.config, self.tokens)
        known = {str(subnet) for subnet in subnets(recipe.sampling, self.student.config)}
        for number, stream in enumerate(recipe.streams):
            if stream.pairs and not stream.teach_states:
                raise ConfigError(f"stream {number}: pairs need teach_states; a denser's vectors are of single texts")
            if odd := sorted({*stream.rows} - known):
                raise ConfigError(f"stream {number}: rows of {odd[0]}, which does not learn; wanted {sorted(known)}")
        if recipe.bank and all(stream.teach_states for stream in recipe.streams):
            raise ConfigError("bank needs a stream without teach_states: it is drawn from the vectors kept")

    def prepare(self) -> None:
        """Sort the student's heads and neurons (a ``start`` has them in order), then give each subnet its vectors."""
        if self.recipe.start is None:
            batches = [self.batch(step).tokens for step in range(self.recipe.importance_batches)]
            sort_by_importance(self.student, batches)
        start_own(self.student, self._missing)

    def batch(self, step: int) -> TextBatch:
        """The texts of ``step``, of one stream; streams take turns by their shares."""
        number, rows = self._texts.rows(step)
        tokens = self._texts.pools[number].padded(self._sequences[number], rows)
        ready = self._vectors[number]
        vectors = None if ready is None else torch.from_numpy(ready[rows].astype(np.float32))
        return TextBatch(number, tokens, vectors, self._bank(step))

    def losses(self, batch: TextBatch, subnets: list[Subnet]) -> Iterator[tuple[Subnet, Tensor]]:
        """The loss of each subnet that learns from this stream, largest first.

        Hidden states are taught by the teacher where it runs, else by a larger student of the same step.
        """
        rows, size = self.recipe.streams[batch.stream].rows, len(batch.tokens.lengths)
        full, by_nearest = self.student.config.full, self.recipe.sampling.taught_by == "nearest"
        read = 1 if self.settings.pooling == "cls" else None
        done: dict[Subnet, States] = {}
        targets = batch.vectors
        if targets is None:
            with torch.no_grad():
                done[full] = hidden_states(self.teacher, batch.tokens, full, read)
            targets = self._unit(last(done[full]), batch.tokens)
        for subnet in subnets:
            count = min(rows.get(str(subnet), size), size)
            if not count:
                continue
            tokens, wanted = _first(batch.tokens, count), targets[:count]
            states = hidden_states(self.student, tokens, subnet, read)
            vectors = self._unit(last(states), tokens)
            cosine, hidden = self._weights(subnet)
            loss = similarity_loss(vectors, wanted, wanted, self.recipe.temperature)
            if batch.bank is not None:
                of_bank = similarity_loss(vectors, wanted, batch.bank, self.recipe.temperature)
                loss = of_bank + _BATCH_BESIDE_BANK * loss
            if cosine:
                loss = loss + cosine * cosine_loss(vectors, wanted)
            teaching = nearest_larger(subnet, done, self.student.config)
            if teaching is not None and hidden:
                loss = loss + hidden * states_loss(states, done[teaching], tokens.lengths)
            if subnet not in done and (by_nearest or subnet == full):
                done[subnet] = {layer: state.detach() for layer, state in states.items()}
            yield subnet, loss

    def _weights(self, subnet: Subnet) -> tuple[float, float]:
        """Of the cosine loss and the hidden loss of ``subnet``."""
        recipe, given = self.recipe, self.recipe.smaller
        if subnet == self.student.config.full:
            given = LossWeights()
        return (
            recipe.cosine_loss if given.cosine_loss is None else given.cosine_loss,
            recipe.hidden_loss if given.hidden_loss is None else given.hidden_loss,
        )

    def _bank(self, step: int) -> Tensor | None:
        """``[N, D]`` of the teacher's vectors at hand, whatever stream they are of; None without a bank."""
        if not self.recipe.bank:
            return None
        ready = [vectors for vectors in self._vectors if vectors is not None]
        rows = np.random.default_rng((self.recipe.seed, step))
        count = self.recipe.bank // len(ready)
        drawn = [vectors[rows.integers(len(vectors), size=count)] for vectors in ready]
        return torch.from_numpy(np.concatenate(drawn).astype(np.float32))

    def _unit(self, states: Tensor, tokens: TokenBatch) -> Tensor:
        """Unit vectors ``[B, D]`` of last hidden states ``[B, L, H]``."""
        return F.normalize(pool(states, tokens.lengths, self.settings.pooling), dim=-1)


def _first(tokens: TokenBatch, count: int) -> TokenBatch:
    """The first ``count`` rows, padded no further than needed."""
    if count == len(tokens.lengths):
        return tokens
    lengths, types = tokens.lengths[:count], tokens.type_ids
    longest = int(lengths.max())
    return TokenBatch(tokens.input_ids[:count, :longest], lengths, None if types is None else types[:count, :longest])


def _prompts(settings: DenserSettings) -> dict[str, str]:
    return {"query": settings.query_prompt, "document": settings.document_prompt}


def _vectors(cache: Path, teacher: ElasticDenser, sequences: list[list[int]]) -> NDArray[np.float16]:
    """The teacher's unit vectors ``[N, D]`` of token sequences, computed once: chunks already written are kept."""
    digest = sha256(repr((teacher.fingerprint, teacher.settings.pooling, sequences)).encode()).hexdigest()
    folder = cache / f"teacher-{digest[:16]}"
    chunks = []
    for number in track(range(-(-len(sequences) // _CHUNK)), "teacher's vectors"):
        path = folder / f"{number:06d}.npy"
        if (vectors := _kept(path)) is None:
            found = teacher.encode_tokens(sequences[number * _CHUNK : (number + 1) * _CHUNK])
            vectors = found.astype(np.float16)
            with whole(path) as part, part.open("wb") as file:
                np.save(file, vectors)
        chunks.append(vectors)
    return np.concatenate(chunks)


def _kept(path: Path) -> NDArray[np.float16] | None:
    """What an earlier run wrote there; None where it did not, or not to the end."""
    with suppress(OSError, ValueError, EOFError):
        found: NDArray[np.float16] = np.load(path)
        return found
    return None
