"""Bad input of every kind: one line and an exit code, and nothing that was there is lost."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

from oocr_lib.runner import batch
from oocr_lib.util import machine
from oocr_lib.util.paths import ROOT
from tests import tiny_notebooks

#: Arguments (``{here}`` is the test's folder), and what the one line says. Exit code 2.
REFUSED = [
    (["none.ipynb"], "Unknown notebook 'none'"),
    (["god"], "Unknown notebook 'god'. Did you mean 'good'"),
    (["good", "good"], "'good' is given twice"),
    (["good", "good.ipynb"], "'good' is given twice"),
    ([], "No notebook given. Allowed: --all, or broken, good, other, untagged"),
    (["good", "--all"], "Got --all and 1 notebook names. Give one or the other"),
    (["broken"], "Cannot read the notebook"),
    (["untagged"], "has no cell tagged 'parameters'"),
    (["other"], "is for the kernel 'ir' (R)"),
    (["good", "--preset", "laptob"], "Unknown preset 'laptob'. Did you mean 'laptop'"),
    (["good", "--preset", "smok"], "Unknown preset 'smok'. Did you mean 'smoke'"),
    (["good", "-p", "sead=1"], "Unknown parameter for good: 'sead'. Did you mean 'seed'"),
    (["good", "-p", "seed=one"], "Parameter 'seed' got 'one'. Allowed: a whole number"),
    (["good", "-p", "seed=1.5"], "got '1.5'"),
    (["good", "-p", "seed=4..0"], "Allowed: first..last, rising"),
    (["good", "-p", "seed=0..99999999"], "values at most"),
    (["good", "-p", "seed"], "Parameter 'seed' has no value"),
    (["good", "-p", "=1"], "has no value"),
    (["good", "-p", "seed=1", "-p", "seed=2"], "'seed' is given twice"),
    (["good", "-p", "rate=nan"], "a finite number"),
    (["good", "-p", "fast=yes"], "true or false"),
    (["good", "-p", "blocks=0,x"], "whole numbers with commas"),
    (["good", "-p", "preset=smoke"], "set by the option --preset"),
    (["good", "-p", "out_dir=x"], "set by the option --out"),
    (["good", "--grid", "{here}/none.yaml"], "No such file"),
    (["good", "--grid", "{here}/broken.yaml"], "is not YAML"),
    (["good", "--grid", "{here}/list.yaml"], "holds a list"),
    (["good", "--grid", "{here}/typo.yaml"], "Did you mean 'seed'"),
    (["good", "--label", "a/b"], "cannot be a folder"),
    (["good", "--label", "a", "-p", "seed=1,2"], "names one run"),
    (["good", "-j", "0"], "-j 0 is not allowed"),
    (["good", "-j", "-3"], "-j -3 is not allowed"),
    (["good", "--cell-timeout", "0"], "--cell-timeout 0"),
    (["good", "--cell-timeout", "99999999999999999999"], "Give seconds, 1 to 10000000"),
    (["good", "-p", "blocks=0,0"], "Parameter 'blocks' has 0 twice"),
    (["good", "-p", "blocks=0,,1"], "got '0,,1'"),
    (["good", "-p", "blocks=[0,1"], "got '[0,1'"),
    (["good", "-p", "blocks=["], "got '['"),
    (["good", "-p", "model=testbedd"], "Did you mean 'testbed'"),
    (["good", "-p", "model=", "--dry-run"], "There is no model ''"),
    (["good", "--out", ""], "--out is empty"),
    (["good", "--kernel", "nope", "--dry-run"], "Unknown kernel 'nope'"),
    (["good", "--table", "x.xlsx"], "Allowed: .csv, .parquet"),
    (["good", "--table", "/proc/x.csv"], "Cannot write --table '/proc/x.csv'"),
    (["good", "--table", "{here}/good.ipynb/x.csv"], "Cannot write --table"),
    (["good", "-p", "seed=010..012"], "got '010'. Allowed: a whole number"),
    (["good", "-p", "model={here}"], "has no config.json"),
    (["good", "--in-place", "-p", "seed=1"], "--in-place commits defaults"),
    (["good", "--in-place", "--preset", "smoke"], "--in-place commits defaults"),
    (["good", "--out", "{here}/good.ipynb"], "is a file. Give a folder"),
    (["good", "--out", "/proc/none"], "Cannot write to"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny_notebooks.write(tmp_path, "good")
    tiny_notebooks.write(tmp_path, "untagged", tag=False)
    other = nbformat.read(tiny_notebooks.write(tmp_path, "other"), as_version=4)
    other.metadata["kernelspec"] = {"name": "ir", "display_name": "R", "language": "R"}
    nbformat.write(other, tmp_path / "other.ipynb")
    (tmp_path / "broken.ipynb").write_text("{")
    (tmp_path / "broken.yaml").write_text("seed: [1")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "typo.yaml").write_text("sead: 1\n")
    monkeypatch.setattr(batch, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(batch, "run_all", lambda *_: pytest.fail("it started"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file and folder below, and what the files hold."""
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


