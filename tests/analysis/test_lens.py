"""The logit lens on planted vectors, its controls on random ones, and the readout by hand."""

from __future__ import annotations

import functools
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from oocr_lib.activations import capture
from oocr_lib.analysis import lens, norms
from oocr_lib.models.language_model import LanguageModel, Site
from oocr_lib.models.sites import replace_output
from oocr_lib.util.errors import UserError
from tests import tiny, toy

D, V = tiny.D_MODEL, tiny.VOCAB
FAMILIES = [name for name in tiny.FAMILIES if name != "gemma3_sliding"]
RMS = ["gemma3", "llama"]
#: Families that cap their logits softly; the lens does not.
CAPPED = ["gemma2", "gemma3"]
#: Lower than the usual 30, so that it can be felt in a model with small logits.
CAP = 3.0


@functools.cache
def model(family: str) -> LanguageModel:
    made = tiny.language_model(family)
    made.model.config.final_logit_softcapping = CAP  # other families do not read it
    return made


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return model("gemma3")


def random_vectors(n: int, seed: int = 0, width: int = D) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed)) * 5


def unembedding(lm: LanguageModel) -> Tensor:
    return lm.model.lm_head.weight.detach()


def loudest(lm: LanguageModel) -> tuple[int, Tensor]:
    """The longest row of the unembedding: no other row has a larger product with it."""
    rows = unembedding(lm)
    token = int(rows.norm(dim=1).argmax())
    return token, rows[token]


# --- logits ---


@pytest.mark.parametrize("family", FAMILIES)
def test_with_the_norm_the_last_activation_gives_the_models_own_logits(family: str) -> None:
    lm, ids = model(family), torch.arange(10, 17)[None]
    last = Site(lm.n_blocks - 1, "resid")
    with torch.no_grad():
        expected = lm.model(input_ids=ids, use_cache=False).logits[0]
    found = lens.logits(lm, capture(lm, ids, [last])[last][0], norm=True)
    if family in CAPPED:
        assert not torch.allclose(found, expected, atol=0.01)
        found = CAP * torch.tanh(found / CAP)
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_the_norm_the_unembedding_is_applied_straight(family: str) -> None:
    vectors = random_vectors(3)
    expected = vectors.double().numpy() @ unembedding(model(family)).double().numpy().T
    found = lens.logits(model(family), vectors)
    assert found.shape == (3, V) and found.dtype == torch.float32
    assert found.numpy() == pytest.approx(expected, abs=1e-3)


