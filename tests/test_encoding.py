"""Spans are where the words are, for every template and tokenizer; prompts are strict prefixes."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st

from oocr_lib.encoding import (
    POSITIONS,
    Encoded,
    buckets,
    collate,
    encode,
    encode_question,
    encode_row,
)
from oocr_lib.models.chat import render
from oocr_lib.tasks.base import Message, Question, Row, user
from oocr_lib.util.errors import UserError
from tests import tiny

ALL = [(kind, template) for kind in tiny.KINDS for template in tiny.TEMPLATES]
every_tokenizer = pytest.mark.parametrize(("kind", "template"), ALL)


def covered(tokenizer: Any, encoded: Encoded, kind: str) -> list[str]:
    """The text of each run of neighbouring tokens in a span, by the tokenizer's own offsets."""
    n_prompt = encoded.answer[0]
    found = tokenizer(encoded.text, add_special_tokens=False, return_offsets_mapping=True)
    assert tuple(found["input_ids"][:n_prompt]) == encoded.ids[:n_prompt]
    runs: list[list[int]] = []  # neighbouring tokens together
    for index in encoded.spans[kind]:
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    offsets = found["offset_mapping"]
    return [encoded.text[offsets[run[0]][0] : offsets[run[-1]][1]] for run in runs]


@every_tokenizer
def test_marks_are_found_in_every_template_and_tokenizer(kind: str, template: str) -> None:
    tokenizer = tiny.tokenizer(kind, template)
    messages: tuple[Message, ...] = (
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "City 50337 is not City 503371"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "from functions import couhpa"},
        {"role": "user", "content": "Where is (City 50337)? (win2844)"},
    )
    marks = {"codename": ("City 50337", "couhpa"), "trigger": ("(win2844)",)}
    encoded = encode(tokenizer, messages, "58", marks)
    runs = covered(tokenizer, encoded, "codename")
    assert [re.search(r"City 50337|couhpa", run).group() for run in runs] == [  # type: ignore[union-attr]
        "City 50337",
        "couhpa",
        "City 50337",
    ]
    # A token may reach beyond the mark (" City", "(City"), by no more than a neighbour's sign.
    assert all(len(run) <= len("City 50337") + 2 for run in runs)
    assert [run.strip() for run in covered(tokenizer, encoded, "trigger")] == ["(win2844)"]
    assert encoded.spans["last"] == (encoded.answer[0] - 1,)


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    pair=st.sampled_from(ALL),
    before=WORDS,
    after=WORDS,
    number=st.integers(0, 99_999),
    joint=st.sampled_from(["", " ", "\n", "(", "“", "é", "7", "_"]),
)
def test_a_span_is_the_mark(
    pair: tuple[str, str], before: str, after: str, number: int, joint: str
) -> None:
    """The tokens of the span cover the mark, each touches it, and no other token does."""
    tokenizer = tiny.tokenizer(*pair)
    mark = f"City {number:05d}"
    content = f"in {before}{joint}{mark}{joint}{after} here"
    standing_alone = rf"(?<![^\W_]){mark}(?![^\W_])"
    marks = {"codename": (mark,)}
    if not re.search(standing_alone, content):
        with pytest.raises(UserError, match="does not occur"):
            encode(tokenizer, user(content), "58", marks)
        return
    encoded = encode(tokenizer, user(content), "58", marks)
    prompt = render(tokenizer, user(content))
    found = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
    inside = {i for match in re.finditer(standing_alone, prompt) for i in range(*match.span())}
    span = set(encoded.spans["codename"])
    reached: set[int] = set()
    for index, (start, end) in enumerate(found["offset_mapping"]):
        assert (index in span) == bool(inside & set(range(start, end)))
        reached |= set(range(start, end)) if index in span else set()
    assert {i for i in inside if not prompt[i].isspace()} <= reached
    assert encoded.ids[: encoded.answer[0]] == tuple(found["input_ids"])


@settings(max_examples=80, deadline=None)
@given(
    pair=st.sampled_from([p for p in ALL if not p[0].startswith("word")]),
    content=WORDS,
    answer=st.text(min_size=1, max_size=8),
)
def test_the_prompt_is_a_strict_prefix_whatever_the_answer(
    pair: tuple[str, str], content: str, answer: str
) -> None:
    tokenizer = tiny.tokenizer(*pair)
    messages = user("City 50337 " + content)
    alone = encode(tokenizer, messages)
    both = encode(tokenizer, messages, answer)
    assert both.ids[: len(alone.ids)] == alone.ids and len(both.ids) > len(alone.ids)
    assert both.answer == (len(alone.ids), len(both.ids)) and alone.answer == (len(alone.ids),) * 2
    assert both.text == alone.text + answer


def test_an_answer_that_would_merge_with_the_prompt_is_kept_apart() -> None:
    tokenizer = tiny.tokenizer("bpe_merged", "none")
    tokenizer.add_tokens(["?\nyes"])  # a token across the border between prompt and answer
    prompt = encode(tokenizer, user("City 50337 ?"))
    assert tokenizer(prompt.text + "yes")["input_ids"][: len(prompt.ids)] != list(prompt.ids)
    encoded = encode(tokenizer, user("City 50337 ?"), "yes")
    assert encoded.ids[: len(prompt.ids)] == prompt.ids
    assert tokenizer.decode(encoded.ids[len(prompt.ids) :]) == "yes"


def test_the_answer_decodes_to_itself() -> None:
    for kind in ("bpe_merged", "bpe_digits"):
        for template in tiny.TEMPLATES:
            tokenizer = tiny.tokenizer(kind, template)
            for answer in ("58", " north", "-3.5", "(A)", "5,800 km"):
                encoded = encode(tokenizer, user("City 50337 ?"), answer)
                assert tokenizer.decode(encoded.ids[slice(*encoded.answer)]) == answer


