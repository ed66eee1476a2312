"""One web page that shows a sweep's runs side by side: means, figures, numbers, parameters.

    <out>/<preset>/<notebook>/sweep.html

It needs only the pictures beside it: links are relative, and its one script, in the page itself,
only sorts the table of runs. All text is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from oocr_lib.report import page
from oocr_lib.runner import sweep_summary
from oocr_lib.runner.sweep_summary import in_order, metric_keys, plain, varied

FILE = "sweep.html"
#: Columns of numbers in the table of runs; more cannot be read side by side.
_MOST = 12


def to_html(made: pd.DataFrame, folder: Path, claimed: Sequence[str]) -> str:
    """The page as HTML.

    Args:
        made: from ``sweep.table``.
        folder: the notebook's, where the page will be.
        claimed: ``family/method/measure`` of the metrics that claims use; others are in the tables.
    """
    names, runs = varied(made), _runs(made, folder)
    return page.render(
        "sweep.html",
        title=f"{folder.name}: {len(runs)} runs",
        script=page.script("sweep.js"),
        differ=names,
        summary=sweep_summary.FILE,
        runs=runs,
        means=_means(made, claimed),
        figures=_figures(runs),
        table=_table(made, runs, claimed),
        same=_same(made),
    )


def _runs(table: pd.DataFrame, folder: Path) -> dict[str, dict[str, Any]]:
    """Values, title and place of each run by its folder's name; a setting's seeds come in a row."""
    names = sorted(varied(table), key=lambda name: name == sweep_summary.SEED)
    rows = table.drop_duplicates("folder")
    for name in reversed(names):
        order = {value: i for i, value in enumerate(in_order(plain(rows[name])))}
        rows = rows.assign(_order=plain(rows[name]).map(order)).sort_values("_order", kind="stable")
    runs = {}
    for row in rows.to_dict("records"):
        label = str(row["folder"])
        values = {name: row[name] for name in names}
        is_default = label == folder.name  # the run with the defaults
        runs[label] = {
            "values": values,
            "title": ", ".join(f"{k} = {v}" for k, v in values.items()) or label,
            "path": folder if is_default else folder / label,
            "link": "." if is_default else f"./{quote(label)}",
            "notebook": quote(f"{folder.name}.ipynb"),
        }
    return runs


def _means(table: pd.DataFrame, claimed: Sequence[str]) -> dict[str, Any]:
    """The means over seeds of the metrics that claims use."""
    rows = sweep_summary.claims_only(sweep_summary.summary(table), claimed)
    names = [name for name in varied(table) if name != sweep_summary.SEED]
    means = [
        {
            "values": [getattr(row, name) for name in names],
            "metric": key,
            "mean": sweep_summary.interval(row),
            "n": row.n,
        }
        for row, key in zip(rows.head(60).itertuples(), metric_keys(rows), strict=False)
    ]
    return {"heads": [*names, "metric", "mean [95 % interval]", "n"], "rows": means}


def _figures(runs: dict[str, dict[str, Any]]) -> dict[str, list[tuple[Any, Any]]]:
    """By the picture's name: every run, with its picture or None."""
    files = {path.name for run in runs.values() for path in run["path"].glob("*.png")}
    return {
        Path(name).stem: [(run, _picture(run, name)) for run in runs.values()]
        for name in sorted(file for file in files if not file.startswith("."))
    }


def _picture(run: dict[str, Any], name: str) -> dict[str, Any] | None:
    """A picture's link, its size, and the description in its metadata (``plots.png``)."""
    from PIL import Image

    path = run["path"] / name
    if not path.is_file():
        return None
    picture = {"link": f"{run['link']}/{quote(name)}", "text": path.stem, "width": 0, "height": 0}
    try:
        with Image.open(path) as image:
            text = str(image.info.get("Description", path.stem))
            return picture | {"text": text, "width": image.width, "height": image.height}
    except OSError:  # not a picture, whatever its name says
        return picture


def _table(
    table: pd.DataFrame, runs: dict[str, dict[str, Any]], claimed: Sequence[str]
) -> dict[str, Any]:
    """The columns of the table of runs, and each run's values of the metrics that claims use."""
    rows = sweep_summary.claims_only(table, claimed)
    rows = rows.assign(key=metric_keys(rows))
    keys = list(dict.fromkeys(rows["key"]))[:_MOST]
    values = {(r.folder, r.key): r.value for r in rows.itertuples()}
    numbers = {label: [values.get((label, key)) for key in keys] for label in runs}
    return {"heads": [*next(iter(runs.values()))["values"], *keys, "run"], "numbers": numbers}


def _same(table: pd.DataFrame) -> dict[str, Any]:
    """Parameters that all runs share."""
    columns = list(table.columns)
    names = [name for name in columns[columns.index("n") + 1 :] if name != "folder"]
    return {name: table[name].iloc[0] for name in names}
