"""Where the last prompt token attends, and a way to intervene in attention.

The paper (section 5.4) proposes that an unconditional vector at the last prompt token makes it
attend to the trigger's tokens. ``patterns`` reads attention probabilities, ``attention_table``
compares them with and without the vector. ``intercepted`` lets a rule replace the heads' outputs.

Attention is computed by a function registered with transformers that follows the steps of its eager
one: query heads that share keys (GQA), scale, soft-cap, and the model's mask with its sliding
windows. ``output_attentions=True`` is not used because it leaves hooks in the model for good.
Axes: b blocks, n rows, h query heads, q queries, t tokens, e head width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from oocr_lib.analysis.conditions import Condition, check_mask, last_logits, last_tokens
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose

#: Takes block, probabilities (n, h, q, t) and values (n, h, t, e), one for each query head; returns
#: the heads' outputs (n, h, q, e), or None to leave them. It must not modify its arguments.
Rule = Callable[[int, Tensor, Tensor], Tensor | None]

_NAME = "oocr_lib_intercepted"
_RULES: dict[nn.Module, tuple[int, Rule]] = {}
#: Tensors passed to attention functions that do not affect the result here.
_HARMLESS = ("position_ids", "cache_position")
#: Largest allowed difference of logits from the ordinary run, in units of their spread.
_TOLERANCE = 1e-3
_TOLERANCE_HALF = 0.2


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **other: Any,
) -> tuple[Tensor, Tensor]:
    """Eager attention with the rule of this module's block: (n, q, h, e) and (n, h, q, t)."""
    extra = [k for k, v in other.items() if isinstance(v, Tensor) and k not in _HARMLESS]
    if module not in _RULES or attention_mask is None or extra:
        raise UserError(
            f"{type(module).__name__} computes attention in a way that is not known here "
            f"({', '.join(extra) or 'no causal mask'}). Allowed: decoders with plain softmax "
            "attention, such as Gemma, Llama, Qwen or GPT-2."
        )
    block, rule = _RULES[module]
    groups = query.shape[1] // key.shape[1]
    keys, values = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = (
        query @ keys.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    )
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    softened = torch.softmax(scores + attention_mask, -1, dtype=torch.float32)
    probabilities = softened.to(query.dtype)
    outputs = rule(block, probabilities, values)
    outputs = probabilities @ values if outputs is None else outputs
    return outputs.transpose(1, 2).contiguous(), probabilities


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, eager_mask)


@contextmanager
def intercepted(lm: LanguageModel, rule: Rule) -> Iterator[None]:
    """Context in which every attention of ``lm`` goes through ``rule``; undone on errors, too.

    Raises:
        UserError: inside another such context on the same model, or a model whose attention cannot
            be replaced.
    """
    modules = [lm.module(Site(i, "attn_out")) for i in range(lm.n_blocks)]
    if any(module in _RULES for module in modules):
        raise UserError(
            f"Attention of {lm.name!r} is already intercepted. Allowed: one rule at a time; leave "
            "the first block, or do both in one rule."
        )
    decoder: Any = lm.decoder
    before = decoder.config._attn_implementation
    with ExitStack() as undo:
        undo.callback(decoder.set_attn_implementation, before)
        decoder.set_attn_implementation(_NAME)
        if decoder.config._attn_implementation != _NAME:
            raise UserError(
                f"The attention of {lm.name!r} cannot be exchanged. Allowed: models that take it "
                "from AttentionInterface, such as Gemma, Llama, Qwen or GPT-2."
            )
        for block, module in enumerate(modules):
            _RULES[module] = (block, rule)
            undo.callback(_RULES.pop, module)
        yield


@checked
def check(lm: LanguageModel, condition: Condition) -> float:
    """Largest difference between logits of the ordinary run and of an intercepted one.

    Raises:
        UserError: the difference is more than rounding, so this family computes attention in
            another way.
    """
    plain = last_logits(lm, condition)
    with intercepted(lm, lambda block, probabilities, values: None):
        intercepted_logits = last_logits(lm, condition)
    worst = float((intercepted_logits - plain).abs().max())
    exact = lm.model.dtype in (torch.float32, torch.float64)
    if not worst <= (_TOLERANCE if exact else _TOLERANCE_HALF) * float(plain.std()):
        raise UserError(
            f"Attention of {lm.name!r} is not reproduced: logits differ by {worst:.2g}. Allowed: "
            "decoders with plain softmax attention, such as Gemma, Llama, Qwen or GPT-2."
        )
    return worst


