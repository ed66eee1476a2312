"""Read what flows through a model: the outputs of its sites, and their typical norm.

Axes: n rows, t tokens, d model width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from oocr_lib.encoding import Batch
from oocr_lib.models.language_model import LanguageModel, recording
from oocr_lib.models.sites import Site
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose


@checked
def capture(
    lm: LanguageModel, batch_or_ids: Batch | Tensor, sites: Sequence[Site]
) -> dict[Site, Tensor]:
    """Outputs of ``sites`` in one forward pass: site to (n, t, d), without gradient.

    Adapters attached earlier take effect, also at their own site. ``batch_or_ids`` is a Batch or
    token ids (n, t) int64, right-padded. Only the hooks added here are removed, also on error.

    Raises:
        UserError: ids of another shape or type, none, or one that the vocabulary lacks.
    """
    ids = batch_or_ids.input_ids if isinstance(batch_or_ids, Batch) else batch_or_ids
    if ids.ndim != 2 or ids.dtype != torch.int64:
        raise UserError(
            f"Token ids of shape {tuple(ids.shape)} and type {ids.dtype} cannot be run. "
            "Allowed: (rows, tokens) int64."
        )
    if not ids.numel() or int(ids.min()) < 0 or int(ids.max()) >= lm.vocab_size:
        span = f"from {int(ids.min())} to {int(ids.max())}" if ids.numel() else "none"
        raise UserError(
            f"Token ids of shape {tuple(ids.shape)}, {span}, cannot be run. Allowed: at least one "
            f"row and token, ids from 0 to {lm.vocab_size - 1}."
        )
    with torch.no_grad(), recording(lm, sites) as outputs:
        lm.decoder(input_ids=ids.to(lm.device), use_cache=False)
    return outputs


@checked
def typical_norm(lm: LanguageModel, batch: Batch, site: Site, positions: str = "codename") -> float:
    """Median Euclidean norm of the site's output over the marked tokens of ``batch``.

    It is the unit of learning rates and initial lengths at that site, because the MLP output
    before a post-norm has an arbitrary scale.

    Raises:
        UserError: unknown position name, or no token of the batch is marked so.
    """
    choose(positions, batch.positions, "position")
    mask = batch.positions[positions]
    if not bool(mask.any()):
        raise UserError(
            f"No token of these {mask.shape[0]} rows is marked {positions!r}. Allowed: a position "
            "that occurs in them; 'last' and 'all' always do."
        )
    hidden = capture(lm, batch, [site])[site]
    return float(hidden[mask.to(hidden.device)].float().norm(dim=-1).median())
