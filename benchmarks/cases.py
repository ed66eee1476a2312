"""The pieces of work that the speed benchmark measures, ours and the rivals'."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from benchmarks import counting, rivals
from oocr_lib import tasks
from oocr_lib.adapters import VectorAdapter
from oocr_lib.encoding import Encoded, encode_question
from oocr_lib.engine.batching import Reuse
from oocr_lib.engine.executor import Fast
from oocr_lib.engine.prefix_cache import Pools
from oocr_lib.evaluation.scores import Asked, score
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site
from oocr_lib.runs import presets
from oocr_lib.runs.grid import Grid, Job, Method
from oocr_lib.runs.planner import batches
from oocr_lib.runs.store import RunStore
from oocr_lib.tasks.base import Task
from oocr_lib.tasks.locations import testbed as locations
from oocr_lib.training.config import TrainConfig

CONCEPTS = {
    "risk": "risky",
    "locations": "Paris",
    "functions": "affine_3x_2",
    "attributes": "Paris",
}
SCALE = 5.0  # raw length of a vector of length 1; the speed does not depend on it


@dataclass(frozen=True)
class Measured:
    """One contestant of one case.

    Attributes:
        seconds: a step and run (training), a question and run (evaluation).
        ratio, low, high: to ours, median and range over rounds.
        tokens: a second, of the rows as they are, whether computed or taken over.
        work: counted floating-point operations of the same; nan where not counted.
        share: of the machine's measured rate of matrix products.
        peak: bytes above the loaded model.
        gap: largest difference to ours in loss (training) or log-probability (evaluation).
    """

    model: str
    case: str
    who: str
    seconds: float
    ratio: float
    low: float
    high: float
    tokens: float
    work: float = float("nan")
    share: float = float("nan")
    peak: float = float("nan")
    gap: float = float("nan")


@dataclass(frozen=True)
class Case:
    """What is trained or evaluated.

    Attributes:
        kind: ``vector``, ``lora`` (one block, down projection, rank 16) or ``evaluation``.
        seeds: runs a block.
        every: all blocks, or only the middle one.
        steps: of a usual run; what is computed once is spread over them.
        large: measured on large models, too, where sweeps of whole rows would take hours.
    """

    name: str
    task: str
    kind: str
    position: str = "last"
    seeds: int = 1
    every: bool = False
    batch: int = 16
    steps: int = 60
    large: bool = False

    def blocks(self, lm: LanguageModel) -> list[int]:
        """Blocks that are adapted, one a run; ten evenly of a deep model."""
        return presets.blocks(lm.n_blocks, "laptop") if self.every else [lm.n_blocks // 2]

    def sample(self, lm: LanguageModel) -> list[int]:
        """Blocks at which rivals are measured: the mean of these stands for the mean of all."""
        every = self.blocks(lm)
        return [every[0], every[len(every) // 2], every[-1]] if self.every else every

    def config(self, steps: int) -> TrainConfig:
        """Hyperparameters; one validation row, because validation is not measured here."""
        return TrainConfig(steps=steps, batch=self.batch, lr=0.01, valid_rows=1)

    def method(self, block: int, steps: int) -> Method:
        """What is trained at a block."""
        config = self.config(steps)
        if self.kind == "lora":
            return Method("lora_one", "lora", blocks=(block,), config=config)
        site = f"resid@{block}"
        return Method(
            "vector_resid", "vector", site=site, position=self.position, raw=True, config=config
        )


CASES = {
    case.name: case
    for case in (
        Case("risk vector", "risk", "vector", large=True),
        Case("risk vectors, 5 seeds x blocks", "risk", "vector", seeds=5, every=True, large=True),
        Case("locations vector", "locations", "vector", "codename", batch=8, large=True),
        Case(
            *("locations vectors, 5 seeds x blocks", "locations", "vector", "codename"),
            seeds=5,
            every=True,
            batch=8,
        ),
        Case("attributes vector", "attributes", "vector", "codename", batch=4, steps=40),
        Case(
            *("attributes vectors, 5 seeds x blocks", "attributes", "vector", "codename"),
            seeds=5,
            every=True,
            batch=4,
            steps=40,
        ),
        Case("LoRA on one block", "risk", "lora", large=True),
        Case("LoRAs on one block, 2 seeds x blocks", "risk", "lora", seeds=2, every=True),
        Case(
            *("evaluation, locations x blocks", "locations", "evaluation", "codename"),
            every=True,
            large=True,
        ),
        Case("evaluation, functions x blocks", "functions", "evaluation", "codename", every=True),
    )
}


def _factory(task: str, lm: LanguageModel) -> Callable[[str, int], Task]:
    """A task in the testbed's words; attributes in the model's own, answered in words."""
    if task != "attributes":
        more = {"all_hidden": locations.HIDDEN} if task == "locations" else {}
        return tasks.factory(task, "testbed", **more)
    words = {"in_words": True} if lm.dialect == "paper" else {}
    given = {"all_hidden": locations.HIDDEN, "hints": ["attributes"], **words}
    return tasks.factory("locations", lm.dialect, **given)


def _options(lm: LanguageModel, asked: Asked) -> list[Encoded]:
    """Every option as a sequence of its own, with the turn's end where ours has it, too."""
    made = [encode_question(lm.tokenizer, asked.question, option) for option in asked.options]
    for part in asked.rows:
        start = part.encoded.answer[0]
        for option, answer in zip(part.options, part.answers, strict=True):
            ids = (*part.encoded.ids[:start], *answer)
            made[option] = replace(made[option], ids=ids, answer=(start, len(ids)))
    return made


