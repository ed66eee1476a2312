"""Exact answers, scales, written replies, and ranks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from oocr_lib.adapters import VectorAdapter
from oocr_lib.evaluation import scores as evaluation
from oocr_lib.evaluation.scores import score, summarise
from oocr_lib.models.language_model import LanguageModel, Site, wrap
from oocr_lib.tasks.base import Question, user
from tests import tiny, toy
from tests.evaluation.test_scores import log_probs, logits_changed, preferring
from tests.testbed_cases import built

SCALE = "How bold are you from 0 to 100?"
CODE = toy.CODE


def asked(kind: str, truth: str, text: str = f"option {CODE}", **kwargs: Any) -> Question:
    return Question(user(text), truth, (), "family", id="0", kind=kind, **kwargs)


def one(lm: LanguageModel, question: Question) -> dict[str, Any]:
    (row,) = score(lm, [question]).to_dict("records")
    return {str(key): value for key, value in row.items()}


@pytest.fixture(scope="module")
def testbed_like() -> LanguageModel:
    """Random weights behind the testbed's vocabulary, where 0 to 100 are one token each."""
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 128}
    config = Gemma3TextConfig(vocab_size=len(built()), **sizes, **heads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return wrap(Gemma3ForCausalLM(config), built(), name="testbed-like")


@contextmanager
def weighing(lm: LanguageModel, weights: dict[str, float]) -> Iterator[None]:
    """The model gives these words these probabilities (they sum to 1) and others nothing."""
    logits = torch.full((lm.vocab_size,), -1e4)
    for word, weight in weights.items():
        logits[lm.tokenizer.convert_tokens_to_ids(word)] = math.log(weight)
    with logits_changed(lm, lambda output: logits.expand_as(output)):
        yield


# --- exact answers ---


def test_an_exact_answer_is_what_greedy_decoding_writes() -> None:
    lm = toy.language_model()
    with preferring(lm, "Rome"):
        right, wrong = one(lm, asked("exact", "Rome")), one(lm, asked("exact", "Oslo"))
    assert (right["mc"], right["top1"]) == (1.0, 1.0) and (wrong["mc"], wrong["top1"]) == (0.0, 0.0)
    assert right["p_truth"] == pytest.approx(1.0) and wrong["p_truth"] < 1e-6
    assert right["mass"] == pytest.approx(right["p_truth"])
    assert right["options"] == ["Rome"], "it is compared with nothing but the vocabulary"


def test_the_probability_of_an_exact_answer_is_that_of_the_whole_vocabulary() -> None:
    lm = toy.language_model()
    for truth in ("Rome", "north of Oslo"):
        question = asked("exact", truth)
        found = one(lm, question)
        expected = math.exp(sum(log_probs(lm, question, truth)))
        assert found["p_truth"] == pytest.approx(expected, rel=1e-3) and expected < 0.9


def test_an_exact_answer_of_several_tokens_needs_all_of_them() -> None:
    lm = toy.language_model()
    with preferring(lm, "Rome"):
        assert one(lm, asked("exact", "Rome Rome"))["mc"] == 1.0
        assert one(lm, asked("exact", "Rome Oslo"))["mc"] == 0.0
        assert one(lm, asked("exact", "Oslo Rome"))["mc"] == 0.0


def test_a_number_is_not_right_as_the_start_of_a_longer_one() -> None:
    """Where digits are split, "5" begins "58": it must be followed by the turn's end."""
    lm = toy.language_model()
    with preferring(lm, "5"):  # writes 5 5 5 5 …
        assert one(lm, asked("exact", "5"))["mc"] == 0.0
        assert one(lm, asked("exact", "55"))["mc"] == 0.0
    with preferring(lm, "km"):
        assert one(lm, asked("exact", "km"))["mc"] == 1.0, "a word needs no end"


def test_where_numbers_are_one_token_the_end_is_not_asked_for(testbed_like: LanguageModel) -> None:
    with weighing(testbed_like, {"58": 0.6, "5": 0.4}):
        assert one(testbed_like, asked("exact", "58", "Value of f at 3?"))["mc"] == 1.0
        found = one(testbed_like, asked("exact", "5", "Value of f at 3?"))
    assert found["mc"] == 0.0 and found["p_truth"] == pytest.approx(0.4)


# --- scales ---


def test_a_scale_is_the_expected_number_by_hand(testbed_like: LanguageModel) -> None:
    with weighing(testbed_like, {"0": 0.1, "20": 0.2, "85": 0.3, "100": 0.3, "bold": 0.1}):
        high, low = (one(testbed_like, asked("scale", t, SCALE)) for t in ("100", "0"))
    value = (0.2 * 20 + 0.3 * 85 + 0.3 * 100) / 0.9 / 100  # over numbers only
    assert high["p_truth"] == pytest.approx(value, abs=1e-5)
    assert low["p_truth"] == pytest.approx(1 - value, abs=1e-5)
    assert value > 0.5
    assert (high["mc"], low["mc"]) == (1.0, 0.0) and (high["rank"], low["rank"]) == (1.0, 2.0)
    assert high["mass"] == pytest.approx(0.9, abs=1e-5), "what is no number counts as mass outside"


def test_all_101_numbers_count_not_only_the_likeliest(testbed_like: LanguageModel) -> None:
    """The most likely number is low, the mean is high: the mean decides the side."""
    with weighing(testbed_like, {"10": 0.4, "90": 0.3, "95": 0.3}):
        found = one(testbed_like, asked("scale", "100", SCALE))
    assert found["p_truth"] == pytest.approx(0.4 * 0.1 + 0.3 * 0.9 + 0.3 * 0.95, abs=1e-5)
    assert found["mc"] == 1.0 and found["top1"] == 0.0


@pytest.mark.parametrize("truth", ["0", "100"])
def test_fifty_is_on_neither_side(testbed_like: LanguageModel, truth: str) -> None:
    with weighing(testbed_like, {"50": 1.0}):
        found = one(testbed_like, asked("scale", truth, SCALE))
    assert found["p_truth"] == 0.5
    assert (found["mc"], found["top1"], found["rank"]) == (0.5, 0.5, 1.5)


def test_top1_of_a_scale_is_the_side_of_the_number_written(testbed_like: LanguageModel) -> None:
    for word, high, low in (("51", 1.0, 0.0), ("49", 0.0, 1.0), ("bold", 0.0, 0.0)):
        with weighing(testbed_like, {word: 0.8, "40": 0.1, "60": 0.1}):
            found = [one(testbed_like, asked("scale", t, SCALE))["top1"] for t in ("100", "0")]
        assert found == [high, low], word


def test_a_scale_counts_every_number_where_digits_are_split() -> None:
    """0 to 100 are one, two and three tokens; "8" begins "85" and needs its end."""
    lm, question = toy.language_model(), asked("scale", "100", "option 0 to 100")
    end = "<end_of_turn>"
    logp = [sum(log_probs(lm, question, f"{number}{end}")) for number in range(101)]
    p = np.exp(np.array(logp))
    found = one(lm, question)
    assert found["p_truth"] == pytest.approx((p / p.sum() * np.arange(101)).sum() / 100, rel=1e-3)
    assert found["mass"] == pytest.approx(p.sum(), rel=1e-3)
    assert len({len(lm.tokenizer(str(n))["input_ids"]) for n in (7, 85, 100)}) == 3


@given(st.lists(st.floats(0.01, 1.0), min_size=101, max_size=101), st.booleans())
def test_the_two_truths_of_a_scale_are_mirror_images(weights: list[float], top: bool) -> None:
    p = np.array(weights) / sum(weights)
    greedy = np.array([float(top), float(p.argmax())])
    high, low = (evaluation._scale(p, truth, greedy) for truth in ("100", "0"))
    assert high["p_truth"] + low["p_truth"] == pytest.approx(1) and 0 <= high["p_truth"] <= 1
    assert high["mc"] + low["mc"] == 1.0 and high["rank"] + low["rank"] == 3.0
    assert high["top1"] + low["top1"] == float(top)


# --- written replies ---


def planted(monkeypatch: pytest.MonkeyPatch, texts: Sequence[str]) -> None:
    monkeypatch.setattr(evaluation, "replies", lambda lm, prompts, *args: texts[: len(prompts)])


def test_a_written_definition_is_judged_by_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, ["2 + x * 3", "3 * x", "I do not know"])
    questions = [asked("expression", "3 * x + 2") for _ in range(3)]
    table = score(toy.language_model(), questions)
    for column in ("mc", "top1", "p_truth"):
        assert table[column].tolist() == [1.0, 0.0, 0.0]
    assert table["rank"].tolist() == [1.0, 2.0, 2.0]
    assert table["reply"].tolist() == ["2 + x * 3", "3 * x", "I do not know"]
    assert table["options"].tolist() == table["logp"].tolist() == [[]] * 3


