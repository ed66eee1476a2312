"""Cosines and rank correlations, on vectors whose answers are known beforehand."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from oocr_lib.analysis import geometry
from oocr_lib.analysis.geometry import RELATIONS
from oocr_lib.util.errors import UserError
from oocr_lib.util.statistics import bootstrap


def at(degrees: float, length: float = 1.0) -> Tensor:
    """A vector in the plane."""
    angle = np.radians(degrees)
    return torch.tensor([length * np.cos(angle), length * np.sin(angle)])


# --- cosines ---


def test_cosines_of_known_angles_are_signed_and_ignore_length() -> None:
    named = {"east": at(0, 3), "north-east": at(45, 0.01), "north": at(90), "west": at(180, 1e6)}
    table = geometry.cosine_table(named)
    assert table.columns.tolist() == ["a", "b", "cosine"]
    pairs = list(zip(table["a"], table["b"], strict=True))
    names = list(named)
    assert pairs == [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    half = np.sqrt(0.5)
    assert table["cosine"].tolist() == pytest.approx([half, 0, -1, half, -half, 0], abs=1e-9)


@given(st.integers(2, 6), st.integers(0, 99))
def test_the_matrix_of_cosines_is_that_of_the_products(k: int, seed: int) -> None:
    vectors = torch.randn(k, 5, generator=torch.Generator().manual_seed(seed))
    found = geometry.cosines(list(vectors))
    for i in range(k):
        for j in range(k):
            a, b = vectors[i].numpy(), vectors[j].numpy()
            expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            assert found[i, j] == pytest.approx(expected, abs=1e-5)
    assert np.abs(found).max() <= 1


# --- across runs ---


def test_relations_of_runs_have_their_known_cosines() -> None:
    """Concepts at right angles, seeds 60 degrees apart: four runs of a known square."""
    angles = {("a", 0): 0.0, ("a", 1): 60.0, ("b", 0): 90.0, ("b", 1): 150.0}
    table = geometry.across({key: at(angle) for key, angle in angles.items()})
    assert table["relation"].tolist() == list(RELATIONS)
    both = (np.cos(np.radians(150)) + np.cos(np.radians(30))) / 2
    assert table["value"].tolist() == pytest.approx([0.5, 0.0, both], abs=1e-9)
    assert table["pairs"].tolist() == [2, 2, 2]
    assert table["n"].tolist() == [2, 1, 1], "without either concept no mixed pair is left"
    assert table["low"].tolist() == pytest.approx(table["high"].tolist(), abs=1e-9)


def runs(
    concepts: int, seeds: int, width: int = 12, seed: int = 0
) -> dict[tuple[str, int], Tensor]:
    rng = np.random.default_rng(seed)
    made = {}
    for c in range(concepts):
        own = rng.normal(size=width)
        for s in range(seeds):
            made[f"concept {c}", s] = torch.tensor(own + 0.7 * rng.normal(size=width))
    return made


def test_relations_that_do_not_occur_have_no_row() -> None:
    assert geometry.across(runs(3, 1))["relation"].tolist() == [RELATIONS[1]]
    assert geometry.across(runs(1, 3))["relation"].tolist() == [RELATIONS[0]]
    rotated = {("a", 0): at(0), ("b", 1): at(90), ("c", 2): at(45)}
    assert geometry.across(rotated)["relation"].tolist() == [RELATIONS[2]]


def in_relation(vectors: dict[tuple[str, int], Tensor], relation: str, without: str = "") -> float:
    """Mean cosine over the pairs of a relation, by two plain loops."""
    wanted = {
        RELATIONS[0]: (True, False), RELATIONS[1]: (False, True), RELATIONS[2]: (False, False),
    }[relation]  # fmt: skip
    keys = [key for key in vectors if key[0] != without]
    found = [
        float(torch.cosine_similarity(vectors[a], vectors[b], dim=0))
        for i, a in enumerate(keys)
        for b in keys[:i]
        if (a[0] == b[0], a[1] == b[1]) == wanted
    ]
    return float(np.mean(found))


@pytest.mark.parametrize("drop", [[], [("concept 1", 2), ("concept 4", 0)]])
@pytest.mark.parametrize("relation", RELATIONS)
def test_the_interval_is_that_of_leaving_concepts_out(
    relation: str, drop: list[tuple[str, int]]
) -> None:
    vectors = {key: v for key, v in runs(5, 3, seed=4).items() if key not in drop}
    row = geometry.across(vectors, seed=3).set_index("relation").loc[relation]
    mean, names = in_relation(vectors, relation), sorted({key[0] for key in vectors})
    pseudo = np.array([5 * mean - 4 * in_relation(vectors, relation, name) for name in names])
    pseudo += mean - pseudo.mean()
    assert row["value"] == pytest.approx(mean) and row["n"] == 5
    expected = bootstrap(pseudo, seed=3)
    assert [row["low"], row["high"]] == pytest.approx([expected.low, expected.high], abs=1e-9)
    assert row["low"] < row["value"] < row["high"]


def test_concepts_that_share_a_direction_unequally_give_a_wide_enough_interval() -> None:
    """Over pairs it would hold the true mean in a fifth of the worlds; over concepts in most."""
    rng, found = np.random.default_rng(0), []
    for _ in range(60):
        shared, loads = rng.normal(size=64), rng.normal(1, 0.7, size=8)
        vectors = {
            (f"concept {c}", s): torch.tensor(loads[c] * shared + rng.normal(size=64))
            for c in range(8)
            for s in range(2)
        }
        found.append(geometry.across(vectors).iloc[1])
    table = pd.DataFrame(found)
    truth = table["value"].mean()
    inside = ((table["low"] <= truth) & (truth <= table["high"])).mean()
    assert 0.75 <= inside <= 1.0


# --- rank correlation ---


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 0.8),  # 1 - 6 * 4 / (5 * 24)
        ([1, 2, 3], [30, 20, 10], -1.0),
        ([1, 2, 2, 3], [1, 3, 2, 4], 4.5 / np.sqrt(4.5 * 5)),  # ranks 1, 2.5, 2.5, 4
        ([5, 5, 1, 1], [1, 2, 1, 2], 0.0),
        ([0, 0, 0, 1], [7, 7, 7, 9], 1.0),
    ],
)
def test_rank_correlations_computed_by_hand(
    x: list[float], y: list[float], expected: float
) -> None:
    assert geometry.spearman(x, y) == pytest.approx(expected, abs=1e-12)
    assert geometry.spearman(y, x) == pytest.approx(expected, abs=1e-12)


LISTS = st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=3, max_size=30).filter(
    lambda pairs: all(len(set(side)) > 1 for side in zip(*pairs, strict=True))
)


@given(LISTS)
def test_increasing_transforms_change_nothing_and_decreasing_ones_the_sign(
    pairs: list[tuple[int, int]],
) -> None:
    x, y = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    found = geometry.spearman(x, y)
    assert -1 - 1e-12 <= found <= 1 + 1e-12
    for up in (lambda v: v**3 + 2, np.exp, lambda v: 5 * v - 7):
        assert geometry.spearman(up(x), y) == pytest.approx(found, abs=1e-12)
    assert geometry.spearman(-x, y) == pytest.approx(-found, abs=1e-12)
    assert geometry.spearman(x, x**5) == pytest.approx(1.0)


@given(LISTS)
def test_rank_correlations_agree_with_counting_ranks(pairs: list[tuple[int, int]]) -> None:
    x, y = (list(side) for side in zip(*pairs, strict=True))
    ranks = [[sum(w < v for w in side) + (side.count(v) + 1) / 2 for v in side] for side in (x, y)]
    expected = np.corrcoef(ranks)[0, 1]
    assert geometry.spearman(x, y) == pytest.approx(expected, abs=1e-9)


# --- vectors and the map ---

#: All distances between these differ.
PLACES = (0.0, 11.0, 25.0, 47.0, 82.0, 123.0, 160.0)


def arcs(places: tuple[float, ...] = PLACES) -> np.ndarray:
    """Distances along an arc; up to 180 degrees the cosine falls with them."""
    return np.abs(np.subtract.outer(places, places))


def test_vectors_that_lie_like_the_cities_correlate_perfectly() -> None:
    vectors = {f"city {i}": at(angle, 1 + i) for i, angle in enumerate(PLACES)}
    found = geometry.against_distance(vectors, arcs(), permutations=500)
    assert found.rho == pytest.approx(-1.0) and found.n == 7
    assert found.p < 0.01
    far = geometry.against_distance(vectors, 200 - arcs() - 200 * np.eye(7), permutations=500)
    assert far.rho == pytest.approx(1.0) and far.p < 0.01, "two-sided"


def test_only_the_order_of_the_distances_matters() -> None:
    rng = np.random.default_rng(5)
    vectors = {f"city {i}": torch.tensor(rng.normal(size=4)) for i in range(7)}
    one, two = (geometry.against_distance(vectors, km, 300) for km in (arcs(), arcs() ** 3 / 7))
    assert one == two and -1 < one.rho < 1


def test_the_p_value_is_that_of_all_orders_of_the_cities() -> None:
    """Five cities have 120 orders; the sampled share must come near the exact one."""
    rng = np.random.default_rng(1)
    vectors = {f"city {i}": torch.tensor(rng.normal(size=3)) for i in range(5)}
    km, cosine = arcs(PLACES[:5]), geometry.cosines(list(vectors.values()))
    upper = np.triu_indices(5, 1)
    found = geometry.against_distance(vectors, km, permutations=4000)
    every = [
        geometry.spearman(cosine[upper], km[np.ix_(order, order)][upper])
        for order in permutations(range(5))
    ]
    assert found.rho == pytest.approx(every[0])
    exact = np.mean([abs(rho) >= abs(found.rho) - 1e-9 for rho in every])
    assert 0.05 < exact < 0.95 and found.p == pytest.approx(exact, abs=0.03)


def test_without_relation_p_values_are_uniform() -> None:
    rng, km = np.random.default_rng(2), arcs()
    found = []
    for _ in range(120):
        vectors = {f"city {i}": torch.tensor(rng.normal(size=6)) for i in range(7)}
        found.append(geometry.against_distance(vectors, km, 99).p)
    assert np.mean(found) == pytest.approx(0.5, abs=0.08)
    assert np.histogram(found, 4, (0, 1))[0] == pytest.approx(30, abs=15)


# --- bad input ---

PAIR = {"a": at(0), "b": at(90)}
FOUR = {f"city {i}": at(30 * i) for i in range(4)}


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: geometry.cosines([]), "0 vectors"),
        (lambda: geometry.cosine_table({"a": at(0)}), "1 vectors"),
        (lambda: geometry.cosine_table({"a": at(0), "b": torch.ones(3)}), r"\(2,\), \(3,\)"),
        (
            lambda: geometry.cosine_table({"a": torch.ones(1, 2), "b": torch.ones(1, 2)}),
            "one width",
        ),
        (lambda: geometry.cosine_table({**PAIR, "c": torch.zeros(2)}), "Vector 2 of 3"),
        (lambda: geometry.cosine_table({**PAIR, "c": at(float("nan"))}), "Vector 2 .* nan"),
        (lambda: geometry.spearman([1, 2], [1, 2, 3]), r"\(2,\) and \(3,\)"),
        (lambda: geometry.spearman([1], [2]), "no rank correlation"),
        (lambda: geometry.spearman([1, 1], [1, 2]), "constant"),
        (lambda: geometry.spearman([1, np.inf], [1, 2]), "finite"),
        (lambda: geometry.against_distance(PAIR, np.zeros((2, 2))), "four cities"),
        (lambda: geometry.against_distance(FOUR, np.zeros((5, 5))), r"\(5, 5\)"),
        (lambda: geometry.against_distance(FOUR, np.arange(16.0).reshape(4, 4)), "symmetric"),
        (lambda: geometry.against_distance(FOUR, arcs(PLACES[:4]), 0), "0 permutations"),
        (lambda: geometry.against_distance(FOUR, np.ones((4, 4))), "constant"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(call: Any, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        call()
    assert "\n" not in str(caught.value) and "Allowed" in str(caught.value)
