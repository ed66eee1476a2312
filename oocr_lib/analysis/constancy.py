"""Does a fine-tune add the same vector everywhere? Added vectors, and how alike they are.

The paper (sections 4.2 and 4.3, figure 4) finds that what a LoRA on one block adds to the MLP
output points along one direction at all tokens, and shows absolute cosines. These cannot tell a
constant vector from a direction whose amplitude changes sign, so signed cosines, lengths and the
energy of the mean are reported beside them here.

Axes: n rows, t tokens, d model width, m added vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from oocr_lib.activations import capture
from oocr_lib.adapters.base import Adapter
from oocr_lib.encoding import POSITIONS, Batch, Encoded, collate, encode
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site, output_tensor
from oocr_lib.tasks.base import user
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.finite import no_nan

AGAINST = ("earlier", "base")
_ROWS = 16  # per forward pass


@dataclass(frozen=True, eq=False)
class AddedVectors:
    """What an adapter adds at some tokens of some prompts.

    Attributes:
        vectors: (m, d) float32 on the CPU, in the site's raw units.
        prompts: (m,) int64, index of the prompt in the list.
        positions: (m,) int64, index of the token in that prompt.
    """

    vectors: Tensor
    prompts: Tensor
    positions: Tensor


@dataclass(frozen=True)
class Spread:
    """Mean, median and 5, 25, 75, 95 % quantiles of a number over ``pairs`` pairs."""

    mean: float
    median: float
    q05: float
    q25: float
    q75: float
    q95: float
    pairs: int


@dataclass(frozen=True)
class Constancy:
    """How alike m added vectors v are; except for the two norms, 1 means "the same".

    Attributes:
        n: m.
        absolute: absolute cosines of all pairs (the paper's measure).
        signed: cosines of all pairs.
        absolute_between, signed_between: of pairs from different prompts only; None where the
            prompts are unknown or there is only one.
        norm_mean: mean length, in the site's raw units.
        norm_cv: standard deviation of the lengths over their mean; 0 for equal lengths.
        mean_share: |mean v|² / mean |v|², the share of energy that a constant vector explains.
        rank_one_share: the same for the best direction with any amplitudes (first singular vector,
            not centred); never below ``mean_share``.
        effective_rank: exp of the entropy of the squared singular values' shares; 1 to min(m, d).
        participation_ratio: (Σ s²)² / Σ s⁴ over singular values s; 1 to min(m, d).
    """

    n: int
    absolute: Spread
    signed: Spread
    absolute_between: Spread | None
    signed_between: Spread | None
    norm_mean: float
    norm_cv: float
    mean_share: float
    rank_one_share: float
    effective_rank: float
    participation_ratio: float

    def row(self) -> dict[str, float]:
        """One flat row for a table: ``absolute.mean``, …; fields that are None are left out."""
        flat: dict[str, float] = {}
        for name, value in asdict(self).items():
            parts = value.items() if isinstance(value, dict) else [("", value)]
            flat |= {f"{name}.{part}".rstrip("."): x for part, x in parts if x is not None}
        return flat


@checked
def added(
    lm: LanguageModel, adapter: Adapter, batch: Batch, site: Site, against: str = "earlier"
) -> Tensor:
    """The site's output with the adapter minus without it, (n, t, d) float32 (paper, 4.2).

    The outputs have the model's own precision: where the site's norm is thousands of times what is
    added, half precision leaves mostly rounding errors.

    Args:
        adapter: where it holds several vectors, the first is used.
        batch: whole rows; values at padding mean nothing.
        against: ``earlier`` compares with the model that has the adapters of earlier modules only:
            the site's module runs again without the adapter on the input it had with it, so only
            what this module adds is measured. ``base`` compares with the plain model, end to end.

    Raises:
        UserError: another ``against``, shortened rows, or anything the model refuses.
    """
    choose(against, AGAINST, "reference")
    if not batch.whole:
        raise UserError("Shortened rows cannot be compared. Allowed: whole rows, of collate.")
    module, calls = lm.module(site), list[tuple[Any, Any]]()

    def keep(module: nn.Module, args: Any, kwargs: Any) -> None:
        calls.append((args, kwargs))

    with adapter.attach(lm) as attached, ExitStack() as undo:
        undo.callback(module.register_forward_pre_hook(keep, with_kwargs=True).remove)
        attached.focus(batch)
        adapted = capture(lm, batch, [site])[site]
    if against == "base":
        return adapted.float() - capture(lm, batch, [site])[site].float()
    args, kwargs = calls[0]
    with torch.no_grad():
        return adapted.float() - output_tensor(module(*args, **kwargs)).float()


@checked
def collect(
    lm: LanguageModel,
    adapter: Adapter,
    items: Sequence[Encoded],
    site: Site,
    where: str = "last 20",
    against: str = "earlier",
) -> AddedVectors:
    """What ``adapter`` adds at the chosen tokens of every prompt, prompt by prompt.

    Args:
        items: prompts; answers are not read.
        where: one of ``encoding.POSITIONS``, or "last 20" for the last 20 tokens of each prompt
            (any number; shorter prompts give all). First tokens can have a norm hundreds of times
            the usual one, which is why the paper takes the last.
        against: see ``added``.

    Raises:
        UserError: no token is marked this way, or what is added is not a number.
    """
    vectors, places = list[Tensor](), list[Tensor]()
    for start in range(0, len(items), _ROWS):
        batch = collate(items[start : start + _ROWS], lm.pad_id).to(lm.device)
        mask = _marked(batch, where)
        vectors.append(added(lm, adapter, batch, site, against)[mask].cpu())
        no_nan(vectors[-1], f"What the adapter adds to {lm.name!r} at {site}")
        places.append(mask.nonzero().cpu() + torch.tensor([start, 0]))
    if not sum(map(len, vectors)):
        raise UserError(
            f"No token of these {len(items)} prompts is marked {where!r}. Allowed: a position that "
            "occurs in them; 'last' and 'all' always do."
        )
    prompts, positions = torch.cat(places).T
    return AddedVectors(torch.cat(vectors), prompts, positions)


def _marked(batch: Batch, where: str) -> Tensor:
    """(n, t) bool, the tokens that ``where`` names."""
    word, _, number = where.partition(" ")
    if word == "last" and number.isascii() and number.isdigit() and int(number) > 0:
        prompt = batch.positions["all"]
        column = torch.arange(prompt.shape[1], device=prompt.device)[None]
        return prompt & (column >= prompt.sum(1, keepdim=True) - int(number))
    return batch.positions[choose(where, POSITIONS, "place", "Or 'last 20', any number from 1.")]


@checked
def plain(lm: LanguageModel, text: str) -> Encoded:
    """A passage without chat turns; it starts with the start token where chat prompts do."""
    ids = tuple(lm.tokenizer(text, add_special_tokens=False)["input_ids"])
    if not ids:
        raise UserError(f"The passage {text!r} has no tokens. Allowed: at least one.")
    opening = encode(lm.tokenizer, user("x")).ids[:1]
    if opening == (lm.tokenizer.bos_token_id,) != ids[:1]:
        ids = opening + ids
    return Encoded(ids, (len(ids), len(ids)), {"last": (len(ids) - 1,)}, text)


def usable(vectors: Tensor, least: int = 1) -> Tensor:
    """``vectors`` (m, d) as float64 on the CPU.

    Raises UserError for other axes, fewer than ``least``, a zero vector or a non-finite number.
    """
    if vectors.ndim != 2 or len(vectors) < least:
        raise UserError(
            f"Added vectors of shape {tuple(vectors.shape)} cannot be used. Allowed: (vectors, "
            f"width) with at least {least}."
        )
    vectors = vectors.detach().cpu().double()
    zero = int((vectors == 0).all(1).sum())
    if zero or not bool(vectors.isfinite().all()):
        fault = f"{zero} of {len(vectors)} are zero" if zero else "some numbers are not finite"
        raise UserError(
            f"Among the added vectors {fault}. Allowed: finite ones with a direction; take tokens "
            "that the adapter touches."
        )
    return vectors


@checked
def cosines(vectors: Tensor, prompts: Tensor | Sequence[int] | None = None) -> Tensor:
    """Signed cosines of all pairs of ``vectors`` (m, d): (m (m - 1) / 2,) float64.

    With ``prompts`` (m,), only pairs from different prompts. Memory grows with m².
    """
    vectors = usable(vectors, least=2)
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    first, second = torch.triu_indices(len(unit), len(unit), 1)
    pairs = (unit @ unit.T).clamp(-1, 1)[first, second]
    if prompts is None:
        return pairs
    owner = torch.as_tensor(prompts).cpu()
    if owner.shape != (len(unit),):
        raise UserError(
            f"Prompt numbers {tuple(owner.shape)} for {len(unit)} vectors. Allowed: one a vector."
        )
    return pairs[owner[first] != owner[second]]


@checked
def constancy(vectors: Tensor, prompts: Tensor | Sequence[int] | None = None) -> Constancy:
    """All measures of ``Constancy`` for added vectors (m, d).

    With ``prompts`` (m,), each vector's prompt number, also for pairs from different prompts.

    Raises UserError for fewer than two vectors, or what ``usable`` refuses.
    """
    vectors = usable(vectors, least=2)
    pairs = cosines(vectors)
    between = pairs[:0] if prompts is None else cosines(vectors, prompts)
    norms = vectors.norm(dim=1)
    # The smaller Gram matrix has the same squared singular values.
    gram = vectors @ vectors.T if len(vectors) < vectors.shape[1] else vectors.T @ vectors
    energy = torch.linalg.eigvalsh(gram).clamp(min=0)
    share = energy / energy.sum()
    return Constancy(
        n=len(vectors),
        absolute=_spread(pairs.abs()),
        signed=_spread(pairs),
        absolute_between=_spread(between.abs()) if len(between) else None,
        signed_between=_spread(between) if len(between) else None,
        norm_mean=float(norms.mean()),
        norm_cv=float(norms.std(correction=0) / norms.mean()),
        mean_share=float(vectors.mean(0).square().sum() / norms.square().mean()),
        rank_one_share=float(share.max()),
        effective_rank=float(torch.special.entr(share).sum().exp()),
        participation_ratio=float(1 / share.square().sum()),
    )


def _spread(values: Tensor) -> Spread:
    quantiles = np.quantile(values.numpy(), (0.5, 0.05, 0.25, 0.75, 0.95))
    median, q05, q25, q75, q95 = (float(q) for q in quantiles)
    return Spread(float(values.mean()), median, q05, q25, q75, q95, len(values))


@checked
def random_like(vectors: Tensor, seed: int = 0) -> Tensor:
    """Control: random directions with the lengths of ``vectors`` (m, d), float32."""
    vectors = usable(vectors)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(vectors.shape, generator=generator, dtype=vectors.dtype)
    return (drawn * (vectors.norm(dim=1) / drawn.norm(dim=1))[:, None]).float()