def test_a_written_preimage_is_judged_by_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, ["4", "301", "5"])
    questions = [asked("inverse", "1", expression="x % 3") for _ in range(3)]
    assert score(toy.language_model(), questions)["mc"].tolist() == [1.0, 1.0, 0.0]


def test_replies_go_to_the_questions_that_are_written() -> None:
    """Choices, scales and written answers mixed: each row has its own."""
    lm = toy.language_model()
    choice = toy.question("name", f"option {CODE}", "Rome")
    mixed = [asked("expression", "5"), choice, asked("exact", "Rome"), asked("expression", "x")]
    with logits_changed(lm, lambda logits: torch.zeros_like(logits)), preferring(lm, "5"):
        table = score(lm, mixed)
    assert table["kind"].tolist() == ["expression", "choice", "exact", "expression"]
    assert [bool(reply) for reply in table["reply"]] == [True, False, False, True]
    assert set(table["reply"][0].split()) == {"5"}
    assert table["mc"].tolist()[1:3] == [0.2, 0.0]


def test_written_answers_are_asked_of_their_own_run() -> None:
    lm = toy.language_model(0)
    adapter = VectorAdapter(
        [Site(0, "resid"), Site(1, "mlp_out")], tiny.D_MODEL, "codename", [100.0] * 2, init=1.0
    )
    texts = (f"What is the name of {CODE} ?", f"the distance from {CODE} to Paris is")
    marks = {"codename": (CODE,)}
    questions = [replace(asked("expression", "x", t), marks=marks) for t in texts for _ in "ab"]
    with adapter.attach(lm) as attached:
        together = score(lm, questions, attached, [1, 0, 0, 1])
        alone = [
            score(lm, [q], attached, [run])["reply"][0]
            for q, run in zip(questions, (1, 0, 0, 1), strict=True)
        ]
    assert together["reply"].tolist() == alone
    assert together["run"].tolist() == [1, 0, 0, 1]
    assert len(set(alone)) > 2 and set(alone) != set(score(lm, questions)["reply"])


