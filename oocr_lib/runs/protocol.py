"""The comparison every task notebook makes: base, LoRAs, vectors and controls on equal terms.

Blocks and learning rates are chosen by validation loss (rows of the training kind), never by the
questions that measure the effect. Intervals are 95 % bootstrap intervals over runs, drawn concept
by concept, because runs on the same concept are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from oocr_lib.runs.grid import Grid, Job, Method, best_by_validation
from oocr_lib.training.loop import TrainConfig
from oocr_lib.util.arguments import checked
from oocr_lib.util.doubles import check_runs, no_doubles
from oocr_lib.util.errors import UserError
from oocr_lib.util.finite import no_nan
from oocr_lib.util.statistics import Interval, bootstrap


@checked
def vector(kind: str, block: int, config: TrainConfig, position: str = "codename") -> Method:
    """A steering vector at site ``kind`` (``resid``, ``mlp_out``) of one block."""
    return Method(
        f"vector_{kind}", "vector", site=f"{kind}@{block}", position=position, config=config
    )


@checked
def lora(blocks: Sequence[int] | str, config: TrainConfig, **shape: Any) -> Method:
    """A LoRA on the down projection of one block (``lora_one``) or of all (``lora_all``).

    Args:
        shape: other fields of ``Method``; ``lora_position`` for a LoRA at a vector's tokens.
    """
    if not isinstance(blocks, str):
        blocks = tuple(blocks)
    name = "lora_one" if blocks != "all" and len(blocks) == 1 else "lora_all"
    return Method(name, "lora", blocks=blocks, config=config, **shape)


@checked
def shuffled(method: Method) -> Method:
    """Control: the same training on rows whose answers are permuted."""
    return replace(method, name="shuffled", shuffled=True)


@checked
def random_answers(
    method: Method, drawn_from: Sequence[str] = (), strata: Sequence[str] = ()
) -> Method:
    """Control: the same training on rows whose answers are drawn anew, so only the format is left.

    Args:
        drawn_from, strata: as in ``Method``; ``tasks.base.random_answers`` says what they do.
    """
    return replace(
        method,
        name="random_answers",
        random_answers=True,
        drawn_from=tuple(drawn_from),
        strata=tuple(strata),
    )


@checked
def random_like(trained: pd.DataFrame, method: Method) -> Method:
    """Control: a random direction at the same site, with the mean length of the trained vectors.

    Args:
        trained: the result of ``Grid.run`` for ``method``.

    Raises:
        UserError: a length that is not a number.
    """
    lengths = trained.drop_duplicates("run")["length"]
    no_nan(lengths, "Lengths of trained vectors")
    length = float(lengths.mean())
    return replace(method, name="random", kind="random", length=float(f"{length:.4g}"))


@checked
def rotation(concepts: Sequence[str], seeds: Sequence[int], runs: int) -> list[tuple[str, int]]:
    """``runs`` (concept, seed) pairs: every concept once before any comes twice, seeds in turn.

    Raises:
        UserError: more runs than pairs, or a concept or seed that comes twice.
    """
    no_doubles(concepts, "concept")
    no_doubles(seeds, "seed")
    if not 0 < runs <= len(concepts) * len(seeds):
        raise UserError(
            f"{runs} runs cannot be made of {len(concepts)} concepts and {len(seeds)} seeds. "
            f"Allowed: 1 to {len(concepts) * len(seeds)}."
        )
    return [
        (concepts[i % len(concepts)], seeds[(i % len(concepts) + i // len(concepts)) % len(seeds)])
        for i in range(runs)
    ]


@checked
def jobs(method: Method, pairs: Sequence[tuple[str, int]]) -> list[Job]:
    """One job for each pair."""
    return [Job(method, concept, seed) for concept, seed in pairs]


@checked
def sweep(
    grid: Grid,
    make: Callable[[int], Method],
    blocks: Sequence[int],
    pairs: Sequence[tuple[str, int]],
    label: str,
) -> pd.DataFrame:
    """Run ``make(block)`` for every block on every pair; one row per run and family.

    Raises:
        UserError: a block or a pair that comes twice.
    """
    no_doubles(blocks, "block")
    no_doubles(pairs, "run (concept, seed)")
    return grid.run([job for block in blocks for job in jobs(make(block), pairs)], label)


@checked
def choose_block(table: pd.DataFrame) -> int:
    """The block with the lowest mean validation loss."""
    return int(best_by_validation(table, "block"))


@checked
def cross_fitted(table: pd.DataFrame, family: str, measure: str = "p_truth") -> pd.DataFrame:
    """Rows at the best block: each half of the seeds is measured at the other half's choice.

    A block chosen on the questions that measure it would look better than it is. So every second
    seed (in order) chooses the block, by the highest mean of ``measure`` in ``family``, for the
    other seeds, and vice versa.

    Args:
        table: a layer sweep of one method, all families.

    Raises:
        UserError: one seed only, or a measure that is not a number.
    """
    family_rows = table[table["family"] == family]
    seeds = sorted(family_rows["seed"].unique())
    if len(seeds) < 2:
        raise UserError(
            f"Seeds {[int(s) for s in seeds]} cannot be halved. Allowed: two or more in the sweep."
        )
    no_nan(family_rows[measure], f"{measure} in {family!r}")
    halves = []
    for measured, choosing in ((seeds[::2], seeds[1::2]), (seeds[1::2], seeds[::2])):
        scores = family_rows[family_rows["seed"].isin(choosing)].groupby("block")[measure].mean()
        halves.append(table[table["seed"].isin(measured) & (table["block"] == scores.idxmax())])
    return pd.concat(halves)


@checked
def choose_rate(
    grid: Grid,
    method: Method,
    rates: Sequence[float],
    pairs: Sequence[tuple[str, int]],
    label: str,
) -> tuple[Method, pd.DataFrame]:
    """``method`` with the learning rate of lowest mean validation loss, and the trial table.

    Raises:
        UserError: a rate that comes twice, or none.
    """
    if not no_doubles(rates, "learning rate"):
        raise UserError("No learning rates to choose from. Allowed: a list of at least one.")
    trials = [replace(method, config=replace(method.config, lr=rate)) for rate in rates]
    table = grid.run([job for trial in trials for job in jobs(trial, pairs)], label)
    best = float(best_by_validation(table, "lr"))
    return replace(method, config=replace(method.config, lr=best)), table


@checked
def interval(table: pd.DataFrame, measure: str, by: str = "concept") -> Interval:
    """Mean of ``measure`` over runs with its interval; the table must have one row per run.

    Args:
        by: column whose values are resampled as wholes; ``seed`` where the concepts are not a
            sample (two policies).

    Raises:
        UserError: a run with two rows, no rows, or a value that is not finite.
    """
    check_runs(table, measure)
    return bootstrap(table[measure], groups=list(table[by]))


@checked
def intervals(
    table: pd.DataFrame, by: Sequence[str], measure: str, drawn: str = "concept"
) -> pd.DataFrame:
    """One interval for each value of the ``by`` columns: columns ``*by, value, low, high, n``."""
    return pd.DataFrame(
        [
            {**dict(zip(by, key, strict=True)), **asdict(interval(group, measure, drawn))}
            for key, group in table.groupby(list(by), sort=False)
        ]
    )


@checked
def readable(found: dict[str, Interval], columns: Sequence[str]) -> pd.DataFrame:
    """A table to read: one row per method, one column for each ``family/measure`` asked for."""
    headings = {tuple(column.split("/")): column for column in columns}
    cells: dict[str, dict[str, str]] = {column: {} for column in columns}
    for key, estimate in found.items():
        family, method, measure = key.split("/")
        column = headings.get((family, measure))
        if column:
            cells[column][method] = str(estimate)
    return pd.DataFrame(cells)


@checked
def bars(found: dict[str, Interval], family: str, measure: str) -> pd.DataFrame:
    """The rows that ``plots.method_bars`` draws: ``method, value, low, high, n``."""
    keys = [(key, *key.split("/")) for key in found]
    return pd.DataFrame(
        {"method": method, **asdict(found[key])}
        for key, its_family, method, its_measure in keys
        if (its_family, its_measure) == (family, measure)
    )
