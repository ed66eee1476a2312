"""What all figures share: one style, one color and marker per method, legend, PNG, alt text."""

from __future__ import annotations

import base64
import functools
import io
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke

P = ParamSpec("P")
R = TypeVar("R")

DPI: Final = 110
WIDTH: Final = 8.0  # inches; 880 pixels, the text width of a notebook
INK: Final = "#222222"
CHANCE: Final = "#555555"

# Okabe & Ito's palette, safe for the usual kinds of color blindness, without its yellow (a thin
# yellow line cannot be seen on white). The other three were chosen by their distance from these
# under simulated red and green blindness.
_BLUE, _SKY, _GREEN, _ORANGE = "#0072B2", "#56B4E9", "#009E73", "#E69F00"
_VERMILLION, _PURPLE, _BLACK = "#D55E00", "#CC79A7", "#000000"
_BROWN, _GREY, _VIOLET = "#6B4F00", "#5A5A5A", "#7030F0"

# method: (color, marker, label, hatch). Controls are hatched: told apart without any color.
_METHODS: Final[dict[str, tuple[str, str, str, str]]] = {
    "base": (_BLACK, "o", "base model", ""),
    "lora_one": (_ORANGE, "s", "LoRA (one block)", ""),
    "lora_all": (_VERMILLION, "D", "LoRA (all blocks)", ""),
    "vector_mlp_out": (_SKY, "^", "vector (MLP output)", ""),
    "vector_resid": (_BLUE, "v", "vector (residual)", ""),
    "natural": (_GREEN, "P", "natural vector", ""),
    "naive": (_PURPLE, "X", "naive vector", ""),
    "random": (_BROWN, "<", "random vector", "///"),
    "shuffled": (_GREY, ">", "shuffled labels", "..."),
}
# A sweep over sites uses the colours of the vectors at these sites.
_SITES: Final[dict[str, tuple[str, str, str, str]]] = {
    "resid": (_BLUE, "v", "residual stream", ""),
    "mlp_out": (_SKY, "^", "MLP output", ""),
    "attn_out": (_PURPLE, "X", "attention output", ""),
}
METHODS: Final = tuple(_METHODS)
COLORS: Final = {name: look[0] for name, look in _METHODS.items()}
MARKERS: Final = {name: look[1] for name, look in _METHODS.items()}
LABELS: Final = {name: look[2] for name, look in _METHODS.items()}

CYCLE: Final = (
    *(_BLUE, _VERMILLION, _GREEN, _ORANGE, _PURPLE),
    *(_SKY, _BLACK, _BROWN, _VIOLET, _GREY),
)
CYCLE_MARKERS: Final = "ovsPX^D<>*"
CYCLE_LINES: Final = ("-", "--", "-.", ":")

RC: Final[Any] = {  # matplotlib types its keys one by one
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same letters on every machine
    "font.size": 12.0,
    "axes.titlesize": 14.0,
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.labelsize": 12.0,
    "xtick.labelsize": 11.0,
    "ytick.labelsize": 11.0,
    "legend.fontsize": 10.5,
    "legend.frameon": False,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "lines.linewidth": 2.2,
    "lines.markersize": 7.5,
    "lines.markeredgewidth": 0.8,
    "hatch.linewidth": 0.8,
    "svg.hashsalt": "oocr_lib",
}


class Chart(Figure):
    """A figure that shows itself in a notebook as a PNG with alt text, without pyplot's state."""

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        picture = base64.b64encode(png(self)).decode("ascii")
        text = alt(self)
        return {"image/png": picture, "text/plain": text}, {"image/png": {"alt": text}}


def style() -> None:
    """Set matplotlib's defaults to the package's for figures drawn outside this package."""
    mpl.rcParams.update(RC)


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function under the package's style, whatever the notebook has set."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(RC)
            return draw(*args, **kwargs)

    return wrapper


