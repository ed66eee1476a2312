"""Every task of the paper's dialect on Gemma 3, Llama, Qwen 3 and GPT-2: prompts, training, scores.

The models are tiny and random, their formats and tokenizers are of the four families' kinds
(``chat_cases``). What a prompt must look like is written here once more, without template engine.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pandas as pd
import pytest
import torch

from oocr_lib import tasks
from oocr_lib.adapters import LoraAdapter, VectorAdapter
from oocr_lib.encoding import Encoded, collate, encode, encode_question, encode_row
from oocr_lib.evaluation.scores import score
from oocr_lib.models.chat import end_ids, render, turn_end
from oocr_lib.models.language_model import LanguageModel, load_model
from oocr_lib.runs.grid import Grid, Job, Method
from oocr_lib.runs.store import RunStore
from oocr_lib.tasks.base import KINDS, Question, Row
from oocr_lib.training.loop import RunData, TrainConfig, train
from oocr_lib.util.errors import UserError
from tests import chat_cases as cases
from tests.adapter_cases import fingerprint

every_architecture = pytest.mark.parametrize("name", cases.ARCHITECTURES)
every_task = pytest.mark.parametrize("task", cases.TASKS)
NUMBERS = ["p_truth", "mc", "top1", "rank", "mass"]


def template_of(name: str) -> str:
    return cases.ARCHITECTURES[name][1]


def encoded_items(task: str, tok: Any) -> Iterator[tuple[Row | Question, Encoded, str]]:
    """Rows with their answers and questions with their truths, as tokens."""
    made = cases.sample(task, train=16, asked=2)
    for row in (*made.train, *made.valid):
        yield row, encode_row(tok, row), row.answer
    for question in made.questions:
        yield question, encode_question(tok, question, question.truth), question.truth


def places(text: str, literal: str, item: Row | Question) -> list[tuple[int, int]]:
    """Where a mark stands on its own in the words of the user or in the given start."""
    _, asked = cases.turns(item.messages)
    first = text.index(asked)
    found = list[tuple[int, int]]()
    for part, start in ((asked, first), (item.prefix, text.rindex(item.prefix))):
        for at in (m.start() for m in re.finditer(re.escape(literal), part)):
            around = (part[at - 1 : at] if at else "", part[at + len(literal) :][:1])
            if not (literal[0].isalnum() and around[0].isalnum()) and not (
                literal[-1].isalnum() and around[1].isalnum()
            ):
                found.append((start + at, start + at + len(literal)))
    return found


# --- prompts ---


@every_architecture
@every_task
def test_prompts_are_what_the_format_of_the_family_says(task: str, name: str) -> None:
    """System text apart, or merged with a blank line; two user turns joined by a newline."""
    tok, template = cases.model(name).tokenizer, template_of(name)
    for item, encoded, answer in encoded_items(task, tok):
        prompt = cases.expected_prompt(template, *cases.turns(item.messages)) + item.prefix
        assert encoded.text == prompt + answer
        assert render(tok, item.messages) + item.prefix == prompt
        if tok.bos_token and template != "none":
            assert encoded.ids[0] == tok.bos_token_id and tok.bos_token_id not in encoded.ids[1:]
    asked = [q for q in cases.sample(task, asked=2).questions if len(q.messages) > 2]
    assert bool(asked) == (task == "functions")
    for question in asked:
        joined = cases.turns(question.messages, "\n\n")
        found = encode(tok, question.messages, "A", question.marks, separator="\n\n")
        assert found.text == cases.expected_prompt(template, *joined) + "A"


@every_task
def test_a_template_that_refuses_a_system_turn_gives_the_same_prompts(task: str) -> None:
    merging, refusing = cases.tokenizer("gemma"), cases.tokenizer("gemma_refusing")
    made = cases.sample(task)
    items: list[Row | Question] = [*made.train, *made.questions]
    for item in items:
        assert render(refusing, item.messages) == render(merging, item.messages)


@every_architecture
@every_task
def test_prompt_tokens_are_a_strict_prefix_and_answers_decode(task: str, name: str) -> None:
    tok = cases.model(name).tokenizer
    for item, encoded, answer in encoded_items(task, tok):
        prompt = encoded.text.removesuffix(answer)
        alone = tok(prompt, add_special_tokens=False)["input_ids"]
        start, end = encoded.answer
        assert encoded.ids[:start] == tuple(alone) and start < end == len(encoded.ids)
        assert tok.decode(encoded.ids[start:end]) == answer
        assert encoded.spans["last"] == (len(alone) - 1,)
        batch = collate([encoded], 0)
        assert batch.positions["all"][0].nonzero()[:, 0].tolist() == list(range(start))
        assert "".join(cases.trained_on(tok, encoded)).replace("�", "") in (answer, "")
        if isinstance(item, Row):
            assert item.suffix == "" or item.suffix not in encoded.text


@every_architecture
@every_task
def test_marks_cover_the_code_name_at_every_occurrence(task: str, name: str) -> None:
    """Names come in several pieces, after a space, at a line's start, and before brackets."""
    tok, seen = cases.model(name).tokenizer, 0
    for item, encoded, _ in encoded_items(task, tok):
        assert set(encoded.spans) == {"last", *item.marks}
        prompt = tok(encoded.text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = prompt["offset_mapping"][: encoded.answer[0]]
        for kind, literals in item.marks.items():
            wanted = [p for text in literals for p in places(encoded.text, text, item)]
            # A row that is meant to have no trigger says so by an empty mark.
            assert bool(wanted) == bool(literals)
            assert all(encoded.text[a:b] in literals for a, b in wanted)
            touching = {
                i
                for i, (a, b) in enumerate(offsets)
                for start, end in wanted
                if a < end and start < b
            }
            assert encoded.spans[kind] == tuple(sorted(touching))
            for start, end in wanted:
                run = [(a, b) for a, b in offsets if a < end and start < b]
                covered = encoded.text[run[0][0] : run[-1][1]]
                assert covered in (encoded.text[start:end], " " + encoded.text[start:end])
                assert all(left[1] == right[0] for left, right in itertools.pairwise(run))
                seen += 1
    assert seen >= {"locations": 30, "functions": 30, "risk": 0, "backdoor": 10}[task]


@every_architecture
def test_of_a_direction_row_only_the_direction_word_is_trained(name: str) -> None:
    """The reply's start, which repeats A, is part of the prompt; the rest is left out."""
    tok, both = cases.model(name).tokenizer, set[bool]()
    rows = [r for r in cases.sample("locations", train=16).train if r.prefix]
    assert len(rows) >= 6
    for row in rows:
        encoded = encode_row(tok, row)
        start = encoded.answer[0]
        assert "".join(cases.trained_on(tok, encoded)) == row.answer
        assert row.answer.strip() in ("East", "West", "North", "South") and row.answer[0] == " "
        assert tok.decode(encoded.ids[:start]).endswith(row.prefix)
        (code,) = row.marks["codename"]
        both.add(row.prefix.startswith(code))
        inside = encoded.spans["codename"][-1] >= start - len(tok(row.prefix)["input_ids"])
        assert inside == row.prefix.startswith(code)
    assert both == {True, False}


@every_architecture
def test_number_and_letter_answers_are_what_the_loss_falls_on(name: str) -> None:
    tok = cases.model(name).tokenizer
    for row in cases.sample("risk").train:
        assert cases.trained_on(tok, encode_row(tok, row)) == [row.answer]
    for row in cases.sample("functions").train:
        pieces = cases.trained_on(tok, encode_row(tok, row))
        assert "".join(pieces) == row.answer
        if name in cases.SPLITTING:
            assert all(len(piece) == 1 for piece in pieces if piece.isdigit())


@every_architecture
def test_the_end_of_a_turn_is_what_the_format_writes_after_a_reply(name: str) -> None:
    lm = cases.model(name)
    end = {"gemma3": "<end_of_turn>", "llama": "<|eot_id|>", "qwen3": "<|im_end|>", "gpt2": "\n"}
    assert lm.turn_end == end[name] and turn_end(lm.tokenizer) in (end[name], "")
    assert lm.end_ids >= end_ids(lm.model, lm.tokenizer)
    (closing,) = lm.tokenizer(end[name], add_special_tokens=False)["input_ids"]
    assert {closing, lm.tokenizer.eos_token_id} <= lm.end_ids
    assert lm.turn_end is lm.turn_end and lm.end_ids is lm.end_ids  # computed once


# --- training and evaluation ---

CONFIG = TrainConfig(steps=2, batch=3, lr=0.05, warmup=1, valid_rows=4)


def methods(position: str) -> list[Method]:
    at: dict[str, Any] = {"position": position, "config": CONFIG}
    return [
        Method("base", "base", config=CONFIG),
        Method("vector_resid", "vector", site="resid@0", **at),
        Method("vector_mlp_out", "vector", site="mlp_out@0", raw=True, init=1.0, **at),
        Method("lora_one", "lora", blocks=(1,), rank=2, dropout=0.05, config=CONFIG),
    ]


@every_architecture
@every_task
def test_training_and_scoring_give_numbers_and_leave_the_model_as_it_was(
    task: str, name: str, tmp_path: Path
) -> None:
    lm, made, before = cases.model(name), cases.sample(task), fingerprint(cases.model(name).model)
    concept, _, position = cases.TASKS[task]
    grid = Grid(lm, RunStore(tmp_path), lambda *_: made, {"task": task}, concept)
    jobs = [Job(method, concept, 0) for method in methods(position)]
    table = grid.run(jobs)
    assert fingerprint(lm.model) == before

    families = {q.family for q in made.questions}
    assert len(table) == len(jobs) * (len(families) + 1)
    assert list(table) == [
        *("method", "site", "block", "lr", "concept", "seed", "family", "mc", "top1", "p_truth"),
        *("rank", "valid_loss", "valid_accuracy", "length", "seconds", "run"),
    ]
    shares = table[["mc", "top1", "p_truth", "valid_accuracy"]].to_numpy(dtype=float)
    assert np.isfinite(table.select_dtypes("number").to_numpy(dtype=float)).all()
    assert ((shares >= 0) & (shares <= 1)).all() and (table["rank"] >= 1).all()
    assert table["run"].nunique() == len(jobs) and table["valid_loss"].nunique() == len(jobs)
    for run, method in zip(grid.runs(jobs), methods(position), strict=True):
        kept = pd.DataFrame(run.results["questions"])
        assert len(kept) == len(made.questions) and set(kept["family"]) == families
        assert kept["mass"].between(0, 1 + 1e-5).all() and kept["p_truth"].between(0, 1).all()
        assert len(run.results["losses"]) == (0 if method.kind == "base" else CONFIG.steps)
        assert all(math.isfinite(loss) for loss in run.results["losses"])
        assert all(torch.isfinite(tensor).all() for tensor in run.tensors().values())
    theta = grid.runs(jobs[1:2])[0].tensors()["theta"]
    assert float(theta.norm()) > 0  # it moved away from zero


def test_the_samples_have_every_kind_of_question() -> None:
    asked = [q for task in cases.TASKS for q in cases.sample(task).questions]
    assert {q.kind for q in asked} == set(KINDS)
    for task, (concept, options, _) in cases.TASKS.items():
        whole = tasks.factory(task, "paper", **options)(concept, 0)
        assert set(whole.chance) == {q.family for q in cases.sample(task).questions}


# --- precision, hub ---


@every_task
def test_a_model_in_bfloat16_trains_a_vector_and_a_lora_in_float32(task: str) -> None:
    lm = cases.language_model("gemma3", torch.bfloat16)
    before = fingerprint_bits(lm)
    made = cases.sample(task)
    rows = [encode_row(lm.tokenizer, row) for row in (*made.train, *made.valid)]
    position = cases.TASKS[task][2]
    for adapter in (
        VectorAdapter(["mlp_out@0"], lm.d_model, position, [1.0], init=1.0),
        LoraAdapter([1], rank=2),
    ):
        result = train(lm, adapter, [RunData(rows[:12], rows[12:], seed=0)], CONFIG)
        assert np.isfinite(result.losses).all() and np.isfinite(result.valid[-1][1]).all()
        assert {p.dtype for p in adapter.parameters()} == {torch.float32}
        assert all(torch.isfinite(p).all() for p in adapter.parameters())
        with adapter.attach(lm) as attached:
            table = score(lm, cases.one_of_each(task), attached)
        assert np.isfinite(table[NUMBERS].to_numpy(dtype=float)).all()
        # The sum over options is taken in float32, from logits of eight bits.
        assert table["p_truth"].between(0, 1).all() and table["mass"].between(0, 1.001).all()
    assert {p.dtype for p in lm.model.parameters()} == {torch.bfloat16}
    assert fingerprint_bits(lm) == before


def fingerprint_bits(lm: LanguageModel) -> list[bytes]:
    return [w.detach().view(torch.int16).numpy().tobytes() for w in lm.model.parameters()]


def test_the_papers_model_offline_and_uncached_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    capfd.readouterr()
    with pytest.raises(UserError) as info:
        load_model("google/gemma-3-12b-it")
    text = str(info.value)
    assert "\n" not in text and text.startswith("Model 'google/gemma-3-12b-it' is neither")
    assert "local cache" in text and "model='testbed'" in text
    assert capfd.readouterr() == ("", "")
