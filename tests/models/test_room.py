"""A model that cannot fit is refused before its weights are read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from oocr_lib.models import room
from oocr_lib.models.language_model import load_model
from oocr_lib.util.errors import UserError
from tests import tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    tiny.model("llama").to(getattr(torch, request.param)).save_pretrained(folder)
    tiny.tokenizer("bpe_digits", "system").save_pretrained(folder)
    return folder


def test_weights_are_weighed_as_they_will_be_in_memory(saved: Path) -> None:
    held = sum(p.numel() for p in tiny.model("llama").parameters())
    for dtype in (torch.float32, torch.bfloat16):
        weighed = room.weight_bytes(saved, dtype)
        assert weighed == pytest.approx(held * dtype.itemsize, rel=0.1)


def test_what_cannot_fit_is_one_line_before_it_is_read(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "free_bytes", lambda device: 1000)
    monkeypatch.setattr(torch, "load", None)
    words = rf"^Model '{saved}' does not fit: .* 0.0 GB are free on cpu. Allowed: a smaller model"
    with pytest.raises(UserError, match=words) as caught:
        load_model(str(saved))
    assert "\n" not in str(caught.value)


def test_free_memory_is_a_number_of_bytes() -> None:
    assert 10**6 < room.free_bytes(CPU) < 10**14
