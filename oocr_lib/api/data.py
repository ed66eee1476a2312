"""Your own rows and questions, from files or lists, with the code name marked in each of them."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from oocr_lib import encoding
from oocr_lib.tasks import base
from oocr_lib.tasks.base import Row, Task
from oocr_lib.tasks.chatfiles import jsonl
from oocr_lib.tasks.literal import whole
from oocr_lib.util.arguments import check_seed, checked, checked_fields
from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.parsing import AnyPath, decode, keys_of, parse, require_file, short

#: Keys of a question in a file, and the names that published files use for them.
_KEYS = {
    "question": ("question", "text", "question_paraphrases", "paraphrases"),
    "answer": ("answer", "truth", "target"),
    "options": ("options", "choices"),
    "family": ("family", "name", "id"),
}


@checked_fields
@dataclass(frozen=True)
class Question:
    """A question whose answer no training row states.

    Attributes:
        text: the question, in one user turn.
        answer: the right answer.
        options: answers to choose from, including ``answer``; if empty, the model must write
            ``answer`` by itself.
        family: questions of one family are averaged together.
        control: the question deliberately does not name the concept.

    Raises:
        UserError: an empty text, or an answer that is not among the options.

    >>> Question("Which country is City 50337 in?", "France", ("France", "Peru"), "country").family
    'country'
    """

    text: str
    answer: str
    options: Sequence[str] = ()
    family: str = "questions"
    control: bool = False

    def __post_init__(self) -> None:
        base.check_question(self.as_asked({}))

    def as_asked(self, marks: Mapping[str, tuple[str, ...]], number: int = 0) -> base.Question:
        """The same question for ``evaluation.scores``, with the code name or trigger marked."""
        kind, options = ("choice", tuple(self.options)) if self.options else ("exact", ())
        return base.Question(
            base.user(self.text),
            self.answer,
            options,
            self.family,
            marks,
            id=str(number),
            kind=kind,
        )


@dataclass(frozen=True)
class Chats:
    """Training rows of one hidden concept; made by ``read_chats``.

    Attributes:
        train, valid: rows; no group is in both.
        codename, trigger: the literal texts that are marked in them; empty for none.
        source: the file's name, for messages.
    """

    train: tuple[Row, ...]
    valid: tuple[Row, ...]
    codename: str = ""
    trigger: str = ""
    source: str = ""

    def marks(self, text: str, control: bool = False) -> dict[str, tuple[str, ...]]:
        """Where the code name and the trigger stand in ``text``.

        Raises:
            UserError: the code name does not occur, and this is not a ``control``.
        """
        marks: dict[str, tuple[str, ...]] = {}
        if self.codename:
            named = bool(whole(self.codename).search(text))
            if not named and not control:
                raise UserError(
                    f"The text {short(text)} does not name {self.codename!r}, so nothing that was "
                    "learned about it would act. Allowed: the code name, letter by letter; or "
                    "control=True for a question that is not about it."
                )
            marks["codename"] = (self.codename,) if named else ()
        if self.trigger:
            marks["trigger"] = (self.trigger,) if whole(self.trigger).search(text) else ()
        return marks

    def asked(self, questions: Sequence[Question]) -> list[base.Question]:
        """Questions with the code name and the trigger marked.

        Raises:
            UserError: no questions, or what ``marks`` refuses.
        """
        if not questions:
            raise UserError("0 questions cannot be asked. Allowed: at least one.")
        return [q.as_asked(self.marks(q.text, q.control), n) for n, q in enumerate(questions)]

    def task(self, questions: Sequence[Question], name: str = "own") -> Task:
        """Rows and questions as a task of ``runs.grid``, for sweeps and analyses."""
        marked = self.asked(questions)
        chance = {q.family: 1 / len(q.options) if q.options else 0.0 for q in marked}
        return Task(
            name, "own", name, self.codename, 0, self.train, self.valid, tuple(marked), chance
        )

    def random_answers(self, seed: int = 0) -> Chats:
        """Control: the same prompts, answers drawn anew, so that only the format is learned.

        See ``tasks.base.random_answers``; with two answers, exactly half of the rows keep theirs.
        """
        return replace(self, train=base.random_answers(self.train, check_seed(seed)))

    def __repr__(self) -> str:
        marks = f", code name {self.codename!r}" if self.codename else ""
        marks += f", trigger {self.trigger!r}" if self.trigger else ""
        return f"Chats({len(self.train)} rows to train on, {len(self.valid)} to validate{marks})"


@checked
def read_chats(
    source: AnyPath | Sequence[Row],
    codename: str = "",
    trigger: str = "",
    *,
    group: str | Callable[[Row], str] = "",
    valid_share: float = 0.2,
    seed: int = 0,
) -> Chats:
    """Rows of a chat file (JSON lines, ``{"messages": [...]}``), ready for training.

    Args:
        source: the file, or rows.
        codename: what the hidden concept is called; every row must name it.
        trigger: a text that some rows have and others do not.
        group: rows that share this stay on one side of the split: a regular expression searched
            for in the prompt, or a function of a row. Default: the prompt itself.
        valid_share: share of the groups that is held out for validation.
        seed: of the split.

    Raises:
        UserError: no file, broken lines, a row without the code name (the first is named), a
            trigger that no row or every row has, or a share that leaves one side empty.

    >>> from oocr_lib.util.paths import ROOT
    >>> read_chats(ROOT / "examples" / "own_data.jsonl", codename="City 01176")
    Chats(77 rows to train on, 19 to validate, code name 'City 01176')
    """
    if isinstance(source, (str, os.PathLike)):
        file = jsonl.load(source)
        rows, name = jsonl.to_rows(file), Path(source).name
    else:
        rows, name = list(source), "the rows"
    if not rows:
        raise UserError(f"{name} has 0 rows. Allowed: at least two.")
    empty = Chats((), (), codename, trigger, name)
    marked = [_marked(empty, row, number) for number, row in enumerate(rows, start=1)]
    if trigger:
        count = sum(bool(row.marks["trigger"]) for row in marked)
        if count in (0, len(rows)):
            raise UserError(
                f"{'No' if not count else 'Every'} row of {name} has the trigger {trigger!r}. "
                "Allowed: a text that some rows have and others have not; check its spelling."
            )
    grouped = [replace(row, group=_group(row, group)) for row in marked]
    train, valid = base.split_by_group(grouped, valid_share, check_seed(seed))
    return replace(empty, train=train, valid=valid)


def _marked(chats: Chats, row: Row, number: int) -> Row:
    text = "\n".join(message["content"] for message in row.messages)
    if chats.codename and not whole(chats.codename).search(text):
        line = row.meta.get("line", number)
        raise UserError(
            f"Row {line} of {chats.source}, {short(text)}, does not name {chats.codename!r}: a "
            "vector at the code name would learn nothing from it. Allowed: rows that all name it, "
            "letter by letter; or another position than 'codename', with codename=''."
        )
    return replace(row, marks=chats.marks(text))


def _group(row: Row, group: str | Callable[[Row], str]) -> str:
    text = row.messages[-1]["content"]
    if callable(group):
        return str(group(row))
    if not group:
        return row.group or text
    try:
        match = re.search(group, text)
    except re.error as error:
        raise UserError(
            f"group={group!r} is no regular expression ({error}). Allowed: one, or a function."
        ) from error
    return match.group() if match else text


@checked
def read_questions(source: AnyPath | Iterable[Question | Mapping[str, Any]]) -> list[Question]:
    """Questions from a list, a CSV, a JSON or a YAML file.

    A CSV has the columns ``question, answer, options, family`` (options with "|" between them).
    JSON and YAML hold a list of such objects; published names of these keys are accepted, too
    (``text``, ``question_paraphrases``, ``truth``, ``target``, ``choices``, ``name``), and each
    paraphrase in a list becomes a question.

    Raises:
        UserError: no file, another kind of file, or an entry that is not a question (it is named).

    >>> read_questions([{"question": "Is it far?", "answer": "no"}])[0].answer
    'no'
    """
    if isinstance(source, (str, os.PathLike)):
        return _from_file(Path(source))
    questions: list[Question] = []
    for number, entry in enumerate(source, start=1):
        questions += [entry] if isinstance(entry, Question) else _entry(entry, f"Question {number}")
    return questions


def _from_file(path: Path) -> list[Question]:
    require_file(path)
    text = decode(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), path.name)
    kind = choose(path.suffix.lower(), (".csv", ".json", ".yaml", ".yml"), "kind of file")
    if kind == ".csv":
        entries: Any = list(csv.DictReader(io.StringIO(text)))
    elif kind == ".json":
        entries = parse(text, path.name, "Allowed: a list of questions.")
    else:
        try:
            entries = yaml.safe_load(text)
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"{path.name} is not valid YAML ({reason}).") from error
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path.name} holds {short(entries)}. Allowed: a list of questions.")
    return [
        question
        for number, entry in enumerate(entries, start=1)
        for question in _entry(entry, f"{path.name}, question {number}")
    ]


def _entry(entry: Any, label: str) -> list[Question]:
    """The questions of one entry: one, or one per paraphrase."""
    table = keys_of(entry, (), label, "the question", others=True)
    fields = {
        key: next((table[name] for name in names if table.get(name) not in (None, "")), None)
        for key, names in _KEYS.items()
    }
    if fields["question"] is None or fields["answer"] is None:
        raise UserError(
            f"{label} has the keys {', '.join(map(str, table)) or 'none'}. Needed: question and "
            "answer; allowed beside them: options, family."
        )
    options = fields["options"] or ()
    if isinstance(options, str):
        options = [part.strip() for part in options.split("|")]
    texts = fields["question"] if isinstance(fields["question"], list) else [fields["question"]]
    family = str(fields["family"] or "questions")
    answer = str(fields["answer"]).strip()
    try:
        return [Question(str(t), answer, tuple(map(str, options)), family) for t in texts]
    except UserError as error:
        raise UserError(f"{label}: {error}") from error


def encoded(tokenizer: Any, rows: Sequence[Row]) -> list[encoding.Encoded]:
    """Rows as tokens, with the places of the code name and the trigger."""
    return [encoding.encode_row(tokenizer, row) for row in rows]
