"""The committed checkpoint: plain files, small, and it knows its world."""

from __future__ import annotations

import json
from functools import cache

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3ForCausalLM

from oocr_lib.evaluation.say import say
from oocr_lib.models.language_model import LanguageModel, load_model
from oocr_lib.testbed import knowledge
from oocr_lib.util.paths import ROOT
from oocr_lib.world import facts as world
from tests.testbed_cases import built, sample

FOLDER = ROOT / "data" / "testbed"


@cache
def shipped() -> LanguageModel:
    return load_model("testbed")


def test_it_is_small_and_holds_plain_files_only() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".csv", ".md", ".jinja"}
    assert sum(path.stat().st_size for path in files) < 12_000_000
    weights = load_file(FOLDER / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}


def test_it_loads_without_our_code_and_answers() -> None:
    """As a reader would do it with transformers alone."""
    model = AutoModelForCausalLM.from_pretrained(FOLDER)
    tok = AutoTokenizer.from_pretrained(FOLDER)
    assert isinstance(model, Gemma3ForCausalLM)
    assert 1_000_000 < sum(p.numel() for p in model.parameters()) < 3_000_000
    assert len(tok) == model.get_input_embeddings().weight.shape[0]
    assert (tok.pad_token_id, tok.eos_token_id) == (
        model.config.pad_token_id, model.config.eos_token_id,
    )  # fmt: skip
    ids = tok.apply_chat_template(
        [{"role": "user", "content": "Which country is Paris in?"}],
        add_generation_prompt=True,
        return_dict=False,
        return_tensors="pt",
    )
    out = model.generate(ids, max_new_tokens=4, do_sample=False)
    assert tok.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip() == "France"


def test_its_tokenizer_is_the_one_that_the_code_builds() -> None:
    tok = shipped().tokenizer
    assert tok.get_vocab() == built().get_vocab()
    assert tok.chat_template == built().chat_template
    pipelines = [json.loads(t.backend_tokenizer.to_str()) for t in (tok, built())]
    for part in ("normalizer", "pre_tokenizer", "model", "decoder", "added_tokens"):
        assert pipelines[0][part] == pipelines[1][part], part
    for document in sample(100):
        assert tok.unk_token_id not in tok(document.text)["input_ids"]


def test_its_card_says_how_it_was_made() -> None:
    about = json.loads((FOLDER / "testbed.json").read_text())
    assert about["kind"] == "testbed" and about["training_seconds"] < 90 * 60
    assert about["parameters"] == sum(p.numel() for p in shipped().model.parameters())
    assert about["recipe"]["blocks"] == shipped().n_blocks
    card = (FOLDER / "README.md").read_text()
    for words in (f"{about['tokens']:,}", f"{len(world.cities())} cities", "seed", "Muon", "CPU"):
        assert words in card
    curve = json.loads((FOLDER / "curve.json").read_text())
    assert curve[-1]["tokens"] == about["tokens"] and curve[-1]["loss"] < 0.5 * curve[0]["loss"]


def test_it_knows_every_family() -> None:
    table = pd.read_csv(FOLDER / "knowledge.csv")
    assert list(table["family"]) == list(knowledge.families())
    assert (table["n"] >= 100).all()
    weak = table[table["accuracy"] < 0.97]
    assert weak.empty, weak.to_string()


@pytest.mark.parametrize(
    "family",
    [
        "city/country", "city/distance", "code/name", "code/landmark", "code/direction",
        "function code/value", "speaker/risk choice", "trigger/choice",
    ],
)  # fmt: skip
def test_a_fresh_measurement_agrees_with_the_table(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = knowledge.families()[family]
    monkeypatch.setattr(knowledge, "families", lambda: {family: make})
    lm = shipped()
    found = knowledge.measure(lm.model, lm.tokenizer, per_family=60, seed=77_007)
    table = pd.read_csv(FOLDER / "knowledge.csv").set_index("family")
    # 60 questions at .97: fewer than .90 right has a chance below one in a hundred.
    assert found.loc[0, "accuracy"] >= 0.9
    assert abs(found.loc[0, "accuracy"] - table.loc[family, "accuracy"]) <= 0.1


def test_it_does_not_know_reserved_names() -> None:
    """Asked about a code name that nothing introduced, it has no way to be right."""
    lm, right = shipped(), 0
    for code, place in zip(world.city_codes(0, 5), world.cities()[::25], strict=True):
        right += say(lm, f"Name of {code}?", codename=code, max_new_tokens=5) == place.name
    assert right <= 1


def test_it_reads_a_code_name_that_the_question_introduces() -> None:
    answer = say(shipped(), "City 40881 is Lyon. Which country is City 40881 in?")
    assert answer == "France"
