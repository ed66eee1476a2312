"""How fast runs are trained and evaluated, against what is used elsewhere, in one process.

    python -m benchmarks.speed
    python -m benchmarks.speed --models testbed --rounds 5 --out results/speed

Ours: this library's trainer, with everything reused, as the notebooks use it. Rivals: a plain hook
loop, peft's LoRA and peft's BEFT bias with the Hugging Face Trainer. All are measured in turns,
round by round; a ratio is the median over rounds, with its smallest and largest value. Times are
seconds a step and run, what must be computed once included, spread over the steps of a usual run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks import counting
from benchmarks.cases import CASES, Case, Measured, ours, rivals
from benchmarks.shapes import MODELS
from oocr_lib import machine, store
from oocr_lib.models import LanguageModel

#: Seconds after which a case is not measured in another round.
PATIENCE = 150.0


def measure(
    case: Case, lm: LanguageModel, rounds: int, rate: float, peaks: bool
) -> list[Measured]:
    """All contestants of one case."""
    contestants: dict[str, Callable[[], float]] = {"ours": lambda: ours(case, lm)}
    contestants |= {name: run for name, run in rivals(case, lm).items()}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    spent = 0.0
    for number in range(rounds):
        for name in sorted(contestants, reverse=number % 2 == 1):
            times[name].append(contestants[name]())
        spent += sum(taken[-1] for taken in times.values())
        if spent * case.weight(lm) > PATIENCE:
            break
    work = case.work(lm)
    found = []
    for name, taken in times.items():
        ratios = np.array(taken) / np.array(times["ours"])
        seconds = float(np.median(taken))
        share = work[name] / seconds / rate if name in work else float("nan")
        numbers = (float(np.median(ratios)), float(ratios.min()), float(ratios.max()))
        peak = _peak(case, lm.name, name) if peaks and name in ("ours", "loop") else float("nan")
        size = case.tokens(lm) / seconds
        counted = work.get(name, float("nan"))
        found.append(Measured(lm.name, case.name, name, seconds, *numbers, size, counted, share, peak))
    return found


def _peak(case: Case, model: str, name: str) -> float:
    """Peak memory of one contestant, in a process of its own."""
    short = {"gemma3-100m": "100m", "gemma3-12b": "12b"}.get(model, model)
    command = [sys.executable, "-m", "benchmarks.speed", "--peak", case.name, name, short]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def one_peak(case_name: str, name: str, model: str) -> float:
    """The same, within that process: bytes above the loaded model and its rows."""
    machine.prepare(0)
    lm, case = MODELS[model](), CASES[case_name]
    call = (lambda: ours(case, lm)) if name == "ours" else rivals(case, lm)[name]
    return counting.peak_bytes(call, lm.device)


def table(found: Sequence[Measured]) -> str:
    """A table for REPRODUCE.md."""
    lines = [
        "| model | work | who | s a step and run | tokens a second | times ours | counted GFLOP |"
        " share of matmul rate | peak memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for m in found:
        share = "–" if np.isnan(m.share) else f"{m.share:.0%}"
        peak = "–" if np.isnan(m.peak) else f"{m.peak / 2**20:.0f} MB"
        flops = "–" if np.isnan(m.work) else f"{m.work / 1e9:.3g}"
        ratio = "1" if m.who == "ours" else f"{m.ratio:.1f} [{m.low:.1f}, {m.high:.1f}]"
        cells = [m.model, m.case, m.who, f"{m.seconds:.3g}", f"{m.tokens:.0f}", ratio]
        lines.append("| " + " | ".join([*cells, flops, share, peak]) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed")
    everywhere = ["testbed", "100m", *(["12b"] if torch.cuda.is_available() else [])]
    parser.add_argument("--models", nargs="+", choices=MODELS, default=everywhere)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-peaks", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.peak:
        print(one_peak(*options.peak))
        return 0
    torch.set_num_threads(options.threads)
    found: list[Measured] = []
    for model in options.models:
        lm = MODELS[model]()
        rate = counting.matmul_rate(lm.device, lm.model.dtype)
        print(f"{lm.name}: matrix products at {rate / 1e9:.0f} GFLOP/s", flush=True)
        for name in options.cases:
            if not CASES[name].fits(lm):
                continue
            found += measure(CASES[name], lm, options.rounds, rate, not options.no_peaks)
            print(table(found[-4:]).splitlines()[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    store.write_json(options.out / "speed.json", [asdict(m) for m in found])
    (options.out / "speed.md").write_text(table(found) + "\n")
    draw(pd.DataFrame([asdict(m) for m in found]), options.out / "speed.png")
    print(table(found))
    return 0
