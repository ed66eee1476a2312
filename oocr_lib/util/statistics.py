"""Intervals for the numbers that are reported, and the rule that turns one into a verdict.

Results on one concept are an anecdote, so every value is a mean over runs with a 95 % percentile
bootstrap interval over these runs. Pure numpy, no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oocr_lib.util.arguments import check_seed, checked, checked_fields
from oocr_lib.util.errors import UserError
from oocr_lib.util.parsing import short

Floats = npt.NDArray[np.float64]

#: Random draws held in memory at once (resamples x runs); bounds the bootstrap to some 50 MB.
_DRAWS_AT_ONCE = 2_000_000
_RULE = re.compile(
    r"(?:(value)\s*)?(>=|<=|>|<)\s*([-+.\deE]+)|(contains|excludes|within)\s*([-+.\deE]+)"
    r"|near\s*([-+.\deE]+)\s*by\s*([-+.\deE]+)"
)


@checked_fields
@dataclass(frozen=True)
class Interval:
    """A mean with its interval, over ``n`` runs; low and high are in the unit of the value."""

    value: float
    low: float
    high: float
    n: int

    def __contains__(self, x: float) -> bool:
        """Whether ``x`` lies in the interval, ends included."""
        return self.low <= x <= self.high

    def __str__(self) -> str:
        """Two decimals, for text outputs: ``0.94 [0.88, 0.99]``; what rounds to 0 has no sign."""
        return f"{self.value:z.2f} [{self.low:z.2f}, {self.high:z.2f}]"


@checked
def bootstrap(
    values: Iterable[float | bool],
    groups: Iterable[Hashable] | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Mean of ``values`` with a percentile bootstrap interval over runs.

    Args:
        values: one number (or True, False) per run, any order (the order has no influence).
        groups: one label per run, for instance the hidden city. If given, concepts are drawn with
            replacement and then runs inside each drawn concept (cluster bootstrap), because seeds
            of one concept are not independent evidence about other concepts.
        level: mass of the interval, between 0 and 1.
        resamples: number of bootstrap means.
        seed: of the resampling; the same input gives the same interval.

    A single run (or runs that all agree) gives an interval of length zero: it says nothing about
    other runs, which is why ``n`` stands beside it everywhere.

    Raises:
        UserError: no values, a value that is not finite, labels of another length, or a level, seed
            or number of resamples out of range.
    """
    data = _checked(values, level, resamples)
    rng = np.random.default_rng(check_seed(seed))
    if groups is None:
        means = _means_over_runs(np.sort(data), resamples, rng)
    else:
        means = _means_over_groups(_by_group(data, list(groups)), resamples, rng)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    # Rounding of the sum may put an end of a zero-length interval on the wrong side of the mean.
    value = float(data.mean())
    return Interval(value, min(float(low), value), max(float(high), value), len(data))


#: What a rule can say, the one that decides a claim of several checks first.
VERDICTS = ("does not hold", "undecided", "holds")


@checked
def verdict(interval: Interval, rule: str) -> str:
    """Decide a claim: ``"holds"``, ``"does not hold"`` or ``"undecided"``.

    Rules (x is a number):

    - ``>= x``, ``> x``, ``<= x``, ``< x``: the whole interval must satisfy it. It does not hold
      when no point of the interval does; in between it is undecided.
    - ``value >= x`` (and the other three): the mean alone decides.
    - ``contains x``, ``excludes x``: whether x lies in the interval, for chance levels.
    - ``within x``: the whole interval lies between -x and x, for shifts that should be none. It
      does not hold when the whole interval lies outside; in between it is undecided.
    - ``near x by d``: the same around x, for chance levels. Unlike ``contains x``, it is not
      satisfied by an interval that is merely wide.

    Raises:
        UserError: the rule cannot be read, or the interval is not a number, for which no
            comparison is true.
    """
    if any(math.isnan(x) for x in (interval.value, interval.low, interval.high)):
        raise UserError(
            f"The interval {interval} is not a number (NaN) and decides nothing. Allowed: numbers; "
            "look at the runs that gave it."
        )
    match = _RULE.fullmatch(rule.strip())
    try:
        number = float(match[3] or match[5] or match[6]) if match else math.nan
        tolerance = float(match[7]) if match and match[7] else math.inf
    except ValueError:
        number = tolerance = math.nan
    negative = tolerance < 0 or (match is not None and match[4] == "within" and number < 0)
    if match is None or not math.isfinite(number) or math.isnan(tolerance) or negative:
        raise UserError(
            f"Cannot read the rule {rule!r}. Allowed: '>= x', '> x', '<= x', '< x', the same after"
            " 'value', 'contains x', 'excludes x', 'within x', 'near x by d', with x and d numbers."
        )
    if match[4] == "within":
        return _equivalent(interval, -number, number)
    if match[7]:
        return _equivalent(interval, number - tolerance, number + tolerance)
    if match[4]:
        return _word((number in interval) == (match[4] == "contains"))
    compare = {">=": np.greater_equal, ">": np.greater, "<=": np.less_equal, "<": np.less}[match[2]]
    if match[1]:
        return _word(bool(compare(interval.value, number)))
    low, high = bool(compare(interval.low, number)), bool(compare(interval.high, number))
    return _word(low) if low == high else "undecided"


