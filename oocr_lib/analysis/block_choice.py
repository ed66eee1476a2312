"""At which block? Chosen on some seeds and some questions, measured on other seeds and others.

Validation loss is near zero at many blocks, and then says little about where a concept can be
asked for. The questions do, but the best block on the questions that measure it flatters, and a
block may suit a wording rather than the concept. So both are split. Half of the runs choose, on
half of the questions, the block with the highest mean probability of the truth (a share that
saturates less than accuracy does); the other runs are measured there on the other questions; and
the other way round. No run and no question takes part in its own block's choice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import pandas as pd

from oocr_lib.models.sites import Site
from oocr_lib.runs import suite
from oocr_lib.runs.grid import Grid, Job
from oocr_lib.runs.study import Study
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.finite import no_nan

#: What a block is chosen by.
CHOOSING = "p_truth"


def wording(question: str) -> str:
    """A question's id without its last part: one wording in both orders, one family of facts."""
    return question.rsplit("-", 1)[0]


def scenario(question: str) -> str:
    """The last part of a question's id: one scenario, with a trigger and without."""
    return question.rsplit("-", 1)[-1]


def block_of(job: Job) -> int:
    """The block of a job's vector or one-block LoRA.

    Raises:
        UserError: a method that has no single block.
    """
    method = job.method
    if method.site:
        return Site.parse(method.site).block
    if isinstance(method.blocks, str) or len(method.blocks) != 1:
        raise UserError(f"Method {method.name!r} has no block of its own. Allowed: one block.")
    return int(method.blocks[0])


@checked
def cross_fitted(
    grid: Grid,
    jobs: Sequence[Job],
    families: Collection[str],
    lowest_loss: int,
    *,
    measure: str = "mc",
    unit: Callable[[str], str] = wording,
    by: str = "concept",
) -> pd.DataFrame:
    """Measure every run at the block that other runs chose on other questions.

    Args:
        jobs: a layer sweep of one method, finished (``suite.by_block``): every run at every block.
        families: question families that choose and measure, each of equal weight.
        lowest_loss: the block of lowest validation loss, to compare with.
        measure: column that is reported.
        unit: of a question's id, what is never split between the halves.
        by: what runs are halved by, ``concept`` or ``seed``.

    Returns:
        One row a run: ``method, concept, seed, run``; ``block``, where the other half is best, and
        ``value`` there; ``at_lowest_loss``, the same run on the same questions at that block, and
        ``gain``, ``value`` minus that; ``flattering``, at the block that the run's own half would
        choose on the very questions that measure it.

    Raises:
        UserError: fewer than two runs or units to halve, or a measure that is not a number.
    """
    parts = [grid.questions([job]).assign(block=block_of(job)) for job in jobs]
    asked = pd.concat(parts)
    asked = asked[asked["family"].isin(list(families))]
    asked = asked.assign(unit=[unit(str(name)) for name in asked["id"]])
    no_nan(asked[CHOOSING], f"{CHOOSING} of the questions")
    no_nan(asked[measure], f"{measure} of the questions")
    halves = [_halved(asked[column].unique().tolist(), column) for column in (by, "unit")]
    made = []
    for own in (0, 1):
        runs, units = asked[by].isin(halves[0][own]), asked["unit"].isin(halves[1][own])
        mine = asked[runs & units]
        scores = {
            "block": _by_block(asked[~runs & ~units], CHOOSING),
            "flattering": _by_block(mine, CHOOSING),
        }
        at = {name: int(found.idxmax()) for name, found in scores.items()}
        for (concept, seed), part in mine.groupby(["concept", "seed"], sort=False):
            value = _by_block(part, measure)
            named = {"method": part["method"].iloc[0], "concept": concept, "seed": seed}
            made.append(
                {
                    **named,
                    "run": f"{concept} {seed}",
                    "block": at["block"],
                    "value": float(value[at["block"]]),
                    "at_lowest_loss": float(value[lowest_loss]),
                    "gain": float(value[at["block"]] - value[lowest_loss]),
                    "flattering": float(value[at["flattering"]]),
                }
            )
    return pd.DataFrame(made)


@checked
def kinds(study: Study, by: str = "concept") -> list[str]:
    """Kinds of a sweep that have two halves: runs of two concepts (or seeds, ``by``) or more.

    Raises:
        UserError: another column.
    """
    runs = {"resid": "sweep_runs", "mlp_out": "sweep_runs", "lora": "lora_runs"}
    place = ("concept", "seed").index(choose(by, ("concept", "seed"), "column to halve by"))
    swept = {kind: study.pairs[: study.settings[few]] for kind, few in runs.items()}
    return [kind for kind, pairs in swept.items() if len({pair[place] for pair in pairs}) > 1]


@checked
def of_sweep(
    study: Study, families: Collection[str], *, by: str = "concept", **options: Any
) -> pd.DataFrame:
    """``cross_fitted`` for every one of ``kinds`` of a finished sweep.

    Args:
        study: with the blocks of lowest validation loss in ``block``.
        by, options: of ``cross_fitted``.
    """
    return pd.concat(
        cross_fitted(
            study.grid, suite.by_block(study, kind), families, study.block[kind], by=by, **options
        )
        for kind in kinds(study, by)
    )


def _by_block(asked: pd.DataFrame, measure: str) -> pd.Series:
    """Mean by block; families weigh the same whatever their number of questions."""
    return asked.groupby(["block", "family"])[measure].mean().groupby("block").mean()


def _halved(values: Sequence[object], what: str) -> tuple[list[object], list[object]]:
    """Every second value, in order, and the rest."""
    order = sorted(values, key=str)
    if len(order) < 2:
        raise UserError(f"{what} {order} cannot be halved. Allowed: two or more in the sweep.")
    return order[::2], order[1::2]
