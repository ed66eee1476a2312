"""The results of a sweep: all metrics in one table, their means over seeds, a page, a plot.

    <out>/<preset>/<notebook>/sweep.csv     one row per run and metric, of all calls so far
    <out>/<preset>/<notebook>/summary.csv   means over seeds (``sweep_summary``)
    <out>/<preset>/<notebook>/sweep.html    the runs side by side (``sweep_page``)

Columns of ``sweep.csv``: the parameters that differ between the runs first, then ``family, method,
measure, value, low, high, n`` (no interval: ``low`` and ``high`` are empty), the other parameters,
and ``folder``.

    sweep.plot("results/laptop/00_quickstart", "all/mc5", "block")
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from oocr_lib.notebook import finished
from oocr_lib.report import metrics
from oocr_lib.runner import sweep_page, sweep_summary
from oocr_lib.util import files as store
from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.statistics import bootstrap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from oocr_lib.runner.job import Job

FILE = "sweep.csv"
SUFFIXES = (".csv", ".parquet")
_MEASURED = ("family", "method", "measure", "value", "low", "high", "n")
#: Parameters of every notebook that cannot be an axis of a plot.
_ASIDE = ("out_dir",)


def check_table(path: Path) -> None:
    """Check, before the runs, that a table can be written there.

    Raises:
        UserError: another kind of file, a folder, or a place that cannot be written.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"--table {path.name!r} is of no known kind. Allowed: .csv, .parquet.")
    if path.suffix == ".parquet" and not importlib.util.find_spec("pyarrow"):
        raise UserError("--table *.parquet needs pyarrow. Install it, or write .csv.")
    if path.is_dir():
        raise UserError(f"--table {str(path)!r} is a folder. Give a file in it.")
    place = next(folder for folder in path.resolve().parents if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise _no_table(path, error) from error


def _no_table(path: Path, error: OSError) -> UserError:
    return UserError(f"Cannot write --table {str(path)!r}: {error.strerror}. Give another file.")


def table(folders: Sequence[Path]) -> pd.DataFrame:
    """The metrics of finished runs, one row per run and metric.

    Args:
        folders: of the runs; unfinished ones are left out.

    Raises:
        UserError: no finished run.
    """
    rows: list[dict[str, Any]] = []
    distinct: dict[str, set[str]] = {}
    for folder in folders:
        record = finished.find(folder)
        if record is None:
            continue
        values = {k: v for k, v in record["values"].items() if k not in _ASIDE}
        for name, value in values.items():
            distinct.setdefault(name, set()).add(str(value))
        for key, interval in metrics.load(folder / metrics.FILE).values.items():
            key_parts = dict(zip(_MEASURED, key.split("/"), strict=False))
            rows.append({**values, **key_parts, **asdict(interval), "folder": folder.name})
    if not rows:
        raise UserError(f"None of {len(folders)} runs is finished. Run the sweep first.")
    varied = [name for name, several in distinct.items() if len(several) > 1]
    same = [name for name in distinct if name not in varied]
    frame = pd.DataFrame(rows)
    return frame[[*varied, *_MEASURED, *same, "folder"]].reset_index(drop=True)


def folders(notebook_folder: Path) -> list[Path]:
    """Labelled run folders in ``<out>/<preset>/<notebook>``, sorted by name."""
    return sorted(path.parent for path in notebook_folder.glob(f"*/{finished.FILE}"))


def write_tables(jobs: Sequence[Job], wanted: Path | None) -> Iterator[str]:
    """Write ``sweep.csv`` for each notebook with labelled runs, and ``wanted`` for all; say so.

    ``sweep.csv`` covers all calls: every finished run of that notebook and preset with parameters
    other than the defaults, and the default run if this or an earlier sweep had it. Runs that would
    not come out the same today, as after a change of the library, are left out and counted. For two
    runs or more there are also means over seeds, and a page.

    Args:
        jobs: those that ran or were finished before.
        wanted: a further file, or None.

    Raises:
        UserError: ``wanted`` cannot be written.
    """
    by_notebook: dict[Path, list[Job]] = {}
    for job in jobs:
        by_notebook.setdefault(job.notebook_folder, []).append(job)
    for folder, notebook_jobs in by_notebook.items():
        if any(job.label for job in notebook_jobs):
            yield from _write_all(folder, notebook_jobs)
    if wanted is not None:
        yield from _write([job.folder for job in jobs], wanted, must=True)


def _write_all(folder: Path, jobs: Sequence[Job]) -> Iterator[str]:
    """Write ``sweep.csv`` of one notebook, and the comparison of its runs."""
    complete = {path for path in folders(folder) if finished.find(path)}
    if (folder in {job.folder for job in jobs} or _had(folder)) and finished.find(folder):
        complete.add(folder)
    called = {job.folder: job for job in jobs}
    runs = [path for path in sorted(complete) if path in called or _current(path, jobs[0])]
    yield from _write(runs, folder / FILE)
    yield from _compare(folder, runs, [job.folder for job in jobs])
    if len(runs) < len(complete):
        yield (
            f"{len(complete) - len(runs)} runs in {folder.name}/ are left out of it: the library, "
            "the notebook or their data changed since."
        )


def _compare(folder: Path, runs: Sequence[Path], call: Sequence[Path]) -> Iterator[str]:
    """Write ``summary.csv`` and ``sweep.html`` of all runs; yield the means for this call.

    Args:
        call: folders of the runs of this call.
    """
    if len(runs) < 2:
        return
    frame = table(runs)
    summed, claimed = sweep_summary.summary(frame), _claimed(runs)
    try:
        with store.atomic_path(folder / sweep_summary.FILE) as aside:
            summed.to_csv(aside, index=False)
        with store.atomic_path(folder / sweep_page.FILE) as aside:
            aside.write_text(sweep_page.to_html(frame, folder, claimed), encoding="utf-8")
    except OSError as error:
        yield f"No page {sweep_page.FILE}: {error}"
        return
    mine = frame[frame["folder"].isin([path.name for path in call])]
    if len(call) > 1 and not mine.empty:
        names = [name for name in sweep_summary.varied(frame) if name != sweep_summary.SEED]
        settings = mine.assign(**{name: sweep_summary.plain(mine[name]) for name in names})
        rows = summed.merge(settings[names].drop_duplicates()) if names else summed
        yield from sweep_summary.on_screen(rows, claimed)
    page, here = folder / sweep_page.FILE, Path.cwd()
    shown_page = page.relative_to(here) if page.is_relative_to(here) else page
    yield f"The runs side by side: {shown_page}; all means: {sweep_summary.FILE} beside it"


def _claimed(runs: Sequence[Path]) -> list[str]:
    """The metrics that claims of these runs use."""
    claims = [claim for run in runs for claim in metrics.load(run / metrics.FILE).claims]
    return list(dict.fromkeys(claim["metric"] for claim in claims if claim.get("metric")))


def _had(folder: Path) -> bool:
    """Whether the last table has the default run."""
    try:
        return folder.name in set(pd.read_csv(folder / FILE)["folder"])
    except (OSError, ValueError, KeyError):  # no table, or not ours
        return False


def _current(folder: Path, job: Job) -> bool:
    """Whether a finished run would give the same today; ``job`` is any job of that notebook."""
    record = finished.find(folder)
    label = folder.relative_to(job.notebook_folder).as_posix()
    job_today = job.like(record["values"], "" if label == "." else label) if record else None
    try:
        return job_today is not None and finished.find(folder, job_today.identity()) is not None
    except UserError:  # data that is gone
        return False


def _write(runs: Sequence[Path], path: Path, *, must: bool = False) -> Iterator[str]:
    """Write one table; a failed write is raised if the user named the file, else reported."""
    try:
        frame = table(runs)
        with store.atomic_path(path) as aside:
            if path.suffix == ".parquet":
                frame.to_parquet(aside)
            else:
                frame.to_csv(aside, index=False)
    except (UserError, OSError) as error:
        if must and isinstance(error, OSError):
            raise _no_table(path, error) from error
        yield f"No table {path.name}: {error}"
        return
    count = frame["folder"].nunique()
    yield f"Table of {count} run{'s' * (count > 1)}: {path.name} in {path.parent.name}/"


def plot(
    source: pd.DataFrame | str | Path,
    metric: str,
    x: str,
    by: str = "method",
    chance: float | None = None,
) -> Figure:
    """Draw one metric over a parameter: lines with bands over numbers, points over names.

    Args:
        source: a table from ``table``, a ``sweep.csv``, or the notebook's folder with runs below.
        metric: ``family/measure`` for all methods, or ``family/method/measure``.
        x: any parameter. Other parameters that differ between the runs are averaged over.
        by: a column; each of its values is a line.
        chance: a level to mark.

    Raises:
        UserError: nothing at ``source``, an unknown metric or column.
    """
    from oocr_lib.report.plots.by_parameter import by_parameter

    frame = source if isinstance(source, pd.DataFrame) else _read(Path(source))
    rows = _rows(frame, metric, x, by)
    texts = not pd.api.types.is_numeric_dtype(rows[x]) or pd.api.types.is_bool_dtype(rows[x])
    order = sweep_summary.in_order(rows[x])
    means = _means(rows, x, by)
    means = means.sort_values("x", key=lambda c: c.map(order.index), kind="stable")
    if texts:
        means["x"] = means["x"].map(lambda value: str(value) or "(empty)")
    others = [n for n in sweep_summary.varied(frame) if n not in (x, by)]
    over = " and ".join(f"{name}s" if name == sweep_summary.SEED else name for name in others)
    return by_parameter(means, f"{metric} by {x}", x, metric, chance, over or "runs")


def _read(path: Path) -> pd.DataFrame:
    """The table of a folder or file."""
    if path.suffix == ".csv" or (path / FILE).is_file():
        try:
            return pd.read_csv(path if path.suffix == ".csv" else path / FILE)
        except (OSError, ValueError) as error:
            raise UserError(
                f"Cannot read the table {str(path)!r} ({type(error).__name__}). Give a {FILE}, or "
                "the folder that it is in."
            ) from error
    return table(folders(path))


def _rows(frame: pd.DataFrame, metric: str, x: str, by: str) -> pd.DataFrame:
    """Rows of one metric, with values of ``x`` and ``by`` that can be compared.

    Raises:
        UserError: an unknown metric or column, or no table of a sweep.
    """
    if missing := {*_MEASURED, "folder"} - set(frame.columns):
        raise UserError(
            f"The table has no column {min(missing)!r}. Allowed: a table of "
            f"oocr_lib.runner.sweep.table, or a {FILE}."
        )
    keys = frame["family"] + "/" + frame["measure"]
    if metric.count("/") == 2:
        keys = sweep_summary.metric_keys(frame)
    rows = frame[keys == choose(metric, list(dict.fromkeys(keys)), "metric of the sweep")]
    for column in (x, by):
        choose(column, list(frame.columns), "column of the sweep")
    return rows.assign(**{name: sweep_summary.plain(rows[name]) for name in {x, by}})


def _means(rows: pd.DataFrame, x: str, by: str) -> pd.DataFrame:
    """Columns method (the line), x, value, low, high, n."""
    means = []
    for (line, at), group in rows.groupby([by, x], sort=False):
        interval = bootstrap(group["value"])
        means.append({"method": str(line), "x": at, **asdict(interval)})
    return pd.DataFrame(means)
