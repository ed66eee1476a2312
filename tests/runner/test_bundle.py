"""A stick for a room without a network: complete or marked, verified, installed from."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from oocr_lib.runner import bundle, cli, wheels
from oocr_lib.runner.wheels import Wheel
from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import ROOT

THIS = f"{sys.version_info[0]}.{sys.version_info[1]}"


def wheel(folder: Path, name: str, version: str, files: dict[str, str], more: str = "") -> Path:
    """A constructed wheel of pure Python."""
    info = f"{name}-{version}.dist-info"
    inside = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    inside[f"{info}/RECORD"] = "".join(f"{one},,\n" for one in [*inside, f"{info}/RECORD"])
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for place, text in inside.items():
            archive.writestr(place, text)
    return path


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No pip: an own wheel that prints, and an index with one more; returns what was asked for."""
    seen: list[str] = []
    more = "Provides-Extra: lab\nRequires-Dist: tiny>=1\nRequires-Dist: big; extra == 'dev'\n"

    def own(out: Path) -> Path:
        program = "import sys\n\ndef main():\n    print('ran', *sys.argv[1:])\n"
        script = "[console_scripts]\noocr = oocr_lib:main\n"
        files = {"oocr_lib.py": program, "oocr_lib-1.0.dist-info/entry_points.txt": script}
        return wheel(out / "wheels", "oocr_lib", "1.0", files, more)

    def resolve(needs: list[str], system: str, python: str, _: Path) -> list[Wheel]:
        seen.append(f"{system} {python} {needs}")
        return [Wheel("tiny", "1.0", "tiny-1.0-py3-none-any.whl", size=100)]

    def download(
        found: list[Wheel], system: str, python: str, folder: Path
    ) -> Iterator[list[Wheel]]:
        wheel(folder, "tiny", "1.0", {"tiny.py": ""})
        yield found

    monkeypatch.setattr(bundle, "_own_wheel", own)
    monkeypatch.setattr(wheels, "resolve", resolve)
    monkeypatch.setattr(wheels, "download", download)
    return seen


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["bundle", *arguments])


def test_a_bundle_has_everything_and_its_copy_is_verified(index: list[str], tmp_path: Path) -> None:
    out = tmp_path / "stick ü"
    done = call("--systems", "windows, linux", "--python", "3.11,3.12", "--out", str(out))
    assert done.exit_code == 0, done.output
    needs = "['tiny>=1']"
    assert index == [f"{s} {p} {needs}" for s in ("linux", "windows") for p in ("3.11", "3.12")]
    for name in ("course/notebooks/00_quickstart.ipynb", "course/data/testbed/model.safetensors",
                 "course/workshop/exercises/a_see.ipynb", "course/constraints.txt", "start.sh",
                 "start.bat", "README.txt", "wheels/tiny-1.0-py3-none-any.whl"):  # fmt: skip
        assert (out / name).is_file(), name
    assert not (out / bundle.UNFINISHED).exists() and not list(out.rglob("__pycache__"))
    listed = json.loads((out / bundle.MANIFEST).read_text())
    assert listed["systems"] == ["linux", "windows"] and listed["python"] == ["3.11", "3.12"]
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    hidden = {name for name in there if Path(name).name.startswith(".")}  # Sphinx leaves one
    assert set(listed["files"]) == there - hidden - {bundle.MANIFEST}
    assert "@" not in (out / "start.sh").read_text().replace('"$@"', "")
    assert (
        b"\r\n" in (out / "start.bat").read_bytes() and b"\r" not in (out / "start.sh").read_bytes()
    )
    copied = tmp_path / "copied"
    shutil.copytree(out, copied)
    assert call("--check", str(copied)).exit_code == 0
    (copied / ".DS_Store").touch()
    assert call("--check", str(copied)).exit_code == 0
    (copied / "README.txt").unlink()
    (copied / "start.sh").write_text("shorter")
    page = copied / "course/notebooks/00_quickstart.ipynb"
    page.write_bytes(page.read_bytes().replace(b"a", b"b", 1))
    (copied / "wheels/other-1.0-py3-none-any.whl").touch()
    found = call("--check", str(copied))
    assert found.exit_code == 1
    wrong = sorted(line for line in found.output.splitlines() if ": " in line)
    assert [line.split(", its")[0].split(" instead")[0] for line in wrong] == [
        "README.txt: missing",
        "course/notebooks/00_quickstart.ipynb: damaged",
        "start.sh: 7 bytes",
        "wheels/other-1.0-py3-none-any.whl: not in the list",
    ]


