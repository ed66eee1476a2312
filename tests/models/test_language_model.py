"""Sites are what they claim, and reading activations leaves no trace."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from oocr_lib.activations import capture, typical_norm
from oocr_lib.encoding import collate
from oocr_lib.models.language_model import SITES, Site, recording, wrap
from oocr_lib.util.errors import UserError
from tests import tiny

every_family = pytest.mark.parametrize("family", tiny.FAMILIES)


def hooks(model: nn.Module) -> list[tuple[str, int]]:
    """Every hook of every module, by identity."""
    return [
        (name, id(hook))
        for name, module in model.named_modules()
        for table in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        for hook in table.values()
    ]


def refused(info: pytest.ExceptionInfo[UserError]) -> str:
    text = str(info.value)
    assert "\n" not in text and "Allowed" in text
    return text


# --- names ---


def test_sites_read_what_they_write_and_sort_by_block() -> None:
    sites = [Site(block, kind) for block in (0, 3, 12) for kind in SITES]
    assert [Site.parse(str(site)) for site in sites] == sites
    assert sorted([Site(10, "resid"), Site(2, "resid")])[0].block == 2


@pytest.mark.parametrize("text", ["resid", "resid@", "resid@-1", "resid@x", "resid@²", "@3", ""])
def test_unreadable_sites_are_refused(text: str) -> None:
    with pytest.raises(UserError):
        Site.parse(text)


def test_wrong_names_and_numbers_are_refused() -> None:
    lm = tiny.language_model("gpt2")
    with pytest.raises(UserError, match="Did you mean 'mlp_out'"):
        Site(0, "mlpout")
    for call in (lm.block, lm.down_projection, lm.projections):
        for block in (-1, tiny.N_BLOCKS, 1.0, True):
            with pytest.raises(UserError) as info:
                call(block)  # type: ignore[arg-type]
            refused(info)
    with pytest.raises(UserError, match="Allowed: 0 to 2"):
        lm.module(Site(7, "attn_out"))
    with pytest.raises(UserError, match="Allowed: up, down"):
        lm.projection(0, "gate")


# --- wrapping ---


@every_family
def test_layout(family: str) -> None:
    lm = tiny.language_model(family)
    assert (lm.n_blocks, lm.d_model, lm.vocab_size) == (tiny.N_BLOCKS, tiny.D_MODEL, tiny.VOCAB)
    down = lm.model.get_submodule(lm.down_projection(1))
    assert lm.down_projection(1) == list(lm.projections(1).values())[-1]
    assert len(lm.projections(1)) == (2 if family == "gpt2" else 3)
    seen: list[torch.Tensor] = []
    down.register_forward_hook(lambda module, args, output: seen.append(output))
    found = capture(lm, tiny.batch(), [Site(1, "mlp_out")])
    assert torch.equal(found[Site(1, "mlp_out")], seen[0])


@every_family
def test_the_model_is_frozen(family: str) -> None:
    model = tiny.model(family).train()
    lm = wrap(model, tiny.tokenizer(), name="m")
    assert not any(module.training for module in lm.model.modules())
    assert not any(weight.requires_grad for weight in lm.model.parameters())


@every_family
def test_captured_residuals_are_the_hidden_states(family: str) -> None:
    lm = tiny.language_model(family)
    ids = tiny.batch().input_ids
    sites = [Site(i, "resid") for i in range(lm.n_blocks)]
    found = capture(lm, ids, sites)
    reference = copy.deepcopy(lm.model)
    with torch.no_grad():
        states = reference(ids, output_hidden_states=True).hidden_states
    for i in range(lm.n_blocks - 1):
        assert torch.equal(found[Site(i, "resid")], states[i + 1])
    last = found[Site(lm.n_blocks - 1, "resid")]
    norm = reference.transformer.ln_f if family == "gpt2" else reference.model.norm
    assert torch.equal(norm(last), states[-1]) and not torch.equal(last, states[-1])


@every_family
def test_the_sites_add_up_to_the_residual_stream(family: str) -> None:
    """resid = previous + post-norm(attn_out) + post-norm(mlp_out); no post-norm outside Gemma."""
    lm = tiny.language_model(family)
    sites = [Site(1, kind) for kind in SITES]
    found = capture(lm, tiny.batch(), [Site(0, "resid"), *sites])
    resid, mlp, attn = (found[site] for site in sites)
    plain = found[Site(0, "resid")] + attn + mlp
    assert torch.allclose(resid, plain, atol=1e-4) == (family not in tiny.POST_NORM)
    if family in tiny.POST_NORM:
        block: Any = lm.block(1)
        attn, mlp = block.post_attention_layernorm(attn), block.post_feedforward_layernorm(mlp)
        assert torch.allclose(resid, found[Site(0, "resid")] + attn + mlp, atol=1e-4)


def test_a_hook_that_does_not_see_the_stream_is_refused_at_wrap_time() -> None:
    model = tiny.model("llama")
    # What block 1 gives is changed on its way into block 2.
    model.model.layers[2].register_forward_pre_hook(lambda module, args: (args[0] * 1.5,))
    with pytest.raises(UserError, match="resid@1 does not see") as info:
        wrap(model, tiny.tokenizer(), name="odd")
    refused(info)
    assert len(hooks(model)) == 1


def test_models_and_tokenizers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="Linear is not a Hugging Face"):
        wrap(nn.Linear(2, 2), tiny.tokenizer(), name="m")
    with pytest.raises(UserError, match="no known MLP"):
        model = tiny.model("llama")
        for block in model.model.layers:
            block.other = block.mlp
            del block.mlp
        wrap(model, tiny.tokenizer(), name="m")
    large = tiny.tokenizer()
    large.add_tokens([f"extra{i}" for i in range(30)])
    with pytest.raises(UserError, match="406 tokens"):
        wrap(tiny.model(), large, name="m")
    with pytest.raises(UserError, match="Did you mean 'testbed'"):
        wrap(tiny.model(), tiny.tokenizer(), name="m", dialect="testbad")  # type: ignore[arg-type]


def test_the_digest_changes_with_weights_architecture_vocabulary_and_template() -> None:
    base = tiny.language_model("gemma3")
    assert tiny.language_model("gemma3").digest == base.digest and len(base.digest) == 64
    model = tiny.model("gemma3")
    model.model.layers[2].mlp.up_proj.weight.data[3, 5] += 1e-6
    others = [
        wrap(model, tiny.tokenizer(), name="m"),
        tiny.language_model("gemma3_sliding"),
        tiny.language_model("gemma3", kind="bpe_digits"),
        tiny.language_model("gemma3", template="system"),
    ]
    assert len({base.digest, *(lm.digest for lm in others)}) == 5


# --- reading activations ---


def test_capture_removes_its_hooks_only_also_on_error() -> None:
    lm = tiny.language_model()
    calls: list[int] = []
    lm.block(1).register_forward_hook(lambda module, args, output: calls.append(1))
    before = hooks(lm.model)
    capture(lm, tiny.batch(), [Site(1, "resid")])
    with pytest.raises(UserError, match="Token ids of shape"):
        capture(lm, torch.full((1, 3), tiny.VOCAB + 7), [Site(1, "resid")])
    with pytest.raises(IndexError), recording(lm, [Site(1, "resid")]):  # inside a forward pass
        lm.decoder(input_ids=torch.full((1, 3), tiny.VOCAB + 7))
    with pytest.raises(UserError):  # set-up fails after the first hook
        capture(lm, tiny.batch(), [Site(1, "resid"), Site(9, "resid")])
    with pytest.raises(RuntimeError), recording(lm, [Site(0, "mlp_out")]):
        raise RuntimeError
    assert hooks(lm.model) == before and calls == [1]


def test_captured_tensors_carry_no_gradient_and_every_row() -> None:
    lm = tiny.language_model("gpt2")  # its attention returns a tuple
    batch = tiny.batch()
    found = capture(lm, batch, [Site(0, kind) for kind in SITES])
    for tensor in found.values():
        assert tensor.shape == (*batch.input_ids.shape, tiny.D_MODEL) and not tensor.requires_grad


@pytest.mark.parametrize("ids", [torch.zeros(3, dtype=torch.int64), torch.zeros(2, 3)])
def test_capture_refuses_what_are_no_token_ids(ids: torch.Tensor) -> None:
    with pytest.raises(UserError, match="int64") as info:
        capture(tiny.language_model(), ids, [Site(0, "resid")])
    refused(info)


@every_family
def test_real_tokens_do_not_see_their_batch(family: str) -> None:
    """Right padding and causal attention: no mask needed, in sliding-window blocks too."""
    lm = tiny.language_model(family)
    rows = tiny.rows((5, 17, 11))
    site = Site(lm.n_blocks - 1, "resid")
    together = capture(lm, collate(rows, pad_id=0), [site])[site]
    for i, row in enumerate(rows):
        for pad_id in (0, 9):
            alone = capture(lm, collate([row], pad_id=pad_id), [site])[site][0]
            assert torch.allclose(together[i, : len(row.ids)], alone, atol=1e-4)


def test_sliding_windows_do_slide_in_the_tiny_model() -> None:
    """Otherwise the test above would not test them."""
    ids, site = tiny.batch().input_ids, Site(0, "resid")
    other = ids.clone()
    other[:, 0] += 1
    reach = {}
    for family in ("gemma3_sliding", "gemma3"):
        lm = tiny.language_model(family)
        changed = capture(lm, ids, [site])[site] != capture(lm, other, [site])[site]
        reach[family] = changed.any(dim=2).any(dim=0).nonzero().max().item()
    assert reach == {"gemma3_sliding": 3, "gemma3": ids.shape[1] - 1}


@pytest.mark.parametrize("position", ["last", "codename", "trigger", "all"])
def test_typical_norm_is_the_median_over_marked_tokens(position: str) -> None:
    lm, batch, site = tiny.language_model(), tiny.batch(), Site(1, "mlp_out")
    hidden = capture(lm, batch, [site])[site]
    norms = [float(hidden[i, j].norm()) for i, j in batch.positions[position].nonzero().tolist()]
    expected = sorted(norms)[(len(norms) - 1) // 2]
    assert typical_norm(lm, batch, site, position) == pytest.approx(expected)


def test_typical_norm_without_marked_tokens_is_refused() -> None:
    lm, batch = tiny.language_model(), tiny.batch()
    batch.positions["trigger"][:] = False
    for position, reason in (("trigger", "marked 'trigger'"), ("code", "Unknown position")):
        with pytest.raises(UserError, match=reason) as info:
            typical_norm(lm, batch, Site(0, "resid"), position)
        refused(info)


def test_a_language_model_cannot_be_changed() -> None:
    lm = tiny.language_model()
    with pytest.raises(dataclasses.FrozenInstanceError):
        lm.name = "other"  # type: ignore[misc]
    assert lm == lm and lm != tiny.language_model()


# --- what is measured is the model that was loaded ---


@pytest.mark.parametrize("change", ["weight", "data", "template", "config", "token"])
def test_a_model_changed_after_loading_is_noticed(change: str) -> None:
    lm = tiny.language_model()
    lm.refuse_changed()
    weight = lm.model.get_submodule(lm.down_projection(1)).weight
    with torch.no_grad():
        if change == "weight":
            weight[0, 0] += 1
        elif change == "data":
            weight.data.mul_(0.5)
    if change == "template":
        lm.tokenizer.chat_template = tiny.TEMPLATES["system"]
    elif change == "config":
        lm.model.config.rms_norm_eps = 0.1
    elif change == "token":
        lm.tokenizer.add_tokens(["extra"])
    with pytest.raises(UserError, match="was changed after it was loaded") as info:
        lm.refuse_changed()
    refused(info)


def test_large_models_are_looked_at_by_torchs_own_count(monkeypatch: pytest.MonkeyPatch) -> None:
    from oocr_lib.models import fingerprint as digest

    monkeypatch.setattr(digest, "_SMALL", 0)
    lm = tiny.language_model()
    lm.refuse_changed()
    with torch.no_grad():
        lm.model.get_submodule(lm.down_projection(1)).weight.mul_(2)
    with pytest.raises(UserError, match="was changed"):
        lm.refuse_changed()
