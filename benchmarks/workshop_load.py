"""What a workshop's learner needs of a machine: ``python -m benchmarks.workshop_load``.

Runs the solutions of every session in a kernel of its own, one thread, as a learner who solves
everything does once; and starts a JupyterLab server. Printed are CPU seconds and the peak of the
resident memory of each process, as Linux counts it (VmHWM): pages that several processes share are
counted in each, so that the sum is an upper bound.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
#: One learner is one thread.
THREAD = {"OOCR_THREADS": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def peak(process: int) -> float:
    """Peak of the resident memory of a process, in GB."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e9


def session(path: Path) -> tuple[float, float, float]:
    """CPU seconds, seconds, and GB of the kernel that runs a notebook from beginning to end."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, resources={"metadata": {"path": str(path.parent)}})
    begun = time.perf_counter()
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
        kernel = client.km.provisioner.process.pid  # type: ignore[union-attr]
        used = psutil.Process(kernel).cpu_times()
        return used.user + used.system, time.perf_counter() - begun, peak(kernel)


def server() -> tuple[float, float]:
    """CPU seconds and GB of a JupyterLab server that was started and has given its page."""
    with tempfile.TemporaryDirectory() as home:
        port, token = 18_888, "a"
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}"]
        command += [f"--IdentityProvider.token={token}", "--allow-root", f"--notebook-dir={home}"]
        started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for address in ("lab", "api/contents", "lab/api/settings"):
                _ask(f"http://127.0.0.1:{port}/{address}?token={token}")
            used = psutil.Process(started.pid).cpu_times()
            return used.user + used.system, peak(started.pid)
        finally:
            started.terminate()
            started.wait()


def _ask(address: str) -> None:
    for _ in range(120):
        try:
            urllib.request.urlopen(address, timeout=30).read()
            return
        except OSError:
            time.sleep(0.5)
    raise SystemExit(f"nobody answers at {address}")


def main() -> None:
    """Print the table."""
    os.environ.update(THREAD)
    print("                 CPU s   wall s   peak GB")
    for path in sorted((ROOT / "workshop" / "solutions").glob("*.ipynb")):
        cpu, wall, memory = session(path)
        print(f"{path.stem:14} {cpu:7.1f}  {wall:7.1f}  {memory:8.2f}", flush=True)
    cpu, memory = server()
    print(f"{'JupyterLab':14} {cpu:7.1f}  {'':7}  {memory:8.2f}")


if __name__ == "__main__":
    main()
