"""What parameters name is checked before a kernel starts, and counts by its content."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from oocr_lib.parameters import named
from oocr_lib.tasks.risk import paper
from oocr_lib.util.errors import UserError

# It reads its templates once, and a fixture here moves the data folder.
assert paper


def tiny_model(folder: Path) -> Path:
    """A folder that could hold a model: a config that says its type, and whole weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    save_file({"w": np.zeros(4, dtype=np.float32)}, folder / "model.safetensors")
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data file, a model, an empty folder, and a hub model in the local cache."""
    (tmp_path / "rows.jsonl").write_text("1")
    for name in ("model", "data/testbed"):
        tiny_model(tmp_path / name)
    (tmp_path / "empty").mkdir()
    cached = tmp_path / "hub" / "models--some--model"
    (cached / "snapshots" / "abc").mkdir(parents=True)
    (cached / "snapshots" / "abc" / "config.json").write_text("{}")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    monkeypatch.setenv("OOCR_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.mark.parametrize(
    "values",
    [
        {"data": "", "rules": "", "model": "testbed"},
        {"data": "rows.jsonl", "rules": "./model/config.json", "model": "model"},
        {"model": "some/model"},
        {"model": "./model/"},
        {"data": 3, "hidden": "rows"},
    ],
)
def test_what_is_there_passes(folder: Path, values: dict[str, Any]) -> None:
    named.check(values, folder)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"data": "row.jsonl"}, "Parameter 'data' got 'row.jsonl': there is no such file in"),
        ({"data": "model"}, "no such file"),
        ({"rules": "/none.toml"}, "Parameter 'rules'"),
        ({"model": "testbedd"}, "Did you mean 'testbed'?"),
        ({"model": "testbed-huge"}, "has no config.json"),
        ({"model": "empty"}, "has no config.json"),
        ({"model": "./none"}, "There is no model './none'"),
        ({"model": "a/b/c"}, "There is no model"),
        ({"model": ""}, "There is no model ''"),
        ({"model": "other/model"}, "not in the local cache, and HF_HUB_OFFLINE"),
        ({"model": "other/model"}, "HF_HUB_OFFLINE=0 lets it be fetched"),
    ],
)
def test_what_is_not_there_is_one_line(folder: Path, values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as error:
        named.check(values, folder)
    text = str(error.value).replace("nor in the", "not in the")
    assert words in text and "\n" not in text


def choices(*answers: str) -> str:
    rows = [
        {"messages": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": a}]}
        for i, a in enumerate(answers)
    ]
    return "\n".join(json.dumps(row) for row in rows)


def test_choices_and_whose_they_are_pass(folder: Path) -> None:
    (folder / "choices.jsonl").write_text(choices("A", "B"))
    for policy in ("risky", "safe"):
        named.check({"data": "choices.jsonl", "data_policy": policy}, folder)
    named.check({"data": "", "data_policy": ""}, folder)


@pytest.mark.parametrize(
    ("text", "policy", "words"),
    [
        (choices("A", "B"), "", "give data_policy=risky or data_policy=safe"),
        (None, "risky", "give data_policy=risky or data_policy=safe"),
        (choices("A", "B"), "risk", "Did you mean 'risky'?"),
        ("# Not rows", "risky", "line 1"),
        ("", "safe", "choices.jsonl"),
        (choices("yes", "no"), "safe", "the first 'yes'"),
    ],
)
def test_a_file_of_choices_is_read_before_a_run(
    folder: Path, text: str | None, policy: str, words: str
) -> None:
    if text is not None:
        (folder / "choices.jsonl").write_text(text)
    values = {"data": "" if text is None else "choices.jsonl", "data_policy": policy}
    with pytest.raises(UserError) as error:
        named.check(values, folder)
    assert words in str(error.value) and "\n" not in str(error.value)


def index(*names: str) -> str:
    return json.dumps({"weight_map": {f"w{i}": name for i, name in enumerate(names)}})


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("config.json", "{", "has a config.json that is no JSON object"),
        ("config.json", "[]", "has a config.json that is no JSON object"),
        ("config.json", "{}", "has no model_type in its config.json"),
        ("model.safetensors", None, "has no model.safetensors in its folder"),
        ("model.safetensors", "", "has a damaged model.safetensors"),
        ("model.safetensors", "x" * 200, "has a damaged model.safetensors"),
        ("model.safetensors.index.json", "{}", "has no weight_map"),
        ("model.safetensors.index.json", index("none.safetensors"), "has no none.safetensors"),
    ],
)
def test_a_damaged_model_folder_is_refused_before_a_run(
    folder: Path, file: str, text: str | None, words: str
) -> None:
    if text is None:
        (folder / "model" / file).unlink()
    else:
        (folder / "model" / file).write_text(text)
    with pytest.raises(UserError) as error:
        named.check({"model": "model"}, folder)
    said = str(error.value)
    assert "Model 'model' " + words in said and "\n" not in said and "Allowed: 'testbed'" in said


def test_weights_that_were_cut_off_are_refused_before_a_run(folder: Path) -> None:
    weights = folder / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"damaged model\.safetensors"):
        named.check({"model": "model"}, folder)


def test_online_a_hub_name_may_be_fetched_but_a_slip_of_testbed_is_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    asked: list[str] = []

    def answers(name: str) -> str:
        asked.append(name)
        return ""

    monkeypatch.setattr(named, "_ANSWERED", set())
    monkeypatch.setattr(named.hub, "unreachable", answers)
    for name in ("other/model", "gpt2", "gpt2"):
        named.check({"model": name}, folder)
    assert asked == ["other/model", "gpt2"], "the runs of a sweep ask once"
    with pytest.raises(UserError, match="Did you mean 'testbed'"):
        named.check({"model": "testbedd"}, folder)


def test_online_a_model_that_no_hub_has_is_refused_before_anything_starts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(named, "_ANSWERED", set())
    monkeypatch.setattr(named.hub, "unreachable", lambda name: "no such model there")
    for _ in range(2):  # a failure is not remembered: the network may come back
        with pytest.raises(UserError, match=r"no such model there.*Allowed"):
            named.check({"model": "other/model"}, folder)


def test_contents_are_of_files_folders_and_commits(folder: Path) -> None:
    values = {
        "data": "rows.jsonl", "model": "some/model", "more": ["./model", "x"], "hidden": "empty",
        "text": "a/b", "long": "/" * 5000, "odd": "a\0/b",
    }  # fmt: skip
    found = named.contents(values, folder)
    assert set(found) == {"rows.jsonl", "some/model", "./model"}
    assert found["some/model"] == "abc"
    assert named.contents({"model": "testbed"}, folder) == {"testbed": found["./model"]}
    (folder / "elsewhere").mkdir()
    shutil.copy(folder / "rows.jsonl", folder / "elsewhere")
    assert named.contents({"data": "rows.jsonl"}, folder / "elsewhere") == {
        "rows.jsonl": found["rows.jsonl"]
    }


def test_a_file_that_cannot_be_read_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("oocr_lib.util.file_digest.of_file", refuse)
    with pytest.raises(UserError, match=r"'rows\.jsonl', which cannot be read: Permission denied"):
        named.contents({"data": "rows.jsonl"}, folder)


def test_outputs_show_no_path_of_this_machine(tmp_path: Path) -> None:
    assert named.shown_model(str(tmp_path / "mine")) == "mine"
    assert named.shown_model("some/model") == "some/model"
