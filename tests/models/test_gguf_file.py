"""A GGUF file becomes a folder with the same model; a bad one is one line and leaves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from oocr_lib.models import gguf_file
from oocr_lib.models.language_model import load_model
from oocr_lib.util import cache
from oocr_lib.util.errors import UserError
from tests import gguf_files


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "kept"
    monkeypatch.setenv(cache.VARIABLE, str(folder))
    return folder


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_a_file_is_the_model_that_was_written(tmp_path: Path, kind: str) -> None:
    """Rotated halves, norms (Gemma's are stored with their 1 added), ties, tokens."""
    made = gguf_files.write(tmp_path / "tiny.gguf", kind)
    lm = load_model(str(tmp_path / "tiny.gguf"))
    ids = torch.tensor([[5, 60, 70, 80, 99, 12]])
    with torch.no_grad():
        assert torch.allclose(lm.model(ids).logits, made(ids).logits, atol=1e-5)
    assert lm.dialect == "paper" and lm.tokenizer.chat_template


def test_it_is_converted_once_and_by_content(tmp_path: Path) -> None:
    gguf_files.write(tmp_path / "tiny.gguf")
    first = gguf_file.converted(tmp_path / "tiny.gguf")
    before = (first / gguf_file.WEIGHTS).stat().st_mtime_ns
    assert gguf_file.converted(tmp_path / "tiny.gguf") == first
    assert (first / gguf_file.WEIGHTS).stat().st_mtime_ns == before
    gguf_files.write(tmp_path / "tiny.gguf", pre="llama-bpe")
    assert gguf_file.converted(tmp_path / "tiny.gguf") != first


@pytest.mark.parametrize(("pre", "count"), [("smollm", 3), ("gpt-2", 2)])
def test_digits_stand_alone_where_the_file_says_so(tmp_path: Path, pre: str, count: int) -> None:
    gguf_files.write(tmp_path / "tiny.gguf", pre=pre)
    tokenizer = load_model(str(tmp_path / "tiny.gguf")).tokenizer
    assert len(tokenizer("12w", add_special_tokens=False)["input_ids"]) == count


def test_a_half_written_conversion_is_made_again(tmp_path: Path, kept: Path) -> None:
    gguf_files.write(tmp_path / "tiny.gguf")
    weights = gguf_file.converted(tmp_path / "tiny.gguf") / gguf_file.WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-40])
    (weights.parent.parent / f".{weights.parent.name}.0011aa.tmp").mkdir()  # of a killed process
    gguf_file.converted(tmp_path / "tiny.gguf")
    assert weights.read_bytes() == whole
    assert not list(kept.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda content: b"not a model", "is no GGUF file"),
        (lambda content: content[:200], "is damaged or cut off"),
        (lambda content: content[:-2000], "is damaged or cut off"),
        (lambda content: content.replace(b"llama", b"mamba"), "architecture 'mamba'. Allowed: ll"),
    ],
)
def test_a_bad_file_is_one_line_and_leaves_nothing(
    tmp_path: Path, kept: Path, spoil: object, words: str
) -> None:
    path = tmp_path / "tiny.gguf"
    gguf_files.write(path)
    path.write_bytes(spoil(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(UserError, match=words) as error:
        load_model(str(path))
    assert "\n" not in str(error.value)
    assert not list(kept.rglob("*.safetensors")) and not list(kept.rglob("*.tmp"))


def test_no_room_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf_files.write(tmp_path / "tiny.gguf")
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"0 MB free, \d+ MB are needed.*OOCR_CACHE"):
        load_model(str(tmp_path / "tiny.gguf"))
