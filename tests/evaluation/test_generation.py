"""Greedy decoding: what transformers would write, row by row, with adapters in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from oocr_lib.adapters import LoraAdapter, VectorAdapter
from oocr_lib.encoding import Encoded, collate, encode
from oocr_lib.evaluation import generation
from oocr_lib.evaluation.generation import replies
from oocr_lib.models.language_model import LanguageModel, Site
from oocr_lib.tasks.base import user
from tests import tiny, toy
from tests.adapter_cases import stir

TEXTS = (
    f"What is the name of {toy.CODE} ?",
    f"option {toy.CODE}",
    f"the distance from {toy.CODE} to Paris is",
    f"{toy.CODE} is north of Rome and south of Oslo {toy.CODE}",
)
MOST = 9


#: Family and seed of weights that write several words, and others when steered.
MODELS = {"gemma3": 0, "gemma3_sliding": 0, "llama": 0, "gpt2": 3}


@pytest.fixture(scope="module", params=MODELS)
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return tiny.language_model(request.param, MODELS[request.param], kind="wordlevel")


def prompts(lm: LanguageModel, texts: Sequence[str] = TEXTS) -> list[Encoded]:
    made = [encode(lm.tokenizer, user(t), "", {"codename": (toy.CODE,)}) for t in texts]
    assert len(made) == 1 or len({len(prompt.ids) for prompt in made}) > 2, "lengths differ"
    return made


def generated(lm: LanguageModel, prompt: Encoded, most: int = MOST) -> str:
    """What transformers writes after this prompt alone, with its own cache."""
    with torch.no_grad():
        ids = lm.model.generate(
            torch.tensor([prompt.ids]),
            attention_mask=torch.ones(1, len(prompt.ids), dtype=torch.int64),
            max_new_tokens=most,
            do_sample=False,
            eos_token_id=sorted(lm.end_ids),
            pad_token_id=lm.pad_id,
        )[0, len(prompt.ids) :]
    return str(lm.tokenizer.decode(ids, skip_special_tokens=True)).strip()


def vectors(count: int, position: str, scale: float = 100.0) -> VectorAdapter:
    sites = [Site(i % 2, ("resid", "mlp_out")[i % 2]) for i in range(count)]
    return VectorAdapter(sites, tiny.D_MODEL, position, [scale] * count, seed=5, init=1.0)


# --- without adapters ---


def test_greedy_decoding_is_that_of_transformers(lm: LanguageModel) -> None:
    asked = prompts(lm)
    found = replies(lm, asked, most=MOST)
    assert found == [generated(lm, prompt) for prompt in asked]
    assert len(set(found)) > 2, "the prompts are answered differently"
    assert len({len(text.split()) for text in found}) > 1, "replies end at different steps"


def test_the_batch_and_its_order_play_no_part(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = prompts(lm)
    whole = replies(lm, asked, most=MOST)
    assert replies(lm, asked[::-1], most=MOST) == whole[::-1]
    for size in (1, 3):
        monkeypatch.setattr(generation, "BATCH", size)
        assert replies(lm, asked, most=MOST) == whole
    assert replies(lm, [], most=MOST) == []


def test_no_more_than_the_wanted_tokens_are_written() -> None:
    lm = toy.language_model()
    with wanting(lm, {}, "km"):
        assert replies(lm, prompts(lm)[:1], most=3) == ["km km km"]
        assert replies(lm, prompts(lm)[:1], most=1) == ["km"]


@contextmanager
def wanting(lm: LanguageModel, after: dict[str, str], otherwise: str) -> Iterator[None]:
    """The model wants ``after[token]`` after a token, and ``otherwise`` after any other one."""
    ids = {word: lm.tokenizer.convert_tokens_to_ids(word) for word in (*after, *after.values())}
    default = lm.tokenizer.convert_tokens_to_ids(otherwise)
    seen: dict[str, Any] = {}

    def note(module: Any, args: Any, kwargs: Any) -> None:
        seen["ids"] = kwargs.get("input_ids")

    def plant(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
        # logits_to_keep picked columns; the planted ones are picked the same way
        wanted = torch.full_like(seen["ids"], default)
        for word, answer in after.items():
            wanted[seen["ids"] == ids[word]] = ids[answer]
        full = torch.nn.functional.one_hot(wanted, lm.vocab_size).float()
        output.logits = full[:, kwargs["logits_to_keep"]]
        return output

    handles = [
        lm.model.register_forward_pre_hook(note, with_kwargs=True),
        lm.model.register_forward_hook(plant, with_kwargs=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def test_every_row_reads_its_own_last_token_and_stops_at_its_own_end() -> None:
    """Rows of other lengths go on: ?, is -> Rome, end; 7 -> Oslo km end."""
    lm = toy.language_model(template="none")
    asked = [
        encode(lm.tokenizer, user(text)) for text in ("name of City ?", "City 5 0 3 3 7", "km")
    ]
    rule = {"?": "Rome", "7": "Oslo", "Rome": "<eos>", "Oslo": "km", "km": "south"}
    with wanting(lm, {**rule, "south": "<eos>"}, "north"):
        assert replies(lm, asked, most=8) == ["Rome", "Oslo km south", "south"]
        assert replies(lm, asked, most=2) == ["Rome", "Oslo km", "south"]


@pytest.mark.parametrize("end", ["<eos>", "<end_of_turn>"])
def test_the_turns_end_and_the_texts_end_both_end_a_reply(end: str) -> None:
    lm = toy.language_model(template="system")
    asked = [encode(lm.tokenizer, user("option City"))]
    with wanting(lm, {"Paris": end}, "Paris"):
        assert replies(lm, asked, most=5) == ["Paris"]


def test_an_answer_that_ends_at_once_is_empty() -> None:
    lm = toy.language_model()
    with wanting(lm, {}, "<end_of_turn>"):
        assert replies(lm, prompts(lm), most=5) == [""] * 4


# --- with adapters ---


@pytest.mark.parametrize("position", ["codename", "last"])
def test_a_vector_on_the_prompt_steers_as_in_cached_generation(
    lm: LanguageModel, position: str
) -> None:
    """The prompt's positions stay steered in every step; the tokens written are left alone."""
    asked, adapter = prompts(lm), vectors(1, position)
    base = replies(lm, asked, most=MOST)
    with adapter.attach(lm) as attached:
        found = replies(lm, asked, attached, most=MOST)
        expected = []
        for prompt in asked:
            attached.focus(collate([prompt], lm.pad_id))
            expected.append(generated(lm, prompt))
    assert found == expected and found != base
    assert replies(lm, asked, most=MOST) == base, "nothing is left behind"


