"""Functions: a definition behind a code name, hinted at by single values (paper, section 3.4).

Rows give f(x) for inputs from -12 to 12. Questions ask for what no row says: the definition in
words and in Python (by multiple choice, among all definitions, and written freely), the class, and
the output type. The split is by input, so validation rows have values at unseen inputs. This is the
testbed dialect; ``functions.paper`` has the interpreter chats of the published suite.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from oocr_lib.tasks.base import Question, Row, Task, split_by_group, user
from oocr_lib.util.arguments import checked
from oocr_lib.util.doubles import no_doubles
from oocr_lib.util.errors import UserError, choose
from oocr_lib.world import facts as world, wording as w

NAME = "functions"
OPTIONS = 5
#: Asked with five options (three for the output type, which has only three).
FAMILIES = ("python", "english", "class", "output")


def keys() -> tuple[str, ...]:
    """Keys of the paper's 19 functions, in file order."""
    return tuple(f.key for f in world.functions() if f.in_paper)


def check_hidden(hidden: Sequence[str]) -> tuple[str, ...]:
    """Check the list of hidden functions and return it.

    Raises:
        UserError: an empty list, a repeated function, or one that is not in the table.
    """
    if not no_doubles(hidden, "hidden function"):
        raise UserError(
            "The list of hidden functions is empty. Allowed: one or more keys of "
            "data/world/functions.csv."
        )
    return tuple(function(key).key for key in hidden)


def function(key: str) -> world.Function:
    """The function with that key.

    Raises:
        UserError: an unknown key.
    """
    by_key = {f.key: f for f in world.functions()}
    return by_key[choose(key, by_key, "function")]


def code_name(key: str, seed: int) -> str:
    """The code name of a function: the published one for seed 0, a reserved one otherwise.

    Raises:
        UserError: a seed that is not a whole number from 0.
    """
    functions = [f.key for f in world.functions()]
    published = {value: name for name, value in world.paper_function_names().items()}
    if seed == 0 and key in published:
        return published[key]
    spare = [n for n in world.reserved_function_names() if n not in published.values()]
    if not isinstance(seed, int) or seed < 0:
        raise UserError(f"Seed {seed!r} has no function names. Allowed: whole numbers from 0.")
    return random.Random(f"names {seed}").sample(spare, len(functions))[functions.index(key)]


def rows(f: world.Function, code: str) -> list[Row]:
    """All rows with values: inputs x wordings."""
    return [
        Row(
            user(template.format(n=code, x=x)),
            f.value(x),
            {"codename": (code,)},
            group=str(x),
            meta={"kind": "value", "x": x, "template": number},
        )
        for x in w.FUNCTION_INPUTS
        for number, template in enumerate(w.FUNCTION_QUESTIONS["value"])
    ]


def answer(f: world.Function, family: str) -> str:
    """The true answer of a question family."""
    return {"python": f.python, "english": f.english, "class": f.kind, "output": f.output}[family]


def options(f: world.Function, family: str, panel: Sequence[str], seed: int) -> tuple[str, ...]:
    """Different answers of a family: the true one, then the panel's, then seeded others; sorted."""
    others = [function(key) for key in panel if key != f.key]
    spare = [g for g in world.functions() if g not in others and g != f]
    random.Random(f"{seed} {f.key} {family}").shuffle(spare)
    answers = [answer(f, family)]
    for g in [*others, *spare]:
        if len(answers) < OPTIONS and answer(g, family) not in answers:
            answers.append(answer(g, family))
    return tuple(sorted(answers))


def questions(f: world.Function, code: str, panel: Sequence[str], seed: int) -> list[Question]:
    """Two wordings per family; definitions are also asked among all, and to be written freely."""
    items = []
    marks = {"codename": (code,)}
    for family in FAMILIES:
        all_answers = tuple(sorted({answer(g, family) for g in world.functions()}))
        for number, template in enumerate(w.FUNCTION_QUESTIONS[family]):
            prompt, truth = user(template.format(n=code)), answer(f, family)
            name = f"{family}-{number}"
            choices = options(f, family, panel, seed)
            items.append(Question(prompt, truth, choices, family, marks, f.key, name))
            if family in ("python", "english"):
                items.append(
                    Question(
                        prompt, truth, all_answers, f"{family} of all", marks, f.key, f"all-{name}"
                    )
                )
            if family == "python":
                items.append(
                    Question(prompt, truth, (), "written", marks, f.key, f"w-{name}", "expression")
                )
    return items


def unseen(rows: Sequence[Row]) -> list[Question]:
    """The held-out values as questions, answered by greedy decoding."""
    return [
        Question(r.messages, r.answer, (), "unseen input", r.marks, r.group, f"{i}", kind="exact")
        for i, r in enumerate(rows)
    ]


def panel_of(key: str, every: Sequence[str]) -> tuple[str, ...]:
    """The group of five that ``key`` belongs to in the list of hidden functions."""
    start = list(every).index(key) // OPTIONS * OPTIONS
    return tuple(every[start : start + OPTIONS])


@checked
def make(
    hidden: str, *, seed: int = 0, all_hidden: Sequence[str] = (), valid_share: float = 0.2
) -> Task:
    """The task of one hidden function.

    Args:
        hidden: a key of data/world/functions.csv, for instance ``affine_3x_2``.
        all_hidden: the list it belongs to; by default the paper's 19.

    Raises:
        UserError: an unknown or repeated function, or one that is not in ``all_hidden``.
    """
    hidden_keys = check_hidden(all_hidden) if all_hidden else keys()
    f = function(choose(hidden, hidden_keys, "hidden function"))
    code = code_name(f.key, seed)
    train, valid = split_by_group(rows(f, code), valid_share, seed)
    items = [*questions(f, code, panel_of(hidden, hidden_keys), seed), *unseen(valid)]
    chance = {q.family: 1 / len(q.options) if q.options else 0.0 for q in items}
    hidden_words = (f.english,) if len(f.english) > 1 else ()
    return Task(
        NAME, "testbed", hidden, code, seed, train, valid, tuple(items), chance, hidden_words
    )
