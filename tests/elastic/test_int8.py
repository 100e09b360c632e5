"""8-bit products: close to fp32, independent of the batch to the last bit, and only where asked for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from elastic_ir.elastic import ElasticLM, TokenBatch, load_checkpoint
from elastic_ir.elastic.int8 import int8_is_active, int8_is_available, int8_products
from elastic_ir.elastic.precision import autocast, resolve
from elastic_ir.errors import ConfigError
from elastic_ir.subnet import Subnet

TEXTS = ["the cat sat on the mat", "dog", "a small bird flew in the big blue sky and a fish swam"]
CPU = torch.device("cpu")

needs_int8 = pytest.mark.skipif(not int8_is_available(), reason="the 8-bit kernels exist on x86 only")


@pytest.fixture
def loaded(bert_folder: Path) -> tuple[ElasticLM, TokenBatch]:
    model, tokens = ElasticLM.from_pretrained(bert_folder), load_checkpoint(bert_folder).tokens
    return model, tokens.pad([tokens.single(ids) for ids in tokens.ids(TEXTS, 60)])


@needs_int8
@torch.inference_mode()
@pytest.mark.parametrize("name", ["w1.00-d4", "w0.50-d4", "w0.25-d1"])
def test_int8_is_close_to_fp32(loaded: tuple[ElasticLM, TokenBatch], name: str) -> None:
    model, batch = loaded
    subnet = Subnet.parse(name)
    exact = model(batch, subnet)[:, 0]
    with autocast(CPU, "int8"):
        rough = model(batch, subnet)[:, 0]
    assert not torch.equal(exact, rough)
    assert torch.cosine_similarity(exact, rough).min() > 0.995


@needs_int8
@torch.inference_mode()
def test_a_row_does_not_depend_on_its_batch(loaded: tuple[ElasticLM, TokenBatch]) -> None:
    layer = loaded[0].elastic_layers()[0]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, 16, generator=generator) * torch.tensor([1e-3, 1.0, 1e3, 0.0, 5.0])[:, None, None]
    with int8_products():
        together = layer._times(x, "up", 64, layer.up_bias[:64])
        alone = torch.cat([layer._times(row[None], "up", 64, layer.up_bias[:64]) for row in x])
    assert torch.equal(together, alone)
    assert torch.isfinite(together).all()


@needs_int8
@torch.inference_mode()
def test_changed_weights_are_packed_again(loaded: tuple[ElasticLM, TokenBatch]) -> None:
    model, batch = loaded
    with autocast(CPU, "int8"):
        before = model(batch)
        model.elastic_layers()[0].down.mul_(2)
        assert not torch.equal(model(batch), before)


@needs_int8
def test_threads_choose_for_themselves(loaded: tuple[ElasticLM, TokenBatch]) -> None:
    with int8_products(), ThreadPoolExecutor(1) as pool:
        assert int8_is_active()
        assert not pool.submit(int8_is_active).result()
    assert not int8_is_active()


def test_auto_is_one_of_the_others() -> None:
    assert resolve(CPU, "auto") in ("bf16", "int8", "fp32")
    assert resolve(torch.device("cuda"), "auto") == "bf16"
    assert resolve(CPU, "fp32") == "fp32"
    with pytest.raises(ConfigError, match="x86"):
        resolve(torch.device("cuda"), "int8")
