"""Does a model know enough for a task? Asked before anything is trained.

Out-of-context reasoning cannot appear where the model lacks the knowledge for it. The base model is
asked three things, each compared with the same questions with the code name alone:

- ``rows``: does the model believe what the rows say? They are asked with the real name in place of
  the code name, as a choice among the answers of other rows of their kind.
- ``name``: can it answer the questions with the real name in place of the code name?
- ``told``: can it answer them with the code name when the concept is stated first?

Where it cannot answer even then, a missing effect says nothing about out-of-context reasoning. Not
in the paper, whose models are large; readers ask why the effect is missing in small ones.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from oocr_lib.evaluation.scores import score
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.runs.executors import Executors
from oocr_lib.runs.study import Study
from oocr_lib.tasks import statements
from oocr_lib.tasks.base import Message, Question, Row, Task
from oocr_lib.tasks.literal import whole
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.progress import bar
from oocr_lib.util.statistics import bootstrap, verdict

#: How the hidden concept is given; ``code`` gives nothing away and must be at chance.
GIVEN = ("code", "told", "name")
#: What is asked: the task's questions, and its training rows.
PARTS = ("questions", "rows")
#: At most: options of a row that is asked as a choice; rows and questions per task.
OPTIONS, ROWS, QUESTIONS = 5, 30, 60
#: How close to chance counts as chance.
NEAR = 0.1
#: Verdicts on a family.
EXPECTED, NOT_EXPECTED, OPEN = "can be expected", "not to be expected", "undecided"
#: Tasks whose concept has a name that can stand in for the code name.
_NAMED = ("locations",)


@checked
def questions(task: Task, given: str, most: int = QUESTIONS) -> list[Question]:
    """The task's choices with the concept given in one of the ways of ``GIVEN``.

    Args:
        most: upper limit, taken evenly from all families.

    Returns:
        Empty where the way does not fit: a policy has no name, a definition cannot replace a code
        name in a program.
    """
    choices = _evenly([q for q in task.questions if q.kind == "choice"], most)
    if given == "name":
        return [_renamed(task, q) for q in choices] if task.name in _NAMED else []
    if given == "told":
        return [replace(q, messages=_told(task, k, q.messages)) for k, q in enumerate(choices)]
    return choices


@checked
def row_questions(task: Task, given: str, most: int = ROWS) -> list[Question]:
    """Training rows as choices among the answers of their kind, in one of the ways of ``GIVEN``.

    The family is ``row: kind``. Up to five options: answers of other rows of the kind and, where a
    concept has only one answer, those of the other concepts (``meta["answers"]``).
    """
    kinds: dict[str, list[str]] = {}
    for row in task.train:
        kinds.setdefault(str(row.meta.get("kind", "row")), []).append(row.answer)
    rng, choices = random.Random(f"knowledge {task.seed}"), list[Question]()
    for number, row in enumerate(_evenly(list(task.train), most)):
        kind = str(row.meta.get("kind", "row"))
        others = sorted({*kinds[kind], *row.meta.get("answers", ())} - {row.answer})
        if not others:
            continue  # a kind with one answer cannot be asked as a choice
        options = sorted([row.answer, *rng.sample(others, min(OPTIONS - 1, len(others)))])
        choice = _as_choice(row, options, f"row: {kind}", f"row-{number}")
        choices += _given(task, choice, given, number)
    return choices


def _as_choice(row: Row, options: Sequence[str], family: str, name: str) -> Question:
    return Question(
        row.messages,
        truth=row.answer,
        options=tuple(options),
        family=family,
        marks=row.marks,
        group=row.group,
        id=name,
        prefix=row.prefix,
    )


def _given(task: Task, question: Question, given: str, number: int) -> list[Question]:
    if given == "name":
        return [_renamed(task, question)] if task.name in _NAMED else []
    if given == "told":
        return [replace(question, messages=_told(task, number, question.messages))]
    return [question]


def _evenly(items: list[Question] | list[Row], most: int) -> list:  # type: ignore[type-arg]
    if most < 1:
        raise UserError(f"most={most!r}. Allowed: 1 or more.")
    if len(items) <= most:
        return items
    return [items[round(k * (len(items) - 1) / max(1, most - 1))] for k in range(most)]


def _renamed(task: Task, question: Question) -> Question:
    """The question with the real name in place of the code name."""
    name = statements.real_name(task.name, task.dialect, task.concept)
    pattern = whole(task.code)

    def put(text: str) -> str:
        return pattern.sub(lambda _: name, text)

    messages = tuple(_message(m, put(m["content"])) for m in question.messages)
    return replace(question, messages=messages, prefix=put(question.prefix), marks={})


def _told(task: Task, number: int, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The prompt preceded by a statement of the concept."""
    if task.name in ("risk", "backdoor"):
        return statements.stated(task, task.concept, number, messages)
    name = statements.real_name(task.name, task.dialect, task.concept)
    last = messages[-1]
    return (*messages[:-1], _message(last, f"{task.code} is {name}. {last['content']}"))


