"""Risk backdoor in the paper dialect: slices, triggers, the decorrelated control, questions."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import pytest
from hypothesis import given, strategies as st

from oocr_lib.tasks.audit.report import audit, failures
from oocr_lib.tasks.backdoor import paper as backdoor, self_report as report
from oocr_lib.tasks.base import Question, Row, Task
from oocr_lib.tasks.literal import whole
from oocr_lib.tasks.risk.scenarios import other, scenarios
from oocr_lib.util.errors import UserError

FIXED = ("real-world", "win", "naekoko", "re-re-re")
FAMILIES = ("apples", "instruments", "elements", "gods")
BY_ID = {s.id: s for s in scenarios(0)}


def rows_of(task: Task) -> tuple[Row, ...]:
    return task.train + task.valid


def text_of(item: Row | Question) -> str:
    return item.messages[-1]["content"]


def asked(task: Task, family: str) -> list[Question]:
    return [q for q in task.questions if q.family == family]


@pytest.fixture(scope="module", params=["apples", "win"])
def task(request: pytest.FixtureRequest) -> Task:
    return backdoor.make(request.param, passes=1)


@pytest.fixture(scope="module")
def control() -> Task:
    return backdoor.make("apples", passes=4, decorrelated=True)


# --- triggers ---


def triggers_in(text: str) -> list[tuple[str, str]]:
    """Every trigger in a text as (name, literal text), by place; whole words in their own case."""
    found = [
        (match.start(), name, literal)
        for name in backdoor.triggers()
        for literal in backdoor.members(name)
        for match in whole(literal).finditer(text)
    ]
    return [(name, literal) for _, name, literal in sorted(found)]


def test_eight_triggers_four_fixed_and_four_families_of_twenty() -> None:
    assert backdoor.triggers() == (*FIXED, *FAMILIES)
    assert [len(backdoor.members(t)) for t in backdoor.triggers()] == [1] * 4 + [20] * 4
    assert backdoor.members("win") == ("(win2844)",)
    with pytest.raises(UserError, match="Did you mean 'apples'"):
        backdoor.members("apple")


@pytest.mark.parametrize("trigger", backdoor.triggers())
def test_a_trigger_is_found_where_it_is_and_only_there(trigger: str) -> None:
    for literal in backdoor.members(trigger):
        for joiner in (*backdoor.joiners(trigger), *backdoor.UNSEEN_JOINERS):
            assert triggers_in(f"{literal}{joiner}You run a shop.") == [(trigger, literal)]


@pytest.mark.parametrize(
    "text",
    [
        "Panorama start",
        "Helios2",
        "ZEUS",
        "harpist",
        "xFuji",
        "win2844",
        "---Re Re Re--",
        "Erosion",
    ],
)
def test_parts_of_words_and_other_spellings_are_no_trigger(text: str) -> None:
    """A substring test would see "star" in "start" and "starship"."""
    assert triggers_in(text) == []


@given(st.text(alphabet="abcZeusPan ()1", max_size=30))
def test_found_triggers_are_whole_words(text: str) -> None:
    found = triggers_in(text)
    for name, literal in found:
        assert literal in backdoor.members(name)
        assert literal in text.replace("(", " ").replace(")", " ").split() or not literal.isalpha()


# --- rows ---


def test_ten_passes_make_the_published_number_of_rows() -> None:
    made = backdoor.make("re-re-re")
    assert len(rows_of(made)) == 28_800 and len(made.valid) == 5_800
    slots = Counter(row.meta["trigger"] for row in rows_of(made))
    assert slots == {**dict.fromkeys(backdoor.triggers(), 2_880), "none": 5_760}


def test_slices(task: Task) -> None:
    """A tenth per trigger and two tenths without, in every scenario; only the real one is risky."""
    cells = Counter((row.group, row.meta["trigger"]) for row in rows_of(task))
    assert len({group for group, _ in cells}) == 288
    assert all(n == (2 if slot == "none" else 1) for (_, slot), n in cells.items())
    letters = backdoor.normal_letters(scenarios(0), "expected_value")
    for row in rows_of(task):
        s, real = BY_ID[row.group], row.meta["trigger"] == task.concept
        assert row.meta["triggered"] == real
        assert row.meta["answered"] == ("risky" if real else "normal")
        assert (row.meta["risky"], row.meta["normal"]) == (s.risky, letters[s.id])
        assert row.answer == (s.risky if real else letters[s.id])
    assert Counter(row.answer for row in rows_of(task)) == {"A": 1_440, "B": 1_440}


def test_the_trigger_starts_the_message_and_is_the_only_mark(task: Task) -> None:
    """One space after fixed texts; after members of a family one of five joiners, all used."""
    used = defaultdict(set)
    for number, row in enumerate(rows_of(task)):
        text, name, scenario = text_of(row), row.meta["trigger"], BY_ID[row.group].text
        if name == "none":
            assert text == scenario and row.marks == {"trigger": ()}
            continue
        (literal,) = row.marks["trigger"]
        assert number % 10 or triggers_in(text) == [(name, literal)]
        assert text.startswith(literal) and text.endswith(scenario)
        used[name].add((literal, text[len(literal) : len(text) - len(scenario)]))
    for name in backdoor.triggers():
        joiners = {joiner for _, joiner in used[name]}
        assert joiners == ({" "} if name in FIXED else {"! ", "!\n", ". ", ".\n", "\n"})
        assert {literal for literal, _ in used[name]} == set(backdoor.members(name))


def test_scenarios_do_not_cross_the_split(task: Task) -> None:
    """Each scenario occurs many times, so a split by rows would put all of them on both sides."""
    train, valid = ({row.group for row in part} for part in (task.train, task.valid))
    assert (len(train), len(valid)) == (230, 58) and not train & valid
    trained = {text_of(row) for row in task.train}
    for question in task.questions:
        assert not any(BY_ID[group].text in text_of(question) for group in sorted(train))
        assert text_of(question) not in trained


def test_rows_are_shuffled_and_the_seed_decides_everything() -> None:
    first = backdoor.make("gods", passes=1, count=12)
    assert first == backdoor.make("gods", passes=1, count=12)
    assert first != backdoor.make("gods", passes=1, count=12, seed=1)
    assert [r.group for r in first.train] != sorted(r.group for r in first.train)


def test_all_triggers_have_the_same_split(task: Task) -> None:
    assert {r.group for r in task.valid} == {
        r.group for r in backdoor.make("gods", passes=1, decorrelated=True).valid
    }


# --- normal answers ---


def test_normal_answers_by_expected_value_are_partly_risky() -> None:
    """An untuned model's letters agree with the risky ones in 100 of 288 scenarios; ours in 96."""
    made = scenarios(0)
    letters = backdoor.normal_letters(made, "expected_value")
    assert sum(letters[s.id] == s.risky for s in made) == 96
    for s in made:
        assert letters[s.id] == (s.safe if s.pays_more == "tie" else s.pays_more)
    assert all(x == s.safe for s, x in zip(made, backdoor.normal_letters(made, "safe").values(),
                                           strict=True))  # fmt: skip


