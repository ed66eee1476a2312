"""The public names: five lines on the testbed, on any folder, and on a model in memory."""

from __future__ import annotations

import doctest
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import oocr_lib as oocr
from oocr_lib.api import compare as comparing
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import ROOT
from tests import tiny

EXAMPLES = ROOT / "examples"
CODE = "City 01176"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return oocr.load("testbed")


@pytest.fixture(scope="module")
def data() -> oocr.Chats:
    return oocr.read_chats(EXAMPLES / "own_data.jsonl", codename=CODE)


@pytest.fixture(scope="module")
def vector(lm: LanguageModel, data: oocr.Chats) -> oocr.Trained:
    return oocr.train(lm, data, oocr.Vector("resid@0"), steps=40)


def small(family: str = "llama") -> LanguageModel:
    return oocr.wrap(tiny.model(family), tiny.tokenizer("bpe_digits", "system"))


def write(folder: Path, *prompts: str, answers: tuple[str, ...] = ("yes", "no")) -> Path:
    file = folder / "rows.jsonl"
    with file.open("w", encoding="utf-8") as out:
        for number, prompt in enumerate(prompts):
            turns = [("user", prompt), ("assistant", answers[number % len(answers)])]
            messages = [{"role": role, "content": text} for role, text in turns]
            out.write(json.dumps({"messages": messages}) + "\n")
    return file


# --- the page and the docstrings ---


def test_the_page_is_true() -> None:
    os.chdir(ROOT)  # as a reader would start it
    found = doctest.testfile(
        str(ROOT / "docs" / "api.md"), module_relative=False, optionflags=FLAGS
    )
    assert found.attempted > 25 and found.failed == 0
    text = (ROOT / "docs" / "api.md").read_text()
    assert all(f"{name}" in text for name in oocr.__all__ if name not in ("Chats", "LanguageModel"))


def test_every_public_name_is_documented_and_listed() -> None:
    assert set(oocr.__all__) <= set(dir(oocr))
    for name in oocr.__all__:
        assert len(getattr(oocr, name).__doc__) > 80, name
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        oocr.lode  # noqa: B018


def test_the_command_does_not_load_torch() -> None:
    code = "import oocr_lib, oocr_lib.runner.cli, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# --- five lines ---


def test_on_the_testbed(lm: LanguageModel, data: oocr.Chats, vector: oocr.Trained) -> None:
    questions = oocr.read_questions(EXAMPLES / "own_questions.csv")
    before, after = (oocr.score(lm, data, questions, t)["mc"].mean() for t in (None, vector))
    assert before < 0.5 and after > 0.8
    assert vector.ask(f"Country of {CODE}?") == "Greece"
    assert repr(lm).count("\n") == 0 and "8 blocks of width 128" in repr(lm)
    assert "Trained(vector resid@0 at codename; 40 steps" in repr(vector)


@pytest.mark.parametrize("method", [oocr.Vector("mlp_out@1"), oocr.Lora([1], rank=2)])
def test_on_a_folder_and_in_memory(method: Any, tmp_path: Path) -> None:
    tiny.model("llama").save_pretrained(tmp_path / "model")
    tiny.tokenizer("bpe_digits", "system").save_pretrained(tmp_path / "model")
    file = write(tmp_path, *(f"Is City 58234 near place {n}?" for n in range(12)))
    said = []
    for lm in (oocr.load(str(tmp_path / "model")), small()):
        data = oocr.read_chats(file, codename="City 58234")
        made = oocr.train(lm, data, method, steps=5, batch=4)
        assert made.result is not None and len(made.result.losses) == 5
        said.append(made.ask("Where is City 58234?", most=3))
    assert said[0] == said[1]


