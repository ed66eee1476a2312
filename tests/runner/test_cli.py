"""The command ``oocr``: one word for each thing that a reader does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from oocr_lib.report import metrics
from oocr_lib.runner import batch, cli
from oocr_lib.util.errors import UserError


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, list(arguments))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What would have been given to the runner."""
    seen: list[list[str]] = []

    def main(arguments: list[str], prog: str = "", **_: Any) -> int:
        seen.append(arguments)
        return 0

    monkeypatch.setattr(batch, "main", main)
    return seen


def test_help_names_every_command_of_the_text() -> None:
    assert cli.__doc__ is not None
    said = [line.split()[1] for line in cli.__doc__.splitlines() if line.startswith("    oocr ")]
    assert sorted(said) == sorted(cli.main.commands)
    out = call("--help")
    assert out.exit_code == 0 and all(name in out.output for name in said)


def test_reproduce_begins_with_the_quickstart(calls: list[list[str]]) -> None:
    out = call("reproduce", "--preset", "smoke", "--out", "x", "-j", "3")
    assert out.exit_code == 0
    common = ["--preset", "smoke", "--out", "x"]
    assert calls == [["00_quickstart", *common], ["--all", *common, "-j", "3"]]


def test_a_failing_quickstart_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def main(arguments: list[str], prog: str = "") -> int:
        seen.append(arguments)
        return 1

    monkeypatch.setattr(batch, "main", main)
    assert call("reproduce").exit_code == 1 and len(seen) == 1


def test_run_and_sweep_pass_everything_on(calls: list[list[str]]) -> None:
    given = ["03_locations", "-p", 'hidden=["Oslo","Lima"]', "-p", "seed=3", "--dry-run"]
    assert call("run", *given).exit_code == 0 and call("sweep", *given).exit_code == 0
    assert calls == [given, given]


def test_the_runners_help_is_reached_and_names_the_command() -> None:
    with pytest.raises(SystemExit) as ended:
        batch.main(["--help"], prog="oocr run")
    assert ended.value.code == 0
    out = call("run", "--help")
    assert out.exit_code == 0 and "usage: oocr run" in out.output and "--dry-run" in out.output


def test_describe_and_bad_names() -> None:
    out = call("describe", "00_quickstart")
    assert out.exit_code == 0 and "hidden" in out.output and "(108 in all)" in out.output
    assert call("describe", "00_quickstar").exit_code == 2
    assert call("descibe", "x").exit_code == 2


def test_demo_says_one_sentence_with_its_numbers(calls: list[list[str]], tmp_path: Path) -> None:
    found = metrics.Metrics("00_quickstart", {"hidden": "Paris", "site": "resid"})
    for method, value in (("base", 0.25), ("random", 0.38), ("vector_resid", 1.0)):
        found.add(f"all/{method}/mc5", value, n=8)
    found.write(tmp_path / "laptop" / "00_quickstart" / "metrics.json")
    out = call("demo", "--out", str(tmp_path))
    assert out.exit_code == 0 and calls == [["00_quickstart", "--out", str(tmp_path)]]
    assert "Paris" in out.output and "1.00" in out.output and "0.25" in out.output
    assert "map.png" in out.output


def test_demo_does_not_name_a_picture_that_is_gone(calls: list[list[str]], tmp_path: Path) -> None:
    found = metrics.Metrics("00_quickstart", {"hidden": "Paris", "site": "resid"})
    for method in ("base", "random", "vector_resid"):
        found.add(f"all/{method}/mc5", 0.5, n=8)
    folder = tmp_path / "laptop" / "00_quickstart"
    found.write(folder / "metrics.json")
    assert (
        "is gone: 'oocr run 00_quickstart --rerun'" in call("demo", "--out", str(tmp_path)).output
    )
    (folder / "map.png").touch()
    assert f"The picture: {folder / 'map.png'}" in call("demo", "--out", str(tmp_path)).output


def test_reproduce_refuses_before_the_quickstart(calls: list[list[str]]) -> None:
    for jobs in ("0", "-1", "x"):
        out = call("reproduce", "-j", jobs)
        assert out.exit_code == 2 and jobs in out.output and not calls


@pytest.mark.parametrize(
    "arguments",
    [("doctor", "--out", ""), ("demo", "--out", ""), ("reproduce", "--out", ""),
     ("claims", "--results", ""), ("claims", "--out", ""), ("claims", "--claims", ""),
     ("fetch", "--wheel", ""), ("bundle", "--systems", ""), ("bundle", "--python", ""),
     ("bundle", "--check", "")],
)  # fmt: skip
def test_an_empty_path_is_not_the_current_folder(
    calls: list[list[str]], arguments: tuple[str, ...]
) -> None:
    out = call(*arguments)
    assert isinstance(out.exception, UserError) and not calls
    assert str(out.exception).startswith(f"{arguments[1]} is empty.")


