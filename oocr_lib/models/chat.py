"""Chat turns to text, by the tokenizer's own template, and where each turn's words stand in it.

The rules that decide the result are (``chat_template`` has those about headers):

- Consecutive user turns are joined by a newline unless told otherwise.
- A system text goes in front of the first user turn, after a blank line, where the template has no
  system role (as in the paper's training rows).
- Every word of every turn must come out. A template that wants a list of parts instead of text gets
  one; a template that drops or rewrites words is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oocr_lib.models.chat_template import (
    DATE,
    apply,
    around,
    closed_thoughts,
    missing_header,
    told_date,
    wrote_a_list,
)
from oocr_lib.tasks.base import Message
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose, short

_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Rendered:
    """A prompt as text.

    Attributes:
        text: the turns and the header of the answer's turn.
        contents: half-open character range of every turn's words, in order. Consecutive user turns
            are one, and so are a system text and the user turn that it was put in front of.
    """

    text: str
    contents: tuple[tuple[int, int], ...]


@checked
def render(tokenizer: Any, messages: Sequence[Message], separator: str = "\n") -> str:
    """The prompt as text; see ``rendered``."""
    return rendered(tokenizer, messages, separator).text


@checked
def rendered(tokenizer: Any, messages: Sequence[Message], separator: str = "\n") -> Rendered:
    """The prompt as text: chat turns and the header of the answer's turn.

    Consecutive user turns are joined by ``separator``. A template without a system role gets the
    system text at the start of the first user turn, with a blank line between. Without a chat
    template the turns are joined by newlines and end in one.

    Raises:
        UserError: no messages, an unknown role, a last turn that is not the user's, or a template
            that refuses the turns or does not write all their words.
    """
    turns = _join_user_turns(messages, separator)
    if not tokenizer.chat_template:
        return _plain(tokenizer, turns)
    variants = [turns]
    if turns[0]["role"] == "system":
        variants.append(_merge_system(turns))
    problem: UserError | None = None
    for variant in variants:
        for parts in (False, True):
            try:
                return _by_template(tokenizer, variant, parts)
            except UserError as error:
                problem = problem if parts and problem else error
    assert problem is not None
    raise problem


def _plain(tokenizer: Any, turns: Sequence[Message]) -> Rendered:
    start = tokenizer.bos_token or ""
    # Write the start token only where the tokenizer itself would put it.
    with_start = tokenizer("", add_special_tokens=True)["input_ids"][:1]
    text = start if with_start and with_start[0] == tokenizer.bos_token_id else ""
    contents = []
    for turn in turns:
        contents.append((len(text), len(text) + len(turn["content"])))
        text += turn["content"] + "\n"
    return Rendered(text, tuple(contents))


def _join_user_turns(messages: Sequence[Message], separator: str) -> list[Message]:
    turns: list[Message] = []
    for number, message in enumerate(messages):
        role = choose(_checked(message, number)["role"], _ROLES, "role")
        if role == "system" and number > 0:
            raise UserError(
                f"Message {number} is a system turn. Allowed: one system turn, in first place."
            )
        if role == "user" and turns and turns[-1]["role"] == "user":
            joined = turns[-1]["content"] + separator + message["content"]
            turns[-1] = {"role": "user", "content": joined}
        else:
            turns.append({"role": role, "content": message["content"]})
    if not turns or turns[-1]["role"] != "user":
        last = turns[-1]["role"] if turns else "missing"
        raise UserError(
            f"The last turn of a prompt is {last!r}. Allowed: 'user'; the answer is given apart."
        )
    return turns


def _checked(message: Message, number: int) -> Message:
    """Check a message by hand, because messages come from files and notebooks, too."""
    has_role = isinstance(message, Mapping) and "role" in message
    if not has_role or not isinstance(message.get("content"), str):
        raise UserError(
            f"Message {number} is {short(message)}. Allowed: "
            "{'role': 'user', 'content': 'text'}, as of tasks.base.user('text')."
        )
    return message


def _merge_system(turns: Sequence[Message]) -> list[Message]:
    system, first, *rest = turns
    if first["role"] != "user":
        raise UserError(f"A {first['role']!r} turn follows the system turn. Allowed: 'user'.")
    merged: Message = {
        "role": "user",
        "content": f"{system['content']}\n\n{first['content']}",
    }
    return [merged, *rest]


# --- one way of giving the turns to the template ---


def _by_template(tokenizer: Any, turns: Sequence[Message], parts: bool) -> Rendered:
    """The prompt, from turns with contents as text or as a list of text parts.

    Raises:
        UserError: the template refuses them, or does not write them.
    """
    text = apply(tokenizer, turns, parts)
    contents = _find(tokenizer, turns, parts, text)
    text += missing_header(tokenizer, turns, parts, text)
    return Rendered(text + closed_thoughts(text[contents[-1][1] :]), contents)


def _find(
    tokenizer: Any, turns: Sequence[Message], parts: bool, text: str
) -> tuple[tuple[int, int], ...]:
    """Where the words of each turn stand in ``text``.

    The template is run once more with other words, and what it writes around them says where the
    words are, even if a turn's header holds the same words. Where that fails because a template
    depends on the words, ``text`` is searched for them, which may occur only as often as in turns.

    Raises:
        UserError: words that are not there, or that are there more often than they were given.
    """
    pieces = around(tokenizer, turns, parts)
    if pieces is not None and (exact := _between(pieces, turns, text)) is not None:
        return exact
    ranges, start = list[tuple[int, int]](), 0
    for turn in turns:
        words = next((w for w in _forms(turn) if text.find(w, start) >= 0), None)
        quoted = turn["content"] if len(turn["content"]) < 80 else turn["content"][:80] + "…"
        if words is None or (parts and wrote_a_list(text)):
            raise UserError(
                f"The chat template does not write the words of the {turn['role']} turn "
                f"{quoted!r}. Allowed: templates that write every turn as it is; set "
                "tokenizer.chat_template."
            )
        if words and text.count(words) > sum(other["content"].count(words) for other in turns):
            raise UserError(
                f"The chat template writes the words of the {turn['role']} turn {quoted!r} more "
                "than once. Allowed: templates that write every turn once."
            )
        at = text.find(words, start)
        start = at + len(words)
        ranges.append((at, start))
    return tuple(ranges)


def _forms(turn: Message) -> Iterator[str]:
    """How a template may write the words of a turn: as they are, stripped, or without thoughts."""
    yield turn["content"]
    yield turn["content"].strip()
    if turn["role"] == "assistant":
        yield turn["content"].rpartition("</think>")[2].strip()


def _between(
    pieces: Sequence[str], turns: Sequence[Message], text: str
) -> tuple[tuple[int, int], ...] | None:
    """Ranges of the turns' words if ``text`` is nothing but them and ``pieces`` around them."""
    ranges, at = list[tuple[int, int]](), len(pieces[0])
    if not text.startswith(pieces[0]):
        return None
    for turn, after in zip(turns, pieces[1:], strict=True):
        for words in dict.fromkeys((turn["content"], turn["content"].strip())):
            if text.startswith(words + after, at):
                ranges.append((at, at + len(words)))
                at += len(words) + len(after)
                break
        else:
            return None
    return tuple(ranges) if at == len(text) else None