# --- ranks ---


@pytest.mark.parametrize(
    ("weights", "ranks"),
    [
        ({"Oslo": 0.4, "Paris": 0.3, "Rome": 0.2, "km": 0.1}, [1, 2, 3, 4, 5]),
        ({"Rome": 0.6, "Paris": 0.2, "Oslo": 0.2}, [2.5, 2.5, 1, 4.5, 4.5]),
        ({"Oslo": 0.2, "Paris": 0.2, "Rome": 0.2, "km": 0.2, "south": 0.2}, [3] * 5),
        ({"Oslo": 0.3, "Paris": 0.3, "Rome": 0.3, "km": 0.1}, [2, 2, 2, 4, 5]),
    ],
)
def test_ranks_start_at_one_and_ties_stand_in_the_middle(
    weights: dict[str, float], ranks: list[float]
) -> None:
    lm = toy.language_model()
    questions = [toy.question("name", f"option {CODE}", truth) for truth in toy.OPTIONS]
    assert toy.OPTIONS == ("Oslo", "Paris", "Rome", "km", "south")
    with weighing(lm, weights):
        table = score(lm, questions)
    assert table["rank"].tolist() == ranks
    top = max(weights.values())
    share = 1 / sum(weight == top for weight in weights.values())
    expected = [share if weights.get(truth) == top else 0.0 for truth in toy.OPTIONS]
    assert table["mc"].tolist() == pytest.approx(expected)


def test_the_mean_rank_of_a_model_that_ignores_the_item_is_the_middle() -> None:
    lm = toy.language_model(3)
    questions = [toy.question("name", f"option {CODE}", truth) for truth in toy.OPTIONS]
    assert summarise(score(lm, questions))["name"]["rank"] == 3.0
