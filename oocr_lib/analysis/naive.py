"""The naive vector: the activation at a real name minus the activation at the code name.

It is the first thing one would try instead of training: make the model take the code name for the
real one (paper, section 5.2). It is read from the base model, as a mean over a few prompt stubs
that end in a name. The authors' code reads a block's input, which is ``resid`` of the block before.
Axes: n prompts, d model width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from oocr_lib.activations import capture
from oocr_lib.encoding import Encoded, collate
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.finite import no_nan

#: The last token of the name (its last occurrence), or the last token of the prompt.
POSITIONS = ("codename", "last")
#: Prompts in one forward pass; bounds memory.
_ROWS_AT_ONCE = 32


@checked
def name_activations(
    lm: LanguageModel,
    prompts: Sequence[Encoded],
    sites: Sequence[Site],
    position: str = "codename",
) -> dict[Site, Tensor]:
    """Activations of the prompts at one token each: site to (n, d), float32, CPU.

    Args:
        prompts: rendered chats or plain text, with the name (real or not) marked as "codename".
        position: ``codename`` reads at the name's last token, ``last`` at the prompt's.

    Raises:
        UserError: no prompts, an unknown position, a prompt without a marked name, or activations
            that are not a number.
    """
    choose(position, POSITIONS, "position")
    bare = next((item.text for item in prompts if not item.spans.get(position)), None)
    if not prompts or bare is not None:
        error = "No prompts" if bare is None else f"No token marked {position!r} in {bare[:80]!r}"
        raise UserError(
            f"{error}. Allowed: one prompt or more, each with its name marked; or position='last'."
        )
    activations: dict[Site, list[Tensor]] = {site: [] for site in sites}
    for start in range(0, len(prompts), _ROWS_AT_ONCE):
        part = prompts[start : start + _ROWS_AT_ONCE]
        rows, tokens = torch.arange(len(part)), [item.spans[position][-1] for item in part]
        captured = capture(lm, collate(part, lm.pad_id), sites)
        for site in sites:
            activations[site].append(captured[site][rows, tokens].float().cpu())
            no_nan(activations[site][-1], f"Activations of {lm.name!r} at {site}")
    return {site: torch.cat(parts) for site, parts in activations.items()}


@checked
def naive_vectors(
    lm: LanguageModel,
    real: Sequence[Encoded],
    code: Sequence[Encoded],
    sites: Sequence[Site],
    position: str = "codename",
) -> dict[Site, Tensor]:
    """Mean over stubs of (activation with the real name − with the code name): site to (d,).

    In the site's raw units, like ``VectorAdapter.vectors``; float32, CPU.

    Args:
        real, code: the same stubs in the same order, ending in the real name and in the code name.

    Raises:
        UserError: other numbers of prompts, or as ``name_activations``.
    """
    return by_name(lm, {"real": real}, code, sites, position)["real"]


@checked
def by_name(
    lm: LanguageModel,
    names: Mapping[str, Sequence[Encoded]],
    code: Sequence[Encoded],
    sites: Sequence[Site],
    position: str = "codename",
) -> dict[str, dict[Site, Tensor]]:
    """Naive vectors of several names against one code: name to site to (d,).

    The vectors of other concepts' names are the control: they share what tells any real name from
    a code name, and lack what tells this concept from others.

    Raises:
        UserError: other numbers of prompts for a name than for the code, or as
            ``name_activations``.
    """
    for name, prompts in names.items():
        if len(prompts) != len(code):
            raise UserError(
                f"{len(prompts)} prompts for {name!r} and {len(code)} for the code name do not "
                "pair. Allowed: the same stubs for both, in the same order."
            )
    base = name_activations(lm, code, sites, position)
    vectors: dict[str, dict[Site, Tensor]] = {}
    for name, prompts in names.items():
        activations = name_activations(lm, prompts, sites, position)
        vectors[name] = {site: (activations[site] - base[site]).mean(0) for site in sites}
    return vectors
