"""The claim table as a page: everything is there, everything is escaped, nothing is fetched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, strategies as st

from oocr_lib.report import claims, claims_page
from oocr_lib.report.claim_file import Amendment, Check, Claim
from oocr_lib.report.claims import Measured, Verdict
from oocr_lib.report.claims_page import COLUMNS, SIGNS, number, to_html, to_json, to_markdown
from oocr_lib.util.statistics import Interval

HOSTILE = "<script>alert('1')</script> & \"q\" | *a* _b_ `c` [d](http://e) \\ <!-- &lt; $x$ ~~s~~"
VOID = {"meta", "br"}
ROW_CELLS, FURTHER_CELLS = 7, 3  # a claim's first row; the rows of its further checks


def verdict(*words: str, name: str = "some-claim", **texts: str) -> Verdict:
    """A claim with one check a word; all that are not "not run" measured 0.5 [0.25, 0.75]."""
    shown = {"statement": "It is so.", "source": "section 3", "paper_value": "0.28"}
    made: dict[str, Any] = shown | texts
    checks = [Check("03_locations", f"m{i}/base/x", "> 0.2") for i in range(len(words))]
    measured = [
        Measured(check, word, None, missing="03_locations has not been run")
        if word == "not run"
        else Measured(check, word, Interval(0.5, 0.25, 0.75, 12), run="model testbed, seed 0")
        for check, word in zip(checks, words, strict=True)
    ]
    return Verdict(Claim(name, **made, checks=tuple(checks)), tuple(measured))


class Page(HTMLParser):
    """A strict reader: every tag is closed in order; text and attributes by element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.comments: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def text(self) -> str:
        return "".join(data for tag, data in self.texts if tag != "style")


