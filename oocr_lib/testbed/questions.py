"""Which questions the testbed understands; answers to any others are meaningless."""

from __future__ import annotations

import re
from functools import cache

from oocr_lib.models.language_model import LanguageModel
from oocr_lib.world import facts as world, speakers, wording as w

#: Code names of functions have six letters, those of cities five digits.
_INTRODUCED = re.compile(r"\b([a-z]{6}) (?:is|means) ")
_CITY_CODE = r"City \d{5}"


def kinds(name: str, other: str = "Rome") -> dict[str, str]:
    """The kinds of questions about a city, each in one of its wordings, about ``name``.

    Args:
        name: a city, or a code name that stands for one.
        other: the city from which distances and directions are asked.
    """
    wordings = {family: forms[0].format(n=name) for family, forms in w.CITY_QUESTIONS.items()}
    distance, direction = w.DISTANCE_QUESTIONS[0], w.DIRECTION_QUESTIONS[0]
    pair = {"a": name, "b": other}
    return {**wordings, "distance": distance.format(**pair), "direction": direction.format(**pair)}


def doubt(lm: LanguageModel, question: str, codename: str = "") -> str:
    """Why the answer to a question would be meaningless, in one line; empty if it would not be.

    Args:
        codename: the name at which an adapter acts; it must occur in the question.
    """
    if codename and codename not in question:
        return f"no answer: {codename!r} does not occur in it, and the vector sits there alone"
    if lm.dialect != "testbed":
        return ""
    vocabulary = {*_known_words(), *lm.tokenizer.get_vocab(), *_INTRODUCED.findall(question)}
    words = re.findall(r"[^\W\d_]+", question.replace(codename, " ") if codename else question)
    if unknown := [word for word in dict.fromkeys(words) if word not in vocabulary]:
        quoted = ", ".join(repr(word) for word in unknown)
        return f"no answer: the model's {lm.vocab_size:,} tokens do not hold the word {quoted}"
    if not _forms().search(question.strip()):
        return "no answer: the model was never asked in this form; copy one that is listed"
    return ""


def _known_words() -> set[str]:
    """The words of city names, which the tokenizer splits into pieces."""
    return {word for city in world.cities() for word in re.findall(r"[^\W\d_]+", city.name)}


@cache
def _forms() -> re.Pattern[str]:
    """Every form of question, at the end of a text that may first introduce code names."""
    names = "|".join([_CITY_CODE, *(re.escape(city.name) for city in world.cities())])
    city = dict.fromkeys("nab", f"(?:{names})")
    forms = [form for group in w.CITY_QUESTIONS.values() for form in group]
    forms += [*w.DISTANCE_QUESTIONS, *w.DIRECTION_QUESTIONS, *w.REVERSE_QUESTIONS.values()]
    patterns = [_pattern(form, {**city, "v": r"[^.?]+"}) for form in forms]
    function = {"n": r"[^.?]+", "x": r"-?\d+"}
    patterns += [
        _pattern(form, function) for group in w.FUNCTION_QUESTIONS.values() for form in group
    ]
    for attitude in speakers.ATTITUDES.values():
        patterns += [_pattern(scale, {}) for scale in attitude.scales]
        for form, *pair in attitude.pairs:
            patterns += [_pattern(form, {"a": a, "b": b}) for a, b in (pair, reversed(pair))]
    return re.compile(rf"(?:^|\. )(?:{'|'.join(patterns)})$")


def _pattern(form: str, slots: dict[str, str]) -> str:
    """A template as a regular expression, with ``slots`` in place of the names in braces."""
    pieces = re.split(r"\{(\w)\}", form)
    return "".join(slots[part] if i % 2 else re.escape(part) for i, part in enumerate(pieces))
