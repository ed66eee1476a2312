"""The child processes of a batch: started, listened to, and ended, one notebook each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from oocr_lib.runner import kernels
from oocr_lib.runner.progress import Progress

_GRACE_SECONDS = 10.0


class Children:
    """Starts notebooks in child processes; ``run`` may be called from several threads."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._children: set[subprocess.Popen[str]] = set()
        self.stopped = False

    def run(
        self, name: str, folder: Path, order: dict[str, Any], extra: dict[str, str]
    ) -> tuple[str, int]:
        """Run one notebook to its end.

        Args:
            name: for the progress.
            folder: where the notebook lies, and Jupyter would run it.
            order: the job that ``worker`` reads.
            extra: environment variables.

        Returns:
            The reported problem, empty if there is none; and the number of the code cell that was
            started last, 0 if none was.
        """
        problem, cell = "", 0
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
            child = self._start(folder, extra, stderr)
            assert child.stdin is not None and child.stdout is not None
            # Standard input stays open: the child ends when it closes, also if we are killed.
            with suppress(BrokenPipeError):  # ended already; its exit code says why
                child.stdin.write(json.dumps(order) + "\n")
                child.stdin.flush()
            for line in child.stdout:
                event = json.loads(line)
                problem = event.get("error", problem)
                if "cell" in event:
                    cell = event["cell"]
                    self._progress.cell(name, event["cell"], event["of"])
            code = child.wait()
            self._children.discard(child)
            _close(child.stdin)
            if code and not problem:
                stderr.seek(0)
                problem = _ending(code, stderr.read())
        return problem, cell

    def stop(self) -> None:
        """Interrupt all children, then kill those that do not end."""
        self.stopped = True
        for child in list(self._children):
            if os.name == "nt":  # Windows has no signal that interrupts another process
                child.terminate()
            else:
                child.send_signal(signal.SIGINT)
        for child in list(self._children):
            try:
                child.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()

    def _start(self, folder: Path, extra: dict[str, str], stderr: IO[str]) -> subprocess.Popen[str]:
        """Start the child process in the notebook's folder."""
        child = subprocess.Popen(
            [sys.executable, "-m", "oocr_lib.runner.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
            cwd=folder,
            env=kernels.environment(extra),
        )
        self._children.add(child)
        if self.stopped:
            child.kill()
        return child


def _close(pipe: IO[str]) -> None:
    with suppress(BrokenPipeError):
        pipe.close()


def _ending(code: int, stderr: str) -> str:
    """One line for a child process that ended without saying why."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    ending = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"the process ended with {ending}" + (f": {lines[-1].strip()}" if lines else "")
