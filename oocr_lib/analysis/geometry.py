"""How vectors lie relative to each other.

Learned vectors are compared across seeds, with the naive vector and with the map (paper, section
5.2). Cosines are signed; only vectors of one site can be compared. Axes: k vectors, d model width,
c cities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError
from oocr_lib.util.statistics import Floats, bootstrap

#: How two runs can be related, see ``across``.
RELATIONS = ("same concept, other seed", "other concept, same seed", "both differ")
#: Strengths of a vector in a dose-response; 0 is the base model, 1 the vector as it is.
FACTORS = (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0)


@checked
def cosines(vectors: Sequence[Tensor]) -> Floats:
    """(k, k) signed cosines of k vectors (d,).

    Raises:
        UserError: fewer than two vectors, widths that differ, a zero vector, or numbers that are
            not finite.
    """
    shapes = {tuple(vector.shape) for vector in vectors}
    if len(vectors) < 2 or len(shapes) > 1 or len(next(iter(shapes))) != 1:
        raise UserError(
            f"{len(vectors)} vectors of shapes {sorted(shapes)} cannot be compared. Allowed: two "
            "or more of one width, (d,) each."
        )
    stacked = torch.stack([vector.detach().double().cpu() for vector in vectors]).numpy()
    lengths = np.linalg.norm(stacked, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)))
    if len(bad):
        raise UserError(
            f"Vector {int(bad[0])} of {len(vectors)} has length {lengths[bad[0], 0]}. Allowed: "
            "finite numbers, not all zero; a zero vector has no direction."
        )
    unit = stacked / lengths
    return np.clip(unit @ unit.T, -1.0, 1.0)


@checked
def cosine_table(vectors: Mapping[Any, Tensor]) -> pd.DataFrame:
    """Every pair of named vectors (d,) once: columns ``a, b, cosine``, in the order given.

    Raises:
        UserError: as ``cosines``.
    """
    names, matrix = list(vectors), cosines(list(vectors.values()))
    return pd.DataFrame(
        [
            {"a": names[i], "b": names[j], "cosine": float(matrix[i, j])}
            for i, j in combinations(range(len(names)), 2)
        ]
    )


@checked
def across(vectors: Mapping[tuple[str, int], Tensor], seed: int = 0) -> pd.DataFrame:
    """Mean cosine of runs that share the concept, the seed or neither (paper, section 5.2).

    Pairs are not independent evidence: every run is in many of them, and an interval over pairs is
    far too short where concepts differ. So the interval is over concepts: a bootstrap of jackknife
    pseudo-values, one per concept. Where leaving one out leaves no pair (two concepts, or one),
    there is one number and no interval (``n`` = 1).

    Args:
        vectors: (concept, seed) to (d,).
        seed: of the bootstrap.

    Returns:
        One row per relation that occurs, in the order of ``RELATIONS``: columns ``relation, value,
        low, high, n`` (concepts), ``pairs``.

    Raises:
        UserError: as ``cosines``.
    """
    table = cosine_table(vectors)
    same = [(a[0] == b[0], a[1] == b[1]) for a, b in zip(table["a"], table["b"], strict=True)]
    names = {(True, False): RELATIONS[0], (False, True): RELATIONS[1], (False, False): RELATIONS[2]}
    table["relation"] = [names[pair] for pair in same]
    rows = []
    for relation in RELATIONS:
        part = table[table["relation"] == relation]
        if part.empty:
            continue
        interval = bootstrap(_pseudo_values(part), seed=seed)
        rows.append({"relation": relation, **asdict(interval), "pairs": len(part)})
    return pd.DataFrame(rows)


def _pseudo_values(pairs: pd.DataFrame) -> list[float]:
    """One number per concept: how the mean cosine changes when the concept is left out."""
    cosine = pairs["cosine"].to_numpy()
    first, second = (np.array([key[0] for key in pairs[side]]) for side in ("a", "b"))
    concepts = sorted({*first, *second})
    mean, n = float(cosine.mean()), len(concepts)
    rests = [cosine[(first != c) & (second != c)] for c in concepts]
    if any(len(rest) == 0 for rest in rests):
        return [mean]
    pseudo = np.array([n * mean - (n - 1) * rest.mean() for rest in rests])
    return [float(value) for value in pseudo + mean - pseudo.mean()]


@checked
def spearman(x: Sequence[float] | Floats, y: Sequence[float] | Floats) -> float:
    """Rank correlation of two lists of numbers; ties get their mean rank.

    Raises:
        UserError: other lengths, fewer than two numbers, not finite, or all numbers equal.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    usable = a.shape == b.shape and a.ndim == 1 and len(a) > 1
    if not usable or not np.isfinite([a, b]).all() or not np.ptp(a) or not np.ptp(b):
        raise UserError(
            f"Numbers of shapes {a.shape} and {b.shape} have no rank correlation. Allowed: two "
            "lists of one length, finite, neither of them constant."
        )
    return float(_standard(a) @ _standard(b))


def _standard(values: Floats) -> Floats:
    """Ranks (ties get their mean), centred, of length 1: a dot product is a rank correlation."""
    ranks = pd.Series(values).rank().to_numpy()
    centred = ranks - ranks.mean()
    return np.asarray(centred / np.linalg.norm(centred))


@dataclass(frozen=True)
class Correlation:
    """A rank correlation with its two-sided permutation p-value, over ``n`` cities."""

    rho: float
    p: float
    n: int


@checked
def against_distance(
    vectors: Mapping[str, Tensor], km: Floats, permutations: int = 2000, seed: int = 0
) -> Correlation:
    """Spearman correlation between the cosine of two cities' vectors and their distance.

    Negative: near cities have similar vectors. Pairs share cities, so the cities of the distances
    are permuted, not the pairs (Mantel test).

    Args:
        vectors: city to (d,).
        km: (c, c) symmetric, in the same order; only the order of the distances matters.

    Raises:
        UserError: as ``cosines`` and ``spearman``; fewer than four cities, or another matrix.
    """
    n, km = len(vectors), np.asarray(km, dtype=np.float64)
    if n < 4 or km.shape != (n, n) or not np.array_equal(km, km.T) or permutations < 1:
        raise UserError(
            f"Distances of shape {km.shape} do not fit {n} cities and {permutations} permutations. "
            f"Allowed: four cities or more, a symmetric ({n}, {n}) matrix, and 1 or more."
        )
    matrix, pairs = cosines(list(vectors.values())), np.triu_indices(n, 1)
    rho = spearman(matrix[pairs], km[pairs])
    fixed, moved = _standard(matrix[pairs]), np.zeros((n, n))
    moved[pairs] = _standard(km[pairs])
    moved += moved.T
    rng = np.random.default_rng(seed)
    orders = (rng.permutation(n) for _ in range(permutations))
    drawn = np.array([fixed @ moved[np.ix_(order, order)][pairs] for order in orders])
    # Rounding must not tell an equal permutation from the true one.
    extreme = int((np.abs(drawn) >= abs(rho) - 1e-9).sum())
    return Correlation(rho, (1 + extreme) / (1 + permutations), n)
