"""One web page that shows a sweep's runs side by side: means, figures, numbers, parameters.

    <out>/<preset>/<notebook>/sweep.html

It needs nothing but itself and the pictures beside it: links are relative, the one script is its
own and only sorts the table of runs. All text is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from oocr_lib.runner import sweep_summary
from oocr_lib.runner.sweep_summary import in_order, metric_keys, plain, varied

FILE = "sweep.html"
#: Columns of numbers in the table of runs; more cannot be read side by side.
_MOST = 12
_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0 auto; max-width: 110rem; padding: 1rem; font: 100%/1.45 system-ui, sans-serif; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .3rem .7rem; text-align: left; vertical-align: top; }
td.number, td.mean { font-variant-numeric: tabular-nums; white-space: nowrap; }
td.number { text-align: right; }
thead th { border-bottom: 2px solid; vertical-align: bottom; }
tbody tr { border-bottom: 1px solid GrayText; }
button { font: inherit; font-weight: 600; text-align: left; cursor: pointer; }
[aria-sort=ascending] button::after { content: " ▲"; }
[aria-sort=descending] button::after { content: " ▼"; }
.grid {
  display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr));
}
figure { margin: 0; }
img { width: 100%; height: auto; background: white; }
a, code, figcaption { overflow-wrap: anywhere; }
"""
_SCRIPT = """
for (const button of document.querySelectorAll("th button")) button.onclick = () => {
  const head = button.closest("th"), body = head.closest("table").tBodies[0];
  const up = head.getAttribute("aria-sort") !== "ascending";
  const key = (row) => row.cells[head.cellIndex].dataset.key;
  const number = (text) => text !== "" && !isNaN(text);
  const order = (a, b) => number(a) && number(b) ? a - b : a.localeCompare(b);
  const rows = [...body.rows].sort((a, b) => order(key(a), key(b)));
  for (const one of head.parentNode.cells) one.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  body.append(...(up ? rows : rows.reverse()));
};
"""


