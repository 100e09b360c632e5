"""bf16 products with weights converted once: what autocast computes, and only inside it."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from elastic_ir.elastic import ElasticLM, TokenBatch, bf16, load_checkpoint
from elastic_ir.elastic.packed import MOST
from elastic_ir.elastic.precision import autocast
from elastic_ir.elastic.scorer import ScoreHead
from elastic_ir.subnet import Subnet

CPU = torch.device("cpu")

needs_bf16 = pytest.mark.skipif(not bf16.is_available(), reason="this processor has no bf16 kernel")


@pytest.fixture
def loaded(bert_folder: Path) -> tuple[ElasticLM, TokenBatch]:
    model, tokens = ElasticLM.from_pretrained(bert_folder), load_checkpoint(bert_folder).tokens
    return model, tokens.pad([tokens.single(ids) for ids in tokens.ids(["the cat sat on the mat", "dog"], 60)])


@needs_bf16
@torch.inference_mode()
@pytest.mark.parametrize("rows", [0, 1, 7, 300])
def test_a_packed_product_is_that_of_autocast(rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*shape, generator=generator) for shape in ((2, rows, 48), (96, 48), (96,)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wanted = F.linear(x, weight, bias)
        assert bf16.is_active(x)
        found = bf16.linear(x, bf16.pack(weight), bias)
    assert found.shape == wanted.shape
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, wanted, rtol=0.01, atol=0.05)


@needs_bf16
@torch.inference_mode()
@pytest.mark.parametrize("name", ["w1.00-d4", "w0.50-d4", "w0.25-d1"])
def test_bf16_is_close_to_fp32(loaded: tuple[ElasticLM, TokenBatch], name: str) -> None:
    model, batch = loaded
    subnet = Subnet.parse(name)
    exact = model(batch, subnet)[:, 0]
    with autocast(CPU, "bf16"):
        rough = model(batch, subnet)[:, 0]
    assert not torch.equal(exact, rough)
    assert torch.cosine_similarity(exact, rough).min() > 0.999


@needs_bf16
@torch.inference_mode()
def test_changed_weights_are_packed_again(loaded: tuple[ElasticLM, TokenBatch]) -> None:
    model, batch = loaded
    with autocast(CPU, "bf16"):
        before = model(batch)
        model.elastic_layers()[0].down.mul_(2)
        assert not torch.equal(model(batch), before)


@needs_bf16
def test_a_fused_optimizers_step_is_seen_behind_eval(loaded: tuple[ElasticLM, TokenBatch]) -> None:
    model, batch = loaded
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    with autocast(CPU, "bf16"), torch.no_grad():
        before = model(batch)
    model.train()(batch).square().sum().backward()
    optimizer.step()
    with autocast(CPU, "bf16"), torch.no_grad():
        after = model.eval()(batch)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, model(batch).detach().to(after.dtype), rtol=0.05, atol=0.1)


@needs_bf16
@torch.inference_mode()
def test_packed_weights_of_odd_widths_do_not_pile_up(loaded: tuple[ElasticLM, TokenBatch]) -> None:
    layer = loaded[0].elastic_layers()[0]
    with autocast(CPU, "bf16"):
        for size in range(1, 65):
            layer._times(torch.ones(1, 1, loaded[0].config.hidden_size), "up", size, layer.up_bias[:size])
    assert len(layer._packed._kept) == MOST


@needs_bf16
@torch.inference_mode()
def test_heads_do_not_round_scores_to_bf16() -> None:
    head = ScoreHead(8)
    hidden = torch.linspace(0, 1e-3, 1000)[:, None, None].expand(1000, 1, 8) + 1
    with autocast(CPU, "bf16"):
        scores = head(hidden)
    assert scores.dtype == torch.float32
    assert len(set(scores.tolist())) > 100


@needs_bf16
@torch.inference_mode()
def test_a_model_made_in_inference_mode_and_its_copy_answer_alike(bert_folder: Path) -> None:
    model, tokens = ElasticLM.from_pretrained(bert_folder), load_checkpoint(bert_folder).tokens
    batch = tokens.pad([tokens.single(ids) for ids in tokens.ids(["the cat sat"], 60)])
    with autocast(CPU, "bf16"):
        found = model(batch)
        assert torch.equal(deepcopy(model)(batch), found)


def test_it_is_active_only_inside_autocast_to_bf16() -> None:
    x = torch.ones(1, 4)
    assert not bf16.is_active(x)
    with torch.autocast("cpu", dtype=torch.float16):
        assert not bf16.is_active(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert bf16.is_active(x) == bf16.is_available()


@needs_bf16
def test_training_goes_through_autograd(loaded: tuple[ElasticLM, TokenBatch]) -> None:
    model, batch = loaded
    with autocast(CPU, "bf16"):
        model(batch).float().sum().backward()
    assert model.elastic_layers()[0].up.grad is not None
