"""Numbers in prose follow the references; sentences that do not are reported, never rewritten."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from oocr_lib.report import prose
from oocr_lib.report.metrics import Metrics
from oocr_lib.report.prose import Numbers, corrected, render, unmarked
from oocr_lib.util.errors import UserError

BOOK = "03_locations"


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Numbers:
    found = Metrics(BOOK, {})
    found.add("all/vector_resid/mc5", 0.987, (0.961, 1.0), 15)
    found.add("all/base/mc5", 0.214, (0.121, 0.304), 15)
    found.add("name/base/shift", -0.123, (-0.16, -0.08), 12)
    found.add("map_km/vector_resid/end", 2245.4, (1392.3, 3225.5), 5)
    folder = tmp_path_factory.mktemp("references")
    (folder / BOOK).mkdir()
    found.write(folder / BOOK / "metrics.json")
    return Numbers(folder, {"vector-works": "holds", "lora-works": "does not hold"})


@pytest.mark.parametrize(
    ("value", "like", "shown"),
    [
        (0.987, "0.50", "0.99"),
        (0.987, ".5", "1.0"),
        (0.214, ".50", ".21"),
        (-0.123, "0.50", "-0.12"),
        (-0.123, "−0.50", "−0.12"),
        (0.123, "−0.50", "0.12"),
        (0.123, "+0.5", "+0.1"),
        (-0.001, "-0.50", "0.00"),
        (2245.4, "1,000", "2,245"),
        (2245.4, "1000", "2245"),
        (2.0, "3", "2"),
    ],
)
def test_a_number_is_written_as_the_one_before(value: float, like: str, shown: str) -> None:
    assert render(value, like) == shown


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.50<!-- m:{b} all/base/mc5 -->", "0.21<!-- m:{b} all/base/mc5 -->"),
        ("is .5<!-- m:{b} all/base/mc5 -->.", "is .2<!-- m:{b} all/base/mc5 -->."),
        ("0.5 [0, 0.111]<!-- m:{b} all/base/mc5 -->", "0.2 [0, 0.304]<!-- m:{b} all/base/mc5 -->"),
        ("(0.5<!-- m:{b} all/base/mc5 low -->)", "(0.1<!-- m:{b} all/base/mc5 low -->)"),
        ("9<!-- m:{b} all/base/mc5 n --> runs", "15<!-- m:{b} all/base/mc5 n --> runs"),
        (
            "1 [5, 7]<!-- m:{b} map_km/vector_resid/end --> km",
            "2245 [1392, 3226]<!-- m:{b} map_km/vector_resid/end --> km",
        ),
        (
            "−0.50 [0.10, −0.08]<!-- m:{b} name/base/shift -->",
            "−0.12 [-0.16, −0.08]<!-- m:{b} name/base/shift -->",
        ),
        (
            "- so: 0.2<!-- m:{b} all/base/mc5 -->: **holds** (rule `>= 0.9`)",
            "- so: 0.2<!-- m:{b} all/base/mc5 -->: **does not hold** (rule `>= 0.9`)",
        ),
    ],
)
def test_marked_numbers_and_verdicts_are_corrected(numbers: Numbers, old: str, new: str) -> None:
    old, new = old.format(b=BOOK), new.format(b=BOOK)
    text, problems = corrected(old, numbers)
    assert text == new and len(problems) == 1 and problems[0].startswith("line 1: ")
    assert corrected(new, numbers) == (new, [])


TABLE = f"""Before.

<!-- t:{BOOK} | all/{{}}/mc5 | all/{{}}/mc5 / all/base/mc5 | -->
| 1 method | value 2 | both | paper |
|---|---|---|---|
| vector_resid | 0.50 [0.10, 0.90] | 0.1 / 0.2 | 0.68 (layer 15) |
| the model<!-- k:base --> | 0.99 | – | 7 |

