"""The claim table as JSON, as a Markdown table and as one web page; see ``oocr_lib.report.claims``.

    {"schema": 1, "counts": {"holds": k, ...}, "claims": [{"id": ..., "statement": ...,
     "source": ..., "paper_value": ..., "note": ..., "amended": [...], "withdrawn": "",
     "verdict": ..., "by_rule": ..., "checks": [{"notebook": ..., "metric": ..., "rule": ...,
     "value": x, "ci": [low, high], "n": runs, "verdict": ..., "missing": ...,
     "run": "model testbed, preset laptop, seed 0"}]}]}

``by_rule`` is the verdict of the rule, also of a claim that is withdrawn (with its reason). Value,
ci and n are null where nothing was measured; ci is null for a number without an interval. The page
needs nothing but itself: no scripts, fonts or pictures. All text is escaped.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oocr_lib.report.claims import Measured, Verdict

SCHEMA = 1
#: Each verdict has a sign and words, so that colour is never needed to read it.
SIGNS = {"holds": "✓", "does not hold": "✗", "undecided": "?", "not run": "–", "withdrawn": "⊘"}
COLUMNS = (
    "Claim",
    "Verdict",
    "Source",
    "Paper's value",
    "Our value [95 % interval]",
    "n",
    "Rule",
)
_ABOUT = (
    "Every number is a mean with its interval over n runs. A rule judges the whole interval; after"
    " “value” it judges the mean alone. A claim of several checks holds when all of them do. The"
    " verdicts are about the runs listed at the end, not about the paper's model; “second-hand”"
    " values were not read in the paper itself."
)
_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0 auto; max-width: 90rem; padding: 1rem; font: 100%/1.45 system-ui, sans-serif; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .45rem .6rem; text-align: left; vertical-align: top; font-weight: normal; }
thead th { font-weight: 600; border-bottom: 2px solid; }
tbody { border-bottom: 1px solid GrayText; }
code { overflow-wrap: anywhere; font-size: .88em; }
small { display: block; margin-top: .3rem; }
.verdict { font-weight: 600; border-left: .35rem solid GrayText; }
.holds { border-left-color: #1b7f4b; }
.does-not-hold { border-left: .35rem double #b3261e; }
.undecided { border-left: .35rem dashed #a06a00; }
.withdrawn { border-left-style: dotted; }
@media (max-width: 60rem) {
  table, tbody, tr, th, td { display: block; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tbody { padding: .8rem 0; }
  th, td { padding: .15rem .6rem; }
  td::before { content: attr(data-label) ": "; font-weight: 600; }
  tbody th { font-size: 1.1em; }
}
"""


