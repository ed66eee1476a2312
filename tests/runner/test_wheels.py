"""Which wheels another system needs: followed with its own markers, refused if too large."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

from oocr_lib.runner import wheels
from oocr_lib.runner.wheels import Wheel
from oocr_lib.util.errors import UserError


def offered(*made: Wheel) -> list[Wheel]:
    return list(made)


INDEX = {
    wheel.name: wheel
    for wheel in offered(
        Wheel("shell", "2.0", "shell.whl", needs=(
            'colours>=1; sys_platform == "win32"',
            'nope>=1; platform_system == "Darwin"',
            'late; python_full_version >= "3.12.4"',
            'extra-part; extra == "more"',
            "core[fast]<2",
        )),
        Wheel("core", "1.5", "core.whl", needs=('quick; extra == "fast"', "shell")),
        Wheel("colours", "1.1", "colours.whl"),
        Wheel("nope", "1.0", "nope.whl"),
        Wheel("late", "1.0", "late.whl"),
        Wheel("quick", "1.0", "quick.whl"),
    )
}  # fmt: skip


def answers(asked: list[str]):
    def ask(lines: Sequence[str]) -> list[Wheel]:
        asked.extend(lines)
        return [INDEX[Requirement(line).name] for line in lines]

    return ask


@pytest.mark.parametrize(
    ("system", "python", "own"),
    [("windows", "3.11", {"colours"}), ("macos", "3.11", {"nope"}), ("linux", "3.11", set()),
     ("linux", "3.12", {"late"})],
)  # fmt: skip
def test_requirements_are_followed_with_the_markers_of_the_other_system(
    system: str, python: str, own: set[str]
) -> None:
    asked: list[str] = []
    found = wheels.resolve(["shell"], system, python, Path("none"), answers(asked))
    assert {wheel.name for wheel in found} == {"shell", "core", "quick"} | own
    assert "core<2" in asked and len(asked) == len(found)  # each once, circles included


def test_versions_that_do_not_fit_are_one_line() -> None:
    with pytest.raises(UserError, match=r"core 1\.5 does not fit 'core>=3'"):
        wheels.resolve(["shell", "core>=3"], "linux", "3.11", Path("none"), answers([]))


def test_every_marker_of_packaging_is_given() -> None:
    from packaging.markers import default_environment

    for system in wheels.SYSTEMS:
        assert set(wheels.environment(system, "3.12")) == {*default_environment(), "extra"}


def test_the_cuda_build_is_refused_before_it_is_downloaded() -> None:
    cuda = [Wheel("torch", "2.0", "t.whl", size=10), Wheel("nvidia-cublas", "1", "n.whl")]
    with pytest.raises(UserError, match=r"1 of CUDA, such as nvidia-cublas.*--large"):
        wheels.refuse_large(cuda, "linux")
    big = [Wheel("torch", "2.0", "t.whl", size=wheels.LIMIT + 1)]
    with pytest.raises(UserError, match=r"linux are 1\.5 GB\."):
        wheels.refuse_large(big, "linux")
    wheels.refuse_large([Wheel("torch", "2.0", "t.whl", size=wheels.LIMIT)], "linux")


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Packages that pip was asked for; it writes `content of <name>`."""
    seen: list[list[str]] = []

    def pip(arguments: list[str], what: str) -> None:
        names = [one.partition("==")[0] for one in arguments if "==" in one]
        folder = Path(arguments[arguments.index("-d") + 1])
        for name in names:
            (folder / f"{name}.whl").write_text(f"content of {name}")
        seen.append(names)

    monkeypatch.setattr(wheels, "pip", pip)
    return seen


def one(name: str, size: int, content: str = "") -> Wheel:
    text = content or f"content of {name}"
    return Wheel(name, "1", f"{name}.whl", hashlib.sha256(text.encode()).hexdigest(), size)


def test_what_is_there_is_kept_and_large_ones_come_alone_and_last(
    fetched: list[list[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    (folder / "here.whl").write_text("content of here")
    (folder / "damaged.whl").write_text("content of")
    listed = [one("big", 10**8), one("damaged", 1), one("here", 1), one("small", 1)]
    steps = [
        {wheel.name for wheel in step} for step in wheels.download(listed, "linux", "3.11", folder)
    ]
    assert steps == [{"here"}, {"damaged", "small"}, {"big"}]
    assert fetched == [["damaged", "small"], ["big"]]
    assert all(wheel.is_in(folder) for wheel in listed)
    assert [path.name for path in tmp_path.iterdir()] == ["wheels"]  # nothing is left beside it


def test_another_file_than_the_listed_one_is_refused(
    fetched: list[list[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    with pytest.raises(UserError, match=r"a\.whl: the index sent another file"):
        list(wheels.download([one("a", 1, "what was listed")], "linux", "3.11", folder))
    assert not any(folder.iterdir())


def test_no_network_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Nobody listens at this port of this machine; no name is looked up.
    for name, value in {"INDEX_URL": "http://127.0.0.1:9", "EXTRA_INDEX_URL": "", "NO_INDEX": "0",
                        "FIND_LINKS": "", "DEFAULT_TIMEOUT": "1", "CONFIG_FILE": "/dev/null",
                        }.items():  # fmt: skip
        monkeypatch.setenv(f"PIP_{name}", value)
    (tmp_path / "constraints.txt").touch()
    monkeypatch.setattr(wheels, "_PIP", (*wheels._PIP[:-1], "1"))
    with pytest.raises(UserError) as caught:
        wheels.resolve(["click"], "linux", "3.11", tmp_path / "constraints.txt")
    said = str(caught.value)
    assert said.startswith("Cannot fetch what linux needs: ") and "\n" not in said
    assert "network" in said


def test_linux_wheels_are_those_of_older_systems_too() -> None:
    tags = set(wheels.SYSTEMS["linux"].platforms)
    for file in ("numpy-2.4.6-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
                 "a-1-py3-none-manylinux2014_x86_64.whl", "a-1-py3-none-linux_x86_64.whl",
                 "a-1-py3-none-manylinux_2_5_x86_64.manylinux1_x86_64.whl"):  # fmt: skip
        assert tags & {tag.platform for tag in parse_wheel_filename(file)[3]}, file
