"""The files around the code agree with each other and hold nothing of this machine."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from oocr_lib.util.paths import ROOT
from tests.notebook_contract import MACHINE_PATH

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = [*PROJECT["dependencies"], *(text for group in EXTRAS.values() for text in group)]
#: Needed while running, imported by name nowhere in the library.
RUN_BY_OTHERS = {"ipykernel", "jsonschema"}
#: Pinned for other systems and Pythons only: Windows, macOS, and what papermill needs on 3.12.
ELSEWHERE = set(
    "colorama pywinpty appnope "
    "aiohttp aiohappyeyeballs aiosignal frozenlist multidict propcache yarl".split()
)
#: Packages whose modules have another name.
IMPORTED_AS = {"yaml": "pyyaml", "PIL": "pillow"}
#: Modules of docs/, which its tests import.
DOCS = {path.stem.replace("_", "-") for path in (ROOT / "docs").glob("*.py")}
CONDA_NAMES = {
    "torch": "pytorch",
    "matplotlib": "matplotlib-base",
    "jupyter-client": "jupyter_client",
    "huggingface-hub": "huggingface_hub",
}
#: Files whose subject is such a path.
ABOUT_PATHS = {"tests/test_repository.py", "tests/runner/test_notebook_checks.py"}
HOSTS = re.compile(r"pypi\.org|pythonhosted|download\.pytorch|--(?:extra-)?index-url|find-links")
UNWANTED = re.compile(r"\b(?:TODO|FIXME|XXX)\b|\b[Ii]ssue #?\d+|\b[Hh]elper \d\b")


def tracked() -> list[str]:
    """Files of the project: what git has or would take, or all but the usual leftovers."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    names = listing.stdout.splitlines()
    if listing.returncode:
        skipped = {".venv", "results", "build"}
        files = [path for path in ROOT.rglob("*") if path.is_file()]
        names = [str(path.relative_to(ROOT)) for path in files]
        names = [name for name in names if not skipped & set(Path(name).parts)]
    return sorted(name for name in names if (ROOT / name).is_file())


def texts() -> list[tuple[str, str]]:
    found = []
    for name in tracked():
        content = (ROOT / name).read_bytes()
        if b"\0" not in content:
            found.append((name, content.decode("utf-8")))
    return found


def test_no_machine_paths_hosts_or_notes_to_ourselves() -> None:
    files = texts()
    assert len(files) > 20
    found = []
    for name, text in files:
        if name in ABOUT_PATHS:
            continue
        if name.endswith(".ipynb"):  # test_notebooks looks inside; pictures are random letters
            text = re.sub(r'"image/png": ".*?"', "", text)
        for pattern in (MACHINE_PATH, HOSTS, UNWANTED):
            for match in pattern.finditer(text):
                line = text.count("\n", 0, match.start()) + 1
                found.append(f"{name}:{line}: {match[0]!r}")
    assert found == []


def test_files_that_the_pages_name_are_there() -> None:
    """What a reader looks for by the name on a page; files of results are made by runs."""
    made = {"mine.jsonl", "run.json", "sweep.html", "summary.csv", "sweep.csv", "metrics.json"}
    names = tracked()
    for page, text in ((page, text) for page, text in texts() if page.endswith(".md")):
        for name in re.findall(r"`([\w./-]+\.(?:py|toml|csv|json|yaml|html))`", text):
            known = name in made or name.startswith("results/")
            there = any(one == name or one.endswith(f"/{name}") for one in names)
            assert known or there, f"{page} names {name}"


def test_no_large_or_pickled_file_is_committed() -> None:
    large = [name for name in tracked() if (ROOT / name).stat().st_size > 15_000_000]
    pickled = [n for n in tracked() if n.endswith((".pt", ".pth", ".bin", ".pkl", ".npy", ".npz"))]
    assert (large, pickled) == ([], [])


def test_every_dependency_has_a_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    for text in DECLARED:
        line = next(line for line in lines if line.strip().startswith(f'"{text}"'))
        assert re.search(r",\s+# \S+", line), f"no reason beside {text}"


