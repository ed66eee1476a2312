"""The child process of ``oocr_lib.runner.batch``: one notebook through papermill.

Reads a job as one line of JSON from standard input, runs it in the current folder, and reports on
standard output, one JSON object a line: ``{"cell": k, "of": n}`` before code cell k starts,
``{"error": text}`` when the run fails. It ends when standard input closes.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, TextIO

from oocr_lib.runner.kernels import Kernel, private_spec


def run(job: dict[str, Any], channel: TextIO) -> int:
    """Run a job and return the exit code.

    Args:
        job: ``input`` and ``output`` (paths), ``parameters`` (values by name), ``cell_timeout``
            (seconds, or None), ``kernel`` (fields of ``kernels.Kernel``).
        channel: where the reports go.
    """
    import papermill
    from papermill.engines import NBClientEngine, papermill_engines

    last = {"cell": 0, "of": 0}

    class Engine(NBClientEngine):
        """papermill's own engine, with a report before each code cell."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **kwargs: Any) -> Any:
            nb_man.cell_start = _reporting(nb_man, last, channel)
            return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)

    papermill_engines.register("oocr", Engine)
    logging.getLogger("papermill").setLevel(logging.ERROR)
    # papermill takes paths as format strings
    paths = [job[key].replace("{", "{{").replace("}", "}}") for key in ("input", "output")]
    kernel = Kernel(**job["kernel"])
    try:
        with private_spec(kernel) as variables:
            os.environ.update(variables)
            papermill.execute_notebook(
                *paths,
                parameters=job["parameters"],
                engine_name="oocr",
                kernel_name=kernel.name,
                language="python",
                progress_bar=False,
                start_timeout=120,
                execution_timeout=job["cell_timeout"],
            )
    except Exception as error:  # a failing cell, a dead kernel, a timeout: all end the run
        _report(channel, {"error": f"code cell {last['cell']} of {last['of']}: {_line(error)}"})
        return 1
    return 0


def _reporting(nb_man: Any, last: dict[str, int], channel: TextIO) -> Callable[..., None]:
    """``nb_man.cell_start`` with a report of the code cell's number first."""
    start = nb_man.cell_start
    code_indices = [
        index
        for index, cell in enumerate(nb_man.nb.cells)
        if cell.cell_type == "code" and cell.source.strip()
    ]

    def reporting(cell: Any, cell_index: int, **kwargs: Any) -> None:
        if cell_index in code_indices:
            last.update(cell=code_indices.index(cell_index) + 1, of=len(code_indices))
            _report(channel, last)
        start(cell, cell_index, **kwargs)

    return reporting


def _line(error: Exception) -> str:
    """One line for an error; a failing cell's own error rather than papermill's report of it."""
    name = getattr(error, "ename", type(error).__name__)
    text = getattr(error, "evalue", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{name}: {lines[0]}" if lines else name


def _report(channel: TextIO, content: dict[str, Any]) -> None:
    print(json.dumps(content), file=channel, flush=True)


def _end_with_parent() -> None:
    """End this process when standard input closes: then the batch is gone, killed for instance.

    The kernel notices that its own parent is gone, and ends as well.
    """

    def watch() -> None:
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> int:
    """Keep standard output for reports: whatever else writes there goes to standard error."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    job = json.loads(sys.stdin.readline())
    _end_with_parent()
    return run(job, channel)


if __name__ == "__main__":
    sys.exit(main())
