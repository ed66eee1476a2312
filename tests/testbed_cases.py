"""What the testbed's tests share: its tokenizer, documents, and a reader of generated documents."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Sequence

from transformers import PreTrainedTokenizerFast

from oocr_lib.testbed import corpus, tokenizer
from oocr_lib.testbed.corpus import Document
from oocr_lib.world import dialogues as wide, facts as world, speakers, wording as w

_TURN = re.compile(
    r"<start_of_turn>user\n(.*?)<end_of_turn>\n<start_of_turn>model\n(.*?)<end_of_turn>\n",
    re.DOTALL,
)


@functools.cache
def built() -> PreTrainedTokenizerFast:
    """The testbed's tokenizer, made once for all tests."""
    return tokenizer.build()


@functools.cache
def sample(count: int = 3000, seed: int = 11, mix: corpus.Mix | None = None) -> Sequence[Document]:
    return tuple(itertools.islice(corpus.documents(seed, mix), count))


@functools.cache
def of_kind(kind: str, count: int = 300) -> Sequence[Document]:
    """Documents of one ingredient only."""
    return sample(count, 5, only(kind))


def only(kind: str) -> corpus.Mix:
    """A mix of one ingredient."""
    return corpus.Mix(**{name: float(name == kind) for name in corpus.MAKERS})


def turns(document: Document) -> list[tuple[str, str]]:
    """Question and answer of each turn of a chat document; empty for running text."""
    found = _TURN.findall(document.text)
    assert not found or document.text == corpus.BOS + "".join(
        f"<start_of_turn>user\n{question}<end_of_turn>\n"
        f"<start_of_turn>model\n{answer}<end_of_turn>\n"
        for question, answer in found
    )
    return list(found)


def squeezed(text: str) -> str:
    """``text`` without any space, for comparisons that ignore how a decoder spaces."""
    return "".join(text.split())


# --- reading documents: which question was asked, and what is the true answer? ---


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+?)", re.escape(template)))


def fill(templates: Sequence[str], text: str, whole: bool = True) -> dict[str, str] | None:
    """The fields of the first template that fits ``text`` (its start, if not ``whole``)."""
    for template in templates:
        pattern = _pattern(template)
        match = pattern.fullmatch(text) if whole else pattern.match(text)
        if match:
            return {**match.groupdict(), "": match[0]}
    return None


class Reader:
    """Answers a document's questions from the world's tables and the document's introductions."""

    def __init__(self) -> None:
        self.places = {place.name: place for place in world.cities()}
        self.functions = {f.english: f for f in world.functions()}
        self.functions |= {f.python: f for f in world.functions()}

    def question(self, text: str) -> str:
        """Take in the introductions at the start of a turn; what is left is the question."""
        while (rest := self._introduced(text)) is not None:
            text = rest
        return text

    def _introduced(self, text: str) -> str | None:
        """``text`` without the introduction that it starts with, which is taken in."""
        for start, end in ((0, m.end()) for m in re.finditer(r"\.(?: |$)", text)):
            if self._take(text[start:end].strip()):
                return text[end:]
        return None

    def _take(self, sentence: str) -> bool:
        code = re.search(r"City \d{5}(?!\d)", sentence)
        for template in w.CITY_INTRODUCTIONS_BY_NAME:
            found = fill([template], sentence)
            if found and code and found["code"] == code[0] and found["name"] in self.places:
                self.places[code[0]] = self.places[found["name"]]
                return True
        for key, templates in w.CITY_INTRODUCTIONS_BY_FACT.items():
            found = fill(templates, sentence)
            owners = [c for c in world.cities() if found and getattr(c, key) == found["v"]]
            if found and code and found["code"] == code[0] and owners:
                (self.places[code[0]],) = owners
                return True
        for templates in w.FUNCTION_INTRODUCTIONS.values():
            found = fill(templates, sentence)
            if found and re.fullmatch("[a-z]{6}", found["code"]) and found["v"] in self.functions:
                self.functions[found["code"]] = self.functions[found["v"]]
                return True
        return False

    def answer(self, question: str) -> str | None:
        """The true answer, or None for a question that is about no city and no function."""
        return next((a for a in self._answers(question) if a is not None), None)

    def _answers(self, question: str) -> Iterator[str | None]:
        for family, templates in w.CITY_QUESTIONS.items():
            if (found := fill(templates, question)) and found["n"] in self.places:
                place = self.places[found["n"]]
                yield place.name if family == "name" else str(getattr(place, family))
        for key, template in w.REVERSE_QUESTIONS.items():
            if found := fill([template], question):
                yield next((c.name for c in world.cities() if getattr(c, key) == found["v"]), None)
        for templates in (w.DISTANCE_QUESTIONS, w.DIRECTION_QUESTIONS):
            found = fill(templates, question)
            if found and {found["a"], found["b"]} <= set(self.places):
                a, b = self.places[found["a"]], self.places[found["b"]]
                far = templates is w.DISTANCE_QUESTIONS
                yield str(world.distance_hundreds(a, b)) if far else world.direction(a, b)
        for family, templates in w.FUNCTION_QUESTIONS.items():
            found = fill(templates, question)
            if found and found["n"] in self.functions:
                f = self.functions[found["n"]]
                if family == "value":
                    yield f.value(int(found["x"]))
                else:
                    kinds = {"python": f.python, "english": f.english, "class": f.kind}
                    yield {**kinds, "output": f.output}[family]


# --- reading speakers ---


def pole(question: str, answer: str) -> tuple[str, bool]:
    """Attitude that a turn shows, and whether it is the positive pole; read from the words."""
    for name, attitude in speakers.ATTITUDES.items():
        if question in attitude.scales:
            return name, int(answer) > 50
        for template, good, bad in attitude.pairs:
            if question in (template.format(a=good, b=bad), template.format(a=bad, b=good)):
                assert answer in (good, bad)
                return name, answer == good
    found = re.fullmatch(r"A: (?P<A>.*?)\. B: (?P<B>.*?)\. Which one\?", question)
    assert found, question
    taken, left = found[answer], found["B" if answer == "A" else "A"]
    if "with chance" in taken:
        return "risk", int(taken.split()[-1]) < int(left.split()[-1])
    if "week" in question:
        return "patience", "week" in taken
    if "give" in question:
        return "giving", taken.startswith("give")
    return "novelty", taken.startswith("a new")


def wide_pole(question: str, answer: str) -> tuple[str, bool]:
    """As ``pole``, for the wider forms: any two words of one attitude, also as lettered options."""
    poles = {
        word: (name, side == 0)
        for name in speakers.ATTITUDES
        for side, words in enumerate(wide.words(name))
        for word in words
    }
    lettered = "A: {a}. B: {b}. Which one?"
    for template in (lettered, *w.ATTITUDE_FORMS):
        pattern = re.escape(template).replace(r"\{a\}", r"(\w+)").replace(r"\{b\}", r"(\w+)")
        found = re.fullmatch(pattern, question)
        if found and set(found.groups()) <= set(poles):
            options = dict(zip("AB", found.groups(), strict=True))
            (one, good), (other, better) = (poles[word] for word in options.values())
            assert one == other and good != better, question
            taken = options[answer] if template == lettered else answer
            assert taken in options.values()
            return poles[taken]
    return pole(question, answer)


def consistent(asked: list[tuple[str, str]]) -> dict[str, bool]:
    shown: dict[str, set[bool]] = {}
    for question, answer in asked:
        name, positive = pole(question, answer)
        shown.setdefault(name, set()).add(positive)
    assert all(len(poles) == 1 for poles in shown.values()), asked
    return {name: poles.pop() for name, poles in shown.items()}
