"""Finished runs as rows of a table, and the choice of a setting by validation loss."""

from __future__ import annotations

from typing import Any

import pandas as pd

from oocr_lib.models.sites import Site
from oocr_lib.runs.methods import Job
from oocr_lib.runs.store import Run
from oocr_lib.util.finite import no_nan


def rows(job: Job, run: Run) -> list[dict[str, Any]]:
    """One row per question family; the columns are those of ``Grid.run``."""
    method = job.method
    if method.site:
        site = Site.parse(method.site)
        where, block = site.kind, site.block
    else:
        single = method.kind == "lora" and len(method.blocks) == 1 and method.blocks != "all"
        where, block = method.kind, int(method.blocks[0]) if single else -1
    return [
        {
            "method": method.name,
            "site": where,
            "block": block,
            "lr": method.config.lr,
            "concept": job.concept,
            "seed": job.seed,
            "family": family,
            **values,
            "valid_loss": run.results["valid_loss"],
            "valid_accuracy": run.results["valid_accuracy"],
            "length": run.results.get("length", 0.0),
            "seconds": run.seconds,
            "run": run.id,
        }
        for family, values in run.results["families"].items()
    ]


def best_by_validation(table: pd.DataFrame, by: str) -> Any:
    """The value of column ``by`` with the lowest mean validation loss; questions play no part.

    Raises:
        UserError: a validation loss that is missing or not a number.
    """
    once = table.drop_duplicates("run")
    no_nan(once["valid_loss"], "Validation losses")
    return once.groupby(by)["valid_loss"].mean().idxmin()