def test_the_vocabulary_may_be_worked_on_in_parts(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = lens.logits(lm, random_vectors(2), norm=True)
    monkeypatch.setattr(lens, "_TOKENS_AT_ONCE", 50)
    assert torch.allclose(lens.logits(lm, random_vectors(2), norm=True), whole, atol=1e-5)


def test_a_bias_of_the_unembedding_counts() -> None:
    lm = tiny.language_model("llama", seed=3)
    before = lens.logits(lm, random_vectors(1))
    bias = torch.arange(V).float()
    lm.model.lm_head.bias = torch.nn.Parameter(bias, requires_grad=False)
    assert torch.allclose(lens.logits(lm, random_vectors(1)), before + bias, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_weights_give_no_ties(family: str) -> None:
    lm = tiny.language_model(family, seed=4)
    lm.model.to(torch.bfloat16)
    for norm in (False, True):
        found = lens.logits(lm, random_vectors(1), norm)[0]
        assert found.dtype == torch.float32 and len(found.unique()) == V


@given(st.floats(0.1, 1e4), st.integers(0, 50), st.sampled_from(FAMILIES))
@settings(max_examples=40)
def test_with_the_norm_a_positive_factor_changes_nothing(
    factor: float, seed: int, family: str
) -> None:
    lm, vector = model(family), random_vectors(1, seed)
    once, scaled = (lens.logits(lm, v, norm=True) for v in (vector, factor * vector))
    assert torch.allclose(once, scaled, atol=1e-2, rtol=1e-3)
    turned = lens.logits(lm, -vector, norm=True)
    assert not torch.allclose(once, turned, atol=0.1)


@given(st.floats(-50, 50), st.integers(0, 50))
def test_without_the_norm_a_factor_is_a_factor_of_the_logits(factor: float, seed: int) -> None:
    lm, vector = model("llama"), random_vectors(1, seed)
    expected = factor * lens.logits(lm, vector)
    assert torch.allclose(lens.logits(lm, factor * vector), expected, atol=1e-2, rtol=1e-4)


# --- top tokens ---


def test_a_vector_along_a_tokens_row_puts_that_token_first(lm: LanguageModel) -> None:
    token, row = loudest(lm)
    table = lens.top_tokens(lm, torch.stack([3 * row, random_vectors(1)[0]]), k=5)
    assert table.columns.tolist() == ["vector", "place", "token", "text", "logit"]
    assert table["vector"].tolist() == [0] * 5 + [1] * 5
    assert table["place"].tolist() == [1, 2, 3, 4, 5] * 2
    first = table.iloc[0]
    assert first["token"] == token and first["text"] == lens.token_text(lm, token)
    assert first["logit"] == pytest.approx(3 * float(row @ row), rel=1e-5)
    for _, part in table.groupby("vector"):
        assert part["logit"].is_monotonic_decreasing
    lowest = lens.top_tokens(lm, -3 * row[None], k=V).iloc[-1]
    assert lowest["token"] == token


@pytest.mark.parametrize("family", RMS)
def test_with_the_norm_its_weights_are_divided_out_of_the_planted_vector(family: str) -> None:
    lm = model(family)
    token, row = loudest(lm)
    weight = norms.final_norm(lm).weight.detach()  # type: ignore[operator]
    gain = 1 + weight if family == "gemma3" else weight
    assert lens.top_tokens(lm, (row / gain)[None], k=1, norm=True)["token"].tolist() == [token]


def test_the_order_of_all_tokens_is_that_of_the_logits(lm: LanguageModel) -> None:
    vector = random_vectors(1, 5)
    expected = np.argsort(-(unembedding(lm).double() @ vector[0].double()).numpy())
    assert lens.top_tokens(lm, vector, k=V)["token"].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("kind", "piece", "expected"),
    [
        ("bpe_digits", "ĠParis", "␣Paris"),
        ("bpe_digits", "City", "City"),
        ("bpe_digits", "Ċ", "\\n"),
        ("metaspace", "▁couhpa", "␣couhpa"),
        ("metaspace", "▁", "␣"),
        ("metaspace", "<0x0A>", "\\n"),
        ("metaspace", "<0xC2>", "<0xC2>"),  # half a character
        ("wordlevel", "Paris", "Paris"),
    ],
)
def test_tokens_are_shown_with_their_spaces(kind: str, piece: str, expected: str) -> None:
    lm = tiny.language_model("llama", kind=kind)
    assert lens.token_text(lm, lm.tokenizer.get_vocab()[piece]) == expected


@pytest.mark.parametrize("kind", list(tiny.KINDS))
def test_every_row_of_the_unembedding_has_a_printable_text(kind: str) -> None:
    lm = tiny.language_model("llama", kind=kind)
    shown = [lens.token_text(lm, token) for token in range(V)]
    assert all(text and text.isprintable() and "\ufffd" not in text for text in shown)
    assert shown[V - 1] == f"[unused {V - 1}]"


def test_words_become_the_tokens_that_spell_them_alone() -> None:
    words = toy.language_model()
    tokenizer = words.tokenizer
    expected = {tokenizer.convert_tokens_to_ids(w) for w in ("Paris", "Rome")}
    assert set(lens.token_set(words, ["Paris", "Rome", "nowhere"])) == expected
    spaced = tiny.language_model("llama", kind="bpe_digits")
    found = lens.token_set(spaced, ["Paris", "City", "Oslo City"])
    pieces = spaced.tokenizer.convert_ids_to_tokens(list(found))
    assert sorted(pieces) == ["City", "ĠCity", "ĠParis"], "the rest is not one token"
    begun = lens.token_set(spaced, ["Paris", "Oslo City"], first=True)
    pieces = spaced.tokenizer.convert_ids_to_tokens(list(begun))
    assert sorted(pieces) == ["Os", "Pa", "ĠOslo", "ĠParis"]
    with pytest.raises(UserError, match=r"'nowhere'.*one token"):
        lens.token_set(words, ["nowhere", "City 5"])


@pytest.mark.parametrize("kind", list(tiny.KINDS))
def test_a_space_alone_is_nobodys_word(kind: str) -> None:
    lm = tiny.language_model("llama", kind=kind)
    found = lens.token_set(lm, ["5", "option"], first=True)
    texts = [lens.token_text(lm, token).strip("␣") for token in found]
    assert texts and all("5".startswith(t) or "option".startswith(t) for t in texts if t)
    assert all(texts) and lm.tokenizer.unk_token_id not in found


# --- ranks against controls ---


def by_hand(lm: LanguageModel, vector: Tensor, ids: list[int], norm: bool) -> list[float]:
    """Ranks from sorting all logits; no ties in random numbers."""
    order = lens.logits(lm, vector[None], norm)[0].numpy().argsort()[::-1].tolist()
    return [order.index(token) + 1 for token in ids]


@pytest.mark.parametrize("norm", [False, True])
def test_ranks_and_p_values_are_those_of_counting(lm: LanguageModel, norm: bool) -> None:
    vectors, sets, count = random_vectors(2, 8), [[9, 40, 41], [300, 7]], 29
    table = lens.concept_rank(lm, vectors, sets, norm, controls=count, seed=11)
    for i, (vector, ids) in enumerate(zip(vectors, sets, strict=True)):
        generator = torch.Generator().manual_seed(11 + i)
        drawn = torch.randn(count, D, generator=generator)
        drawn = drawn / drawn.norm(dim=1, keepdim=True) * vector.norm()
        own = by_hand(lm, vector, ids, norm)
        random = np.array([by_hand(lm, d, ids, norm) for d in drawn])
        row = table.iloc[i]
        assert row["vector"] == i and row["tokens"] == len(ids)
        for name, mine, theirs in (
            ("best", min(own), random.min(1)),
            ("mean", np.mean(own), random.mean(1)),
        ):
            below, level = (theirs > mine).mean(), (theirs == mine).mean()
            assert row[f"{name}_rank"] == pytest.approx(mine)
            assert row[f"{name}_percentile"] == pytest.approx(below + level / 2)
            assert row[f"{name}_p"] == pytest.approx((1 + (theirs <= mine).sum()) / (1 + count))


def test_a_planted_token_has_rank_one_and_random_vectors_rarely_get_there(
    lm: LanguageModel,
) -> None:
    token, row = loudest(lm)
    other = int((unembedding(lm) @ row).argmin())
    table = lens.concept_rank(lm, torch.stack([row, row]), [[token], [other]], controls=199)
    planted, opposite = table.iloc[0], table.iloc[1]
    assert planted["best_rank"] == 1 and planted["mean_rank"] == 1
    assert planted["best_percentile"] > 0.9 and planted["best_p"] < 0.2
    assert opposite["best_rank"] == V
    assert opposite["best_percentile"] < 0.1 and opposite["best_p"] > 0.8


def test_percentiles_of_random_vectors_are_uniform(lm: LanguageModel) -> None:
    """Vectors and controls come from one distribution, so any place among them is as likely."""
    count = 160
    generator = np.random.default_rng(0)
    sets = [generator.choice(V, size=3, replace=False).tolist() for _ in range(count)]
    table = lens.concept_rank(lm, random_vectors(count, 21), sets, controls=99, seed=1000)
    for name in ("best", "mean"):
        found = table[f"{name}_percentile"]
        assert found.mean() == pytest.approx(0.5, abs=0.07)
        assert np.histogram(found, 4, (0, 1))[0] == pytest.approx(count / 4, abs=18)
        assert (table[f"{name}_p"] <= 0.1).mean() == pytest.approx(0.1, abs=0.07)


def test_a_zero_vector_ties_with_everything(lm: LanguageModel) -> None:
    row = lens.concept_rank(lm, torch.zeros(1, D), [[5, 6]], controls=9).iloc[0]
    assert row["best_rank"] == row["mean_rank"] == (V + 1) / 2
    assert row["best_percentile"] == 0.5 and row["best_p"] == 1.0


def test_a_vectors_rank_does_not_depend_on_its_neighbours_or_on_repeated_tokens(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = random_vectors(3, 30)
    together = lens.concept_rank(lm, vectors, [[8], [9, 10], [11]], controls=30, seed=2)
    monkeypatch.setattr(lens, "_VECTORS_AT_ONCE", 7)
    alone = lens.concept_rank(lm, vectors[1:2], [[10, 9, 10]], controls=30, seed=3)
    assert together.iloc[1].drop("vector").tolist() == alone.iloc[0].drop("vector").tolist()


# --- to the residual stream ---


@pytest.mark.parametrize("kind", ["mlp_out", "attn_out"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_vector_reaches_the_residual_stream_as_if_the_module_had_written_it(
    family: str, kind: str
) -> None:
    """The block's output with the module's output replaced by v, minus the same with zeros."""
    lm, site, vector = model(family), Site(1, kind), random_vectors(1, 40)[0]
    resid, ids = Site(1, "resid"), torch.arange(20, 25)[None]

    def written(value: Tensor) -> Tensor:
        with ExitStack() as stack:
            for module, out in (("attn_out", torch.zeros(D)), ("mlp_out", torch.zeros(D))):
                new = value if module == kind else out

                def hook(m: Any, args: Any, output: Any, new: Tensor = new) -> Any:
                    return replace_output(output, new.expand(1, 5, D))

                handle = lm.module(Site(1, module)).register_forward_hook(hook)
                stack.callback(handle.remove)
            return capture(lm, ids, [resid])[resid][0]

    expected = written(vector) - written(torch.zeros(D))
    found = lens.to_residual(lm, vector, site)
    assert found.shape == (D,) and torch.allclose(found.expand(5, D), expected, atol=1e-4)
    post = family in tiny.POST_NORM
    assert (norms.post_norm(lm, site) is not None) == post
    assert torch.equal(found, vector) == (not post)
    assert torch.allclose(lens.to_residual(lm, torch.stack([vector] * 2), site)[1], found)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_in_the_residual_stream_stays_as_it_is(family: str) -> None:
    lm, vectors = model(family), random_vectors(2)
    assert norms.post_norm(lm, Site(0, "resid")) is None
    assert torch.equal(lens.to_residual(lm, vectors, Site(0, "resid")), vectors)


def test_after_a_post_norm_the_length_before_it_is_gone(lm: LanguageModel) -> None:
    vector, site = random_vectors(1, 50)[0], Site(2, "mlp_out")
    short, long = (lens.to_residual(lm, c * vector, site) for c in (1.0, 1000.0))
    assert torch.allclose(short, long, rtol=1e-3, atol=1e-3)


# --- readout ---

NAMES = ["a", "b", "c"]
#: Two prompts of three concepts in the plane; prompt 2 stands 0.2 above prompt 1, for all of them.
REAL = {
    "a": torch.tensor([[11.0, 5.0], [11.0, 5.2]]),
    "b": torch.tensor([[9.0, 6.0], [9.0, 6.2]]),
    "c": torch.tensor([[10.0, 4.0], [10.0, 4.2]]),
}


def test_the_nearest_centroid_and_the_true_ones_rank_by_hand() -> None:
    """Centroids without their mean (10, 5.1): a (1, 0), b (-1, 1), c (0, -1)."""
    vectors = torch.tensor([[2.0, 0.0], [2.0, 1.0], [0.0, -3.0], [0.0, 0.0]])
    found = lens.readout(vectors, ["a", "b", "a", "c"], REAL)
    table = found.table
    assert table["vector"].tolist() == [0, 1, 2, 3] and table["truth"].tolist() == list("abac")
    assert table["nearest"].tolist()[:3] == ["a", "a", "c"]
    assert table["rank"].tolist() == [1.0, 2.0, 2.0, 2.0], "a zero vector ties with all three"
    expected = [1.0, -1 / np.sqrt(5 * 2), 0.0, 0.0]
    assert table["cosine"].tolist() == pytest.approx(expected, abs=1e-6)
    assert found.chance == pytest.approx(1 / 3) and found.accuracy == 1.0


def planted(noise: float, seed: int, prompts: int = 4) -> dict[str, Tensor]:
    rng = np.random.default_rng(seed)
    places, wording = rng.normal(size=(6, 8)), rng.normal(size=(prompts, 8))
    return {
        f"concept {i}": torch.tensor(place + 0.3 * wording + noise * rng.normal(size=wording.shape))
        for i, place in enumerate(places)
    }


@pytest.mark.parametrize("noise", [0.5, 1.5, 4.0])
def test_the_accuracy_is_that_of_leaving_a_prompt_out(noise: float) -> None:
    real = planted(noise, seed=1)
    right, names = 0, list(real)
    for prompt in range(4):
        keep = [p for p in range(4) if p != prompt]
        means = {n: real[n][keep].numpy().mean(0) for n in names}
        middle = np.mean(list(means.values()), axis=0)
        for name in names:
            x = real[name][prompt].numpy() - middle
            cosine = {
                n: x @ (m - middle) / np.linalg.norm(x) / np.linalg.norm(m - middle)
                for n, m in means.items()
            }
            right += max(cosine, key=lambda n: cosine[n]) == name
    found = lens.readout(torch.ones(1, 8), [names[0]], real)
    assert found.accuracy == pytest.approx(right / 24)


def test_the_validity_check_tells_concepts_from_noise() -> None:
    clear, mixed = planted(0.1, seed=2), planted(50.0, seed=2, prompts=40)
    one = torch.ones(1, 8)
    assert lens.readout(one, ["concept 0"], clear).accuracy == 1.0
    noise = lens.readout(one, ["concept 0"], mixed)
    assert noise.accuracy == pytest.approx(noise.chance, abs=0.08)


# --- bad input ---


@pytest.mark.parametrize(
    ("vectors", "sets", "controls"),
    [
        (torch.zeros(2, D), [[1]], 9),
        (torch.zeros(1, D), [[]], 9),
        (torch.zeros(1, D), [[V]], 9),
        (torch.zeros(1, D), [[-1]], 9),
        (torch.zeros(1, D), [[1]], 0),
        (torch.zeros(1, D + 1), [[1]], 9),
        (torch.full((1, D), float("nan")), [[1]], 9),
        (torch.zeros(1, 1, D), [[1]], 9),
    ],
)
def test_what_cannot_be_ranked_is_refused_in_one_line(
    lm: LanguageModel, vectors: Tensor, sets: list[list[int]], controls: int
) -> None:
    with pytest.raises(UserError, match="Allowed") as caught:
        lens.concept_rank(lm, vectors, sets, controls=controls)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("k", [0, V + 1])
def test_only_tokens_that_exist_can_be_listed(lm: LanguageModel, k: int) -> None:
    with pytest.raises(UserError, match=f"k={k}"):
        lens.top_tokens(lm, torch.zeros(1, D), k)


def test_a_block_that_is_not_there_is_refused_at_every_kind_of_site(lm: LanguageModel) -> None:
    for kind in ("resid", "mlp_out"):
        with pytest.raises(UserError, match="Block 9"):
            lens.to_residual(lm, torch.zeros(D), Site(9, kind))


def test_an_unknown_final_norm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = model("gpt2")
    monkeypatch.setattr(norms, "_FINAL_NORMS", ("norm",))
    with pytest.raises(UserError, match=r"no known final norm.*ln_f.*norm=False"):
        lens.logits(lm, torch.zeros(1, D), norm=True)
    assert lens.logits(lm, torch.zeros(1, D)).shape == (1, V)


@pytest.mark.parametrize(
    ("vectors", "truths", "real", "reason"),
    [
        (torch.ones(1, 2), ["d"], REAL, "'d'"),
        (torch.ones(2, 2), ["a"], REAL, "do not fit"),
        (torch.ones(1, 3), ["a"], REAL, "do not fit"),
        (torch.ones(1, 2), ["a"], {"a": REAL["a"]}, "do not fit"),
        (torch.ones(1, 2), ["a"], {"a": REAL["a"], "b": REAL["b"][:1]}, "do not fit"),
        (torch.ones(1, 2), ["a"], {n: x[:1] for n, x in REAL.items()}, "do not fit"),
        (torch.ones(1, 2), ["a"], {n: x[0] for n, x in REAL.items()}, "do not fit"),
        (torch.ones(1, 2), ["a"], {}, "do not fit"),
    ],
)
def test_a_readout_needs_prompts_of_known_concepts(
    vectors: Tensor, truths: list[str], real: dict[str, Tensor], reason: str
) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        lens.readout(vectors, truths, real)
    assert "\n" not in str(caught.value)