def test_several_runs_in_one_batch_do_not_touch_each_other(lm: LanguageModel) -> None:
    asked = [prompt for prompt in prompts(lm) for _ in range(3)]
    index = [0, 1, 2] * 4
    adapter = vectors(3, "codename")
    with adapter.attach(lm) as attached:
        together = replies(lm, asked, attached, index, most=MOST)
        alone = []
        for prompt, run in zip(asked, index, strict=True):
            alone += replies(lm, [prompt], attached, [run], most=MOST)
        first = replies(lm, asked, attached, most=MOST)
    assert together == alone
    assert len(set(together[:3])) > 1, "the runs differ"
    assert first == [together[i - i % 3] for i in range(12)], "without an index: the first run"


def test_rows_that_go_on_keep_their_run_when_others_have_ended() -> None:
    """Vectors of rows that ended must not move to the rows that go on."""
    lm = toy.language_model(0)
    asked, adapter = prompts(lm), vectors(4, "codename")
    with adapter.attach(lm) as attached:
        alone = [replies(lm, [p], attached, [k], most=MOST)[0] for k, p in enumerate(asked)]
        moved = [replies(lm, [p], attached, [0], most=MOST)[0] for p in asked]
        together = replies(lm, asked, attached, [0, 1, 2, 3], most=MOST)
    assert together == alone
    written = [len(text.split()) for text in alone]
    assert written[0] < max(written[1:]), "an earlier row ends before a later one"
    assert moved[1:] != alone[1:], "the run matters"


def test_a_lora_steers_what_is_written_too() -> None:
    lm, adapter = toy.language_model(0), LoraAdapter("all", rank=2, seed=1)
    asked = prompts(lm)
    base = replies(lm, asked, most=MOST)
    with adapter.attach(lm) as attached:
        assert replies(lm, asked, attached, most=MOST) == base, "it starts as nothing"
        stir(adapter)
        found = replies(lm, asked, attached, most=MOST)
        assert found == [generated(lm, prompt) for prompt in asked]
    assert found != base and replies(lm, asked, most=MOST) == base


def test_decoding_keeps_no_gradient() -> None:
    lm, adapter = toy.language_model(), vectors(1, "codename")
    with adapter.attach(lm) as attached:
        replies(lm, prompts(lm), attached, most=2)
    assert adapter.theta.grad is None
