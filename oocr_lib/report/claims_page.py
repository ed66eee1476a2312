"""The claim table as JSON, as a Markdown table and as one web page; see ``oocr_lib.report.claims``.

    {"schema": 1, "counts": {"holds": k, ...}, "claims": [{"id": ..., "statement": ...,
     "source": ..., "paper_value": ..., "note": ..., "amended": [...], "withdrawn": "",
     "verdict": ..., "by_rule": ..., "checks": [{"notebook": ..., "metric": ..., "rule": ...,
     "value": x, "ci": [low, high], "n": runs, "verdict": ..., "missing": ...,
     "run": "model testbed, preset laptop, seed 0"}]}]}

``by_rule`` is the verdict of the rule, also for a withdrawn claim (with its reason). Value, ci and
n are null where nothing was measured; ci is null for a number without an interval.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from oocr_lib.report import page

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


def counts(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """How many claims have each verdict; zeros included, except for "withdrawn"."""
    words = [verdict.word for verdict in verdicts]
    return {word: words.count(word) for word in SIGNS if word != "withdrawn" or word in words}


def to_json(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The content of ``claims.json``."""
    claims = [
        {
            "id": verdict.claim.id,
            "statement": verdict.claim.statement,
            "source": verdict.claim.source,
            "paper_value": verdict.claim.paper_value,
            "note": verdict.claim.note,
            "amended": verdict.changes,
            "withdrawn": str(verdict.claim.withdrawn or ""),
            "verdict": verdict.word,
            "by_rule": verdict.by_rule,
            "checks": [_check_json(measured) for measured in verdict.measured],
        }
        for verdict in verdicts
    ]
    return {"schema": SCHEMA, "counts": counts(verdicts), "claims": claims}


def to_markdown(verdicts: Sequence[Verdict]) -> str:
    """A title, the counts, and one table: a row per claim, then one for each further check."""
    lines = ["# Claims", "", _markdown(_summary(verdicts)), "", _markdown(_ABOUT), ""]
    lines += [_line(COLUMNS), _line(["---"] * len(COLUMNS))]
    for verdict in verdicts:
        claim = verdict.claim
        note = f"<br>*{_markdown(verdict.remarks)}*" if verdict.remarks else ""
        head = [
            f"{_markdown(claim.statement)} (`{claim.id}`){note}",
            f"**{_markdown(_word(verdict))}**",
            _markdown(claim.source),
            _markdown(claim.paper_value),
        ]
        for measured in verdict.measured:
            texts = _shown(measured, several=len(verdict.measured) > 1)
            ours = f"{_markdown(texts['value'])}<br>`{texts['key']}`"
            rule = f"`{texts['rule']}` {_markdown(texts['own'])}".strip()
            lines.append(_line([*head, ours, texts["n"], rule]))
            head = [""] * len(head)
    runs = [f"- {_markdown(line)}" for line in _runs(verdicts)]
    return "\n".join([*lines, "", "## Runs", "", *runs]) + "\n"


def to_html(verdicts: Sequence[Verdict]) -> str:
    """One self-contained page; wide: a table, narrow: one card per claim."""
    claims = [
        {
            "id": verdict.claim.id,
            "statement": verdict.claim.statement,
            "remarks": verdict.remarks,
            "kind": verdict.word.replace(" ", "-"),
            "word": _word(verdict),
            "source": verdict.claim.source,
            "paper_value": verdict.claim.paper_value,
            "checks": [
                _shown(measured, len(verdict.measured) > 1) for measured in verdict.measured
            ],
        }
        for verdict in verdicts
    ]
    about = {"summary": _summary(verdicts), "about": _ABOUT, "runs": _runs(verdicts)}
    return page.render("claims.html", title="Claims", columns=COLUMNS, claims=claims, **about)


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


def _shown(measured: Measured, several: bool) -> dict[str, str]:
    """A check as texts, with its own verdict (``own``) if the claim has several."""
    check, i = measured.check, measured.interval
    texts = {
        "key": f"{check.notebook}: {check.metric}",
        "value": measured.missing,
        "n": "–",
        "rule": check.rule,
        "own": f"{SIGNS[measured.verdict]} {measured.verdict}" if several else "",
    }
    if i is None:
        return texts
    ends = "no interval" if measured.bare else f"{number(i.low)}, {number(i.high)}"
    return texts | {"value": f"{number(i.value)} [{ends}]", "n": str(i.n)}


def _word(verdict: Verdict) -> str:
    """The verdict in words; for a withdrawn claim also what its rule says."""
    by_rule = f"{SIGNS[verdict.by_rule]} {verdict.by_rule} at this scale"
    word = verdict.word
    return by_rule if word == verdict.by_rule else f"{SIGNS[word]} {word}; rule: {by_rule}"


def _summary(verdicts: Sequence[Verdict]) -> str:
    totals = [f"{count} {word}" for word, count in counts(verdicts).items() if count]
    return f"{len(verdicts)} claims: {', '.join(totals) or 'none'}, at this scale."


def _runs(verdicts: Sequence[Verdict]) -> list[str]:
    """What each notebook was run with, by name."""
    checks = [measured for verdict in verdicts for measured in verdict.measured]
    runs = {measured.check.notebook: measured.run or "not run" for measured in checks}
    return [f"{notebook}: {run}" for notebook, run in sorted(runs.items())]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    """``text`` escaped to be shown as it is, on one line, also inside a table."""
    return re.sub(r"([\\`*_\[\]<>|&~$#])", r"\\\1", " ".join(text.split()))