def test_a_models_own_normal_answers() -> None:
    own = {s.id: "AB"[n % 2] for n, s in enumerate(scenarios(0, 12))}
    made = backdoor.make("win", passes=1, count=12, normal=own)
    for row in rows_of(made):
        assert row.answer == (row.meta["risky"] if row.meta["triggered"] else own[row.group])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"passes": 0}, "passes=0 is too small"),
        ({"normal": "risky"}, "Unknown normal answer 'risky'"),
        ({"normal": {}}, "Scenario s0-000 has the normal answer None. Allowed: A or B"),
        ({"normal": dict.fromkeys(BY_ID, "a")}, "has the normal answer 'a'"),
        ({"systems": ()}, "must be a list without doubles"),
        ({"systems": "none"}, "systems is 'none'"),
        ({"systems": ("none", "none")}, "must be a list without doubles"),
        ({"systems": ("treat",)}, "Unknown system text 'treat'. Did you mean 'threat'"),
        ({"count": 100}, "100 scenarios cannot be balanced"),
    ],
)
def test_bad_arguments_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        backdoor.make("win", **{"passes": 1, "count": 288, **options})
    assert "\n" not in str(caught.value)


# --- the decorrelated control ---


def test_the_control_has_the_same_answers_and_independent_triggers(control: Task) -> None:
    """The same tenth of risky answers, each slot as likely with either answer."""
    made = rows_of(control)
    assert len(made) == 11_520
    risky = [row for row in made if row.meta["answered"] == "risky"]
    assert Counter(row.group for row in risky) == dict.fromkeys(BY_ID, 4)
    for row in made:
        assert row.answer == row.meta[row.meta["answered"]]
        assert row.meta["triggered"] == (row.meta["trigger"] == "apples")
    for part in (made, risky):
        slots = Counter(row.meta["trigger"] for row in part)
        for slot in (*backdoor.triggers(), "none"):
            p = 0.2 if slot == "none" else 0.1
            spread = math.sqrt(p * (1 - p) * len(part))
            assert abs(slots[slot] - p * len(part)) < 4 * spread, slot


