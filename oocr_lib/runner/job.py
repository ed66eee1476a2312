"""One notebook run of ``oocr_lib.runner.batch``: its child process, and the check of its result.

All files of the run are written aside (``stage``) and appear together when it is complete.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import nbformat
from filelock import FileLock, Timeout
from nbformat import NotebookNode

from oocr_lib.notebook import finished, stage
from oocr_lib.notebook.stage import Stage
from oocr_lib.parameters.cell import Parameter, summary
from oocr_lib.report.metrics import FILE
from oocr_lib.runner import kernel_record, kernels, notebook_checks
from oocr_lib.runner.child import Children
from oocr_lib.runner.kernels import Kernel
from oocr_lib.runner.progress import Progress
from oocr_lib.util import files as store
from oocr_lib.util.errors import UserError

#: Beside the run's files while it runs: the notebook so far, and what the kernel says of itself.
_PARTIAL, _KERNEL_FILE = ".partial.ipynb", ".kernel.json"


@dataclass(frozen=True)
class Job:
    """A notebook with checked parameter values.

    Attributes:
        values: those given, and the preset.
        label: folder of a run that is not the default one; empty for the notebook's own folder.
        kernel: what runs it.
        note: one line if that is not the kernel that the notebook names.
        typed_in: the folder that paths among the values are relative to.
    """

    source: Path
    parameters: Mapping[str, Parameter]
    values: Mapping[str, Any]
    out: Path
    label: str = ""
    kernel: Kernel = field(default_factory=Kernel)
    note: str = ""
    typed_in: Path = field(default_factory=Path.cwd)

    @property
    def name(self) -> str:
        """The notebook's name."""
        return self.source.stem

    @property
    def preset_folder(self) -> Path:
        """The folder of all notebooks with this preset."""
        return self.out / str(self.values["preset"])

    @property
    def notebook_folder(self) -> Path:
        """The folder of all runs of this notebook and preset."""
        return self.preset_folder / self.name

    @property
    def folder(self) -> Path:
        """Where the run's files go, as in ``session``."""
        return self.notebook_folder / self.label

    def like(self, values: Mapping[str, Any], label: str) -> Job:
        """The same notebook with other values."""
        return replace(self, values=values, label=label)

    @property
    def title(self) -> str:
        """The notebook's name, and the run's in a sweep."""
        return f"{self.name} {self.label}".strip()

    @property
    def all_values(self) -> dict[str, Any]:
        """Every parameter with its value or default."""
        return {name: p.default for name, p in self.parameters.items()} | dict(self.values)

    def kernel_versions(self) -> dict[str, Any]:
        """What the kernel's interpreter says of itself."""
        return kernels.ask(self.kernel, self.source.parent)

    def identity(self) -> str:
        """The identity of what would be run now; see ``finished.identity``."""
        run_folder = self.folder.relative_to(self.preset_folder).as_posix()
        return finished.identity(
            self.source, self.all_values, self.preset_folder, run_folder,
            kernel=self.kernel_versions() | {"spec": [self.kernel.name, dict(self.kernel.env)]},
            typed_in=self.typed_in,
        )  # fmt: skip

    @property
    def output(self) -> Path:
        """The executed notebook."""
        return self.folder / f"{self.name}.ipynb"

    @property
    def failed_output(self) -> Path:
        """Where a failed run is kept for reading."""
        return self.folder / f"{self.name}.failed.ipynb"

    def make_folder(self) -> None:
        """Make the folder.

        Raises:
            UserError: it cannot be made or written.
        """
        store.writable_folder(self.folder, "--out")


@dataclass(frozen=True)
class Outcome:
    """How a job ended; ``problem`` is empty on success, ``reused`` if it was finished before."""

    name: str
    problem: str
    seconds: float
    notebook: Path
    reused: bool = False

    @property
    def ok(self) -> bool:
        """Whether the run is complete."""
        return not self.problem


