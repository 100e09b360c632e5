"""A tiny encoder and collection for the index tests."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elastic_ir.records import Document, EncoderCard

DIMENSION = 16


class HashEncoder:
    """Vectors drawn from a hash of the text: equal texts get equal vectors, different ones are unrelated."""

    number_format = "fp32"

    def __init__(self, subnet: str = "w1.00-d2", delay_s: float = 0.0, **card: str | int) -> None:
        own = EncoderCard("hash", "f" * 64, "hash-space", subnet, DIMENSION, "cls", "", "", 64)
        self.card = own._replace(**card)
        self.delay_s = delay_s
        self.texts_seen = 0

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        time.sleep(self.delay_s)
        self.texts_seen += len(texts)
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") for text in texts]
        drawn = np.array([np.random.default_rng(seed).standard_normal(self.card.dimension) for seed in seeds])
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def tokenize(texts: list[str]) -> list[list[int]]:
    return [[int(hashlib.sha256(word.encode()).hexdigest()[:4], 16) for word in text.split()] for text in texts]


def collection(count: int) -> list[Document]:
    """``count`` documents; every seventh is empty, some have titles, accents or another script."""
    return [
        Document(f"d{row}", "" if row % 7 == 6 else f"text {row} naïve 検索", f"title {row}" if row % 3 == 0 else "")
        for row in range(count)
    ]


def hashes(generation: Path) -> dict[str, str]:
    """sha256 of every file of a generation, by name."""
    files = (path for path in generation.rglob("*") if path.is_file())
    return {str(path.relative_to(generation)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