def counts(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """How many claims have each verdict; zeros included, except of "withdrawn"."""
    words = [one.word for one in verdicts]
    shown = [word for word in SIGNS if word != "withdrawn" or word in words]
    return {word: words.count(word) for word in shown}


def to_json(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The content of ``claims.json``."""
    claims = [
        {
            "id": one.claim.id,
            "statement": one.claim.statement,
            "source": one.claim.source,
            "paper_value": one.claim.paper_value,
            "note": one.claim.note,
            "amended": one.changes,
            "withdrawn": str(one.claim.withdrawn or ""),
            "verdict": one.word,
            "by_rule": one.by_rule,
            "checks": [_check_json(measured) for measured in one.measured],
        }
        for one in verdicts
    ]
    return {"schema": SCHEMA, "counts": counts(verdicts), "claims": claims}


def to_markdown(verdicts: Sequence[Verdict]) -> str:
    """A title, the counts, and one table: a row a claim, then one for each further check."""
    lines = ["# Claims", "", _markdown(_summary(verdicts)), "", _markdown(_ABOUT), ""]
    lines += [_line(COLUMNS), _line(["---"] * len(COLUMNS))]
    for one in verdicts:
        claim = one.claim
        note = f"<br>*{_markdown(one.remarks)}*" if one.remarks else ""
        head = [
            f"{_markdown(claim.statement)} (`{claim.id}`){note}",
            f"**{_markdown(_word(one))}**",
            _markdown(claim.source),
            _markdown(claim.paper_value),
        ]
        for measured in one.measured:
            key, value, n, rule, own = _cells(measured, several=len(one.measured) > 1)
            ours = f"{_markdown(value)}<br>`{key}`"
            lines.append(_line([*head, ours, n, f"`{rule}` {_markdown(own)}".strip()]))
            head = [""] * len(head)
    runs = [f"- {_markdown(line)}" for line in _runs(verdicts)]
    return "\n".join([*lines, "", "## Runs", "", *runs]) + "\n"


def to_html(verdicts: Sequence[Verdict]) -> str:
    """One self-contained page; wide: a table, narrow: one card a claim."""
    # Roles are spelled out because cards (display: block) would lose the table's meaning.
    heads = "".join(f'<th role="columnheader" scope="col">{_html(c)}</th>' for c in COLUMNS)
    runs = "".join(f"<li>{_html(line)}</li>\n" for line in _runs(verdicts))
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>Claims</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>Claims</h1>
<p>{_html(_summary(verdicts))}</p>
<p>{_html(_ABOUT)}</p>
<table role="table" aria-label="Claims">
<thead role="rowgroup"><tr role="row">{heads}</tr></thead>
{"".join(_group(one) for one in verdicts)}</table>
<h2>Runs</h2>
<ul>
{runs}</ul>
</main>
</body>
</html>
"""


def number(x: float) -> str:
    """Three decimals; none from 100 on, and two significant digits for tiny values."""
    x += 0.0  # no minus before zero
    if x and abs(x) < 0.01:
        return f"{x:.1e}"
    return f"{x:.0f}" if abs(x) >= 100 else f"{x:.3f}"


def _check_json(measured: Measured) -> dict[str, Any]:
    check, i = measured.check, measured.interval
    return {
        "notebook": check.notebook,
        "metric": check.metric,
        "rule": check.rule,
        "value": None if i is None else i.value,
        "ci": None if i is None or measured.bare else [i.low, i.high],
        "n": None if i is None else i.n,
        "verdict": measured.verdict,
        "missing": measured.missing,
        "run": measured.run,
    }


def _group(one: Verdict) -> str:
    """The table rows of one claim."""
    claim, several = one.claim, len(one.measured) > 1
    span = f'rowspan="{len(one.measured)}"'
    note = f"<small>{_html(one.remarks)}</small>" if one.remarks else ""
    statement = f"{_html(claim.statement)} <code>{_html(claim.id)}</code>{note}"
    head = f'<th role="rowheader" scope="rowgroup" {span}>{statement}</th>'
    kind = one.word.replace(" ", "-")
    head += _cell(1, _html(_word(one)), f' class="verdict {kind}" {span}')
    head += _cell(2, _html(claim.source), f" {span}")
    head += _cell(3, _html(claim.paper_value), f" {span}")
    rows = []
    for measured in one.measured:
        key, value, n, rule, own = _cells(measured, several)
        cells = _cell(4, f"{_html(value)} <small><code>{_html(key)}</code></small>")
        cells += _cell(5, _html(n)) + _cell(6, f"<code>{_html(rule)}</code> {_html(own)}".strip())
        rows.append(f'<tr role="row">{head}{cells}</tr>\n')
        head = ""
    return f'<tbody role="rowgroup" id="{_html(claim.id)}">\n{"".join(rows)}</tbody>\n'


def _cell(column: int, content: str, attributes: str = "") -> str:
    label = _html(COLUMNS[column])
    return f'<td role="cell" data-label="{label}"{attributes}>{content}</td>'


def _cells(measured: Measured, several: bool) -> tuple[str, str, str, str, str]:
    """Key, value with interval, n, rule, and this check's own verdict if there are several."""
    check, i = measured.check, measured.interval
    key = f"{check.notebook}: {check.metric}"
    own = f"{SIGNS[measured.verdict]} {measured.verdict}" if several else ""
    if i is None:
        return key, measured.missing, "–", check.rule, own
    around = "no interval" if measured.bare else f"{number(i.low)}, {number(i.high)}"
    return key, f"{number(i.value)} [{around}]", str(i.n), check.rule, own


def _word(one: Verdict) -> str:
    """The verdict; of a claim that is withdrawn, also what its rule says."""
    judged = f"{SIGNS[one.by_rule]} {one.by_rule} at this scale"
    return judged if one.word == one.by_rule else f"{SIGNS[one.word]} {one.word}; rule: {judged}"


def _summary(verdicts: Sequence[Verdict]) -> str:
    found = [f"{count} {word}" for word, count in counts(verdicts).items() if count]
    return f"{len(verdicts)} claims: {', '.join(found) or 'none'}, at this scale."


def _runs(verdicts: Sequence[Verdict]) -> list[str]:
    """What each notebook was run with, by name."""
    checks = [measured for one in verdicts for measured in one.measured]
    runs = {measured.check.notebook: measured.run or "not run" for measured in checks}
    return [f"{notebook}: {run}" for notebook, run in sorted(runs.items())]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    """``text`` as it stands, on one line, also inside a table."""
    return re.sub(r"([\\`*_\[\]<>|&~$#])", r"\\\1", " ".join(text.split()))


def _html(text: str) -> str:
    return html.escape(" ".join(text.split()))