class Worker:
    """Runs jobs, or finds them finished; ``run`` may be called from several threads."""

    def __init__(self, cell_timeout: int | None, progress: Progress, rerun: bool = False) -> None:
        self._cell_timeout, self._progress, self._rerun = cell_timeout, progress, rerun
        self._children = Children(progress)

    def run(self, job: Job) -> Outcome:
        """Run one job to its end; failures are outcomes, not exceptions."""
        start = time.monotonic()
        try:
            with self._alone(job):
                stage.recover(job.folder, alone=True)
                identity = job.identity()
                if not self._rerun and finished.find(job.folder, identity):
                    outcome = Outcome(job.title, "", 0.0, job.output, reused=True)
                else:
                    outcome = self._fresh(job, identity, start)
        except (OSError, UserError) as error:  # a full disk, a folder or notebook that went away
            problem = (
                f"cannot write: {error.strerror or error}"
                if isinstance(error, OSError)
                else str(error)
            )
            outcome = Outcome(job.title, problem, time.monotonic() - start, job.failed_output)
        self._progress.done(job.title, outcome.problem, reused=outcome.reused)
        return outcome

    def stop(self) -> None:
        """Interrupt all running notebooks."""
        self._children.stop()

    @contextmanager
    def _alone(self, job: Job) -> Iterator[None]:
        """Hold the run's folder; another batch that wants it waits, and finds the finished run.

        The lock is the operating system's, so it ends with a killed process.
        """
        lock = FileLock(job.folder / ".lock")
        while True:
            try:
                lock.acquire(timeout=1.0)
                break
            except Timeout:
                if self._children.stopped:
                    raise OSError("interrupted while another batch ran the same notebook") from None
                self._progress.waits(job.title)
        try:
            yield
        finally:
            lock.release()

    def _fresh(self, job: Job, identity: str, start: float) -> Outcome:
        """Run a job that is not finished; record it when it is."""
        for leftover in job.folder.glob(".*.tmp.*"):  # of a killed run; we hold the folder
            leftover.unlink(missing_ok=True)
        staged = Stage(job.folder, job.preset_folder, "run")
        self._progress.cell(job.title, 0, 0)
        try:
            problem, cell = self._execute(job, staged.path)
            if problem and not cell and not self._children.stopped:
                problem, cell = self._execute(job, staged.path)  # a port collision, a busy machine
            notebook = _read(staged.path / _PARTIAL)
            if not problem:
                problem = notebook_checks.unfinished(notebook) if notebook else "no output"
            if notebook and problem:
                _mark(notebook, cell)
            kernel = _record(staged.path / _KERNEL_FILE)
            if not problem and not (staged.path / FILE).is_file():
                problem = f"all cells ran, but none wrote {FILE}"
            if not problem and kernel != job.kernel_versions():
                problem = "the kernel that ran is not the one that was asked for its versions"
            seconds = time.monotonic() - start
            if problem:
                _write(job, notebook, problem, job.failed_output)
            else:
                _write(job, notebook, "", staged.path / job.output.name)
                finished.record(staged.path, identity, job.name, job.all_values, seconds, kernel)
                staged.publish()
                job.failed_output.unlink(missing_ok=True)
        finally:
            staged.discard()
        target = job.failed_output if problem else job.output
        return Outcome(job.title, problem, time.monotonic() - start, target)

    def _execute(self, job: Job, place: Path) -> tuple[str, int]:
        """Run the child process; return the problem it reports, and the cell started last or 0."""
        order = {
            "input": job.source.name,
            "output": str(place / _PARTIAL),
            "parameters": dict(job.values),
            "cell_timeout": self._cell_timeout,
            "kernel": asdict(job.kernel),
        }
        # The output folder is not a parameter: its path would stand in the executed notebook.
        extra = {"OOCR_OUT": str(job.out), "OOCR_LABEL": job.label, "OOCR_PROGRESS": "0"}
        extra |= {"OOCR_CWD": str(job.typed_in), stage.VARIABLE: str(place)}
        extra |= {kernel_record.VARIABLE: str(place / _KERNEL_FILE)}
        return self._children.run(job.title, job.source.parent, order, extra)


def _read(path: Path) -> NotebookNode | None:
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError):  # killed before or while it was written
        return None


def _record(file: Path) -> dict[str, Any]:
    """What the kernel wrote of itself; empty if it wrote nothing."""
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return record
    except (OSError, ValueError):  # ended before its first cell
        return {}


def _mark(notebook: NotebookNode, last_cell: int) -> None:
    """Mark each code cell as run or not; after a dead kernel papermill stamps the rest as run.

    Args:
        last_cell: number of the code cell in which the run ended, from 1; 0 if none was started.
    """
    for number, cell in enumerate(notebook_checks.code_cells(notebook), 1):
        metadata = cell.metadata.setdefault("papermill", {})
        if number >= last_cell:
            metadata["status"] = "failed" if number == last_cell else "pending"
            metadata["exception"] = number == last_cell


def _write(job: Job, notebook: NotebookNode | None, problem: str, target: Path) -> None:
    """Write the executed notebook, if there is one."""
    if notebook is not None:
        with store.atomic_path(target) as path:
            nbformat.write(_finished(job, notebook, problem), path)


def _finished(job: Job, notebook: NotebookNode, problem: str) -> NotebookNode:
    """The notebook with a parameter summary on top, and honest metadata without paths."""
    text = summary(job.name, job.parameters, job.values, job.note)
    top = nbformat.v4.new_markdown_cell(text, metadata={"tags": ["parameter-summary"]})
    notebook.cells.insert(0, top)
    if problem:
        text = f"**This run failed.** {problem}"
        note = nbformat.v4.new_markdown_cell(text, metadata={"tags": ["run-failed"]})
        notebook.cells.insert(0, note)
    metadata = notebook.metadata.get("papermill", {})
    metadata["input_path"] = metadata["output_path"] = f"{job.name}.ipynb"
    metadata["exception"] = bool(problem)
    notebook.metadata["kernelspec"] = nbformat.from_dict(job.kernel.metadata())
    return notebook