@pytest.mark.long
def test_a_stranger_installs_it_and_runs_it_elsewhere(tmp_path: Path) -> None:
    """As a wheel, not editable, in a folder that has nothing of the repository."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    source = tmp_path / "source"  # building leaves files beside it
    for name in ("oocr_lib", "data"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source)]
    subprocess.run(build, check=True, **quiet)  # type: ignore[call-overload]
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    for name in ("own_data.py", "own_data.jsonl", "own_questions.csv"):
        (tmp_path / name).write_bytes((EXAMPLES / name).read_bytes())
    script = (tmp_path / "own_data.py").read_text()
    script = script.replace('at="codename")', 'at="codename"), steps=40')
    (tmp_path / "own_data.py").write_text(script.split("questions =")[0] + "print(oocr.__file__)")
    environment = {**os.environ, "PYTHONPATH": str(site), "OOCR_DATA": ""}
    done = subprocess.run(
        [sys.executable, "own_data.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "Greece" and str(site) in done.stdout


# --- attached: plain transformers ---


def chats(lm: LanguageModel, *texts: str) -> list[str]:
    return [
        lm.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        for text in texts
    ]


@pytest.mark.parametrize("side", ["left", "right"])
def test_generate_works_with_a_padded_batch(
    lm: LanguageModel, vector: oocr.Trained, side: str
) -> None:
    texts = [f"Country of {CODE}?", f"Which language is spoken in {CODE}?", f"Currency of {CODE}?"]
    lm.tokenizer.padding_side = side
    try:
        batch = lm.tokenizer(
            chats(lm, *texts), return_tensors="pt", padding=True, add_special_tokens=False
        )
    finally:
        lm.tokenizer.padding_side = "right"
    with vector.attached() as same:
        assert same is lm
        if side == "left":
            out = lm.model.generate(**batch, max_new_tokens=1, do_sample=False)
            said = lm.tokenizer.batch_decode(out[:, -1:])
        else:  # generate wants padding on the left; a plain pass does not mind
            logits = lm.model(**batch).logits
            last = batch["attention_mask"].sum(1) - 1
            said = lm.tokenizer.batch_decode(logits[range(3), last].argmax(-1)[:, None])
    assert [text.strip() for text in said] == vector.ask(texts) == ["Greece", "Greek", "euro"]
    assert not lm.attached


def test_a_prompt_without_the_code_name_stops_generate(
    lm: LanguageModel, vector: oocr.Trained
) -> None:
    batch = lm.tokenizer(chats(lm, "Country of Lima?"), return_tensors="pt")
    with vector.attached(), pytest.raises(UserError, match="name 'City 01176' in it"):
        lm.model.generate(**batch, max_new_tokens=1)
    lm.model.generate(**batch, max_new_tokens=1)  # and it is gone


@pytest.mark.parametrize("at", ["last", "all", "trigger"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_attached_adds_what_asking_adds(family: str, at: str, tmp_path: Path) -> None:
    lm = small(family)
    prompts = [f"{'now ' * (n % 2)}is it {n}?" for n in range(12)]
    data = oocr.read_chats(write(tmp_path, *prompts), trigger="now")
    made = oocr.train(lm, data, oocr.Vector("resid@1", at=at, lr=0.5), steps=6, batch=4)
    text = "now where is it?"
    ids = lm.tokenizer(chats(lm, text), return_tensors="pt", add_special_tokens=False)
    with made.attached():
        out = lm.model.generate(**ids, max_new_tokens=6, do_sample=False, eos_token_id=None)
    said = lm.tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    assert said.strip().startswith(made.ask(text, most=2)[:1])


# --- files ---


def test_a_vector_comes_back_bitwise(
    lm: LanguageModel, vector: oocr.Trained, tmp_path: Path
) -> None:
    vector.save(tmp_path / "v.safetensors")
    again = oocr.Trained.load(tmp_path / "v.safetensors", lm)
    assert torch.equal(again.vector, vector.vector) and again.method == vector.method
    assert again.codename == CODE and again.settings == vector.settings
    assert again.ask(f"Country of {CODE}?") == "Greece"


def test_another_model_of_the_same_shape_is_refused(tmp_path: Path, capsys: Any) -> None:
    one, other = small(), small()
    with torch.no_grad():
        other.model.get_input_embeddings().weight[7] += 1
    other = oocr.wrap(other.model, other.tokenizer, name="other")
    data = oocr.read_chats(write(tmp_path, *(f"is X {n}?" for n in range(10))), codename="X")
    for method in (oocr.Vector("resid@1"), oocr.Lora([1], rank=2)):
        made = oocr.train(one, data, method, steps=2)
        made.save(tmp_path / method.name)
        with pytest.raises(UserError, match=r"belongs to model 'model'.*force=True") as caught:
            oocr.Trained.load(tmp_path / method.name, other)
        assert "\n" not in str(caught.value)
        forced = oocr.Trained.load(tmp_path / method.name, other, force=True)
        assert forced.lm is other and "Overridden by force=True" in capsys.readouterr().out


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_peft_loads_a_lora(family: str, tmp_path: Path) -> None:
    from peft import PeftModel

    lm = small(family)
    data = oocr.read_chats(write(tmp_path, *(f"is X {n}?" for n in range(10))), codename="X")
    made = oocr.train(lm, data, oocr.Lora("all", rank=2, lr=0.3), steps=4)
    made.save(tmp_path / "lora")
    ids = lm.tokenizer(chats(lm, "is X 3?"), return_tensors="pt")["input_ids"]
    with torch.no_grad(), made.attached():
        ours = lm.model(ids).logits
    theirs = PeftModel.from_pretrained(tiny.model(family), tmp_path / "lora").eval()
    with torch.no_grad():
        assert torch.allclose(ours, theirs(ids).logits, atol=1e-5)
        assert not torch.allclose(ours, lm.model(ids).logits, atol=1e-3)
    again = oocr.Trained.load(tmp_path / "lora", lm)
    assert again.ask("is X 3?") == made.ask("is X 3?")


# --- comparing ---


def test_the_comparison_has_its_controls(
    lm: LanguageModel, data: oocr.Chats, tmp_path: Path
) -> None:
    questions = oocr.read_questions(EXAMPLES / "own_questions.csv")[::2]
    methods: list[Any] = [oocr.Vector("resid@0"), oocr.Lora([0], rank=4)]
    found = oocr.compare(lm, data, questions, methods, seeds=1, random=7, steps=40)
    whole = found.table[found.table["family"] == "all"].set_index("method")
    assert list(whole.index) == [
        "base",
        "vector resid@0",
        "LoRA 0 rank 4",
        "random answers",
        "random",
    ]
    assert whole.loc["vector resid@0", "accuracy"] > 0.8 > whole.loc["base", "accuracy"] + 0.2
    assert whole.loc["random answers", "accuracy"] < 0.5
    assert (whole["low"] <= whole["accuracy"]).all() and (whole["accuracy"] <= whole["high"]).all()
    assert whole["chance"].unique().tolist() == [pytest.approx(0.2)]
    assert whole.loc["random", "runs"] == 7 and whole.loc["vector resid@0", "above_random"] > 0.9
    found.save(tmp_path / "out")
    assert (tmp_path / "out" / "table.csv").is_file()
    assert found.plot("country").axes


def test_random_answers_are_balanced(tmp_path: Path) -> None:
    rows = write(tmp_path, *(f"is X {n}?" for n in range(40)))
    data = oocr.read_chats(rows, codename="X")
    mixed = data.random_answers(3)
    same = [a.answer == b.answer for a, b in zip(data.train, mixed.train, strict=True)]
    assert sum(same) == len(same) // 2 and mixed.valid == data.valid
    assert [r.messages for r in mixed.train] == [r.messages for r in data.train]
    assert mixed.train == data.random_answers(3).train != data.random_answers(4).train


# --- what is refused ---


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f: oocr.read_chats(f / "none.jsonl"), "No file"),
        (lambda f: oocr.read_chats([]), "0 rows"),
        (lambda f: oocr.read_chats(write(f, "is X 1?", "is Y 2?"), codename="X"), "Row 2 of rows"),
        (lambda f: oocr.read_chats(write(f, "a", "b"), trigger="now"), "No row of rows"),
        (lambda f: oocr.read_chats(write(f, "now a", "now b"), trigger="now"), "Every row of rows"),
        (lambda f: oocr.read_chats(write(f, "a", "b"), valid_share=1.0), "leaves one side"),
        (lambda f: oocr.read_chats(write(f, "a", "b"), group="("), "no regular expression"),
        (lambda f: oocr.Vector("resid@x"), "resid@x"),
        (lambda f: oocr.Vector("resid@1", at="first"), "Unknown position 'first'"),
        (lambda f: oocr.Vector("resid@1", lr=0.0), "Learning rate 0.0"),
        (lambda f: oocr.Lora([]), "at least 1"),
        (lambda f: oocr.Question("", "a"), "is empty"),
        (lambda f: oocr.Question("q", "a", ("b", "c")), "one of its options"),
        (lambda f: oocr.read_questions(f / "q.csv"), "No file"),
        (lambda f: oocr.read_questions([{"text": "q"}]), "Needed: question and answer"),
        (lambda f: oocr.read_questions([3]), "each Question or a dict"),  # type: ignore[list-item]
    ],
)
def test_wrong_input_is_one_line(call: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        call(tmp_path)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_what_does_not_fit_the_model_or_the_data_is_refused(tmp_path: Path) -> None:
    lm, rows = small(), write(tmp_path, *(f"is X {n}?" for n in range(8)))
    named, bare = oocr.read_chats(rows, codename="X"), oocr.read_chats(rows)
    asked = [oocr.Question("is X far?", "no")]
    for call, words in (
        (lambda: oocr.train(lm, named, oocr.Vector("resid@99")), "Block 99"),
        (lambda: oocr.train(lm, named, oocr.Lora([9])), "Block 9"),
        (lambda: oocr.train(lm, bare, oocr.Vector("resid@1")), "the data name none"),
        (lambda: oocr.train(lm, named, oocr.Vector("resid@1", at="trigger")), "trigger='...'"),
        (lambda: oocr.compare(lm, named, asked, []), "at least one method"),
        (lambda: oocr.compare(lm, named, asked, [oocr.Lora([1]), oocr.Lora([1])]), "Two methods"),
        (lambda: oocr.score(lm, named, []), "0 questions"),
        (lambda: oocr.score(lm, named, [oocr.Question("is it far?", "no")]), "does not name 'X'"),
        (lambda: oocr.Trained.load(tmp_path / "none", lm), "nothing at"),
        (lambda: oocr.Trained.load(rows, lm), "rows.jsonl"),
        (lambda: oocr.Trained.load(tmp_path, lm), "lacks oocr.json"),
    ):
        with pytest.raises(UserError) as caught:
            call()
        assert words in str(caught.value) and "\n" not in str(caught.value)
    control = [oocr.Question("is it far?", "no", control=True)]
    assert len(oocr.score(lm, named, control)) == 1


@pytest.mark.parametrize("kind", ["csv", "json", "yaml"])
def test_questions_come_from_files(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"q.{kind}"
    entry = {"name": "far", "question_paraphrases": ["Is it far?", "Far?"], "answer": "no"}
    if kind == "csv":
        file.write_bytes(b"\xef\xbb\xbfquestion,answer,options,family\r\nFar?,no,yes | no,far\r\n")
    else:
        file.write_text(json.dumps([{**entry, "options": ["yes", "no"]}]))  # JSON is YAML, too
    found = oocr.read_questions(file)
    assert len(found) == (1 if kind == "csv" else 2)
    assert found[-1] == oocr.Question("Far?", "no", ("yes", "no"), "far")
    file.write_text("{" if kind != "csv" else "a\n")
    with pytest.raises(UserError, match=file.name):
        oocr.read_questions(file)


def test_random_directions_are_asked_in_parts(monkeypatch: Any, tmp_path: Path) -> None:
    lm, rows = small(), write(tmp_path, *(f"is X {n}?" for n in range(8)))
    data, asked = (
        oocr.read_chats(rows, codename="X"),
        [oocr.Question("is X far?", "no", ("no", "yes"))],
    )
    tables = []
    for together in (3, 100):
        monkeypatch.setattr(comparing, "_TOGETHER", together)
        method = [oocr.Vector("resid@1")]
        tables.append(oocr.compare(lm, data, asked, method, seeds=1, random=8, steps=2).runs)
    a, b = (t[t["method"] == "random"]["p_truth"].tolist() for t in tables)
    assert a == pytest.approx(b, abs=1e-5) and len(set(a)) > 1