@pytest.mark.parametrize(("arguments", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_it_is_refused_in_one_line_before_anything_starts(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    before = contents(folder)
    given = [text.replace("{here}", str(folder)) for text in arguments]
    if "--out" not in given:
        given += ["--out", str(folder / "out")]
    assert batch.main(given) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and words in errors[0], errors
    assert contents(folder) == before


@pytest.mark.parametrize(("text", "words"), [("Not TOML", "is not valid TOML"), ("a = 1", "claim")])
def test_a_claim_file_is_read_before_the_claims_are_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(text)
    given = ["11_claims", "-p", f"rules={rules}", "--dry-run", "--out", str(tmp_path / "out")]
    assert batch.main(given) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and words in errors[0], errors
    rules.write_bytes((ROOT / "data" / "claims.toml").read_bytes())
    assert batch.main(given) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["good", "--nonsense"], "Unrecognized arguments: --nonsense"),
        (["good", "-j", "two"], "Argument -j: invalid int value: 'two'"),
        (["good", "-j", "1.5"], "invalid int value"),
        (["good", "-j", ""], "invalid int value"),
        (["good", "-j"], "Argument -j: expected one argument"),
        (["good", "--cell-timeout", "1e3"], "Argument --cell-timeout: invalid int value"),
        (["good", "--p", "seed=1"], "Ambiguous option: --p"),
    ],
)
def test_an_option_that_cannot_be_read_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        batch.main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and words in line and "--help" in line


@pytest.mark.parametrize("threads", ["0", "two", "-1"])
def test_a_bad_number_of_threads_is_one_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    threads: str,
) -> None:
    monkeypatch.setenv("OOCR_THREADS", threads)
    assert batch.main(["good", "--dry-run"]) == 2
    assert capsys.readouterr().err.startswith(f"OOCR_THREADS is {threads!r}")


@pytest.mark.parametrize("out", [".", "./"])
def test_the_current_folder_is_a_folder_for_results(folder: Path, out: str) -> None:
    assert batch.main(["good", "--out", out, "--dry-run"]) == 0


@pytest.mark.parametrize(
    ("models", "parallel", "given", "taken"),
    [
        (["smollm2"], 1, "", "4"),
        (["smollm2"], 2, "", "4"),  # one run leaves the second place empty
        (["smollm2", "smollm2"], 2, "", "1"),
        (["smollm2", "testbed-small"], 1, "", "1"),
        (["testbed"], 1, "", "1"),
        ([], 1, "", "1"),
        (["smollm2"], 1, "3", "3"),
    ],
)
def test_a_real_model_that_runs_alone_gets_all_cores(
    monkeypatch: pytest.MonkeyPatch, models: list[str], parallel: int, given: str, taken: str
) -> None:
    monkeypatch.setenv("OOCR_THREADS", given)
    monkeypatch.setattr(batch.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(batch.psutil, "getloadavg", lambda: (0.2, 0.0, 0.0))
    jobs: list[Any] = [SimpleNamespace(all_values={"model": model}) for model in models]
    with batch.all_cores(jobs or [SimpleNamespace(all_values={})], parallel) as line:
        assert str(machine.threads()) == taken
        assert bool(line) == (taken == "4") and "busy" not in line
    assert machine.threads() == int(given or 1), "what follows has its own number"
    monkeypatch.setattr(batch.psutil, "getloadavg", lambda: (2.3, 0.0, 0.0))
    monkeypatch.setenv("OOCR_THREADS", "")
    real: list[Any] = [SimpleNamespace(all_values={"model": "x"})]
    with batch.all_cores(real, 1) as line:
        assert "busy (load 2.3): OOCR_THREADS=1 may be" in line


NAN = """\
from oocr_lib.util.errors import UserError
raise UserError("Loss is nan at step 3 of 10. Lower the learning rate.")"""


def run(folder: Path, *arguments: str, file_size: int | None = None) -> tuple[int, str]:
    def limit() -> None:
        if file_size:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

    done = subprocess.run(
        [sys.executable, "-m", "oocr_lib.batch", *arguments, "--out", "out"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, preexec_fn=limit,
        capture_output=True, text=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout


def test_a_loss_that_is_not_a_number_fails_the_run_only(tmp_path: Path) -> None:
    tiny_notebooks.write(tmp_path, "nan", NAN)
    code, out = run(tmp_path, "nan.ipynb")
    assert code == 1
    assert "UserError: Loss is nan at step 3 of 10. Lower the learning rate." in out
    assert not list((tmp_path / "out").rglob("run.json"))
    assert list((tmp_path / "out").rglob("nan.failed.ipynb"))


@pytest.mark.long
def test_a_full_disk_fails_the_run_and_keeps_what_was_there(tmp_path: Path) -> None:
    tiny_notebooks.write(tmp_path, "good", "print('x' * 60_000)")
    assert run(tmp_path, "good.ipynb")[0] == 0
    done = tmp_path / "out" / "laptop" / "good"
    names = ("good.ipynb", "metrics.json", "run.json")
    before = [(done / name).read_bytes() for name in names]
    code, out = run(tmp_path, "good.ipynb", "--rerun", file_size=40_000)
    assert code == 1 and "FAILED" in out
    assert [(done / name).read_bytes() for name in names] == before
    assert not (done / ".stage").exists()


def test_an_output_folder_that_is_a_file_is_refused_before_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("kept")
    for out in ("file", "file/below"):
        assert batch.main(["00_quickstart", "--out", str(tmp_path / out), "--dry-run"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "'file' is a file. Give a folder" in line
    assert (tmp_path / "file").read_text() == "kept"
