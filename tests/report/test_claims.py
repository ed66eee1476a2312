"""The claim table: what is read, how it is judged, what is written, and the shipped claims."""

from __future__ import annotations

import ast
import json
import math
import re
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from oocr_lib.report import claims, metrics
from oocr_lib.report.claim_file import Amendment, Check, Claim, Withdrawal, load
from oocr_lib.report.claims import Measured, Verdict, judge
from oocr_lib.report.metrics import Metrics
from oocr_lib.util import files as store
from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import ROOT, data_dir
from oocr_lib.util.statistics import Interval

BOOK, KEY = "03_locations", "all/vector_resid/mc5"
ONE = {
    "id": "first-claim",
    "statement": "A vector does it.",
    "source": "section 3",
    "paper_value": "0.28",
    "notebook": BOOK,
    "metric": KEY,
    "rule": ">= 0.9",
}
#: What a placeholder of an f-string may stand for in a metric's key.
FILLED = r"[\w.@+-]+"


def toml(*entries: dict[str, Any], schema: int = 1) -> str:
    """A claims file; inline tables inside a list are written as TOML writes them."""

    def value(x: Any) -> str:
        if isinstance(x, list):
            return f"[{', '.join(value(one) for one in x)}]"
        if isinstance(x, dict):
            return "{" + ", ".join(f"{k} = {value(v)}" for k, v in x.items()) + "}"
        return json.dumps(x)

    parts = ["[[claim]]\n" + "".join(f"{k} = {value(v)}\n" for k, v in e.items()) for e in entries]
    return f"schema = {schema}\n" + "\n".join(parts)


def written(tmp_path: Path, *entries: dict[str, Any]) -> Path:
    path = tmp_path / "claims.toml"
    text = toml(*entries).replace("NaN", "nan").replace("Infinity", "inf")
    path.write_text(text, encoding="utf-8")
    return path


def record(folder: Path, notebook: str = BOOK, **values: Interval | float) -> Path:
    """A metrics file with ``first``, ``second``, … as the metrics ``<name>/base/x``."""
    found = Metrics(notebook, {"model": "testbed", "preset": "laptop", "seed": 0})
    for name, value in values.items():
        found.add(f"{name}/base/x", value)
    path = folder / notebook / metrics.FILE
    found.write(path)
    return path


def claim(*checks: tuple[str, str]) -> Claim:
    """A claim of ``(name, rule)`` checks on what ``record`` wrote."""
    made = tuple(Check(BOOK, f"{name}/base/x", rule) for name, rule in checks)
    return Claim("some-claim", "It is so.", "section 3", "0.28", made)


def word(folder: Path, *checks: tuple[str, str]) -> str:
    return judge([claim(*checks)], folder)[0].word


# ---- Reading -------------------------------------------------------------------------------------


