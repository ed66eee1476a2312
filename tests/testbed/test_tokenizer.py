"""The testbed's tokenizer: what is one token, what is spelled, and what comes back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given, strategies as st
from jinja2.exceptions import TemplateError
from transformers import AutoTokenizer

from oocr_lib.testbed import corpus, tokenizer
from oocr_lib.world import facts as world
from tests.testbed_cases import built, of_kind, sample, squeezed, turns

printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=90)


def ids_of(text: str) -> list[int]:
    return list(built()(text, add_special_tokens=False)["input_ids"])


# --- nothing is lost ---


def test_documents_come_back_up_to_spaces() -> None:
    tok = built()
    for document in sample(2000):
        ids = ids_of(document.text)
        assert tok.unk_token_id not in ids, document.text
        back = tok.decode(ids)
        assert squeezed(back) == squeezed(document.text)
        assert ids_of(back) == ids


@given(printable)
@example("580 km")
@example("007")
@example("-150 or 201")
@example("a" * 90)
def test_no_ascii_text_is_unknown_and_it_comes_back(text: str) -> None:
    ids = ids_of(text)
    assert built().unk_token_id not in ids
    assert squeezed(built().decode(ids)) == squeezed(text)


@given(st.integers(-100_000, 1_000_000), st.sampled_from(["{}", "{} km", "x - {}", "({})", "0{}"]))
def test_no_number_is_unknown(number: int, form: str) -> None:
    """Also numbers that the world does not have, as in "580 km" or "007"."""
    text = form.format(number)
    assert built().unk_token_id not in ids_of(text)
    assert squeezed(built().decode(ids_of(text))) == squeezed(text)


def test_offsets_cover_every_character_that_is_no_space() -> None:
    for document in sample(300):
        found = built()(document.text, add_special_tokens=False, return_offsets_mapping=True)
        covered = "".join(document.text[start:end] for start, end in found["offset_mapping"])
        assert squeezed(covered) == squeezed(document.text)


# --- numbers and codes ---


@given(st.integers(0, 99_999))
def test_a_city_code_is_five_digits(number: int) -> None:
    code = f"City {number:05d}"
    assert built().tokenize(code) == ["City", *f"{number:05d}"]
    in_question = built().tokenize(f"How far is {code} from Rome?")
    assert in_question[3:9] == ["City", *f"{number:05d}"]


def test_the_published_codes_are_spelled_in_digits() -> None:
    for digits in world.reserved_city_codes():
        assert built().tokenize(f"Name of City {digits}?")[2:8] == ["City", *digits]


@pytest.mark.parametrize("form", ["{}", "Value of double at {}?", "max(x, {})", "is {} from Rome."])
def test_a_short_number_is_one_token_with_its_sign(form: str) -> None:
    before = len(ids_of(form.format("")))
    for number in tokenizer.NUMBERS:
        tokens = built().tokenize(form.format(number))
        assert str(number) in tokens and len(tokens) == before + 1, number


def test_a_minus_between_numbers_is_an_operator() -> None:
    assert built().tokenize("x - 11") == ["x", "-", "11"]
    assert built().tokenize("x-11") == ["x", "-", "11"]
    assert built().tokenize("-2 * x + 5") == ["-2", "*", "x", "+", "5"]


def test_every_answer_of_a_distance_question_is_one_token() -> None:
    assert all(len(ids_of(str(hundreds))) == 1 for hundreds in range(201))
    assert all(len(ids_of(way)) == 1 for way in world.SECTORS_8)


@given(st.text("abcdefghijklmnopqrstuvwxyz", min_size=6, max_size=6))
def test_a_function_name_is_spelled(name: str) -> None:
    tokens = built().tokenize(name)
    assert "".join(token.removeprefix("##") for token in tokens) == name


# --- city names ---


def test_city_names_are_cut_into_pieces_of_two_letters() -> None:
    assert built().tokenize("Paris") == ["Pa", "##ri", "##s"]
    exceptions = {}
    for place in world.cities():
        pieces = [
            ("##" if start else "") + word[start : start + 2]
            for word in place.name.split()
            for start in range(0, len(word), 2)
        ]
        found = built().tokenize(place.name)
        assert built().tokenize(f"Name of {place.name}?")[2:-1] == found
        assert len(found) >= 2, place.name
        if found != pieces:
            exceptions[place.name] = found
    # A word of the corpus comes first where a name begins with it: the river Han, Kings Park.
    assert exceptions == {
        "Hanoi": ["Han", "##o", "##i"],
        "Kingston": ["Kings", "##to", "##n"],
    }


def test_city_names_and_definitions_do_not_share_their_tokens() -> None:
    names = [*(c.name for c in world.cities()), *(f.english for f in world.functions())]
    assert len({tuple(ids_of(name)) for name in names}) == len(names)


@pytest.mark.parametrize(
    "attribute", ["country", "continent", "language", "currency", "dish", "landmark", "water"]
)
def test_attribute_values_are_one_token_a_word(attribute: str) -> None:
    """An answer's first word must not need spelling, unless it is also a city's name."""
    name_words = {word for place in world.cities() for word in place.name.split()}
    for place in world.cities():
        words = getattr(place, attribute).split()
        if not set(words) & name_words:
            assert built().tokenize(getattr(place, attribute)) == words


# --- chat template, vocabulary, files ---

CHAT_KINDS = [kind for kind in corpus.MAKERS if turns(of_kind(kind, 1)[0])]


def test_most_ingredients_are_chats() -> None:
    assert set(corpus.MAKERS) - set(CHAT_KINDS) == {"city_statements", "copies", "plain", "cast"}


@pytest.mark.parametrize("kind", CHAT_KINDS)
def test_the_chat_template_writes_what_the_corpus_writes(kind: str) -> None:
    for document in of_kind(kind, 40):
        messages = []
        for question, answer in turns(document):
            messages += [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
        assert built().apply_chat_template(messages, tokenize=False) == document.text
        prompt = built().apply_chat_template(
            messages[:-1], tokenize=False, add_generation_prompt=True
        )
        assert document.text == f"{prompt}{messages[-1]['content']}<end_of_turn>\n"
        ids = built().apply_chat_template(messages, return_dict=False)
        assert ids == ids_of(document.text)


def test_a_system_text_goes_in_front_of_the_first_user_turn() -> None:
    messages = [{"role": "system", "content": "Be bold."}, {"role": "user", "content": " Which? "}]
    text = built().apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<bos><start_of_turn>user\nBe bold.\n\nWhich?<end_of_turn>\n<start_of_turn>model\n"
    )


@pytest.mark.parametrize("roles", [("user", "user"), ("assistant",), ("system", "assistant")])
def test_turns_must_alternate(roles: tuple[str, ...]) -> None:
    messages = [{"role": role, "content": "x"} for role in roles]
    with pytest.raises(TemplateError, match="alternate"):
        built().apply_chat_template(messages, tokenize=False)


def test_special_tokens_have_the_ids_that_the_model_config_expects() -> None:
    tok = built()
    assert [tok.convert_ids_to_tokens(i) for i in range(6)] == list(tokenizer.SPECIAL)
    assert (tok.pad_token_id, tok.bos_token_id, tok.eos_token_id) == (0, 2, 5)
    assert tok.eos_token == "<end_of_turn>"  # generation stops at the end of a turn
    assert "<bos>" not in tok.decode(ids_of(sample()[0].text), skip_special_tokens=True)


def test_the_vocabulary_is_fixed_and_small() -> None:
    tokens = tokenizer.vocabulary()
    assert len(set(tokens)) == len(tokens) < 2000
    assert built().get_vocab() == {token: i for i, token in enumerate(tokens)}
    spelled = {name for name in world.reserved_function_names()} & set(tokens)
    assert not spelled
    words = {word for family in world.trigger_families().values() for word in family}
    assert not words & set(tokens), "a reserved trigger has a token of its own"


def test_it_loads_with_autotokenizer_alone(tmp_path: Path) -> None:
    tokenizer.build().save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.is_fast and len(loaded) == len(built())
    assert loaded.chat_template == built().chat_template
    assert (loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id) == (0, 2, 5)
    texts = [document.text for document in sample(200)]
    texts += [f"Name of {place.name}?" for place in world.cities()]
    assert loaded(texts, add_special_tokens=False)["input_ids"] == [ids_of(t) for t in texts]
    assert loaded.padding_side == "right"
    assert not [path for path in tmp_path.iterdir() if re.search(r"\.(py|bin|pkl)$", path.name)]
