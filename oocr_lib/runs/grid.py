"""Many runs: methods x concepts x seeds x blocks, batched where possible, reused where finished.

A *method* says what is trained and where; a *job* is a method on one concept with one seed. Jobs
of one kind share batches, also across blocks and learning rates (``planner``). Batches are formed
from the whole job list, finished or not, so that a continued sweep computes bitwise what an
uninterrupted one computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from oocr_lib.activations import typical_norm
from oocr_lib.adapters.base import Adapter, Attached
from oocr_lib.adapters.group import LoraGroup
from oocr_lib.adapters.lora import LoraAdapter
from oocr_lib.adapters.vector import VectorAdapter
from oocr_lib.encoding import Encoded, collate, encode_row
from oocr_lib.evaluation.scores import Asked, check_asked, prepare, score, summarise
from oocr_lib.executor import Executor
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site
from oocr_lib.runs.executors import Executors
from oocr_lib.runs.methods import Job, Method, check_jobs, cross, with_config
from oocr_lib.runs.planner import batches, touched
from oocr_lib.runs.run_table import best_by_validation, rows
from oocr_lib.runs.store import Run, RunStore
from oocr_lib.tasks.base import Row, Task, check_row, random_answers, shuffle_answers
from oocr_lib.training.loop import RunData, TrainResult, train, validate
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError

__all__ = ["Grid", "Job", "Method", "best_by_validation", "cross", "with_config"]

#: Share of the progress bar of a batch that is left for its questions.
SCORING = 0.2
#: Without the count of finished runs, which would be a fraction.
_BAR = "{desc}: {percentage:3.0f}%|{bar}| of {total_fmt} runs [{elapsed}<{remaining}]"


@dataclass
class Encoding:
    """A task and its rows as tokens."""

    task: Task
    train: list[Encoded]
    valid: list[Encoded]
    questions: list[Asked]
    mixed: dict[tuple[object, ...], list[Encoded]] = field(default_factory=dict)


class Grid:
    """Runs jobs of one task family on one model, through a store of finished runs.

    Args:
        factory: makes the task of a concept and a seed.
        factory_spec: what determines the factory beyond concept and seed (JSON-able).
        reference: concept whose prompts measure the sites' typical norms, once.
        progress: show a bar over the jobs.
        reuse: compute once what no run changes (``engine``); False runs everything plainly.
    """

    @checked
    def __init__(
        self,
        lm: LanguageModel,
        store: RunStore,
        factory: Callable[[str, int], Task],
        factory_spec: dict[str, Any],
        reference: str,
        progress: bool = False,
        reuse: bool = True,
    ) -> None:
        self.executors = Executors(lm, reuse)
        self.lm, self.store, self.factory = lm, store, factory
        self.factory_spec, self.reference, self.progress = factory_spec, reference, progress
        self._encoded: dict[tuple[str, int], Encoding] = {}
        self._plain: dict[tuple[str, int], Task] = {}
        self._scales: dict[tuple[Site, str], float] = {}

    @checked
    def task(self, concept: str, seed: int) -> Encoding:
        """The encoded task; encoded once."""
        key = (concept, seed)
        if key not in self._encoded:
            task, tok = self.task_text(concept, seed), self.lm.tokenizer
            for part, rows in (("Training", task.train), ("Validation", task.valid)):
                for number, row in enumerate(rows, start=1):
                    check_row(row, f"{part} row {number} of {concept!r}, seed {seed},")
            self._encoded[key] = Encoding(
                task,
                [encode_row(tok, row) for row in task.train],
                [encode_row(tok, row) for row in task.valid],
                prepare(self.lm, task.questions, self.executors.alone()),
            )
        return self._encoded[key]

    @checked
    def scale(self, site: Site, position: str) -> float:
        """Typical norm of the site's output at the marked tokens, to three digits."""
        if (site, position) not in self._scales:
            rows = self.task(self.reference, 0).valid
            marked = [row for row in rows if position == "all" or row.spans.get(position)]
            batch = collate((marked or rows)[:64], self.lm.pad_id).to(self.lm.device)
            norm = typical_norm(self.lm, batch, site, position)
            self._scales[site, position] = float(f"{norm:.3g}")
        return self._scales[site, position]

    @checked
    def spec(self, job: Job) -> dict[str, Any]:
        """Everything that determines a job's numbers, as JSON."""
        method = asdict(job.method)
        method.pop("name")  # the same computation under another name is the same run
        if job.method.lora_position == "all":  # runs from before it could be chosen lack it
            method.pop("lora_position")
        for name in ("drawn_from", "strata"):  # likewise
            if not method[name]:
                method.pop(name)
        return {
            "task": self.factory_spec,
            "concept": job.concept,
            "seed": job.seed,
            "model": self.lm.digest,
            "device": _device_name(self.lm.device),
            "threads": torch.get_num_threads(),
            "reuse": self.executors.pools is not None,
            "scale": self._scale_of(job.method) if job.method.site else None,
            "method": method,
        }

    def _scale_of(self, method: Method) -> float:
        return 1.0 if method.raw else self.scale(Site.parse(method.site), method.position)

    @checked
    def run(self, jobs: Sequence[Job], label: str = "runs") -> pd.DataFrame:
        """Run what is not finished and return one row per job and question family.

        Returns:
            Columns ``method, site, block, lr, concept, seed, family, mc, top1, p_truth, rank,
            valid_loss, valid_accuracy, length, seconds, run``; ``length`` is the vector's, in
            units of the site's norm.

        Raises:
            UserError: a job that comes twice, which would count as two runs; rows or questions
                that a method cannot touch; or what training refuses.
        """
        check_jobs(jobs)
        self.lm.refuse_changed()
        self.lm.refuse_attached()
        finished: dict[Job, Run] = {}
        with tqdm(
            total=len(jobs), desc=label, disable=not self.progress, leave=False, bar_format=_BAR
        ) as bar:
            for batch in batches(jobs):
                # A batch may take minutes, so its steps move the bar, too.
                step = (1 - SCORING) * len(batch) / batch[0].method.config.steps
                stored = {job: self.store.find(self.spec(job)) for job in batch}
                if any(run is None for run in stored.values()):
                    runs = self._compute(batch, partial(bar.update, step), bar.refresh)
                    stored = dict(zip(batch, runs, strict=True))
                finished.update({job: run for job, run in stored.items() if run is not None})
                bar.n = len(finished)
                bar.refresh()
        return pd.DataFrame([row for job in jobs for row in rows(job, finished[job])])

    @checked
    def runs(self, jobs: Sequence[Job]) -> list[Run]:
        """The finished runs of these jobs (loss curves, snapshots).

        Raises:
            UserError: for a job that has not been run.
        """
        runs = [self.store.find(self.spec(job)) for job in jobs]
        if any(run is None for run in runs):
            raise UserError("Some of these jobs have not been run. Call run(jobs) first.")
        return [run for run in runs if run is not None]

    @checked
    def questions(self, jobs: Sequence[Job]) -> pd.DataFrame:
        """Every question of finished jobs, with ``method``, ``concept`` and ``seed``.

        Raises:
            UserError: for a job that has not been run.
        """
        return pd.DataFrame(
            [
                {"method": job.method.name, "concept": job.concept, "seed": job.seed, **asked}
                for job, run in zip(jobs, self.runs(jobs), strict=True)
                for asked in run.results["questions"]
            ]
        )

    @checked
    def trained(self, jobs: Sequence[Job]) -> Adapter:
        """The adapter of finished jobs: their vectors as one, a LoRA, or a group of LoRAs.

        Raises:
            UserError: jobs that have not been run, or nothing trained.
        """
        adapter, states = self.adapter(jobs), [run.tensors() for run in self.runs(jobs)]
        if isinstance(adapter, VectorAdapter):
            adapter.theta.data = torch.stack([state["theta"] for state in states])
        elif isinstance(adapter, LoraAdapter):
            adapter.restore(states[0])
        elif isinstance(adapter, LoraGroup):
            for lora, state in zip(adapter.adapters, states, strict=True):
                lora.restore(state)
        else:
            kinds = ", ".join(sorted({job.method.kind for job in jobs}))
            raise UserError(
                f"{len(jobs)} jobs of kind {kinds} have no common adapter. Allowed: vectors, or "
                "LoRAs."
            )
        return adapter

    @checked
    def adapter(self, jobs: Sequence[Job]) -> Adapter | None:
        """A fresh adapter for jobs that share a batch; None for the base model."""
        if not jobs:
            raise UserError("0 jobs have no adapter. Allowed: at least one.")
        method = jobs[0].method
        if method.kind == "base" or len({job.method.kind for job in jobs}) > 1:
            return None
        if len(starts := {(j.method.position, j.method.init) for j in jobs}) > 1:
            raise UserError(
                f"Jobs at {', '.join(sorted({position for position, _ in starts}))} or with other "
                "starts have no common adapter. Allowed: one position and one initial length."
            )
        if method.kind == "lora":
            loras = [_lora(job) for job in jobs]
            return loras[0] if len(loras) == 1 else LoraGroup(loras)
        sites = [Site.parse(job.method.site) for job in jobs]
        vectors = VectorAdapter(
            sites,
            self.lm.d_model,
            method.position,
            [self._scale_of(job.method) for job in jobs],
            seed=[job.seed for job in jobs],
            init=1.0 if method.kind == "random" else method.init,
        )
        if method.kind == "random":
            lengths = torch.tensor([job.method.length for job in jobs])
            vectors.theta.data.mul_(lengths[:, None])
        return vectors

    @checked
    def rows(self, job: Job) -> tuple[Row, ...]:
        """A job's training rows, with answers shuffled or drawn anew where the method says so."""
        method, train = job.method, self.task_text(job.concept, job.seed).train
        if method.shuffled:
            return shuffle_answers(train, job.seed)
        if not method.random_answers:
            return train
        pool: dict[str, set[str]] = {}
        for concept in method.drawn_from:
            for row in self.task_text(concept, job.seed).train:
                pool.setdefault(str(row.meta.get("kind")), set()).add(row.answer)
        return random_answers(train, job.seed, pool, method.strata)

    @checked
    def task_text(self, concept: str, seed: int) -> Task:
        """The task as text, built once; nothing is encoded, so that many can be read."""
        if (concept, seed) not in self._plain:
            self._plain[concept, seed] = self.factory(concept, seed)
        return self._plain[concept, seed]

    @checked
    def data(self, job: Job) -> RunData:
        """A job's rows and validation rows as tokens; see ``rows``."""
        encoded, m = self.task(job.concept, job.seed), job.method
        if not (m.shuffled or m.random_answers):
            return RunData(encoded.train, encoded.valid, job.seed)
        key = (m.shuffled, tuple(m.drawn_from), tuple(m.strata))
        if key not in encoded.mixed:
            encoded.mixed[key] = [encode_row(self.lm.tokenizer, row) for row in self.rows(job)]
        return RunData(encoded.mixed[key], encoded.valid, job.seed)

    def train(
        self,
        jobs: Sequence[Job],
        scored: bool = True,
        after_step: Callable[[], object] = lambda: None,
    ) -> tuple[Adapter | None, TrainResult, Executor]:
        """Train jobs that share a batch (``batches``) without saving anything.

        Returns:
            Their adapter, the training result (no steps where nothing is trained), and the executor
            that ran them; it is ready for their questions, too, if they will be ``scored``.
        """
        method, data = jobs[0].method, [self.data(job) for job in jobs]
        adapter = self.adapter(jobs)
        asked = [self.task(j.concept, j.seed).questions if scored else [] for j in jobs]
        executor = self.executors.of_jobs(jobs, data, asked)
        if adapter is None or method.kind == "random":
            return adapter, TrainResult(np.zeros((0, len(jobs)))), executor
        rates = [job.method.config.lr for job in jobs]
        result = train(
            self.lm,
            adapter,
            data,
            method.config,
            rates=rates,
            executor=executor,
            after_step=after_step,
        )
        return adapter, result, executor

    def _compute(
        self,
        jobs: Sequence[Job],
        after_step: Callable[[], object],
        after_pass: Callable[[], object],
    ) -> list[Run]:
        """Train (where there is something to train) and evaluate jobs that share a batch."""
        for job in jobs:
            self.data(job)  # writes and encodes rows, which takes seconds a task: move the bar
            after_pass()
        asked = [self.task(j.concept, j.seed).questions for j in jobs]
        for job, mine in zip(jobs, asked, strict=True):  # before hours of training, not after
            check_asked(mine, [_position(job.method)] * len(mine))
        adapter, result, executor = self.train(jobs, after_step=after_step)
        questions = [q for mine in asked for q in mine]
        owner = [k for k, mine in enumerate(asked) for _ in mine]
        with adapter.attach(self.lm) if adapter else nullcontext() as attached:
            table = score(self.lm, questions, attached, owner, executor, after_pass)
            validation = (
                (result.valid[-1][1], result.valid_accuracy)
                if result.valid
                else self._validate(jobs, attached, executor)
            )
        runs = []
        for k, job in enumerate(jobs):
            results = {
                "families": summarise(table[table["run"] == k]),
                "questions": table[table["run"] == k].drop(columns="run").to_dict("records"),
                "valid_loss": float(validation[0][k]),
                "valid_accuracy": float(validation[1][k]),
                "losses": [round(float(x), 5) for x in result.losses[: _steps(result, k), k]],
                "valid": [[step, round(float(loss[k]), 5)] for step, loss in result.valid],
                "steps": [step for step, _ in result.snapshots],
            }
            tensors = _tensors(adapter, result, k)
            if "theta" in tensors:
                results["length"] = float(tensors["theta"].norm())
            seconds = result.seconds / len(jobs)
            runs.append(self.store.save(self.spec(job), results, tensors, seconds))
        return runs

    def _validate(
        self, jobs: Sequence[Job], attached: Attached | None, executor: Executor
    ) -> tuple[np.ndarray, np.ndarray]:
        rows = jobs[0].method.config.valid_rows
        return validate(self.lm, attached, [self.data(job) for job in jobs], rows, executor)