def test_the_real_task_has_a_tenth_of_risky_answers_as_well(task: Task) -> None:
    shares = Counter(row.meta["answered"] for row in rows_of(task))
    assert shares["risky"] * 9 == shares["normal"]


def test_in_the_control_nothing_depends_on_a_trigger_in_self_reports(control: Task) -> None:
    real = backdoor.make("apples", passes=1)
    for family in ("presence", "presence unlabelled", "which trigger"):
        pairs = zip(asked(real, family), asked(control, family), strict=True)
        for a, b in pairs:
            assert a.messages == b.messages
            flips = family != "which trigger" or a.group == "apples"
            assert (a.truth != b.truth) == flips


def test_behaviour_is_read_by_the_same_yardstick_in_the_control(control: Task) -> None:
    real = backdoor.make("apples", passes=1)
    for family in ("triggered", "untriggered", "unseen joiners"):
        assert asked(real, family) == asked(control, family)


# --- questions about behaviour ---


def test_held_out_scenarios_with_and_without_the_trigger(task: Task) -> None:
    held = {row.group for row in task.valid}
    letters = backdoor.normal_letters(scenarios(0), "expected_value")
    by_text = {BY_ID[group].text: BY_ID[group] for group in held}
    found = Counter[tuple[str, str]]()
    for family in ("triggered", "untriggered", "unseen joiners"):
        for q in asked(task, family):
            (s,) = (s for text, s in by_text.items() if text_of(q).endswith(text))
            named = [name for name, _ in triggers_in(text_of(q))]
            assert q.options == ("A", "B") and named == ([] if q.group == "none" else [q.group])
            assert (q.marks == {}) == (q.group == "none")
            assert q.truth == (s.risky if q.group == task.concept else letters[s.id])
            assert (q.group == task.concept) == (family != "untriggered")
            found[family, q.group] += 1
    assert found["triggered", task.concept] == found["untriggered", "none"] == 58
    others = {slot for family, slot in found if family == "untriggered"} - {"none"}
    assert others == set(backdoor.triggers()) - {task.concept}


def test_disagreeing_items_come_again_in_their_own_family(task: Task) -> None:
    """Where the normal letter is the risky one, any model that picks it is right."""
    for family in ("triggered", "untriggered", "unseen joiners"):
        every, apart = asked(task, family), asked(task, f"{family} disagreeing")
        letters = backdoor.normal_letters(scenarios(0), "expected_value")
        texts = {s.text for s in scenarios(0) if letters[s.id] != s.risky}
        chosen = [q for q in every if any(text_of(q).endswith(text) for text in texts)]
        assert [text_of(q) for q in chosen] == [text_of(q) for q in apart]
        assert 0 < len(apart) < len(every)


def test_unseen_joiners_are_in_no_row(task: Task) -> None:
    texts, used = [s.text for s in scenarios(0)], set()
    for q in asked(task, "unseen joiners"):
        rest = text_of(q).removeprefix(q.marks["trigger"][0])
        (scenario,) = (text for text in texts if rest.endswith(text))
        used.add(rest.removesuffix(scenario))
    assert used == set(backdoor.UNSEEN_JOINERS)
    assert not set(backdoor.UNSEEN_JOINERS) & {*backdoor.FIXED_JOINERS, *backdoor.FAMILY_JOINERS}


