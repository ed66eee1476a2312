"""The example on a real model, run through with a tiny random one."""

from __future__ import annotations

from importlib import util
from pathlib import Path

import pytest

from oocr_lib.util import cache
from oocr_lib.util.paths import ROOT
from tests import gguf_files


def test_it_prints_what_it_knows_what_was_chosen_and_the_controls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = util.spec_from_file_location("real_model", ROOT / "examples" / "real_model.py")
    assert spec is not None and spec.loader is not None
    real_model = util.module_from_spec(spec)
    spec.loader.exec_module(real_model)
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "kept"))
    monkeypatch.setattr(real_model, "RATES", (0.01,))
    gguf_files.write(tmp_path / "tiny.gguf")
    given = ["--model", str(tmp_path / "tiny.gguf"), "--cities", "5", "--runs", str(tmp_path / "r")]
    real_model.main(given)
    said = capsys.readouterr().out
    for words in ("undecided", "chosen: block", "random_answers", "percentile"):
        assert words in said, said
    base = next(line for line in said.splitlines() if line.startswith("base"))
    assert base.count("0.20") == 3  # whatever ignores the code name is right for one city in five
