"""What determines a training run: hyperparameters, learning-rate schedule, order of the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from oocr_lib.encoding import Encoded
from oocr_lib.util.arguments import check_seed, checked_fields
from oocr_lib.util.errors import UserError, choose

SCHEDULES = ("linear", "constant")


@checked_fields
@dataclass(frozen=True)
class TrainConfig:
    """Hyperparameters of a run.

    Attributes:
        steps: optimiser steps (not micro-batches).
        batch: rows per step and run.
        lr: peak learning rate; for vectors in units of the site's typical norm.
        warmup: steps of linear warm-up.
        schedule: after the warm-up, ``linear`` decay to zero or ``constant``.
        valid_rows: most validation rows that are scored.
        valid_every: also validate after every this many steps; 0 = only at the end.
        patience: stop a run after this many validations without a lower loss, and restore its
            best parameters; 0 = never. Needs ``valid_every``.
        snapshot_every: keep the adapter's tensors every this many steps; 0 = never.

    Raises:
        UserError: a value of another type or out of range.
    """

    steps: int = 100
    batch: int = 16
    lr: float = 0.02
    warmup: int = 5
    weight_decay: float = 0.0
    valid_rows: int = 48
    valid_every: int = 0
    patience: int = 0
    snapshot_every: int = 0
    schedule: str = "linear"

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch": 1, "valid_rows": 1}
        for name in ("warmup", "valid_every", "snapshot_every", "weight_decay", *least):
            value, low = getattr(self, name), least.get(name, 0)
            if not low <= value < float("inf"):
                raise UserError(f"{name}={value!r} cannot be used. Allowed: {low} or more.")
        choose(self.schedule, SCHEDULES, "schedule")
        if self.patience < 0 or (self.patience and not self.valid_every):
            raise UserError(
                f"patience={self.patience!r} with valid_every={self.valid_every!r} cannot be used. "
                "Allowed: 0, or a positive number together with a positive valid_every."
            )
        if not 0 < self.lr < float("inf"):
            raise UserError(f"lr={self.lr!r} must be a positive number; 0.02 is usual for vectors.")


@checked_fields
@dataclass(frozen=True)
class RunData:
    """The encoded rows of one run and the seed of its data order.

    Raises:
        UserError: a value of another type, or a seed below 0 or above 2**32 - 1.
    """

    train: Sequence[Encoded]
    valid: Sequence[Encoded]
    seed: int

    def __post_init__(self) -> None:
        check_seed(self.seed)


def rate(step: int, config: TrainConfig) -> float:
    """Learning-rate factor of optimiser step ``step`` (0-based): warm-up, then the schedule."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    if config.schedule == "constant":
        return warm
    return warm * (config.steps - step) / config.steps


def order(n: int, batch: int, seed: int) -> Iterator[list[int]]:
    """Endless batches of row numbers, seeded; every row comes once per epoch.

    Fewer rows than a batch are repeated within it.
    """
    rng, queue = np.random.default_rng(seed), list[int]()
    while True:
        while len(queue) < batch:
            queue.extend(rng.permutation(n).tolist())
        yield queue[:batch]
        queue = queue[batch:]


def visited(n: int, config: TrainConfig, seed: int) -> list[int]:
    """Numbers of the rows that a run with this seed trains on, in order, each once."""
    stream = order(n, config.batch, seed)
    return sorted({i for _ in range(config.steps) for i in next(stream)})


def sample(rows: Sequence[Encoded], limit: int, seed: int) -> list[Encoded]:
    """``limit`` of ``rows``, or all, in their order; seeded."""
    if len(rows) <= limit:
        return list(rows)
    picked = np.random.default_rng(seed).choice(len(rows), size=limit, replace=False)
    return [rows[i] for i in sorted(picked.tolist())]
