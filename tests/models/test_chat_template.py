"""Templates keep every word, know no clock, and open the model's turn as the model knows it."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from oocr_lib.encoding import encode
from oocr_lib.models import chat_template
from oocr_lib.models.chat import render, rendered, template_notes, turn_end
from oocr_lib.models.language_model import wrap
from oocr_lib.tasks.base import Message, user
from oocr_lib.util.errors import UserError
from tests import tiny

CHAT: tuple[Message, ...] = (
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Where is City 50337?"},
    {"role": "assistant", "content": "Far."},
    {"role": "user", "content": "How far is City 50337 ?"},
)
HEAD = "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
LOOP = "{% for m in messages %}<start_of_turn>{{ m['role'] }}\n"


def with_template(source: str) -> Any:
    tokenizer = tiny.tokenizer("bpe_digits", "none")
    tokenizer.chat_template = source
    return tokenizer


def refused(info: pytest.ExceptionInfo[UserError]) -> str:
    text = str(info.value)
    assert "\n" not in text and "Allowed" in text
    return text


# --- words ---


@pytest.mark.parametrize("name", tiny.TEMPLATES)
def test_the_ranges_hold_the_turns_words(name: str) -> None:
    found = rendered(tiny.tokenizer(template=name), CHAT)
    words = [found.text[start:end] for start, end in found.contents]
    turns = [m["content"] for m in CHAT]
    assert words in (turns, [f"{turns[0]}\n\n{turns[1]}", *turns[2:]])


PARTS = LOOP + (
    "{% for part in m['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<end_of_turn>\n{% endfor %}"
) + HEAD  # fmt: skip


def test_a_template_of_parts_gets_parts() -> None:
    """It writes nothing for a text: each letter of it is a part without a type."""
    tokenizer = with_template(PARTS)
    plain = with_template(LOOP + "{{ m['content'] }}<end_of_turn>\n{% endfor %}" + HEAD)
    assert render(tokenizer, CHAT) == render(plain, CHAT)
    assert any("lists of parts" in note for note in template_notes(tokenizer))
    assert turn_end(tokenizer) == "<end_of_turn>"


@pytest.mark.parametrize(
    "content", ["", "{{ m['content'] | upper }}", "{{ m['content'][:5] }}", "{{ m.text }}"]
)
def test_a_template_that_loses_words_is_refused(content: str) -> None:
    tokenizer = with_template(LOOP + content + "<end_of_turn>\n{% endfor %}" + HEAD)
    for chat in (user("Where is it?"), CHAT):
        with pytest.raises(UserError, match="does not write the words of the") as info:
            render(tokenizer, chat)
        refused(info)
    with pytest.raises(UserError, match="Model 'm' cannot be asked"):
        wrap(tiny.model(), tokenizer, name="m")


def test_a_template_that_prints_the_list_itself_is_refused() -> None:
    """Python's form of a list of parts holds the words, too; no model has ever seen it."""
    source = "{% if messages[0]['content'] is string %}{{ raise_exception('parts') }}{% endif %}"
    tokenizer = with_template(source + LOOP + "{{ m['content'] }}{% endfor %}" + HEAD)
    with pytest.raises(UserError) as info:
        render(tokenizer, user("Where is it?"))
    refused(info)


def test_thoughts_of_earlier_answers_may_be_dropped() -> None:
    source = LOOP + "{{ m['content'].split('</think>')[-1] }}<end_of_turn>\n{% endfor %}" + HEAD
    chat = (CHAT[1], {"role": "assistant", "content": "<think>Hm.</think>Far."}, CHAT[3])
    found = rendered(with_template(source), chat)  # type: ignore[arg-type]
    assert [found.text[a:b] for a, b in found.contents] == [
        CHAT[1]["content"],
        "Far.",
        CHAT[3]["content"],
    ]


def test_words_written_twice_are_refused() -> None:
    source = "{% if 'Where' in messages[0]['content'] %}{{ messages[0]['content'] }}{% endif %}"
    tokenizer = with_template(source + LOOP + "{{ m['content'] }}{% endfor %}" + HEAD)
    with pytest.raises(UserError, match="more than once"):
        render(tokenizer, user("Where is it?"))
    assert "Who is it?" in render(tokenizer, user("Who is it?"))


@pytest.mark.parametrize("header", ["City 50337", "user City 50337 says", "City 50337 City 50337"])
def test_a_header_that_holds_the_code_name_is_not_marked(header: str) -> None:
    source = "{% for m in messages %}<start_of_turn>" + header + "\n{{ m['content'] | trim }}"
    tokenizer = with_template(source + "<end_of_turn>\n{% endfor %}" + HEAD)
    for text in ("City 50337", "Is City 50337 near?", "City 50337 or City 50337 "):
        found = encode(tokenizer, user(text), marks={"codename": ["City 50337"]})
        start = found.text.index(header + "\n") + len(header) + 1
        offsets = tokenizer(found.text, add_special_tokens=False, return_offsets_mapping=True)
        marked = [offsets["offset_mapping"][i] for i in found.spans["codename"]]
        assert all(begin >= start for begin, _ in marked)
        assert "".join(found.text[a:b] for a, b in marked).count("50337") == text.count("50337")


