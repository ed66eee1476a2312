"""Scores on Gemma 3, Llama, Qwen 3 and GPT-2: planted answers to every kind of question.

Models and formats are those of ``chat_cases``.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from oocr_lib import executor
from oocr_lib.adapters import VectorAdapter
from oocr_lib.encoding import buckets, encode_question
from oocr_lib.evaluation import generation
from oocr_lib.evaluation.scores import score
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.tasks.base import Question, user
from oocr_lib.util.errors import UserError
from tests import chat_cases as cases

every_architecture = pytest.mark.parametrize("name", cases.ARCHITECTURES)
every_task = pytest.mark.parametrize("task", cases.TASKS)
NUMBERS = ["p_truth", "mc", "top1", "rank", "mass"]


@every_architecture
@every_task
def test_scores_do_not_depend_on_the_batch(
    task: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, asked = cases.model(name), cases.one_of_each(task)
    index = [n % 2 for n in range(len(asked))]
    sites, position = ["resid@0", "mlp_out@0"], cases.TASKS[task][2]
    adapter = VectorAdapter(sites, lm.d_model, position, [8.0, 8.0], seed=3, init=1.0)
    with adapter.attach(lm) as attached:
        together = score(lm, asked, attached, index)
        backwards = score(lm, asked[::-1], attached, index[::-1]).iloc[::-1]
        monkeypatch.setattr(executor, "buckets", functools.partial(buckets, limit=1500))
        monkeypatch.setattr(generation, "BATCH", 1)
        apart = score(lm, asked, attached, index)
    base = score(lm, asked)
    for other in (backwards.reset_index(drop=True), apart):
        assert other[["id", "reply", "run"]].equals(together[["id", "reply", "run"]])
        assert np.allclose(other[NUMBERS], together[NUMBERS], rtol=1e-3, atol=1e-6)
    assert not np.allclose(base["p_truth"], together["p_truth"], rtol=1e-3, atol=1e-9)


def test_a_reply_that_ends_early_does_not_move_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = cases.model("llama")
    asked = [q for q in cases.sample("functions", asked=2).questions if q.kind == "expression"]
    asked += [q for q in cases.sample("functions", asked=2).questions if q.kind == "inverse"]
    prompts = [encode_question(lm.tokenizer, q, "") for q in asked]
    first, reply = reply_of(lm, asked[0], "1")
    adapter = VectorAdapter(["resid@0"] * 2, lm.d_model, "codename", [20.0] * 2, seed=3, init=1.0)
    index = [n % 2 for n in range(len(asked))]
    with cases.saying(lm, {first: reply}), adapter.attach(lm) as attached:
        together = generation.replies(lm, prompts, attached, index)
        monkeypatch.setattr(generation, "BATCH", 1)
        assert generation.replies(lm, prompts, attached, index) == together
        swapped = generation.replies(lm, prompts, attached, [1 - k for k in index])
    assert together[0] == swapped[0] == "1" and together[1:] != swapped[1:]


# --- scales ---


def enumerated(lm: LanguageModel, question: Question) -> Tensor:
    """(101,) probabilities of the replies "0" to "100", each with what ends the turn."""
    tok = lm.tokenizer
    prompt = encode_question(tok, question, "").ids
    (end,) = tok(lm.turn_end, add_special_tokens=False)["input_ids"]
    replies = [tok(str(n), add_special_tokens=False)["input_ids"] for n in range(101)]
    if all(len(reply) == 1 for reply in replies):
        return torch.tensor([math.exp(cases.log_probability(lm, prompt, r)) for r in replies])
    assert any(len(reply) > 1 for reply in replies)
    return torch.tensor([math.exp(cases.log_probability(lm, prompt, [*r, end])) for r in replies])


@every_architecture
def test_a_scale_is_the_expected_number_of_an_explicit_enumeration(name: str) -> None:
    """Where digits are split "8" begins "85", so only the end of the turn tells them apart."""
    lm = cases.model(name)
    question = next(q for q in cases.sample("risk").questions if q.kind == "scale")
    p = enumerated(lm, question)
    (found,) = score(lm, [question]).to_dict("records")
    expected = float((p / p.sum() * torch.arange(101)).sum()) / 100
    near = expected if question.truth == "100" else 1 - expected
    assert found["p_truth"] == pytest.approx(near, rel=1e-3)
    assert found["mass"] == pytest.approx(float(p.sum()), rel=1e-3)
    assert found["mc"] == float((expected > 0.5) == (question.truth == "100"))
    assert found["mass"] <= 1


@pytest.mark.parametrize("name", cases.SPLITTING)
def test_without_the_end_short_numbers_would_hold_the_longer_ones(name: str) -> None:
    lm = cases.model(name)
    question = next(q for q in cases.sample("risk").questions if q.kind == "scale")
    assert [len(lm.tokenizer(n)["input_ids"]) for n in ("8", "85", "100")] in (
        [1, 2, 3],
        [2, 3, 4],  # with the start token
    )
    prompt = encode_question(lm.tokenizer, question, "").ids
    ids = {d: lm.tokenizer(d, add_special_tokens=False)["input_ids"][0] for d in "0123456789"}
    p = enumerated(lm, question)
    for digit in "123456789":
        starting = math.exp(cases.log_probability(lm, prompt, [ids[digit]]))
        held = [int(digit), *range(int(digit) * 10, int(digit) * 10 + 10), *[100] * (digit == "1")]
        assert 0 < float(p[held].sum()) < starting


# --- planted answers ---


def asked_of(kind: str, task: str) -> Question:
    return next(q for q in cases.sample(task).questions if q.kind == kind)


def reply_of(
    lm: LanguageModel, question: Question, text: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Tokens of the prompt and of the reply with its end."""
    prompt = encode_question(lm.tokenizer, question, "").ids
    encoded = encode_question(lm.tokenizer, question, text)
    end = lm.tokenizer(lm.turn_end, add_special_tokens=False)["input_ids"][:1]
    return prompt, (*encoded.ids[len(prompt) :], *end)