def test_a_claim_is_read_with_all_its_checks(tmp_path: Path) -> None:
    further = {"notebook": "04_functions", "metric": "definition/base/mc5", "rule": "contains 0.2"}
    second = {**ONE, "id": "second", "also": [further], "note": "One city."}
    assert load(written(tmp_path, ONE, second)) == [
        Claim(
            "first-claim", "A vector does it.", "section 3", "0.28", (Check(BOOK, KEY, ">= 0.9"),)
        ),
        Claim(
            "second",
            "A vector does it.",
            "section 3",
            "0.28",
            (
                Check(BOOK, KEY, ">= 0.9"),
                Check("04_functions", "definition/base/mc5", "contains 0.2"),
            ),
            "One city.",
        ),
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metrc": KEY}, "Unknown field 'metrc'. Did you mean 'metric'"),
        ({"statement": None}, "'statement' is None"),
        ({"statement": ""}, "'statement' is ''"),
        ({"source": "two\nlines"}, "one line of text"),
        ({"paper_value": 0.28}, "'paper_value' is 0.28"),
        ({"note": " "}, "'note' is ' '"),
        ({"id": "Not Kebab"}, "Bad id 'Not Kebab'"),
        ({"id": "no--double"}, "Bad id"),
        ({"notebook": "../03_locations"}, "Bad notebook '../03_locations'"),
        ({"metric": "all/mc5"}, "Bad metric key 'all/mc5'"),
        ({"metric": "all/vector_residual/mc5"}, "Did you mean 'vector_resid'"),
        ({"rule": "about 0.9"}, "Cannot read the rule 'about 0.9'"),
        ({"rule": ">= nan"}, "Cannot read the rule"),
        ({"also": "03_locations"}, "'also' is '03_locations'"),
        ({"also": ["03_locations"]}, "'also' holds '03_locations'"),
        ({"also": [{"notebook": BOOK, "metric": KEY}]}, "'rule' is None"),
        ({"also": [{"notebook": BOOK, "metric": KEY, "rul": "> 0"}]}, "Did you mean 'rule'"),
        ({"also": [{"notebook": BOOK, "metric": KEY, "rule": "near 0"}]}, "Cannot read the rule"),
        ({"also": [{"notebook": BOOK, "metric": KEY, "rule": ">= 0.9"}]}, "same rule twice"),
    ],
)
def test_a_bad_claim_is_one_line_that_names_it(tmp_path: Path, change: dict, words: str) -> None:
    entry = {"id": "second", **{k: v for k, v in ONE.items() if k != "id"}} | change
    name = str(entry["id"])
    path = written(tmp_path, ONE, {k: v for k, v in entry.items() if v is not None})
    with pytest.raises(UserError, match=re.escape(words)) as error:
        load(path)
    assert f"Claim {name!r} in claims.toml" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_id_cannot_be_used_twice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Claim 'first-claim' in claims\.toml: .* used twice"):
        load(written(tmp_path, ONE, {**ONE, "statement": "Another."}))


def test_a_claim_without_an_id_is_named_by_its_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Claim 2 in claims\.toml: Field 'id' is None"):
        load(written(tmp_path, ONE, {k: v for k, v in ONE.items() if k != "id"}))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"schema = ", "not valid TOML"),
        (b"schema = 1\n# \xff", "not valid TOML"),
        (b"schema = 1", "holds no claims"),
        (b"schema = 1\nclaim = []", "holds no claims"),
        (b"schema = 1\nclaim = [3]", "Claim 1 in claims.toml: 3 is no table"),
        (b"schema = 1\nclaims = 3", "Unknown entry in claims.toml: 'claims'"),
        (toml(ONE, schema=2).encode(), "schema 2"),
        (None, "Cannot read"),
    ],
)
def test_a_bad_file_of_claims_is_one_line(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "claims.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        load(path)
    assert "\n" not in str(error.value)


# ---- Judging -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "low", "value", "high", "expected"),
    [
        (">= 0.9", 0.9, 0.95, 1.0, "holds"),
        (">= 0.9", 0.8, 0.95, 1.0, "undecided"),
        (">= 0.9", 0.5, 0.6, 0.8, "does not hold"),
        ("> 0.2", 0.2, 0.3, 0.4, "undecided"),
        ("> 0.2", 0.21, 0.3, 0.4, "holds"),
        ("<= 0.2", 0.0, 0.1, 0.2, "holds"),
        ("<= 0.2", 0.3, 0.4, 0.5, "does not hold"),
        ("< 0.2", 0.0, 0.1, 0.2, "undecided"),
        ("value >= 0.8", 0.1, 0.8, 1.0, "holds"),
        ("value > 0.8", 0.1, 0.8, 1.0, "does not hold"),
        ("value <= 0.4", 0.1, 0.4, 1.0, "holds"),
        ("value < 0.4", 0.1, 0.4, 1.0, "does not hold"),
        ("contains 0.5", 0.4, 0.45, 0.5, "holds"),
        ("contains 0.5", 0.4, 0.45, 0.49, "does not hold"),
        ("excludes 0.5", 0.4, 0.45, 0.49, "holds"),
        ("excludes 0.5", 0.4, 0.45, 0.5, "does not hold"),
        ("within 0.05", -0.05, 0.0, 0.05, "holds"),
        ("within 0.05", -0.06, 0.0, 0.05, "undecided"),
        ("within 0.05", -0.2, -0.1, -0.06, "does not hold"),
        ("value <= -0.3", -0.5, -0.3, 0.1, "holds"),
    ],
)
def test_every_form_of_rule_decides(
    tmp_path: Path, rule: str, low: float, value: float, high: float, expected: str
) -> None:
    record(tmp_path, first=Interval(value, low, high, 5))
    assert word(tmp_path, ("first", rule)) == expected


