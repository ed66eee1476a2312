"""Which heads carry the effect of a vector or a trigger: parts of one run put into another.

The paper (section 5.4) reports only preliminary patching. Here one condition, ``base``, is run with
a part taken from another, ``donor``: where heads look (``patch_patterns``), or what they read there
(``patch_values``). Swap the two for the opposite direction. Everything else is recomputed, so
effects on later blocks count. Axes: b blocks, n rows, t tokens, h query heads, e head width, m
marked tokens of a batch (flattened over rows).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import pandas as pd
import torch
from torch import Tensor

from oocr_lib.analysis.attention import check, intercepted, patterns
from oocr_lib.analysis.conditions import Condition, check_mask, last_tokens
from oocr_lib.analysis.exchange import (
    UNITS,
    Chosen,
    Patch,
    check_pair,
    measure,
    units_of,
    whole_way,
)
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose


@checked
def patch_patterns(
    lm: LanguageModel,
    base: Condition,
    donor: Condition,
    letters: Tensor,
    *,
    by: Sequence[str] = UNITS,
    blocks: Sequence[int] | None = None,
) -> pd.DataFrame:
    """``base`` with the attention of its last prompt token as in ``donor``; values stay its own.

    With the vector on in ``base`` and off in ``donor`` it shows how much of the vector's effect
    needs the last token to look elsewhere; swapped, how much that change alone brings about.

    Args:
        letters: (n, 2) int64 token ids; the effect is on the logit of the first minus the second.
        by: units of exchange, from ``UNITS``.
        blocks: which blocks; default all.

    Returns:
        ``what, block, head`` (missing for more than one), ``effect`` (mean change of ``base``'s
        logit difference), ``share`` (of the whole way to ``donor``'s) and ``values`` (the change
        of each row).

    Raises:
        UserError: conditions of different shape, unknown blocks or units, wrong letters.
    """
    check(lm, base)
    check_pair(base, donor)
    last = last_tokens(base.batch).to(lm.device)
    row = torch.arange(len(last), device=last.device)
    donor_patterns = patterns(lm, donor)

    def patch(chosen: Chosen) -> AbstractContextManager[None]:
        def rule(block: int, probabilities: Tensor, values: Tensor) -> Tensor | None:
            if block not in chosen:
                return None
            heads = chosen[block].to(last.device)[None, :, None]
            mixed = probabilities.clone()
            original = mixed[row, :, last]
            mixed[row, :, last] = torch.where(heads, donor_patterns[block].to(original), original)
            return mixed @ values

        return intercepted(lm, rule)

    full_effect = whole_way(lm, patch, base, donor, letters)
    units = units_of(lm, by, blocks)
    return measure("pattern", lm, base, letters, units, patch, full_effect)


@checked
def patch_values(
    lm: LanguageModel,
    base: Condition,
    letters: Tensor,
    marks: Mapping[str, Tensor],
    donor: Condition | None = None,
    *,
    readers: str = "last",
    by: Sequence[str] = UNITS,
    blocks: Sequence[int] | None = None,
) -> pd.DataFrame:
    """``base`` with other values at marked tokens; where heads look stays its own.

    Args:
        marks: name to (n, t) bool, for instance the trigger's tokens and, as a control,
            ``conditions.other_tokens``.
        donor: a condition of the same shape that supplies the values at these places, for instance
            prompts with another trigger; None takes the mean over the row's other tokens before
            the last.
        readers: ``last``, only the last prompt token reads the other values; ``all``, every token.

    Returns:
        As ``patch_patterns``; ``what`` is the mark's name. Without a donor ``share`` is missing.

    Raises:
        UserError: as ``patch_patterns``; rows without marked tokens, or with no others.
    """
    choose(readers, ("last", "all"), "set of readers")
    check(lm, base)
    if donor is not None:
        check_pair(base, donor)
    tables = []
    for mark, mask in marks.items():
        check_mask(base.batch, mask, mark)
        replacement = _values(lm, base if donor is None else donor, mask, mean=donor is None)
        patch = _value_patch(lm, base, mask, replacement, readers)
        full_effect = None if donor is None else whole_way(lm, patch, base, donor, letters)
        units = units_of(lm, by, blocks)
        tables.append(measure(mark, lm, base, letters, units, patch, full_effect))
    return pd.concat(tables, ignore_index=True)


# --- values ---


def _values(lm: LanguageModel, condition: Condition, mask: Tensor, mean: bool) -> list[Tensor]:
    """Values at marked tokens, (m, h, e) for each block; or the mean over the row's others."""
    batch = condition.batch
    free = batch.positions["all"] & ~batch.positions["last"] & ~mask.to(batch.input_ids.device)
    if mean and bool((~free.any(1)).any()):
        row = int((~free.any(1)).nonzero()[0, 0])
        raise UserError(
            f"Row {row} has only marked tokens before its last one, so there is no mean over "
            "others. Allowed: rows with other tokens; or give a donor."
        )
    marked, weight = mask.to(lm.device), (free / free.sum(1, keepdim=True)).to(lm.device)
    by_block: dict[int, Tensor] = {}

    def keep(block: int, probabilities: Tensor, values: Tensor) -> None:
        if mean:
            average = torch.einsum("nt,nhte->nhe", weight.to(values), values)
            by_block[block] = average[marked.nonzero(as_tuple=True)[0]]
        else:
            by_block[block] = values.transpose(1, 2)[marked]

    with intercepted(lm, keep), torch.no_grad(), lm.running():
        lm.decoder(input_ids=condition.focus(lm).input_ids, use_cache=False)
    return [by_block[block] for block in range(lm.n_blocks)]


def _value_patch(
    lm: LanguageModel, base: Condition, mask: Tensor, replacement: list[Tensor], readers: str
) -> Patch:
    last, marked = last_tokens(base.batch).to(lm.device), mask.to(lm.device)
    row = torch.arange(len(last), device=last.device)

    def patch(chosen: Chosen) -> AbstractContextManager[None]:
        def rule(block: int, probabilities: Tensor, values: Tensor) -> Tensor | None:
            if block not in chosen:
                return None
            heads = chosen[block].to(last.device)[None, :, None]
            mixed = values.transpose(1, 2).clone()
            mixed[marked] = torch.where(heads, replacement[block], mixed[marked])
            mixed_outputs = probabilities @ mixed.transpose(1, 2)
            if readers == "last":
                outputs = probabilities @ values
                outputs[row, :, last] = mixed_outputs[row, :, last]
                return outputs
            return mixed_outputs

        return intercepted(lm, rule)

    return patch
