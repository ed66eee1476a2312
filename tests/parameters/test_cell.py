"""Parameters of notebooks: found, read strictly by type, shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from oocr_lib.parameters.cell import check, inspect, parse, summary
from oocr_lib.util.errors import UserError
from tests import tiny_notebooks


def test_parameters_are_found_in_order(tmp_path: Path) -> None:
    found = inspect(tiny_notebooks.write(tmp_path, "a"))
    assert list(found) == ["model", "preset", "seed", "out_dir", "rate", "fast", "blocks"]
    assert [p.default for p in found.values()] == ["testbed", "laptop", 0, "", 0.5, False, [0, 1]]
    assert found["blocks"].type == "list[int]"
    assert found["seed"].help == "of everything random"


def test_a_path_with_braces(tmp_path: Path) -> None:
    folder = tmp_path / "{run}"
    folder.mkdir()
    assert inspect(tiny_notebooks.write(folder, "a"))


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("3", "str", "3"),
        ("1e-4", "str", "1e-4"),
        ("-3", "int", -3),
        ("1000", "int", 1000),
        ("1e-4", "float", 1e-4),
        ("2", "float", 2.0),
        ("True", "bool", True),
        ("false", "bool", False),
        ("1,2", "list[int]", [1, 2]),
        ("[1, 2]", "list[int]", [1, 2]),
        ("[]", "list[int]", []),
        ("0.5", "list[float]", [0.5]),
        ('["Lyon", "Oslo"]', "list[str]", ["Lyon", "Oslo"]),
    ],
)
def test_texts_read_by_type(text: str, kind: str, value: object) -> None:
    got = parse("x", text, kind)
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("1.5", "int"), ("", "int"), ("nan", "float"), ("inf", "float"), ("x", "float"),
     ("1", "bool"), ("yes", "bool"), ("1,x", "list[int]"), ("nan", "list[float]")],
)  # fmt: skip
def test_other_types_are_refused(text: str, kind: str) -> None:
    with pytest.raises(UserError, match="Parameter 'x' got") as error:
        parse("x", text, kind)
    assert kind in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [(2, "int", 2), (2, "float", 2.0), ("a", "str", "a"), (True, "bool", True),
     ([1, 2], "list[int]", [1, 2]), ([], "list[str]", []), ([1, 0.5], "list[float]", [1.0, 0.5])],
)  # fmt: skip
def test_values_of_a_file_are_checked(value: object, kind: str, expected: object) -> None:
    assert check("x", value, kind) == expected


@pytest.mark.parametrize(
    ("value", "kind"),
    [(1.5, "int"), (True, "int"), (1, "str"), (None, "str"), (float("nan"), "float"), (1, "bool"),
     (1, "list[int]"), (["a"], "list[int]"), ([1, True], "list[int]"), ([1], "int")],
)  # fmt: skip
def test_values_of_another_type_are_refused(value: object, kind: str) -> None:
    with pytest.raises(UserError, match="Parameter 'x' got") as error:
        check("x", value, kind)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "kind"), [("0,0", "list[int]"), ("[a, b,a]", "list[str]"), ("1,1.0", "list[float]")]
)
def test_a_value_twice_in_a_list_is_refused(text: str, kind: str) -> None:
    with pytest.raises(UserError, match=r"Parameter 'x' has .* twice") as error:
        parse("x", text, kind)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"Parameter 'x' has 1\.0 twice"):
        check("x", [1, 1.0], "list[float]")
    with pytest.raises(UserError, match="Parameter 'x' has 'a' twice"):
        check("x", ["a", "a"], "list[str]")


def test_a_default_of_another_type_or_with_a_double_is_refused(tmp_path: Path) -> None:
    for more in ("more: int = 1.5  # no", "more: list[int] = [1, 1]  # no"):
        path = tiny_notebooks.write(tmp_path, "a", more=more)
        with pytest.raises(UserError, match=r"Default in a\.ipynb: Parameter 'more'"):
            inspect(path)


def test_summary_marks_what_was_changed(tmp_path: Path) -> None:
    known = inspect(tiny_notebooks.write(tmp_path, "a"))
    lines = summary("a", known, {"seed": 2, "rate": 0.5}).splitlines()
    assert "| `seed` | **`2`** (default `0`) | of everything random |" in lines
    assert "| `rate` | `0.5` | a number |" in lines
    assert r"| `blocks` | `[0, 1]` | some \| numbers |" in lines
    assert len(lines) == 4 + len(known)
    assert summary("a", known, {}, "A line.").splitlines()[-2:] == ["", "A line."]
    assert "`Đà`" not in summary("a", known, {}) and '"Đà"' in summary("a", known, {"model": "Đà"})


def test_bad_notebooks_are_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.ipynb"
    broken.write_text("{")
    untagged = tiny_notebooks.write(tmp_path, "untagged", tag=False)
    untyped = tiny_notebooks.write(tmp_path, "untyped")
    untyped.write_text(untyped.read_text().replace("seed: int = 0", "seed = 0"))
    for path, words in (
        (broken, "Cannot read the notebook"),
        (tmp_path / "absent.ipynb", "Cannot read the notebook"),
        (untagged, "no cell tagged 'parameters'"),
        (untyped, "type of the parameter 'seed' in untyped.ipynb"),
    ):
        with pytest.raises(UserError, match=words) as error:
            inspect(path)
        assert "\n" not in str(error.value)
