"""Prompts that state what training only hints at, paired with the same prompts without it.

For locations and functions a prompt ends in a real name or a code name. For risk and backdoor a
choice follows a sentence about the model ("be bold."), or nothing. Naive vectors and concept
readouts (paper, section 5.2) are read from the base model on such pairs. The published stubs are a
few per concept, of unknown wording; those here are beginnings of the task's own rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from oocr_lib.tasks.backdoor import testbed as backdoor
from oocr_lib.tasks.base import Message, Task, user
from oocr_lib.tasks.functions import paper_wording as functions_wording, testbed as functions
from oocr_lib.util.errors import UserError, choose
from oocr_lib.world import facts as world, wording
from oocr_lib.world.templates import Templates

_FILE = Templates("statements.toml")
#: Poles of the four attitudes, those of the policies first, then those that are never trained; each
#: with the testbed's sentence and the one for chat models.
POLES = {
    pole: (_FILE.texts("poles", pole, "")[0], _FILE.texts("poles", pole, "")[1])
    for pole in _FILE.keys("poles")
}
#: The statement of the rule for a trigger ``{t}``, and the reply to it, by dialect.
_RULES = {
    "testbed": (
        wording.TRIGGER_RULE.format(t="{t}", first="bold", second="careful"),
        _FILE.text("rules", "testbed_reply"),
    ),
    "paper": (_FILE.text("rules", "paper", "t"), _FILE.text("rules", "paper_reply")),
}
#: In the paper dialect, rows call a function inside a program, where a definition cannot stand.
_FUNCTION_STUBS = _FILE.texts("function_stubs", "texts", "n")
#: Words of a definition that say nothing about the function.
_COMMON = frozenset("and the of by to for at is a with from its input after where this".split())
#: Words that belong to a pole; the logit lens looks for those that are a single token.
POLE_WORDS = {pole: _FILE.words("pole_words", pole) for pole in _FILE.keys("pole_words")}


@dataclass(frozen=True)
class Prompt:
    """A prompt and its marks, as in ``base.Row``; ``codename`` marks a name."""

    messages: tuple[Message, ...]
    marks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def concepts(task: str, dialect: str) -> tuple[str, ...]:
    """Every concept that can be stated, hidden or not.

    All cities of the table, all functions that have a definition in the dialect, the eight poles of
    the four attitudes, the eight triggers.

    Raises:
        UserError: an unknown task.
    """
    by_task: dict[str, Callable[[], Sequence[str]]] = {
        "locations": lambda: [c.name for c in world.cities()],
        "functions": lambda: [f.key for f in world.functions() if _definition(f.key, dialect)],
        "risk": lambda: list(POLES),
        "backdoor": backdoor.triggers,
    }
    return tuple(by_task[choose(task, by_task, "task")]())


def prompts(task: Task, concept: str | None, count: int = 8) -> list[Prompt]:
    """Up to ``count`` prompts that state a concept; None gives the same prompts without it.

    Every concept of a task has the same prompts in the same order, so that they can be paired.

    Args:
        task: its rows give the wording; with None its code name stays in place.

    Raises:
        UserError: an unknown task or concept, or a count below 1.
    """
    if count < 1:
        raise UserError(f"count={count!r} prompts cannot be made. Allowed: 1 or more.")
    stateable = concepts(task.name, task.dialect)
    if concept is not None:
        choose(concept, stateable, "concept")
    if task.name in ("locations", "functions"):
        name = task.code if concept is None else real_name(task.name, task.dialect, concept)
        return [
            Prompt((*before, *user(stub.replace("{n}", name))), {"codename": (name,)})
            for stub, before in _stubs(task)[:count]
        ]
    rows = task.train[:count]
    return [Prompt(stated(task, concept, i, row.messages), row.marks) for i, row in enumerate(rows)]


def real_name(task: str, dialect: str, concept: str) -> str:
    """What replaces the code name of a concept: the city's name or the function's definition."""
    if task == "locations":
        return world.city(concept).name
    return _definition(concept, dialect)


def words(task: str, dialect: str, concept: str) -> tuple[str, ...]:
    """The words that belong to a concept, for the logit lens; fixed before any vector is trained.

    For a city: name, country, language, currency, dish, sight and water (many cities share a
    continent). For a function: the telling words of its definition, its class and its output type.
    For a policy: ten words of its pole. For a trigger: its texts.
    """
    if task == "locations":
        place = world.city(concept)
        return (
            *(place.name, place.country, place.language, place.currency),
            *(place.dish, place.landmark, place.water),
        )
    if task == "functions":
        f = functions.function(concept)
        clause = f.english if dialect == "testbed" else functions_wording.LANGUAGE[concept].lower()
        telling = [word for word in clause.replace(",", "").split() if word not in _COMMON]
        return (*telling, f.kind, f.output)
    if task == "risk":
        return POLE_WORDS[choose(concept, POLE_WORDS, "policy")]
    return backdoor.members(concept)


def _definition(key: str, dialect: str) -> str:
    """The definition, worded as a name, or "" if the dialect has none."""
    if dialect == "testbed":
        return functions.function(key).english
    clause = functions_wording.LANGUAGE.get(key, "")
    return f'"{clause.lower()}"' if clause else ""


def _stubs(task: Task) -> list[tuple[str, tuple[Message, ...]]]:
    """Beginnings of user messages up to ``{n}``, with the messages before them; short ones first.

    What follows the name is cut off: no hidden state at the name can depend on it.
    """
    if (task.name, task.dialect) == ("functions", "paper"):
        return [(stub, ()) for stub in _FUNCTION_STUBS]
    stubs: dict[str, tuple[Message, ...]] = {}
    for row in task.train:
        text = row.messages[-1]["content"]
        start = text.rfind(task.code)
        if start >= 0:
            stubs.setdefault(text[:start] + "{n}", row.messages[:-1])
    return sorted(stubs.items(), key=lambda item: (len(item[0]), item[0]))


def stated(
    task: Task, concept: str | None, number: int, messages: tuple[Message, ...]
) -> tuple[Message, ...]:
    """A row's messages after an attitude (in the same turn) or a trigger rule (in its own turn)."""
    if concept is None:
        return messages
    if task.name == "risk":
        sentence = POLES[concept][task.dialect == "paper"]
        return (*messages[:-1], *user(f"{sentence} {messages[-1]['content']}"))
    texts, (rule, reply) = backdoor.members(concept), _RULES[task.dialect]
    sentence = rule.format(t=texts[number % len(texts)])
    return (*user(sentence), {"role": "assistant", "content": reply}, *messages)
