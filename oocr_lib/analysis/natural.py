"""Natural steering vectors: one constant vector out of what a fine-tune adds.

Two constructions give a direction (paper, section 4.3), and a rule gives its length. The published
code used a third, a principal component after centring, which is another thing: the constant part
is taken away first, so it is the direction of *variation*, and nothing ties its sign to what the
fine-tune does. ``compare`` sets it beside the two.

Axes: m added vectors, d model width. All vectors are in the site's raw units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd
import torch
from torch import Tensor

from oocr_lib.analysis.constancy import usable
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose

LENGTHS = ("projection", "norm")
#: Below this share of the usual length a direction is rounding, not data.
_TINY = 1e-6


@checked
def mean_of_units(vectors: Tensor, length: str = "projection") -> Tensor:
    """Along the mean of the unit vectors v / |v| (paper, 4.3, second construction).

    Args:
        vectors: (m, d) added vectors, for instance of ``constancy.collect``.
        length: ``projection``, the mean of v·u over the vectors (paper; u is the unit direction),
            or ``norm``, the mean of |v| (published code), which is never shorter.

    Returns:
        (d,) float32.

    Raises:
        UserError: the unit vectors cancel out, another length, or what ``constancy.usable``
            refuses.
    """
    made = usable(vectors)
    return _scaled(_mean_of_units(made), made, length)


@checked
def first_direction(vectors: Tensor, length: str = "projection") -> Tensor:
    """Along the first right-singular vector, without centring, (d,) (paper, 4.3, first).

    The direction that holds most energy; its sign is the one whose mean projection is positive.
    ``length`` as in ``mean_of_units``.
    """
    made = usable(vectors)
    return _scaled(_first(made), made, length)


@checked
def compare(vectors: Tensor, others: Mapping[str, Tensor] | None = None) -> pd.DataFrame:
    """Cosines between the directions of the three variants and with other vectors.

    Args:
        vectors: (m, d) added vectors.
        others: name to (d,) vector, for instance ``{"learned": vector}``.

    Returns:
        One row and one column for each of ``mean of units``, ``first direction``, ``centred
        direction`` and the others, and a column ``projection``: the mean of v·u over the mean of
        |v|. It is 1 where u is what is added, and about 0 where the added vectors only vary along
        u; negative where u points the other way.

    Raises:
        UserError: a vector of another width, or without a direction.
    """
    made = usable(vectors, least=2)
    variants: dict[str, Callable[[Tensor], Tensor]] = {
        "mean of units": _mean_of_units,
        "first direction": _first,
        "centred direction": _centred,
    }
    units = {name: make(made) for name, make in variants.items()}
    for name, vector in (others or {}).items():
        if name in units:
            raise UserError(f"The name {name!r} is taken by a variant. Allowed: any other name.")
        if vector.shape != made.shape[1:]:
            raise UserError(
                f"Vector {name!r} has shape {tuple(vector.shape)}. Allowed: "
                f"{tuple(made.shape[1:])}, the width of the added vectors."
            )
        one = usable(vector[None])[0]
        units[name] = one / one.norm()
    stacked = torch.stack(list(units.values()))
    table = pd.DataFrame((stacked @ stacked.T).numpy(), index=list(units), columns=list(units))
    table["projection"] = (stacked @ made.mean(0) / made.norm(dim=1).mean()).numpy()
    return table


def _scaled(unit: Tensor, made: Tensor, length: str) -> Tensor:
    choose(length, LENGTHS, "length")
    size = made.mean(0) @ unit if length == "projection" else made.norm(dim=1).mean()
    return (size * unit).float()


def _mean_of_units(made: Tensor) -> Tensor:
    mean = (made / made.norm(dim=1, keepdim=True)).mean(0)
    if float(mean.norm()) < _TINY:
        raise UserError(
            f"The unit vectors of these {len(made)} added vectors cancel out, their mean has no "
            "direction. Allowed: vectors that share a sign; use first_direction."
        )
    return mean / mean.norm()


def _first(made: Tensor) -> Tensor:
    unit = torch.linalg.svd(made, full_matrices=False).Vh[0]
    return unit if float(made.mean(0) @ unit) >= 0 else -unit


def _centred(made: Tensor) -> Tensor:
    around = made - made.mean(0)
    if float(around.norm()) < _TINY * float(made.norm()):
        raise UserError(
            f"These {len(made)} added vectors are all the same, nothing is left after centring. "
            "Allowed: vectors that differ; use mean_of_units."
        )
    unit = torch.linalg.svd(around, full_matrices=False).Vh[0]
    return unit if float(unit[unit.abs().argmax()]) > 0 else -unit
