"""How vectors lie to each other, and what the model does between and beyond them.

Learned vectors are compared across seeds, with the naive vector and with the map (paper, section
5.2). Cosines are signed; only vectors of one site can be compared. Axes: k vectors, d model width,
c cities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from oocr_lib.adapters.vector import VectorAdapter
from oocr_lib.encoding import Encoded, encode_row
from oocr_lib.errors import UserError
from oocr_lib.evaluation import Asked, prepare, score, summarise
from oocr_lib.models import LanguageModel
from oocr_lib.reuse import Reuse
from oocr_lib.sites import Site
from oocr_lib.statistics import Floats, bootstrap
from oocr_lib.tasks.base import Question, Row
from oocr_lib.training import RunData, validate

#: How two runs can be related, see ``across``.
RELATIONS = ("same concept, other seed", "other concept, same seed", "both differ")
FACTORS = (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0)


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


def cosine_table(vectors: Mapping[Any, Tensor]) -> pd.DataFrame:
    """Every pair of named vectors (d,) once: columns ``a, b, cosine``, in the order given.

    Raises:
        UserError: as ``cosines``.
    """
    names, found = list(vectors), cosines(list(vectors.values()))
    return pd.DataFrame(
        [
            {"a": names[i], "b": names[j], "cosine": float(found[i, j])}
            for i, j in combinations(range(len(names)), 2)
        ]
    )


def across(vectors: Mapping[tuple[str, int], Tensor], seed: int = 0) -> pd.DataFrame:
    """Mean cosine of runs that share the concept, the seed or neither (paper, section 5.2).

    Pairs are no independent evidence: every run is in many of them, and an interval over pairs is
    far too short where concepts differ. So it is over concepts: a bootstrap of jackknife
    pseudo-values, one a concept. Where leaving one out leaves no pair (two concepts, or one), there
    is one number and no interval (``n`` = 1).

    Args:
        vectors: (concept, seed) to (d,).
        seed: of the bootstrap.

    Returns:
        One row a relation that occurs, in the order of ``RELATIONS``: columns ``relation, value,
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
        found = bootstrap(_pseudo_values(part), seed=seed)
        ends = {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
        rows.append({"relation": relation, **ends, "pairs": len(part)})
    return pd.DataFrame(rows)


def _pseudo_values(pairs: pd.DataFrame) -> list[float]:
    """One number a concept: how the mean cosine changes when the concept is left out."""
    cosine = pairs["cosine"].to_numpy()
    one, two = (np.array([key[0] for key in pairs[side]]) for side in ("a", "b"))
    concepts = sorted({*one, *two})
    mean, n = float(cosine.mean()), len(concepts)
    left = [cosine[(one != c) & (two != c)] for c in concepts]
    if any(len(rest) == 0 for rest in left):
        return [mean]
    made = np.array([n * mean - (n - 1) * rest.mean() for rest in left])
    return [float(value) for value in made + mean - made.mean()]


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
    return float(_standard(_ranks(a)) @ _standard(_ranks(b)))


def _ranks(values: Floats) -> Floats:
    """Ranks from 1 of (n,); ties get their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _standard(values: Floats) -> Floats:
    """Centred, of length 1, so that a dot product is a correlation."""
    centred = values - values.mean()
    return np.asarray(centred / np.linalg.norm(centred))


@dataclass(frozen=True)
class Correlation:
    """A rank correlation with its two-sided permutation p-value, over ``n`` cities."""

    rho: float
    p: float
    n: int


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
    found, pairs = cosines(list(vectors.values())), np.triu_indices(n, 1)
    rho = spearman(found[pairs], km[pairs])
    fixed, moved = _standard(_ranks(found[pairs])), np.zeros((n, n))
    moved[pairs] = _standard(_ranks(km[pairs]))
    moved += moved.T
    rng = np.random.default_rng(seed)
    orders = (rng.permutation(n) for _ in range(permutations))
    drawn = np.array([fixed @ moved[np.ix_(order, order)][pairs] for order in orders])
    # Rounding must not tell an equal permutation from the true one.
    extreme = int((np.abs(drawn) >= abs(rho) - 1e-9).sum())
    return Correlation(rho, (1 + extreme) / (1 + permutations), n)


def line(a: Tensor, b: Tensor, weights: Sequence[float]) -> Tensor:
    """(len(weights), d): (1 − w) a + w b; 0 is a, 1 is b, others lie between or beyond."""
    w = torch.tensor([float(weight) for weight in weights], dtype=a.dtype, device=a.device)
    return (1 - w)[:, None] * a + w[:, None] * b.to(a)


def evaluate_vectors(
    lm: LanguageModel,
    vectors: Tensor,
    site: Site | str,
    position: str,
    questions: Sequence[Question] | Sequence[Asked],
    rows: Sequence[Row] | Sequence[Encoded],
    *,
    valid_rows: int = 48,
    seed: int = 0,
    chunk: int = 8,
    reuse: Reuse | None = None,
) -> pd.DataFrame:
    """Score every vector (k, d), in the site's raw units, on questions and validation rows.

    Args:
        rows: at most ``valid_rows`` of them are used, drawn with ``seed`` (a run's own seed gives
            the rows of its own validation loss).
        chunk: vectors that share a batch; bounds memory.
        reuse: what no vector changes, computed before.

    Returns:
        One row a vector and family, ``all`` included: columns ``vector`` (from 0), ``family, mc,
        top1, p_truth, rank, valid_loss, valid_accuracy``, as in ``Grid.run``.

    Raises:
        UserError: nothing to score, numbers that are not finite, or an unknown site or position.
    """
    counts = (len(vectors), len(questions), len(rows), chunk)
    if vectors.ndim != 2 or min(counts) < 1 or not bool(torch.isfinite(vectors).all()):
        raise UserError(
            f"Vectors {tuple(vectors.shape)}, {len(questions)} questions, {len(rows)} rows, chunk="
            f"{chunk!r}: not to be scored. Allowed: finite (k, d), and at least 1 of each."
        )
    asked = [q if isinstance(q, Asked) else prepare(lm, [q])[0] for q in questions]
    valid = [r if isinstance(r, Encoded) else encode_row(lm.tokenizer, r) for r in rows]
    data, made = RunData([], valid, seed), list[dict[str, Any]]()
    for part in vectors.detach().float().split(chunk):
        adapter = VectorAdapter([site] * len(part), part.shape[1], position, [1.0] * len(part))
        adapter.theta.data.copy_(part)
        made += _scored(lm, adapter, asked, data, valid_rows, reuse)
    found = pd.DataFrame(made)
    found.insert(0, "vector", np.repeat(np.arange(len(vectors)), len(found) // len(vectors)))
    return found


def _scored(
    lm: LanguageModel,
    adapter: VectorAdapter,
    asked: Sequence[Asked],
    data: RunData,
    valid_rows: int,
    reuse: Reuse | None,
) -> list[dict[str, Any]]:
    """Rows of ``evaluate_vectors`` for the vectors of one adapter, in their order."""
    k, made = len(adapter.sites), list[dict[str, Any]]()
    owner = [i for i in range(k) for _ in asked]
    with adapter.attach(lm) as attached:
        table = score(lm, [*asked] * k, attached, owner, reuse)
        loss, exact = validate(lm, attached, [data] * k, valid_rows, reuse)
    for i in range(k):
        ends = {"valid_loss": float(loss[i]), "valid_accuracy": float(exact[i])}
        families = summarise(table[table["run"] == i])
        made += [{"family": name, **measures, **ends} for name, measures in families.items()]
    return made


def dose_response(
    lm: LanguageModel,
    vector: Tensor,
    site: Site | str,
    position: str,
    questions: Sequence[Question] | Sequence[Asked],
    rows: Sequence[Row] | Sequence[Encoded],
    factors: Sequence[float] = FACTORS,
    **options: Any,
) -> pd.DataFrame:
    """``factor`` times the vector (d,), for every factor; 0 is the base model, 1 the vector.

    Args:
        options: as ``evaluate_vectors``.

    Returns:
        The table of ``evaluate_vectors`` with ``factor`` in place of ``vector``.
    """
    doses = line(torch.zeros_like(vector), vector, factors)
    table = evaluate_vectors(lm, doses, site, position, questions, rows, **options)
    table.insert(0, "factor", [float(factors[i]) for i in table["vector"]])
    return table.drop(columns="vector")