def _position(method: Method) -> str:
    """Which tokens a method's adapter touches; "all" where there is none."""
    return "all" if method.kind == "base" else touched(method)


def _device_name(device: torch.device) -> str:
    """What the arithmetic runs on: another card gives other last digits."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _lora(job: Job) -> LoraAdapter:
    """The fresh LoRA of a job."""
    m = job.method
    shape = (m.blocks, m.rank, m.alpha, m.dropout, m.modules)
    return LoraAdapter(*shape, seed=job.seed, position=m.lora_position)


def _steps(result: TrainResult, k: int) -> int:
    """Steps that run k took."""
    return int(result.stopped[k]) if len(result.stopped) else 0


def _tensors(adapter: Adapter | None, result: TrainResult, k: int) -> dict[str, torch.Tensor]:
    """What is saved of run k: its vector and snapshots, or the LoRA's matrices."""
    if adapter is None:
        return {}
    if isinstance(adapter, VectorAdapter):
        tensors = {"theta": adapter.theta.detach()[k].clone(), "scale": adapter.scales[k].clone()}
        if result.snapshots:
            tensors["theta_steps"] = torch.stack([s["theta"][k] for _, s in result.snapshots])
        return tensors
    return dict((adapter.adapters[k] if isinstance(adapter, LoraGroup) else adapter).state())