After | 0.5 |"""


def test_cells_of_a_marked_table_are_corrected_and_others_kept(numbers: Numbers) -> None:
    text, problems = corrected(TABLE, numbers)
    assert "| vector_resid | 0.99 [0.96, 1.00] | 1.0 / 0.2 | 0.68 (layer 15) |" in text
    assert "| the model<!-- k:base --> | 0.21 | – | 7 |" in text
    assert "| 1 method | value 2 |" in text and text.endswith("After | 0.5 |")
    assert [problem.split(":")[0] for problem in problems] == ["line 6", "line 7"]
    assert corrected(text, numbers) == (text, [])


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("| base | 0.2 | 0.2 / 0.2 |", "has 2 values. Its mark names 3"),
        ("| base | 0.2 | 0.2 | |", "Cell '0.2' of row 'base' is not"),
        ("| bose | 0.2 | – | |", "Did you mean 'all/base/mc5'?"),
    ],
)
def test_a_row_that_does_not_fit_its_mark_is_a_problem(
    numbers: Numbers, row: str, problem: str
) -> None:
    text = "\n".join([*TABLE.split("\n")[2:5], row])
    kept, found = corrected(text, numbers)
    assert kept == text and len(found) == 1 and problem in found[0]


@pytest.mark.parametrize(
    ("sentence", "problem"),
    [
        ("It works.<!-- v:vector-works holds -->", ""),
        ("It works.<!-- v:lora-works holds -->", "is 'does not hold', the sentence was written"),
        ("It works.<!-- v:vector-work holds -->", "Did you mean 'vector-works'?"),
        (f"At chance.<!-- r:{BOOK} all/base/mc5 contains 0.2 = holds -->", ""),
        (f"Above.<!-- r:{BOOK} all/base/mc5 > 0.2 = holds -->", "'> 0.2' undecided, the sentence"),
        (f"Above.<!-- r:{BOOK} all/base/mc5 above 0.2 = holds -->", "above 0.2"),
        (f"So 0.2 <!-- m:{BOOK} all/base/mc5 -->", "cannot read the mark <!-- m:"),
        (f"So **0.2**<!-- m:{BOOK} all/base/mc5 -->", "cannot read the mark <!-- m:"),
        (f"So 0.2<!-- m:{BOOK} all/base -->", "Unknown metric 'all/base'"),
        ("So 0.2<!-- m:04_functions all/base/mc5 -->", "Unknown notebook '04_functions'"),
        ("It works.<!-- v:vector-works -->", "cannot read the mark <!-- v:"),
    ],
)
def test_sentences_are_reported_and_never_rewritten(
    numbers: Numbers, sentence: str, problem: str
) -> None:
    text, found = corrected(f"Title\n{sentence}", numbers)
    assert text == f"Title\n{sentence}"
    assert len(found) == bool(problem)
    assert all(line.startswith("line 2: ") and problem in line for line in found)
    assert all("\n" not in line for line in found)


@given(st.text(alphabet="0123456789.,-−+[] ab|<!>", max_size=60))
def test_text_without_marks_is_left_alone(text: str) -> None:
    assert corrected(text, Numbers(Path("nowhere"))) == (text, [])


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("It reaches 0.62, or .5.", ["0.62", ".5"]),
        ("It reaches 0.62<!-- m:03_locations all/base/mc5 -->, or .5.", [".5"]),
        ("The rule is 0.9.<!-- fixed -->", []),
        ("Section 5.4, sections 3.2 and 5.4, §4.4, appendix A.4, `0.9`", []),
        ("[arXiv 2507.08218](https://arxiv.org/abs/2507.08218), 19 functions, version v1.2.3", []),
        ("| 0.5 |", []),
    ],
)
def test_decimal_numbers_without_a_mark(line: str, found: list[str]) -> None:
    lines = unmarked(f"One\n{line}")
    assert [text.split(" names")[0] for text in lines] == [f"line 2: {n}" for n in found]


def test_the_examples_of_the_docstring_can_be_read() -> None:
    text = prose.__doc__ or ""
    assert len(prose._MEASURED.findall(text)) == 1 and len(prose._TABLE.findall(text)) == 1
    assert len(prose._CLAIM.findall(text)) == 1 and len(prose._RULE.findall(text)) == 1
    assert prose._RULED.search(text) and prose._FIXED in text


def test_references_that_are_missing_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^Unknown notebook '03_locations'"):
        Numbers(tmp_path).interval(BOOK, "all/base/mc5")