def test_a_stopped_call_is_marked_and_the_next_one_finishes(
    index: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "stick"
    with monkeypatch.context() as stopped:

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        stopped.setattr(bundle, "_fill_course", full)
        done = call("--out", str(out))
    assert isinstance(done.exception, UserError) and "no space left" in str(done.exception)
    assert (out / bundle.UNFINISHED).is_file() and not (out / bundle.MANIFEST).exists()
    assert isinstance(call("--check", str(out)).exception, UserError)
    (out / ".unfinished-x").mkdir()
    (out / "wheels/earlier-1.0-py3-none-any.whl").touch()
    assert call("--out", str(out)).exit_code == 0
    assert not (out / ".unfinished-x").exists()
    assert not (out / "wheels/earlier-1.0-py3-none-any.whl").exists()
    assert call("--check", str(out)).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--systems", "lunux"), "Unknown system 'lunux'. Did you mean 'linux'?"),
     (("--systems", "linux,"), "Unknown system ''"), (("--python", "3.9"), "Allowed: 3.11, 3.12"),
     (("--out", ""), "--out is empty"), (("--check", "none"), "has no MANIFEST.json")],
)  # fmt: skip
def test_bad_input_is_refused_before_anything_is_written(
    index: list[str], arguments: tuple[str, ...], words: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    done = call(*arguments)
    assert isinstance(done.exception, UserError) and words in str(done.exception)
    assert not index and not any(tmp_path.iterdir())


def test_folders_of_others_and_full_disks_are_refused(
    index: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photo.jpg").touch()
    assert "holds other things" in str(call("--out", str(tmp_path)).exception)
    assert "is a file" in str(call("--out", str(tmp_path / "photo.jpg")).exception)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert "0.0 GB free" in str(call("--out", str(tmp_path / "stick")).exception)


def test_a_damaged_list_is_one_line(tmp_path: Path) -> None:
    for text in ("[]", '{"files": {"a": 3}}', "{"):
        (tmp_path / bundle.MANIFEST).write_text(text)
        assert isinstance(call("--check", str(tmp_path)).exception, UserError)


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="start.sh is for Linux and macOS")
def test_the_start_line_installs_stand_ins_without_an_index_and_runs_a_command(
    index: list[str], tmp_path: Path
) -> None:
    """A printing stand-in for this project and one for JupyterLab's place: no real package."""
    out, home = tmp_path / "stick ü", tmp_path / "home ü"
    assert call("--systems", "linux", "--python", THIS, "--out", str(out)).exit_code == 0
    own = {**os.environ, "OOCR_HOME": str(home), "PIP_INDEX_URL": "http://127.0.0.1:9"}
    own = {name: value for name, value in own.items() if name not in ("PYTHONPATH",)}

    def start(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", str(out / "start.sh"), *arguments], env=own, capture_output=True, text=True
        )

    first = start("hello", "a b")
    assert first.returncode == 0 and first.stdout.endswith("ran hello a b\n"), first.stderr
    assert "Installing into" in first.stdout and (home / "course/notebooks").is_dir()
    (home / "course/mine.txt").touch()
    again = start("hello")
    assert again.stdout == "ran hello\n" and (home / "course/mine.txt").exists()
    (out / bundle.UNFINISHED).touch()
    refused = start("hello")
    assert refused.returncode == 1 and "not complete" in refused.stderr


@pytest.mark.long
def test_the_real_wheel_installs_without_an_index_and_shows_its_help(tmp_path: Path) -> None:
    """This project's own wheel and the three packages that its help loads; not PyTorch, not Lab."""
    (tmp_path / "wheels").mkdir()
    system = {"win32": "windows", "darwin": "macos"}.get(sys.platform, "linux")
    try:
        own = bundle._own_wheel(tmp_path)
        found = wheels.resolve(
            ["click", "numpy", "safetensors"], system, THIS, ROOT / "constraints.txt"
        )
        list(wheels.download(found, system, THIS, tmp_path / "wheels"))
    except UserError as error:
        if "network" not in str(error):
            raise
        pytest.skip("no package index")
    needs = bundle._needs(own)
    assert any(one.startswith("jupyterlab") for one in needs)
    assert any(one.startswith("torch>") for one in needs)
    assert not any(one.startswith(("pytest", "sphinx")) for one in needs)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    bin_folder = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:9", "PIP_FIND_LINKS": "", "PYTHONPATH": ""}
    command = [str(bin_folder / "python"), "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    command += ["-f", str(tmp_path / "wheels"), "oocr-lib", "click", "numpy", "safetensors"]
    subprocess.run(command, env={**os.environ, **offline}, check=True)
    shown = subprocess.run(
        [str(bin_folder / "oocr"), "--help"], env={**os.environ, **offline}, cwd=tmp_path,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "bundle" in shown.stdout and "fetch" in shown.stdout
