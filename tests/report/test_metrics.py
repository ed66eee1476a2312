"""metrics.json: keys, round trip, comparison with tolerances, the command line."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from oocr_lib.report import metrics, plots
from oocr_lib.report.metrics import Metrics, compare
from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import ROOT
from oocr_lib.util.statistics import Interval, bootstrap

REFERENCE = ROOT / "data" / "reference"
KEY = "country/vector_resid/mc5"


def example(value: float = 0.9, n: int = 12) -> Metrics:
    found = Metrics("03_locations", {"model": "testbed", "seed": 0})
    found.add(KEY, Interval(value, value - 0.1, value + 0.1, n))
    found.add("country/base/mc5", 0.2)
    return found


def test_the_file_has_the_documented_form(tmp_path: Path) -> None:
    found = example()
    found.claims = [{"statement": "s", "verdict": "holds"}]
    found.versions = {"torch": "2"}
    found.write(tmp_path / "metrics.json")
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content.pop("sha256") == metrics.content_hash(content)
    assert content == {
        "schema": 1,
        "notebook": "03_locations",
        "params": {"model": "testbed", "seed": 0},
        "metrics": {
            "country/base/mc5": {"value": 0.2, "ci": None, "n": 1},
            KEY: {"value": 0.9, "ci": [0.8, 1.0], "n": 12},
        },
        "claims": [{"statement": "s", "verdict": "holds"}],
        "versions": {"torch": "2"},
    }


def test_a_number_that_somebody_changed_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    example().write(path)
    before = path.read_text()
    for old, new in (("0.9", "0.8"), ('"n": 12', '"n": 13'), ("country/base", "language/base")):
        path.write_text(before.replace(old, new))
        assert path.read_text() != before
        with pytest.raises(UserError, match="was changed after it was written"):
            metrics.load(path)
    content = json.loads(before)
    path.write_text(json.dumps(content))  # another spelling of the same numbers
    assert metrics.load(path).values == example().values


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_round_trip_is_exact(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    path = tmp_path_factory.getbasetemp() / "round" / "metrics.json"
    written = Metrics("a", {"x": [1, None]})
    written.add(KEY, bootstrap(values, resamples=100))
    written.write(path)
    assert metrics.load(path) == written


def test_running_a_cell_again_replaces_its_numbers() -> None:
    found = Metrics("a", {})
    found.add(KEY, 0.5)
    found.add(KEY, 0.6, ci=(0.5, 0.7), n=4)
    assert found.to_json()["metrics"][KEY] == {"value": 0.6, "ci": [0.5, 0.7], "n": 4}


def test_figures_and_metrics_know_the_same_methods() -> None:
    assert set(metrics.METHODS) == set(plots.METHODS)


@pytest.mark.parametrize(
    ("key", "value", "kwargs", "words"),
    [
        ("country/mc5", 0.5, {}, "Bad metric key 'country/mc5'"),
        ("Country/base/mc5", 0.5, {}, "Bad metric key"),
        ("a/b/c/d", 0.5, {}, "Bad metric key"),
        ("/base/mc5", 0.5, {}, "Bad metric key"),
        ("all/vector_residual/mc5", 0.5, {}, "Did you mean 'vector_resid'"),
        (KEY, float("nan"), {}, "Only finite numbers"),
        (KEY, 0.5, {"ci": (0.4, float("inf"))}, "Only finite numbers"),
        (KEY, Interval(float("nan"), 0, 1, 3), {}, "Only finite numbers"),
        (KEY, 0.5, {"ci": (0.6, 0.7)}, "does not contain the value 0.5"),
        (KEY, 0.5, {"n": 0}, "n = 0"),
    ],
)
def test_bad_metrics_are_refused(key: str, value: float, kwargs: dict, words: str) -> None:
    found = Metrics("a", {})
    with pytest.raises(UserError, match=words) as error:
        found.add(key, value, **kwargs)
    assert "\n" not in str(error.value)
    assert not found.values


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "schema 'list'"),
        ('{"schema": 2}', "schema 2"),
        ('{"schema": 1, "notebook": "a"}', "not a complete metrics file"),
        ('{"schema": 1, "notebook": "a", "params": {}, "metrics": {"a/base/b": 1}}', "complete"),
        (
            '{"schema": 1, "notebook": "a", "params": {}, "metrics":'
            ' {"a/base/b": {"value": NaN, "ci": null, "n": 1}}}',
            "Only finite",
        ),
    ],
)
def test_damaged_files_are_refused_with_the_reason(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "metrics.json"
    if words != "not valid JSON" and isinstance(content := json.loads(text), dict):
        text = json.dumps(metrics.sealed(content))
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        metrics.load(path)


def test_a_file_without_a_hash_is_not_taken_for_one_that_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    example().write(path)
    content = json.loads(path.read_text())
    del content["sha256"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="not written by this library"):
        metrics.load(path)


def test_equal_runs_have_no_differences() -> None:
    assert compare(example(), example(), {}) == []


@pytest.mark.parametrize(
    ("tolerances", "agree"),
    [
        ({}, False),
        ({"*": {"abs": 0.06}}, True),
        ({"*": {"abs": 0.04}}, False),
        ({"*": {"rel": 0.06}}, True),
        ({"*": {"abs": 0.025, "rel": 0.03}}, True),
        ({"country/*": {"abs": 0.06}}, True),
        ({"*/vector_resid/*": {"abs": 0.0}, "*": {"abs": 1.0}}, False),  # the first match decides
        ({"name/*": {"abs": 1.0}}, False),
    ],
)
def test_tolerances(tolerances: dict, agree: bool) -> None:
    differences = compare(example(0.95), example(0.9), tolerances)
    assert (differences == []) is agree
    if differences:
        assert "0.95 measured, 0.9 in the reference" in differences[0]


def test_missing_extra_and_other_runs_are_differences() -> None:
    measured, reference = example(n=11), example(n=12)
    measured.add("language/base/mc5", 0.2)
    reference.add("name/base/top1", 0.0)
    reference.params = {"model": "testbed", "seed": 1}
    lines = "\n".join(compare(measured, reference, {"*": {"abs": 9}}))
    assert "language/base/mc5: extra" in lines
    assert "name/base/top1: missing" in lines
    assert "n = 11 measured, n = 12" in lines
    assert "params" in lines
    assert len(lines.splitlines()) == 4


@pytest.mark.parametrize(
    "content", ["[]", '{"*": 3}', '{"*": {"abs": -1}}', '{"*": {"abs": "a"}}', '{"*": {"abc": 1}}']
)
def test_bad_tolerances_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(UserError):
        metrics.load_tolerances(tmp_path / "t.json")


def test_shipped_tolerances_can_be_read() -> None:
    from oocr_lib.util.paths import data_dir

    assert metrics.load_tolerances(data_dir() / "reference" / "tolerances.json")


def folders(tmp_path: Path) -> tuple[Path, Path, list[str]]:
    measured, reference = tmp_path / "results" / "smoke", tmp_path / "reference" / "smoke"
    reference.mkdir(parents=True)
    (reference.parent / "tolerances.json").write_text('{"*": {"abs": 0.01}}')
    return measured, reference, ["--from", str(measured), "--to", str(reference)]


def test_every_committed_measure_has_a_tolerance() -> None:
    """Without one, another machine's last digit is a difference."""
    known = metrics.load_tolerances(REFERENCE / "tolerances.json")
    for path in sorted((REFERENCE / "smoke").glob("*/metrics.json")):
        for key in metrics.load(path).values:
            assert any(fnmatchcase(key, pattern) for pattern in known), f"{path.parent.name}: {key}"


