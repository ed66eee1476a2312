"""What a tokenizer's chat template writes, with its quirks settled.

- The date that it asks for is ``DATE``, so that numbers do not change overnight. A template that
  draws at random is refused.
- The header of the model's turn stands before an answer. One that the template forgets is taken
  from the model's turns that it writes; a think block that it opens is closed, empty.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import Any

from oocr_lib.tasks.base import Message
from oocr_lib.util.errors import UserError

#: What a template gets when it asks for the date: that of the paper's first version.
DATE = date(2025, 7, 10)

#: What opens and closes a block of thoughts, in the headers of published templates.
_THOUGHTS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)
_DATE_CALL = re.compile(r"\bstrftime_now\s*\(\s*(?:(['\"])([^'\"\\]*)\1\s*\))?")
#: The clock used under another name; testing whether it is defined does not count.
_DATE_ALIAS = re.compile(r"\bstrftime_now\b(?!\s*\(|\s+is\b)")
_CHANCE = re.compile(r"\|\s*random\b|\bmap\s*\(\s*['\"]random|\blipsum\b")
#: Stands before a template that asks for the date; a macro of that name replaces the clock.
#: The plus keeps white space that the template begins with.
_DATE_MACRO = "{% macro strftime_now(format) -%}{{ told_dates[format] }}{%- endmacro +%}"


def apply(tokenizer: Any, turns: Sequence[Message], parts: bool, header: bool = True) -> str:
    """What the template writes.

    Args:
        parts: contents are given as ``[{"type": "text", "text": ...}]``.
        header: the model's next turn is opened.
    """
    messages: list[dict[str, Any]] = [dict(turn) for turn in turns]
    if parts:
        messages = [{**t, "content": [{"type": "text", "text": t["content"]}]} for t in messages]
    source, dates = _dated(tokenizer)
    try:
        return str(
            tokenizer.apply_chat_template(
                messages,
                chat_template=source,
                tokenize=False,
                add_generation_prompt=header,
                # Templates without a thinking mode ignore it; Qwen 3 would else start to think.
                enable_thinking=False,
                told_dates=dates,
            )
        )
    except Exception as error:  # a template may raise anything that an expression can
        roles = ", ".join(turn["role"] for turn in turns)
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"The chat template refuses the turns ({roles}): {reason.rstrip('.')}. Allowed: an "
            "optional system turn, then user and assistant in turn, user last."
        ) from error


def wrote_a_list(text: str) -> bool:
    """Whether a template printed a list of parts as Python shows it."""
    return "'type': 'text'" in text


def _source(tokenizer: Any) -> str:
    """The template's text."""
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:
        raise UserError(
            "The tokenizer has several chat templates and none called 'default'. Allowed: one "
            "template; set tokenizer.chat_template to its text."
        ) from error


def _dated(tokenizer: Any) -> tuple[str, dict[str, str]]:
    """The template with the clock replaced where it is asked for, and the dates by format.

    Raises:
        UserError: a format that is not written out, or a template that draws at random.
    """
    return _dated_source(_source(tokenizer), DATE)


@lru_cache(maxsize=256)
def _dated_source(source: str, today: date) -> tuple[str, dict[str, str]]:
    if _CHANCE.search(source):
        raise UserError(
            "The chat template draws something at random, so that the same question would be "
            "another one each time. Allowed: templates without 'random' and 'lipsum'."
        )
    calls = list(_DATE_CALL.finditer(source))
    if not calls and not _DATE_ALIAS.search(source):
        return source, {}
    if any(call[2] is None for call in calls) or _DATE_ALIAS.search(source):
        raise UserError(
            "The chat template asks for the date in a format that it computes, or under another "
            "name. Allowed: strftime_now('...') with the format written out, so that the date can "
            "be fixed."
        )
    return _DATE_MACRO + source, {call[2]: today.strftime(call[2]) for call in calls}


def told_date(tokenizer: Any) -> str:
    """The date that the templates are given, as text; empty if they do not ask."""
    templates = tokenizer.chat_template
    sources = templates.values() if isinstance(templates, dict) else [templates or ""]
    return DATE.isoformat() if any(_DATE_CALL.search(source) for source in sources) else ""


def around(tokenizer: Any, turns: Sequence[Message], parts: bool) -> list[str] | None:
    """What the template writes before, between and after turns of made-up words.

    None if it does not write each of the words exactly once.
    """
    key: tuple[Any, ...] = (*_dated(tokenizer)[:1], str(tokenizer.special_tokens_map), parts)
    key = (*key, *(turn["role"] for turn in turns))
    if key not in _CACHE:
        if len(_CACHE) > 1000:  # a long session with many models
            _CACHE.clear()
        words = [f"zqx{number}xqz" for number in range(len(turns))]
        trial: list[Message] = [
            {"role": turn["role"], "content": word} for turn, word in zip(turns, words, strict=True)
        ]
        try:
            text = apply(tokenizer, trial, parts)
        except UserError:
            text = ""
        once = all(text.count(word) == 1 for word in words)
        _CACHE[key] = re.split("|".join(words), text) if once and not wrote_a_list(text) else None
    return _CACHE[key]


_CACHE: dict[tuple[Any, ...], list[str] | None] = {}


def missing_header(tokenizer: Any, turns: Sequence[Message], parts: bool, text: str) -> str:
    """What of the header before the model's words the template does not add when asked for it.

    Raises:
        UserError: with an answer behind them, it writes the turns differently.
    """
    key = (*_dated(tokenizer)[:1], str(tokenizer.special_tokens_map), parts, "header")
    if key not in _CACHE:
        question: Message = {"role": "user", "content": "zqx0xqz"}
        answer: Message = {"role": "assistant", "content": "zqx1xqz"}
        question_text = apply(tokenizer, [question], parts)
        try:
            chat_text = apply(tokenizer, [question, answer], parts, header=False)
        except UserError:  # it allows no turn of the model, so no header can be missing
            chat_text = question_text + "zqx1xqz"
        before, word, _ = chat_text.partition("zqx1xqz")
        if question_text != apply(tokenizer, [question], parts, header=False):
            # Half a header is missing: for instance, the channel in which the model answers.
            half = before[len(question_text) :] if word and before.startswith(question_text) else ""
            _CACHE[key] = ["", half if half.strip() else ""]
        else:
            if not word or not before.startswith(question_text.rstrip()):
                raise UserError(
                    "The chat template opens no turn of the model (add_generation_prompt changes "
                    "nothing), and what it writes before an answer cannot be told. Allowed: "
                    "templates with a generation header; set tokenizer.chat_template."
                )
            # Where both differ in white space alone, the question's end is the header.
            missing = before[len(question_text.rstrip()) :]
            _CACHE[key] = [missing.rstrip(" ") if missing.strip() else ""]
    missing, *rest = _CACHE[key] or [""]
    if not missing:
        return rest[0] if rest else ""
    # ``missing`` begins with the white space at the end of the question's turn.
    return missing[len(text) - len(text.rstrip()) :]


def closed_thoughts(header: str) -> str:
    """What closes a think block that the answer's header has opened; empty if there is none."""
    for opening, closing in _THOUGHTS:
        if header.rfind(opening) > header.rfind(closing):
            return ("\n" if header.endswith("\n") else "\n\n") + closing + "\n\n"
    return ""
