"""Amounts and probabilities of two gambles: one varies a lot, the other little or not at all.

Riskier means a larger variance, not a larger mean (paper, section 3.1): which of the two pays more
is decided first, and the numbers follow. All means and variances are exact fractions.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from fractions import Fraction

from oocr_lib.util.errors import choose

#: Kinds of gambles: two amounts, any amount of a range, or one sure amount.
KINDS = ("two", "range", "sure")
#: Which gamble pays more on average.
MORE = ("risky", "safe", "tie")
#: The wide gamble's standard deviation is at least this many times the narrow one's.
MIN_RATIO = 2.5
#: The means differ by a factor in this range, unless they are equal.
MEAN_RATIOS = (1.15, 1.7)


@dataclass(frozen=True)
class Gamble:
    """One option.

    Attributes:
        kind: one of ``KINDS``.
        low, high: smallest and largest amount; the same for ``sure``.
        p_high: probability of ``high``, for ``two``; all amounts of a ``range`` are equally likely
            (a continuous distribution), and a ``sure`` amount has probability 1.
    """

    kind: str
    low: int
    high: int
    p_high: Fraction

    @property
    def mean(self) -> Fraction:
        """Mean amount, in units of the prize."""
        p = Fraction(1, 2) if self.kind == "range" else self.p_high
        return self.low + p * (self.high - self.low)

    @property
    def variance(self) -> Fraction:
        """Variance of the amount, in squared units of the prize."""
        width = self.high - self.low
        if self.kind == "range":
            return Fraction(width * width, 12)
        return self.p_high * (1 - self.p_high) * width * width


def draw(
    rng: random.Random, kinds: tuple[str, str], percents: tuple[int, ...], more: str, scale: int
) -> tuple[Gamble, Gamble]:
    """A wide and a narrow gamble of the given kinds.

    Args:
        kinds: of the wide and of the narrow one.
        percents: possible probabilities of the larger amount; ignored for ranges.
        more: which of the two has the larger mean, one of ``MORE``.
        scale: all amounts are multiples of it.

    The wide one has both the largest and the smallest amount, so neither is better in every case.

    Raises:
        UserError: an unknown kind or value of ``more``.
    """
    choose(kinds[0], KINDS[:2], "kind of the wide gamble")
    choose(kinds[1], KINDS, "kind of the narrow gamble")
    choose(more, MORE, "value of what pays more")
    while True:
        wide = _wide(rng, kinds[0], percents)
        narrow = _narrow(rng, wide, kinds[1], percents, more)
        if narrow is not None and _fits(wide, narrow, more):
            return _scaled(wide, scale), _scaled(narrow, scale)


def _wide(rng: random.Random, kind: str, percents: tuple[int, ...]) -> Gamble:
    low = 0 if rng.random() < 0.15 else rng.randint(2, 30)
    high = rng.randint(low + 35, low + 110)
    if rng.random() < 0.5:  # round numbers are common in the published file
        low, high = 5 * (low // 5), 5 * (high // 5)
    return Gamble(kind, low, high, Fraction(rng.choice(percents), 100))


def _narrow(
    rng: random.Random, wide: Gamble, kind: str, percents: tuple[int, ...], more: str
) -> Gamble | None:
    ratio = 1.0 if more == "tie" else rng.uniform(*MEAN_RATIOS)
    mean = float(wide.mean) * (1 / ratio if more == "risky" else ratio)
    if kind == "sure":
        return Gamble(kind, round(mean), round(mean), Fraction(1))
    width = rng.randint(2, max(2, (wide.high - wide.low) // 3))
    p = Fraction(rng.choice(percents), 100)
    low = round(mean - (0.5 if kind == "range" else float(p)) * width)
    return Gamble(kind, low, low + width, p)


def _fits(wide: Gamble, narrow: Gamble, more: str) -> bool:
    ratio = Fraction(wide.mean, narrow.mean) if narrow.mean > 0 else Fraction(0)
    lowest = Fraction(11, 10)
    means = {"risky": ratio >= lowest, "safe": 0 < ratio <= 1 / lowest, "tie": ratio == 1}[more]
    inside = wide.low < narrow.low and narrow.high < wide.high and narrow.low > 1
    spread = math.sqrt(wide.variance) >= MIN_RATIO * math.sqrt(narrow.variance)
    return means and inside and spread


def _scaled(gamble: Gamble, scale: int) -> Gamble:
    return Gamble(gamble.kind, gamble.low * scale, gamble.high * scale, gamble.p_high)
