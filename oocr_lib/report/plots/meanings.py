"""The one table of colors, markers and labels: a color means the same in every figure.

A color stands for a method, a task, a relation between runs or a kind of number. Variants of one
meaning (a part of a LoRA, the signed form of a cosine) keep its color and differ in hatch, line and
marker, so that figures can be read in grey too. On a map, colors only tell paths apart; each path
is named where it ends. Names outside the table get a color that no method has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from oocr_lib.util.arguments import checked

LineStyle = str | tuple[int, tuple[float, ...]]


class Look(NamedTuple):
    """How one name is drawn.

    Attributes:
        hollow: bars are white inside with a colored edge and hatch; markers are open.
    """

    color: str
    marker: str
    label: str
    hatch: str = ""
    line: LineStyle = "-"
    hollow: bool = False


# Okabe & Ito's palette, safe for the usual kinds of color blindness, without its yellow (a thin
# yellow line cannot be seen on white); brown and grey were chosen by their distance from these
# under simulated red and green blindness.
_BLACK, _ORANGE, _VERMILLION, _SKY, _BLUE = "#000000", "#E69F00", "#D55E00", "#56B4E9", "#0072B2"
_GREEN, _PURPLE, _BROWN, _GREY = "#009E73", "#CC79A7", "#6B4F00", "#5A5A5A"
# Everything that is not a method, by the same distance from the methods and from each other.
_INDIGO, _OLIVE, _CORAL, _VIOLET, _PLUM = "#2D1E96", "#A5B45A", "#D24B4B", "#C300F0", "#5A1E5A"
_ROSE, _ULTRA, _LILAC, _MAROON, _MAGENTA = "#D2B4B4", "#0F00FF", "#C378FF", "#691E1E", "#D200B4"

_DASH, _DOT, _DASHDOT = (0, (4.0, 1.6)), (0, (1.2, 1.4)), (0, (6.0, 1.5, 1.2, 1.5))

# Base model and controls are hollow: whatever is filled was trained on the hidden concept.
_METHODS: Final[dict[str, Look]] = {
    "base": Look(_BLACK, "o", "base model", hollow=True),
    "lora_one": Look(_ORANGE, "s", "LoRA (one block)"),
    "lora_all": Look(_VERMILLION, "D", "LoRA (all blocks)", "\\\\\\"),
    "vector_mlp_out": Look(_SKY, "^", "vector (MLP output)", "---", _DASHDOT),
    "vector_resid": Look(_BLUE, "v", "vector (residual)"),
    "natural": Look(_GREEN, "P", "natural vector", "+++"),
    "naive": Look(_PURPLE, "X", "naive vector", "xxx", _DASH),
    "random": Look(_BROWN, "<", "random vector", "///", _DOT, hollow=True),
    "shuffled": Look(_GREY, ">", "shuffled labels", "...", _DASHDOT, hollow=True),
    # Variants: the vector without a concept to learn; what shuffled labels keep, and nothing else.
    "random_answers": Look(_BLUE, "d", "vector on random answers", "\\\\\\", _DASH, hollow=True),
    "multiset": Look(_GREY, "*", "answer counts alone", "xx", _DOT, hollow=True),
}
_OTHERS: Final[dict[str, Look]] = {
    # A sweep over sites uses the colors of the vectors at these sites.
    "resid": Look(_BLUE, "v", "residual stream"),
    "mlp_out": Look(_SKY, "^", "MLP output", "---", _DASHDOT),
    "attn_out": Look(_ROSE, "X", "attention output", "xxx", _DASH, hollow=True),
    # What the base model answers; the naive vector on its way to the learned one.
    "answers": Look(_BLACK, "o", "answers"),
    "naive to learned": Look(_PURPLE, "o", "naive to learned", "...", _DASHDOT, hollow=True),
    # Parts of a LoRA of one block: its color, hatched.
    "mean only": Look(_ORANGE, "p", "LoRA: mean only", "xxx", _DASHDOT),
    "keep first": Look(_ORANGE, "h", "LoRA: best direction only", "---", _DASH),
    "project out first": Look(_ORANGE, "d", "LoRA: best direction out", "...", _DOT, hollow=True),
    "keep read": Look(_ORANGE, "v", "LoRA: its mean where read only", "xxx", _DASHDOT),
    "project out read": Look(_ORANGE, "^", "LoRA: that mean out", "...", _DOT, hollow=True),
    "natural read": Look(_GREEN, "X", "natural vector (where read)", "///", _DASH),
    # A LoRA beside its nulls, of which the hollow ones have no concept to learn.
    "LoRA": Look(_ORANGE, "s", "LoRA"),
    "random answers": Look(_ORANGE, "o", "trained on random answers", "///", _DASH, hollow=True),
    "LoRA where read": Look(_ORANGE, "X", "LoRA (where read)", "+++", _DASH),
    # A vector at the residual stream after another block, and one without a concept to learn.
    "vector, cross-fitted": Look(_BLUE, "^", "vector (cross-fitted block)", "|||", _DOT),
    "vector, random answers": Look(
        _BLUE, "D", "vector on random answers", "\\\\\\", _DASH, hollow=True
    ),
    "random LoRA": Look(_BROWN, "<", "random matrices", "...", _DOT, hollow=True),
    # What a vector at the residual stream is read for.
    "own words": Look(_BLUE, "v", "own words", "..."),
    "another's words": Look(_BLUE, "o", "another's words", "///", _DASH, hollow=True),
    # Tasks and their question families; by code name they are hollow.
    "locations": Look(_ULTRA, "o", "locations"),
    "city": Look(_ULTRA, "o", "city"),
    "code": Look(_ULTRA, "s", "city by code name", "///", _DASH, hollow=True),
    "functions": Look(_LILAC, "^", "functions", "..."),
    "function": Look(_LILAC, "^", "function", "..."),
    "function code": Look(_LILAC, "v", "function by code name", "\\\\\\", _DASH, hollow=True),
    "risk": Look(_MAROON, "P", "risk", "xxx"),
    "speaker": Look(_MAROON, "P", "speaker's attitude", "xxx"),
    "backdoor": Look(_MAGENTA, "X", "backdoor", "---"),
    "trigger": Look(_MAGENTA, "X", "trigger", "---"),
    # How alike what is added is: cosines in one color, shares of energy in another.
    "absolute cosine": Look(_PLUM, "o", "absolute cosine"),
    "signed cosine": Look(_PLUM, "s", "signed cosine", "///", _DASH, hollow=True),
    "energy of one direction": Look(_VIOLET, "^", "energy of one direction"),
    "energy of the mean": Look(_VIOLET, "D", "energy of the mean", "\\\\\\", _DASH, hollow=True),
    # How two runs are related, as pairs and along the line between them.
    "same concept, other seed": Look(_INDIGO, "s", "same concept, other seed"),
    "seed to seed": Look(_INDIGO, "s", "seed to seed"),
    "seed to seed, random starts": Look(
        _INDIGO, "D", "seed to seed, random starts", "///", _DASH, hollow=True
    ),
    "other concept, same seed": Look(_OLIVE, "^", "other concept, same seed", "///"),
    "concept to concept": Look(_OLIVE, "^", "concept to concept", "///"),
    "both differ": Look(_CORAL, "v", "both differ", "...", _DOT),
}

METHODS: Final = tuple(_METHODS)
COLORS: Final = {name: look.color for name, look in _METHODS.items()}
MARKERS: Final = {name: look.marker for name, look in _METHODS.items()}
LABELS: Final = {name: look.label for name, look in _METHODS.items()}
MEANINGS: Final[dict[str, Look]] = {**_METHODS, **_OTHERS}

CYCLE: Final = (
    *(_ULTRA, _OLIVE, _CORAL, _VIOLET, _PLUM),
    *(_ROSE, _INDIGO, _LILAC, _MAROON, _MAGENTA),
)
_CYCLE_MARKERS: Final = "ovsPX^D<>*"
_CYCLE_LINES: Final = ("-", _DASH, _DASHDOT, _DOT)
_CYCLE_HATCHES: Final = ("", "///", "...", "xxx", "---", "\\\\\\", "+++", "ooo")


@checked
def looks(names: Iterable[str]) -> dict[str, Look]:
    """Return name -> look; names in the table keep theirs, others get one that no method has."""
    order = list(dict.fromkeys(names))
    used = {MEANINGS[name].color for name in order if name in MEANINGS}
    spare = [color for color in CYCLE if color not in used] or list(CYCLE)
    result: dict[str, Look] = {}
    unknown = 0
    for name in order:
        look = MEANINGS.get(name)
        if look is None:
            k, unknown = unknown, unknown + 1
            look = Look(
                spare[k % len(spare)],
                _CYCLE_MARKERS[k % len(_CYCLE_MARKERS)],
                name.replace("_", " "),
                _CYCLE_HATCHES[k % len(_CYCLE_HATCHES)],
                _CYCLE_LINES[k % len(_CYCLE_LINES)],
            )
        result[name] = look
    return result
