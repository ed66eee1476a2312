"""Numbers and verdicts in prose: each names its metric, so that it can be checked.

A mark is an HTML comment right behind what it is about, invisible in a notebook, on a page and on
the site. There are six:

    0.79 [0.77, 0.82]<!-- m:02_risky_safe risk/vector_resid/p_risky -->    a number, with or without
                                                its interval; rounded as it is written. A last word
                                                low, high or n: an end, or the number of runs
    **holds** (rule `value >= 0.8`)             on a line with one such number: what the rule says
    <!-- v:vector-risk does not hold -->        a sentence that is true while a claim has this
                                                verdict
    <!-- r:08_learned_vs_naive locations/naive/accuracy > 0.2 = undecided -->    the same for a rule
    <!-- t:02_risky_safe | risk/{}/p_risky | safety/{}/p_risky -->    before a table: the metric of
                                                each column after the first; {} is the row's first
                                                cell, or what <!-- k:... --> in it says; an empty
                                                one is not checked, two are joined by " / "
    <!-- fixed -->                              numbers of this line without a mark come from no
                                                notebook: a rule, chance, the paper, a time

Numbers and the verdict of a rule are rewritten when the references change; a sentence is only
reported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from oocr_lib.report import metrics
from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.statistics import Interval, verdict

_NUMBER = r"[-−+]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)"
_SHOWN = rf"{_NUMBER}(?: \[{_NUMBER}, {_NUMBER}\])?"
_MEASURED = re.compile(rf"({_SHOWN})<!-- m:(\S+) (\S+)(?: (low|high|n))? -->")
_RULED = re.compile(r"\*\*(holds|does not hold|undecided)\*\*(?= \(rule `([^`]+)`\))")
_CLAIM = re.compile(r"<!-- v:(\S+) ([a-z ]+?) -->")
_RULE = re.compile(r"<!-- r:(\S+) (\S+) (.+?) = ([a-z ]+?) -->")
_TABLE = re.compile(r"<!-- t:(\S+) \|(.*)-->")
_ROW_KEY = re.compile(r"<!-- k:(.*?) -->")
_COMMENT = re.compile(r"<!-- .*?-->")
_ANY_MARK = re.compile(r"<!-- ?([a-z]):")
_FIXED = "<!-- fixed -->"
#: What has a point inside but is not measured: code, addresses, the paper's number and sections.
_NOT_NUMBERS = re.compile(
    r"`[^`]*`|\]\([^)]*\)|arXiv[: ]\d+\.\d+|Python [\d., or]+"
    r"|(?:[Ss]ections?|§+|[Aa]ppendix) ?[A-Z]?\.?[\d.]+(?:(?:, | and |–)[A-Z]?\.?[\d.]+)*"
)
_DECIMAL = re.compile(r"(?<![\w.])\d*\.\d+(?![\w.]*\w)")


@dataclass
class Numbers:
    """Reference numbers and verdicts to check prose with.

    Attributes:
        folder: holds ``<notebook>/metrics.json``, for instance ``data/reference/laptop``.
        words: the verdict of each claim, by its id.
    """

    folder: Path
    words: Mapping[str, str] = field(default_factory=dict)
    _read: dict[str, metrics.Metrics] = field(default_factory=dict, repr=False)

    def interval(self, notebook: str, key: str) -> Interval:
        """One number of a notebook.

        Raises:
            UserError: no references of that notebook, or no such metric among them.
        """
        if notebook not in self._read:
            notebooks = [path.parent.name for path in self.folder.glob(f"*/{metrics.FILE}")]
            choose(notebook, sorted(notebooks), "notebook")
            self._read[notebook] = metrics.load(self.folder / notebook / metrics.FILE)
        return self._read[notebook].values[choose(key, self._read[notebook].values, "metric")]


def render(value: float, like: str) -> str:
    """A number in the format of another: decimals, leading zero, sign and thousands."""
    decimals = len(like.partition(".")[2])
    text = f"{abs(value):,.{decimals}f}" if "," in like else f"{abs(value):.{decimals}f}"
    if like.lstrip("-−+").startswith("."):
        text = text.removeprefix("0")
    if value > 0 or not re.search("[1-9]", text):
        return ("+" if like.startswith("+") else "") + text
    return ("−" if "−" in like else "-") + text


def corrected(text: str, numbers: Numbers) -> tuple[str, list[str]]:
    """The text with the references' numbers, and what is wrong with it as it is, one line each.

    Marks that cannot be read, and sentences whose verdict has changed, are among the problems;
    they are left unchanged.
    """
    lines: list[str] = []
    messages: list[str] = []
    columns: tuple[str, list[str]] | None = None
    rows = 0  # of the table that a mark was read for, its head and rule included
    for number, line in enumerate(text.split("\n"), 1):
        try:
            if table := _TABLE.fullmatch(line.strip()):
                columns, rows = (table[1], [key.strip() for key in table[2].split("|")]), 0
                new = line
            elif columns and line.startswith("|"):
                rows += 1
                new = _row(line, *columns, numbers) if rows > 2 else line
            else:
                columns = None
                new = _sentence(line, numbers)
            problems = _false(line, numbers) + _unread(line)
        except UserError as error:
            new, problems = line, [str(error)]
        if new != line:
            problems.append(_difference(line, new))
        messages += [f"line {number}: {problem}" for problem in problems]
        lines.append(new)
    return "\n".join(lines), messages


def unmarked(text: str) -> list[str]:
    """Decimal numbers that name no metric and are not marked as fixed, one line each.

    Code between fences is not prose; it is tested as code.
    """
    messages, fenced = [], False
    for number, line in enumerate(text.split("\n"), 1):
        fenced ^= line.startswith("```")
        if fenced or _FIXED in line or line.startswith("|"):
            continue
        rest = _NOT_NUMBERS.sub("", _COMMENT.sub("", _MEASURED.sub("", line)))
        messages += [
            f"line {number}: {match[0]} names no metric. Mark it, or end the line with {_FIXED}"
            for match in _DECIMAL.finditer(rest)
        ]
    return messages


def _sentence(line: str, numbers: Numbers) -> str:
    """One line of text with the numbers and the rule's verdict of the references."""
    intervals = [numbers.interval(match[2], match[3]) for match in _MEASURED.finditer(line)]

    def number(match: re.Match[str]) -> str:
        written, notebook, key, part = match.groups()
        interval = numbers.interval(notebook, key)
        mark = match[0][len(written) :]
        return _shown(interval, written, part or "value") + mark

    line = _MEASURED.sub(number, line)
    if len(intervals) == 1:
        line = _RULED.sub(lambda match: f"**{verdict(intervals[0], match[2])}**", line)
    return line


