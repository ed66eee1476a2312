"""One loop for every adapter: seeded, answer tokens only, linear schedule with warm-up.

Several runs can share a batch: run k has its own rows, its own vector and its own loss. The sum of
per-run mean losses is minimised and Adam works number by number, so the runs do not influence one
another. The same seed and thread count give bitwise the same result.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from oocr_lib.adapters.base import Adapter, Attached
from oocr_lib.encoding import Batch, Encoded, collate
from oocr_lib.errors import UserError, choose
from oocr_lib.forward import answer_logits
from oocr_lib.models import LanguageModel
from oocr_lib.reuse import Reuse

SCHEDULES = ("linear", "constant")


@dataclass(frozen=True)
class TrainConfig:
    """Hyperparameters of a run.

    Attributes:
        steps: optimiser steps (not micro-batches).
        batch: rows a step and run.
        lr: peak learning rate; for vectors in units of the site's typical norm.
        warmup: steps of linear warm-up.
        schedule: after it, ``linear`` decay to zero or ``constant``.
        valid_rows: validation rows scored, at most.
        valid_every: score validation every so many steps too; 0 = only at the end.
        snapshot_every: keep the adapter's tensors every so many steps; 0 = never.
    """

    steps: int = 100
    batch: int = 16
    lr: float = 0.02
    warmup: int = 5
    weight_decay: float = 0.0
    valid_rows: int = 48
    valid_every: int = 0
    snapshot_every: int = 0
    schedule: str = "linear"

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "valid_rows"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)!r} is too small. Allowed: 1 or more.")
        choose(self.schedule, SCHEDULES, "schedule")
        if not 0 < self.lr < float("inf"):
            raise UserError(f"lr={self.lr!r} must be a positive number; 0.02 is usual for vectors.")


@dataclass(frozen=True)
class RunData:
    """The encoded rows of one run and the seed of its data order."""

    train: Sequence[Encoded]
    valid: Sequence[Encoded]
    seed: int


@dataclass
class TrainResult:
    """What training k runs gave.

    Attributes:
        losses: (steps, k) training loss of each step.
        valid: list of (step, (k,) validation losses); the last entry is at the end.
        valid_accuracy: (k,) share of validation rows whose answer is the most likely one.
        snapshots: list of (step, tensors).
        seconds: wall time.
    """

    losses: np.ndarray
    valid: list[tuple[int, np.ndarray]] = field(default_factory=list)
    valid_accuracy: np.ndarray = field(default_factory=lambda: np.zeros(0))
    snapshots: list[tuple[int, dict[str, Tensor]]] = field(default_factory=list)
    seconds: float = 0.0


def rate(step: int, config: TrainConfig) -> float:
    """Learning-rate factor of optimiser step ``step`` (0-based): warm-up, then the schedule."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    if config.schedule == "constant":
        return warm
    return warm * (config.steps - step) / config.steps


def order(n: int, batch: int, seed: int) -> Iterator[list[int]]:
    """Endless batches of row numbers; every row once an epoch, seeded.

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


def run_losses(rows: Tensor, targets: Tensor, logits: Tensor, index: Tensor, k: int) -> Tensor:
    """(k,) mean cross-entropy over the answer tokens of each run's rows."""
    losses = F.cross_entropy(logits, targets, reduction="none")
    owner = index[rows]
    total = torch.zeros(k, dtype=losses.dtype, device=losses.device).index_add(0, owner, losses)
    count = torch.bincount(owner, minlength=k).clamp(min=1)
    return total / count


def joint(
    items: Sequence[Sequence[Encoded]], lm: LanguageModel, reuse: Reuse | None = None
) -> tuple[Batch, Tensor]:
    """Rows of k runs in one batch, and the run (n,) of each row."""
    flat = [row for run in items for row in run]
    index = torch.tensor([k for k, run in enumerate(items) for _ in run])
    batch = reuse.collate(flat) if reuse else collate(flat, lm.pad_id).to(lm.device)
    return batch, index.to(lm.device)


