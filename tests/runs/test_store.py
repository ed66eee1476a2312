"""Run identity, folders that are complete or absent, reuse, two processes at once."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st

from oocr_lib.runs import store as runs
from oocr_lib.runs.store import Run, RunStore, code_version, identity, package_versions
from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import ROOT

SPEC = {"task": "locations", "hidden": "Lyon", "seed": 0, "adapter": {"sites": ["resid@0"]}}
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)  # fmt: skip
specs = st.dictionaries(st.text(max_size=5), plain, max_size=4)


@given(specs)
def test_identity_depends_on_content_only(spec: dict[str, object]) -> None:
    assert identity(dict(reversed(spec.items()))) == identity(spec)
    assert identity(json.loads(json.dumps(spec))) == identity(spec)
    assert len(identity(spec)) == 16


@given(specs, specs)
def test_different_specs_have_different_identities(
    a: dict[str, object], b: dict[str, object]
) -> None:
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (identity(a) == identity(b)) == same


def test_tuples_are_lists() -> None:
    assert identity({"a": (1, 2)}) == identity({"a": [1, 2]})


@pytest.mark.parametrize(
    ("bad", "place"),
    [
        ({"lr": float("nan")}, "spec.lr is nan"),
        ({"a": [1, {"b": {1, 2}}]}, r"spec.a\[1\].b is a set"),
        ({"a": {1: 2}}, "spec.a has the key 1"),
        ({"model": torch.zeros(1)}, "spec.model is a Tensor"),
    ],
)
def test_what_cannot_be_saved_is_named(bad: dict[str, object], place: str) -> None:
    with pytest.raises(UserError, match=place):
        identity(bad)


def test_a_saved_run_is_found_with_all_it_had(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    assert store.find(SPEC) is None
    theta = torch.randn(3, 8)
    saved = store.save(SPEC, {"mc5": 0.9, "curve": (1.0, 0.5)}, {"theta": theta}, seconds=1.5)
    run = RunStore(tmp_path).find(SPEC)
    assert run == saved
    assert run.results == {"mc5": 0.9, "curve": [1.0, 0.5]}
    assert torch.equal(run.tensors()["theta"], theta)
    assert run.seconds == 1.5
    assert run.provenance["threads"] == torch.get_num_threads()
    assert run.provenance["versions"]["torch"] == torch.__version__
    assert run.spec["versions"]["code"] == code_version()
    assert (store.saved, store.reused) == (1, 0)
    assert store.find({**SPEC, "seed": 1}) is None


def test_a_package_that_is_not_there_has_no_version() -> None:
    found = package_versions("torch", "no-such-package")
    assert found == {"torch": torch.__version__, "no-such-package": "absent"}


def test_a_run_without_tensors(tmp_path: Path) -> None:
    run = RunStore(tmp_path).save(SPEC, {"mc5": 0.2})
    assert run.tensors() == {}
    assert sorted(path.name for path in run.folder.iterdir()) == ["run.json"]


def test_changed_code_never_finds_old_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore(tmp_path)
    store.save(SPEC, {"mc5": 0.9})
    monkeypatch.setattr(runs, "code_version", lambda: "another")
    assert store.find(SPEC) is None


@pytest.mark.parametrize("package", runs.PACKAGES)
def test_another_version_of_a_package_never_finds_old_results(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore(tmp_path)
    store.save(SPEC, {"mc5": 0.9})
    real = runs._installed
    monkeypatch.setattr(runs, "_installed", lambda name: "0" if name == package else real(name))
    assert store.find(SPEC) is None


def test_a_result_that_somebody_changed_is_not_found(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    run = store.save(SPEC, {"mc5": 0.9})
    file = run.folder / "run.json"
    file.write_text(file.read_text().replace("0.9", "0.8"))
    assert store.find(SPEC) is None


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink], ids=lambda f: f.__name__)
@pytest.mark.parametrize("file", ["run.json", "tensors.safetensors"])
def test_damaged_runs_count_as_absent_and_are_replaced(tmp_path: Path, file: str, damage) -> None:
    store = RunStore(tmp_path)
    run = store.save(SPEC, {"mc5": 0.9}, {"theta": torch.ones(4)})
    if file == "run.json" and damage is flip:  # JSON has no checksum: change what it is about
        content = json.loads((run.folder / file).read_text())
        content["spec"]["seed"] = 7
        (run.folder / file).write_text(json.dumps(content))
    else:
        damage(run.folder / file)
    assert store.find(SPEC) is None
    store.save(SPEC, {"mc5": 0.8}, {"theta": torch.zeros(4)})
    again = store.find(SPEC)
    assert again is not None and again.results == {"mc5": 0.8}
    assert torch.equal(again.tensors()["theta"], torch.zeros(4))
    assert [path.name for path in tmp_path.iterdir()] == [run.id]


def test_an_interrupted_save_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("oocr_lib.util.files.write_json", interrupt)
    with pytest.raises(KeyboardInterrupt):
        RunStore(tmp_path).save(SPEC, {"mc5": 0.9}, {"theta": torch.ones(4)})
    assert list(tmp_path.iterdir()) == []


def test_a_killed_save_is_not_a_run_and_goes_away(tmp_path: Path) -> None:
    partial = tmp_path / f".partial-{identity(SPEC)}-1"
    partial.mkdir()
    (partial / "run.json").write_text("{}")
    RunStore(tmp_path)
    assert partial.exists()  # its process may still be writing
    old = time.time() - 2 * 24 * 3600
    os.utime(partial, (old, old))
    assert RunStore(tmp_path).find(SPEC) is None
    assert not partial.exists()


def test_the_first_of_two_equal_runs_stays(tmp_path: Path) -> None:
    RunStore(tmp_path).save(SPEC, {"mc5": 0.9})
    assert RunStore(tmp_path).save(SPEC, {"mc5": 0.1}).results == {"mc5": 0.9}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_run_that_another_process_finishes_between_two_looks_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunStore(tmp_path).save(SPEC, {"mc5": 0.9})
    read, looks = RunStore._read, list[str]()

    def late(self: RunStore, run_id: str) -> Run | None:
        looks.append(run_id)
        return read(self, run_id) if len(looks) > 1 else None

    monkeypatch.setattr(RunStore, "_read", late)
    assert RunStore(tmp_path).save(SPEC, {"mc5": 0.1}).results == {"mc5": 0.9}


WRITER = """
import sys
from oocr_lib.runs.store import RunStore
store = RunStore(sys.argv[1])
for seed in range(40):
    run = store.save({"seed": seed, "code": "same"}, {"by": sys.argv[2]})
    assert store.find({"seed": seed, "code": "same"}).results == run.results
