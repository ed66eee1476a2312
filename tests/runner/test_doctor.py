"""The doctor says ok, or what to do, one line a thing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from oocr_lib.runner import doctor
from oocr_lib.util import file_digest, paths

FREE = 3.0 * 2**30


def test_this_machine_can_run_the_tests(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    doctor.main(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9 and all(line.startswith(("ok ", "TO DO ")) for line in lines)
    needed = [line for line in lines if line.split()[1] in ("Python", "packages", "testbed")]
    assert len(needed) == 3 and all(line.startswith("ok") for line in needed), needed


def test_the_shipped_testbed_is_as_it_was_made() -> None:
    count, wrong = file_digest.compare(paths.data_dir() / "testbed")
    assert wrong == [] and count >= 8


def test_a_damaged_testbed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(paths.data_dir() / "testbed", tmp_path / "testbed")
    monkeypatch.setenv("OOCR_DATA", str(tmp_path))
    assert not doctor.testbed().to_do
    with open(tmp_path / "testbed" / "model.safetensors", "r+b") as file:
        file.seek(1000)
        file.write(b"x")
    (tmp_path / "testbed" / "curve.json").unlink()
    found = doctor.testbed()
    assert found.to_do and "model.safetensors" in found.found and "curve.json" in found.found
    (tmp_path / "testbed" / "checksums.json").unlink()
    assert "No file" in doctor.testbed().found


def test_too_little_of_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Memory:
        available, total = FREE, 4 * FREE

    monkeypatch.setattr(doctor.psutil, "virtual_memory", Memory)
    assert "Close other programs" in str(doctor.memory())

    def usage(place: Any) -> Any:
        return type("Usage", (), {"free": FREE / 10})

    monkeypatch.setattr(doctor.shutil, "disk_usage", usage)
    assert "Make room" in str(doctor.disk(tmp_path / "not" / "there"))
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 1))
    assert "3.11, 3.12 or 3.13" in str(doctor.python())
    monkeypatch.setenv("OOCR_THREADS", "many")
    assert "many" in str(doctor.threads()) and doctor.threads().to_do
    assert doctor.writing(Path("/proc/results")).to_do.startswith("Give another folder")


def test_old_and_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.version

    def version(name: str) -> str:
        if name == "tqdm":
            raise doctor.PackageNotFoundError(name)
        return "0.1" if name == "peft" else real(name)

    monkeypatch.setattr(doctor, "version", version)
    found = doctor.packages()
    assert found.to_do and "tqdm is missing" in found.found and "peft 0.1 is not >=" in found.found


def test_any_to_do_is_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for to_do, code in (("", 0), ("Do this.", 1)):
        monkeypatch.setattr(doctor, "examine", lambda out, t=to_do: [doctor.Finding("a", "b", t)])
        assert doctor.main() == code
        assert capsys.readouterr().out.startswith("TO DO  a" if to_do else "ok     a")