def rows(markdown: str) -> list[list[str]]:
    """Cells of the table's rows below the heads, as a Markdown reader splits and unescapes them."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")][2:]
    cells = [re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1] for line in lines]
    return [[re.sub(r"\\(.)", r"\1", cell).strip() for cell in row] for row in cells]


@pytest.mark.parametrize("field", ["statement", "source", "paper_value", "note"])
def test_hostile_text_reads_as_it_stands(field: str) -> None:
    one = verdict("holds", **{field: HOSTILE})
    page = Page(to_html([one]))
    assert HOSTILE in page.text()
    assert page.comments == []
    plain = Page(to_html([verdict("holds", **{field: "text"})]))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    column = {"statement": 0, "note": 0, "source": 2, "paper_value": 3}[field]
    (row,) = rows(to_markdown([one]))
    assert HOSTILE in row[column]


def test_hostile_text_in_results_reads_as_it_stands() -> None:
    check = Check("03_locations", "m/base/x", "> 0")
    absent = Measured(check, "not run", None, missing=HOSTILE, run=HOSTILE)
    one = Verdict(verdict("holds").claim, (absent,))
    assert Page(to_html([one])).text().count(HOSTILE) == 2
    assert HOSTILE in rows(to_markdown([one]))[0][4]
    assert "<script" not in to_html([one]) + to_markdown([one]).replace("\\<", "")


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_keeps_the_table_in_shape(statement: str, note: str) -> None:
    found = [verdict("holds", "undecided", statement=statement, note=note), verdict("not run")]
    page = Page(to_html(found))
    assert shape(to_html(found)) == [[ROW_CELLS, FURTHER_CELLS], [ROW_CELLS]]
    for text in (statement, note):
        assert " ".join(text.split()) in " ".join(page.text().split())
    assert [len(row) for row in rows(to_markdown(found))] == [len(COLUMNS)] * 3


def shape(page: str) -> list[list[int]]:
    """Cells of each row, by claim."""
    found: list[list[int]] = []
    for tag, attributes in Page(page).tags:
        if tag == "tbody":
            found.append([])
        elif tag == "tr" and found:
            found[-1].append(0)
        elif tag in ("td", "th") and found:
            found[-1][-1] += 1
            if "rowspan" in attributes:
                assert found[-1] == [found[-1][0]]  # only the first row's cells span
    return found


def test_spanning_cells_reach_over_all_checks_of_a_claim() -> None:
    page = to_html([verdict("holds", "holds", "undecided"), verdict("holds", name="other")])
    assert shape(page) == [[ROW_CELLS, FURTHER_CELLS, FURTHER_CELLS], [ROW_CELLS]]
    spans = [a["rowspan"] for _, a in Page(page).tags if "rowspan" in a]
    assert spans == ["3"] * 4 + ["1"] * 4


def test_every_row_shows_statement_source_values_runs_rule_and_verdict() -> None:
    one = verdict("does not hold", source="Fig. 9", paper_value="about 1.0", note="One city.")
    (row,) = rows(to_markdown([one]))
    assert row == [
        "It is so. (`some-claim`)<br>*One city.*",
        "**✗ does not hold at this scale**",
        "Fig. 9",
        "about 1.0",
        "0.500 [0.250, 0.750]<br>`03_locations: m0/base/x`",
        "12",
        "`> 0.2`",
    ]
    text = Page(to_html([one])).text()
    shown = ["It is so.", "some-claim", "One city.", "Fig. 9", "about 1.0", "0.500 [0.250, 0.750]"]
    for part in [*shown, "03_locations: m0/base/x", "> 0.2", "✗ does not hold at this scale"]:
        assert part in text
    cells = [data for tag, data in Page(to_html([one])).texts if tag == "td"]
    assert "12" in cells


def test_each_of_several_checks_shows_its_own_verdict() -> None:
    several = verdict("holds", "does not hold", "not run")
    assert [row[6] for row in rows(to_markdown([several]))] == [
        "`> 0.2` ✓ holds",
        "`> 0.2` ✗ does not hold",
        "`> 0.2` – not run",
    ]
    assert [row[1] for row in rows(to_markdown([several]))] == [
        "**– not run at this scale**",
        "",
        "",
    ]
    for own in ("✓ holds", "✗ does not hold", "– not run"):
        assert own in Page(to_html([several])).text()


def test_a_number_without_an_interval_says_so() -> None:
    check = Check("05_backdoor", "fitted/vector_resid/triggers", "value >= 2")
    bare = Measured(check, "holds", Interval(2.0, 2.0, 2.0, 3), bare=True)
    one = Verdict(verdict("holds").claim, (bare,))
    assert rows(to_markdown([one]))[0][4].startswith("2.000 [no interval]")
    assert to_json([one])["claims"][0]["checks"][0]["ci"] is None


def test_what_was_not_run_has_no_number() -> None:
    (check,) = to_json([verdict("not run")])["claims"][0]["checks"]
    assert (check["value"], check["ci"], check["n"]) == (None, None, None)
    row = rows(to_markdown([verdict("not run")]))[0]
    assert row[4].startswith("03_locations has not been run")
    assert row[5] == "–"


def test_verdicts_are_told_apart_by_sign_word_and_border_not_by_colour_alone() -> None:
    assert set(SIGNS) == {*claims.WORDS, claims.WITHDRAWN}
    assert len(set(SIGNS.values())) == len(SIGNS)
    for word, sign in ((word, SIGNS[word]) for word in claims.WORDS):
        page = Page(to_html([verdict(word)]))
        (cell,) = [a for _, a in page.tags if str(a.get("class", "")).startswith("verdict")]
        assert cell["class"] == f"verdict {word.replace(' ', '-')}"
        assert f"{sign} {word} at this scale" in page.text()
    style = to_html([])
    rules = re.findall(r"\.(holds|does-not-hold|undecided) \{ (.*?) \}", style)
    assert len(rules) == 3
    assert all(set(re.findall(r"[\w-]+(?=:)", body)) <= {"border-left", "border-left-color"}
               for _, body in rules)  # fmt: skip


def test_the_page_runs_nothing_and_fetches_nothing() -> None:
    page = to_html([verdict("holds", note="See https://example.org.")])
    tags, names = zip(*[(tag, list(a)) for tag, a in Page(page).tags], strict=True)
    assert not set(tags) & {"script", "link", "img", "iframe", "object", "embed", "a", "base"}
    attributes = {name for found in names for name in found}
    assert not {n for n in attributes if n.startswith("on") or n in ("src", "href", "style")}
    assert not re.search(r"url\(|@import|expression\(", page)
    assert "default-src 'none'" in page


def test_narrow_screens_get_cards_whose_values_are_labelled() -> None:
    page = Page(to_html([verdict("holds", "holds")]))
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in (
        page.tags
    )
    labels = [a["data-label"] for tag, a in page.tags if tag == "td"]
    assert labels == [*COLUMNS[1:], *COLUMNS[4:]]
    style = "".join(data for tag, data in page.texts if tag == "style")
    narrow = style.split("@media (max-width: 60rem)")[1]
    assert "td::before { content: attr(data-label)" in narrow
    roles = {(tag, a.get("role")) for tag, a in page.tags}
    assert {("table", "table"), ("tr", "row"), ("td", "cell"), ("th", "rowheader")} <= roles


def counted(words: Sequence[str]) -> dict[str, int]:
    return claims_page.counts([verdict(word) for word in words])


def test_counts_include_zeros_and_the_summary_does_not() -> None:
    words = ["holds", "not run", "holds"]
    assert counted(words) == {"holds": 2, "does not hold": 0, "undecided": 0, "not run": 1}
    text = to_markdown([verdict(word) for word in words])
    assert "3 claims: 2 holds, 1 not run, at this scale." in text
    assert "0 claims: none, at this scale." in to_markdown([])


def test_the_runs_behind_the_numbers_are_listed() -> None:
    for text in (Page(to_html([verdict("holds")])).text(), to_markdown([verdict("holds")])):
        end = text.split("Runs")[-1].replace("\\", "")
        assert "03_locations: model testbed, seed 0" in end
    assert "03_locations: not run" in Page(to_html([verdict("not run")])).text()


@pytest.mark.parametrize(
    ("x", "shown"),
    [
        (0.7934, "0.793"),
        (1.0, "1.000"),
        (-0.0, "0.000"),
        (-0.121, "-0.121"),
        (0.0004, "4.0e-04"),
        (99.95, "99.950"),
        (2245.3, "2245"),
        (-6392.4, "-6392"),
    ],
)
def test_numbers_are_short_and_never_rounded_to_nothing(x: float, shown: str) -> None:
    assert number(x) == shown


def test_an_amendment_is_shown_with_what_was_said_before() -> None:
    change = Amendment("2026-11-26", "All tokens were meant.", "It did not say which tokens.")
    one = verdict("holds")
    one = replace(one, claim=replace(one.claim, note="A note.", amended=(change,)))
    said = "A note. Amended 2026-11-26: It did not say which tokens. Before: All tokens were meant."
    assert one.remarks == said
    assert said in claims_page.to_html([one])
    assert "Amended 2026" in claims_page.to_markdown([one])
    assert claims_page.to_json([one])["claims"][0]["amended"] == [str(change)]