def imported(folder: str) -> set[str]:
    """Names of the packages that Python files below a folder import, our own excepted."""
    names: set[str] = set()
    for file in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(str(node.module).split(".")[0])
    others = names - set(sys.stdlib_module_names) - {"oocr_lib", "tests"}
    return {canonicalize_name(IMPORTED_AS.get(name, name)) for name in others}


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def test_imports_are_declared_and_declarations_used() -> None:
    used, declared = imported("oocr_lib"), names(PROJECT["dependencies"])
    # What `lab` brings is looked for before it is imported.
    assert used - {"mpl-toolkits"} <= declared | names(EXTRAS["lab"])
    assert declared <= used | RUN_BY_OTHERS
    assert imported("tests") <= names(DECLARED) | {"benchmarks", "notebook-jobs", "workshop"} | DOCS


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins), "exact versions only"
    return {canonicalize_name(name): version for name, version in (p.split("==") for p in pins)}


def test_constraints_satisfy_the_declarations() -> None:
    pins = constraints()
    for text in DECLARED:
        requirement = Requirement(text)
        version = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{text} excludes the pinned {version}"


def test_nothing_is_installed_that_makes_every_start_slow() -> None:
    # jsonschema from 4.25 on builds the grammar of addresses on import: 3 s for every process.
    assert "rfc3987-syntax" not in constraints() and "rfc3987-syntax" not in closure()


def closure() -> set[str]:
    """Installed packages that the declared ones need, by following their metadata."""
    todo = [Requirement(text) for text in DECLARED]
    seen: set[tuple[str, str]] = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                needed = [Requirement(text) for text in requires(name) or []]
            except PackageNotFoundError:
                continue
            todo += [r for r in needed if r.marker is None or r.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


def test_constraints_cover_everything_that_is_installed() -> None:
    assert closure() - set(constraints()) == set()


def test_constraints_name_nothing_else() -> None:
    if sys.version_info[:2] != (3, 11) or sys.platform != "linux":
        pytest.skip("the pins were made on Python 3.11 on Linux")
    if missing := [name for name in ("sphinx", "snakemake") if not find_spec(name)]:
        pytest.skip(f"an extra is not installed: {', '.join(missing)} ('make test' installs all)")
    assert set(constraints()) - closure() == ELSEWHERE


def test_conda_environment_agrees_with_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    *conda, pip = environment["dependencies"]
    assert pip == {"pip": ["-e ."]}
    wanted = {"pip", "python=3.11"}
    for text in (*PROJECT["dependencies"], *EXTRAS["lab"]):
        requirement = Requirement(text)
        name = CONDA_NAMES.get(requirement.name, requirement.name)
        wanted.add(f"{name} {requirement.specifier} cpu*" if name == "pytorch" else
                   f"{name}{requirement.specifier}")  # fmt: skip
    assert set(conda) == wanted


def test_python_versions_agree() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    assert "(3, 11) <= sys.version_info[:2] < (3, 14)" in makefile


def test_citation_is_complete() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    from oocr_lib import __version__

    assert str(citation["version"]) == __version__
    paper = citation["preferred-citation"]
    assert [author["family-names"] for author in paper["authors"]] == [
        "Wang", "Engels", "Clive-Griffin", "Rajamanoharan", "Nanda",
    ]  # fmt: skip
    assert "2507.08218" in paper["url"]


def test_ci_calls_make_test_and_nothing_else() -> None:
    run = ROOT / ".ci" / "run"
    assert os.access(run, os.X_OK)
    assert run.read_text().splitlines()[-1] == "exec make test"


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile.replace("\\\n", " "), re.MULTILINE)
    assert phony
    text = make("help").stdout
    documented = set(re.findall(r"^make (\w+)", text, re.MULTILINE))
    assert documented | {"help", "lint", "unit", "smoke"} == set(phony[1].split())


def test_what_a_reader_does_is_one_call_of_the_command() -> None:
    plan = make("-n", "reproduce", "PRESET=smoke").stdout
    assert "-m oocr_lib reproduce --preset smoke --out results -j 2" in plan
    for target in ("demo", "lab", "doctor", "book"):
        assert f"-m oocr_lib {target}" in make("-n", target).stdout


def test_a_readers_install_has_no_linters(tmp_path: Path) -> None:
    for target in ("demo", "reproduce", "lab", "book"):
        plan = make("-n", target, f"VENV={tmp_path / 'venv'}").stdout
        assert "[lab]" in plan and "[dev]" not in plan, target
    assert "[dev]" in make("-n", "test", f"VENV={tmp_path / 'venv'}").stdout


def test_set_up_without_a_usable_python_is_one_clear_line(tmp_path: Path) -> None:
    done = make("lab", f"VENV={tmp_path / 'venv'}", "PYTHON=false")
    assert done.returncode == 2
    assert "No Python 3.11, 3.12 or 3.13 with venv among: false." in done.stderr
    assert not (tmp_path / "venv").exists()