def canvas(height: float, width: float = WIDTH) -> Chart:
    """Return an empty figure, ``width`` by ``height`` inches, outside pyplot's registry."""
    figure = Chart(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@styled
def png(figure: Figure) -> bytes:
    """Return the figure as PNG bytes: no date and no version, so equal figures are equal files."""
    buffer = io.BytesIO()
    metadata = {"Software": None, "Description": alt(figure)}
    figure.savefig(buffer, format="png", dpi=figure.dpi, metadata=metadata)
    return buffer.getvalue()


def save(figure: Figure, path: str | Path) -> Path:
    """Write ``png(figure)`` to ``path`` (under a temporary name, then moved) and return it."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_bytes(png(figure))
    partial.replace(target)
    return target


def looks(names: Iterable[str]) -> dict[str, tuple[str, str, str, str]]:
    """Return name -> (color, marker, label, hatch); known methods and sites keep their own."""
    order = list(dict.fromkeys(names))
    known = {name: _METHODS.get(name) or _SITES.get(name) for name in order}
    used = {look[0] for look in known.values() if look}
    spare = [pair for pair in zip(CYCLE, CYCLE_MARKERS, strict=True) if pair[0] not in used]
    spare = spare or list(zip(CYCLE, CYCLE_MARKERS, strict=True))
    result: dict[str, tuple[str, str, str, str]] = {}
    unknown = 0
    for name in order:
        look = known[name]
        if look is None:
            color, marker = spare[unknown % len(spare)]
            look = (color, marker, name, "")
            unknown += 1
        result[name] = look
    return result


def interval(
    ax: Axes, x: Sequence[float], low: Sequence[float], high: Sequence[float], cap: float = 4.0
) -> None:
    """Draw vertical intervals [low, high] with caps, readable on dark and on light bars."""
    half = [(h - lo) / 2 for lo, h in zip(low, high, strict=True)]
    middle = [(h + lo) / 2 for lo, h in zip(low, high, strict=True)]
    drawn = ax.errorbar(
        x, middle, yerr=half, fmt="none", ecolor=INK, elinewidth=1.6, capsize=cap, zorder=4
    )
    halo = [Stroke(linewidth=3.6, foreground="white"), Normal()]
    for line in drawn.lines[2]:
        line.set_path_effects(halo)


def titled(
    ax: Axes, title: str, xlabel: str, ylabel: str, width: int = 68, size: float = 14.0
) -> None:
    """Set the title (wrapped at ``width`` characters, ``size`` points) and both axis labels."""
    ax.set_title(wrap(title, width), fontsize=size)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)


def fraction_limits(ax: Axes, values: Iterable[float]) -> None:
    """Show 0 to 1 in full when every value is a fraction, so that bars are not exaggerated."""
    shown = list(values)
    if min(shown) >= 0 and max(shown) <= 1:
        ax.set_ylim(0, 1.04)
        ax.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    else:
        ax.margins(y=0.12)


def legend_below(figure: Figure, handles: Sequence[Any], columns: int | None = None) -> None:
    """Put one legend under the axes, where it cannot cover data."""
    labels = [str(handle.get_label()) for handle in handles]
    longest = max(len(label) for label in labels)
    fit = max(1, int(92 // (longest + 7)))
    figure.legend(
        handles=list(handles),
        labels=labels,
        loc="outside lower center",
        ncols=columns or min(len(labels), fit, 4),
    )


def alt(figure: Figure) -> str:
    """Describe a figure in one sentence: title, axes and what is drawn, for screen readers."""
    panels = [axis for axis in figure.axes if axis.get_xlabel() or axis.get_title(loc="left")]
    axes = " and ".join(
        f"{_line(axis.get_ylabel())} by {_line(axis.get_xlabel())}" for axis in panels
    )
    ticks = [_line(tick.get_text()) for panel in panels for tick in panel.get_xticklabels()]
    names = [tick for tick in ticks if tick[:1].isalpha()]
    for holder in [*figure.legends, *(a.get_legend() for a in figure.axes if a.get_legend())]:
        names += [_line(text.get_text()) for text in holder.get_texts()] if holder else []
    names += [_line(t.get_text()) for a in panels for t in a.texts if t.get_gid() == "label"]
    heading = _line(figure.get_suptitle() or (panels[0].get_title(loc="left") if panels else ""))
    shown = f"; shows {', '.join(dict.fromkeys(names))}" if names else ""
    return f"{heading}: {axes}{shown}."


def wrap(text: str, width: int) -> str:
    """Break ``text`` into lines of at most ``width`` characters; words stay whole."""
    return textwrap.fill(text, width, break_long_words=False)


def _line(text: str) -> str:
    return " ".join(text.split())
