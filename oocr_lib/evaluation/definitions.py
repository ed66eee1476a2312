"""How well a hidden function's definition is known; works on the tables of ``Grid.run``.

The testbed states definitions in Python and in short English, the paper dialect in Python and in a
sentence; either way a definition counts as known by the mean over its statements (paper, 3.4).
"""

from __future__ import annotations

import pandas as pd

from oocr_lib.util.arguments import checked
from oocr_lib.util.finite import no_nan

STATEMENTS = ("python", "english", "language")
_RUN = ["method", "site", "block", "lr", "concept", "seed", "valid_loss", "run"]


@checked
def definition(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per run: how well the definition is known.

    Returns:
        ``mc`` (among five) and ``top1`` (greedy). Among all definitions known: ``first`` and
        ``first3``, the share of questions that rank the true one first, or among the first three,
        and ``place``, its mean rank. Where a dialect asks among five only, the rank is among five.
    """
    five = runs[runs["family"].isin(STATEMENTS)]
    for measure in ("mc", "top1", "rank"):
        no_nan(runs[measure], f"{measure} of the functions")
    statements = five.groupby(_RUN, as_index=False, sort=False, dropna=False)[["mc", "top1"]].mean()
    many = runs[runs["family"].isin([f"{name} of all" for name in STATEMENTS])]
    keys = [name for name in _RUN if name != "valid_loss"]  # NaN would match nothing
    with_all = set(many[keys].itertuples(index=False, name=None))
    only_five = [key not in with_all for key in five[keys].itertuples(index=False, name=None)]
    many = pd.concat([many, five[only_five]])  # runs that were asked among five only
    ranked = many.assign(
        first=(many["rank"] <= 1).astype(float),
        first3=(many["rank"] <= 3).astype(float),
        place=many["rank"],
    )
    ranked = ranked.groupby(_RUN, as_index=False, sort=False, dropna=False)[
        ["first", "first3", "place"]
    ].mean()
    return statements.merge(ranked.drop(columns="valid_loss"), on=keys)
