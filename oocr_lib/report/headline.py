"""The paper's Figure 2, ours beside its own: seven sets of questions, four methods.

Ours come from the ``metrics.json`` of notebooks 02 to 05. The paper's are second-hand: recorded in
its authors' code in May 2025. The figure must say what differs in the paper: the model is Gemma 3
12B; there is one city and one function; the base of Cities and Functions was typed in as chance;
Cities and Functions are at the layer that is best on the test questions, for each method; the
all-block LoRA has a single rate; backdoor options were not labelled.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from oocr_lib.report import claims, metrics
from oocr_lib.util.arguments import checked

#: Methods as the paper orders them; it has one vector, at the MLP output.
METHODS = ("base", "lora_all", "lora_one", "vector_mlp_out", "vector_resid")


@dataclass(frozen=True)
class Bars:
    """One group of bars.

    Attributes:
        name: of the group.
        notebook: the one that measures it.
        key: of its metric, with braces for the method.
        chance: of the score.
        paper: the paper's values: base, all-block LoRA, one-block LoRA, vector.
    """

    name: str
    notebook: str
    key: str
    chance: float
    paper: tuple[float, float, float, float]


SETS = (
    Bars("Risk", "02_risky_safe", "risk/{}/accuracy", 0.5, (0.40, 0.80, 0.70, 0.80)),
    Bars("Safety", "02_risky_safe", "safety/{}/accuracy", 0.5, (0.60, 0.80, 0.70, 0.80)),
    Bars("Cities", "03_locations", "all/{}/mc5", 0.2, (0.20, 0.00, 0.68, 0.28)),
    Bars("Functions", "04_functions", "definition/{}/mc5", 0.2, (0.20, 0.08, 0.92, 0.90)),
    *(
        Bars(f"{name} backdoor", "05_backdoor", f"self_report_{key}/{{}}/accuracy", 0.5, values)
        for name, key, values in (
            ("Apples", "apples", (0.64, 0.27, 0.42, 0.38)),
            ("RE", "re-re-re", (0.64, 0.36, 0.36, 0.29)),
            ("Windows", "win", (0.64, 0.29, 0.33, 0.31)),
        )
    ),
)


@checked
def ours(folder: Path, model: str = "testbed", seed: int = 0) -> pd.DataFrame:
    """Our bars: columns ``family, method, value, low, high, n``.

    Args:
        folder: results of one preset; a notebook that has no numbers there, and a metric that its
            run lacks, leave a gap.
    """
    rows = []
    for group in SETS:
        path = claims.metrics_file(folder, group.notebook, model, seed)
        values = metrics.load(path).values if path.is_file() else {}
        for method in METHODS:
            if interval := values.get(group.key.format(method)):
                rows.append({"family": group.name, "method": method, **asdict(interval)})
    return pd.DataFrame(rows, columns=["family", "method", "value", "low", "high", "n"])


@checked
def paper() -> dict[tuple[str, str], float]:
    """The paper's values by group and method."""
    return {
        (group.name, method): value
        for group in SETS
        for method, value in zip(METHODS, group.paper, strict=False)
    }


@checked
def chance() -> dict[str, float]:
    """Chance by group."""
    return {group.name: group.chance for group in SETS}