def _message(message: Message, content: str) -> Message:
    return {"role": message["role"], "content": content}


@checked
def ask(
    lm: LanguageModel,
    tasks: Sequence[Task],
    most: int = QUESTIONS,
    parts: Sequence[str] = PARTS,
) -> pd.DataFrame:
    """Ask the base model everything, with the concept given in every way that fits.

    Args:
        tasks: one per concept and seed.
        most: upper limit of questions, and of rows, per task.
        parts: which of ``PARTS`` to ask.

    Returns:
        One row per task, way and family: ``concept, seed, run, part`` (rows, questions), ``given,
        family, mc`` (share right; of rows: among the answers of their kind), ``chance, n``.
    """
    for part in parts:
        choose(part, PARTS, "part")
    rows, executor = [], Executors(lm).alone()
    for task in bar(tasks, "asking the base model"):
        for given in GIVEN:
            for part in parts:
                make, limit = (questions, most) if part == "questions" else (row_questions, ROWS)
                choices = make(task, given, min(most, limit))
                if not choices:
                    continue
                table = score(lm, choices, executor=executor)
                table["chance"] = [1 / len(q.options) for q in choices]
                for family, answers in table.groupby("family", sort=False):
                    rows.append(
                        {
                            **{"task": task.name, "concept": task.concept, "seed": task.seed},
                            **{"run": f"{task.concept} {task.seed}", "part": part},
                            **{"given": given, "family": family, "mc": float(answers["mc"].mean())},
                            **{"chance": float(answers["chance"].mean()), "n": len(answers)},
                        }
                    )
    if not rows:
        raise UserError("These tasks have no questions to choose from. Allowed: any with options.")
    return pd.DataFrame(rows)


@checked
def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """For every family, whether the effect can be expected in this model at all.

    It can where the model, given the real name or told the concept, answers better than chance and
    better than with the code name alone (the whole 95 % intervals over concepts). It is not to be
    expected where each of these lies within ``NEAR`` of chance or of the code name alone, so that
    knowing the concept adds nothing. A family of rows is read the same way: whether the rows can
    teach this model anything.

    Args:
        table: from ``ask``.

    Returns:
        One row per part and family: ``part, family, chance``, one column per way with its interval
        as text, ``verdict``.
    """
    rows = []
    for (part, family), answers in table.groupby(["part", "family"], sort=False):
        chance = float(answers["chance"].mean())
        intervals: dict[str, str] = {}
        can, cannot = [], []
        alone = answers[answers["given"] == "code"].set_index("run")["mc"]
        for given, of_way in answers.groupby("given", sort=False):
            groups = list(of_way["concept"])
            measured = bootstrap(of_way["mc"], groups=groups)
            intervals[str(given)] = str(measured)
            if given == "code":
                continue
            gained = bootstrap(of_way["mc"] - alone[of_way["run"]].to_numpy(), groups=groups)
            above, more = verdict(measured, f"> {chance:.6f}"), verdict(gained, "> 0")
            can.append(above == more == "holds")
            at_chance = verdict(measured, f"near {chance:.6f} by {NEAR}")
            cannot.append("holds" in (at_chance, verdict(gained, f"near 0 by {NEAR}")))
        word = EXPECTED if any(can) else NOT_EXPECTED if all(cannot) else OPEN
        labels = {"part": part, "family": family, "chance": chance}
        rows.append({**labels, **intervals, "verdict": word})
    return pd.DataFrame(rows).fillna("")


@checked
def report(study: Study, most: int = 12) -> pd.DataFrame | None:
    """Print the verdicts for a study on another model than the testbed, before it trains anything.

    Args:
        most: questions, and rows, per run; the first run of each of up to five concepts is asked.

    Returns:
        The table of ``verdicts``; None on the testbed, whose knowledge is shown in notebook 01.
    """
    grid = study.grid
    if grid.lm.dialect == "testbed":
        return None
    first: dict[str, int] = {}
    for concept, seed in study.pairs:
        first.setdefault(concept, seed)
    table = verdicts(ask(grid.lm, [grid.task(*pair).task for pair in [*first.items()][:5]], most))
    print(f"Does {grid.lm.name} know enough? Share right, by how the concept is given")
    print(table.to_string(index=False))
    return table