def to_html(made: pd.DataFrame, folder: Path, claimed: Sequence[str]) -> str:
    """The page.

    Args:
        made: of ``sweep.table``.
        folder: of the notebook, where the page will be.
        claimed: ``family/method/measure`` of the metrics that claims use; others are in the tables.
    """
    notebook, runs = folder.name, _runs(made, folder)
    names = varied(made)
    title = f"{notebook}: {len(runs)} runs"
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = "default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'; "
    policy += f"script-src 'sha256-{digest}'"
    differ = f" They differ in {_text(', '.join(names))}." if names else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{_text(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{_text(title)}</h1>
<p>{len(runs)} runs side by side.{differ} Every number is in <a href="sweep.csv">sweep.csv</a>,
every mean in <a href="{sweep_summary.FILE}">{sweep_summary.FILE}</a>.</p>
{_means(made, claimed)}{_figures(runs)}{_table(made, runs, claimed)}{_same(made)}</main>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _runs(made: pd.DataFrame, folder: Path) -> dict[str, dict[str, Any]]:
    """By name of the run's folder: its values, title and place; the seeds of a setting in a row."""
    names = sorted(varied(made), key=lambda name: name == sweep_summary.SEED)
    once = made.drop_duplicates("folder")
    for name in reversed(names):
        place = {value: i for i, value in enumerate(in_order(plain(once[name])))}
        once = once.assign(_order=plain(once[name]).map(place)).sort_values("_order", kind="stable")
    found = {}
    for row in once.to_dict("records"):
        label = str(row["folder"])
        values = {name: row[name] for name in names}
        own = label == folder.name  # the run with the defaults
        found[label] = {
            "values": values,
            "title": ", ".join(f"{k} = {v}" for k, v in values.items()) or label,
            "path": folder if own else folder / label,
            "link": "." if own else f"./{quote(label)}",
            "notebook": quote(f"{folder.name}.ipynb"),
        }
    return found


def _means(made: pd.DataFrame, claimed: Sequence[str]) -> str:
    """The means over seeds of what the claims are about."""
    rows = sweep_summary.claims_only(sweep_summary.summary(made), claimed)
    names = [name for name in varied(made) if name != sweep_summary.SEED]
    lines = []
    for row, key in zip(rows.head(60).itertuples(), metric_keys(rows), strict=False):
        cells = [_cell(getattr(row, name)) for name in names]
        mean = f'<td class="mean">{_text(sweep_summary.interval(row))}</td>'
        cells += [_cell(key), mean, _cell(row.n)]
        lines.append(f"<tr>{''.join(cells)}</tr>\n")
    heads = "".join(_head(name) for name in (*names, "metric", "mean [95 % interval]", "n"))
    return _section("Means over seeds", _scroll("Means over seeds", heads, lines))


def _figures(runs: dict[str, dict[str, Any]]) -> str:
    """A row of pictures for each figure."""
    files = {path.name for run in runs.values() for path in run["path"].glob("*.png")}
    made = []
    for name in sorted(file for file in files if not file.startswith(".")):
        cells = "".join(_figure(run, name) for run in runs.values())
        made.append(_section(f"Figure {Path(name).stem}", f'<div class="grid">\n{cells}</div>\n'))
    return "".join(made)


def _figure(run: dict[str, Any], name: str) -> str:
    caption = f"<figcaption>{_link(run, run['title'])}</figcaption>"
    if not (run["path"] / name).is_file():
        return f"<figure><p>This run has no such figure.</p>{caption}</figure>\n"
    size, text = _picture(run["path"] / name)
    source = _text(f"{run['link']}/{quote(name)}")
    alt = _text(f"{run['title']}. {text}")
    picture = f'<img src="{source}" alt="{alt}" loading="lazy"{size}>'
    return f'<figure><a href="{source}">{picture}</a>{caption}</figure>\n'


def _picture(path: Path) -> tuple[str, str]:
    """Width and height as attributes, and what the picture says of itself (``plots.png``)."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            size = f' width="{image.width}" height="{image.height}"'
            return size, str(image.info.get("Description", path.stem))
    except OSError:  # no picture, whatever its name says
        return "", path.stem


def _table(made: pd.DataFrame, runs: dict[str, dict[str, Any]], claimed: Sequence[str]) -> str:
    """A row a run; its parameters, and the numbers that the claims are about."""
    rows = sweep_summary.claims_only(made, claimed)
    rows = rows.assign(key=metric_keys(rows))
    keys = list(dict.fromkeys(rows["key"]))[:_MOST]
    numbers = {(r.folder, r.key): r.value for r in rows.itertuples()}
    lines = []
    for label, run in runs.items():
        cells = [_cell(value) for value in run["values"].values()]
        cells += [_number(numbers.get((label, key))) for key in keys]
        links = f'{_link(run, "notebook")}, <a href="{_text(run["link"])}/">files</a>'
        lines.append(f'<tr>{"".join(cells)}<td data-key="{_text(label)}">{links}</td></tr>\n')
    values = next(iter(runs.values()))["values"]
    buttons = [f'<button type="button">{_text(n)}</button>' for n in (*values, *keys, "run")]
    heads = "".join(_head(button, raw=True) for button in buttons)
    hint = "<p>A column's name sorts by it.</p>\n"
    return _section("All runs", hint + _scroll("All runs", heads, lines))


def _same(made: pd.DataFrame) -> str:
    """Parameters that all runs share."""
    columns = list(made.columns)
    shared = [c for c in columns[columns.index("n") + 1 :] if c != "folder"]
    items = "".join(
        f"<li><code>{_text(c)} = {_text(made[c].iloc[0])}</code></li>\n" for c in shared
    )
    return _section("The same in all runs", f"<ul>\n{items}</ul>\n") if items else ""


def _link(run: dict[str, Any], text: str) -> str:
    return f'<a href="{_text(run["link"])}/{_text(run["notebook"])}">{_text(text)}</a>'


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{_text(title)}</h2>\n{content}</section>\n"


def _scroll(label: str, heads: str, rows: Sequence[str]) -> str:
    """A table in a box that scrolls by itself, with the keyboard, too."""
    table = f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{''.join(rows)}</tbody>\n</table>"
    box = f'class="scroll" role="region" aria-label="{_text(label)}" tabindex="0"'
    return f"<div {box}>\n{table}\n</div>\n"


def _head(content: Any, *, raw: bool = False) -> str:
    return f'<th scope="col">{content if raw else _text(content)}</th>'


def _cell(value: Any) -> str:
    return f'<td data-key="{_text(value)}">{_text(value)}</td>'


def _number(value: float | None) -> str:
    if value is None:
        return '<td class="number" data-key="">–</td>'
    return f'<td class="number" data-key="{value!r}">{value:z.3f}</td>'


def _text(value: Any) -> str:
    return html.escape(" ".join(str(value).split()))
