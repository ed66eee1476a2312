"""What each part of the model writes at the last prompt token, and how the answer reads it.

The residual stream after the last block is a sum: embedding, attention and MLP of every block, and
whatever an adapter adds. With the scale of every norm held at its value in this run, the logit
difference is a linear function of that sum, so each summand has its own share of it. In Gemma the
outputs of attention and MLP first pass a norm of their own; what is really added is read after it.
Axes: n rows, h query heads, e head width, d model width.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from oocr_lib.analysis.conditions import Condition, check_letters, last_logits, last_tokens
from oocr_lib.analysis.heads import recording_heads
from oocr_lib.analysis.norms import POST_NORMS, final_norm, post_norm
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import SITES, Site, output_tensor
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError

_TOLERANCE = 1e-3  # of the largest entry; sums in half precision lose more
_TOLERANCE_HALF = 0.05
_LARGE = 1e3  # so large that a norm's epsilon does not matter


@dataclass(frozen=True)
class Written:
    """What was written at the last prompt tokens, float32, lists by block.

    Attributes:
        entering: (n, d) what enters block 0.
        raw: kind of site to (n, d) outputs before an adapter's vector is added at that site.
        full: the same after it is added.
        added: ``attn_out`` and ``mlp_out`` as they join the residual stream, after a post-norm.
        heads: (n, h, e) inputs of the output projection.
        normed: (n, d) after the final norm.
        logits: (n, 2) of the two letters, as the model gives them.
    """

    entering: Tensor
    raw: dict[str, list[Tensor]]
    full: dict[str, list[Tensor]]
    added: dict[str, list[Tensor]]
    heads: list[Tensor]
    normed: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Frozen:
    """A norm with its scale held: y = (x - mean(x) if centred) * gain * rate + offset.

    Attributes:
        gain: (d,); offset: (d,).
        rate: (n,), 1 / the scale of each row.
        centred: True for a LayerNorm.
    """

    gain: Tensor
    offset: Tensor
    rate: Tensor
    centred: bool

    def back(self, direction: Tensor) -> Tensor:
        """The direction (n, d) before the norm that is read as ``direction`` (n, d) after it."""
        before = direction * self.gain * self.rate[:, None]
        return before - before.mean(-1, keepdim=True) if self.centred else before


@dataclass(frozen=True)
class Reading:
    """Directions (n, d) along which the logit difference reads what is written.

    Attributes:
        stream: for anything in the residual stream.
        inner: ``attn_out`` and ``mlp_out`` to one direction per block, at the module's own output.
        offset: ``attn_out`` and ``mlp_out`` to (n,) logits per block that the post-norm adds.
        constant: (n,) logits of the final norm's and the unembedding's bias.
        total: (n,) the logit difference, before a soft-cap.
    """

    stream: Tensor
    constant: Tensor
    total: Tensor
    inner: dict[str, list[Tensor]] = field(default_factory=dict)
    offset: dict[str, list[Tensor]] = field(default_factory=dict)


@checked
def freeze(norm: Any, x: Tensor, y: Tensor, tolerance: float = _TOLERANCE) -> Frozen:
    """The norm that turned ``x`` (n, d) into ``y`` (n, d), as a linear map for each row.

    Raises:
        UserError: it is neither a LayerNorm nor an RMSNorm.
    """
    centred = isinstance(norm, nn.LayerNorm)
    if centred:
        gain = norm.weight.float()
        offset = torch.zeros_like(gain) if norm.bias is None else norm.bias.float()
    else:
        # Families store the gain as w or as w - 1; a constant input reveals it.
        probe = torch.full((1, x.shape[1]), _LARGE, device=x.device)
        gain, offset = norm(probe)[0].float() / _LARGE, torch.zeros_like(x[0])
    shape = (x - x.mean(-1, keepdim=True) if centred else x) * gain
    rate = ((y - offset) * shape).sum(-1) / shape.square().sum(-1).clamp(min=1e-30)
    if not _close(shape * rate[:, None] + offset, y, y, tolerance):
        raise UserError(
            f"{type(norm).__name__} is no norm that is known here. Allowed: LayerNorm and RMSNorm."
        )
    return Frozen(gain, offset, rate, centred)


def _close(actual: Tensor, expected: Tensor, like: Tensor, tolerance: float) -> bool:
    """Whether two tensors agree up to rounding, in units of the largest entry of ``like``."""
    return bool((actual - expected).abs().max() <= tolerance * like.abs().max())


@torch.no_grad()
def record(lm: LanguageModel, condition: Condition, letters: Tensor) -> Written:
    """One forward pass with everything that is written at the last prompt tokens.

    Raises:
        UserError: wrong letters, or a block that does more than add attention and MLP.
    """
    check_letters(lm, condition, letters)
    last = last_tokens(condition.batch).to(lm.device)
    row = torch.arange(len(last), device=last.device)
    outputs: dict[tuple[str, int], Tensor] = {}

    def keep(key: tuple[str, int]) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            outputs[key] = output_tensor(output)[row, last].float()

        return hook

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        outputs["entering", 0] = hidden[row, last].float()

    with ExitStack() as stack:
        heads = stack.enter_context(recording_heads(lm, last))
        stack.callback(lm.block(0).register_forward_pre_hook(enter, with_kwargs=True).remove)
        stack.callback(final_norm(lm).register_forward_hook(keep(("normed", 0))).remove)
        for module, key, first in _places(lm):
            stack.callback(module.register_forward_hook(keep(key), prepend=first).remove)
        logits = last_logits(lm, condition).gather(1, letters.to(lm.device))

    def by_block(prefix: str, kinds: tuple[str, ...]) -> dict[str, list[Tensor]]:
        return {k: [outputs[f"{prefix} {k}", b] for b in range(lm.n_blocks)] for k in kinds}

    written = Written(
        outputs["entering", 0],
        by_block("raw", SITES),
        by_block("full", SITES),
        by_block("added", tuple(POST_NORMS)),
        [heads[b].float() for b in range(lm.n_blocks)],
        outputs["normed", 0],
        logits,
    )
    _check_sums(lm, written)
    return written


def _places(lm: LanguageModel) -> list[tuple[nn.Module, tuple[str, int], bool]]:
    """Module, key of its output, and whether to read it before other hooks change it."""
    places: list[tuple[nn.Module, tuple[str, int], bool]] = []
    for block in range(lm.n_blocks):
        for kind in SITES:
            module = lm.module(Site(block, kind))
            places += [
                (module, (f"raw {kind}", block), True),
                (module, (f"full {kind}", block), False),
            ]
        for kind in POST_NORMS:
            site = Site(block, kind)
            module = post_norm(lm, site) or lm.module(site)
            places.append((module, (f"added {kind}", block), False))
    return places


def _tolerance(lm: LanguageModel) -> float:
    return _TOLERANCE if lm.model.dtype in (torch.float32, torch.float64) else _TOLERANCE_HALF


def _check_sums(lm: LanguageModel, written: Written) -> None:
    """Each block's own output must be its input plus attention plus MLP."""
    before = written.entering
    for block in range(lm.n_blocks):
        total = before + written.added["attn_out"][block] + written.added["mlp_out"][block]
        if not _close(total, written.raw["resid"][block], total, _tolerance(lm)):
            raise UserError(
                f"Block {block} of {lm.name!r} does more than add attention and MLP to its input. "
                "Allowed: blocks that only add, such as those of Gemma, Llama, Qwen or GPT-2."
            )
        before = written.full["resid"][block]


