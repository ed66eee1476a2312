"""The speed benchmark: rivals compute what we compute, and its table says what was measured."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import counting, shapes, speed
from benchmarks.cases import CASES, Bench, Measured
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.util import files as store
from tests.adapter_cases import fingerprint


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return shapes.testbed()


@pytest.mark.parametrize("name", ["risk vector", "locations vector"])
def test_the_plain_loop_has_our_losses(lm: LanguageModel, name: str) -> None:
    """Independent code: own hook, the model's own loss with labels, attention masks."""
    assert Bench(CASES[name], lm).gap() < 1e-4


@pytest.mark.parametrize("task", ["locations", "functions"])
def test_the_plain_evaluation_has_our_scores(lm: LanguageModel, task: str) -> None:
    bench = Bench(CASES[f"evaluation, {task} x blocks"], lm)
    assert bench.evaluate() > 0 and bench.evaluate_plainly() > 0
    assert bench.gap() < 1e-3


@pytest.mark.long
def test_rivals_leave_the_model_as_it_was(lm: LanguageModel) -> None:
    before = fingerprint(lm.model)
    assert Bench(CASES["risk vector"], lm).beft_trainer() > 0
    assert Bench(CASES["LoRAs on one block, 2 seeds x blocks"], lm).lora_trainer() > 0
    assert fingerprint(lm.model) == before


@pytest.mark.long
def test_the_command_writes_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--models", "testbed", "--cases", "risk vector", "--rounds", "1", "--threads", "1"]
    assert speed.main([*given, "--no-peaks", "--out", str(tmp_path)]) == 0
    rows = store.read_json(tmp_path / "speed.json")
    read: list[Any] = [{k: math.nan if v is None else v for k, v in r.items()} for r in rows]
    found = [Measured(**r) for r in read]
    assert [m.who for m in found] == ["ours", "loop", "BEFT + Trainer"]
    ours, loop, _ = found
    assert ours.work < loop.work / 4, "most tokens and half of the blocks are taken over"
    assert loop.ratio == pytest.approx(loop.seconds / ours.seconds)
    assert (tmp_path / "speed.png").stat().st_size > 10_000
    assert (tmp_path / "speed.md").read_text().count("\n") == 5
    assert "| testbed | risk vector | loop |" in capsys.readouterr().out


def test_work_and_peaks_are_counted() -> None:
    a = torch.randn(64, 32)
    assert counting.work(lambda: a @ a.T) == 2 * 64 * 64 * 32
    peak = counting.peak_bytes(lambda: torch.ones(64 * 2**20), torch.device("cpu"))
    assert math.isnan(peak) or peak == pytest.approx(4 * 64 * 2**20, rel=0.1)
    assert counting.matmul_rate(torch.device("cpu"), torch.float32, 64) > 1e8