@pytest.fixture
def judged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to type in, with one finished run and its claim table in results/laptop."""
    folder = tmp_path / "results" / "laptop"
    params = {"model": "testbed", "seed": 0, "preset": "laptop"}
    metrics.Metrics("00_quickstart", params).write(folder / "00_quickstart" / "metrics.json")
    monkeypatch.chdir(tmp_path)
    assert call("claims").exit_code == 0
    return folder


def test_claims_need_no_folder_with_other_options(judged_once: Path, tmp_path: Path) -> None:
    assert call("claims", "--out", "elsewhere").exit_code == 0
    assert (tmp_path / "elsewhere" / "claims.json").is_file()
    out = call("claims", "--help").output
    assert "--results" in out and "--seed" in out


@pytest.mark.parametrize("asked", [("--seed", "7"), ("--seed", "-1"), ("--model", "nope")])
def test_claims_of_no_run_leave_the_table_alone(judged_once: Path, asked: tuple[str, str]) -> None:
    before = (judged_once / "claims.json").stat()
    out = call("claims", *asked)
    assert isinstance(out.exception, UserError) and asked[1] in str(out.exception)
    assert (judged_once / "claims.json").stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize(("command", "package"), [("lab", "jupyterlab"), ("book", "sphinx")])
def test_what_is_not_installed_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, command: str, package: str
) -> None:
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(cli.subprocess, "call", lambda *_, **__: pytest.fail("it was started"))
    out = call(command)
    assert isinstance(out.exception, UserError) and package in str(out.exception)
    assert f"pip install -e '.[{command}]'" in str(out.exception)


def test_lab_where_a_file_has_the_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "a.ipynb").write_text("a")
    (tmp_path / "lab").write_text("mine")
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: True)
    for fresh in ((), ("--fresh",)):
        out = call("lab", *fresh)
        assert isinstance(out.exception, UserError) and "lab" in str(out.exception)
    assert (tmp_path / "lab").read_text() == "mine"


def test_lab_works_on_copies_that_stay(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    for name in ("a", "b"):
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text(name)
    folder = cli.copies(tmp_path)
    (folder / "a.ipynb").write_text("mine")
    (folder / "b.ipynb").unlink()
    assert cli.copies(tmp_path) == folder
    assert (folder / "a.ipynb").read_text() == "mine" and (folder / "b.ipynb").read_text() == "b"
    cli.copies(tmp_path, fresh=True)
    assert (folder / "a.ipynb").read_text() == "a"
    assert (tmp_path / "notebooks" / "a.ipynb").read_text() == "a"


def test_lab_opens_the_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(cli, "copies", lambda root, fresh: root / "lab")
    monkeypatch.setattr(
        cli.subprocess, "call", lambda command, env: seen.update(command=command, env=env) or 0
    )
    assert call("lab", "--no-browser", "--port", "8889").exit_code == 0
    assert seen["command"][-3:] == ["--no-browser", "--port", "8889"]
    assert seen["command"][:3] == [sys.executable, "-m", "jupyterlab"]
    assert any("/lab/tree/lab/00_quickstart.ipynb" in part for part in seen["command"])
    assert seen["env"]["OOCR_PROGRESS"] == "1"


def test_doctor_passes_its_exit_code_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from oocr_lib.runner import doctor

    for code in (0, 1):
        monkeypatch.setattr(doctor, "main", lambda out, code=code: code)
        assert call("doctor").exit_code == code


def test_bad_input_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: Any) -> None:
        raise UserError("One line. Allowed: others.")

    monkeypatch.setattr(cli, "main", refuse)
    with pytest.raises(SystemExit) as ended:
        cli.console()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "One line. Allowed: others.\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [(["oocr", "frob"], 2, "No such command 'frob'"), (["oocr", "--help"], 0, "Usage: oocr"),
     (["oocr"], 2, "Usage: oocr"), (["oocr", "describe"], 2, "Missing argument")],
)  # fmt: skip
def test_the_console_has_the_codes_of_the_commands(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        cli.console()
    assert ended.value.code == code
    assert words in "".join(capsys.readouterr())


def test_an_interrupt_while_things_are_loaded_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_batch", interrupted)
    monkeypatch.setattr(sys, "argv", ["oocr", "run", "00_quickstart"])
    with pytest.raises(SystemExit) as ended:
        cli.console()
    said = capsys.readouterr().err
    assert ended.value.code == 130 and said.strip().startswith("Interrupted.")
    assert "Traceback" not in said


def test_help_loads_nothing_heavy() -> None:
    """Before a command is known, nothing is imported that takes seconds or can be interrupted."""
    code = (
        "import sys; from oocr_lib.runner import cli; "
        "print([name for name in ('torch', 'nbformat', 'papermill') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
