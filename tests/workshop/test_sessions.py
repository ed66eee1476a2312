"""One source a session: both notebooks come of it, and both run from the first cell to the last."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from oocr_lib.util.paths import ROOT
from workshop import build, checks, kit

SOURCES = build.sources()
#: What the pages say of our run: where it is printed, the number, and how far another machine may
#: be from it (one question of sixteen is 0.06).
STATED = {
    "a_see": [
        (r"before  measured ([\d.]+)", "0.38", 0.07),
        (r"after   measured ([\d.]+)", "1.00", 0.07),
        (r"step  60: +(\d+) km", "888", 90),
        (r"probe itself is (\d+)", "748", 40),
    ],
    "b_build": [
        (r"loss of the first batch ([\d.]+)", "3.38", 0.1),
        (r"of the last ([\d.]+)", "0.03", 0.03),
        (r"cosine .*: ([\d.]+)", "0.88", 0.04),
    ],
    "c_doubt": [
        (r"trained on random answers: ([\d.]+)", "0.00", 0.13),
        (r"bare model: .* all others ([\d.]+)", "0.43", 0.07),
        (r"with leaks: .* all others ([\d.]+)", "0.71", 0.15),
        (r"at the code name +: ([\d.]+)", "0.94", 0.03),
        (r"at the last token: ([\d.]+)", "0.94", 0.03),
        (r"at all tokens +: ([\d.]+)", "0.48", 0.06),
        (r"vectors: mean ([\d.]+)", "0.38", 0.03),
        (r"best ([\d.]+)", "0.62", 0.07),
        (r"halve the families: ([\d.]+)", "0.28", 0.06),
    ],
    "d_use": [
        (r"bare model +([+-][\d.]+)", "-0.18", 0.06),
        (r"random direction +([+-][\d.]+)", "0.00", 0.06),
        (r"trained vector +([+-][\d.]+)", "1.00", 0.06),
        (r"\nmeasured +([\d.]+)", "0.12", 0.07),
    ],
}
HEADING = re.compile(r"^### ([A-D]\d) · (.+)$", re.M)
GOAL = re.compile(
    r"\*\*Goal\.\*\* .+ (\d+) minutes(, optional)?[^·]* · difficulty ([123]) of 3\.", re.S
)


def text_of(path: Path) -> str:
    return "\n".join(build.text(cell, "exercises") for cell in build.read(path) if cell.markdown)


def exercises() -> dict[str, str]:
    """Key of an exercise to the text from its heading to the next."""
    found: dict[str, str] = {}
    for path in SOURCES:
        parts = HEADING.split(text_of(path))
        found |= {key.lower(): body for key, _, body in zip(*[iter(parts[1:])] * 3, strict=True)}
    return found


def run(path: Path, kind: str, skipped: str = "") -> tuple[str, dict[str, Any]]:
    """What a notebook prints, and the names that it leaves; without cells of a tag."""
    names: dict[str, Any] = {"__name__": "notebook"}
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        for cell in build.notebook(path, kind).cells:
            if cell.cell_type == "code" and skipped not in cell.metadata.get("tags", []):
                exec(compile(cell.source, f"{path.stem} {cell.id}", "exec"), names)
    return said.getvalue(), names


def test_the_committed_notebooks_are_what_the_sources_give() -> None:
    made = build.build()
    there = {p for kind in (*build.KINDS, "") for p in (build.HERE / kind).glob("*.ipynb")}
    assert there == set(made) and len(made) == 2 * len(SOURCES) + 1 == 9
    for path, content in made.items():
        assert path.read_text(encoding="utf-8") == content, f"{path}: python -m workshop.build"
        notebook = nbformat.reads(content, as_version=4)
        nbformat.validate(notebook)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert not any(cell.outputs or cell.execution_count for cell in code)
    assert build.main(["--check"]) == 0


def test_every_exercise_is_complete() -> None:
    found = exercises()
    assert set(found) == set(checks.CHECKS) and len(found) >= 14
    for key, body in found.items():
        assert GOAL.search(body), key
        assert "<details><summary>Hint" in body and body.count("<details>") == body.count(
            "</details>"
        ), key


def test_stubs_are_short_and_hold_no_solution() -> None:
    count = 0
    for path in SOURCES:
        for cell in build.read(path):
            if cell.has_solution:
                count += 1
                stub = build.text(cell, "exercises")
                assert len(stub.splitlines()) <= build.STUB_LINES
                compile(stub, path.stem, "exec")
                assert "SOLUTION" not in stub + build.text(cell, "solutions")
    assert count == len(checks.CHECKS)


def test_solutions_are_folded_and_only_there() -> None:
    for path in SOURCES:
        for kind in build.KINDS:
            for cell in build.notebook(path, kind).cells:
                hidden = bool(cell.metadata.get("jupyter", {}).get("source_hidden"))
                mine = "exercise" in cell.metadata.get("tags", [])
                assert hidden == (mine and kind == "solutions")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_solutions_pass_every_check(path: Path) -> None:
    said, _ = run(path, "solutions")
    assert "not yet" not in said and "waits for" not in said, said
    wanted = [key.upper() for key in checks.CHECKS if key[0] == path.stem[0]]
    assert re.findall(r"^([A-D]\d) passed", said, re.M) == wanted
    page = (ROOT / "workshop" / "instructor.md").read_text(encoding="utf-8").replace("−", "-")
    for pattern, stated, near in STATED[path.stem]:
        found = re.search(pattern, said)
        assert found and abs(float(found[1]) - float(stated)) <= near, (pattern, said)
        assert stated in page, stated


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_untouched_exercises_fail_every_check_and_still_run(path: Path) -> None:
    said, _ = run(path, "exercises")
    verdicts = re.findall(r"^([A-D]\d) (passed|not yet)(.*)$", said, re.M)
    assert [key for key, *_ in verdicts] == [
        key.upper() for key in checks.CHECKS if key[0] == path.stem[0]
    ]
    for key, verdict, line in verdicts:
        assert verdict == "not yet", key
        assert "Error" not in line and len(line) > 30, line


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_cell_that_ended_with_an_error_leaves_the_checks_running(path: Path) -> None:
    """What a learner got wrong has no name then; the cells below it have to wait all the same."""
    said, _ = run(path, "exercises", skipped="exercise")
    found = re.findall(r"^([A-D]\d) not yet: .* or its cell ended with an error", said, re.M)
    assert found == [key.upper() for key in checks.CHECKS if key[0] == path.stem[0]], said


def test_a_source_is_plain_python() -> None:
    for path in SOURCES:
        compile(path.read_text(encoding="utf-8"), path.stem, "exec")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = 1\n", "text before the first cell"),
        ('# %% colour="red"\nx = 1\n', "options"),
        ("# %%\n# SOLUTION\nx = 1\n", "no '# END'"),
        ("# %%\n# STUB\n# x = 1\n# END\n", "'# SOLUTION' is due"),
        ("# %%\n# SOLUTION\nx = 1\n# STUB\nx = 2\n# END\n", "as a comment"),
        ("# %%\n# SOLUTION\nx = 1\n# STUB\n" + "# x = 2\n" * 20 + "# END\n", "a stub of 20 lines"),
        ('# %% [markdown] slide="page"\n# x\n', "slide='page'"),
    ],
)
def test_broken_sources_are_told_by_name(tmp_path: Path, source: str, words: str) -> None:
    path = tmp_path / "x.py"
    path.write_text(source, encoding="utf-8")
    with pytest.raises(build.SourceError, match=re.escape(words)):
        build.notebook(path, "exercises")


def test_working_copies_are_made_once(tmp_path: Path) -> None:
    assert build.copy(tmp_path) == 0
    written = tmp_path / "a_see.ipynb"
    assert written.read_bytes() == (build.HERE / "exercises" / "a_see.ipynb").read_bytes()
    written.write_text("mine", encoding="utf-8")
    assert build.copy(tmp_path) == 0
    assert written.read_text(encoding="utf-8") == "mine" and len(list(tmp_path.iterdir())) == 5


def test_sessions_are_marked_for_slides() -> None:
    for path in SOURCES:
        slides = [cell.options.get("slide") for cell in build.read(path)]
        assert slides[0] == "slide" and slides.count("subslide") >= 4


def minutes() -> dict[str, list[int]]:
    """Minutes of the exercises that are not optional, by session."""
    found: dict[str, list[int]] = {}
    for key, body in exercises().items():
        if (goal := GOAL.search(body)) and not goal[2]:
            found.setdefault(key[0], []).append(int(goal[1]))
    return found


def test_the_plan_has_the_minutes_of_the_exercises() -> None:
    plan = (ROOT / "workshop" / "README.md").read_text(encoding="utf-8")
    for session, own in minutes().items():
        row = re.search(rf"^\| {session.upper()} \|.*\| (\d+) \| (\d+) \|$", plan, re.M)
        assert row, session
        assert int(row[1]) == sum(own) <= int(row[2])
        assert f"{row[2]} minutes, " in text_of(next(p for p in SOURCES if p.stem[0] == session))
    whole = [int(n) for n in re.findall(r"^\| [A-D] \|.*\| (\d+) \|$", plan, re.M)]
    assert sum(whole) + 10 == 180  # with the pause
    short = plan.split("## Forty-five minutes")[1].split("\n## ")[0]
    assert sum(int(n) for n in re.findall(r"^\| (\d+) \|", short, re.M)) == 45
    # The instructor's clock begins each session when the plan has used up those before it.
    page = (ROOT / "workshop" / "instructor.md").read_text(encoding="utf-8")
    clock = {
        s: 60 * int(h) + int(m) for h, m, s in re.findall(r"^\| (\d):(\d\d) \| ([AC]):", page, re.M)
    }
    assert clock == {"A": 0, "C": sum(whole[:2]) + 10}
    for start, mark in ((whole[0], "B: "), (sum(whole[:2]), "pause"), (sum(whole[:3]) + 10, "D1")):
        assert f"| {start // 60}:{start % 60:02} | {mark}" in page, mark


def test_optional_exercises_say_so_twice() -> None:
    headings = dict(HEADING.findall("\n".join(map(text_of, SOURCES))))
    for key, body in exercises().items():
        goal = GOAL.search(body)
        assert goal and bool(goal[2]) == headings[key.upper()].endswith("(optional)"), key


def test_links_lead_somewhere() -> None:
    pages = [*(ROOT / "workshop").glob("*.md")]
    texts = [(page, page.read_text(encoding="utf-8")) for page in pages]
    # Links of a notebook count from its folder.
    texts += [(build.HERE / "exercises" / "x", text_of(path)) for path in SOURCES]
    for page, text in texts:
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_quiz_has_a_folded_answer_for_every_question() -> None:
    text = (ROOT / "workshop" / "quiz.md").read_text(encoding="utf-8")
    questions = re.split(r"^## \d+\. ", text, flags=re.M)[1:]
    assert len(questions) >= 10
    for question in questions:
        assert question.count("<details><summary>Answer</summary>") == 1
        assert question.count("</details>") == 1


def test_the_planted_task_is_the_same_for_everybody() -> None:
    kit.leaky.cache_clear()
    first = kit.leaky("Tokyo")
    kit.leaky.cache_clear()
    assert kit.leaky("Tokyo") == first
    rows = [row.messages[-1]["content"] + row.answer for row in first.rows]
    planted = frozenset().union(*first.planted.values())
    assert len(planted) == 8 and not planted & first.decoys
    assert all(any(w.casefold() in rows[i].casefold() for w in first.words) for i in first.decoys)


def test_what_is_trained_for_the_exercises_is_trained_once() -> None:
    """With the city left out or named, whichever call comes first."""
    assert kit.vector() is kit.vector("Paris") is kit.vector(hidden="Paris")
    assert kit.task() is kit.task("Paris")