# --- the date, and dice ---


@pytest.mark.parametrize(
    "call",
    [
        "{{ strftime_now('%d %b %Y') }}",
        '{%- set d = strftime_now( "%d %b %Y" ) %}{{ d }}',
        "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% endif %}",
    ],
)
def test_the_date_is_always_the_same(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = with_template("\n Today" + call + ". " + tiny._TURNS)
    assert render(tokenizer, user("x y")).startswith("\n Today10 Jul 2025. <bos>")
    assert any("2025-07-10" in note for note in template_notes(tokenizer))
    monkeypatch.setattr(chat_template, "DATE", date(2031, 2, 3))
    assert render(tokenizer, user("x y")).startswith("\n Today03 Feb 2031. <bos>")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{% set f = '%Y' %}{{ strftime_now(f) }}", "format that it computes"),
        ("{{ ['a', 'b'] | random }}", "at random"),
        ("{{ lipsum(1) }}", "at random"),
        ("{{ [[1, 2]] | map('random') | first }}", "at random"),
        ("{% set now = strftime_now %}{{ now('%H:%M:%S') }}", "under another name"),
        ("{{ strftime_now('%d' ~ ' %H') }}", "format that it computes"),
        ("{{ strftime_now('%d \\'%y') }}", "format that it computes"),
    ],
)
def test_what_cannot_be_fixed_is_refused(source: str, reason: str) -> None:
    tokenizer = with_template(source + tiny._TURNS)
    with pytest.raises(UserError, match=reason) as info:
        wrap(tiny.model(), tokenizer, name="m")
    refused(info)


# --- the header of the answer ---

PLAIN = "{% for m in messages %}<start_of_turn>{{ m['role'] }}\n{{ m['content'] }}<end_of_turn>\n"


@pytest.mark.parametrize(
    ("opened", "closed"),
    [
        ("<think>\n", "<think>\n\n</think>\n\n"),
        ("<think>", "<think>\n\n</think>\n\n"),
        ("[THINK]", "[THINK]\n\n[/THINK]\n\n"),
        ("<think>\n\n</think>\n\n", "<think>\n\n</think>\n\n"),
        ("", ""),
    ],
)
def test_a_think_block_is_closed_before_the_answer(opened: str, closed: str) -> None:
    end = "{% if add_generation_prompt %}<start_of_turn>assistant\n" + opened + "{% endif %}"
    tokenizer = with_template(PLAIN + "{% endfor %}" + end)
    assert render(tokenizer, user("I <think> so")).endswith("<start_of_turn>assistant\n" + closed)
    assert any("think block" in note for note in template_notes(tokenizer)) == (opened != closed)


def test_a_forgotten_header_is_added() -> None:
    tokenizer = with_template(PLAIN + "{% endfor %}")
    expected = "<start_of_turn>user\nx y<end_of_turn>\n<start_of_turn>assistant\n"
    assert render(tokenizer, user("x y")) == expected
    assert any("forgets (part of) the header" in note for note in template_notes(tokenizer))
    whole = render(tokenizer, CHAT)
    assert whole.endswith("City 50337 ?<end_of_turn>\n<start_of_turn>assistant\n")


def test_half_a_header_is_completed() -> None:
    """As in Harmony, where an answer stands in a channel that the request does not open."""
    source = (
        "{% for m in messages %}<start_of_turn>{{ m['role'] }}"
        "{% if m['role'] == 'assistant' %}<channel>final{% endif %}<message>"
        "{{ m['content'] }}<end_of_turn>{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>assistant{% endif %}"
    )
    tokenizer = with_template(source)
    assert render(tokenizer, user("x y")).endswith(
        "<start_of_turn>assistant<channel>final<message>"
    )
    assert any("part of" in note for note in template_notes(tokenizer))


def test_an_answer_may_follow_the_question_without_a_header() -> None:
    """As in Llama 2 and Mistral, where the question's closing mark opens the answer."""
    source = (
        "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
        "{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
    )
    assert render(with_template(source), user("x y")) == "[INST] x y [/INST]"
    assert template_notes(with_template(source)) == ()


def test_a_header_that_cannot_be_told_is_refused() -> None:
    source = (
        "{% if messages | length == 1 %}Q: {{ messages[0]['content'] }}"
        "{% else %}{% for m in messages %}{{ m['content'] }}|{% endfor %}{% endif %}"
    )
    with pytest.raises(UserError, match="opens no turn of the model") as info:
        render(with_template(source), user("x y"))
    refused(info)


@pytest.mark.parametrize("name", [name for name, source in tiny.TEMPLATES.items() if source])
def test_ordinary_templates_need_no_note(name: str) -> None:
    assert template_notes(tiny.tokenizer(template=name)) == ()
    assert wrap(tiny.model(), tiny.tokenizer(template=name), name="m").notes == ()