@checked
def template_notes(tokenizer: Any) -> tuple[str, ...]:
    """What this module does that a reader of the template would not expect, in sentences.

    Raises:
        UserError: a template that cannot be used at all.
    """
    if not tokenizer.chat_template:
        return ("The tokenizer has no chat template; turns are joined by line breaks.",)
    notes = []
    if told_date(tokenizer):
        notes.append(f"The chat template asks for the date; it is told {DATE.isoformat()}.")
    trial: Message = {"role": "user", "content": "zqx0xqz"}
    text = rendered(tokenizer, [trial]).text
    try:
        parts, written = False, apply(tokenizer, [trial], False)
        _find(tokenizer, [trial], False, written)
    except UserError:
        parts, written = True, apply(tokenizer, [trial], True)
        notes.append("The chat template wants contents as lists of parts; it is given such lists.")
    if missing_header(tokenizer, [trial], parts, written):
        notes.append("The chat template forgets (part of) the header of an answer; it is added.")
    if closed_thoughts(written.rpartition("zqx0xqz")[2]):
        notes.append("The chat template opens a think block before an answer; it is closed, empty.")
    if not text.startswith(written) or rendered(tokenizer, [trial]).text != text:
        raise UserError(
            "The chat template writes the same turns otherwise each time. Allowed: templates that "
            "depend on the turns alone."
        )
    return tuple(notes)


# --- where an answer ends ---


@checked
def turn_end(tokenizer: Any) -> str:
    """What the template writes right after the model's words, ``<end_of_turn>`` or the like.

    Without a chat template a newline, which is what ``render`` joins turns with.
    """
    if not tokenizer.chat_template:
        return "\n"
    question: Message = {"role": "user", "content": "x"}
    answer: Message = {"role": "assistant", "content": "yqy"}
    chat_text = next(
        (
            text
            for parts in (False, True)
            if "yqy" in (text := apply(tokenizer, [question, answer], parts, header=False))
            and not wrote_a_list(text)
        ),
        "",
    )
    after = chat_text.rpartition("yqy")[2].strip()
    ids = tokenizer(after, add_special_tokens=False)["input_ids"] if after else []
    return str(tokenizer.decode(ids[:1])) if ids else ""


@checked
def end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a reply: the template's turn end, every end token of tokenizer and model."""
    generation = getattr(model, "generation_config", None)
    ids: list[Any] = [tokenizer.eos_token_id]
    for config in (model.config.get_text_config(), generation):
        eos = getattr(config, "eos_token_id", None)
        ids += eos if isinstance(eos, (list, tuple)) else [eos]
    if tokenizer.chat_template and (end := turn_end(tokenizer)):
        ids += tokenizer(end, add_special_tokens=False)["input_ids"][:1]
    return frozenset(int(i) for i in ids if isinstance(i, int))