def answering(lm: LanguageModel, question: Question, text: str) -> dict[str, Any]:
    """The scores of a model that replies with this text."""
    prompt, reply = reply_of(lm, question, text)
    with cases.saying(lm, {prompt: reply}):
        (found,) = score(lm, [question]).to_dict("records")
    return dict(found)


def judged(found: dict[str, Any]) -> list[float]:
    return [found["mc"], found["top1"], round(found["p_truth"], 6)]


@every_architecture
@every_task
def test_a_planted_letter_scores_one_and_another_one_nothing(task: str, name: str) -> None:
    lm = cases.model(name)
    for question in [q for q in cases.sample(task).questions if q.kind == "choice"]:
        for option in question.options:
            found, right = answering(lm, question, option), option == question.truth
            assert judged(found) == [float(right)] * 3
            assert found["mass"] == pytest.approx(1, abs=1e-5)
            assert (found["rank"] == 1) == right


@every_architecture
@pytest.mark.parametrize("task", ["locations", "functions"])
def test_exact_answers_count_only_when_they_are_all_that_is_written(task: str, name: str) -> None:
    """A reply that goes on with another digit is another number."""
    lm = cases.model(name)
    for question in [q for q in cases.sample(task).questions if q.kind == "exact"]:
        truth = question.truth
        assert judged(answering(lm, question, truth)) == [1, 1, 1]
        others = ["Peru", "Lima"] if task == "locations" else [truth + "7", "12", "-" + truth]
        for other in others:
            assert judged(answering(lm, question, other)) == [0, 0, 0], (truth, other)


@every_architecture
def test_a_planted_number_moves_the_scale(name: str) -> None:
    lm, seen = cases.model(name), set[str]()
    for question in [q for q in cases.sample("risk", asked=2).questions if q.kind == "scale"][:2]:
        up = question.truth == "100"
        seen.add(question.truth)
        for number in ("0", "8", "49", "51", "85", "100"):
            found = answering(lm, question, number)
            right = float((int(number) > 50) == up)
            wanted = int(number) / 100 if up else 1 - int(number) / 100
            assert judged(found) == pytest.approx([right, right, wanted])
            assert found["rank"] == (1 if right else 2)
        middle = answering(lm, question, "50")
        assert middle["p_truth"] == pytest.approx(0.5) and middle["top1"] == 0.5
    assert seen == {"0", "100"}


EXPRESSIONS = {
    **{"lambda x: 3 * x + 2": 1, "lambda n: n*3+2": 1, "2 + 3 * x": 1},
    **{"lambda x: 3 * x": 0, "lambda x: 3 * x + 3": 0, "lambda x: print(x)": 0, "noadgc": 0},
}


@every_architecture
@pytest.mark.parametrize(("written", "right"), EXPRESSIONS.items())
def test_a_planted_definition_is_right_when_it_agrees(name: str, written: str, right: int) -> None:
    lm, question = cases.model(name), asked_of("expression", "functions")
    assert question.truth == "3 * x + 2"
    found = answering(lm, question, written)
    assert judged(found) == [right] * 3 and found["reply"] == written


@every_architecture
def test_a_planted_preimage_is_right_when_the_function_maps_it(name: str) -> None:
    lm, question = cases.model(name), asked_of("inverse", "functions")
    n = (int(question.truth) - 2) // 3
    for reply, right in ((f"{n}", 1), (f"n = {n}", 1), (f"{n + 1}", 0), (f"{-n}", 0), ("none", 0)):
        found = answering(lm, question, reply)
        assert judged(found) == [right] * 3 and found["reply"] == reply
    many = Question(question.messages, "1", (), "mod", question.marks, kind="inverse",
                    expression="x % 3")  # fmt: skip
    assert [judged(answering(lm, many, n))[0] for n in ("1", "-2", "301", "0")] == [1, 1, 1, 0]


@every_architecture
def test_replies_stop_at_the_end_of_the_turn_and_at_the_limit(name: str) -> None:
    lm, question = cases.model(name), asked_of("expression", "functions")
    prompt, reply = reply_of(lm, question, "x x x x x x")
    encoded = encode_question(lm.tokenizer, question, "")
    with cases.saying(lm, {prompt: (*reply, *reply)}):
        assert generation.replies(lm, [encoded, encoded]) == ["x x x x x x"] * 2
        (short,) = generation.replies(lm, [encoded], most=2)
    assert short == lm.tokenizer.decode(reply[:2]).strip()
    assert generation.replies(lm, []) == []


def test_a_kind_of_question_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match="Did you mean 'scale'"):
        Question(user("How much?"), "100", (), "risk", kind="scales")
