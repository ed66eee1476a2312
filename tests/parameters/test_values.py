"""Sweeps: texts and files to runs, and names for their folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from oocr_lib.parameters import values as batch_grid
from oocr_lib.parameters.cell import Parameter, inspect
from oocr_lib.util.errors import UserError
from tests import tiny_notebooks


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Parameter]:
    return inspect(tiny_notebooks.write(tmp_path_factory.mktemp("a"), "a"))


def runs(known: Any, *texts: str, grid: Any = None) -> list[dict[str, Any]]:
    given_texts = batch_grid.assignments(texts)
    return batch_grid.combinations("a", known, given_texts, grid or {})[0]


def test_ranges_and_commas_are_crossed(known: Any) -> None:
    made = runs(known, "seed=0..2,7", "rate=0.1,0.5")
    assert len(made) == 8
    assert made[0] == {"seed": 0, "rate": 0.1} and made[-1] == {"seed": 7, "rate": 0.5}
    assert [run["seed"] for run in runs(known, "seed=-2..0")] == [-2, -1, 0]


def test_a_single_value_is_one_run_and_varies_nothing(known: Any) -> None:
    made, varied = batch_grid.combinations("a", known, {"seed": "3", "blocks": "0,1"}, {})
    assert made == [{"seed": 3, "blocks": [0, 1]}] and varied == ()
    assert batch_grid.combinations("a", known, {}, {}) == ([{}], ())


def test_doubles_are_run_once(known: Any) -> None:
    assert runs(known, "seed=1,1,0..1") == [{"seed": 1}, {"seed": 0}]
    assert runs(known, grid={"seed": [1, 1]}) == [{"seed": 1}]


@pytest.mark.parametrize("given", ["0..2", ["0..1", 2], ["0..2", 1]])
def test_a_range_is_one_in_the_file_too(known: Any, given: Any) -> None:
    assert [run["seed"] for run in runs(known, grid={"seed": given})] == [0, 1, 2]


def test_lists_of_lists_vary_a_list(known: Any) -> None:
    assert runs(known, grid={"blocks": [0, 1]}) == [{"blocks": [0, 1]}]
    assert runs(known, grid={"blocks": [[0], [0, 1]]}) == [{"blocks": [0]}, {"blocks": [0, 1]}]


def test_a_file_is_read(known: Any, tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text("seed: [0, 1]\nmodel: testbed\nfast: true\n")
    made = runs(known, "rate=0.5", grid=batch_grid.read_grid(path))
    assert made[1] == {"rate": 0.5, "seed": 1, "model": "testbed", "fast": True}
    assert batch_grid.read_grid(None) == {}


@pytest.mark.parametrize(
    ("texts", "grid", "words"),
    [
        (["sead=1"], {}, "'sead'. Did you mean 'seed'"),
        (["seed=1", "seed=2"], {}, "given twice"),
        (["seed"], {}, "has no value"),
        (["seed=3..1"], {}, "Allowed: first..last, rising"),
        (["seed=010..012"], {}, "got '010'. Allowed: a whole number"),
        (["seed=1..\u0663"], {}, "got '\u0663'. Allowed: a whole number"),
        ([], {"seed": "3..1"}, "Allowed: first..last, rising"),
        ([], {"seed": ["010..012"]}, "got '010'. Allowed: a whole number"),
        ([], {"rate": "0..4"}, "Allowed: a finite number"),
        (["seed=0..99999"], {}, "10000 values at most"),
        (["seed=0..200", "rate=" + ",".join(str(i) for i in range(60))], {}, "more than 10000"),
        (["seed=1.5"], {}, "Allowed: a whole number"),
        (["rate=0..4"], {}, "Allowed: a finite number"),
        (["preset=smoke,laptop"], {}, "option --preset"),
        (["seed=1"], {"seed": 2}, "by -p and by --grid"),
        ([], {"sead": 1}, "Did you mean 'seed'"),
        ([], {"seed": "1"}, "got '1'"),
        ([], {"seed": []}, "empty list"),
        ([], {"blocks": 1}, "whole numbers with commas"),
        ([], {"out_dir": "x"}, "option --out"),
    ],
)
def test_bad_sweeps_get_one_line(known: Any, texts: list[str], grid: Any, words: str) -> None:
    with pytest.raises(UserError) as error:
        runs(known, *texts, grid=grid)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [("seed: [1", "is not YAML, line"), ("- 1\n- 2\n", "holds a list"),
     ("1: 2\n", "has the name 1."), ("\x00", "is not YAML"), ("", "is empty"),
     ("# nothing\n", "is empty"), ("hello\n", "holds a text"), ("3\n", "holds one value")],
)  # fmt: skip
def test_bad_files_get_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        batch_grid.read_grid(path)
    assert words in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match="No such file"):
        batch_grid.read_grid(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0), ("-3", -3), ("+3", 3), ("10", 10), ("1e-4", 1e-4), ("1E3", 1e3), ("0.5", 0.5),
        (".5", 0.5), ("5.", 5.0), ("true", True), ("False", False), ("'1'", "1"), ("", None),
        # What YAML 1.1 takes for 8, 8, 1000, 90, 16, booleans, a date and infinity.
        ("010", "010"), ("0o10", "0o10"), ("1_000", "1_000"), ("1:30", "1:30"), ("0x10", "0x10"),
        ("yes", "yes"), ("on", "on"), ("no", "no"), ("2020-01-01", "2020-01-01"), (".inf", ".inf"),
    ],
)  # fmt: skip
def test_a_file_is_read_as_it_looks(tmp_path: Path, text: str, expected: Any) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(f"x: {text}\ny: [{text}]\n")
    found = batch_grid.read_grid(path)
    assert found["x"] == expected and type(found["x"]) is type(expected)
    assert found["y"] == ([expected] if text else [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: 010", "got '010'. Allowed: a whole number"),
        ("seed: [1, 0o10]", "got '0o10'"),
        ("seed: 1_000", "got '1_000'"),
        ("seed: 1:30", "got '1:30'"),
        ("fast: yes", "got 'yes'. Allowed: true or false"),
        ("rate: .inf", "got '.inf'. Allowed: a finite number"),
        ("seed:", "got None"),
        ("seed: 1\nseed: 2", "--grid has 'seed' twice"),
    ],
)
def test_what_looks_otherwise_is_refused(known: Any, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        runs(known, grid=batch_grid.read_grid(path))
    assert words in str(error.value) and "\n" not in str(error.value)


@given(
    st.lists(
        st.tuples(st.text(max_size=40), st.integers(), st.lists(st.integers(), max_size=3)),
        unique_by=repr,
        max_size=8,
    )
)
def test_labels_are_folder_names_and_tell_runs_apart(values: list[tuple[Any, ...]]) -> None:
    names = ("model", "seed", "blocks")
    made = [batch_grid.label(dict(zip(names, value, strict=True)), names) for value in values]
    assert len({label.casefold() for label in made}) <= len(set(made)) == len(values)
    for label in made:
        assert batch_grid.check_label(label) == label and len(label) <= 100
        assert "/" not in label and label not in (".", "..")


def test_labels_can_be_read() -> None:
    values = {"seed": 3, "model": "testbed", "layers": [0, 2], "rate": 0.5}
    assert batch_grid.label(values, ["seed", "model"]) == "seed=3,model=testbed"
    assert batch_grid.label(values, ["layers", "rate"]) == "layers=0+2,rate=0.5"
    assert batch_grid.label(values, []) == ""
    path = batch_grid.label({"model": "/some/where/mine"}, ["model"])
    assert path.startswith("model=mine-") and len(path) == len("model=mine-12345678")
    assert path != batch_grid.label({"model": "/else/where/mine"}, ["model"])
    several = [batch_grid.label({"x": x}, ["x"]) for x in (["a", "b"], ["a+b"], "a+b")]
    assert several[0] == "x=a+b" and len(set(several)) == 3
    for bad in ("", "a/b", "..", ".hidden", "a b", "x" * 200):
        with pytest.raises(UserError, match="cannot be a folder"):
            batch_grid.check_label(bad)
