"""The recipe of the testbed: size, tokens, mixes by phase and learning-rate cycles."""

from __future__ import annotations

from dataclasses import dataclass

from oocr_lib.testbed.mixes import (
    FINAL,
    FIRST,
    LAST,
    LATER,
    POLISH,
    REPORT,
    SETTLE,
    STEER,
    UNITE,
    Mix,
)


@dataclass(frozen=True)
class Cycle:
    """A later learning-rate cycle: from ``peak`` linearly to 0, starting at a chunk.

    With ``restart`` it starts with fresh optimisers and a short warm-up; with ``from_mean`` it
    starts from the mean of the weights at the ends of the last ``Recipe.average`` cycles.
    """

    first_chunk: int
    first_token: int
    tokens: int
    peak: float
    restart: bool = False
    from_mean: bool = False


#: Tokens over which a restarted cycle warms up.
RESTART_TOKENS = 80_000


@dataclass(frozen=True)
class Recipe:
    """Together with the code, everything that determines the checkpoint, even the thread count."""

    tokens: int = 12_000_000
    batch_tokens: int = 2048
    width: int = 128
    blocks: int = 8
    heads: int = 4
    key_value_heads: int = 2
    mlp: int = 384
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    decay_share: float = 0.6
    warmup_share: float = 0.01
    seed: int = 0
    threads: int = 2
    phases: tuple[tuple[int, Mix], ...] = (
        (0, FIRST),
        (19, LATER),
        (38, LAST),
        (52, FINAL),
        (62, POLISH),
        (67, UNITE),
        (76, SETTLE),
        (79, REPORT),
        (81, STEER),
    )
    again: tuple[Cycle, ...] = (
        Cycle(38, 12_000_000, 5_500_000, 0.6),
        Cycle(52, 17_695_845, 4_000_000, 0.5),
        Cycle(62, 21_795_102, 1_250_000, 0.35),
        Cycle(67, 23_179_599, 3_000_000, 0.4, restart=True, from_mean=True),
        Cycle(76, 26_434_362, 1_000_000, 0.2, restart=True),
        Cycle(79, 27_503_371, 700_000, 0.15),
        Cycle(81, 28_307_120, 1_000_000, 0.2),
    )

    #: Number of cycle ends averaged if a cycle starts from their mean, and for the final weights.
    average: int = 2
    finish: int = 3

    @property
    def total(self) -> int:
        """Tokens of all cycles."""
        last = self.again[-1] if self.again else Cycle(0, 0, self.tokens, 1.0)
        return last.first_token + last.tokens

    def mix_of(self, chunk: int) -> Mix:
        """The mix of a chunk: that of the last phase that has begun."""
        return [mix for first, mix in self.phases if chunk >= first][-1]


def schedule(recipe: Recipe, seen: int, chunk: int) -> float:
    """Learning-rate factor after ``seen`` tokens.

    First cycle: short warm-up, constant, linear decay to 0. Each later cycle starts at its chunk
    with a lower rate and decays linearly to 0 again.
    """
    cycles = [cycle for cycle in recipe.again if chunk >= cycle.first_chunk]
    if cycles:
        current = cycles[-1]
        since = seen - current.first_token
        warm = min(1.0, 0.2 + since / RESTART_TOKENS) if current.restart else 1.0
        return warm * current.peak * max(0.0, 1 - since / current.tokens)
    progress = seen / recipe.tokens
    warm = min(1.0, (progress + 1e-3) / recipe.warmup_share)
    return warm * min(1.0, max(0.0, (1 - progress) / recipe.decay_share))