@torch.no_grad()
def read_directions(lm: LanguageModel, written: Written, letters: Tensor) -> Reading:
    """How the logit of the first letter minus that of the second depends on what was written.

    Args:
        letters: (n, 2) token ids.

    Raises:
        UserError: the model does more to its logits than final norm, unembedding and soft-cap.
    """
    head: Any = lm.model.get_output_embeddings()
    letters = letters.to(lm.device)
    unembedding = head.weight[letters].float()  # (n, 2, d)
    bias = getattr(head, "bias", None)
    biases = torch.zeros_like(written.logits) if bias is None else bias[letters].float()
    raw = torch.einsum("nd,npd->np", written.normed, unembedding) + biases
    cap = getattr(lm.model.config.get_text_config(), "final_logit_softcapping", None)
    capped = raw if cap is None else torch.tanh(raw / cap) * cap
    if not _close(capped, written.logits, torch.cat([raw, written.normed], 1), _tolerance(lm)):
        raise UserError(
            f"{lm.name!r} does more to its logits than final norm, unembedding and soft-cap. "
            "Allowed: models without such a step, such as Gemma, Llama, Qwen or GPT-2."
        )
    difference = unembedding[:, 0] - unembedding[:, 1]
    final = freeze(final_norm(lm), written.full["resid"][-1], written.normed, _tolerance(lm))
    reading = Reading(
        final.back(difference),
        (final.offset * difference).sum(-1) + biases[:, 0] - biases[:, 1],
        raw[:, 0] - raw[:, 1],
    )
    for kind in POST_NORMS:
        pairs = [_inner(lm, written, block, kind, reading.stream) for block in range(lm.n_blocks)]
        reading.inner[kind] = [direction for direction, _ in pairs]
        reading.offset[kind] = [offset for _, offset in pairs]
    return reading


def _inner(
    lm: LanguageModel, written: Written, block: int, kind: str, stream: Tensor
) -> tuple[Tensor, Tensor]:
    """Direction (n, d) at a module's own output, and logits (n,) that its post-norm itself adds."""
    norm = post_norm(lm, Site(block, kind))
    if norm is None:
        return stream, torch.zeros_like(stream[:, 0])
    joined = written.added[kind][block]
    frozen = freeze(norm, written.full[kind][block], joined, _tolerance(lm))
    return frozen.back(stream), (frozen.offset * stream).sum(-1)
