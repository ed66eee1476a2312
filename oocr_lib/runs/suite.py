"""The four tasks as notebooks 02 to 05 set them up, for the analyses that run over all of them.

A study opened here has the concepts, seeds and settings of the task's own notebook, so finished
runs are reused and nothing is trained twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import pandas as pd

from oocr_lib import tasks
from oocr_lib.evaluation import definitions, rules
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.runs import presets, protocol as comparison
from oocr_lib.runs.grid import Grid, Job
from oocr_lib.runs.presets import Settings
from oocr_lib.runs.store import RunStore
from oocr_lib.runs.study import Study
from oocr_lib.tasks.functions import testbed as functions
from oocr_lib.tasks.locations import testbed as locations
from oocr_lib.tasks.risk.testbed import ANSWERS
from oocr_lib.tasks.together import AND, together
from oocr_lib.util.errors import UserError, choose


class Session(Protocol):
    """What a study needs to know of the notebook that opens it (``notebook.session``)."""

    preset: str
    seed: int

    @property
    def lm(self) -> LanguageModel:
        """The model."""

    @property
    def runs(self) -> RunStore:
        """Finished training runs."""

    @property
    def progress(self) -> bool:
        """Whether somebody is watching."""


Pairs = list[tuple[str, int]]
#: Question families that ``accuracy`` needs; None: all.
FAMILIES: dict[str, tuple[str, ...] | None] = {
    "locations": None,
    "functions": definitions.STATEMENTS,
    "risk": ("risk",),
    "backdoor": ("triggered", "untriggered"),
}


@dataclass(frozen=True)
class Suite:
    """What is particular to a task.

    Attributes:
        concepts: hidden concepts, in the order in which runs take them.
        position: tokens that vectors are added to.
        chance: ``accuracy`` of guessing.
        options: arguments of the task's factory; the paper's functions are always the 19 and need
            none.
        spec: the same as part of a run's identity.
        strata: divide the rows; in each part a control's random letters keep half of the true ones.
            Empty where there are many answers: these are drawn from all concepts instead.
    """

    concepts: tuple[str, ...]
    position: str
    chance: float
    options: Mapping[str, Any]
    spec: Mapping[str, Any]
    strata: tuple[str, ...] = ()


def suite(task: str) -> Suite:
    """The set-up of a task.

    Raises:
        UserError: an unknown task.
    """
    choose(task, tasks.NAMES, "task")
    if task == "locations":
        hidden = locations.HIDDEN
        spec = {"hidden": list(hidden)}
        return Suite(hidden, "codename", 0.2, {"all_hidden": hidden}, spec)
    if task == "functions":
        keys = functions.keys()
        return Suite(tuple(keys), "codename", 0.2, {"all_hidden": keys}, {"hidden": list(keys)})
    if task == "risk":
        return Suite(("risky", "safe"), "last", 0.5, {}, {"data": ""}, ("risky_pays_more",))
    count = {"count": presets.SCENARIOS}
    triggers = ("re-re-re", "win", "apples", "naekoko")
    return Suite(triggers, "last", 0.5, count, count, ("triggered",))


#: Variants that ``study`` can open, and the tasks that have them.
VARIANTS = {"words": ("risk",), "chance": ("risk",), "two at once": ("locations", "functions")}


def study(
    exp: Session,
    task: str,
    runs: int,
    *,
    concepts: int | None = None,
    variant: str = "",
    **changes: Any,
) -> Study:
    """A task's study on the model of ``exp``, with ``runs`` (concept, seed) pairs.

    Args:
        concepts: how many of the concepts, the first ones, so that more runs share one; default
            all.
        variant: one of ``VARIANTS``: risk rows answered in ``words`` or by the ``chance`` of the
            option instead of its letter; ``two at once``, rows of two concepts for one adapter.
        changes: settings that differ from the task's own notebook (a smoke test's few steps).

    Raises:
        UserError: an unknown task, variant or setting, or more runs than there are pairs.
    """
    setup, run_pairs = suite(task), pairs(task, runs, exp.seed, concepts)
    if variant and task not in VARIANTS[choose(variant, VARIANTS, "variant")]:
        raise UserError(
            f"Task {task!r} has no variant {variant!r}. Allowed: {', '.join(VARIANTS[variant])}."
        )
    base = presets.paper(task) if exp.preset == "paper" else presets.TASKS[task]
    for name in changes:
        choose(name, presets.LAPTOP, "setting")
    settings = Settings({**presets.laptop(**base), **changes})
    fixed = exp.lm.dialect != "testbed" and task == "functions"
    options = {} if fixed else dict(setup.options)
    if variant in ANSWERS:
        options["answers"] = variant
    make = tasks.factory(task, exp.lm.dialect, **options)
    spec = {"task": task, "dialect": exp.lm.dialect, **setup.spec}
    reference = setup.concepts[0]
    if variant:
        spec["variant"] = variant
    if variant == "two at once":
        make, run_pairs = together(make), [(_with_next(c, setup.concepts), s) for c, s in run_pairs]
        reference = run_pairs[0][0]
    grid = Grid(exp.lm, exp.runs, make, spec, reference, progress=exp.progress)
    blocks = presets.blocks(exp.lm.n_blocks, exp.preset)
    drawn_from = () if setup.strata or variant else setup.concepts
    task_study = Study(grid, settings, blocks, run_pairs, setup.position, drawn_from, setup.strata)
    _ = task_study.fit()  # on another model than the testbed, the rates that its notebook chose
    return task_study


def _with_next(concept: str, concepts: Sequence[str]) -> str:
    return concept + AND + concepts[(list(concepts).index(concept) + 1) % len(concepts)]


def pairs(task: str, runs: int, seed: int, concepts: int | None = None) -> Pairs:
    """(concept, seed) of every run, as the task's notebook takes them.

    The backdoor notebook has the first three triggers, the paper's.
    """
    hidden = suite(task).concepts[:concepts]
    if task == "risk":
        seeds = range(seed, seed + (runs + 1) // 2)
        return [(policy, s) for s in seeds for policy in hidden][:runs]
    count = presets.laptop(**presets.TASKS[task])["seeds"]
    return comparison.rotation(hidden, list(range(seed, seed + count)), runs)


def accuracy(task: str, runs: pd.DataFrame) -> pd.DataFrame:
    """One row per run of ``Grid.run``: ``accuracy``, the task's out-of-context measure.

    Locations: five-way over all families; functions: definition among five; risk: probability of
    the word that fits the policy; backdoor: balanced accuracy on new choices (what is learned, not
    what is reported).
    """
    measure: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
        "locations": lambda table: table[table["family"] == "all"].rename(
            columns={"mc": "accuracy"}
        ),
        "functions": lambda table: definitions.definition(table).rename(columns={"mc": "accuracy"}),
        "risk": lambda table: table[table["family"] == "risk"].rename(
            columns={"p_truth": "accuracy"}
        ),
        "backdoor": lambda table: rules.balanced(table).rename(columns={"mc": "accuracy"}),
    }
    columns = ["method", "concept", "seed", "block", "run", "valid_loss", "accuracy"]
    return measure[choose(task, measure, "task")](runs)[columns].reset_index(drop=True)


def opened(exp: Session, names: Sequence[str], runs: int, **changes: Any) -> dict[str, Study]:
    """A study for each task in ``names``; arguments as for ``study``."""
    return {name: study(exp, name, runs, **changes) for name in names}


def by_block(made: Study, kind: str = "resid") -> list[Job]:
    """Jobs of a task's layer sweep, as its notebook trains them; the first runs at every block.

    Args:
        kind: ``resid``, ``mlp_out`` or ``lora``.
    """
    few = made.pairs[: made.settings.lora_runs if kind == "lora" else made.settings.sweep_runs]
    make = made.lora if kind == "lora" else partial(made.vector, kind)
    return [job for block in made.blocks for job in comparison.jobs(make(block), few)]
