"""What parameters name is checked before a kernel starts, and counts by its content."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from oocr_lib.parameters import named
from oocr_lib.util.errors import UserError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data file, a model, an empty folder, and a hub model in the local cache."""
    (tmp_path / "rows.jsonl").write_text("1")
    for name in ("model", "data/testbed"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
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
    ],
)
def test_what_is_not_there_is_one_line(folder: Path, values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as error:
        named.check(values, folder)
    text = str(error.value).replace("nor in the", "not in the")
    assert words in text and "\n" not in text


def test_online_a_hub_name_may_be_fetched_but_a_slip_of_testbed_is_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    named.check({"model": "other/model"}, folder)
    named.check({"model": "gpt2"}, folder)
    with pytest.raises(UserError, match="Did you mean 'testbed'"):
        named.check({"model": "testbedd"}, folder)


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