@given(st.lists(st.sampled_from(claims.WORDS), min_size=1, max_size=6))
def test_the_worst_check_decides(words: list[str]) -> None:
    if "not run" in words:
        expected = "not run"
    elif "does not hold" in words:
        expected = "does not hold"
    else:
        expected = "undecided" if "undecided" in words else "holds"
    checks = tuple(Measured(Check(BOOK, KEY, "> 0"), one) for one in words)
    assert Verdict(claim(("first", "> 0")), checks).word == expected


def test_all_checks_of_a_claim_must_hold(tmp_path: Path) -> None:
    record(tmp_path, first=0.9, second=Interval(0.2, 0.1, 0.3, 3), third=0.1)
    assert word(tmp_path, ("first", "> 0.8"), ("second", "contains 0.2")) == "holds"
    assert word(tmp_path, ("first", "> 0.8"), ("second", "> 0.2")) == "undecided"
    assert (
        word(tmp_path, ("second", "> 0.2"), ("first", "> 0"), ("third", "> 1")) == "does not hold"
    )
    assert word(tmp_path, ("third", "> 1"), ("fourth", "> 0")) == "not run"


def test_what_was_measured_stands_beside_each_check(tmp_path: Path) -> None:
    number = Interval(0.5, 0.25, 0.75, 12)
    record(tmp_path, first=number, second=2.0)
    asked = claim(("first", "> 0"), ("second", "value >= 2"), ("third", "> 0"))
    run = "model testbed, preset laptop, seed 0"
    missing = "03_locations recorded no third/base/x"
    assert judge([asked], tmp_path)[0].measured == (
        Measured(asked.checks[0], "holds", number, bare=False, run=run),
        Measured(asked.checks[1], "holds", Interval(2.0, 2.0, 2.0, 1), bare=True, run=run),
        Measured(asked.checks[2], "not run", None, missing=missing, run=run),
    )


def test_a_notebook_without_numbers_gives_not_run_and_leaves_the_others_alone(
    tmp_path: Path,
) -> None:
    record(tmp_path, first=0.9)
    other = Claim("other", "s", "s", "p", (Check("09_stress_tests", "first/base/x", "> 0"),))
    absent, there = judge([other, claim(("first", "> 0"))], tmp_path)
    assert absent.word == "not run"
    assert absent.measured[0].missing == "09_stress_tests has not been run"
    assert there.word == "holds"


def edit(path: Path, key: str, entry: dict[str, Any] | None) -> None:
    """Change one metric in a metrics file, hash included; ``None`` deletes it."""
    content = json.loads(path.read_text())
    if entry is None:
        del content["metrics"][key]
    else:
        content["metrics"][key] = entry
    path.write_text(json.dumps(metrics.sealed(content)))


def test_a_number_changed_by_hand_flips_a_shipped_claim_and_deleting_it_unruns_it(
    tmp_path: Path,
) -> None:
    shutil.copytree(data_dir() / "reference" / "smoke" / BOOK, tmp_path / BOOK)
    path, asked = tmp_path / BOOK / metrics.FILE, load()

    def verdicts() -> dict[str, str]:
        return {one.claim.id: one.by_rule for one in judge(asked, tmp_path)}

    name = "vector-locations-mlp-output"
    edit(path, "all/vector_mlp_out/mc5", {"value": 0.78, "ci": [0.61, 0.91], "n": 15})
    before = verdicts()
    assert before[name] == "holds"
    edit(path, "all/vector_mlp_out/mc5", {"value": 0.3, "ci": [0.2, 0.4], "n": 15})
    assert verdicts() == before | {name: "does not hold"}
    edit(path, "all/vector_mlp_out/mc5", None)
    assert verdicts() == before | {name: "not run"}
    path.unlink()
    assert set(verdicts().values()) == {"not run"}


