"""Put a part of one run into another, unit by unit, and measure what it does to the answer.

``patching`` defines the parts; here are the units (everything, a block, a head), the comparison and
the table. Axes: n rows, h query heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import pandas as pd
import torch
from torch import Tensor

from oocr_lib.analysis.conditions import Condition, last_tokens, logit_difference
from oocr_lib.analysis.heads import n_heads
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.util.arguments import checked
from oocr_lib.util.doubles import no_doubles
from oocr_lib.util.errors import UserError, choose

#: What is exchanged at a time: everything, all heads of a block, or a single head.
UNITS = ("all", "block", "head")

Chosen = Mapping[int, Tensor]  # block to (h,) bool
Patch = Callable[[Chosen], AbstractContextManager[None]]


@checked
def check_pair(base: Condition, donor: Condition) -> None:
    """Raise UserError unless both have equally many rows, and these equally many prompt tokens."""
    ours, theirs = base.batch, donor.batch
    same = ours.input_ids.shape == theirs.input_ids.shape
    if not same or not torch.equal(last_tokens(ours).cpu(), last_tokens(theirs).cpu()):
        raise UserError(
            f"Rows of shape {tuple(theirs.input_ids.shape)} cannot be put into rows of shape "
            f"{tuple(ours.input_ids.shape)}. Allowed: as many rows, each with as many prompt "
            "tokens; pair prompts of equal length."
        )


@checked
def units_of(
    lm: LanguageModel, by: Sequence[str], blocks: Sequence[int] | None
) -> list[tuple[int | None, int | None, Chosen]]:
    """Block, head and what is exchanged, for every requested unit."""
    numbers = no_doubles(range(lm.n_blocks) if blocks is None else blocks, "block")
    for number in numbers:
        lm.block(number)  # a block that the model does not have is an error here
    for unit in by:
        choose(unit, UNITS, "unit of patching")
    all_heads = torch.ones(n_heads(lm), dtype=torch.bool)
    single = torch.eye(n_heads(lm), dtype=torch.bool)
    units: list[tuple[int | None, int | None, Chosen]] = []
    if "all" in by:
        units.append((None, None, dict.fromkeys(numbers, all_heads)))
    if "block" in by:
        units += [(b, None, {b: all_heads}) for b in numbers]
    if "head" in by:
        units += [(b, h, {b: single[h]}) for b in numbers for h in range(len(single))]
    return units


def _difference(lm: LanguageModel, patch: Patch, c: Condition, letters: Tensor) -> Tensor:
    """Logit difference in the same computation with nothing exchanged, so that rounding cancels."""
    with patch({}):
        return logit_difference(lm, c, letters)


@checked
def whole_way(
    lm: LanguageModel, patch: Patch, base: Condition, donor: Condition, letters: Tensor
) -> float:
    """Mean over rows of the donor's logit difference minus the base's."""
    way = _difference(lm, patch, donor, letters) - _difference(lm, patch, base, letters)
    return float(way.mean())


@checked
def measure(
    what: str,
    lm: LanguageModel,
    base: Condition,
    letters: Tensor,
    units: Sequence[tuple[int | None, int | None, Chosen]],
    patch: Patch,
    whole: float | None,
) -> pd.DataFrame:
    """One row per unit: ``what, block, head``, ``effect`` (mean), ``share``, ``values``.

    Args:
        units: from ``units_of``.
        patch: opens a context in which the chosen heads are exchanged.
        whole: from ``whole_way``, what ``share`` is a share of; None or 0 leaves it missing.
    """
    before, rows = _difference(lm, patch, base, letters), []
    for block, head, chosen in units:
        with patch(chosen):
            change = logit_difference(lm, base, letters) - before
        effect = float(change.mean())
        share = effect / whole if whole else float("nan")
        rows.append((what, block, head, effect, share, change.tolist()))
    table = pd.DataFrame(rows, columns=["what", "block", "head", "effect", "share", "values"])
    return table.astype({"block": "Int64", "head": "Int64"})
