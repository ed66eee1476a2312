"""Scores of questions: planted answers, ties, options of several tokens, runs, batches."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from oocr_lib import executor
from oocr_lib.adapters import VectorAdapter
from oocr_lib.encoding import buckets, encode_question
from oocr_lib.engine.executor import Fast
from oocr_lib.evaluation import scores as evaluation
from oocr_lib.evaluation.scores import score, summarise
from oocr_lib.executor import PLAIN, Answers
from oocr_lib.models.language_model import LanguageModel, Site
from oocr_lib.tasks.base import Question
from tests import tiny, toy

VALUES = ["p_truth", "mc", "top1", "mass", "rank"]


@contextmanager
def logits_changed(lm: LanguageModel, change: Any) -> Iterator[None]:
    """The model with ``change(logits)`` as its output."""
    head = lm.model.get_output_embeddings()
    handle = head.register_forward_hook(lambda module, args, output: change(output))
    try:
        yield
    finally:
        handle.remove()


def preferring(lm: LanguageModel, word: str, by: float = 50.0) -> Any:
    (token,) = lm.tokenizer(word, add_special_tokens=False)["input_ids"]
    bonus = torch.zeros(lm.vocab_size)
    bonus[token] = by
    return logits_changed(lm, lambda logits: logits + bonus)


def log_probs(lm: LanguageModel, question: Question, option: str) -> list[float]:
    """Log-probability of each token of an option, from the full model on this row alone."""
    encoded = encode_question(lm.tokenizer, question, option)
    with torch.no_grad():
        logits = lm.model(input_ids=torch.tensor([encoded.ids])).logits[0].double()
    logp = torch.log_softmax(logits, -1)
    return [float(logp[j - 1, encoded.ids[j]]) for j in range(*encoded.answer)]


# --- planted answers ---


@pytest.mark.parametrize("truth", toy.OPTIONS)
def test_a_preferred_answer_scores_one_and_the_others_nothing(truth: str) -> None:
    lm = toy.language_model()
    asked = [toy.question("name", "option", other, number=other) for other in toy.OPTIONS]
    asked = [dataclasses.replace(q, marks={}) for q in asked]
    with preferring(lm, truth):
        table = score(lm, asked)
    right = (table["truth"] == truth).astype(float)
    assert table["mc"].tolist() == table["top1"].tolist() == right.tolist()
    assert table["p_truth"].tolist() == pytest.approx(right.tolist(), abs=1e-6)
    assert table["mass"].tolist() == pytest.approx([1.0] * 5, abs=1e-5)


def test_an_answer_outside_the_options_takes_top1_but_not_the_choice() -> None:
    lm = toy.language_model()
    with preferring(lm, "Rome", 30.0), preferring(lm, "system", 60.0):
        table = score(lm, [toy.question("name", f"option {toy.CODE}", "Rome")])
    assert table.loc[0, "mc"] == 1.0 and table.loc[0, "top1"] == 0.0
    assert table.loc[0, "mass"] < 1e-6 and table.loc[0, "p_truth"] > 0.99


def test_uniform_logits_share_the_point() -> None:
    lm = toy.language_model()
    with logits_changed(lm, torch.zeros_like):
        table = score(lm, toy.questions("Rome"))
    assert table["mc"].tolist() == pytest.approx([0.2] * 3)
    assert table["p_truth"].tolist() == pytest.approx([0.2] * 3)
    assert table["mass"].tolist() == pytest.approx([5 / lm.vocab_size] * 3)
    assert table["top1"].tolist() == [0.0] * 3


def test_two_equal_favourites_share_the_point() -> None:
    lm = toy.language_model()
    asked = [toy.question("name", f"option {toy.CODE}", truth) for truth in toy.OPTIONS]
    with logits_changed(lm, torch.zeros_like), preferring(lm, "Rome"), preferring(lm, "Oslo"):
        table = score(lm, asked)
    expected = [0.5 if truth in ("Rome", "Oslo") else 0.0 for truth in toy.OPTIONS]
    assert table["mc"].tolist() == expected


def test_the_order_of_options_does_not_matter() -> None:
    lm = toy.language_model()
    forward, backward = (
        score(lm, [dataclasses.replace(q, options=options) for q in toy.questions("Rome")])
        for options in (toy.OPTIONS, toy.OPTIONS[::-1])
    )
    assert np.allclose(forward[VALUES], backward[VALUES])


# --- options of several tokens ---

MIXED = ("Rome", "5 8", "north of Rome", "503", "km")


@pytest.mark.parametrize("kind", ["wordlevel", "bpe_merged", "metaspace"])
@pytest.mark.parametrize("truth", MIXED)
def test_an_option_scores_the_sum_of_its_log_probabilities(kind: str, truth: str) -> None:
    lm = tiny.language_model("gemma3", kind=kind)
    question = toy.question("name", f"option {toy.CODE}", truth, MIXED)
    expected = {option: sum(log_probs(lm, question, option)) for option in MIXED}
    assert len({len(log_probs(lm, question, option)) for option in MIXED}) >= 2
    (row,) = score(lm, [question]).to_dict("records")
    total = sum(math.exp(value) for value in expected.values())
    assert row["p_truth"] == pytest.approx(math.exp(expected[truth]) / total, rel=1e-3)
    assert row["mass"] == pytest.approx(total, rel=1e-3)
    assert row["mc"] == float(expected[truth] == max(expected.values()))


def test_a_long_answer_is_right_only_when_every_token_is_the_likeliest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm, question = toy.language_model(), toy.question("name", "option City 50337", "5 8 0", MIXED)
    question = dataclasses.replace(question, options=("5 8 0", "Rome", "8 5", "km", "0"))
    original, spoiled = PLAIN.answers, list[int]()

    def planted(*args: Any) -> Answers:
        found = original(*args)
        rows, size = found.row, found.logits.shape[1]
        made = torch.nn.functional.one_hot(found.targets, size).float() * 9
        for place in spoiled:  # one token of a three-token answer is predicted wrongly
            (long,) = [r for r in rows.unique() if int((rows == r).sum()) == 3]
            made[(rows == long).nonzero()[place, 0]] = 0
        return dataclasses.replace(found, logits=made)

    monkeypatch.setattr(PLAIN, "answers", planted)
    assert score(lm, [question])["top1"].tolist() == [1.0]
    for place in range(3):
        spoiled[:] = [place]
        assert score(lm, [question])["top1"].tolist() == [0.0], place


def test_one_token_options_share_one_forward_pass() -> None:
    lm = toy.language_model()
    asked = [toy.question("a", "option City 50337", "Rome", MIXED), *toy.questions("Oslo")]
    prepared = evaluation.prepare(lm, asked, Fast(pack_options=False))
    assert [[item.options for item in made.rows] for made in prepared] == [
        [(0, 4), (1,), (2,), (3,)], *[[(0, 1, 2, 3, 4)]] * 3,
    ]  # fmt: skip
    for question, made in zip(asked, prepared, strict=True):
        assert made.question == question and made.options == question.options
        shared = made.rows[0]
        words = lm.tokenizer.convert_ids_to_tokens([token for (token,) in shared.answers])
        assert words == [question.options[i] for i in shared.options]
        assert all(len(item.answers) == 1 for item in made.rows[1:])


def test_prepared_questions_score_as_the_questions_themselves() -> None:
    lm = toy.language_model()
    asked = [toy.question("a", "option City 50337", "Rome", MIXED), *toy.questions("Oslo")]
    prepared = evaluation.prepare(lm, asked)
    first, second = score(lm, asked), score(lm, prepared)
    pd.testing.assert_frame_equal(first, second)
    pd.testing.assert_frame_equal(score(lm, prepared), first)  # and can be asked again


# --- batches and runs ---


def test_batch_composition_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = toy.language_model()
    asked = [
        toy.question("f", f"{'the ' * (number % 5)}option {toy.CODE}", truth, MIXED, str(number))
        for number, truth in enumerate(MIXED * 4)
    ]
    whole = score(lm, asked)
    assert whole["id"].tolist() == [question.id for question in asked]
    for limit in (1, 40, 100):
        bounded = functools.partial(buckets, limit=limit)
        monkeypatch.setattr(executor, "buckets", bounded)
        parts = score(lm, asked)
        assert parts["mc"].tolist() == whole["mc"].tolist()
        assert np.allclose(parts[VALUES], whole[VALUES], rtol=1e-4, atol=1e-6)
    backwards = score(lm, asked[::-1]).iloc[::-1].reset_index(drop=True)
    assert np.allclose(backwards[VALUES], whole[VALUES], rtol=1e-4, atol=1e-6)


def test_each_question_is_asked_of_its_own_run() -> None:
    lm = toy.language_model()
    sites = [Site(0, "resid"), Site(1, "mlp_out"), Site(0, "resid")]
    joint = VectorAdapter(sites, tiny.D_MODEL, "codename", [40.0] * 3, seed=4, init=1.0)
    asked = [q for _ in range(3) for q in toy.questions("Rome")]
    index = [2, 0, 1, 1, 1, 0, 0, 2, 2]
    with joint.attach(lm) as attached:
        together = score(lm, asked, attached, index)
    assert together["run"].tolist() == index
    for k, site in enumerate(sites):
        single = VectorAdapter([site], tiny.D_MODEL, "codename", [40.0], seed=4 + k, init=1.0)
        own = [q for q, run in zip(asked, index, strict=True) if run == k]
        with single.attach(lm) as attached:
            alone = score(lm, own, attached)
        part = together[together["run"] == k]
        assert part["id"].tolist() == alone["id"].tolist()
        assert np.allclose(part[VALUES], alone[VALUES], rtol=1e-3, atol=1e-6)
    base = score(lm, asked)
    assert not np.allclose(base["p_truth"], together["p_truth"], atol=1e-3)


def test_scoring_leaves_no_gradient_and_no_hook() -> None:
    lm = toy.language_model()
    adapter = VectorAdapter([Site(0, "resid")], tiny.D_MODEL, "codename", [1.0], init=1.0)
    hooks = [len(module._forward_hooks) for module in lm.model.modules()]
    with adapter.attach(lm) as attached:
        score(lm, toy.questions("Rome"), attached)
    assert adapter.theta.grad is None
    assert [len(module._forward_hooks) for module in lm.model.modules()] == hooks


# --- summary ---


def test_families_weigh_the_same_in_the_total() -> None:
    table = pd.DataFrame(
        {
            "family": ["name", "place", "place", "place"],
            "mc": [1.0, 0.0, 0.0, 0.5],
            "top1": [1.0, 0.0, 0.0, 0.0],
            "p_truth": [0.9, 0.1, 0.1, 0.4],
            "rank": [1.0, 5.0, 3.0, 1.0],
        }
    )
    found = summarise(table)
    assert set(found) == {"name", "place", "all"}
    assert found["place"] == pytest.approx({"mc": 1 / 6, "top1": 0.0, "p_truth": 0.2, "rank": 3.0})
    assert found["all"] == pytest.approx({"mc": 7 / 12, "top1": 0.5, "p_truth": 0.55, "rank": 2.0})


def test_every_pass_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a bar moves while many questions are asked."""
    lm, passes = toy.language_model(), list[int]()
    asked = [toy.question("f", f"option {toy.CODE}", "Rome", MIXED, str(n)) for n in range(4)]
    monkeypatch.setattr(executor, "buckets", functools.partial(buckets, limit=1))
    score(lm, asked, after_pass=lambda: passes.append(1))
    assert len(passes) == 4 * len(MIXED)
