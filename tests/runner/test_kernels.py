"""The kernel that runs is the one that the output and the record name."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

from oocr_lib.runner import kernel_record, kernels
from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import ROOT
from tests import tiny_notebooks

LOOK = "print(len(In), 'oocr_lib' in globals(), __import__('os').environ.get('FROM_SPEC'))"


def install(data: Path, name: str, argv: list[str], language: str = "python") -> None:
    """A kernel in the user's Jupyter folder."""
    folder = data / "kernels" / name
    folder.mkdir(parents=True)
    spec = {"argv": argv, "display_name": f"The {name}", "language": language}
    (folder / "kernel.json").write_text(json.dumps(spec | {"env": {"FROM_SPEC": name}}))


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's Jupyter folder: a foreign ``python3`` that only ends, another Python, and R.

    The other Python is this one with another torch, as its metadata says.
    """
    data = tmp_path_factory.mktemp("jupyter")
    about = data / "site" / "torch-0.0.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 0.0.1\n")
    other = data / "other-python"
    path = f'PYTHONPATH="{data / "site"}:$PYTHONPATH"'
    other.write_text(f'#!/bin/sh\n{path} exec "{sys.executable}" "$@"\n')
    other.chmod(0o755)
    rest = ["-m", "ipykernel_launcher", "-f", "{connection_file}"]
    install(data, "python3", ["/bin/false", *rest])
    install(data, "other-py", [str(other), *rest])
    install(data, "broken-py", ["/bin/true", *rest])
    install(data, "ir", ["R", "{connection_file}"], "R")
    return data


def run(jupyter: Path, folder: Path, *options: str) -> SimpleNamespace:
    """A batch over ``a.ipynb`` with that Jupyter folder; what it said and left."""
    done = subprocess.run(
        [sys.executable, "-m", "oocr_lib.batch", "a.ipynb", "--out", "out", *options],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), "JUPYTER_DATA_DIR": str(jupyter)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    made = folder / "out" / "laptop" / "a"
    book = nbformat.read(made / "a.ipynb", as_version=4) if (made / "a.ipynb").exists() else None
    record = json.loads((made / "run.json").read_text()) if (made / "run.json").exists() else None
    return SimpleNamespace(code=done.returncode, err=done.stderr, book=book, record=record)


def printed(book: Any) -> str:
    return str(book.cells[-2].outputs[0].text.strip())


def test_a_foreign_python3_of_the_user_is_not_taken(jupyter: Path, tmp_path: Path) -> None:
    tiny_notebooks.write(tmp_path, "a", LOOK)
    done = run(jupyter, tmp_path)
    assert done.code == 0, done.err
    assert done.record["kernel"] == kernel_record.record()
    assert done.record["kernel"]["interpreter"] == sys.executable
    assert set(done.record["kernel"]["packages"]) >= {"torch", "transformers", "peft", "numpy"}
    assert done.book.metadata.kernelspec == kernels.Kernel().metadata()
    assert done.book.metadata.language_info.version == platform.python_version()
    # "", the parameters, those given, this cell: what makes the record leaves no trace.
    assert printed(done.book) == "4 False None"
    assert sys.prefix not in (tmp_path / "out" / "laptop" / "a" / "a.ipynb").read_text()
    assert not list((tmp_path / "out").rglob("*.json.json")) and "names the kernel" not in done.err


@pytest.mark.long
def test_another_kernel_runs_only_when_asked_for(jupyter: Path, tmp_path: Path) -> None:
    tiny_notebooks.write(tmp_path, "a", LOOK, kernel="other-py")
    here = run(jupyter, tmp_path)
    line = (
        "a.ipynb names the kernel 'other-py' and runs with the Python of this command; "
        "--kernel other-py runs it there."
    )
    assert here.code == 0 and here.err.splitlines()[0] == line
    assert line in here.book.cells[0].source
    assert here.book.metadata.kernelspec.name == "python3"
    assert here.record["kernel"]["packages"]["torch"] != "0.0.1"
    there = run(jupyter, tmp_path, "--kernel", "other-py")
    assert there.code == 0, there.err
    assert "names the kernel" not in there.err + there.book.cells[0].source
    assert there.book.metadata.kernelspec.name == "other-py"
    assert printed(there.book) == "4 False other-py"
    assert there.record["kernel"]["packages"]["torch"] == "0.0.1"
    assert there.record["identity"] != here.record["identity"]
    again = run(jupyter, tmp_path, "--kernel", "other-py")
    assert "finished before" in again.err


def test_an_unknown_kernel_runs_here_when_told_so(jupyter: Path, tmp_path: Path) -> None:
    tiny_notebooks.write(tmp_path, "a", LOOK, kernel="no-such-kernel")
    done = run(jupyter, tmp_path, "--kernel", "python3")
    assert done.code == 0, done.err
    assert done.book.metadata.kernelspec.name == "python3"
    line = "a.ipynb names the kernel 'no-such-kernel' and runs with the Python of this command."
    assert done.err.splitlines()[0] == line


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("no-such-kernel", [], "for the kernel 'no-such-kernel', which is not installed. Allowed"),
        ("no-such-kernel", ["--dry-run"], "give --kernel python3"),
        ("python3", ["--kernel", "other"], "Unknown kernel 'other'. Did you mean 'other-py'"),
        ("python3", ["--kernel", "ir"], "Kernel 'ir' is of R. Allowed: Python kernels"),
        ("python3", ["--kernel", "broken-py"], "does not say its versions"),
    ],
)
def test_kernels_that_cannot_run_are_one_line(
    jupyter: Path, tmp_path: Path, name: str, options: list[str], words: str
) -> None:
    tiny_notebooks.write(tmp_path, "a", kernel=name)
    done = run(jupyter, tmp_path, *options)
    assert done.code == 2 and words in done.err.splitlines()[-1], done.err
    assert len([line for line in done.err.splitlines() if "names the kernel" not in line]) == 1
    assert not (tmp_path / "out").exists()


def test_a_notebook_without_a_kernel_runs_here(tmp_path: Path) -> None:
    path = tiny_notebooks.write(tmp_path, "a", kernel="")
    assert kernels.kernel_for(path) == (kernels.Kernel(), "")
    read = nbformat.read(path, as_version=4)
    read.metadata.pop("kernelspec")
    nbformat.write(read, path)
    assert kernels.kernel_for(path) == (kernels.Kernel(), "")


def test_a_package_that_is_missing_is_recorded_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_record, "PACKAGES", ("numpy", "no-such-package"))
    found = kernel_record.record()["packages"]
    assert found["no-such-package"] == "absent" and found["numpy"][0].isdecimal()


def test_an_interpreter_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not say its versions") as error:
        kernels.ask(kernels.Kernel("x", "X", (str(tmp_path / "none"), "-m", "x")), tmp_path)
    assert "\n" not in str(error.value)
