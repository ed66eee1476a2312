"""The protocol of the task notebooks: layer sweep, fair learning rate, comparison with controls.

Notebook 03 spells it out step by step; the other task notebooks call it. Every choice (block of
each method, rate of the all-block LoRA) is made by validation loss on the sweep's runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pandas as pd

from oocr_lib.runs import protocol as compare
from oocr_lib.runs.grid import Grid, Job, Method
from oocr_lib.training.loop import TrainConfig
from oocr_lib.util.arguments import checked, checked_fields
from oocr_lib.util.doubles import no_doubles

SITES = ("resid", "mlp_out")
#: Rates that ``Study.fit`` tries, as shares of the testbed's.
SHARES = (0.1, 0.3, 1.0)


@checked_fields
@dataclass
class Study:
    """One task, one model, one set of settings.

    Attributes:
        settings: the values of ``presets.LAPTOP``, as attributes.
        blocks: blocks of the layer sweep.
        pairs: (concept, seed) of every run of the comparison; the sweep uses the first ones.
        position: tokens that vectors are added to.
        drawn_from, strata: of the control with random answers, as in ``Method``.
        block: the chosen block by method (``resid``, ``mlp_out``, ``lora``), after ``sweep``.
        jobs: every job of the comparison, after ``compare``.
        fitted: whether ``fit`` has chosen the rates; it does so once.

    Raises:
        UserError: a block or a pair that comes twice.
    """

    grid: Grid
    settings: Any
    blocks: Sequence[int]
    pairs: Sequence[tuple[str, int]]
    position: str
    drawn_from: Sequence[str] = ()
    strata: Sequence[str] = ()
    block: dict[str, int] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    fitted: bool = False

    def __post_init__(self) -> None:
        no_doubles(self.blocks, "block")
        no_doubles(self.pairs, "run (concept, seed)")

    @property
    def vector_config(self) -> TrainConfig:
        """Hyperparameters of vectors."""
        s = self.settings
        return self._config(s.steps, s.batch, s.vector_lr)

    @property
    def lora_config(self) -> TrainConfig:
        """Hyperparameters of LoRAs."""
        s = self.settings
        return self._config(s.lora_steps, s.lora_batch, s.lora_lr)

    def _config(self, steps: int, batch: int, lr: float) -> TrainConfig:
        s = self.settings
        return TrainConfig(steps, batch, lr, warmup=s.warmup, schedule=s.schedule)

    @checked
    def vector(self, kind: str, block: int) -> Method:
        """A vector at one site of one block."""
        s = self.settings
        method = compare.vector(kind, block, self.vector_config, self.position)
        return replace(method, raw=s.vector_raw, init=s.vector_init)

    @checked
    def lora(self, block: int) -> Method:
        """A LoRA on one block's down projection."""
        s = self.settings
        shape = {"rank": s.rank, "alpha": s.alpha, "dropout": s.dropout}
        return compare.lora([block], self.lora_config, **shape)

    def fit(self) -> pd.DataFrame | None:
        """Choose learning rates for another model than the testbed; print how long the rest takes.

        The laptop's rates were chosen on the testbed. For another model, and unless rates are the
        paper's own (``vector_raw``), those of vectors and one-block LoRAs are chosen at the middle
        block, by validation loss, among shares of the testbed's.

        Returns:
            The trials, one row per run and family; None where there is nothing to choose.
        """
        s, few = self.settings, self.pairs[:2]
        if self.grid.lm.dialect == "testbed" or s.vector_raw or self.fitted:
            return None
        middle = sorted(self.blocks)[len(self.blocks) // 2]
        trials, seconds = [], 0.0
        for key, method in (
            ("vector_lr", self.vector("resid", middle)),
            ("lora_lr", self.lora(middle)),
        ):
            rates = [s[key] * share for share in SHARES]
            best, trial = compare.choose_rate(self.grid, method, rates, few, key)
            self.settings = type(s)({**self.settings, key: best.config.lr})
            finished = self.grid.runs(compare.jobs(best, few))
            seconds += sum(run.seconds for run in finished) / len(few)
            trials.append(trial)
        runs = (len(self.blocks) * s.sweep_runs + 3 * len(self.pairs)) * len(SITES)
        self.fitted = True
        print(
            f"rates by validation loss at block {middle}: vectors {self.settings.vector_lr:.3g}, "
            f"LoRAs {self.settings.lora_lr:.3g}. Ahead: about {seconds / 2 * runs / 60:.0f} "
            f"minutes, {runs} runs (fewer with layers=, a smaller preset or a GPU)."
        )
        return pd.concat(trials)

    def sweep(self) -> pd.DataFrame:
        """Every site and the LoRA at every block; sets ``block`` by validation loss."""
        _ = self.fit()
        pairs = self.pairs[: self.settings.sweep_runs]
        tables = {
            kind: compare.sweep(self.grid, partial(self.vector, kind), self.blocks, pairs, kind)
            for kind in SITES
        }
        few = self.pairs[: self.settings.lora_runs]
        tables["lora"] = compare.sweep(self.grid, self.lora, self.blocks, few, "lora")
        self.block = {kind: compare.choose_block(table) for kind, table in tables.items()}
        return pd.concat(tables.values())

    def lora_all(self) -> tuple[Method, pd.DataFrame]:
        """The all-block LoRA at the rate of lowest validation loss, and the trial table."""
        s = self.settings
        shape = {"rank": s.rank_all, "alpha": s.alpha, "dropout": s.dropout}
        method = compare.lora("all", self.lora_config, **shape)
        pairs = self.pairs[: s.lora_runs]
        return compare.choose_rate(self.grid, method, s.lora_lrs, pairs, "rates")

    @checked
    def compare(self, lora_all: Method) -> pd.DataFrame:
        """Base, LoRAs, vectors and both controls on every pair; one row per run and family."""
        self.jobs = []
        resid = self.vector("resid", self.block["resid"])
        methods = [
            Method("base", "base"),
            self.lora(self.block["lora"]),
            lora_all,
            self.vector("mlp_out", self.block["mlp_out"]),
            resid,
            self.random_answers(resid),
        ]
        tables = [self._run(method) for method in methods]
        trained = next(table for table in tables if table["method"].iloc[0] == "vector_resid")
        return pd.concat([*tables, self._run(compare.random_like(trained, resid))])

    def random_answers(self, method: Method) -> Method:
        """Control: a method trained on answers drawn anew, in the way that fits this task."""
        return compare.random_answers(method, self.drawn_from, self.strata)

    def _run(self, method: Method) -> pd.DataFrame:
        jobs = compare.jobs(method, self.pairs)
        self.jobs += jobs
        return self.grid.run(jobs, method.name)
