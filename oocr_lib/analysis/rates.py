"""Learning rates: which one validation loss chooses, whether the grid ends there, how each does.

The paper has one rate for the all-block LoRA of a task (section 3.5 of its training details), and
three for vectors on locations. A method can look bad only because nobody tuned its rate, and a
choice at the end of a grid proves nothing, since the best rate may lie beyond. So the grid grows
where its end is chosen. Tables have one row per run; axes: r rates, k runs per rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from oocr_lib.runs import protocol
from oocr_lib.runs.grid import Grid, Method, best_by_validation, with_config
from oocr_lib.runs.study import Study
from oocr_lib.util.arguments import checked
from oocr_lib.util.doubles import no_doubles
from oocr_lib.util.errors import UserError
from oocr_lib.util.finite import no_nan

#: Where a rate stands, by its distance from the chosen one in the grid.
AROUND = {-1: "below", 0: "chosen", 1: "above"}


@checked
def beyond(rates: Sequence[float], chosen: float) -> float | None:
    """The next rate outside the grid, if the chosen one is its lowest or highest; else None.

    It is as far from the end as the end is from its neighbour, in ratio.

    Raises:
        UserError: fewer than two rates, a rate listed twice, or a choice that is not among them.
    """
    grid = sorted(no_doubles(rates, "learning rate"))
    if len(grid) < 2 or chosen not in grid:
        raise UserError(
            f"Rate {chosen:g} cannot be placed in {[float(f'{r:g}') for r in grid]}. Allowed: one "
            "of two or more rates."
        )
    at = grid.index(chosen)
    if 0 < at < len(grid) - 1:
        return None
    neighbour = grid[1] if at == 0 else grid[-2]
    return float(f"{chosen * chosen / neighbour:.3g}")


@checked
def swept(
    study: Study,
    method: Method,
    rates: Sequence[float],
    pairs: Sequence[tuple[str, int]],
    accuracy: Callable[[pd.DataFrame], pd.DataFrame],
    *,
    label: str = "rates",
    most: int = 2,
) -> pd.DataFrame:
    """Train (or reuse) a method at every rate on every pair; choose one by validation loss.

    Args:
        accuracy: turns answers of ``Grid.run`` into one row per run with ``accuracy``, for instance
            ``suite.accuracy`` of the task.
        most: how many rates to add, at most, each beyond the end of the grid that was chosen.

    Returns:
        The rows of ``accuracy`` with ``lr, valid_accuracy, length``; ``chosen``, whether the row's
        rate has the lowest mean validation loss; and ``edge``, the same in every row: whether the
        chosen rate is still the lowest or highest.

    Raises:
        UserError: as ``beyond``, or what training refuses.
    """

    def run(lrs: Sequence[float]) -> pd.DataFrame:
        trials = [with_config(method, lr=rate) for rate in lrs]
        return study.grid.run([j for t in trials for j in protocol.jobs(t, pairs)], label)

    answers = run(no_doubles(rates, "learning rate"))
    for _ in range(most):
        extra = beyond(list(answers["lr"].unique()), float(best_by_validation(answers, "lr")))
        if extra is None:
            break
        answers = pd.concat([answers, run([extra])], ignore_index=True)
    best = float(best_by_validation(answers, "lr"))
    runs = answers.drop_duplicates("run")[["run", "lr", "valid_accuracy", "length"]]
    table = accuracy(answers).merge(runs, on="run")
    edge = beyond(list(answers["lr"].unique()), best) is not None
    return table.assign(chosen=table["lr"] == best, edge=edge)


@checked
def over_base(
    grid: Grid,
    method: Method,
    pairs: Sequence[tuple[str, int]],
    accuracy: Callable[[pd.DataFrame], pd.DataFrame],
    label: str = "over base",
) -> pd.DataFrame:
    """Train (or reuse) a method on every pair, and compare each run with the base model there.

    On a few concepts a model that ignores the code name need not score one in five, so chance is
    not the level to judge by; the base model on the same concepts is.

    Args:
        accuracy: as in ``swept``.

    Returns:
        The rows of ``accuracy`` with ``base``, the base model's accuracy on the same concept and
        seed, and ``gain``, accuracy minus ``base``.

    Raises:
        UserError: a pair listed twice, or what training refuses.
    """

    def run(candidate: Method) -> pd.DataFrame:
        return accuracy(grid.run(protocol.jobs(candidate, pairs), label))

    base = run(Method("base", "base"))[["concept", "seed", "accuracy"]]
    on = ["concept", "seed"]
    table = run(method).merge(base.rename(columns={"accuracy": "base"}), on=on)
    return table.assign(gain=table["accuracy"] - table["base"])


@checked
def around(table: pd.DataFrame) -> pd.Series:
    """Where each row's rate stands: ``chosen``, the next ``below`` or ``above``, or empty.

    Args:
        table: from ``swept``.
    """
    grid = sorted(table["lr"].unique())
    at = grid.index(table.loc[table["chosen"], "lr"].iloc[0])
    return table["lr"].map(lambda rate: AROUND.get(grid.index(rate) - at, ""))


@checked
def regret(table: pd.DataFrame) -> float:
    """Accuracy at the rate that is best on the questions, minus that at the chosen one; 0 or more.

    Args:
        table: from ``swept``.
    """
    no_nan(table["accuracy"], "Accuracies by rate")
    means = table.groupby("lr")["accuracy"].mean()
    return float(means.max() - table.loc[table["chosen"], "accuracy"].mean())


@checked
def spread(table: pd.DataFrame, chance: float) -> pd.DataFrame:
    """How far concepts and seeds differ at each rate, beside the effect.

    In the paper's sweep on locations, cities differ more than rates (its five options favour some
    cities whatever the vector).

    Returns:
        One row per rate: ``lr``; ``effect``, mean accuracy minus ``chance``; ``concepts``, standard
        deviation of the concepts' means; ``seeds``, that of runs around their concept's mean (NaN
        with one seed); ``margin``, ``effect`` minus ``concepts``.

    Raises:
        UserError: a missing accuracy, or a single concept.
    """
    no_nan(table["accuracy"], "Accuracies by rate")
    if table["concept"].nunique() < 2:
        raise UserError("One concept has no spread. Allowed: runs on two or more.")
    rows = []
    for rate, part in table.groupby("lr"):
        grouped = part.groupby("concept")["accuracy"]
        means, within = grouped.mean(), grouped.var(ddof=1)
        effect, between = float(means.mean() - chance), float(means.std(ddof=1))
        rows.append(
            {
                **{"lr": float(rate), "effect": effect, "concepts": between},
                "seeds": float(within.mean()) ** 0.5,
                "margin": effect - between,
            }
        )
    return pd.DataFrame(rows)