"""


def test_two_processes_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    children = [subprocess.Popen([*command, name]) for name in "ab"]
    assert [child.wait(120) for child in children] == [0, 0]
    store = RunStore(tmp_path)
    assert all(store.find({"seed": seed, "code": "same"}) for seed in range(40))
    assert len(list(tmp_path.iterdir())) == 40


def test_many_small_runs_are_saved_fast(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.save({"seed": -1}, {})
    start = time.process_time()
    for seed in range(150):
        store.save({"seed": seed}, {"mc5": 0.5}, {"theta": torch.zeros(16, 128)})
    assert time.process_time() - start < 2.0


def test_unwritable_root_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write runs to") as error:
        RunStore(tmp_path / "file").save(SPEC, {})
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"results\.loss is nan"):
        RunStore(tmp_path).save(SPEC, {"loss": float("nan")})


def imports(file: Path) -> Iterator[str]:
    """Modules of the library that a file imports, as paths below the package."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("oocr_lib"):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.startswith("oocr_lib.")}
    for name in names:
        path = name.replace(".", "/").removeprefix("oocr_lib").removeprefix("/")
        for candidate in (f"{path}.py", f"{path}/__init__.py"):
            if (ROOT / "oocr_lib" / candidate).is_file():
                yield candidate


#: Library modules that runs use and that cannot change a number.
NEUTRAL = {"__init__.py", "runs/__init__.py", "runs/store.py"}


def test_the_code_version_covers_all_that_determines_a_run() -> None:
    package = ROOT / "oocr_lib"
    files = [f for name in runs.SOURCES for f in (package / name, *(package / name).rglob("*.py"))]
    covered = {f.relative_to(package).as_posix() for f in files if f.is_file()}
    needed = {name for file in covered for name in imports(package / file)}
    assert {name for name in needed if not name.startswith("util/")} <= covered | NEUTRAL
    assert not any(name.startswith(("report", "runner", "notebook")) for name in covered)
    assert all((package / name).exists() for name in runs.SOURCES)


def test_the_code_version_sees_every_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = tmp_path / "world"
    world.mkdir()
    (world / "cities.csv").write_text("a")
    (world / "coastlines.csv").write_text("a")
    monkeypatch.setattr(runs, "data_dir", lambda: tmp_path)
    fresh = code_version.__wrapped__
    first = fresh()
    (world / "coastlines.csv").write_text("only drawn")
    assert fresh() == first
    (world / "cities.csv").write_text("b")
    assert fresh() != first
