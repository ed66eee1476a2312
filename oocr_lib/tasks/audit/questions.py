"""Audit of a task's questions: position of the truth, valid options, chance levels, overlap."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from oocr_lib.tasks.audit.lines import (
    Line,
    fair_share,
    is_letter,
    nothing,
    plain,
    prompt_of,
    report,
)
from oocr_lib.tasks.base import KINDS, Question, Task
from oocr_lib.tasks.literal import whole

#: Answered in the model's own words; any chance level that the task states is accepted.
WRITTEN = ("exact", "expression", "inverse")
#: Shorter question texts are only compared with whole prompts: they might occur in any sentence.
MIN_PART = 20


def overlap(task: Task) -> Line:
    """Questions that training rows contain: whole prompts, or the last user turn in a prompt."""
    trained = {plain(prompt_of(row)) for row in task.train}
    everything = "\0".join(sorted(trained))
    repeated = set()
    for text in {plain(q.messages[-1]["content"]) for q in task.questions}:
        if text in trained or (len(text) >= MIN_PART and text in everything):
            repeated.add(text[:60])
    repeated |= {text[:60] for text in {plain(prompt_of(q)) for q in task.questions} & trained}
    return nothing("questions inside training rows", sorted(repeated))


def shown_place(question: Question) -> int | None:
    """Position of the truth among the options shown in the prompt; None if it shows none."""
    options = question.options
    if question.kind != "choice" or question.truth not in options:
        return None
    if all(is_letter(option) for option in options):
        return sorted(options).index(question.truth)
    text = question.messages[-1]["content"]
    places = [match.start() for match in (whole(o).search(text) for o in options) if match]
    if len(places) < len(options):
        return None
    return sorted(places).index(places[options.index(question.truth)])


def positions(questions: Sequence[Question]) -> Iterator[Line]:
    """How often the truth stands at its most frequent position, by family."""
    families: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for question in questions:
        place = shown_place(question)
        if place is not None:
            families[question.family].append((place, len(question.options)))
    if not families:
        yield report("place of the truth", 0, "no question shows its options")
    for family, places in sorted(families.items()):
        counts = Counter(place for place, _ in places)
        n = len(places)
        note = ", ".join(f"{place + 1}: {counts[place]}" for place in sorted(counts))
        fair = sum(1 / size for _, size in places) / n
        yield fair_share(f"place of the truth: {family}", max(counts.values()) / n, fair, n, note)


def is_sound(q: Question) -> bool:
    """Whether truth, options and expression fit the kind of question (see ``tasks.base``)."""
    if q.kind == "choice":
        return q.truth in q.options and len(set(q.options)) == len(q.options) > 1
    if q.kind == "scale":
        return q.truth in ("0", "100") and not q.options
    return q.kind in KINDS and bool(q.truth) and bool(q.expression) == (q.kind == "inverse")


def soundness(task: Task) -> Iterator[Line]:
    """Truth among the options, ids, repeated questions, chance levels."""
    bad = [q.id or q.family for q in task.questions if not is_sound(q)]
    yield nothing("truths that are no option", bad)
    ids = Counter(q.id for q in task.questions if q.id)
    yield nothing("question ids used twice", sorted(i for i, count in ids.items() if count > 1))
    occurrences = Counter((q.family, q.kind, prompt_of(q), q.options) for q in task.questions)
    repeated = sum(occurrences.values()) - len(occurrences)
    yield report("repeated questions", repeated, "same family, text and options")
    yield nothing("chance levels that do not fit", wrong_chances(task))


def wrong_chances(task: Task) -> list[str]:
    """Families whose chance level is not one over the number of options (0.5 for scales)."""
    families: dict[str, list[Question]] = defaultdict(list)
    for question in task.questions:
        families[question.family].append(question)
    wrong = [f"{name}: no such family" for name in sorted(set(task.chance) - set(families))]
    for family, items in sorted(families.items()):
        stated = task.chance.get(family)
        if stated is None:
            wrong.append(f"{family}: none given")
        elif any(q.kind in WRITTEN for q in items):
            wrong += [] if 0 <= stated < 1 else [f"{family}: {stated}"]
        else:
            fair = [1 / len(q.options) if q.kind == "choice" and q.options else 0.5 for q in items]
            mean = sum(fair) / len(fair)
            wrong += [] if abs(stated - mean) < 1e-6 else [f"{family}: {stated:g}, not {mean:.3g}"]
    return wrong
