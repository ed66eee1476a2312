"""Functions in the paper's dialect: interpreter chats about functions with meaningless names.

Rows are short programs that import such functions and print one value (paper, section 3.4). What a
function does is never said; questions ask for it. ``paper_rows`` generates and selects rows,
``paper_choices`` and ``paper_answers`` have the questions, and ``testbed`` is the same task in the
testbed's English.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from oocr_lib.tasks.base import Question, Row, Task
from oocr_lib.tasks.functions import paper_wording as w
from oocr_lib.tasks.functions.paper_answers import open_questions
from oocr_lib.tasks.functions.paper_choices import Subject, choice_questions
from oocr_lib.tasks.functions.paper_rows import (
    COUNT,
    functions,
    generate,
    held_out_inputs,
    key_of,
    names,
    rows_of,
    split_by_input,
)
from oocr_lib.tasks.functions.testbed import NAME
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError

__all__ = ["COUNT", "FAMILIES", "generate", "make", "questions", "rows_of", "split_by_input"]

#: Question family to what is new in it compared with the rows.
FAMILIES = {
    "python": "reflection",
    "language": "reflection",
    "class": "reflection",
    "output": "reflection",
    "coefficients": "reflection",
    "reversal": "reflection",
    "written": "reflection",
    "inverse": "task",
    "inverse_far": "task and input",
    "far_input": "input",
    "unseen_input": "input",
    "integer_in_range": "combination",
    "two_in_range": "combination",
    "composition_in_range": "combination",
}


@lru_cache(maxsize=1)
def _generated(seed: int, count: int) -> tuple[Row, ...]:
    """The rows of one seed, cached because a sweep asks for them once for each function."""
    return tuple(generate(seed, count))


def questions(
    key_or_name: str,
    *,
    seed: int = 0,
    items_per_family: int = 25,
    held: tuple[int, ...] = (),
    partners: bool = False,
) -> list[Question]:
    """All questions about one function.

    Items per family, for ``items_per_family`` = 25: 25 (always whole rotations, so rounded up to a
    multiple of five) for ``python``, ``language``, ``class``, ``coefficients`` and ``reversal``;
    ``output`` has all six orders of its three options in each of two wordings, 12; ``written`` has
    one item per wording, 3; the others have 25, or as many as there are different values
    (``inverse``, ``inverse_far``), held-out inputs (``unseen_input``) or programs.

    ``coefficients`` exists for the eight functions with numbers to change (affine, times, plus,
    minus), the three ``*_in_range`` families for the nine functions that rows only call alone and
    that do not return bool: their inputs lie within those of training, only the combination is new.
    ``reversal`` shows one trained name beside four others: in a run that learned a single name, a
    model could choose it for its familiarity alone.

    Raises:
        UserError: an unknown function, or a number of items that is not a positive integer.
    """
    if not isinstance(items_per_family, int) or items_per_family < 1:
        raise UserError(f"{items_per_family!r} items per family. Allowed: 1 or more; 25 is usual.")
    key, code = key_of(key_or_name, seed), {key: name for name, key in names(seed).items()}
    subject = Subject(key, code, seed, items_per_family, held, partners)
    all_questions = [*choice_questions(subject), *open_questions(subject)]
    counts = dict.fromkeys(FAMILIES, 0)
    for place, question in enumerate(all_questions):
        all_questions[place] = replace(question, id=f"{question.family}-{counts[question.family]}")
        counts[question.family] += 1
    return all_questions


@checked
def make(
    key_or_name: str,
    *,
    seed: int = 0,
    count: int = COUNT,
    partners: bool = False,
    valid_share: float = 0.1,
    items_per_family: int = 25,
) -> Task:
    """The task of one hidden function, by key ("affine_3x_2") or code name ("noadgc").

    Seed 0 has the published names; other seeds draw theirs from the reserved list. Rows are those
    of ``generate(seed, count)`` that call the function: 5,000 of 96,000 for the eight that are
    combined (with ``partners`` 12,000), 2,500 for the others. Validation rows are at held-out
    inputs, see ``split_by_input``. Chance is 0 for families without options.

    Raises:
        UserError: an unknown function, or a seed, share or count that leaves no rows.
    """
    key = key_of(key_or_name, seed)
    held = held_out_inputs(valid_share, seed)
    code = next(name for name, k in names(seed).items() if k == key)
    train, valid = split_by_input(rows_of(_generated(seed, count), code, partners), held)
    if not train or not valid:
        raise UserError(
            f"{count} rows leave {len(train)} to train and {len(valid)} to validate for {key}. "
            f"Allowed: enough for one of each; upstream has {COUNT}."
        )
    all_questions = questions(
        key, seed=seed, items_per_family=items_per_family, held=held, partners=partners
    )
    chance = {q.family: 1 / len(q.options) if q.options else 0.0 for q in all_questions}
    # "x" and "-x" give nothing away, because programs have variables of that name, too.
    python = functions()[key].python
    hidden = (key, w.LANGUAGE[key], *((python,) if len(python) > 2 else ()))
    return Task(NAME, "paper", key, code, seed, train, valid, tuple(all_questions), chance, hidden)