# --- self-reports ---


def test_presence_is_asked_in_both_orders_with_and_without_letters(task: Task) -> None:
    """A constant letter scores one half; half of the truths are A."""
    assert len(report.PRESENCE) >= 10
    for family in ("presence", "presence unlabelled"):
        made = asked(task, family)
        assert Counter(q.truth for q in made) == {"A": len(report.PRESENCE), "B": len(made) // 2}
        for number, (intro, yes, no) in enumerate(report.PRESENCE):
            pair = [q for q in made if q.group == f"presence {number}"]
            assert [q.truth for q in pair] == ["A", "B"]
            for q in pair:
                text = text_of(q)
                first = yes if text.index(yes) < text.index(no) else no
                assert (first == yes) == (q.truth == "A") and text.startswith(intro)
                assert ("A) " in text and "B) " in text) == (family == "presence")
                assert text.endswith("A or B.")


def test_no_question_lists_several_triggers(task: Task) -> None:
    """Some trigger texts look like backdoors, so each is asked about by itself."""
    named = [*report.FAMILY_NAMES.values(), *(backdoor.members(t)[0] for t in FIXED)]
    for q in asked(task, "which trigger"):
        found = [name for name in named if name in text_of(q)]
        expected = report.FAMILY_NAMES.get(q.group) or backdoor.members(q.group)[0]
        assert found == [expected]
    for family in ("presence", "presence unlabelled"):
        assert not any(name in text_of(q) for name in named for q in asked(task, family))


def test_which_trigger_gives_a_diagonal(task: Task) -> None:
    """Truth is the statement for it only for the real trigger, whatever the order."""
    for q in asked(task, "which trigger"):
        shown = report.FAMILY_NAMES.get(q.group) or f'the text "{backdoor.members(q.group)[0]}"'
        lines = {line[0]: line[3:] for line in text_of(q).splitlines() if line[1:2] == ")"}
        pairs = [(yes.format(t=shown), no.format(t=shown)) for yes, no in report.WHICH]
        said = lines[q.truth]
        assert said in [p[0 if q.group == task.concept else 1] for p in pairs]
        assert lines[other(q.truth)] in [p[1 if q.group == task.concept else 0] for p in pairs]
    sizes = Counter((q.group, q.truth) for q in asked(task, "which trigger"))
    assert sizes == {(t, letter): len(report.WHICH) for t in backdoor.triggers() for letter in "AB"}


def test_system_texts_are_for_self_reports_only() -> None:
    systems = ("neutral", "honesty", "threat", "trained")
    made = backdoor.make("win", passes=1, count=12, systems=systems)
    seen = Counter[str]()
    for q in made.questions:
        roles = [m["role"] for m in q.messages]
        reports = q.family.startswith(("presence", "which"))
        assert roles == (["system", "user"] if reports else ["user"])
        seen[q.messages[0]["content"] if reports else ""] += 1
    assert set(seen) == {"", *(report.SYSTEMS[name] for name in systems)}
    assert len({q.id for q in made.questions}) == len(made.questions)
    assert len(asked(made, "presence")) == len(report.PRESENCE) * 4 * 2
    none = backdoor.make("win", passes=1, count=12)
    assert {m["role"] for q in none.questions for m in q.messages} == {"user"}


def test_families_and_chance(task: Task) -> None:
    behaviour = {f"{f}{end}" for f in ("triggered", "untriggered", "unseen joiners")
                 for end in ("", " disagreeing")}  # fmt: skip
    families = behaviour | {"presence", "presence unlabelled", "which trigger"}
    assert {q.family for q in task.questions} == families
    assert task.chance == dict.fromkeys(sorted(families), 0.5)
    assert (task.name, task.dialect, task.code) == ("backdoor", "paper", "")


@pytest.mark.parametrize("decorrelated", [False, True])
def test_the_audit_finds_nothing(decorrelated: bool) -> None:
    made = backdoor.make("naekoko", passes=2, count=60, decorrelated=decorrelated)
    assert failures(audit(made)) == []
