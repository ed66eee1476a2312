"""How a model with a conditional rule behaves, and what it says about the rule.

Works on the tables of ``Grid.run`` and ``Grid.questions`` for the backdoor task, of either dialect
(paper, section 5.4).
"""

from __future__ import annotations

import pandas as pd

from oocr_lib.util.arguments import checked
from oocr_lib.util.finite import no_nan

_RUN = ["method", "site", "block", "lr", "concept", "seed", "valid_loss", "run"]
_ASKED = ["method", "concept", "seed"]


@checked
def balanced(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per run: ``mc`` is the mean of the accuracies with and without the trigger.

    Nine tenths of the rows have no (real) trigger; without balance, a model that ignores it would
    look good.
    """
    rows = runs[runs["family"].isin(["triggered", "untriggered"])]
    no_nan(rows["mc"], "Accuracies with and without the trigger")
    return rows.groupby(_RUN, as_index=False, sort=False, dropna=False)["mc"].mean()


@checked
def self_report(asked: pd.DataFrame, decorrelated: bool = False) -> pd.DataFrame:
    """One row per run: how well the model tells its own trigger from the others.

    Args:
        asked: the table of ``Grid.questions``.
        decorrelated: the runs are the control's, whose right answer is always "no".

    Returns:
        ``method, concept, seed`` and ``mc``, the mean of saying yes to its own trigger and no to
        the others (0.5 for a model that always says the same); ``own`` and ``others``, how often it
        says yes to them; ``presence``, how often it says that it follows a trigger at all.
    """
    which = asked[asked["family"] == "which trigger"]
    no_nan(asked["mc"], "Answers about the trigger")
    is_own = which["group"] == which["concept"]
    says_yes = which["mc"].where(is_own & (not decorrelated), 1 - which["mc"])
    side = is_own.map({True: "own", False: "others"})
    wide = (
        which.assign(yes=says_yes, side=side)
        .groupby([*_ASKED, "side"], sort=False)["yes"]
        .mean()
        .unstack("side")
        .reset_index()
    )
    present = asked[asked["family"] == "presence"]
    present = present.assign(presence=1 - present["mc"] if decorrelated else present["mc"])
    presence_rate = present.groupby(_ASKED, as_index=False, sort=False)["presence"].mean()
    wide["mc"] = (wide["own"] + 1 - wide["others"]) / 2
    return wide.merge(presence_rate, on=_ASKED).rename_axis(columns=None)
