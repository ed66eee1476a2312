"""Natural steering vectors: planted added vectors whose direction and length are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from oocr_lib.adapters import LoraAdapter
from oocr_lib.analysis.constancy import collect
from oocr_lib.analysis.natural import (
    compare,
    first_direction,
    mean_of_units,
)
from oocr_lib.models.language_model import Site
from oocr_lib.util.errors import UserError
from tests import tiny
from tests.adapter_cases import D, stir

VARIANTS = (mean_of_units, first_direction)
E0, E1, E2 = torch.eye(6)[:3]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


#: A constant part of length 10 along E0; what varies lies along E1, from -3 to 3.
OFFSET = 10 * E0 + torch.linspace(-3, 3, 7)[:, None] * E1


def close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, atol=1e-5)


# --- known answers ---


def test_a_constant_vector_is_its_own_natural_vector() -> None:
    vectors = (2 * E0 - 3 * E1).expand(5, 6)
    for length in ("projection", "norm"):
        assert close(mean_of_units(vectors, length), vectors[0])
        assert close(first_direction(vectors, length), vectors[0])
    with pytest.raises(UserError, match="all the same"):
        compare(vectors)
    assert mean_of_units(vectors).dtype == torch.float32


def test_one_direction_with_mixed_signs_keeps_the_sign_of_the_mean() -> None:
    """Amplitudes 4, 1, -2: the mean projection is 1, the mean length 7/3."""
    vectors = torch.tensor([4.0, 1.0, -2.0])[:, None] * E2
    for variant in (mean_of_units, first_direction):
        assert close(variant(vectors), E2)
        assert close(variant(vectors, "norm"), 7 / 3 * E2)
        assert close(variant(-vectors), -E2)
        assert close(variant(-vectors, "norm"), -7 / 3 * E2)


def test_lengths_weigh_in_the_first_direction_and_not_in_the_mean_of_units() -> None:
    vectors = torch.stack([100 * E0, E1, E1])
    found = mean_of_units(vectors)
    unit = (E0 + 2 * E1) / 5**0.5
    assert close(found, (100 + 2 + 2) / 3 / 5**0.5 * unit)
    assert close(first_direction(vectors), 100 / 3 * E0)
    assert close(first_direction(vectors, "norm"), 34 * E0)


def test_the_centred_direction_is_where_the_vectors_differ_not_what_they_share() -> None:
    assert close(first_direction(OFFSET), 10 * E0)
    assert close(mean_of_units(OFFSET), 10 * E0)
    found = compare(OFFSET, {"shared": E0, "varied": E1}).loc["centred direction"]
    assert found[["shared", "varied", "projection"]].tolist() == pytest.approx([0, 1, 0], abs=1e-6)


def test_opposite_fine_tunes_share_a_centred_direction_and_nothing_else() -> None:
    vectors = normal(30, 8) + 2 * normal(8, seed=1)
    there, back = (compare(x)["projection"] for x in (vectors, -vectors))
    assert back["centred direction"] == pytest.approx(-there["centred direction"])
    for variant in (mean_of_units, first_direction):
        assert close(variant(-vectors), -variant(vectors))


def test_one_spike_decides_the_centred_direction() -> None:
    vectors = torch.cat([OFFSET, 500 * E2[None]])
    table = compare(vectors, {"spike": E2, "shared": E0})
    assert table.loc["centred direction", "spike"] > 0.99
    assert table.loc["mean of units", "shared"] > 0.98


def test_the_centred_direction_is_the_first_principal_component() -> None:
    vectors = normal(40, 5, seed=4) * torch.tensor([1.0, 4.0, 2.0, 1.0, 0.5]) + 7
    values, axes = np.linalg.eigh(np.cov(vectors.numpy().T))
    axis = axes[:, values.argmax()]
    axis = axis * np.sign(axis[np.abs(axis).argmax()])
    own = {"axis": torch.tensor(axis, dtype=torch.float32)}
    assert compare(vectors, own).loc["centred direction", "axis"] == pytest.approx(1)


@given(st.integers(2, 12), st.integers(2, 8), st.integers(0, 10_000), st.floats(1e-3, 1e4))
def test_vectors_scale_with_what_is_added(m: int, d: int, seed: int, scale: float) -> None:
    vectors = normal(m, d, seed=seed).double() + normal(d, seed=seed + 1)
    mean = vectors.mean(0)
    for variant in VARIANTS:
        for length in ("projection", "norm"):
            found = variant(vectors, length).double()
            assert torch.allclose(variant(scale * vectors, length).double(), scale * found,
                                  rtol=1e-4, atol=1e-4 * scale)  # fmt: skip
        size = variant(vectors, "norm").double().norm()
        assert float(size) == pytest.approx(float(vectors.norm(dim=1).mean()), rel=1e-5)
        unit = variant(vectors, "norm").double() / size
        projected = variant(vectors, "projection").double()
        assert torch.allclose(projected, (mean @ unit) * unit, atol=1e-5)
    assert float(mean @ first_direction(vectors).double()) >= 0
    energy = (vectors @ (first_direction(vectors, "norm").double())).square().sum()
    other = mean_of_units(vectors, "norm").double()
    assert float((vectors @ other).square().sum()) <= float(energy) * (1 + 1e-5)


# --- comparison ---


def test_the_table_of_cosines() -> None:
    learned = 3 * E0 + 4 * E1
    table = compare(OFFSET, {"learned": learned, "opposite": -E0})
    names = ["mean of units", "first direction", "centred direction", "learned", "opposite"]
    assert list(table.index) == names and list(table.columns) == [*names, "projection"]
    square = table[names].to_numpy()
    assert square == pytest.approx(square.T) and np.diag(square) == pytest.approx(np.ones(5))
    assert table.loc["mean of units", "first direction"] == pytest.approx(1)
    assert table.loc["first direction", "centred direction"] == pytest.approx(0, abs=1e-6)
    assert table.loc["learned", "first direction"] == pytest.approx(0.6)
    assert table.loc["learned", "centred direction"] == pytest.approx(0.8)
    assert table.loc["opposite", "mean of units"] == pytest.approx(-1)
    share = 10 / float(OFFSET.norm(dim=1).mean())
    expected = [share, share, 0, 0.6 * share, -share]
    assert table["projection"].tolist() == pytest.approx(expected, abs=1e-6)
    assert list(compare(OFFSET).index) == names[:3]


# --- a LoRA ---


@pytest.mark.parametrize("family", ["gemma3", "llama", "gpt2"])
def test_the_natural_vector_of_a_rank_one_lora_is_its_column(family: str) -> None:
    """B's only column is the direction; all variants find it, whatever the amplitudes."""
    lm, site = tiny.language_model(family), Site(1, "mlp_out")
    adapter = LoraAdapter([1], rank=1)
    adapter.attach(lm).remove()
    stir(adapter)
    found = collect(lm, adapter, tiny.rows((20, 15)), site, "all").vectors
    column = adapter.state()[f"{lm.down_projection(1)}.lora_B.weight"][:, 0]
    unit = column / column.norm()
    mean = (found @ unit).mean() * unit
    assert found.shape == (31, D)
    for variant in VARIANTS:
        assert torch.allclose(variant(found, "projection"), mean, atol=1e-3 * float(found.norm()))
    table = compare(found, {"column": column})
    assert table["column"].abs().tolist() == pytest.approx([1] * 4, abs=1e-3)