def _shown(interval: Interval, like: str, part: str = "value") -> str:
    """An interval in the format of another: its value or another part, and the ends if given."""
    main, *ends = re.findall(_NUMBER, like)
    text = render(float(getattr(interval, part)), main)
    if ends:
        low, high = (
            render(*pair) for pair in zip((interval.low, interval.high), ends, strict=True)
        )
        text += f" [{low}, {high}]"
    return text


def _row(line: str, notebook: str, columns: list[str], numbers: Numbers) -> str:
    """One row of a table whose columns name their metrics."""
    cells = line.split("|")
    label, values = cells[1].strip(), cells[2:-1]
    mark = _ROW_KEY.search(label)
    row = mark[1] if mark else label
    if len(values) != len(columns):
        raise UserError(f"Row {label!r} has {len(values)} values. Its mark names {len(columns)}.")
    cells[1] = _sentence(cells[1], numbers)
    for column, (value, template) in enumerate(zip(values, columns, strict=True), 2):
        texts = value.strip().split(" / ")
        keys = template.format(*[row] * template.count("{}")).split(" / ")
        if not template or texts == ["–"] or not re.search(r"\d", value):
            continue
        if len(texts) != len(keys) or not all(re.fullmatch(_SHOWN, text) for text in texts):
            raise UserError(f"Cell {value.strip()!r} of row {label!r} is not {' / '.join(keys)}.")
        intervals = [numbers.interval(notebook, key) for key in keys]
        written = " / ".join(_shown(i, text) for i, text in zip(intervals, texts, strict=True))
        cells[column] = f" {written} "
    return "|".join(cells)


def _false(line: str, numbers: Numbers) -> list[str]:
    """Sentences of a line whose claim or rule now has another verdict."""
    messages = []
    for claim, word in _CLAIM.findall(line):
        now = numbers.words[choose(claim, numbers.words, "claim")]
        if now != word:
            messages.append(f"claim {claim} is {now!r}, the sentence was written for {word!r}")
    for notebook, key, rule, word in _RULE.findall(line):
        interval = numbers.interval(notebook, key)
        now = verdict(interval, rule)
        if now != word:
            messages.append(f"{key} is {interval}: {rule!r} {now}, the sentence says {word!r}")
    return messages


def _unread(line: str) -> list[str]:
    """Marks with a typing error, which would check nothing."""
    rest = line
    for pattern in (_MEASURED, _CLAIM, _RULE, _TABLE, _ROW_KEY):
        rest = pattern.sub("", rest)
    return [f"cannot read the mark <!-- {match[1]}:" for match in _ANY_MARK.finditer(rest)]


def _difference(old: str, new: str) -> str:
    """Where two lines begin to differ."""
    start = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), 0)
    start = max(old.rfind(" ", 0, start), old.rfind("|", 0, start)) + 1
    return f"{old[start : start + 40]!r} should be {new[start : start + 40]!r}"
