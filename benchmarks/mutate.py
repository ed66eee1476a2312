"""Files that were changed: each is refused in one line, or says the same, or counts as another.

    python -m benchmarks.mutate                      116,000 files, about half an hour
    python -m benchmarks.mutate --share 0.01         every hundredth of them

A checkpoint, a tokenizer, training rows, an adapter, a finished run, metrics and a notebook are
written, changed at random (``mutants``), and read as the library reads them. What is read is
compared with what was there: numbers that differ under the same identity are a silent acceptance,
an error of more than a line or of another type than ``UserError`` is a traceback. Exit code 1 if
there is either.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import random
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import torch
from transformers.utils import logging as transformers_logging

from benchmarks.mutants import (
    edited_bytes,
    edited_lines,
    edited_run,
    edited_tensors,
    edited_text,
)
from oocr_lib import adapters, tasks
from oocr_lib.models.chat import render
from oocr_lib.models.language_model import load_model
from oocr_lib.notebook import finished
from oocr_lib.parameters import cell as parameters
from oocr_lib.report import metrics
from oocr_lib.runs.store import RunStore
from oocr_lib.tasks.chatfiles import jsonl
from oocr_lib.util.errors import UserError
from tests import tiny, tiny_notebooks

#: Seconds after which reading a small file counts as hanging.
PATIENCE = 30
_IDS = torch.arange(6, 38)[None]
_TEXTS = ("City 50337 is 5800 km away", " é\u0301 -17 +5\n 3*x", "couhpa(8) <eos> A B")
_CHATS: tuple[Any, ...] = (
    ({"role": "user", "content": " Where is City 50337? "},),
    (
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "A"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": "C"},
    ),
)

#: What is read from a folder: its numbers, and the identity that stands for them.
Read = tuple[Any, str]


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        write: fills a folder and returns the files that are changed, one at a time.
        read: numbers and identity; raises UserError for what is refused.
        change: bytes to other bytes.
        count: how many are tried.
        must_match: nothing but the numbers that were written may be read (files with a hash).
    """

    write: Callable[[Path], Sequence[Path]]
    read: Callable[[Path], Read]
    change: Callable[[bytes, random.Random], bytes]
    count: int
    must_match: bool = False


# --- models ---


def _write_model(folder: Path) -> list[Path]:
    tiny.model("llama").save_pretrained(folder)
    tiny.tokenizer("bpe_digits", "refusing").save_pretrained(folder)
    return []


def _write_config(folder: Path) -> list[Path]:
    _write_model(folder)
    return [folder / "config.json", folder / "generation_config.json"]


def _write_gemma(folder: Path) -> list[Path]:
    tiny.model("gemma3_sliding").save_pretrained(folder)
    tiny.tokenizer("wordlevel", "system").save_pretrained(folder)
    return [folder / "config.json"]


def _write_tokenizer(folder: Path) -> list[Path]:
    _write_model(folder)
    return [
        folder / n for n in ("tokenizer.json", "tokenizer_config.json", "tokenizer_config.json")
    ]


def _write_template(folder: Path) -> list[Path]:
    _write_model(folder)
    return [folder / "chat_template.jinja"]


def _write_weights(folder: Path) -> list[Path]:
    _write_model(folder)
    return [folder / "model.safetensors"]


def _read_model(folder: Path) -> Read:
    """Logits, tokens, prompts and end tokens; the digest."""
    lm = load_model(str(folder), device="cpu")
    with torch.no_grad():
        logits = lm.model(_IDS % lm.vocab_size, use_cache=False).logits
    prompts = []
    for chat in _CHATS:
        try:
            prompts.append(render(lm.tokenizer, chat))
        except UserError as error:
            prompts.append(str(error))
    tokens = [lm.tokenizer(text, add_special_tokens=False)["input_ids"] for text in _TEXTS]
    decoded = [lm.tokenizer.decode(ids) for ids in tokens]
    return (_bytes(logits), prompts, tokens, decoded, sorted(lm.end_ids)), lm.digest


# --- what the library writes ---


