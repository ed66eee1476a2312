"""Public calls with wrong types: one line that says what is allowed, no traceback from inside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from oocr_lib import activations, encoding, tasks
from oocr_lib.adapters import LoraAdapter, VectorAdapter
from oocr_lib.analysis import (
    backdoor_mechanism as mechanism,
    lens_and_readout as reading,
    lora_constancy as inside,
    vector_comparison as alternatives,
)
from oocr_lib.evaluation import scores as evaluation
from oocr_lib.models import chat
from oocr_lib.notebook import session as experiment
from oocr_lib.parameters import cell as parameters
from oocr_lib.report import claim_file, claims, metrics, plots
from oocr_lib.report.plots import base as plots_base
from oocr_lib.runs import protocol as comparison
from oocr_lib.runs.grid import Grid, Job, Method
from oocr_lib.runs.store import RunStore, identity
from oocr_lib.runs.study import Study
from oocr_lib.tasks import base
from oocr_lib.tasks.backdoor import testbed as backdoor
from oocr_lib.tasks.chatfiles import dataset_json, jsonl, letters
from oocr_lib.tasks.functions import paper as functions_paper, testbed as functions
from oocr_lib.tasks.locations import paper as locations_paper, testbed as locations
from oocr_lib.tasks.risk import paper as risk_paper, testbed as risk
from oocr_lib.training import loop as training
from oocr_lib.util import arguments, errors, files as store, paths, statistics
from oocr_lib.util.errors import UserError
from tests import toy

LM = toy.language_model()
TOKENIZER = LM.tokenizer
METHOD = Method("vector_resid", "vector", site="resid@0")
JOB = Job(METHOD, "Rome", 0)
TABLE = pd.DataFrame({"a": [1]})
ROWS = toy.make("Rome").train
IDS = torch.zeros(1, 2, dtype=torch.int64)


def grid(folder: Path) -> Grid:
    return Grid(LM, RunStore(folder), toy.make, {"task": "toy"}, "Rome")


CALLS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = [
    (comparison.vector, ("resid", "3", METHOD.config), {}),
    (comparison.lora, (3, METHOD.config), {}),
    (comparison.shuffled, ("vector",), {}),
    (comparison.random_like, (None, METHOD), {}),
    (comparison.sweep, (None, METHOD, [1], [("Rome", 0)], "x"), {}),
    (comparison.choose_block, ([1, 2],), {}),
    (comparison.cross_fitted, (TABLE, None), {}),
    (comparison.choose_rate, (None, METHOD, [0.1], [], "x"), {}),
    (comparison.readable, ([], ["a/b"]), {}),
    (comparison.bars, ({}, 3, "mc"), {}),
    (reading.random_like, ("vectors",), {}),
    (reading.as_long, (torch.ones(1, 2), -1), {}),
    (reading.as_long, ([[1.0]], 0), {}),
    (reading.Vectors, ("naive", "3", [], torch.ones(1, 2)), {}),
    (alternatives.random_starts, (None, 1.0), {}),
    (alternatives.partners, (JOB,), {"same_concept": True}),
    (mechanism.answers, ("case",), {}),
    (mechanism.prompts, (LM, "question"), {}),
    (inside.site_of, ("resid@0",), {}),
    (inside.unrelated, (LM, "8"), {}),
    (Study, (None, None, [0], [("Rome", 0)], "last"), {}),
    (evaluation.summarise, ([1, 2],), {}),
    (evaluation.score, (LM, toy.questions("Rome"), None, [0]), {}),
    (encoding.encode, (TOKENIZER, "text"), {}),
    (encoding.encode, (TOKENIZER, base.user("text"), None), {}),
    (encoding.encode_row, (TOKENIZER, "row"), {}),
    (encoding.encode_question, (TOKENIZER, ROWS[0], "a"), {}),
    (encoding.collate, (None, 0), {}),
    (encoding.collate, ([], "0"), {}),
    (chat.render, (TOKENIZER, "text"), {}),
    (chat.render, (TOKENIZER, [{"content": "x"}]), {}),
    (chat.render, (TOKENIZER, [{"role": "user"}]), {}),
    (chat.render, (TOKENIZER, [{"role": "user", "content": None}]), {}),
    (chat.render, (TOKENIZER, [{"role": "user", "content": ["x"]}]), {}),
    (chat.rendered, (TOKENIZER, [{"role": "user", "content": 3}]), {}),
    (chat.rendered, (TOKENIZER, [3]), {}),
    (metrics.Metrics("n", {}).add, ("a/base/mc", None), {}),
    (metrics.Metrics("n", {}).add, (3, 0.5), {}),
    (metrics.Metrics("n", {}).add, ("a/base/mc", 0.5, [0.4]), {}),
    (metrics.Metrics("n", {}).add, ("a/base/mc", 0.5, 0.4), {}),
    (metrics.Metrics("n", {}).add, ("a/base/mc", 0.5, [0.4, "x"]), {}),
    (metrics.load, (3,), {}),
    (metrics.compare, ({}, {}, {}), {}),
    (store.read_json, (3,), {}),
    (store.write_json, (None, {}), {}),
    (store.save_tensors, ("x", [torch.ones(1)], {}), {}),
    (store.load_tensors, (None,), {}),
    (RunStore, (None,), {}),
    (identity, ("spec",), {}),
    (jsonl.load, (3,), {}),
    (jsonl.write, (3, []), {}),
    (jsonl.Style, ("yes",), {}),
    (dataset_json.load, (3,), {}),
    (letters.letter_rows, (3,), {}),
    (letters.letter_rows, (ROWS, 3), {}),
    (base.split_by_group, (ROWS, "a", 0), {}),
    (base.shuffle_answers, (ROWS, None), {}),
    (risk.make, ("risky",), {"count": "288"}),
    (risk_paper.make, ("risky",), {"valid_share": "a"}),
    (backdoor.make, ("SKIP",), {"seed": "0"}),
    (locations.make, ("Paris",), {"seed": 1.5}),
    (locations_paper.make, ("Paris",), {"seed": True}),
    (functions.make, ("affine_3x_2",), {"seed": None}),
    (functions.make, ("identity",), {"all_hidden": ["identity", "identity"]}),
    (functions_paper.make, (3,), {}),
    (tasks.factory, (3,), {}),
    (tasks.factory("risk"), ("risky", "0"), {}),
    (tasks.factory("risk"), (None, 0), {}),
    (statistics.bootstrap, (3,), {}),
    (statistics.bootstrap, ([0.1, 0.2],), {"seed": -1}),
    (statistics.bootstrap, ([0.1, 0.2],), {"resamples": "many"}),
    (plots.method_bars, (3, "title"), {}),
    (plots.layer_sweep, ("table", "title"), {}),
    (plots_base.png, ("figure",), {}),
    (plots_base.alt, (3,), {}),
    (claims.judge, (None, "folder"), {}),
    (claim_file.load, (3,), {}),
    (activations.capture, (LM, IDS + LM.vocab_size, ["resid@0"]), {}),
    (activations.capture, (LM, IDS[:, :0], []), {}),
    (activations.capture, (LM, IDS - 1, []), {}),
    (training.validate, (LM, None, [], 0), {}),
    (training.RunData, ([], [], -1), {}),
    (LoraAdapter, ("all",), {"seed": 2**32}),
    (VectorAdapter, (["resid@0"], 4, "last", [1.0]), {"seed": -1}),
    (Method, ("a", "lora"), {"rank": 0}),
    (Method, ("a", "lora"), {"dropout": 2.0}),
    (LoraAdapter("all").restore, ({},), {}),
    (experiment.start, (None,), {}),
    (arguments.check_seed, (True,), {}),
    (paths.resolve, (3,), {}),
    (paths.resolve, ("~nosuchuser/x",), {}),
    (paths.resolve, ("x" * 5000,), {}),
    (parameters.parse, ("seed", "010", "int"), {}),
    (parameters.parse, ("seed", "1_0", "int"), {}),
    (parameters.parse, ("lr", "1_0.5", "float"), {}),
    (parameters.parse, ("lr", "00.5", "float"), {}),
    (errors.choose, (TABLE, ("a", "b"), "thing"), {}),
    (errors.choose, ("x\n" * 1000, ("a", "b"), "thing"), {}),
    (base.Row, (base.user("x"), TABLE), {}),
    (base.Question, (base.user("x"), "a", TABLE, "f"), {}),
]


def _name(call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]) -> str:
    function = call[0]
    return getattr(function, "__qualname__", str(function))


@pytest.mark.parametrize("call", CALLS, ids=_name)
def test_a_wrong_type_is_refused_in_one_line(
    call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]],
) -> None:
    function, args, kwargs = call
    with pytest.raises(UserError) as error:
        function(*args, **kwargs)
    message = str(error.value)
    assert message and "\n" not in message and len(message) < 600


@pytest.mark.parametrize("name", ["trained", "adapter", "runs", "run", "questions"])
def test_a_grid_refuses_what_are_no_jobs(tmp_path: Path, name: str) -> None:
    for jobs in (None, JOB, ["job"], "jobs"):
        with pytest.raises(UserError, match="jobs") as error:
            getattr(grid(tmp_path), name)(jobs)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["trained", "adapter"])
def test_no_jobs_have_no_adapter(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="0 jobs have no adapter"):
        getattr(grid(tmp_path), name)([])


def test_a_store_refuses_what_are_no_specs(tmp_path: Path) -> None:
    runs = RunStore(tmp_path)
    calls: list[Callable[[Any], object]] = [
        runs.find,
        lambda bad: runs.save(bad, {}),
        lambda bad: runs.save({}, bad),
    ]
    for call in calls:
        with pytest.raises(UserError, match="a dict"):
            call([1])


def test_numpy_numbers_are_taken_by_tasks() -> None:
    made = risk.make("risky", seed=np.int64(1), count=np.int32(40))  # type: ignore[arg-type]
    assert made == risk.make("risky", seed=1, count=40)
    assert type(tasks.factory("risk")("risky", np.int64(1)).seed) is int  # type: ignore[arg-type]


def test_a_foreign_class_may_stand_in_for_one_without_fields() -> None:
    class Fake:
        def trained(self, jobs: object) -> str:
            return "fake"

    @arguments.checked
    def call(grid: Grid) -> Any:
        return grid.trained([])

    assert call(Fake()) == "fake"  # type: ignore[arg-type]
    for wrong in ("grid", None, METHOD, 3):
        with pytest.raises(UserError, match="Allowed: Grid"):
            call(wrong)  # type: ignore[arg-type]
