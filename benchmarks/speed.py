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
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from benchmarks import counting
from benchmarks.cases import CASES, Bench, Measured
from benchmarks.shapes import MODELS
from oocr_lib.models import packaged
from oocr_lib.util import files as store

#: Seconds after which a case is not measured in another round.
PATIENCE = 150.0
NAMES = {"testbed": "testbed", "smollm2": "smollm2", "gemma3-100m": "100m", "gemma3-12b": "12b"}


def measure(bench: Bench, rounds: int, rate: float, threads: int, peaks: bool) -> list[Measured]:
    """All contestants of one case, in turns."""
    contestants = bench.contestants()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    began = pd.Timestamp.now()
    for number in range(rounds):
        # The order turns round, so that nobody always runs on a warm or a tired machine.
        for name in list(contestants)[:: -1 if number % 2 else 1]:
            times[name].append(contestants[name]())
        if (pd.Timestamp.now() - began).total_seconds() > PATIENCE:
            break
    work, gap, found = bench.work(), bench.gap(), []
    for name, taken in times.items():
        ratios = np.array(taken) / np.array(times["ours"])
        seconds = float(np.median(taken))
        counted = work.get(name, float("nan"))
        peak = _peak(bench, name, threads) if peaks and name in ("ours", "loop") else float("nan")
        found.append(
            Measured(
                *(bench.lm.name, bench.case.name, name, seconds),
                *(float(np.median(ratios)), float(ratios.min()), float(ratios.max())),
                tokens=bench.tokens() / seconds,
                work=counted,
                share=counted / seconds / rate,
                peak=peak,
                gap=gap if name == "loop" else float("nan"),
            )
        )
    return found


def _peak(bench: Bench, name: str, threads: int) -> float:
    """Peak memory of one contestant, in a process of its own."""
    asked = [bench.case.name, name, NAMES[bench.lm.name]]
    command = [sys.executable, "-m", "benchmarks.speed", "--threads", str(threads), "--peak"]
    done = subprocess.run([*command, *asked], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def one_peak(case: str, name: str, model: str) -> float:
    """The same, within that process: bytes above the loaded model and its rows."""
    bench = Bench(CASES[case], MODELS[model]())
    return counting.peak_bytes(bench.contestants()[name], bench.lm.device)


def table(found: Sequence[Measured]) -> str:
    """A table for REPRODUCE.md."""
    titles = [
        *("model", "work", "who", "ms a step and run", "tokens a second", "times ours"),
        *("counted GFLOP", "of the matmul rate", "peak memory", "differs by"),
    ]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for m in found:
        ratio = "1" if m.who == "ours" else f"{m.ratio:.1f} [{m.low:.1f}, {m.high:.1f}]"
        cells = [m.model, m.case, m.who, f"{1000 * m.seconds:.3g}", f"{m.tokens:.3g}", ratio]
        cells += [_shown(m.work / 1e9, ".3g"), _shown(m.share, ".0%")]
        cells += [_shown(m.peak / 2**20, ".0f", " MB"), _shown(m.gap, ".0e")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plain(measured: Measured) -> dict[str, object]:
    """As JSON: what was not measured is null."""
    return {k: None if v != v else v for k, v in asdict(measured).items()}


def _shown(value: float, form: str, unit: str = "") -> str:
    return "–" if np.isnan(value) else f"{value:{form}}{unit}"


def draw(found: Sequence[Measured]) -> Figure:
    """How many times as long the rivals take, by case; whiskers are the range over rounds."""
    figure = Figure(figsize=(9, 0.36 * len(found) + 1.2), layout="constrained")
    axes = figure.subplots()
    shown = [m for m in found if m.who != "ours"][::-1]
    colors = {"loop": "#0072B2", "BEFT + Trainer": "#E69F00", "peft + Trainer": "#009E73"}
    for row, m in enumerate(shown):
        axes.barh(row, m.ratio, color=colors[m.who], height=0.7)
        axes.plot([m.low, m.high], [row, row], color="black", linewidth=1.2)
    axes.set_yticks(
        range(len(shown)), [f"{m.who}: {m.case} ({m.model})" for m in shown], fontsize=8
    )
    axes.set_xscale("log")
    axes.axvline(1, color="black", linestyle="--", linewidth=1)
    axes.set_xlabel("times as long as this library (log scale; dashed: equal)")
    axes.set_title("Time a step and run; whiskers: range over rounds")
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed")
    real = "smollm2" if packaged.is_here("smollm2") else "100m"
    everywhere = ["testbed", real, *(["12b"] if torch.cuda.is_available() else [])]
    parser.add_argument("--models", nargs="+", choices=MODELS, default=everywhere)
    parser.add_argument("--cases", nargs="+", choices=CASES, help="default: all that fit the model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-peaks", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.peak:
        print(one_peak(*options.peak))
        return 0
    found: list[Measured] = []
    for model in options.models:
        lm = MODELS[model]()
        rate = counting.matmul_rate(lm.device, lm.model.dtype)
        print(f"{lm.name}: matrix products at {rate / 1e9:.0f} GFLOP/s", flush=True)
        own = [name for name, case in CASES.items() if case.task == "attributes"]
        fit = [name for name, case in CASES.items() if case.large or model == "testbed"]
        fit = own if model == "smollm2" else [name for name in fit if name not in own]
        for name in options.cases or fit:
            bench = Bench(CASES[name], lm)
            measured = measure(bench, options.rounds, rate, options.threads, not options.no_peaks)
            found += measured
            print("\n".join(table(measured).splitlines()[2:]), flush=True)
            options.out.mkdir(parents=True, exist_ok=True)
            store.write_json(options.out / "speed.json", [plain(m) for m in found])
    (options.out / "speed.md").write_text(table(found) + "\n")
    draw(found).savefig(options.out / "speed.png", dpi=150)
    return 0


if __name__ == "__main__":
    sys.exit(main())
