"""Texts to padded batches of token ids, cut by characters first and packed by a token budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from tokenizers import Tokenizer
from torch import Tensor

from elastic_ir.errors import ModelError

Item = TypeVar("Item")

BATCH_TOKENS = 1536
"""Padded tokens that run together: few enough to stay in a processor's cache, enough to keep it busy."""
GPU_BATCH_TOKENS = 65_536

CHARACTERS_PER_TOKEN = 20
"""Texts are cut at this many characters a wanted token first: tokenizers read everything, then truncate."""
_SPACED = 50
"""Of a text with much white space, this many times more characters are looked at."""


class TokenBatch(NamedTuple):
    """Padded token ids.

    ``input_ids`` ``[B, L]`` int64, ``lengths`` ``[B]`` int64 tokens that are not padding, ``type_ids``
    ``[B, L]`` int64 segment of each token (None: all 0).
    """

    input_ids: Tensor
    lengths: Tensor
    type_ids: Tensor | None = None

    def to(self, device: torch.device) -> TokenBatch:
        """This batch on ``device``."""
        types = None if self.type_ids is None else self.type_ids.to(device)
        return TokenBatch(self.input_ids.to(device), self.lengths.to(device), types)


class Tokens:
    """A tokenizer that never changes its settings, so threads share it.

    Special tokens, truncation and padding are added here, which lets documents be tokenized once, at
    indexing, and joined with queries later.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.cls_id, self.sep_id, self.pad_id = (_special(tokenizer, name) for name in ("[CLS]", "[SEP]", "[PAD]"))
        self.fingerprint = sha256(tokenizer.to_str().encode()).hexdigest()

    @classmethod
    def from_file(cls, path: Path) -> Tokens:
        """Read a ``tokenizer.json``.

        Raises:
            ModelError: if it is missing or not a tokenizer.
        """
        if not path.is_file():
            raise ModelError(f"no tokenizer at {path}; wanted a tokenizer.json beside the weights")
        try:
            return cls(Tokenizer.from_file(str(path)))
        except ModelError:
            raise
        except Exception as exc:  # tokenizers raises bare Exception
            raise ModelError(f"{path} is not a tokenizer: {exc}") from exc

    @property
    def count(self) -> int:
        """Words of the vocabulary, without those added later."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=False))

    def save(self, path: Path) -> None:
        """Write ``tokenizer.json``."""
        self._tokenizer.save(str(path))

    def ids(self, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
        """Token ids of each text without special tokens, at most ``max_tokens`` of them."""
        limit = max_tokens * CHARACTERS_PER_TOKEN
        cut = [_cut(text, limit).encode("utf-8", "replace").decode() for text in texts]
        return [e.ids[:max_tokens] for e in self._tokenizer.encode_batch_fast(cut, add_special_tokens=False)]

    def single(self, ids: Sequence[int]) -> list[int]:
        """``[CLS] ids [SEP]``."""
        return [self.cls_id, *ids, self.sep_id]

    def pair(self, first: Sequence[int], second: Sequence[int]) -> list[int]:
        """``[CLS] first [SEP] second [SEP]``."""
        return [self.cls_id, *first, self.sep_id, *second, self.sep_id]

    def pad(
        self, sequences: Sequence[Sequence[int]], first_lengths: Sequence[int] | None = None, multiple: int = 1
    ) -> TokenBatch:
        """Pad to the longest.

        Args:
            sequences: complete sequences, at least one.
            first_lengths: for pairs, how many leading tokens are of segment 0; None for singles.
            multiple: of this the padded length is: for each other length kernels keep memory of their own.
        """
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        longest = -(-int(lengths.max()) // multiple) * multiple
        ids = torch.tensor([[*s, *([self.pad_id] * (longest - len(s)))] for s in sequences])
        if first_lengths is None:
            return TokenBatch(ids, lengths)
        position = torch.arange(longest)[None, :]
        types = (position >= torch.tensor(first_lengths)[:, None]) & (position < lengths[:, None])
        return TokenBatch(ids, lengths, types.long())


def by_token_budget(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Rows grouped so that each group, padded to its longest, has at most ``budget`` tokens.

    Rows are taken longest first, so that running out of memory shows at once; a row longer than the
    budget stands alone.
    """
    group: list[int] = []
    max_rows = max(256, budget // 16)
    for row in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if group and ((len(group) + 1) * lengths[group[0]] > budget or len(group) == max_rows):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def packed(items: Iterable[Item], size: Callable[[Item], int], most: float) -> Iterator[list[Item]]:
    """``items`` in their order, in lists of at least one whose sizes add up to ``most`` at most."""
    found: list[Item] = []
    used = 0
    for item in items:
        its = size(item)
        if found and used + its > most:
            yield found
            found, used = [], 0
        found.append(item)
        used += its
    if found:
        yield found


def _cut(text: str, limit: int) -> str:
    """The first ``limit`` characters; of a longer text, without those of white space that part no words."""
    return text if len(text) <= limit else " ".join(text[: _SPACED * limit].split())[:limit]


def _special(tokenizer: Tokenizer, name: str) -> int:
    token_id: int | None = tokenizer.token_to_id(name)
    if token_id is None:
        raise ModelError(f"tokenizer lacks the token {name}; wanted a BERT-family tokenizer")
    return token_id
