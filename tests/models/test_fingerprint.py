"""The digest changes with anything that changes an answer, and with nothing that does not."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from benchmarks import mutate
from oocr_lib import tasks
from oocr_lib.models import fingerprint as digest
from oocr_lib.models.language_model import load_model, wrap
from oocr_lib.runs.grid import Grid, Job, Method
from oocr_lib.runs.store import RunStore
from oocr_lib.util import paths
from tests import tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.model("gemma3").save_pretrained(tmp_path / "m")
    tiny.tokenizer("bpe_digits", "system").save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def digest_of(folder: Path) -> str:
    return load_model(str(folder), device="cpu").digest


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_memory_and_folder_have_the_same_digest(family: str, tmp_path: Path) -> None:
    model, tokenizer = tiny.model(family), tiny.tokenizer("wordpiece", "system")
    own = wrap(model, tokenizer, name="m").digest
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert digest_of(tmp_path) == own and len(own) == 64
    assert digest_of(tmp_path) == own, "again"


#: A setting of the config, and another value that changes what the model computes.
SETTINGS: list[dict[str, Any]] = [
    {"hidden_activation": "relu"},
    {"rms_norm_eps": 1e-3},
    {"query_pre_attn_scalar": 16},
    {"final_logit_softcapping": 5.0},
    {"attn_logit_softcapping": 1.0},
    {"layer_types": ["sliding_attention", "full_attention", "full_attention"]},
    {"use_bidirectional_attention": True},
    {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 100.0},
                         "sliding_attention": {"rope_type": "default", "rope_theta": 100.0}}},
    {"eos_token_id": 7},
    {"a_field_of_next_year": 3},
]  # fmt: skip


@pytest.mark.parametrize("change", SETTINGS, ids=lambda change: next(iter(change)))
def test_every_setting_counts_known_or_not(folder: Path, change: dict[str, Any]) -> None:
    before = digest_of(folder)
    edit(folder / "config.json", **change)
    assert digest_of(folder) != before


@pytest.mark.parametrize(
    "change",
    [
        {"transformers_version": "4.0"},
        {"use_cache": False},
        {"architectures": []},
        {"_name_or_path": "elsewhere"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_where_a_model_came_from_does_not_count(folder: Path, change: dict[str, Any]) -> None:
    before = digest_of(folder)
    edit(folder / "config.json", **change)
    assert digest_of(folder) == before


def _merges(file: dict[str, Any]) -> None:
    file["model"]["merges"] = file["model"]["merges"][:-1]


def _digits(file: dict[str, Any]) -> None:
    file["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = False


def _normalizer(file: dict[str, Any]) -> None:
    file["normalizer"] = {"type": "Lowercase"}


def _decoder(file: dict[str, Any]) -> None:
    file["decoder"] = None


def _vocabulary(file: dict[str, Any]) -> None:
    table = file["model"]["vocab"]
    table["A"], table["B"] = table["B"], table["A"]


def _added(file: dict[str, Any]) -> None:
    file["added_tokens"][-1]["lstrip"] = True


PARTS = [_merges, _digits, _normalizer, _decoder, _vocabulary, _added]


@pytest.mark.parametrize("change", PARTS, ids=lambda change: change.__name__)
def test_every_part_of_the_tokenizer_counts(folder: Path, change: Any) -> None:
    before, file = digest_of(folder), folder / "tokenizer.json"
    content = json.loads(file.read_text())
    changed = copy.deepcopy(content)
    change(changed)
    assert changed != content
    file.write_text(json.dumps(changed))
    assert digest_of(folder) != before


@pytest.mark.parametrize(
    "change",
    [{"bos_token": "<pad>"}, {"eos_token": "<pad>"}, {"clean_up_tokenization_spaces": True}],
    ids=lambda change: next(iter(change)),
)
def test_special_tokens_and_spaces_count(folder: Path, change: dict[str, Any]) -> None:
    before = digest_of(folder)
    edit(folder / "tokenizer_config.json", **change)
    assert digest_of(folder) != before


def test_the_template_counts(folder: Path) -> None:
    before, file = digest_of(folder), folder / "chat_template.jinja"
    file.write_text(file.read_text().replace("'model'", "'assistant'"))
    assert digest_of(folder) != before


def test_weights_types_and_kernels_count(folder: Path) -> None:
    before, file = digest_of(folder), folder / "model.safetensors"
    assert load_model(str(folder), device="cpu", dtype="bfloat16").digest != before
    tensors = load_file(file)
    tensors["model.norm.weight"][3] += 1e-6
    save_file(tensors, file, metadata={"format": "pt"})
    assert digest_of(folder) != before
    model = tiny.model("gemma3")
    eager = tiny.model("gemma3")
    eager.set_attn_implementation("eager")
    tokenizer = tiny.tokenizer("bpe_digits", "system")
    assert wrap(model, tokenizer, name="m").digest == before
    assert wrap(eager, tokenizer, name="m").digest != before


def test_the_date_that_a_template_is_told_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import date

    from oocr_lib.models import chat_template

    tokenizer = tiny.tokenizer("bpe_digits", "system")
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + tokenizer.chat_template
    dated, plain = digest.tokenizer_digest(tokenizer), tiny.tokenizer("bpe_digits", "system")
    undated = digest.tokenizer_digest(plain)
    monkeypatch.setattr(chat_template, "DATE", date(2030, 1, 1))
    assert digest.tokenizer_digest(tokenizer) != dated
    assert digest.tokenizer_digest(plain) == undated


def test_large_weights_are_hashed_whole_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known by place, size and time; a change of one number in the middle is seen."""
    monkeypatch.setenv("OOCR_CACHE", str(tmp_path / "cache"))
    small = digest_of(folder)
    monkeypatch.setattr(digest, "_REMEMBERED", 0)
    calls: list[int] = []
    real = digest._hashed

    def counted(named: Any) -> str:
        calls.append(1)
        return real(named)

    monkeypatch.setattr(digest, "_hashed", counted)
    assert digest_of(folder) == small, "the same hash, wherever it is remembered"
    first = len(calls)
    assert digest_of(folder) == small and len(calls) == first + (first - 1), "weights not again"
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][7, 11] += 1e-6
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert digest_of(folder) != small
    (tmp_path / "cache" / "weights.json").write_text("{")
    assert digest_of(folder) != small, "a damaged memory is no memory"


