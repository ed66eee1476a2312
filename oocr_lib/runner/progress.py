"""Progress of notebook runs: one bar each on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType

from tqdm import tqdm

#: Seconds between lines for a running notebook when the output is not a terminal.
HEARTBEAT = 30.0


def clock(seconds: float) -> str:
    """Minutes and seconds: ``2:05``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Progress:
    """Context manager; ``cell`` and ``done`` may be called from several threads."""

    def __init__(self, names: Sequence[str], parallel: int = 1) -> None:
        self._width = max((len(name) for name in names), default=0)
        self._left = len(names)
        self._total = len(names)
        self._parallel = parallel
        self._durations: list[float] = []
        self._terminal = sys.stderr.isatty()
        self._lock = threading.Lock()
        self._running: dict[str, tuple[float, int, int]] = {}  # start, cell, cells
        self._bars: dict[str, tqdm[None]] = {}
        self._said_at: dict[str, float] = {}
        self._stop = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Progress:
        """Start ticking, so that the time moves on during long cells."""
        self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Stop ticking and close the bars."""
        self._stop.set()
        self._ticker.join()
        for bar in self._bars.values():
            bar.close()

    def cell(self, name: str, number: int, total: int) -> None:
        """Code cell ``number`` of ``total`` starts (0: the notebook starts)."""
        with self._lock:
            start = self._running.get(name, (time.monotonic(), 0, 0))[0]
            self._running[name] = (start, number, total)
            if self._terminal and name not in self._bars and total:
                bar_format = "{desc} {bar:24} cell {n_fmt} of {total_fmt}, {elapsed}"
                label = f"{name:<{self._width}}"
                width, height = shutil.get_terminal_size()  # 80 by 24 where a terminal says 0
                layout = {"bar_format": bar_format, "ncols": width, "nrows": height, "leave": False}
                self._bars[name] = tqdm(total=total, desc=label, **layout)
            if name in self._bars:
                self._bars[name].n = number
                self._bars[name].refresh()
            elif not number:
                self._say(name, "starts")

    def waits(self, name: str) -> None:
        """Another batch runs the same notebook."""
        with self._lock:
            if name not in self._said_at:
                self._say(name, "waits for another batch that runs it")

    def done(self, name: str, problem: str, *, reused: bool = False) -> None:
        """The notebook ended, with a problem or without (empty text), or was finished before."""
        with self._lock:
            start = self._running.pop(name, (time.monotonic(), 0, 0))[0]
            if name in self._bars:
                self._bars.pop(name).close()
            self._left -= 1
            seconds = time.monotonic() - start
            took = clock(seconds)
            result = f"failed after {took}: {problem}" if problem else f"ran in {took}"
            if reused:
                result = "finished before"
            else:
                self._durations.append(seconds)
            self._say(name, f"{result} ({self._total - self._left} of {self._total}{self._rest()})")

    def _rest(self) -> str:
        """About how long the rest will take: the mean time of a run times the runs left."""
        if not self._durations or not self._left:
            return ""
        mean = sum(self._durations) / len(self._durations)
        return f", about {clock(mean * self._left / self._parallel)} left"

    def _tick(self) -> None:
        while not self._stop.wait(1.0):
            with self._lock:
                for bar in self._bars.values():
                    bar.refresh()
                for name, (start, cell, cells) in self._running.items():
                    if name not in self._bars and self._quiet_for(name) > HEARTBEAT:
                        took = clock(time.monotonic() - start)
                        self._say(name, f"cell {cell} of {cells}, {took}")

    def _quiet_for(self, name: str) -> float:
        return time.monotonic() - self._said_at.get(name, 0.0)

    def _say(self, name: str, text: str) -> None:
        self._said_at[name] = time.monotonic()
        tqdm.write(f"{name:<{self._width}}  {text}", file=sys.stderr)
        sys.stderr.flush()