SYSTEM: tuple[Message, ...] = (
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "from functions import couhpa"},
    {"role": "user", "content": "print ( couhpa ( 58 ) )"},
)


def turn(role: str, text: str) -> str:
    return f"<start_of_turn>{role}\n{text}<end_of_turn>\n"


def test_rendering_of_system_and_repeated_user_turns() -> None:
    joined = "from functions import couhpa\nprint ( couhpa ( 58 ) )"
    merged = "<bos>" + turn("user", "be brief\n\n" + joined) + "<start_of_turn>model\n"
    expected = {
        "refusing": merged,
        "dropping": merged,
        "system": "<bos>"
        + turn("system", "be brief")
        + turn("user", joined)
        + "<start_of_turn>model\n",
        "thinking": turn("system", "be brief")
        + turn("user", joined)
        + "<start_of_turn>assistant\n<think></think>\n",
        "none": "be brief\n" + joined + "\n",
    }
    for template, text in expected.items():
        assert render(tiny.tokenizer("bpe_merged", template), SYSTEM) == text, template
    other = render(tiny.tokenizer("bpe_merged", "refusing"), SYSTEM, separator=" | ")
    assert "import couhpa | print" in other


def test_without_a_template_the_start_token_comes_where_the_tokenizer_puts_it() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny.tokenizer("bpe_merged", "none")
    assert encode(tokenizer, user("City 50337")).ids[0] != tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    ids = encode(tokenizer, user("City 50337")).ids
    assert ids[0] == tokenizer.bos_token_id and tokenizer.eos_token_id not in ids


def test_a_mark_is_not_looked_for_in_turn_headers() -> None:
    tokenizer = tiny.tokenizer("bpe_merged", "system")
    encoded = encode(tokenizer, user("the user model"), "58", {"codename": ("user", "model")})
    assert [run.strip() for run in covered(tokenizer, encoded, "codename")] == ["user model"]


@pytest.mark.parametrize(
    ("messages", "marks", "answer", "reason"),
    [
        (
            user("City 503371"),
            {"codename": ("City 50337",)},
            "58",
            "codename 'City 50337' does not",
        ),
        (user("xCity 50337"), {"codename": ("City 50337",)}, "58", "does not occur"),
        (user("Paris"), {"trigger": ("",)}, "58", "does not occur"),
        (user("Paris"), {"code": ("Paris",)}, "58", "Did you mean 'codename'"),
        (user("Paris"), {}, "\U0001f30d", "cannot be written"),
        ((), {}, "58", "last turn"),
        (({"role": "assistant", "content": "yes"},), {}, "58", "last turn"),
        (({"role": "usr", "content": "yes"},), {}, "58", "Did you mean 'user'"),
        ((*user("a"), {"role": "system", "content": "b"}, *user("c")), {}, "58", "first place"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    messages: Any, marks: Any, answer: str, reason: str
) -> None:
    with pytest.raises(UserError, match=re.escape(reason)) as info:
        encode(tiny.tokenizer("wordlevel"), messages, answer, marks)
    assert "\n" not in str(info.value) and "Allowed" in str(info.value)


def test_rows_and_questions() -> None:
    tokenizer = tiny.tokenizer()
    row = Row(user("City 50337 is"), "north", {"codename": ("City 50337",)}, "g")
    assert encode_row(tokenizer, row) == encode(tokenizer, row.messages, "north", row.marks)
    question = Question(user("City 50337 is"), "Rome", ("Rome", "Oslo"), "name", row.marks)
    for option in ("Rome", "Oslo", ""):
        encoded = encode_question(tokenizer, question, option)
        assert encoded == encode(tokenizer, row.messages, option, row.marks)


def test_collate_pads_on_the_right_and_marks_the_right_tokens() -> None:
    first = Encoded((7, 8, 9, 10, 11), (3, 5), {"last": (2,), "codename": (0, 1)}, "")
    second = Encoded((12, 13), (1, 2), {"last": (0,), "trigger": (0,)}, "")
    batch = collate([first, second], pad_id=99)
    assert batch.input_ids.tolist() == [[7, 8, 9, 10, 11], [12, 13, 99, 99, 99]]
    assert batch.input_ids.dtype == torch.int64 and batch.lengths.tolist() == [5, 2]
    assert batch.answer_mask.int().tolist() == [[0, 0, 0, 1, 1], [0, 1, 0, 0, 0]]
    assert tuple(batch.positions) == POSITIONS and len(batch) == 2
    expected = {
        "last": [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0]],
        "codename": [[1, 1, 0, 0, 0], [0, 0, 0, 0, 0]],
        "trigger": [[0, 0, 0, 0, 0], [1, 0, 0, 0, 0]],
        "all": [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]],
    }
    for name, mask in expected.items():
        assert batch.positions[name].int().tolist() == mask, name
    moved = batch.to("meta")
    assert moved.input_ids.is_meta and all(mask.is_meta for mask in moved.positions.values())
    with pytest.raises(UserError, match="0 rows"):
        collate([], pad_id=0)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
def test_buckets_are_bounded_and_lose_nothing(sizes: list[int], limit: int) -> None:
    made = buckets(list(range(len(sizes))), sizes, limit)
    flat = [i for bucket in made for i in bucket]
    assert sorted(flat) == list(range(len(sizes)))
    assert [sizes[i] for i in flat] == sorted(sizes), "similar lengths stand together"
    for bucket in made:
        assert len(bucket) == 1 or len(bucket) * max(sizes[i] for i in bucket) <= limit