HEAD = '{"schema": 1, "notebook": "03_locations", "params": {}, "metrics": '


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff\xfe",
        b'{"schema": 2}',
        b'{"schema": 1, "notebook": "04_functions", "params": {}, "metrics": {}}',
        b'{"schema": 1, "notebook": "03_locations", "params": [], "metrics": {}}',
        (HEAD + '{"a/base/b": {"value": 1, "ci": null, "n": 0}}}').encode(),
        (HEAD + '{"a/base/b": {"value": 1, "ci": [1], "n": 1}}}').encode(),
        (HEAD + '{"a/base/b": {"value": 1' + "0" * 400 + ', "ci": null, "n": 1}}}').encode(),
        (HEAD + '{"a/vec/b": {"value": 1, "ci": null, "n": 1}}}').encode(),
        None,  # a folder in its place
    ],
)
def test_an_unreadable_metrics_file_is_one_line_that_names_it(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / BOOK / metrics.FILE
    path.parent.mkdir()
    if content is None:
        path.mkdir()
    else:
        with suppress(ValueError):  # so that it is not refused for its hash alone
            content = json.dumps(metrics.sealed(json.loads(content))).encode()
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        judge([claim(("first", "> 0"))], tmp_path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no folder"):
        judge([claim(("first", "> 0"))], tmp_path / "laptop")


# ---- Writing -------------------------------------------------------------------------------------


def test_the_table_is_written_in_three_forms_and_nothing_else_stays(tmp_path: Path) -> None:
    record(tmp_path, first=Interval(0.5, 0.25, 0.75, 12))
    verdicts = judge([claim(("first", "> 0"), ("second", "> 0"))], tmp_path)
    paths = claims.write(tmp_path / "table", verdicts)
    assert sorted((tmp_path / "table").iterdir()) == sorted(paths)
    assert {path.name for path in paths} == {"claims.json", "claims.md", "claims.html"}
    content = json.loads(paths[0].read_text(encoding="utf-8"))
    (entry,) = content["claims"]
    run = "model testbed, preset laptop, seed 0"
    assert (content["schema"], entry["id"], entry["verdict"]) == (1, "some-claim", "not run")
    assert entry["checks"][0] == {
        "notebook": BOOK, "metric": "first/base/x", "rule": "> 0", "value": 0.5,
        "ci": [0.25, 0.75], "n": 12, "verdict": "holds", "missing": "", "run": run,
    }  # fmt: skip
    for path in paths[1:]:
        assert "It is so." in path.read_text(encoding="utf-8")


def test_a_reader_of_the_old_table_keeps_it_whole(tmp_path: Path) -> None:
    record(tmp_path, first=0.5)
    paths = claims.write(tmp_path, judge([claim(("first", "> 0"))], tmp_path))
    old = [path.read_text(encoding="utf-8") for path in paths]
    handles = [path.open(encoding="utf-8") for path in paths]
    record(tmp_path, first=0.9)
    claims.write(tmp_path, judge([claim(("first", "> 1"))], tmp_path))
    for path, handle, text in zip(paths, handles, old, strict=True):
        with handle:
            assert handle.read() == text  # a file overwritten in place would show the new text
        assert path.read_text(encoding="utf-8") != text


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    record(tmp_path, first=0.5)
    verdicts = judge([claim(("first", "> 0"))], tmp_path)
    out = tmp_path / "out"
    (out / "claims.html").mkdir(parents=True)  # a folder cannot be replaced by a file
    (out / "claims.json").write_text("old")
    with pytest.raises(UserError, match="Cannot write to"):
        claims.write(out, verdicts)
    assert sorted(path.name for path in out.iterdir()) == ["claims.html", "claims.json"]
    assert (out / "claims.json").read_text() == "old"


# ---- Command line --------------------------------------------------------------------------------


def test_the_folder_of_one_notebook_is_refused(tmp_path: Path, capsys) -> None:
    file = written(tmp_path, {**ONE, "metric": "first/base/x"})
    other = record(tmp_path / "laptop", first=0.1).parent  # below it, runs with other parameters
    record(other, first=0.2).parent.rename(other / "seed=1")
    assert claims.main(["--results", str(other), "--claims", str(file)]) == 2
    assert "the runs of one notebook" in capsys.readouterr().err
    assert not (other / "claims.json").exists()


def test_the_command_succeeds_whatever_the_verdicts(tmp_path: Path, capsys) -> None:
    record(tmp_path, first=0.1)
    lower = {**ONE, "metric": "first/base/x"}
    file = written(tmp_path, lower, {**lower, "id": "second", "rule": "value <= 0.1"})
    arguments = ["--results", str(tmp_path), "--claims", str(file)]
    assert claims.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["does not hold  first-claim", "holds          second"]
    assert lines[2] == "1 holds; 1 does not hold; 0 undecided; 0 not run"
    assert (tmp_path / "claims.html").is_file()
    assert claims.main([*arguments, "--out", str(tmp_path / "else")]) == 0
    assert (tmp_path / "else" / "claims.md").is_file()


@pytest.mark.parametrize("what", ["no folder", "no numbers", "no claims", "damaged"])
def test_bad_input_is_two_and_one_line_and_writes_nothing(
    tmp_path: Path, capsys, what: str
) -> None:
    results = tmp_path / "laptop"
    file = written(tmp_path, {**ONE, "metric": "first/base/x"})
    if what != "no folder":
        results.mkdir()
    if what in ("no claims", "damaged"):
        path = record(results, first=0.1)
        if what == "damaged":
            path.write_text("{")
    if what == "no claims":
        file.unlink()
    assert claims.main(["--results", str(results), "--claims", str(file)]) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""
    assert not (results / "claims.json").exists()


def test_a_command_without_results_is_bad_input() -> None:
    with pytest.raises(SystemExit) as stopped:
        claims.main([])
    assert stopped.value.code == 2


# ---- The shipped claims --------------------------------------------------------------------------


def sources(notebook: str) -> list[ast.Module]:
    """The code cells of a committed notebook; none if there is no such notebook."""
    path = ROOT / "notebooks" / f"{notebook}.ipynb"
    cells = store.read_json(path)["cells"] if path.is_file() else []
    return [ast.parse("".join(c["source"])) for c in cells if c["cell_type"] == "code"]


def pattern(node: ast.AST) -> str:
    """A string of the source as a regular expression; what it is filled with can be any word."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            FILLED if isinstance(v, ast.FormattedValue) else pattern(v) for v in node.values
        )
    return r"(?!)"


def is_recorded(check: Check) -> bool:
    """Whether the committed notebook records the metric: one of its references says so.

    Preset smoke runs too few concepts for some. A notebook without a reference is read for strings
    that are keys.
    """
    folders = [data_dir() / "reference" / preset / check.notebook for preset in ("smoke", "laptop")]
    files = [folder / metrics.FILE for folder in folders if (folder / metrics.FILE).is_file()]
    if files:
        return any(check.metric in metrics.load(file).values for file in files)
    strings = [pattern(n) for cell in sources(check.notebook) for n in ast.walk(cell)]
    keys = [text for text in strings if text.count("/") == 2]
    return any(re.fullmatch(key, check.metric) for key in keys)


SHIPPED = load()
#: Checks of a withdrawn claim that keeps its last numbers: no notebook records them any more.
KEPT = {c for one in SHIPPED if one.withdrawn and one.withdrawn.last for c in one.checks}
CHECKS = sorted(
    {c for one in SHIPPED for c in one.checks} - KEPT, key=lambda c: (c.notebook, c.metric)
)


def test_the_shipped_table_covers_the_paper_and_its_readers() -> None:
    assert len(SHIPPED) >= 16
    sections = " ".join(one.source for one in SHIPPED)
    for source in ("Fig. 2", "Fig. 3", "Fig. 4", "Fig. 8a", "Fig. 8b", "Fig. 9", "section 4.4"):
        assert source in sections or source.replace("Fig.", "Figs") in sections, source
    for question in (1, 2, 3, 4, 6, 7, 8):
        assert f"reader question {question}" in sections
    assert {check.notebook[:2] for check in CHECKS} == {f"{n:02}" for n in range(10)}


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: f"{c.notebook}:{c.metric}")
def test_every_metric_of_a_shipped_claim_is_one_that_its_notebook_records(check: Check) -> None:
    assert is_recorded(check)


def test_a_metric_that_no_notebook_records_would_be_noticed() -> None:
    for notebook in sorted({check.notebook for check in CHECKS}):
        assert not is_recorded(Check(notebook, "all/naive/nothing", "> 0"))


@pytest.mark.parametrize("notebook", sorted({check.notebook for check in CHECKS}))
def test_a_notebook_reads_its_rules_and_has_none_of_its_own(notebook: str) -> None:
    text = "\n".join(ast.unparse(cell) for cell in sources(notebook))
    assert text.count("exp.check_claims()") == 1 and "exp.claim(" not in text


#: Rules of notebooks 00 to 05 that no claim cell had when the table was made.
LATER = (
    "lora-one-block-safety",
    "vector-risk-best-block",
    "all-block-lora-fails",
    "control-shuffled-at-chance",
    "control-patience-unmoved-best-block",
)


@pytest.mark.parametrize("name", LATER)
def test_a_rule_that_came_after_the_first_run_says_so(name: str) -> None:
    (one,) = (claim for claim in SHIPPED if claim.id == name)
    assert "Rule set after the first run" in one.note


def unannounced(judged: dict[str, Any], own: Claim) -> list[str]:
    """Rules of a claim as it was last judged that it has no more, and no amendment tells of."""
    now = {(check.notebook, check.metric, check.rule) for check in own.checks}
    told = {rule for change in own.amended for rule in change.rules}
    return [
        check["rule"]
        for check in judged["checks"]
        if (check["notebook"], check["metric"], check["rule"]) not in now
        and check["rule"] not in told
    ]


def test_no_rule_changes_without_an_amendment() -> None:
    """The committed table is the other copy of every rule."""
    text = (data_dir() / "reference" / "laptop" / "claims.json").read_text(encoding="utf-8")
    by_id = {claim.id: claim for claim in SHIPPED}
    for judged in json.loads(text)["claims"]:
        assert judged["id"] in by_id, "a claim is withdrawn, never deleted"
        assert not unannounced(judged, by_id[judged["id"]]), judged["id"]


def test_a_silent_change_of_a_rule_would_be_noticed() -> None:
    one = next(claim for claim in SHIPPED if not claim.amended)
    check = one.checks[0]
    judged = {"checks": [{"notebook": check.notebook, "metric": check.metric, "rule": "> -1"}]}
    assert unannounced(judged, one) == ["> -1"]
    told = Amendment("2026-11-29", "It was lower.", "Too low.", ("> -1",))
    assert not unannounced(judged, replace(one, amended=(told,)))


@pytest.mark.parametrize(
    ("amended", "words"),
    [
        ('"2026"', "'amended' is '2026'"),
        ("[3]", "'amended' holds 3"),
        ('[{ date = "26.11.", was = "a", reason = "b" }]', "Date '26.11.' cannot be read"),
        ('[{ date = "2026-19-39", was = "a", reason = "b" }]', "Date '2026-19-39' cannot be"),
        ('[{ date = "2026-11-26", was = "a", why = "b" }]', "Unknown field in 'amended'"),
        ('[{ date = "2026-11-26", was = "a" }]', "Field 'reason' is None"),
    ],
)
def test_an_amendment_needs_a_date_and_a_reason(tmp_path: Path, amended: str, words: str) -> None:
    file = tmp_path / "claims.toml"
    texts = ('id = "a"', 'statement = "It is."', 'source = "ours"', 'paper_value = "none"')
    check = ('notebook = "03_locations"', 'metric = "all/base/mc5"', 'rule = "> 0"')
    lines = ["schema = 1", "[[claim]]", *texts, *check, f"amended = {amended}"]
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load(file)
    assert words in str(caught.value)


def test_shipped_amendments_are_read() -> None:
    changed = [claim for claim in load() if claim.amended]
    assert changed and all(change.reason and change.was for c in changed for change in c.amended)


def test_a_withdrawn_claim_stays_and_says_what_its_rule_says(tmp_path: Path) -> None:
    own = claim(("first", "> 0"))
    gone = replace(own, withdrawn=Withdrawal("2026-11-26", "It asked at the wrong tokens."))
    measured = claims.Measured(own.checks[0], "holds", Interval(0.5, 0.25, 0.75, 12))
    kept, taken = (claims.Verdict(one, (measured,)) for one in (own, gone))
    assert (kept.word, kept.by_rule) == ("holds", "holds")
    assert (taken.word, taken.by_rule) == ("withdrawn", "holds")
    paths = claims.write(tmp_path, [kept, taken])
    content = json.loads(paths[0].read_text(encoding="utf-8"))
    first, second = content["claims"]
    assert content["counts"]["withdrawn"] == content["counts"]["holds"] == 1
    assert (first["withdrawn"], second["verdict"], second["by_rule"]) == ("", "withdrawn", "holds")
    for path in paths[1:]:
        text = path.read_text(encoding="utf-8")
        assert "⊘ withdrawn; rule: ✓ holds at this scale" in text
        assert "Withdrawn 2026-11-26: It asked at the wrong tokens." in text


def test_a_withdrawn_claim_keeps_the_numbers_that_no_notebook_makes_any_more(
    tmp_path: Path,
) -> None:
    number = {"value": 0.95, "low": 0.92, "high": 0.97, "n": 12}
    gone = {"date": "2026-11-28", "reason": "Asked wrongly."}
    file = written(tmp_path, ONE | {"withdrawn": gone | {"last": [number]}})
    record(tmp_path, other=0.2)
    (taken,) = judge(load(file), tmp_path)
    assert (taken.word, taken.by_rule) == ("withdrawn", "holds")
    assert taken.measured[0].interval == Interval(0.95, 0.92, 0.97, 12)
    assert "Its numbers are those of the last run" in taken.remarks
    made = Metrics(BOOK, {"model": "testbed", "preset": "laptop", "seed": 0})
    made.add(KEY, Interval(0.3, 0.2, 0.4, 12))
    made.write(tmp_path / BOOK / metrics.FILE)
    (taken,) = judge(load(file), tmp_path)
    assert taken.by_rule == "does not hold", "a number that is measured comes first"
    changes: list[dict[str, Any]] = [{"n": 2.5}, {"n": "many"}, {"low": 0.96}]
    changes += [{"value": math.nan}, {"high": math.inf}]
    bad = [[number | change] for change in changes]
    for wrong in ([{"value": 1.0}], [3], [number, number], *bad):
        with pytest.raises(UserError, match="'last'"):
            load(written(tmp_path, ONE | {"withdrawn": gone | {"last": wrong}}))


@pytest.mark.parametrize(
    ("withdrawn", "words"),
    [
        ('"2026"', "'withdrawn' holds '2026'"),
        ('{ date = "26.11.", reason = "b" }', "Date '26.11.' cannot be read"),
        ('{ date = "2026-11-26", was = "b" }', "Unknown field in 'withdrawn'"),
        ('{ date = "2026-11-26" }', "Field 'reason' is None"),
    ],
)
def test_a_withdrawal_needs_a_date_and_a_reason(tmp_path: Path, withdrawn: str, words: str) -> None:
    file = tmp_path / "claims.toml"
    texts = ('id = "a"', 'statement = "It is."', 'source = "ours"', 'paper_value = "none"')
    check = ('notebook = "03_locations"', 'metric = "all/base/mc5"', 'rule = "> 0"')
    lines = ["schema = 1", "[[claim]]", *texts, *check, f"withdrawn = {withdrawn}"]
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load(file)
    assert words in str(caught.value)


def test_an_amended_rule_leaves_its_verdict_readable(tmp_path: Path) -> None:
    text = toml({**ONE, "rule": "near 0.2 by 0.1"}).rstrip()
    change = 'date = "2026-11-26", was = "It said at chance.", reason = "Wide intervals passed."'
    file = tmp_path / "claims.toml"
    file.write_text(f'{text}\namended = [{{ {change}, rules = ["contains 0.2"] }}]\n', "utf-8")
    (own,) = load(file)
    measured = Measured(own.checks[0], "undecided", Interval(0.2, 0.0, 0.4, 12))
    (told,) = Verdict(own, (measured,)).changes
    assert told.endswith("Before: It said at chance. By the rules then: holds.")
    absent = Measured(own.checks[0], "not run", missing="not run")
    assert Verdict(own, (absent,)).earlier(own.amended[0]) == "not run"
    file.write_text(f'{text}\namended = [{{ {change}, rules = ["> 0", "> 0"] }}]\n', "utf-8")
    with pytest.raises(UserError, match="one rule for each of the 1 checks"):
        load(file)
    file.write_text(f'{text}\namended = [{{ {change}, rules = ["about 0"] }}]\n', "utf-8")
    with pytest.raises(UserError, match="Cannot read the rule 'about 0'"):
        load(file)
