"""Which parts of the model write the answer, and what the values at the trigger's tokens say.

``attribution`` splits the logit difference at the answer into what each head and MLP writes there
directly (direct logit attribution; norms keep the scale they have in this run).
``value_direction`` asks whether the values at the trigger's tokens already point towards the risky
letter, the other half of the paper's hypothesis (section 5.4). Neither sees what later blocks do
with a contribution; patching does. Axes: b blocks, n rows, t tokens, h query heads, e head width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from oocr_lib.analysis.attention import check, intercepted
from oocr_lib.analysis.conditions import Condition, check_mask, last_tokens
from oocr_lib.analysis.direct_path import Reading, Written, read_directions, record
from oocr_lib.analysis.heads import output_weights
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.util.arguments import checked

_KEYS = ["what", "block", "head"]


@checked
def attribution(lm: LanguageModel, condition: Condition, letters: Tensor) -> pd.DataFrame:
    """Every part's direct contribution to the logit difference; the contributions add up to it.

    Args:
        letters: (n, 2) int64 token ids; first minus second is explained, before any soft-cap.

    Returns:
        ``what``: ``embedding``, ``head``, ``mlp`` and, where present, ``attention bias`` (of the
        output projection), ``mlp bias`` (of a post-norm), ``added attn_out``, ``added mlp_out``,
        ``added resid`` (what an adapter adds at these sites) and ``final bias``. ``block, head``
        (missing where there is none), ``effect`` (mean, in logits) and ``values`` (each row's).

    Raises:
        UserError: wrong letters, or a family whose residual stream is no plain sum.
    """
    written = record(lm, condition, letters)
    reading = read_directions(lm, written, letters)
    parts: list[tuple[str, int | None, int | None, Tensor]] = [
        ("embedding", None, None, _along(written.entering, reading.stream)),
        ("final bias", None, None, reading.constant),
    ]
    for block in range(lm.n_blocks):
        parts += _of_block(lm, written, reading, block)
    rows = [
        (what, block, head, float(values.mean()), values.tolist())
        for what, block, head, values in parts
        if what in ("embedding", "head", "mlp") or bool(values.any())
    ]
    table = pd.DataFrame(rows, columns=[*_KEYS, "effect", "values"])
    return table.astype({"block": "Int64", "head": "Int64"})


def _along(written: Tensor, direction: Tensor) -> Tensor:
    """(n, ..., d) projected on (n, ..., d)."""
    return (written * direction).sum(-1).cpu()


def _of_block(
    lm: LanguageModel, written: Written, reading: Reading, block: int
) -> list[tuple[str, int | None, int | None, Tensor]]:
    """The parts of one block: name, block, head and contributions (n,)."""
    outputs = written.heads[block]
    to_heads, bias = _heads_direction(lm, reading, block, outputs.shape[1] * outputs.shape[2])
    by_head = _along(outputs, to_heads)
    parts: list[tuple[str, int | None, int | None, Tensor]] = [
        ("head", block, head, by_head[:, head]) for head in range(by_head.shape[1])
    ]
    attention, mlp = (reading.inner[kind][block] for kind in ("attn_out", "mlp_out"))
    fixed = _along(bias[None], attention) + reading.offset["attn_out"][block].cpu()
    parts.append(("attention bias", block, None, fixed))
    parts.append(("mlp", block, None, _along(written.raw["mlp_out"][block], mlp)))
    parts.append(("mlp bias", block, None, reading.offset["mlp_out"][block].cpu()))
    for kind, direction in (("attn_out", attention), ("mlp_out", mlp), ("resid", reading.stream)):
        extra = written.full[kind][block] - written.raw[kind][block]
        parts.append((f"added {kind}", block, None, _along(extra, direction)))
    return parts


def _heads_direction(
    lm: LanguageModel, reading: Reading, block: int, width: int
) -> tuple[Tensor, Tensor]:
    """Directions (n, h, e) at the heads' outputs, and the output projection's bias (d,)."""
    weights, bias = output_weights(lm, block, width)
    return torch.einsum("hed,nd->nhe", weights, reading.inner["attn_out"][block]), bias


@checked
def change(after: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """What an adapter changes: ``effect`` and ``values`` of one table minus those of another.

    Both come from ``attribution`` on the same rows; a part missing from one counts as 0 there.
    """
    keys = pd.concat([after[_KEYS], before[_KEYS]]).drop_duplicates(ignore_index=True)
    n = len(after["values"].iloc[0])
    wide = keys.merge(after, on=_KEYS, how="left").merge(
        before, on=_KEYS, how="left", suffixes=("", "_before")
    )
    differences = []
    for row in wide.to_dict("records"):
        new, old = (
            torch.tensor(v if isinstance(v, list) else [0.0] * n, dtype=torch.float64)
            for v in (row["values"], row["values_before"])
        )
        differences.append((new - old).tolist())
    keys["effect"] = [sum(values) / n for values in differences]
    keys["values"] = differences
    return keys


@checked
def value_direction(
    lm: LanguageModel, condition: Condition, letters: Tensor, marks: Mapping[str, Tensor]
) -> pd.DataFrame:
    """How far the values at marked tokens point towards the first letter, head by head.

    A head's output is the attention-weighted sum of the tokens' values, put through its output map.
    Projected on the direction that the logit difference reads, each token's value is directly worth
    a number of logits per unit of attention from the last prompt token.

    Args:
        letters: (n, 2) int64 token ids, for instance risky and safe.
        marks: name to (n, t) bool, for instance the trigger's tokens and, as a control,
            ``conditions.other_tokens``.

    Returns:
        ``what`` (the mark), ``block, head``, ``effect`` (mean over rows of the mean over marked
        tokens, in logits per unit of attention), ``values`` (each row's); ``moved`` (logits that
        these tokens really contribute: attention times worth, summed over them; mean over rows)
        and ``moved_values``.

    Raises:
        UserError: as ``attribution``, or a row without marked tokens.
    """
    for what, mask in marks.items():
        check_mask(condition.batch, mask, what)
    check(lm, condition)
    worth, weights = _worth(lm, condition, letters)
    rows: list[dict[str, Any]] = []
    for what, mask in marks.items():
        marked = mask.cpu()[None, :, None, :]
        mean_worth = (worth * marked).sum(-1) / marked.sum(-1)
        moved = (worth * weights * marked).sum(-1)
        for block in range(mean_worth.shape[0]):
            for head in range(mean_worth.shape[2]):
                potential, actual = mean_worth[block, :, head], moved[block, :, head]
                labels = {"what": what, "block": block, "head": head}
                effects = {"effect": float(potential.mean()), "values": potential.tolist()}
                moves = {"moved": float(actual.mean()), "moved_values": actual.tolist()}
                rows.append({**labels, **effects, **moves})
    columns = [*_KEYS, "effect", "values", "moved", "moved_values"]
    return pd.DataFrame(rows, columns=columns)


@torch.no_grad()
def _worth(lm: LanguageModel, condition: Condition, letters: Tensor) -> tuple[Tensor, Tensor]:
    """Every token's logits per unit of attention, and its attention; both (b, n, h, t)."""
    last = last_tokens(condition.batch).to(lm.device)
    row = torch.arange(len(last), device=last.device)
    values: dict[int, Tensor] = {}
    weights: dict[int, Tensor] = {}

    def keep(block: int, probabilities: Tensor, head_values: Tensor) -> None:
        values[block] = head_values.float()
        weights[block] = probabilities[row, :, last].float().cpu()

    with intercepted(lm, keep):
        written = record(lm, condition, letters)
    reading = read_directions(lm, written, letters)
    worth = []
    for block in range(lm.n_blocks):
        width = values[block].shape[1] * values[block].shape[3]
        towards, _ = _heads_direction(lm, reading, block, width)
        worth.append(torch.einsum("nhte,nhe->nht", values[block], towards).cpu())
    return torch.stack(worth), torch.stack([weights[block] for block in range(lm.n_blocks)])
