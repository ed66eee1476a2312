"""Every command that README, REPRODUCE and the guide show is one that works.

Each is run from a fresh copy of the repository, in preset smoke or as a dry run where it would take
long. Installing is the one thing that is not done here: its files are checked instead.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oocr_lib.util.paths import ROOT
from tests.served import Served

PAGES = ("README.md", "REPRODUCE.md", "docs/paths.md", "CONTRIBUTING.md", "workshop/README.md")
#: Commands stand between plain fences; Python has a test of its own (test_api).
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
_SPAN = re.compile(r"`((?:oocr|make|python -m|\.venv/bin/oocr) [^`]+)`")
#: What is added to a command so that it takes seconds: the first that its beginning matches.
SHORT = (
    (r"oocr (run|sweep) .*--dry-run", "--out out"),
    (r"oocr run 10_real_model", "--dry-run --out out -p model=testbed"),  # its own is fetched
    (r"oocr (run|sweep) ", "--dry-run --out out"),
    (r"oocr (demo|reproduce)", "--help"),
    (r"oocr (lab|book|fetch|bundle)", "--help"),  # what they do: test_packaged, test_bundle
    (r"oocr doctor", "--out out"),
    (r"oocr claims", "--help"),
    (r"oocr (describe .*|--help)", ""),
)
#: Commands that install; the files that they name must be there.
INSTALL = (
    r"python -m venv \.venv",
    r"\.venv/bin/pip install .*",
    r"conda (env create|activate) .*",
)
#: Long ones of a developer; that they start is shown by their help.
HELP = r"python -m ((?:oocr_lib|benchmarks|workshop)\.[\w.]+)"


def commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        if not (ROOT / page).is_file():
            continue
        text = (ROOT / page).read_text(encoding="utf-8")
        found = [
            re.sub(r"\s+#.*$", "", line).strip()
            for language, block in _FENCE.findall(text)
            if language not in ("python", "pycon")
            for line in block.replace("\\\n", " ").splitlines()
        ]
        found += [re.sub(r"\s+", " ", span).strip() for span in _SPAN.findall(text)]
        for command in dict.fromkeys(found):
            if command and "…" not in command and "..." not in command.replace("0..4", ""):
                yield page, command


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's files as git has them, in a folder with spaces and another alphabet."""
    place = tmp_path_factory.mktemp("a fresh copy ü")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, place / name)
    return place


@pytest.fixture(scope="module")
def served(copy: Path) -> Iterator[Served]:
    """Runs modules of the copy."""
    made = Served(copy)
    yield made
    made.end()


def environment(copy: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(copy), "OOCR_DATA": "", "HF_HUB_OFFLINE": "1"}


def call(copy: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, cwd=copy, env=environment(copy), capture_output=True, text=True, check=False
    )


COMMANDS = list(commands())


def _case(page: str, command: str) -> Any:
    """What trains for half a minute is a long one."""
    marks = [pytest.mark.long] if "examples/" in command else []
    return pytest.param(page, command, marks=marks)


@pytest.mark.parametrize(
    ("page", "command"), [_case(*one) for one in COMMANDS], ids=lambda value: str(value)[:60]
)
def test_it_works(page: str, command: str, copy: Path, served: Served) -> None:
    command = command.removeprefix(".venv/bin/") if " oocr" not in command else command
    command = re.sub(r"^\.venv/bin/(oocr|python)\b", r"\1", command)
    if any(re.fullmatch(pattern, command) for pattern in INSTALL) or "pip install" in command:
        named = re.findall(r"(\S+\.(?:txt|yml))", command)
        assert all((copy / name).is_file() for name in named)
        return
    if command.startswith("make "):
        done = call(copy, ["make", "-n", *shlex.split(command)[1:]])
        assert done.returncode == 0, done.stderr
        return
    if match := re.match(HELP, command):
        done = served.call(match[1], ["--help"], copy, environment(copy))
        assert done.returncode == 0, done.stderr
        return
    if command.startswith("jupyter "):
        words = shlex.split(command)
        short = ["jupyter", "lab", "--version"] if words[1] == "lab" else words
        done = call(copy, [sys.executable, "-m", *short])
        assert done.returncode == 0, done.stderr
        return
    if command.startswith(("python -c", "python examples/")):
        done = call(copy, [sys.executable, *shlex.split(command)[1:]])
        assert done.returncode == 0 and done.stdout.strip(), done.stderr
        return
    added = next((extra for pattern, extra in SHORT if re.match(pattern, command)), None)
    assert added is not None, f"{page} shows {command!r}, which no test knows how to try"
    words = [*shlex.split(command)[1:], *shlex.split(added)]
    done = served.call("oocr_lib.runner.cli", words, copy, environment(copy))
    # The doctor may find this machine short of memory; everything else must be well.
    assert done.returncode == 0 or (command.startswith("oocr doctor") and done.returncode == 1), (
        done.stdout + done.stderr
    )
    assert "Traceback" not in done.stderr


def test_the_pages_show_what_a_reader_needs() -> None:
    shown = {command for page, command in COMMANDS if page == "README.md"}
    for word in ("make demo", "oocr demo", "oocr reproduce", "oocr describe", "oocr sweep"):
        assert any(word in command for command in shown), word
    assert not any("oocr_lib.runner.batch" in command for command in shown)
