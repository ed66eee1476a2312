"""One loop for every adapter: seeded, answer tokens only, linear schedule with warm-up.

Several runs can share a batch: run k has its own rows, its own parameters and its own loss. The
sum of per-run mean losses is minimised and Adam works number by number, so the runs do not
influence one another: they may differ in seed, concept, block and learning rate, and each can stop
by itself. The same seed and thread count give bitwise the same result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from oocr_lib.adapters.base import Adapter, Attached
from oocr_lib.adapters.row_checks import check_rows
from oocr_lib.executor import PLAIN, Answers, Executor
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.training.config import SCHEDULES, RunData, TrainConfig, order, rate, sample, visited
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError
from oocr_lib.util.finite import no_nan

__all__ = [
    "SCHEDULES",
    "RunData",
    "TrainConfig",
    "TrainResult",
    "order",
    "rate",
    "run_sums",
    "sample",
    "train",
    "validate",
    "visited",
]


@dataclass
class TrainResult:
    """The result of training k runs.

    Attributes:
        losses: (steps, k) training loss of each step; NaN after a run has stopped.
        valid: list of (step, (k,) validation losses); the last entry is from the end of training.
        valid_accuracy: (k,) share of validation rows whose answer is the most likely one.
        stopped: (k,) how many steps each run took.
        snapshots: list of (step, tensors).
        seconds: wall time.
    """

    losses: np.ndarray
    valid: list[tuple[int, np.ndarray]] = field(default_factory=list)
    valid_accuracy: np.ndarray = field(default_factory=lambda: np.zeros(0))
    stopped: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    snapshots: list[tuple[int, dict[str, Tensor]]] = field(default_factory=list)
    seconds: float = 0.0


def run_sums(found: Answers, runs: Tensor, k: int) -> Tensor:
    """(k,) sum of the cross-entropy over the answer tokens of each run's rows.

    Args:
        runs: (n,) int64, the run of each row.
    """
    losses = F.cross_entropy(found.logits, found.targets, reduction="none")
    start = torch.zeros(k, dtype=losses.dtype, device=losses.device)
    return start.index_add(0, runs[found.row], losses)


@checked
@torch.no_grad()
def validate(
    lm: LanguageModel,
    attached: Attached | None,
    data: Sequence[RunData],
    limit: int,
    executor: Executor = PLAIN,
) -> tuple[np.ndarray, np.ndarray]:
    """(k,) mean loss and (k,) share of rows answered exactly, on up to ``limit`` rows per run.

    Raises:
        UserError: a limit below 1, validation rows that ``row_checks.check_rows`` refuses, or
            logits that are not a number.
    """
    if limit < 1:
        raise UserError(f"limit={limit!r} leaves no rows to score. Allowed: 1 or more.")
    k = len(data)
    for j, run in enumerate(data):
        check_rows(lm, run.valid, attached, j, "validation")
    rows = [(j, row) for j, run in enumerate(data) for row in sample(run.valid, limit, run.seed)]
    total, tokens, correct, count = np.zeros(k), np.zeros(k), np.zeros(k), np.zeros(k)
    for part in executor.batches([row for _, row in rows]):
        answers = executor.answers(lm, [rows[i] for i in part], attached)
        losses = F.cross_entropy(answers.logits, answers.targets, reduction="none").cpu().numpy()
        no_nan(losses, "Losses of validation rows")
        owner, row_of = np.array([rows[i][0] for i in part]), answers.row.cpu().numpy()
        exact = np.ones(len(part))
        exact[row_of[(answers.logits.argmax(-1) != answers.targets).cpu().numpy()]] = 0
        np.add.at(total, owner[row_of], losses)
        np.add.at(tokens, owner[row_of], 1)
        np.add.at(correct, owner, exact)
        np.add.at(count, owner, 1)
    return total / tokens, correct / count


@checked
def train(
    lm: LanguageModel,
    adapter: Adapter,
    data: Sequence[RunData],
    config: TrainConfig,
    *,
    rates: Sequence[float] | None = None,
    executor: Executor = PLAIN,
    progress: str = "",
    after_step: Callable[[], object] = lambda: None,
) -> TrainResult:
    """Train ``adapter`` on k runs at once; the model itself does not change.

    Args:
        adapter: holds k vectors or k LoRAs (run k uses the k-th), or one LoRA with k = 1.
        rates: k peak learning rates; default ``config.lr`` for all.
        executor: how rows are run; the plain one computes everything in every step.
        progress: label of the progress bar; empty for none.
        after_step: called after every step, for a bar that spans several trainings.

    Raises:
        UserError: no runs, a rate that is not positive, rows that ``row_checks.check_rows`` refuses
            (no answer, or no token that the adapter touches), or a loss that is not a number, at
            the step where it appears.
    """
    if not data:
        raise UserError("0 runs cannot be trained. Allowed: at least one.")
    lm.refuse_attached()
    began = time.perf_counter()
    # Dropout in LoRA draws from the global generator; fork it so that nothing outside changes.
    with torch.random.fork_rng(devices=[]), adapter.attach(lm) as attached:
        for j, run in enumerate(data):
            check_rows(lm, run.train, attached, j, "training")
            check_rows(lm, run.valid, attached, j, "validation")
        torch.manual_seed(data[0].seed)
        rates = rates or [config.lr] * len(data)
        loop = _Loop(lm, adapter, attached, data, config, rates, executor)
        for step in tqdm(range(config.steps), desc=progress, disable=not progress, leave=False):
            loop.step(step)
            after_step()
            if not loop.going:
                break
        result = loop.finish()
    result.seconds = time.perf_counter() - began
    return result


class _Loop:
    """One training: the runs that are still going, their parameters, the order of their rows."""

    def __init__(
        self,
        lm: LanguageModel,
        adapter: Adapter,
        attached: Attached,
        data: Sequence[RunData],
        config: TrainConfig,
        rates: Sequence[float],
        executor: Executor,
    ) -> None:
        k = len(data)
        parts = adapter.parts()
        if len(rates) != k or len(parts) != k:
            raise UserError(
                f"{k} runs, {len(rates)} learning rates and an adapter for {len(parts)} do not "
                "fit. Allowed: the same number of each."
            )
        for j, lr in enumerate(rates):
            if not 0 < lr < float("inf"):
                raise UserError(
                    f"Run {j} has the learning rate {lr!r}. Allowed: positive numbers; 0.02 is "
                    "usual for vectors."
                )
        self.lm, self.adapter, self.attached, self.data = lm, adapter, attached, data
        self.config, self.executor, self.rates = config, executor, rates
        self.going = list(range(k))
        self.streams = [order(len(run.train), config.batch, run.seed) for run in data]
        self.result = TrainResult(np.full((config.steps, k), np.nan), stopped=np.zeros(k, int))
        self.best_loss, self.waited = np.full(k, np.inf), np.zeros(k, int)
        self.best_tensors = [list[Tensor]() for _ in data]
        # A row of a shared parameter is a leaf of its own on the same memory: Adam skips leaves
        # without gradient, so the parameters of a stopped run do not change.
        self.leaves = [
            [(p if row is None else nn.Parameter(p.data[row]), p, row) for p, row in part]
            for part in parts
        ]
        groups: dict[float, list[nn.Parameter]] = {}
        for lr, leaves in zip(rates, self.leaves, strict=True):
            groups.setdefault(lr, []).extend(leaf for leaf, _, _ in leaves)
        self.optimiser = torch.optim.AdamW(
            [{"params": leaves, "lr": lr, "peak": lr} for lr, leaves in groups.items()],
            weight_decay=config.weight_decay,
            fused=True,  # one call for all numbers of a group
        )
        attached.train()

    def step(self, step: int) -> None:
        """One optimiser step of the runs that are still going; then validation, if it is due."""
        config = self.config
        _snapshot(self.result, self.adapter, step, config)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * rate(step, config)
        self.optimiser.zero_grad(set_to_none=True)
        losses = self._backward()
        self._share_gradients()
        self.optimiser.step()
        self.result.losses[step, self.going] = losses[self.going]
        self.result.stopped[self.going] = step + 1
        _check_finite(self.result.losses[step, self.going], step, self)
        if config.valid_every and (step + 1) % config.valid_every == 0:
            self._validate(step + 1)

    def _backward(self) -> np.ndarray:
        """(k,) losses of the next rows; adds up gradients, in as many passes as memory needs."""
        rows = [(j, self.data[j].train[i]) for j in self.going for i in next(self.streams[j])]
        counted = np.zeros(len(self.data), dtype=np.float32)
        for j, row in rows:
            counted[j] += row.answer[1] - row.answer[0]
        tokens = torch.tensor(counted, device=self.lm.device).clamp(min=1)  # 0 of stopped runs
        total = np.zeros(len(self.data))
        for part in self.executor.steps(self.lm, rows):
            answers = self.executor.answers(self.lm, part, self.attached)
            runs = torch.tensor([j for j, _ in part], device=self.lm.device)
            losses = run_sums(answers, runs, len(self.data)) / tokens
            losses[self.going].sum().backward()
            total[self.going] += losses.detach()[self.going].cpu().numpy()
        return total

    def _share_gradients(self) -> None:
        """Give rows of shared parameters their part of the gradient, and stopped runs none."""
        for j, leaves in enumerate(self.leaves):
            for leaf, parameter, row in leaves:
                if row is not None and parameter.grad is not None:
                    leaf.grad = parameter.grad[row] if j in self.going else None
        for leaves in self.leaves:
            for _, parameter, row in leaves:
                if row is not None:
                    parameter.grad = None

    def _validate(self, step: int) -> None:
        self.attached.train(False)
        loss, _ = validate(self.lm, self.attached, self.data, self.config.valid_rows, self.executor)
        self.attached.train()
        self.result.valid.append((step, loss))
        if self.config.patience:
            self._stop(loss)

    def _stop(self, loss: np.ndarray) -> None:
        """Early stopping: keep the best parameters, stop runs that have waited long enough."""
        for j in list(self.going):
            if loss[j] < self.best_loss[j]:
                self.best_loss[j], self.waited[j] = loss[j], 0
                self.best_tensors[j] = [leaf.detach().clone() for leaf, _, _ in self.leaves[j]]
            else:
                self.waited[j] += 1
            if self.waited[j] >= self.config.patience:
                self.going.remove(j)
                self._restore(j)

    def _restore(self, j: int) -> None:
        for (leaf, _, _), best in zip(self.leaves[j], self.best_tensors[j], strict=False):
            leaf.data.copy_(best)

    def finish(self) -> TrainResult:
        """Restore the best parameters if asked to; the last snapshot and the last validation."""
        if self.config.patience:
            for j in self.going:
                self._restore(j)
        last = int(self.result.stopped.max())
        _snapshot(self.result, self.adapter, self.config.steps, self.config)
        self.attached.train(False)
        scored = validate(self.lm, self.attached, self.data, self.config.valid_rows, self.executor)
        self.result.valid.append((last, scored[0]))
        self.result.valid_accuracy = scored[1]
        return self.result


def _snapshot(result: TrainResult, adapter: Adapter, step: int, config: TrainConfig) -> None:
    if config.snapshot_every and (step % config.snapshot_every == 0 or step == config.steps):
        tensors = {name: t.detach().clone() for name, t in adapter.state().items()}
        result.snapshots.append((step, tensors))


def _check_finite(losses: np.ndarray, step: int, loop: _Loop) -> None:
    if not np.isfinite(losses).all():
        bad = loop.going[int(np.flatnonzero(~np.isfinite(losses))[0])]
        raise UserError(
            f"The loss is not a number at step {step + 1} with lr={loop.rates[bad]}. "
            "Allowed: finite losses; use a smaller lr."
        )
