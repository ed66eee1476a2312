"""The set-up call of every notebook, and where its numbers, tables and figures go.

    exp = session.start("03_locations", model=model, preset=preset, seed=seed, out_dir=out_dir,
                        settings={"laptop": {"steps": 300}, "smoke": {"steps": 5}})
    ...
    exp.finish()

Environment variables, for runs of a committed notebook with another preset (tests, the runner):
``OOCR_PRESET`` and ``OOCR_OUT`` override the notebook's ``preset`` and ``out_dir``;
``OOCR_LABEL`` names the folder of a run below its notebook's, empty for none; by default it is
made of the parameters that differ from the notebook's defaults (``defaults``);
``OOCR_CWD`` is the folder that typed paths are relative to (``paths.resolve``);
``OOCR_STAGE`` is where the runner wants the files until the run is finished (``stage``);
``OOCR_THREADS`` sets the number of CPU threads (1);
``OOCR_PROGRESS`` says whether to show progress bars and times (``progress``).
"""

from __future__ import annotations

import os
import re
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oocr_lib.notebook import screen, stage
from oocr_lib.notebook.injected import before_injection, check_injected
from oocr_lib.parameters import defaults
from oocr_lib.parameters.cell import check_doubles
from oocr_lib.parameters.named import shown_model
from oocr_lib.report import claim_file
from oocr_lib.report.claim_file import Check, Claim
from oocr_lib.report.metrics import FILE, Metrics
from oocr_lib.runs.presets import PRESETS, Settings
from oocr_lib.runs.store import RunStore, versions
from oocr_lib.util import files as store, paths, progress, statistics
from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.machine import commit, set_up
from oocr_lib.util.statistics import Interval

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from oocr_lib.models.language_model import LanguageModel

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class Experiment:
    """One notebook run; made by ``start``. Files go to ``folder``, run folders to ``runs``.

    Until ``finish`` the files lie in ``draft``, so that a failed run leaves those of the run before
    as they were.

    Attributes:
        notebook, model, preset, seed: as given, after the overrides.
        settings: the preset's values.
        folder: ``<out>/<preset>/<notebook>``, and a label for other parameters than the defaults.
        label: the last part of the folder; empty for the defaults.
        threads: CPU threads in use.
        metrics: the numbers that ``finish`` writes.
    """

    def __init__(
        self,
        notebook: str,
        model: str,
        preset: str,
        seed: int,
        out: Path,
        settings: Settings,
        label: str = "",
    ) -> None:
        self.notebook, self.model, self.preset, self.seed = notebook, model, preset, seed
        self.out, self.label = out, label
        self.folder = out / preset / notebook / label
        self.settings = settings
        self.threads = 0
        self.metrics = Metrics(notebook, {})
        self._stage: stage.Stage | None = None
        self._finished = False
        self._began = time.perf_counter()

    @property
    def draft(self) -> Path:
        """Where files are written now: a folder aside, and ``folder`` itself after ``finish``."""
        if self._finished:
            return self.folder
        if runner_stage := stage.given(self.folder):
            return runner_stage
        if self._stage is None:
            self._stage = stage.Stage(self.folder, self.out / self.preset)
            weakref.finalize(self, self._stage.discard)  # also when the kernel ends
        return self._stage.path

    @property
    def draft_of_all(self) -> Path:
        """The same for files that belong to all notebooks; they go to the preset's folder."""
        return self.out / self.preset if self._finished else stage.shared_here(self.draft)

    @cached_property
    def lm(self) -> LanguageModel:
        """The language model, loaded when first used; notes on its chat format are printed."""
        from oocr_lib.models.language_model import load_model

        model = load_model(self.model)
        for note in model.notes:
            print(f"{Path(self.model).name}: {note}")
        return model

    @cached_property
    def runs(self) -> RunStore:
        """Finished training runs, shared by all notebooks and presets of this output folder."""
        return RunStore(self.out / "runs")

    @property
    def progress(self) -> bool:
        """Whether to show progress bars and times: while somebody watches."""
        return progress.watched()

    def table(self, rows: pd.DataFrame | Iterable[Mapping[str, Any]], name: str) -> pd.DataFrame:
        """Save ``rows`` as ``<name>.csv`` (full precision) and return them as a data frame."""
        import pandas as pd

        frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
        with store.atomic_path(self.draft / f"{_checked_name(name)}.csv") as path:
            frame.to_csv(path, index=False)
        return frame

    def figure(self, figure: Figure, name: str, caption: str, data: str | None = None) -> None:
        """Save ``<name>.png``, show it with alt text, and its caption below it.

        Script, data and commit stand in the metadata of the file and of the notebook's output.

        Args:
            figure: from ``oocr_lib.report.plots``.
            caption: one sentence on what the picture shows; also its alt text.
            data: name of the table (``table``) that was drawn; by default ``metrics.json``.

        Raises:
            UserError: the name is not a file name, or there is no such table.
        """
        from oocr_lib.report import plots

        source = f"{_checked_name(data)}.csv" if data else FILE
        if data and not (self.draft / source).is_file():
            raise UserError(f"There is no table {data!r} yet. Save it first with exp.table(...).")
        origin = {
            "script": f"notebooks/{self.notebook}.ipynb",
            "data": self.show(self.folder / source),
            "commit": commit(),
        }
        picture = plots.png(figure, ", ".join(f"{key} {value}" for key, value in origin.items()))
        with store.atomic_path(self.draft / f"{_checked_name(name)}.png") as path:
            path.write_bytes(picture)
        screen.figure(picture, f"{caption} {plots.alt(figure)}", caption, origin["data"], origin)

    def record(
        self, table: pd.DataFrame, key: str, measures: Mapping[str, str], drawn: str = "concept"
    ) -> None:
        """Record metrics of every group of rows: means over runs with their intervals.

        Args:
            table: one row per run and group.
            key: ``family/method``, with columns of the row in braces:
                ``"{task}_at_{tokens}/lora_one"``. Spaces become underscores.
            measures: column to the metric's name.
            drawn: column whose values the bootstrap draws, each with all of its rows.

        Raises:
            UserError: a key that no metric can have, or a run that comes twice in a group.
        """
        import pandas as pd

        from oocr_lib.runs import protocol

        keys = [key.format(**row).replace(" ", "_") for row in table.to_dict("records")]
        # As a series: a list of one name would be one key, whose groups pandas names by tuples.
        for name, part in table.groupby(pd.Series(keys, table.index), sort=False):
            for column, measure in measures.items():
                if bool(part[column].notna().any()):
                    self.metrics.add(f"{name}/{measure}", protocol.interval(part, column, drawn))

    def claim(self, statement: str, measured: Interval | str, rule: str) -> None:
        """Print and record one claim check with its verdict.

        Args:
            statement: what is claimed, in one line.
            measured: an interval, or the key of a metric that was recorded.
            rule: fixed before the run; see ``statistics.verdict``.

        Raises:
            UserError: no such metric, or a rule that cannot be read.
        """
        key = measured if isinstance(measured, str) else None
        if isinstance(measured, str):
            values = self.metrics.values
            measured = values[choose(measured, values, "metric", "Record it with metrics.add.")]
        verdict = statistics.verdict(measured, rule)
        self._forget(statement)
        self._record_claim(statement, key, rule, verdict, measured)
        print(f"{statement}: {measured} (rule: {rule}) – {verdict} at this scale")

    def _record_claim(
        self, statement: str, metric: str | None, rule: str, verdict: str, measured: Interval
    ) -> None:
        """Put a check into ``metrics.json``."""
        entry = {"statement": statement, "metric": metric, "rule": rule, "verdict": verdict}
        numbers = {"value": measured.value, "ci": [measured.low, measured.high], "n": measured.n}
        self.metrics.claims = [*self.metrics.claims, {**entry, **numbers}]

    def _forget(self, statement: str) -> None:
        """Drop a claim's earlier checks: its cell is run again, perhaps with another rule."""
        self.metrics.claims = [c for c in self.metrics.claims if c["statement"] != statement]

    def check_claims(self) -> None:
        """Judge and record this notebook's part of ``data/claims.toml``, and print the verdicts.

        Statements and rules stand in that file alone, fixed before the run. Withdrawn claims are
        left out, and so is a check whose metric this run did not record (another model, fewer
        tasks); the last line says how many of these there are.
        """
        values, missing = self.metrics.values, 0
        for claim in claim_file.load():
            own = [check for check in claim.checks if check.notebook == self.notebook]
            there = [check for check in own if check.metric in values]
            if claim.withdrawn or not own:
                continue
            missing += len(own) - len(there)
            self._judge(claim, there)
        if missing:
            print(f"Checks of the claim table whose metric this run did not record: {missing}.")

    def _judge(self, claim: Claim, checks: Sequence[Check]) -> None:
        """Print and record a claim by those of its checks whose metrics are there."""
        if not checks:
            return
        measured = [(c, self.metrics.values[c.metric]) for c in checks]
        words = [statistics.verdict(interval, c.rule) for c, interval in measured]
        worst = min(words, key=statistics.VERDICTS.index)
        part = "" if len(checks) == len(claim.checks) else " (as far as asked here)"
        print(f"{worst.upper()} at this scale{part}: {claim.statement}")
        self._forget(claim.statement)
        for (check, interval), word in zip(measured, words, strict=True):
            print(f"    {check.metric} {interval} (rule: {check.rule}) – {word}")
            self._record_claim(claim.statement, check.metric, check.rule, word, interval)

    def finish(self) -> Path:
        """Write ``metrics.json`` and move all files into place; the last call of a notebook.

        Under the runner they are moved only when the whole notebook has ended well.

        Returns:
            The place of ``metrics.json``.

        Raises:
            UserError: no metric was recorded.
        """
        if not self.metrics.values:
            raise UserError(f"{self.notebook} recorded no metric. Call exp.metrics.add(...) first.")
        seconds = round(time.perf_counter() - self._began, 1)
        run = {"threads": self.threads, "commit": commit(), "seconds": seconds}
        if "lm" in vars(self):  # whatever its name says, this model answered
            run["model"] = self.lm.digest[:16]
        self.metrics.versions = versions() | run
        path = self.folder / FILE
        self.metrics.write(self.draft / FILE)
        verdicts = [claim["verdict"] for claim in self.metrics.claims]
        counts = [f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts)]
        claims = f"; checks of claims: {', '.join(counts)}" if counts else ""
        print(f"{self.show(path)}: {len(self.metrics.values)} metrics{claims}")
        if self.runs.saved or self.runs.reused:
            print(f"runs: {self.runs.saved} new, {self.runs.reused} reused")
        if self.progress:
            print(f"time: {_duration(seconds)} with {self.threads} CPU thread(s)")
        if self._stage is not None:
            self._stage.publish()
            self._stage, self._finished = None, True
        return path

    def show(self, path: Path) -> str:
        """A path for text outputs: relative to the repository, or else to ``out``'s parent."""
        for root in (paths.ROOT, self.out.parent):
            if path.is_relative_to(root):
                return path.relative_to(root).as_posix()
        return path.name


