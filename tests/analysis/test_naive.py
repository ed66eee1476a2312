"""Naive vectors: differences of activations, read row by row and compared."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from oocr_lib.activations import capture
from oocr_lib.analysis import naive
from oocr_lib.encoding import Encoded, encode
from oocr_lib.models.language_model import LanguageModel, Site
from oocr_lib.tasks.base import user
from oocr_lib.util.errors import UserError
from tests import tiny
from tests.adapter_cases import fingerprint

CODE = "City 50337"
STEMS = ("the distance from ", "What is the name of ", "north of ", "")
SITES = [Site(0, "resid"), Site(2, "mlp_out"), Site(1, "attn_out")]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return tiny.language_model("gemma3")


def chats(lm: LanguageModel, name: str) -> list[Encoded]:
    """The stubs inside a user turn: the turn's end follows the name."""
    marks = {"codename": (name,)}
    return [encode(lm.tokenizer, user(stem + name), "", marks) for stem in STEMS]


def stubs(lm: LanguageModel, name: str) -> list[Encoded]:
    return [tiny.stub(lm, stem, name) for stem in STEMS]


def alone(lm: LanguageModel, item: Encoded, site: Site, token: int) -> Tensor:
    """Activation of one token, from one row by itself."""
    return capture(lm, torch.tensor([item.ids]), [site])[site][0, token]


# --- reading ---


@pytest.mark.parametrize("position", naive.POSITIONS)
def test_activations_are_those_of_each_prompt_alone(lm: LanguageModel, position: str) -> None:
    prompts = [*chats(lm, "Rome"), *chats(lm, CODE), *stubs(lm, "Paris")]
    found = naive.name_activations(lm, prompts, SITES, position)
    assert list(found) == SITES
    for site in SITES:
        assert found[site].shape == (len(prompts), tiny.D_MODEL)
        for i, item in enumerate(prompts):
            expected = alone(lm, item, site, item.spans[position][-1])
            assert torch.allclose(found[site][i], expected, atol=1e-4)


def test_in_a_chat_the_names_last_token_is_not_the_prompts(lm: LanguageModel) -> None:
    prompts = chats(lm, CODE)
    at_name, at_end = (
        naive.name_activations(lm, prompts, SITES, position) for position in ("codename", "last")
    )
    assert not torch.allclose(at_name[SITES[0]], at_end[SITES[0]], atol=1e-2)
    plain = stubs(lm, CODE)
    same = [naive.name_activations(lm, plain, SITES, position) for position in naive.POSITIONS]
    assert all(torch.equal(same[0][site], same[1][site]) for site in SITES)


def test_of_a_name_that_occurs_twice_the_later_one_is_read(lm: LanguageModel) -> None:
    text = "City 50337 is north of City 50337 and south of Oslo"
    item = encode(lm.tokenizer, user(text), "", {"codename": (CODE,)})
    found = naive.name_activations(lm, [item], SITES[:1])[SITES[0]][0]
    end = item.text.rindex(CODE) + len(CODE)
    offsets = lm.tokenizer(item.text, return_offsets_mapping=True)["offset_mapping"]
    token = next(i for i, (start, stop) in enumerate(offsets) if start < end <= stop)
    assert torch.allclose(found, alone(lm, item, SITES[0], token), atol=1e-4)


def test_an_answer_behind_the_prompt_changes_nothing(lm: LanguageModel) -> None:
    marks = {"codename": (CODE,)}
    pair = [encode(lm.tokenizer, user(f"north of {CODE}"), a, marks) for a in ("", " yes")]
    found = naive.name_activations(lm, pair, SITES, "last")
    assert all(torch.allclose(found[site][0], found[site][1], atol=1e-4) for site in SITES)