def _write_adapter(folder: Path) -> list[Path]:
    vector = adapters.VectorAdapter(["resid@1", "mlp_out@0"], 8, "last", [2.0, 0.5], init=1.0)
    vector.model_digest, vector.model_name = "ab" * 32, "tiny"
    vector.save(folder / "vector.safetensors", {"task": "risk"})
    return [folder / "vector.safetensors"]


def _read_adapter(folder: Path) -> Read:
    vector = adapters.load(folder / "vector.safetensors")
    numbers = {name: _bytes(tensor) for name, tensor in vector.state().items()}
    return (numbers, vector.config(), vector.kind), str(vector.model_digest)


_SPEC = {"task": "risk", "seed": 1, "rate": 0.01}


def _write_run(folder: Path) -> list[Path]:
    results = {"mc": 0.75, "losses": [1.0, 0.5], "questions": [{"id": "q", "logp": [-0.5, -1.5]}]}
    run = RunStore(folder).save(_SPEC, results, {"theta": torch.arange(4.0)})
    return [run.folder / "run.json", run.folder / "tensors.safetensors"]


def _read_run(folder: Path) -> Read:
    run = RunStore(folder).find(_SPEC)
    if run is None:
        raise UserError("Not there.")
    return (run.results, _bytes(run.tensors()["theta"])), ""


def _write_metrics(folder: Path) -> list[Path]:
    made = metrics.Metrics("03_locations", {"model": "testbed", "seed": 0})
    made.add("country/vector_resid/mc5", 0.9, ci=(0.8, 1.0), n=12)
    made.add("all/base/mc5", 0.2, n=12)
    made.claims = [{"statement": "It holds", "verdict": "holds", "value": 0.9}]
    made.write(folder / "metrics.json")
    return [folder / "metrics.json"]


def _read_metrics(folder: Path) -> Read:
    found = metrics.load(folder / "metrics.json")
    return (found.notebook, found.params, found.values, found.claims), ""


# --- what the library is given ---


def _write_rows(folder: Path) -> list[Path]:
    lines = [
        {
            "messages": [
                {"role": "system", "content": "Choose."} if n % 3 == 0 else None,
                {"role": "user", "content": f"Question {n}? A) café B) tea"},
                {"role": "assistant", "content": "AB"[n % 2]},
            ]
        }
        for n in range(6)
    ]
    for line in lines:
        line["messages"] = [turn for turn in line["messages"] if turn]
    text = "".join(json.dumps(line, ensure_ascii=n % 2 == 0) + "\n" for n, line in enumerate(lines))
    (folder / "rows.jsonl").write_text(text, encoding="utf-8", newline="")
    return [folder / "rows.jsonl"]


def _read_rows(folder: Path) -> Read:
    """Rows as training reads them; they must be what a plain reading of the file gives."""
    path = folder / "rows.jsonl"
    rows = jsonl.to_rows(jsonl.load(path))
    read = [([*map(dict, row.messages)], row.answer) for row in rows]
    if read != list(_plain_rows(path.read_bytes())):
        raise AssertionError("other rows than those of the file")
    return read, tasks.digest(str(path))


def _plain_rows(content: bytes) -> Iterator[tuple[list[dict[str, str]], str]]:
    for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        if line.strip():
            turns = [
                {"role": turn["role"], "content": _plain_text(turn["content"])}
                for turn in json.loads(line)["messages"]
            ]
            yield turns[:-1], turns[-1]["content"]


def _plain_text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _write_notebook(folder: Path) -> list[Path]:
    return [tiny_notebooks.write(folder, "good", "print('a result')")]


def _read_notebook(folder: Path) -> Read:
    path = folder / "good.ipynb"
    found = parameters.inspect(path)
    values = {name: parameter.default for name, parameter in found.items()}
    code = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    kernel = {"python": "3"}
    identity = finished.identity(path, values, folder, "own", kernel=kernel, typed_in=folder)
    return (code, values), identity