def start(
    notebook: str,
    *,
    model: str = "testbed",
    preset: str = "laptop",
    seed: int = 0,
    out_dir: str | Path = "",
    params: Mapping[str, Any] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Experiment:
    """Set threads and seeds, silence noisy output, and make the output folder.

    Args:
        notebook: its name without ``.ipynb``.
        model: as for ``models.load_model``.
        preset: one of ``PRESETS`` that ``settings`` has.
        seed: of Python, NumPy and torch; runs take it from here, too.
        out_dir: where results go; empty means ``results``; relative to the repository.
        params: all of the notebook's own parameters: they stand in ``metrics.json``, and the run
            gets a folder of its own if one of them, model or seed is not the default.
        settings: values by preset. ``laptop`` names every value; the others only what differs.

    Raises:
        UserError: a parameter that papermill injected under an unknown name or with another type,
            a list with a value twice, an unknown preset, a bad seed or thread count, a setting
            that ``laptop`` does not have, or a folder that cannot be written.
    """
    check_injected(notebook)
    preset = os.environ.get("OOCR_PRESET") or preset
    values = _settings(preset, settings)
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise UserError(f"Seed {seed!r} is not allowed. Give a whole number from 0 to 2**32 - 1.")
    if not isinstance(model, str) or not model:
        raise UserError(f"Model {model!r} is not allowed. Give 'testbed', a folder or a hub name.")
    out = paths.ROOT / Path(os.environ.get("OOCR_OUT") or out_dir or "results").expanduser()
    parameters = {"model": model, "seed": seed, **(params or {})}
    exp = Experiment(
        _checked_name(notebook), model, preset, seed, out, values, _label(notebook, parameters)
    )
    store.writable_folder(exp.folder, "out_dir")
    stage.recover(exp.folder)
    model_name = shown_model(model)
    common = {"model": model_name, "preset": preset, "seed": seed}
    exp.metrics.params = {**common, **(params or {})}
    exp.threads = set_up(seed)
    where = exp.show(exp.folder)
    print(f"{notebook}: model {model_name}, preset {preset}, seed {seed}; results go to {where}")
    return exp


def _label(notebook: str, parameters: Mapping[str, Any]) -> str:
    """The run's folder below its notebook's: set by the runner, or named by what differs."""
    for name, value in parameters.items():
        if isinstance(value, list):
            check_doubles(name, value)
    if "OOCR_LABEL" in os.environ:
        return os.environ["OOCR_LABEL"]
    return defaults.label(parameters, defaults.shipped(notebook) or before_injection())


def _settings(preset: str, settings: Mapping[str, Mapping[str, Any]] | None) -> Settings:
    choose(preset, PRESETS, "preset")
    if settings is None:
        return Settings()
    choose(preset, settings, "preset of this notebook")
    if "laptop" not in settings:
        raise UserError("The settings lack the preset 'laptop'. It names every value.")
    for name, values in settings.items():
        choose(name, PRESETS, "preset in the settings")
        for key in values:
            choose(key, settings["laptop"], f"setting in the preset {name!r}")
    return Settings({**settings["laptop"], **settings[preset]})


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(f"Bad name {name!r}. Allowed: lower-case letters, digits, '_' and '-'.")
    return name


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
