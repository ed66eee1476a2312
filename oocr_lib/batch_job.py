"""One notebook run of ``oocr_lib.batch``: its child process, and the check of what came out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nbformat
from nbformat import NotebookNode

from oocr_lib import notebook_checks, store
from oocr_lib.batch_progress import Progress
from oocr_lib.errors import UserError
from oocr_lib.metrics import FILE
from oocr_lib.parameters import Parameter, summary
from oocr_lib.paths import ROOT

_GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class Job:
    """A notebook with checked parameter values; ``values`` has the preset."""

    source: Path
    parameters: Mapping[str, Parameter]
    values: Mapping[str, Any]
    out: Path

    @property
    def name(self) -> str:
        """The notebook's name."""
        return self.source.stem

    @property
    def folder(self) -> Path:
        """Where the run's files go, as in ``experiment``."""
        return self.out / str(self.values["preset"]) / self.name

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
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
        except OSError as error:
            raise UserError(
                f"Cannot write to {str(self.folder)!r}: {error.strerror}. Give another --out."
            ) from error


@dataclass(frozen=True)
class Outcome:
    """How a job ended; ``problem`` is empty on success."""

    name: str
    problem: str
    seconds: float
    notebook: Path

    @property
    def ok(self) -> bool:
        """Whether the run is complete."""
        return not self.problem


class Worker:
    """Runs jobs in child processes; ``run`` may be called from several threads."""

    def __init__(self, cell_timeout: int | None, progress: Progress) -> None:
        self._cell_timeout = cell_timeout
        self._progress = progress
        self._children: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def run(self, job: Job) -> Outcome:
        """Run one job to its end; failures are outcomes, not exceptions."""
        start = time.monotonic()
        partial = job.folder / f".{job.name}.{uuid.uuid4().hex[:8]}.partial.ipynb"
        before = _stamp(job.folder / FILE)
        self._progress.cell(job.name, 0, 0)
        try:
            problem = self._execute(job, partial)
            notebook = _read(partial)
            if not problem:
                problem = notebook_checks.unfinished(notebook) if notebook else "no output"
            if not problem and _stamp(job.folder / FILE) in (None, before):
                problem = f"all cells ran, but none wrote {FILE}"
            target = _install(job, notebook, problem)
        except OSError as error:  # a full disk, a folder that went away
            problem, target = f"cannot write: {error.strerror or error}", job.failed_output
        finally:
            partial.unlink(missing_ok=True)
        self._progress.done(job.name, problem)
        return Outcome(job.name, problem, time.monotonic() - start, target)

    def stop(self) -> None:
        """Interrupt all children, then kill those that do not end."""
        self._stopped = True
        for child in list(self._children):
            child.send_signal(signal.SIGINT)
        for child in list(self._children):
            try:
                child.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()

    def _execute(self, job: Job, partial: Path) -> str:
        """Run the child process; return what it reports as wrong, or an empty text."""
        order = {
            "input": job.source.name,
            "output": str(partial),
            "parameters": dict(job.values),
            "cell_timeout": self._cell_timeout,
        }
        problem = ""
        with tempfile.TemporaryFile("w+", errors="replace") as stderr:
            child = self._start(job, stderr)
            assert child.stdin is not None and child.stdout is not None
            with child.stdin:
                child.stdin.write(json.dumps(order))
            for line in child.stdout:
                event = json.loads(line)
                problem = event.get("error", problem)
                if "cell" in event:
                    self._progress.cell(job.name, event["cell"], event["of"])
            code = child.wait()
            self._children.discard(child)
            if code and not problem:
                stderr.seek(0)
                problem = _ending(code, stderr.read())
        return problem

    def _start(self, job: Job, stderr: IO[str]) -> subprocess.Popen[str]:
        """Start the child process in the notebook's folder, where Jupyter would run it."""
        # The output folder is no parameter here: its path would stand in the executed notebook.
        environment = {k: v for k, v in os.environ.items() if k != "OOCR_PRESET"}
        environment |= {"OOCR_OUT": str(job.out), "OOCR_PROGRESS": "0"}
        # The same library here and there, also in a checkout that was not installed.
        search = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, search))
        child = subprocess.Popen(
            [sys.executable, "-m", "oocr_lib.batch_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=job.source.parent,
            env=environment,
        )
        self._children.add(child)
        if self._stopped:
            child.kill()
        return child


def _ending(code: int, stderr: str) -> str:
    """One line for a child that ended without a word of its own."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"the process ended with {how}" + (f": {lines[-1].strip()}" if lines else "")


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is replaced."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _read(path: Path) -> NotebookNode | None:
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError):  # killed before or while it was written
        return None


def _install(job: Job, notebook: NotebookNode | None, problem: str) -> Path:
    """Move the executed notebook to its place, or to where failed ones are kept."""
    target = job.failed_output if problem else job.output
    if notebook is not None:
        with store.atomic_path(target) as path:
            nbformat.write(_finished(job, notebook, problem), path)
    if not problem:
        job.failed_output.unlink(missing_ok=True)
    return target


def _finished(job: Job, notebook: NotebookNode, problem: str) -> NotebookNode:
    """The notebook with a parameter summary on top, and honest metadata without paths."""
    text = summary(job.name, job.parameters, job.values)
    top = nbformat.v4.new_markdown_cell(text, metadata={"tags": ["parameter-summary"]})
    notebook.cells.insert(0, top)
    if problem:
        text = f"**This run failed.** {problem}"
        note = nbformat.v4.new_markdown_cell(text, metadata={"tags": ["run-failed"]})
        notebook.cells.insert(0, note)
    about = notebook.metadata.get("papermill", {})
    about["input_path"] = about["output_path"] = f"{job.name}.ipynb"
    about["exception"] = bool(problem)
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None:
            # papermill stamps cells that never ran as completed
            cell.metadata.setdefault("papermill", {})["status"] = "pending"
    return notebook