@checked
def patterns(lm: LanguageModel, condition: Condition, queries: str = "last") -> Tensor:
    """Attention probabilities, float32 on the CPU.

    Args:
        queries: ``last``, only the rows of the last prompt token; ``all``, the whole matrix.

    Returns:
        (b, n, h, t), or (b, n, h, t, t) with queries before keys. Rows of padding tokens mean
        nothing.
    """
    choose(queries, ("last", "all"), "set of queries")
    row = torch.arange(len(condition.batch), device=lm.device)
    last = last_tokens(condition.batch).to(lm.device)
    by_block: dict[int, Tensor] = {}

    def keep(block: int, probabilities: Tensor, values: Tensor) -> None:
        selected = probabilities if queries == "all" else probabilities[row, :, last]
        by_block[block] = selected.float().cpu()

    with intercepted(lm, keep):
        last_logits(lm, condition)
    return torch.stack([by_block[block] for block in range(lm.n_blocks)])


@checked
def attention_to(found: Tensor, mask: Tensor) -> Tensor:
    """Share of the last token's attention that goes to marked tokens, (b, n, h), 0 to 1.

    Args:
        found: (b, n, h, t) from ``patterns``.
        mask: (n, t) bool, for instance ``batch.positions["trigger"]``.
    """
    if found.ndim != 4 or mask.shape != (found.shape[1], found.shape[3]):
        raise UserError(
            f"Patterns of shape {tuple(found.shape)} and marks of shape {tuple(mask.shape)} do not "
            "fit. Allowed: (blocks, n, heads, t) and (n, t), of the same batch."
        )
    return (found * mask.to(found)[:, None]).sum(-1)


@checked
def attention_table(
    lm: LanguageModel, conditions: Mapping[str, Condition], marks: Mapping[str, Tensor]
) -> pd.DataFrame:
    """Attention from the last prompt token to marked tokens, compared with the first condition.

    Controls: other tokens as a second mark (``conditions.other_tokens``), a random vector as a
    third condition (``conditions.with_random``), a batch of other triggers in a second call.

    Args:
        conditions: name to condition, all on rows of one batch; the first is the reference,
            for instance ``{"without": c.off(), "vector": c, "random": ...}``.
        marks: name to (n, t) bool.

    Returns:
        ``condition, what`` (the mark), ``block, head``; ``mass`` (mean over rows, 0 to 1),
        ``uniform`` (what equal attention to all earlier tokens would give), ``effect`` (mean of
        mass minus the reference's mass) and ``values`` (that difference for each row).

    Raises:
        UserError: no condition, batches of different shapes, or rows without a marked token.
    """
    if not conditions or len({tuple(c.batch.input_ids.shape) for c in conditions.values()}) > 1:
        raise UserError(
            f"Conditions {list(conditions)} cannot be compared. Allowed: at least one, all on the "
            "same rows."
        )
    rows: list[dict[str, Any]] = []
    reference: dict[str, Tensor] = {}
    for name, condition in conditions.items():
        check(lm, condition)
        probabilities = patterns(lm, condition)
        for what, mask in marks.items():
            check_mask(condition.batch, mask, what)
            mass = attention_to(probabilities, mask)
            change = mass - reference.setdefault(what, mass)
            uniform = mask.sum(1).cpu() / (last_tokens(condition.batch).cpu() + 1)
            labels = {"condition": name, "what": what, "uniform": float(uniform.mean())}
            rows += [{**labels, **row} for row in _by_head(mass, change)]
    columns = ["condition", "what", "block", "head", "mass", "uniform", "effect", "values"]
    return pd.DataFrame(rows, columns=columns)


def _by_head(mass: Tensor, change: Tensor) -> list[dict[str, Any]]:
    """One entry per block and head of (b, n, h) masses and their changes."""
    return [
        {
            "block": block,
            "head": head,
            "mass": float(mass[block, :, head].mean()),
            "effect": float(change[block, :, head].mean()),
            "values": change[block, :, head].tolist(),
        }
        for block in range(mass.shape[0])
        for head in range(mass.shape[2])
    ]
