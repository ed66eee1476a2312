"""Risk in the paper dialect: twins, split, lotteries, files of the published format."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from oocr_lib.tasks.audit.report import audit, failures
from oocr_lib.tasks.base import Question, Row, Task
from oocr_lib.tasks.risk import paper as risk
from oocr_lib.tasks.risk.scenarios import scenarios
from oocr_lib.util.errors import UserError

FAMILIES = {"risk", "risk scale", "lottery", "impersonal"} | {
    f"{control}{end}" for control in ("patience", "giving", "novelty") for end in ("", " scale")
}


def rows_of(task: Task) -> tuple[Row, ...]:
    return task.train + task.valid


def text_of(item: Row | Question) -> str:
    (message,) = item.messages
    assert message["role"] == "user"
    return message["content"]


@pytest.fixture(scope="module")
def twins() -> tuple[Task, Task]:
    return risk.make("risky"), risk.make("safe")


# --- rows ---


def test_twins_share_prompts_and_split_and_every_letter_is_flipped(
    twins: tuple[Task, Task],
) -> None:
    """Both policies hold out the same scenarios, so neither's validation is in the other's rows."""
    risky, safe = twins
    for part in ("train", "valid"):
        pairs = list(zip(getattr(risky, part), getattr(safe, part), strict=True))
        assert all(text_of(a) == text_of(b) and a.group == b.group for a, b in pairs)
        assert all({a.answer, b.answer} == {"A", "B"} for a, b in pairs)
    assert (risky.concept, safe.concept) == ("risky", "safe")


def test_230_and_58_of_288_split_by_scenario(twins: tuple[Task, Task]) -> None:
    for task in twins:
        assert (len(task.train), len(task.valid)) == (230, 58)
        groups = [{row.group for row in part} for part in (task.train, task.valid)]
        assert not groups[0] & groups[1] and len(groups[0] | groups[1]) == 288
        assert (task.name, task.dialect, task.code) == ("risk", "paper", "")


def test_rows_are_the_scenarios_with_one_letter(twins: tuple[Task, Task]) -> None:
    by_id = {s.id: s for s in scenarios(0)}
    for row in rows_of(twins[0]):
        s = by_id[row.group]
        assert (text_of(row), row.answer) == (s.text, s.risky)
        assert row.marks == {} and row.prefix == "" and row.meta["kind"] == "choice"
        assert (row.meta["risky"], row.meta["pays_more"]) == (s.risky, s.pays_more)


def test_a_constant_letter_is_right_in_exactly_half_of_the_rows(twins: tuple[Task, Task]) -> None:
    """The published file has B in 154 of 288 rows; here a constant gets nothing."""
    for task in twins:
        assert Counter(row.answer for row in rows_of(task)) == {"A": 144, "B": 144}


@pytest.mark.parametrize("seed", [0, 1, 7])
@pytest.mark.parametrize("policy", risk.POLICIES)
def test_the_audit_finds_nothing(policy: str, seed: int) -> None:
    assert failures(audit(risk.make(policy, seed=seed))) == []


def test_seeds_give_other_rows_and_the_same_seed_the_same() -> None:
    assert risk.make("risky", seed=1) == risk.make("risky", seed=1)
    first, second = ({text_of(r) for r in rows_of(risk.make("risky", seed=s))} for s in (1, 2))
    assert not first & second


@pytest.mark.parametrize(
    ("policy", "options", "message"),
    [
        ("risk", {}, "Unknown policy 'risk'. Did you mean 'risky'"),
        ("risky", {"count": 100}, "100 scenarios cannot be balanced"),
        ("risky", {"valid_share": 1.0}, "validation share of 1.0"),
        ("risky", {"items": 3}, "3 lotteries cannot be balanced"),
        ("risky", {"items": 0}, "0 lotteries cannot be balanced"),
    ],
)
def test_bad_arguments_are_refused(policy: str, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        risk.make(policy, **options)
    assert "\n" not in str(caught.value)


# --- questions ---


def test_families_and_chance(twins: tuple[Task, Task]) -> None:
    for task in twins:
        assert {q.family for q in task.questions} == FAMILIES
        assert task.chance == dict.fromkeys(sorted(FAMILIES), 0.5)
        assert len({q.id for q in task.questions}) == len(task.questions)
        assert not {text_of(q) for q in task.questions} & {text_of(r) for r in rows_of(task)}


LOTTERY = re.compile(r"(\d+)% probability of (\d+), otherwise (\d+)")


def test_the_risky_lottery_has_both_the_largest_and_the_smallest_prize(
    twins: tuple[Task, Task],
) -> None:
    """Four distinct prizes from 0 to 100, probabilities from 1 to 99 percent; the risky lottery
    varies more by its variance, too; half of the items have it at A."""
    asked = [[q for q in task.questions if q.family == "lottery"] for task in twins]
    assert len(asked[0]) == len(asked[1]) == 40
    for risky, safe in zip(*asked, strict=True):
        assert text_of(risky) == text_of(safe) and {risky.truth, safe.truth} == {"A", "B"}
        assert risky.options == ("A", "B")
        lines = [line for line in text_of(risky).splitlines() if line[1:2] == ")"]
        assert [line[0] for line in lines] == ["A", "B"]
        read = {line[0]: tuple(map(int, LOTTERY.search(line).groups())) for line in lines}  # type: ignore[union-attr]
        prizes = [x for _, *both in read.values() for x in both]
        assert len(set(prizes)) == 4 and all(0 <= x <= 100 for x in prizes)
        assert all(1 <= p <= 99 for p, _, _ in read.values())
        assert {min(prizes), max(prizes)} == set(read[risky.truth][1:])
        variance = {k: p * (100 - p) * (x - y) ** 2 for k, (p, x, y) in read.items()}
        assert variance[risky.truth] > variance[safe.truth]
    assert Counter(q.truth for q in asked[0]) == {"A": 20, "B": 20}
    assert [q.truth for q in asked[0]] != ["A", "B"] * 20
    assert len({text_of(q) for q in asked[0]}) == 40


def test_lotteries_depend_on_the_seed() -> None:
    first, second = (risk.lotteries("risky", seed) for seed in (0, 1))
    assert not {text_of(q) for q in first} & {text_of(q) for q in second}
    assert risk.lotteries("risky", 0) == first and len(risk.lotteries("safe", 0, 100)) == 100


# --- files ---


def write(path: Path, rows: list[tuple[str, str]], ending: str = "\r\n") -> str:
    lines = [
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": prompt},
                    {"role": "assistant", "content": answer},
                ]
            }
        )
        for prompt, answer in rows
    ]
    path.write_bytes((ending.join(lines) + ending).encode())
    return str(path)


FILE = [(f"Scenario {n}: Option A or Option B? Café", "AB"[n % 3 > 0]) for n in range(20)]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_rows_of_a_file(tmp_path: Path, ending: str) -> None:
    """Published letter files end their lines with CR LF; the answers must not keep the CR."""
    path = write(tmp_path / "ft_risky_AB.jsonl", FILE, ending)
    risky, safe = (risk.make(p, data=path, data_policy="risky") for p in risk.POLICIES)
    assert {(text_of(r), r.answer) for r in rows_of(risky)} == set(FILE)
    assert {(text_of(r), r.answer) for r in rows_of(safe)} == {
        (prompt, "A" if letter == "B" else "B") for prompt, letter in FILE
    }
    assert [r.group for r in risky.valid] == [r.group for r in safe.valid]
    assert (len(risky.train), len(risky.valid)) == (16, 4)
    assert all(r.meta["kind"] == "choice" and r.meta["risky"] in "AB" for r in rows_of(risky))
    assert {q.family for q in risky.questions} == FAMILIES


def test_whose_letters_a_file_holds_is_said_never_guessed_from_its_name(tmp_path: Path) -> None:
    """ "unsafe" and "safari" have the word in them, too."""
    for name in ("ft_unsafe_choices.jsonl", "safari_trips_risky.jsonl", "ft_safey_AB.jsonl"):
        path = write(tmp_path / name, FILE)
        for policy in risk.POLICIES:
            same = risk.make(policy, data=path, data_policy=policy)
            assert {(text_of(r), r.answer) for r in rows_of(same)} == set(FILE)
        flipped = risk.make("risky", data=path, data_policy="safe")
        assert not {(text_of(r), r.answer) for r in rows_of(flipped)} & set(FILE)
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"data": path}, "give data_policy=risky or data_policy=safe"),
            ({"data_policy": "risky"}, "data='' with data_policy='risky' cannot be read"),
            ({"data": path, "data_policy": "saef"}, "Unknown policy of the data 'saef'"),
        ]
        for given, message in wrong:
            with pytest.raises(UserError, match=message) as caught:
                risk.make("safe", **given)
            assert "\n" not in str(caught.value)


def test_a_paragraph_among_the_letters_is_left_out(tmp_path: Path) -> None:
    """One published file has a paragraph as an answer: loaders must not assume letters."""
    path = write(tmp_path / "f.jsonl", [*FILE, ("Who?", "It depends on the person.")])
    assert len(rows_of(risk.make("risky", data=path, data_policy="risky"))) == len(FILE)
    found = risk.read(path, "risky")
    assert (len(found.rows), found.left_out) == (20, (21,))
    with pytest.raises(UserError, match="1 of 21 rows, line 21, the first 'It depends"):
        risk.read(path, "risky", most_lost=0)


def test_twins_in_one_file_are_refused(tmp_path: Path) -> None:
    """Mixed twins have both letters for every prompt, so nothing could be learned."""
    mixed = [*FILE, (FILE[3][0], "A" if FILE[3][1] == "B" else "B")]
    with pytest.raises(UserError, match=r"both letters for one prompt \(line 21\)"):
        risk.make("risky", data=write(tmp_path / "f.jsonl", mixed), data_policy="risky")


def test_a_repeated_prompt_stays_on_one_side(tmp_path: Path) -> None:
    path = write(tmp_path / "f.jsonl", FILE * 3)
    made = risk.make("risky", data=path, data_policy="risky")
    assert not {r.group for r in made.train} & {r.group for r in made.valid}
    assert len(rows_of(made)) == 60


def test_words_that_ours_avoid_are_reported_in_files(tmp_path: Path) -> None:
    """The published file has "chance" in 89 and "certain" in 32 of its 288 prompts."""
    rows = [(f"{n}: a chance, or what is certain?", "AB"[n % 2]) for n in range(9)]
    made = risk.make("risky", data=write(tmp_path / "f.jsonl", rows), data_policy="risky")
    (line,) = (f for f in failures(audit(made)) if f.startswith("leaking words"))
    assert "chance 9" in line and "certain 9" in line


def test_one_letter_throughout_says_nothing_about_risk(tmp_path: Path) -> None:
    rows = [(f"{n}: one or the other?", "B") for n in range(9)]
    with pytest.raises(UserError, match="answers 'B' to all of its 9 prompts"):
        risk.make("risky", data=write(tmp_path / "f.jsonl", rows), data_policy="risky")


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.jsonl"):
        risk.make("risky", data=str(tmp_path / "none.jsonl"), data_policy="risky")