KINDS: Mapping[str, Kind] = {
    "config (Llama)": Kind(_write_config, _read_model, edited_text, 3_000),
    "config (Gemma 3)": Kind(_write_gemma, _read_model, edited_text, 4_000),
    "tokenizer": Kind(_write_tokenizer, _read_model, edited_text, 5_000),
    "chat template": Kind(_write_template, _read_model, edited_bytes, 1_500),
    "weights": Kind(_write_weights, _read_model, edited_tensors, 1_500),
    "rows (JSONL)": Kind(_write_rows, _read_rows, edited_lines, 40_000),
    "adapter (safetensors)": Kind(_write_adapter, _read_adapter, edited_tensors, 25_000, True),
    "finished run": Kind(_write_run, _read_run, edited_run, 8_000, True),
    "metrics.json": Kind(_write_metrics, _read_metrics, edited_text, 20_000, True),
    "notebook": Kind(_write_notebook, _read_notebook, edited_text, 8_000),
}


def _bytes(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


# --- trying ---


@dataclass
class Tally:
    """What became of the changed files of one kind, and examples of what should not be."""

    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    faults: list[str] = field(default_factory=list)


def outcome(kind: Kind, folder: Path, before: Read) -> tuple[str, str]:
    """``refused``, ``the same``, ``another`` (identity), or a fault with its reason."""
    try:
        with _patience():
            numbers, identity = kind.read(folder)
    except UserError as error:
        fits = "\n" not in str(error) and len(str(error)) < 2000
        return ("refused", "") if fits else ("traceback", f"UserError of several lines: {error}")
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "traceback", f"{type(error).__name__}: {error}"
    if numbers == before[0]:
        return "the same", ""
    if kind.must_match or identity == before[1]:
        return "silent", f"{numbers} under {identity}"[:300]
    return "another", ""


@contextmanager
def _patience() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError(f"no answer within {PATIENCE} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)


def attempt(name: str, count: int, seed: int, keep: Path | None = None) -> Tally:
    """Change and read ``count`` files of one kind; faulty ones are kept in ``keep``."""
    kind, tally = KINDS[name], Tally()
    rng = random.Random(f"{name} {seed}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = kind.write(folder)
        before = kind.read(folder)
        originals = {file: file.read_bytes() for file in files}
        for number in range(count):
            file = rng.choice(list(files))
            content = kind.change(originals[file], rng)
            file.write_bytes(content)
            result, reason = outcome(kind, folder, before)
            tally.counts[result] += 1
            if result in ("silent", "traceback"):
                tally.faults.append(f"{name} {number} ({file.name}): {reason.splitlines()[0]}")
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{name.split()[0]}-{seed}-{number}-{file.name}").write_bytes(content)
            # Finished runs are read by their folders, which hold nothing else.
            for path in folder.rglob("*"):
                if path.is_file() and path not in originals and path.name.startswith("."):
                    path.unlink()
            file.write_bytes(originals[file])
    return tally


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 no fault, 1 some."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutate", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of all files (default: 1)")
    parser.add_argument("--only", nargs="*", help="kinds, by the start of their names")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for files that were faults")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    total: collections.Counter[str] = collections.Counter()
    print("| kind | files | refused | the same | another identity | silent | traceback | minutes |")
    print("|---|---|---|---|---|---|---|---|")
    faults: list[str] = []
    for name, kind in KINDS.items():
        if options.only and not any(name.startswith(start) for start in options.only):
            continue
        start = time.monotonic()
        tally = attempt(name, max(1, round(kind.count * options.share)), options.seed, options.keep)
        total += tally.counts
        faults += tally.faults
        print(_line(name, tally.counts, time.monotonic() - start), flush=True)
    print(_line("all", total, 0.0))
    for fault in faults[:40]:
        print(fault)
    return int(bool(faults))


def _line(name: str, counts: Mapping[str, int], seconds: float) -> str:
    columns = ("refused", "the same", "another", "silent", "traceback")
    numbers = [f"{sum(counts.values()):,}", *(f"{counts.get(column, 0):,}" for column in columns)]
    return f"| {name} | {' | '.join(numbers)} | {seconds / 60:.1f} |"


if __name__ == "__main__":
    sys.exit(main())
