"""What all figures share: style, labels that fit, intervals, legend, PNG, alt text."""

from __future__ import annotations

import base64
import functools
import io
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from oocr_lib.report.plots.meanings import Look
from oocr_lib.util.arguments import checked

P = ParamSpec("P")
R = TypeVar("R")

DPI: Final = 110
WIDTH: Final = 8.0  # inches; 880 pixels, the text width of a notebook
INK: Final = "#222222"
CHANCE: Final = "#555555"
_TITLE: Final = "title"  # marks titles among all texts of a figure

RC: Final[Any] = {  # matplotlib's type lists every key
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
    """Run a drawing function under the package's style, and fit the labels of what it draws.

    Its arguments are checked (``arguments.checked``).
    """
    draw = checked(draw)

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(RC)
            result = draw(*args, **kwargs)
            if isinstance(result, Chart):
                _fit(result)
            return result

    return wrapper


@checked
def canvas(height: float, width: float = WIDTH) -> Chart:
    """Return an empty figure, ``width`` by ``height`` inches, outside pyplot's registry."""
    figure = Chart(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@styled
def png(figure: Figure, source: str | None = None) -> bytes:
    """Return the figure as PNG bytes; no date and no version, so equal figures give equal files.

    Args:
        source: what the figure was made from, for the file's metadata.
    """
    buffer = io.BytesIO()
    metadata = {"Software": None, "Description": alt(figure)}
    metadata |= {} if source is None else {"Source": source}
    figure.savefig(buffer, format="png", dpi=figure.dpi, metadata=metadata)
    return buffer.getvalue()


def number(value: float) -> str:
    """Two decimals with a true minus sign, and no minus before what rounds to zero.

    >>> number(-0.004), number(-0.126)
    ('0.00', '\u22120.13')
    """
    return f"{value:z.2f}".replace("-", "\N{MINUS SIGN}")


def level_label(name: str, levels: Iterable[float]) -> str:
    """``name`` with its level in brackets, or the range of several: ``chance (0.20 to 0.50)``."""
    texts = [number(level) for level in sorted(set(levels))]
    return f"{name} ({' to '.join(dict.fromkeys((texts[0], texts[-1])))})"


def interval(ax: Axes, x: Sequence[float], data: pd.DataFrame, **look: Any) -> None:
    """Draw the vertical intervals of rows with columns low and high at ``x``.

    A row whose ``n`` is 1 has no interval: one run says nothing about others.
    """
    single = data["n"] == 1 if "n" in data.columns else pd.Series(False, index=data.index)
    rows = data[~single]
    low, high = rows["low"].to_numpy(), rows["high"].to_numpy()
    options: dict[str, Any] = {"ecolor": INK, "elinewidth": 1.4, "capsize": 3.0, "zorder": 4} | look
    places = [place for place, alone in zip(x, single, strict=True) if not alone]
    ax.errorbar(places, (low + high) / 2, yerr=(high - low) / 2, fmt="none", **options)


def interval_key(data: pd.DataFrame, over: str, counted: bool = True) -> Line2D:
    """The legend's entry for the intervals of ``data``; ``over`` is what n counts ("runs").

    Args:
        counted: write n, where ``data`` has it.
    """
    label = f"95 % interval over {over}"
    if "n" in data.columns:
        few, many = int(data["n"].min()), int(data["n"].max())
        if many == 1:
            return Line2D([], [], ls="none", label=f"no interval over {over} (n = 1)")
        notes = [f"n = {few}" if few == many else f"n = {few} to {many}"] if counted else []
        notes += ["none at 1"] if few == 1 else []
        label += f" ({'; '.join(notes)})" if notes else ""
    return Line2D([], [], color=INK, lw=1.4, marker="|", ms=9, label=label)


def line_look(look: Look) -> dict[str, Any]:
    """Arguments of ``Axes.plot`` for a line with markers."""
    face, edge = ("white", look.color) if look.hollow else (look.color, "white")
    return {
        "color": look.color,
        "marker": look.marker,
        "ls": look.line,
        "mfc": face,
        "mec": edge,
        "mew": 1.5 if look.hollow else 0.8,
        "label": look.label,
    }


def titled(ax: Axes, title: str, xlabel: str, ylabel: str, size: float = 14.0) -> None:
    """Set the title (``size`` points) and both axis labels; long ones are wrapped at the end."""
    ax.set_title(title, fontsize=size, gid=_TITLE)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)


def headed(figure: Chart, title: str) -> None:
    """Set the title over several panels; a long one is wrapped at the end."""
    figure.suptitle(title, fontsize=14, x=0.01, ha="left", gid=_TITLE)


def fraction_limits(ax: Axes, values: Iterable[float]) -> None:
    """Show 0 to 1 in full when every value is a fraction, so that bars are not exaggerated."""
    numbers = list(values)
    if min(numbers) >= 0 and max(numbers) <= 1:
        ax.set_ylim(0, 1.04)
        ax.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    else:
        ax.margins(y=0.12)


def legend_below(figure: Figure, handles: Sequence[Any], columns: int | None = None) -> None:
    """Put one legend under the axes, where it cannot cover data."""
    labels = [str(handle.get_label()) for handle in handles]
    letters = 11.5 * figure.get_figwidth()  # that fit side by side; a marker takes seven
    lengths = np.array([len(label) + 7 for label in labels])
    fits = [
        k
        for k in range(1, min(len(labels), 4) + 1)
        if sum(column.max() for column in np.array_split(lengths, k)) <= letters
    ]
    figure.legend(
        handles=list(handles),
        labels=labels,
        loc="outside lower center",
        ncols=columns or max(fits, default=1),
    )


@checked
def alt(figure: Figure) -> str:
    """Describe a figure in one sentence: title, axes and what is drawn, for screen readers."""
    panels = [axis for axis in figure.axes if axis.get_xlabel() or axis.get_title(loc="left")]
    axes = [f"{_line(axis.get_ylabel())} by {_line(axis.get_xlabel())}" for axis in panels]
    names = [_line(axis.get_title(loc="left")) for axis in panels] if len(panels) > 1 else []
    ticks = [_line(tick.get_text()) for panel in panels for tick in panel.get_xticklabels()]
    names += [tick for tick in ticks if tick[:1].isalpha()]
    for holder in [*figure.legends, *(a.get_legend() for a in figure.axes if a.get_legend())]:
        names += [_line(text.get_text()) for text in holder.get_texts()] if holder else []
    names += [_line(t.get_text()) for a in panels for t in a.texts if t.get_gid() == "label"]
    heading = _line(figure.get_suptitle() or (panels[0].get_title(loc="left") if panels else ""))
    contents = f"; shows {', '.join(dict.fromkeys(names))}" if names else ""
    return f"{heading}: {' and '.join(dict.fromkeys(axes))}{contents}."


def _fit(figure: Chart) -> None:
    """Wrap titles and axis labels that do not fit, measured as they are drawn."""
    titles = [text for text in figure.findobj(Text) if text.get_gid() == _TITLE]
    for _ in range(4):  # a wrapped label makes the axes smaller
        figure.draw_without_rendering()
        wrapped = False
        for ax in figure.axes:
            for label, room in ((ax.yaxis.label, ax.bbox.height), (ax.xaxis.label, ax.bbox.width)):
                box = label.get_window_extent()
                wrapped |= _shorten(label, room, max(box.width, box.height))
        for text in titles:
            box = text.get_window_extent()
            panel = text.axes if len(titles) > 1 else None  # a panel's title ends with the panel
            right = panel.bbox.x1 if panel is not None else figure.bbox.x1 - 8
            wrapped |= _shorten(text, right - box.x0, box.width)
        if not wrapped:
            return


def _shorten(text: Text, room: float, length: float) -> bool:
    """Wrap ``text``, now ``length`` pixels long, to ``room``; return whether that was needed."""
    if length <= room or not text.get_text():
        return False
    longest = max(len(line) for line in text.get_text().splitlines())
    text.set_text(wrap(text.get_text(), max(6, int(0.95 * longest * room / length))))
    return True


def wrap(text: str, width: int) -> str:
    """Break ``text`` into lines of at most ``width`` characters; words stay whole."""
    return textwrap.fill(text, width, break_long_words=False)


def _line(text: str) -> str:
    return " ".join(text.split())