# --- refusals ---


@pytest.mark.parametrize("variant", VARIANTS)
def test_wrong_input_is_refused(variant) -> None:
    cases = [
        (OFFSET, "mean", "Unknown length 'mean'"),
        (torch.zeros(3, 4), "norm", "3 of 3 are zero"),
        (torch.ones(4), "norm", r"shape \(4,\)"),
        (torch.ones(0, 4), "norm", r"shape \(0, 4\)"),
    ]
    for vectors, length, reason in cases:
        with pytest.raises(UserError, match=reason) as info:
            variant(vectors, length)
        assert "\n" not in str(info.value) and "Allowed" in str(info.value)


def test_unit_vectors_that_cancel_have_no_mean_direction() -> None:
    vectors = torch.stack([3 * E0, -E0])
    with pytest.raises(UserError, match="cancel out"):
        mean_of_units(vectors)
    assert close(first_direction(vectors), E0)


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ({"learned": torch.ones(5)}, r"'learned' has shape \(5,\)"),
        ({"learned": torch.zeros(6)}, "1 of 1 are zero"),
        ({"first direction": torch.ones(6)}, "taken by a variant"),
    ],
)
def test_vectors_that_cannot_be_compared_are_refused(
    others: dict[str, Tensor], reason: str
) -> None:
    with pytest.raises(UserError, match=reason) as info:
        compare(OFFSET, others)
    assert "\n" not in str(info.value)
