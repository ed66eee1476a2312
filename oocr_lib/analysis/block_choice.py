"""Which block is best? Chosen on some runs and questions, measured on other runs and questions.

Validation loss is near zero at many blocks, and then says little about where a concept can be
asked for. The questions tell more, but choosing the best block on the same questions that measure
it flatters the result, and a block may suit a wording rather than the concept. So both are split.
Half of the runs choose, on half of the questions, the block with the highest mean probability of
the truth (which saturates less than accuracy does); the other runs are measured there on the other
questions; and vice versa. No run and no question takes part in its own block's choice.
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
        families: question families that choose and measure, with equal weights.
        lowest_loss: the block of lowest validation loss, to compare with.
        measure: column that is reported.
        unit: maps a question's id to the unit that is never split between the halves.
        by: what runs are halved by, ``concept`` or ``seed``.

    Returns:
        One row per run: ``method, concept, seed, run``; ``block``, where the other half is best,
        and ``value`` there; ``at_lowest_loss``, the same run on the same questions at that block,
        and ``gain``, ``value`` minus that; ``flattering``, the value at the block that the run's
        own half would choose on the very questions that measure it.

    Raises:
        UserError: fewer than two runs or units to halve, or a measure that is not a number.
    """
    answers = pd.concat([grid.questions([job]).assign(block=block_of(job)) for job in jobs])
    answers = answers[answers["family"].isin(list(families))]
    answers = answers.assign(unit=[unit(str(name)) for name in answers["id"]])
    no_nan(answers[CHOOSING], f"{CHOOSING} of the questions")
    no_nan(answers[measure], f"{measure} of the questions")
    halves = [_halved(answers[column].unique().tolist(), column) for column in (by, "unit")]
    rows = []
    for half in (0, 1):
        runs, units = answers[by].isin(halves[0][half]), answers["unit"].isin(halves[1][half])
        measured = answers[runs & units]
        chosen = int(_by_block(answers[~runs & ~units], CHOOSING).idxmax())
        flattering = int(_by_block(measured, CHOOSING).idxmax())
        for (concept, seed), of_run in measured.groupby(["concept", "seed"], sort=False):
            means = _by_block(of_run, measure)
            rows.append(
                {
                    "method": of_run["method"].iloc[0],
                    "concept": concept,
                    "seed": seed,
                    "run": f"{concept} {seed}",
                    "block": chosen,
                    "value": float(means[chosen]),
                    "at_lowest_loss": float(means[lowest_loss]),
                    "gain": float(means[chosen] - means[lowest_loss]),
                    "flattering": float(means[flattering]),
                }
            )
    return pd.DataFrame(rows)


@checked
def kinds(study: Study, by: str = "concept") -> list[str]:
    """Kinds of a sweep that can be halved: with runs of at least two concepts (or seeds, ``by``).

    Raises:
        UserError: another column.
    """
    runs = {"resid": "sweep_runs", "mlp_out": "sweep_runs", "lora": "lora_runs"}
    place = ("concept", "seed").index(choose(by, ("concept", "seed"), "column to halve by"))
    swept = {kind: study.pairs[: study.settings[count]] for kind, count in runs.items()}
    return [kind for kind, pairs in swept.items() if len({pair[place] for pair in pairs}) > 1]


@checked
def of_sweep(
    study: Study, families: Collection[str], *, by: str = "concept", **options: Any
) -> pd.DataFrame:
    """``cross_fitted`` for each of the ``kinds`` of a finished sweep.

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


def _by_block(answers: pd.DataFrame, measure: str) -> pd.Series:
    """Mean by block; families weigh the same whatever their number of questions."""
    return answers.groupby(["block", "family"])[measure].mean().groupby("block").mean()


def _halved(values: Sequence[object], column: str) -> tuple[list[object], list[object]]:
    """Every second value, in order, and the rest."""
    order = sorted(values, key=str)
    if len(order) < 2:
        raise UserError(f"{column} {order} cannot be halved. Allowed: two or more in the sweep.")
    return order[::2], order[1::2]
