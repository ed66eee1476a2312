"""Nothing is computed that nobody reads, and what is read is what the whole model computes."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from oocr_lib.encoding import Encoded
from oocr_lib.engine.answer_logits import answer_logits, replaced
from oocr_lib.engine.shortened import collate
from oocr_lib.models.language_model import LanguageModel, Site
from tests import tiny
from tests.adapter_cases import fingerprint


@functools.cache
def model(family: str) -> LanguageModel:
    return tiny.language_model(family)


def rows() -> list[Encoded]:
    """Many lengths; answers of one, two and four tokens."""
    return [
        *tiny.rows((9, 6, 14)),
        *tiny.rows((8, 11), seed=1, answer=1),
        *tiny.rows((10,), seed=2, answer=4),
    ]


@torch.no_grad()
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_they_are_the_logits_of_the_whole_model(family: str) -> None:
    lm, batch = model(family), collate(rows(), 0)
    whole = lm.model(input_ids=batch.input_ids, use_cache=False).logits
    at, targets, found = answer_logits(lm, batch)
    where, columns = batch.answer_mask.nonzero(as_tuple=True)
    assert torch.equal(at, where) and torch.equal(targets, batch.input_ids[where, columns])
    assert torch.allclose(found, whole[where, columns - 1], atol=1e-5)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_gradients_are_those_of_the_whole_model(family: str) -> None:
    """At the residual stream of block 0, which every later token of the row feeds on."""
    lm, batch, found = model(family), collate(rows(), 0), []
    where, columns = batch.answer_mask.nonzero(as_tuple=True)
    for short in (False, True):
        added = torch.zeros(*batch.input_ids[:, :-1].shape, lm.d_model, requires_grad=True)
        hook = lm.block(0).register_forward_pre_hook(lambda m, args, a=added: (args[0] + a,))
        try:
            if short:
                logits = answer_logits(lm, batch)[2]
            else:
                ids = batch.input_ids[:, :-1]
                logits = lm.model(input_ids=ids, use_cache=False).logits[where, columns - 1]
        finally:
            hook.remove()
        logits.logsumexp(-1).sum().backward()
        found.append(added.grad)
    assert found[0] is not None and found[1] is not None
    assert torch.allclose(found[0], found[1], atol=1e-4 * float(found[0].abs().max()))


def test_the_last_mlp_and_the_head_see_the_tokens_that_predict_only() -> None:
    lm, batch = model("gemma3"), collate(rows()[:5], 0)
    seen = list[tuple[int, ...]]()
    watched = [
        lm.module(Site(2, "mlp_out")).get_submodule("down_proj"),
        lm.module(Site(1, "resid")),
    ]
    watched.append(lm.model.get_output_embeddings())
    hooks = [m.register_forward_hook(lambda m, a, o: seen.append(tuple(o.shape))) for m in watched]
    answer_logits(lm, batch)
    for hook in hooks:
        hook.remove()
    assert seen == [(5, 13, 16), (5, 2, 16), (1, 8, 384)]  # rows, tokens, width


@pytest.mark.parametrize("family", ["gemma3", "gpt2"])
def test_the_model_is_as_before(family: str) -> None:
    lm = model(family)
    before = fingerprint(lm.model)
    answer_logits(lm, collate(rows(), 0))
    with pytest.raises(RuntimeError, match="stop"), replaced(lm.block(1), _stop):
        lm.model(input_ids=torch.tensor([[5, 6]]))
    assert fingerprint(lm.model) == before


def _stop(*args: object, **kwargs: object) -> Tensor:
    raise RuntimeError("stop")
