"""Every audit of a task in one call: duplicates, balance, leaks, splits, tokens, chance levels.

``audit(task)`` returns one line per check, for any task in any dialect; ``failures`` lists those
that do not pass. A check without a limit only reports: whether repeated prompts are a fault depends
on the task (a backdoor repeats every scenario, a coin every flip). Limits on shares of letters are
the fair share plus three standard errors.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from oocr_lib.tasks.audit import questions as audit_questions
from oocr_lib.tasks.audit.lines import (
    Line,
    fair_share,
    is_letter,
    nothing,
    plain,
    prompt_of,
    report,
)
from oocr_lib.tasks.audit.tokens import tokens
from oocr_lib.tasks.base import Question, Row, Task
from oocr_lib.tasks.literal import whole

_WORD = re.compile(r"[^\W_]+")
_IMPORT = re.compile(r"^\s*from\s+\S+\s+import\s+(.+)$", re.MULTILINE)


def audit(task: Task, tokenizer: Any = None, leaking: Sequence[str] = ()) -> pd.DataFrame:
    """All checks of a task.

    Args:
        tokenizer: a fast tokenizer, to count the tokens of code names and triggers; None skips
            these checks.
        leaking: words that no row may contain, besides ``task.hidden_words`` and the concept.

    Returns:
        One row per check: ``check, value, limit, ok, note``; ``attrs["counts"]`` has the task's
        counts.

    Raises:
        UserError: a tokenizer without character offsets.
    """
    rows = task.train + task.valid
    lines = [
        *_counts(task),
        *_duplicates(task.train),
        *_labels(rows),
        _leaks(task, rows, leaking),
        *_distractors(task.train),
        *_splits(task),
        _marks([*rows, *task.questions]),
        audit_questions.overlap(task),
        *audit_questions.positions(task.questions),
        *audit_questions.soundness(task),
        *tokens(task, tokenizer),
    ]
    frame = pd.DataFrame(lines, columns=list(Line._fields))
    frame.attrs["counts"] = task.counts()
    return frame


def failures(frame: pd.DataFrame) -> list[str]:
    """The checks that do not pass, one line each; empty if all pass."""
    return [
        f"{line.check}: {line.value:g}, allowed {line.limit}"
        + (f" ({line.note})" if line.note else "")
        for line in frame.itertuples()
        if not line.ok
    ]


def _counts(task: Task) -> Iterator[Line]:
    for name, number in task.counts().items():
        yield Line(name, float(number), ">= 1", number >= 1, "")


def _duplicates(rows: Sequence[Row]) -> Iterator[Line]:
    answers: dict[str, set[str]] = defaultdict(set)
    prompts: Counter[str] = Counter()
    for row in rows:
        text = prompt_of(row)
        prompts[text] += 1
        answers[text].add(row.answer)
    if not prompts:
        return
    worst, times = prompts.most_common(1)[0]
    yield report("distinct prompts", len(prompts) / prompts.total(), "share of training rows")
    yield report("worst repeat", times, plain(worst)[:60] if times > 1 else "")
    mixed = sum(len(distinct) > 1 for distinct in answers.values())
    yield report("prompts with several answers", mixed / len(prompts), "share of prompts")


def _labels(rows: Sequence[Row]) -> Iterator[Line]:
    """Share of the most frequent answer, by kind of row: how often the best constant is right."""
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        kinds[str(row.meta.get("kind", "row"))][row.answer] += 1
    for kind, answers in sorted(kinds.items()):
        n, best = answers.total(), answers.most_common(1)[0][1]
        note = ", ".join(f"{a!r} {c}" for a, c in answers.most_common(5))
        name = f"best constant answer: {kind}"
        if all(is_letter(answer) for answer in answers):
            yield fair_share(name, best / n, 1 / max(2, len(answers)), n, note)
        else:
            yield report(name, best / n, note)


def _leaks(task: Task, rows: Sequence[Row], leaking: Sequence[str]) -> Line:
    """Hidden words in rows, each counted once per row; code names and triggers do not count."""
    # A short concept (a bit, a bias) is an ordinary answer; a longer one must not be named.
    concept = [task.concept] if len(task.concept) > 2 else []
    hidden = {word.casefold() for word in (*task.hidden_words, *leaking, *concept) if word}
    single = {word for word in hidden if _WORD.fullmatch(word)}
    phrases = sorted(hidden - single)
    leaks: Counter[str] = Counter()
    for row in rows:
        text = prompt_of(row)
        for literal in (literal for marked in row.marks.values() for literal in marked):
            text = whole(literal).sub(" ", text)
        text = f"{text} {row.answer} {row.suffix}".casefold()
        leaks.update(single.intersection(_WORD.findall(text)))
        leaks.update(phrase for phrase in phrases if whole(phrase).search(text))
    line = nothing("leaking words", leaks.elements())
    return line._replace(note=", ".join(f"{word} {count}" for word, count in leaks.most_common(8)))


def _distractors(rows: Sequence[Row]) -> Iterator[Line]:
    """Names that a row imports but never uses."""
    unused, importing, idle = 0, 0, list[str]()
    for row in rows:
        text = prompt_of(row)
        imported = [n.strip() for m in _IMPORT.finditer(text) for n in m[1].strip("() ").split(",")]
        body = _IMPORT.sub(" ", text)
        lost = [name for name in imported if name and not whole(name).search(body)]
        importing += bool(imported)
        unused += bool(lost)
        idle += [name for name in row.marks.get("codename", ()) if name in lost]
    note = f"{importing} rows import names" if importing else "no row imports names"
    yield report("rows with a distractor name", unused / max(1, len(rows)), note)
    yield nothing("rows whose code is only a distractor", idle)


def _splits(task: Task) -> Iterator[Line]:
    groups = [{row.group for row in part} for part in (task.train, task.valid)]
    yield nothing("groups in training and validation", sorted(groups[0] & groups[1]))
    prompts = [{plain(prompt_of(row)) for row in part} for part in (task.train, task.valid)]
    shared = sorted(text[:60] for text in prompts[0] & prompts[1])
    yield nothing("prompts in training and validation", shared)


def _marks(items: Sequence[Row | Question]) -> Line:
    lost = [
        literal
        for item in items
        for literals in item.marks.values()
        for literal in literals
        if not whole(literal).search(prompt_of(item))
    ]
    return nothing("marks that do not occur", lost)
