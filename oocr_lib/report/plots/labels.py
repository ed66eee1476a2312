"""Labels that do not cover each other: names under an axis, and labels of points on a map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from oocr_lib.report.plots.base import wrap
from oocr_lib.util.arguments import checked

Point = tuple[float, float]

_SIZES: Final = (11.0, 10.0, 9.0)  # points
_LETTER: Final = 0.63  # of the font's size; a generous mean width of a letter
_ANGLES: Final = tuple(math.radians(a) for a in range(0, 360, 20))
_GAPS: Final = (11.0, 18.0, 28.0, 42.0, 60.0, 84.0, 112.0, 145.0)  # pixels, point to box
_ROUNDS: Final = 3
_LEADER: Final = 26.0  # pixels; a label further away gets a line to its point


@checked
def name_places(
    ax: Axes, places: Sequence[float], names: Sequence[str], below: Sequence[str] = ()
) -> None:
    """Write names under the axis, wrapped to the room between places, smaller or turned if needed.

    Args:
        places: x of each name. names: one per place.
        below: a last line for each name; these lines stand at one height.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # the layout decides how much room there is
    left, right = ax.get_xlim()
    room = ax.bbox.width / (right - left) * 72 / figure.dpi  # points
    longest = max(len(word) for text in [*names, *below] for word in text.split())
    size = next((s for s in _SIZES if longest * _LETTER * s <= room), None)
    width = 30 if size is None else max(longest, int(room / (_LETTER * size)))
    texts = [wrap(name, width) for name in names]
    if below:
        lines = max(text.count("\n") for text in texts)
        texts = [
            text + "\n" * (1 + lines - text.count("\n")) + last
            for text, last in zip(texts, below, strict=True)
        ]
    ax.set_xticks(list(places), texts, fontsize=size or _SIZES[-1])
    if size is None:
        for label in ax.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")


@checked
def place_labels(
    ax: Axes,
    texts: Sequence[str],
    points: Sequence[Point],
    colors: Sequence[str],
    avoid: Sequence[Point],
    ink: str,
) -> list[Annotation]:
    """Write ``texts[i]`` near ``points[i]``, inside the axes, without covering one another.

    Greedy, then improved in a few rounds: a label takes the candidate place with the least
    overlap with other labels, with points and with ``avoid``, and among these the nearest.

    Args:
        points, avoid: data coordinates. colors: one per label, for its frame and its leader line.
        ink: the color of the letters.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # the layout decides where a point falls in pixels
    notes = [_note(ax, t, p, c, ink) for t, p, c in zip(texts, points, colors, strict=False)]
    sizes = [(b.width, b.height) for b in (n.get_window_extent() for n in notes)]
    pixels = [_pixel(ax, point) for point in points]
    marks = [*pixels, *(_pixel(ax, point) for point in avoid)]
    boxes: list[Bbox | None] = [None] * len(notes)
    for _ in range(_ROUNDS):
        for i, (size, pixel) in enumerate(zip(sizes, pixels, strict=True)):
            others = [box for j, box in enumerate(boxes) if j != i and box is not None]
            boxes[i] = _best(ax.bbox, size, pixel, others, marks)
    for note, box, pixel in zip(notes, boxes, pixels, strict=True):
        assert box is not None
        _move(note, box, pixel, 72.0 / figure.dpi)
    return notes


def _note(ax: Axes, text: str, point: Point, color: str, ink: str) -> Annotation:
    note = ax.annotate(
        text,
        xy=point,
        xytext=(0, 0),
        textcoords="offset points",
        ha="center",
        va="center",
        color=ink,
        fontsize=10.5,
        zorder=9,
        gid="label",
        bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": color, "lw": 1.3, "alpha": 0.9},
        arrowprops={"arrowstyle": "-", "color": color, "lw": 1.2, "shrinkA": 0, "shrinkB": 4},
    )
    note.set_in_layout(False)
    if note.arrow_patch is not None:
        note.arrow_patch.set_zorder(8)
    return note


def _pixel(ax: Axes, point: Point) -> Point:
    x, y = ax.transData.transform(point)
    return float(x), float(y)


def _best(
    frame: Bbox, size: Point, pixel: Point, others: Sequence[Bbox], marks: Sequence[Point]
) -> Bbox:
    candidates = [_box(size, pixel, angle, gap) for gap in _GAPS for angle in _ANGLES]
    return min(candidates, key=lambda box: _cost(box, frame, pixel, others, marks))


def _box(size: Point, pixel: Point, angle: float, gap: float) -> Bbox:
    """Return a box of ``size`` whose edge is about ``gap`` pixels from ``pixel``, at ``angle``."""
    half_width, half_height = size[0] / 2 + 4, size[1] / 2 + 4
    x = pixel[0] + math.cos(angle) * (half_width + gap)
    y = pixel[1] + math.sin(angle) * (half_height + gap)
    return Bbox.from_extents(x - half_width, y - half_height, x + half_width, y + half_height)


def _cost(
    box: Bbox, frame: Bbox, pixel: Point, others: Sequence[Bbox], marks: Sequence[Point]
) -> float:
    outside = (
        max(0.0, frame.x0 - box.x0)
        + max(0.0, box.x1 - frame.x1)
        + max(0.0, frame.y0 - box.y0)
        + max(0.0, box.y1 - frame.y1)
    )
    overlap = sum(_overlap(box, other) for other in others)
    covered = sum(bool(box.padded(5).contains(*mark)) for mark in marks)
    return float(1000 * outside + 50 * overlap + 400 * covered + _distance(box, pixel))


def _overlap(a: Bbox, b: Bbox) -> float:
    both = Bbox.intersection(a, b)
    return 0.0 if both is None else float(both.width * both.height) + 1.0


def _distance(box: Bbox, pixel: Point) -> float:
    dx = max(box.x0 - pixel[0], 0.0, pixel[0] - box.x1)
    dy = max(box.y0 - pixel[1], 0.0, pixel[1] - box.y1)
    return math.hypot(dx, dy)


def _move(note: Annotation, box: Bbox, pixel: Point, points_per_pixel: float) -> None:
    x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    note.set_position(((x - pixel[0]) * points_per_pixel, (y - pixel[1]) * points_per_pixel))
    if note.arrow_patch is not None:
        note.arrow_patch.set_visible(_distance(box, pixel) > _LEADER)
