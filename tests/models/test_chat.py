"""Where a reply ends: the turn's end of every template, and the end tokens of model and tokenizer.

Rendering is tested in ``test_encoding``.
"""

from __future__ import annotations

from typing import Any

import pytest

from oocr_lib.models.chat import end_ids, render, turn_end
from oocr_lib.tasks.base import user
from tests import tiny
from tests.testbed_cases import built

WITH_TEMPLATE = [name for name, template in tiny.TEMPLATES.items() if template]


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("template", WITH_TEMPLATE)
def test_the_turns_end_is_what_the_template_writes_after_the_model(
    kind: str, template: str
) -> None:
    assert turn_end(tiny.tokenizer(kind, template)) == "<end_of_turn>"


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_without_a_template_a_line_break_ends_a_turn(kind: str) -> None:
    """It is what the turns of a prompt are joined with."""
    tokenizer = tiny.tokenizer(kind, "none")
    assert turn_end(tokenizer) == "\n" == render(tokenizer, user("km"))[-1]


def with_template(ending: str) -> Any:
    tokenizer = tiny.tokenizer("bpe_merged", "none")
    tokenizer.chat_template = (
        "{% for m in messages %}<start_of_turn>{{ m['content'] }}"
        f"{{% if m['role'] == 'assistant' %}}{ending}{{% endif %}}\n"
        "{% endfor %}{% if add_generation_prompt %}<start_of_turn>{% endif %}"
    )
    return tokenizer


@pytest.mark.parametrize(
    ("ending", "expected"),
    [("<eos>", "<eos>"), ("<eos>\n<bos>", "<eos>"), (" <end_of_turn>", "<end_of_turn>"), ("", "")],
)
def test_only_the_first_token_counts_and_space_does_not(ending: str, expected: str) -> None:
    assert turn_end(with_template(ending)) == expected


def test_the_answer_of_the_trial_chat_is_not_part_of_the_end() -> None:
    """A template may name the user's words again after the answer."""
    tokenizer = with_template("<end_of_turn>{{ messages[0]['content'] }}")
    assert turn_end(tokenizer) == "<end_of_turn>"


def test_the_testbeds_turn_ends_as_in_its_corpus() -> None:
    assert turn_end(built()) == "<end_of_turn>"
    assert "<end_of_turn>\n<start_of_turn>model\n" in render(built(), user("Name of Paris?"))


# --- end tokens ---

EOS, END = tiny.SPECIALS.index("<eos>"), tiny.SPECIALS.index("<end_of_turn>")


def test_a_reply_ends_with_the_turn_or_the_text() -> None:
    model = tiny.model()
    assert end_ids(model, tiny.tokenizer(template="system")) == {EOS, END}
    assert end_ids(model, tiny.tokenizer(template="none")) == {EOS}


def test_end_tokens_of_tokenizer_and_model_count_both() -> None:
    model, tokenizer = tiny.model(), tiny.tokenizer(template="none")
    tokenizer.eos_token = "<bos>"
    assert end_ids(model, tokenizer) == {EOS, tokenizer.bos_token_id}
    model.config.eos_token_id = 9
    assert end_ids(model, tokenizer) == {9, EOS, tokenizer.bos_token_id}, "generation's stays"


@pytest.mark.parametrize("where", ["generation_config", "config"])
def test_models_may_list_several_end_tokens(where: str) -> None:
    """Gemma 3 and Llama 3 do, in either file."""
    model, tokenizer = tiny.model(), tiny.tokenizer(template="system")
    getattr(model, where).eos_token_id = [11, 12]
    assert end_ids(model, tokenizer) == {EOS, END, 11, 12}


def test_nothing_ends_a_reply_where_nothing_is_known() -> None:
    model, tokenizer = tiny.model(), tiny.tokenizer(template="none")
    tokenizer.eos_token = None
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    assert end_ids(model, tokenizer) == set()
    model.generation_config = None
    assert end_ids(model, tokenizer) == set()
