"""Natural steering vectors: one constant vector from what a fine-tune adds.

Two constructions give a direction (paper, section 4.3), and a rule gives its length. The published
code used a third, a principal component after centring. Centring takes the constant part away, so
this is the direction of *variation*, and nothing ties its sign to what the fine-tune does.
``compare`` sets it beside the two.

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
#: Below this share of the usual length a direction is rounding error.
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
    vectors = usable(vectors)
    return _scaled(_mean_of_units(vectors), vectors, length)


@checked
def first_direction(vectors: Tensor, length: str = "projection") -> Tensor:
    """Along the first right-singular vector, uncentred, (d,) (paper, 4.3, first construction).

    The direction that holds the most energy; its sign makes the mean projection positive.
    ``length`` as in ``mean_of_units``.
    """
    vectors = usable(vectors)
    return _scaled(_first(vectors), vectors, length)


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
    vectors = usable(vectors, least=2)
    variants: dict[str, Callable[[Tensor], Tensor]] = {
        "mean of units": _mean_of_units,
        "first direction": _first,
        "centred direction": _centred,
    }
    units = {name: build(vectors) for name, build in variants.items()}
    for name, vector in (others or {}).items():
        if name in units:
            raise UserError(f"The name {name!r} is taken by a variant. Allowed: any other name.")
        if vector.shape != vectors.shape[1:]:
            raise UserError(
                f"Vector {name!r} has shape {tuple(vector.shape)}. Allowed: "
                f"{tuple(vectors.shape[1:])}, the width of the added vectors."
            )
        other = usable(vector[None])[0]
        units[name] = other / other.norm()
    stacked = torch.stack(list(units.values()))
    table = pd.DataFrame((stacked @ stacked.T).numpy(), index=list(units), columns=list(units))
    table["projection"] = (stacked @ vectors.mean(0) / vectors.norm(dim=1).mean()).numpy()
    return table


def _scaled(unit: Tensor, vectors: Tensor, length: str) -> Tensor:
    choose(length, LENGTHS, "length")
    size = vectors.mean(0) @ unit if length == "projection" else vectors.norm(dim=1).mean()
    return (size * unit).float()


def _mean_of_units(vectors: Tensor) -> Tensor:
    mean = (vectors / vectors.norm(dim=1, keepdim=True)).mean(0)
    if float(mean.norm()) < _TINY:
        raise UserError(
            f"The unit vectors of these {len(vectors)} added vectors cancel out, their mean has no "
            "direction. Allowed: vectors that share a sign; use first_direction."
        )
    return mean / mean.norm()


def _first(vectors: Tensor) -> Tensor:
    unit = torch.linalg.svd(vectors, full_matrices=False).Vh[0]
    return unit if float(vectors.mean(0) @ unit) >= 0 else -unit


def _centred(vectors: Tensor) -> Tensor:
    centred = vectors - vectors.mean(0)
    if float(centred.norm()) < _TINY * float(vectors.norm()):
        raise UserError(
            f"These {len(vectors)} added vectors are all the same, nothing is left after centring. "
            "Allowed: vectors that differ; use mean_of_units."
        )
    unit = torch.linalg.svd(centred, full_matrices=False).Vh[0]
    return unit if float(unit[unit.abs().argmax()]) > 0 else -unit