def test_refresh_then_compare_then_a_change(tmp_path: Path, capsys) -> None:
    measured, reference, sides = folders(tmp_path)
    run = example()
    run.versions = {"torch": "2"}
    run.write(measured / "03_locations" / "metrics.json")
    assert metrics.main(["compare", *sides]) == 1  # no reference yet
    assert "there is no" in capsys.readouterr().out
    assert metrics.main(["refresh", *sides]) == 0
    stored = json.loads((reference / "03_locations" / "metrics.json").read_text())
    assert sorted(stored) == ["metrics", "notebook", "params", "schema", "sha256"]
    assert metrics.main(["compare", *sides]) == 0
    example(0.5).write(measured / "03_locations" / "metrics.json")
    capsys.readouterr()
    assert metrics.main(["compare", *sides]) == 1
    assert metrics.main(["refresh", *sides]) == 0
    assert capsys.readouterr().out.count("0.5 measured, 0.9 in the reference") == 2
    assert metrics.main(["compare", *sides]) == 0


def test_a_notebook_without_measured_metrics_is_a_difference(tmp_path: Path) -> None:
    measured, reference, _ = folders(tmp_path)
    example().write(reference / "03_locations" / "metrics.json")
    found = metrics.compare_folders(measured, reference, {}, ["03_locations", "09_new"])
    assert len(found["03_locations"]) == 1
    assert len(found["09_new"]) == 2


def test_nothing_to_compare_is_an_error(tmp_path: Path, capsys) -> None:
    _, _, sides = folders(tmp_path)
    for action in ("compare", "refresh"):
        assert metrics.main([action, *sides]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
