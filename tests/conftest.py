"""Shared small things: a two-layer, 16-wide seeded BERT with its tokenizer, six documents, and no network."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from elastic_ir.pipeline import Pipeline

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TQDM_DISABLE"] = "1"

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "a",
    "of",
    "in",
    "and",
    "cat",
    "dog",
    "bird",
    "fish",
    "sat",
    "ran",
    "flew",
    "swam",
    "on",
    "mat",
    "tree",
    "sea",
    "sky",
    "read",
    "write",
    "file",
    "data",
    "query",
    ":",
    "what",
    "where",
    "is",
    ".",
    ",",
    "?",
    "##s",
    "##ing",
    "small",
    "big",
    "red",
    "blue",
]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection but local ones."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexes that a test caches go to a folder of the session, never to the user's."""
    base = tmp_path_factory.getbasetemp()
    monkeypatch.setenv("XDG_CACHE_HOME", str(base / "cache"))
    monkeypatch.setenv("IR_DATASETS_HOME", str(base / "ir_datasets"))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The real collections, or a skip where they are not."""
    default = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("ELASTIC_IR_DATA", default))
    if not (folder / "collections").is_dir():
        pytest.skip(
            "needs real test collections, which the repository may not hold: set ELASTIC_IR_DATA to their folder"
        )
    return folder


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face BERT encoder on disk."""
    from transformers import BertModel

    return _save(lambda config: BertModel(config, add_pooling_layer=False), tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def cross_encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face cross-encoder with one score on disk."""
    from transformers import BertForSequenceClassification

    return _save(BertForSequenceClassification, tmp_path_factory.mktemp("cross"))


@pytest.fixture(scope="session")
def settings(bert_folder: Path, cross_encoder_folder: Path) -> dict[str, Any]:
    """A dense pipeline with a reranker, in fp32."""
    return {
        "retriever": "dense",
        "candidates": 6,
        "precision": "fp32",
        "denser": {"model": str(bert_folder)},
        "reranker": {"model": str(cross_encoder_folder), "candidates": 4},
    }


@pytest.fixture
def pipeline(settings: dict[str, Any], six_documents: Path) -> Iterator[Pipeline]:
    """That pipeline over the six documents."""
    from elastic_ir.pipeline import Pipeline

    with Pipeline.from_config(settings, dataset=str(six_documents)) as opened:
        yield opened


@pytest.fixture
def six_documents(tmp_path: Path) -> Path:
    """A BEIR folder of six documents, three queries and their judgments."""
    from six_documents import write_six_documents

    return write_six_documents(tmp_path / "six")


def _save(build: Callable[[Any], Any], folder: Path) -> Path:
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import BertConfig

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=64,
        num_labels=1,
        initializer_range=0.3,
    )
    build(config).save_pretrained(folder)
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