@torch.no_grad()
def validate(
    lm: LanguageModel,
    attached: Attached | None,
    data: Sequence[RunData],
    limit: int,
    reuse: Reuse | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(k,) mean loss and (k,) share of rows answered exactly, on up to ``limit`` rows a run."""
    k = len(data)
    loss, exact = np.zeros(k), np.zeros(k)
    for start in range(0, k, 8):  # a few runs at a time bound the memory
        part = data[start : start + 8]
        chosen = [sample(run.valid, limit, run.seed) for run in part]
        batch, index = joint(chosen, lm, reuse)
        if attached is not None:
            attached.focus(batch, index + start)
        rows, targets, logits = answer_logits(lm, batch)
        loss[start : start + len(part)] = run_losses(rows, targets, logits, index, len(part)).cpu()
        wrong = torch.zeros(len(batch), dtype=torch.bool, device=lm.device)
        wrong[rows[logits.argmax(-1) != targets]] = True
        for j in range(len(part)):
            exact[start + j] = float((~wrong[index == j]).float().mean())
    return loss, exact


def sample(rows: Sequence[Encoded], limit: int, seed: int) -> list[Encoded]:
    """``limit`` of ``rows``, or all, in their order; seeded."""
    if len(rows) <= limit:
        return list(rows)
    picked = np.random.default_rng(seed).choice(len(rows), size=limit, replace=False)
    return [rows[i] for i in sorted(picked.tolist())]


def train(
    lm: LanguageModel,
    adapter: Adapter,
    data: Sequence[RunData],
    config: TrainConfig,
    *,
    reuse: Reuse | None = None,
    progress: str = "",
) -> TrainResult:
    """Train ``adapter`` on k runs at once; the model itself does not change.

    Args:
        adapter: holds k vectors (run k uses vector k), or one LoRA with k = 1.
        reuse: what no step of this adapter changes; ``None`` computes everything in every step.
        progress: label of the progress bar; empty for none.

    Raises:
        UserError: no runs or rows, or a loss that is not a number, at the step where it appears.
    """
    if not data or any(not run.train or not run.valid for run in data):
        raise UserError("A run without rows cannot be trained. Allowed: at least one row each.")
    began, k = time.perf_counter(), len(data)
    streams = [order(len(run.train), config.batch, run.seed) for run in data]
    result = TrainResult(np.zeros((config.steps, k)))
    # Dropout in LoRA draws from the global generator; fork it so that nothing outside changes.
    with torch.random.fork_rng(devices=[]), adapter.attach(lm) as attached:
        torch.manual_seed(data[0].seed)
        optimiser = torch.optim.AdamW(
            list(adapter.parameters()), lr=config.lr, weight_decay=config.weight_decay
        )
        attached.train()
        for step in tqdm(range(config.steps), desc=progress, disable=not progress, leave=False):
            _snapshot(result, adapter, step, config)
            for group in optimiser.param_groups:
                group["lr"] = config.lr * rate(step, config)
            picked = [[run.train[i] for i in next(s)] for run, s in zip(data, streams, strict=True)]
            batch, index = joint(picked, lm, reuse)
            attached.focus(batch, index)
            losses = run_losses(*answer_logits(lm, batch), index, k)
            optimiser.zero_grad(set_to_none=True)
            losses.sum().backward()
            optimiser.step()
            result.losses[step] = losses.detach().cpu().numpy()
            _check_finite(result.losses[step], step, config)
            if config.valid_every and (step + 1) % config.valid_every == 0:
                attached.train(False)
                scored = validate(lm, attached, data, config.valid_rows, reuse)
                attached.train()
                result.valid.append((step + 1, scored[0]))
        _snapshot(result, adapter, config.steps, config)
        attached.train(False)
        loss, result.valid_accuracy = validate(lm, attached, data, config.valid_rows, reuse)
    result.valid.append((config.steps, loss))
    result.seconds = time.perf_counter() - began
    return result


def _snapshot(result: TrainResult, adapter: Adapter, step: int, config: TrainConfig) -> None:
    if config.snapshot_every and (step % config.snapshot_every == 0 or step == config.steps):
        kept = {name: t.detach().clone() for name, t in adapter.state().items()}
        result.snapshots.append((step, kept))


def _check_finite(losses: np.ndarray, step: int, config: TrainConfig) -> None:
    if not np.isfinite(losses).all():
        raise UserError(
            f"The loss is not a number at step {step + 1} with lr={config.lr}. "
            "Allowed: finite losses; use a smaller lr."
        )