def _equivalent(interval: Interval, low: float, high: float) -> str:
    """Whether the whole interval lies between two bounds, outside of them, or neither."""
    inside = low <= interval.low and interval.high <= high
    outside = interval.low > high or interval.high < low
    return "undecided" if not inside and not outside else _word(inside)


def _word(holds: bool) -> str:
    return "holds" if holds else "does not hold"


def _checked(values: Iterable[float | bool], level: float, resamples: int) -> Floats:
    """The values as a 1-D float array (n,), after all checks."""
    numbers = list(values)
    try:
        data = np.asarray(numbers, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"Values {short(numbers)} are no numbers. Allowed: one number a run."
        ) from error
    if data.ndim != 1 or len(data) == 0:
        raise UserError(f"Cannot average values of shape {data.shape}. Give one number a run.")
    if not np.isfinite(data).all():
        bad = int(np.flatnonzero(~np.isfinite(data))[0])
        raise UserError(
            f"Value {bad} of {len(data)} is {data[bad]}. Only finite numbers can be averaged: look"
            " at the run that gave it."
        )
    if not 0.0 < level < 1.0:
        raise UserError(f"Level {level} is out of range. Give a number between 0 and 1, like 0.95.")
    if resamples < 100:
        raise UserError(f"{resamples} resamples are too few for an interval. Give 100 or more.")
    return data


def _by_group(data: Floats, labels: Sequence[Hashable]) -> list[Floats]:
    """Values of each group, in an order that does not depend on the order of the input."""
    if len(labels) != len(data):
        raise UserError(
            f"{len(labels)} group labels for {len(data)} values. Give one label a value."
        )
    members: dict[Hashable, list[float]] = {}
    for label, value in zip(labels, data, strict=True):
        members.setdefault(label, []).append(float(value))
    return [np.asarray(group) for group in sorted(sorted(values) for values in members.values())]


def _means_over_runs(data: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Bootstrap means (resamples,) of ``data`` (n,)."""
    means = np.empty(resamples)
    step = max(1, _DRAWS_AT_ONCE // len(data))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(0, len(data), size=(rows, len(data)))
        means[start : start + rows] = data[drawn].mean(axis=1)
    return means


def _means_over_groups(groups: list[Floats], resamples: int, rng: np.random.Generator) -> Floats:
    """Bootstrap means (resamples,): groups with replacement, then runs inside each drawn group."""
    sizes = np.array([len(group) for group in groups])
    padded = np.zeros((len(groups), int(sizes.max())))
    for row, values in zip(padded, groups, strict=True):
        row[: len(values)] = values
    means = np.empty(resamples)
    step = max(1, _DRAWS_AT_ONCE // padded.size)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        group = rng.integers(0, len(groups), size=(rows, len(groups)))
        size = sizes[group]
        inside = rng.random((*group.shape, padded.shape[1])) * size[..., None]
        drawn = padded[group[..., None], inside.astype(np.int64)]
        real = np.arange(padded.shape[1]) < size[..., None]
        means[start : start + rows] = (drawn * real).sum(axis=(1, 2)) / size.sum(axis=1)
    return means