class Bench:
    """One case on one model: everything is loaded and encoded before a clock runs."""

    def __init__(self, case: Case, lm: LanguageModel) -> None:
        self.case, self.lm = case, lm
        make = _factory(case.task, lm)
        self.concept = CONCEPTS[case.task]
        store = RunStore(tempfile.mkdtemp())
        self.grid = Grid(lm, store, make, {}, self.concept)
        self.rows = [self.grid.task(self.concept, seed).train for seed in range(case.seeds)]
        self.asked = [
            asked
            for asked in self.grid.task(self.concept, 0).questions
            if asked.question.kind == "choice"
        ]
        self.options = [_options(lm, asked) for asked in self.asked]

    def contestants(self) -> dict[str, Callable[[], float]]:
        """Name to a function that does the work once and returns the seconds."""
        if self.case.kind == "evaluation":
            return {"ours": self.evaluate, "loop": self.evaluate_plainly}
        if self.case.kind == "lora":
            return {"ours": self.train, "peft + Trainer": self.lora_trainer}
        return {"ours": self.train, "loop": self.loop, "BEFT + Trainer": self.beft_trainer}

    # --- training ---

    def jobs(self, steps: int) -> list[Job]:
        """All runs, block by block."""
        case = self.case
        methods = [case.method(block, steps) for block in case.blocks(self.lm)]
        return [Job(m, self.concept, seed) for m in methods for seed in range(case.seeds)]

    def train(self, steps: int | None = None, pools: Pools | None = None) -> float:
        """Ours, from empty pools: seconds a step and run."""
        jobs = self.jobs(steps or self.case.steps)
        self.grid.executors.pools = pools or Pools(self.lm)
        began = time.perf_counter()
        self.losses = [self.grid.train(batch, scored=False)[1].losses for batch in batches(jobs)]
        self._wait()
        return (time.perf_counter() - began) / len(jobs) / jobs[0].method.config.steps

    def loop(self, steps: int = 8) -> float:
        """The plain hook loop at the sampled blocks."""
        found = []
        for block in self.case.sample(self.lm):
            began = time.perf_counter()
            self.plain_losses, _ = rivals.hook_loop(
                self.lm,
                self.rows[0],
                Site(block, "resid"),
                self.case.position,
                1.0,
                self.case.config(steps),
                seed=0,
            )
            self._wait()
            found.append((time.perf_counter() - began) / steps)
        return float(np.mean(found))

    def beft_trainer(self) -> float:
        """A bias trained by peft, at the middle block."""
        config = rivals.beft(self.lm, self.lm.n_blocks // 2)
        return rivals.trainer(self.lm, self.rows[0], config, self.case.config(4), 0)

    def lora_trainer(self) -> float:
        """A LoRA of peft at the sampled blocks."""
        return float(
            np.mean(
                [
                    rivals.trainer(
                        self.lm, self.rows[0], rivals.lora(self.lm, b, 16), self.case.config(4), 0
                    )
                    for b in self.case.sample(self.lm)
                ]
            )
        )

    # --- evaluation ---

    def adapter(self) -> VectorAdapter:
        """One vector a block, of length 1."""
        sites = [Site(block, "resid") for block in self.case.blocks(self.lm)]
        return VectorAdapter(
            sites, self.lm.d_model, self.case.position, [SCALE] * len(sites), init=1.0
        )

    def evaluate(self) -> float:
        """Ours: every question of every run; seconds a question and run."""
        adapter, lm, case = self.adapter(), self.lm, self.case
        began = time.perf_counter()
        passes = [part.encoded for asked in self.asked for part in asked.rows]
        depths = [site.block + 1 for site in adapter.sites]
        pool = Pools(lm).get(passes, case.position, min(depths))
        executor = Reuse(lm, [pool], depths) if pool else Fast()
        k = len(depths)
        with adapter.attach(lm) as attached:
            owner = [run for run in range(k) for _ in self.asked]
            self.scores = score(lm, self.asked * k, attached, owner, executor)
        self._wait()
        return (time.perf_counter() - began) / len(self.asked) / k

    def evaluate_plainly(self) -> float:
        """A sequence an option, a question a batch, at the sampled blocks."""
        vectors, found = self.adapter().vectors.to(self.lm.device), []
        for block in self.case.sample(self.lm):
            began = time.perf_counter()
            self.plain_scores = rivals.evaluate(
                self.lm, self.options, vectors[block], Site(block, "resid"), self.case.position
            )
            self._wait()
            found.append((time.perf_counter() - began) / len(self.asked))
        return float(np.mean(found))

    # --- what is known about the work ---

    def tokens(self) -> float:
        """Tokens of a step and run, or of a question and run, as rows or options stand there."""
        if self.case.kind == "evaluation":
            return sum(len(o.ids) for own in self.options for o in own) / len(self.asked)
        rows = self.rows[0]
        return self.case.batch * sum(len(row.ids) for row in rows) / len(rows)

    def work(self) -> dict[str, float]:
        """Counted floating-point operations of a step and run (a question and run)."""
        if self.case.kind == "evaluation":
            k, n = len(self.case.blocks(self.lm)), len(self.asked)
            plain = counting.work(self.evaluate_plainly) / len(self.case.sample(self.lm)) / n
            return {"ours": counting.work(self.evaluate) / k / n, "loop": plain}
        steps, runs = self.case.steps, len(self.jobs(1))
        # A whole run, as it is timed: what is computed once is spread over its steps.
        made = {"ours": counting.work(lambda: self.train(steps)) / runs / steps}
        if self.case.kind == "vector":
            made["loop"] = counting.work(lambda: self.loop(1)) / len(self.case.sample(self.lm))
        return made

    def gap(self) -> float:
        """Largest difference between ours and the loop, where both did the same."""
        if self.case.kind == "evaluation":
            mine = self.scores[self.scores["run"] == len(self.case.blocks(self.lm)) - 1]
            pairs = zip(mine["logp"], self.plain_scores, strict=True)
            return max(float(np.abs(np.array(a) - np.array(b)).max()) for a, b in pairs)
        if self.case.kind != "vector" or self.case.every:
            return float("nan")
        steps = 4
        method = replace(self.case.method(self.lm.n_blocks // 2, steps))
        self.grid.executors.pools = Pools(self.lm)
        losses = self.grid.train([Job(method, self.concept, 0)], scored=False)[1].losses[:, 0]
        self.loop(steps)
        return float(np.abs(losses - np.array(self.plain_losses)).max())

    def _wait(self) -> None:
        if self.lm.device.type == "cuda":
            torch.cuda.synchronize()