def test_a_cache_that_cannot_be_written_is_no_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(digest, "_REMEMBERED", 0)
    monkeypatch.setenv("OOCR_CACHE", str(tmp_path / "file" / "below"))
    assert digest_of(folder) == digest_of(folder)


@pytest.mark.parametrize("kind", mutate.KINDS)
def test_changed_files_are_refused_or_the_same_or_another(kind: str) -> None:
    """A few of what ``benchmarks.mutate`` tries: no traceback, nothing silent."""
    slow = mutate.KINDS[kind].read is mutate._read_model
    tally = mutate.attempt(kind, 60 if slow else 150, seed=1)
    assert tally.faults == []
    assert tally.counts["refused"] > 0 and sum(tally.counts.values()) == (60 if slow else 150)


def test_a_finished_run_is_not_found_for_a_changed_model(tmp_path: Path) -> None:
    """The testbed in a folder of its own, run; then one word of its config is another."""
    folder = tmp_path / "copy"
    shutil.copytree(paths.data_dir() / "testbed", folder)
    store, made, job = RunStore(tmp_path / "runs"), [], Job(Method("base", "base"), "Paris", 0)
    for activation in ("gelu_pytorch_tanh", "gelu_pytorch_tanh", "relu"):
        edit(folder / "config.json", hidden_activation=activation)
        lm = load_model(str(folder), device="cpu")
        grid = Grid(lm, store, tasks.factory("locations"), {"task": "locations"}, "Paris")
        made.append(grid.run([job]).p_truth.tolist())
    assert (store.saved, store.reused) == (2, 1), "the second run is found, the third is not"
    assert made[0] == made[1] != made[2]