def test_many_prompts_are_run_in_parts(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = stubs(lm, CODE) + chats(lm, "Oslo")
    whole = naive.name_activations(lm, prompts, SITES)
    monkeypatch.setattr(naive, "_ROWS_AT_ONCE", 3)
    parts = naive.name_activations(lm, prompts, SITES)
    assert all(torch.allclose(parts[site], whole[site], atol=1e-4) for site in SITES)
    assert parts[SITES[0]].shape == (8, tiny.D_MODEL)


# --- vectors ---


def test_a_naive_vector_is_the_mean_difference_over_stubs(lm: LanguageModel) -> None:
    real, code = stubs(lm, "Rome"), stubs(lm, CODE)
    found = naive.naive_vectors(lm, real, code, SITES)
    for site in SITES:
        differences = [
            alone(lm, r, site, len(r.ids) - 1) - alone(lm, c, site, len(c.ids) - 1)
            for r, c in zip(real, code, strict=True)
        ]
        assert found[site].shape == (tiny.D_MODEL,)
        assert torch.allclose(found[site], torch.stack(differences).mean(0), atol=1e-4)
        assert float(found[site].norm()) > 0.1


def test_the_code_name_minus_itself_is_nothing_and_swapping_turns_the_sign(
    lm: LanguageModel,
) -> None:
    real, code = chats(lm, "Rome"), chats(lm, CODE)
    none = naive.naive_vectors(lm, code, code, SITES)
    there, back = (naive.naive_vectors(lm, *pair, SITES) for pair in ((real, code), (code, real)))
    for site in SITES:
        assert torch.equal(none[site], torch.zeros(tiny.D_MODEL))
        assert torch.allclose(there[site], -back[site], atol=1e-5)


def test_at_the_residual_stream_it_is_the_difference_of_what_the_next_block_receives(
    lm: LanguageModel,
) -> None:
    pair, received = (stubs(lm, "Rome")[:1], stubs(lm, CODE)[:1]), list[Tensor]()
    handle = lm.block(1).register_forward_pre_hook(
        lambda module, args, kwargs: received.append((*args, *kwargs.values())[0]),
        with_kwargs=True,
    )
    try:
        for (item,) in pair:
            capture(lm, torch.tensor([item.ids]), SITES[:1])
    finally:
        handle.remove()
    found = naive.naive_vectors(lm, *pair, [Site(0, "resid")])[Site(0, "resid")]
    assert torch.allclose(found, received[0][0, -1] - received[1][0, -1], atol=1e-5)


def test_other_names_are_controls_against_the_same_code(lm: LanguageModel) -> None:
    names = {name: stubs(lm, name) for name in ("Rome", "Paris", "Oslo")}
    found = naive.by_name(lm, names, stubs(lm, CODE), SITES)
    assert list(found) == list(names)
    for name, prompts in names.items():
        single = naive.naive_vectors(lm, prompts, stubs(lm, CODE), SITES)
        assert all(torch.allclose(found[name][site], single[site]) for site in SITES)
    between = naive.naive_vectors(lm, names["Rome"], names["Oslo"], SITES)
    for site in SITES:
        difference = found["Rome"][site] - found["Oslo"][site]
        assert torch.allclose(difference, between[site], atol=1e-4)
        assert not torch.allclose(found["Rome"][site], found["Oslo"][site], atol=1e-2)


def test_reading_leaves_the_model_as_it_was(lm: LanguageModel) -> None:
    before = fingerprint(lm.model)
    naive.naive_vectors(lm, stubs(lm, "Rome"), stubs(lm, CODE), SITES)
    assert fingerprint(lm.model) == before


# --- bad input ---


def test_what_cannot_be_read_is_refused_in_one_line(lm: LanguageModel) -> None:
    unmarked = encode(lm.tokenizer, user("north of Rome"))
    real, code = stubs(lm, "Rome"), stubs(lm, CODE)
    cases = [
        (lambda: naive.name_activations(lm, [], SITES), "No prompts"),
        (lambda: naive.name_activations(lm, [unmarked], SITES), "'codename' in .*north of Rome"),
        (lambda: naive.name_activations(lm, [unmarked], SITES, "all"), "position 'all'"),
        (lambda: naive.naive_vectors(lm, real, code[:3], SITES), "4 prompts for 'real' and 3"),
        (lambda: naive.naive_vectors(lm, [], [], SITES), "No prompts"),
        (lambda: naive.naive_vectors(lm, real, code, [Site(7, "resid")]), "Block 7"),
    ]
    for call, reason in cases:
        with pytest.raises(UserError, match=r"(?s)" + reason) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert naive.name_activations(lm, [unmarked], SITES, "last")[SITES[0]].shape[0] == 1
