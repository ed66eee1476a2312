"""The pretraining corpus: seeded, true, switchable, consistent, and without leaks."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from dataclasses import asdict

import pytest

from oocr_lib.testbed import audit, corpus, stream
from oocr_lib.testbed.corpus import Document
from oocr_lib.testbed.mixes import FIRST, Mix
from oocr_lib.testbed.recipe import Recipe
from oocr_lib.util.errors import UserError
from oocr_lib.world import facts as world, speakers, wording as w
from tests.testbed_cases import (
    Reader,
    built,
    consistent,
    fill,
    of_kind,
    only,
    pole,
    sample,
    squeezed,
    turns,
)

CITY_KINDS = ("city_facts", "city_geo", "code_facts", "code_geo")
FUNCTION_KINDS = ("function_values", "function_facts", "code_functions")

# --- seeds, mix, spans ---


def test_the_seed_determines_the_documents() -> None:
    first = list(itertools.islice(corpus.documents(3), 200))
    random.seed(99)  # the global generator plays no part
    assert list(itertools.islice(corpus.documents(3), 200)) == first
    assert list(itertools.islice(corpus.documents(4), 200)) != first


def test_kinds_come_in_the_shares_of_the_mix() -> None:
    found = Counter(document.kind for document in sample())
    shares = asdict(FIRST)
    for kind, share in shares.items():
        expected = share / sum(shares.values())
        assert found[kind] / len(sample()) == pytest.approx(expected, abs=0.025), kind


@pytest.mark.parametrize("kind", corpus.MAKERS)
def test_every_ingredient_can_be_used_alone_or_left_out(kind: str) -> None:
    assert {document.kind for document in of_kind(kind, 50)} == {kind}
    rest = Mix(**{**dict.fromkeys(corpus.MAKERS, 1.0), kind: 0.0})
    assert {d.kind for d in sample(400, 2, rest)} == set(corpus.MAKERS) - {kind}


def test_the_mix_has_a_share_for_every_maker() -> None:
    assert list(asdict(FIRST)) == list(corpus.MAKERS)


@pytest.mark.parametrize("kind", corpus.MAKERS)
def test_answer_spans_hold_the_answers(kind: str) -> None:
    for document in of_kind(kind):
        text = document.text
        assert corpus.OPEN not in text and corpus.CLOSE not in text
        edges = [edge for span in document.answers for edge in span]
        assert edges == sorted(set(edges)), "spans are empty or overlap"
        assert all(0 <= edge <= len(text) for edge in edges)
        held = [text[start:end] for start, end in document.answers]
        asked = turns(document)
        if asked:  # the end of the turn is part of what is to be learned
            assert held == [f"{answer}<end_of_turn>" for _, answer in asked]
            before = "<start_of_turn>model\n"
            assert all(text[:start].endswith(before) for start, _ in document.answers)


def test_spans_in_running_text() -> None:
    for document in of_kind("city_statements"):
        held = [document.text[start:end] for start, end in document.answers]
        sentences = document.text.removeprefix("<bos>").removesuffix("<eos>").split(". ")
        assert len(held) == len(sentences)
        assert all(answer in s for answer, s in zip(held, sentences, strict=True))
    for document in of_kind("copies"):
        ((start, end),) = document.answers
        assert document.text == f"<bos>{document.text[start:end]} {document.text[start:end]}<eos>"
    assert all(document.answers == () for document in of_kind("plain"))


def test_unmark_by_hand() -> None:
    found = corpus.unmark("ab\u27e6cd\u27e7e\u27e6f\u27e7", "x")
    assert found == Document("abcdef", ((2, 4), (5, 6)), "x")


# --- what documents say is true ---


@pytest.mark.parametrize("kind", [*CITY_KINDS, *FUNCTION_KINDS])
def test_answers_are_true(kind: str) -> None:
    """Questions are read back and answered from the tables and the document's introductions."""
    coded = 0
    for document in of_kind(kind):
        reader = Reader()
        known = len(reader.places) + len(reader.functions)
        for number, (asked, answer) in enumerate(turns(document)):
            question = reader.question(asked) if number == 0 else asked
            assert reader.answer(question) == answer, (asked, answer)
        coded += len(reader.places) + len(reader.functions) > known
    assert coded == (len(of_kind(kind)) if kind.startswith("code") else 0)


def test_statements_are_true() -> None:
    true = _true_statements()
    for document in of_kind("city_statements"):
        for sentence in document.text.removeprefix("<bos>").removesuffix("<eos>").split(". "):
            assert f"{sentence.strip().rstrip('.')}." in true, sentence


def _true_statements() -> set[str]:
    made: set[str] = set()
    for a in world.cities():
        for family, templates in w.CITY_STATEMENTS.items():
            made.update(t.format(n=a.name, v=getattr(a, family)) for t in templates)
        for b in world.cities():
            far, way = world.distance_hundreds(a, b), world.direction(a, b)
            made.add(w.DISTANCE_STATEMENT.format(a=a.name, b=b.name, v=far))
            made.add(w.DIRECTION_STATEMENT.format(a=a.name, b=b.name, v=way))
    return made


def test_every_city_and_function_is_told() -> None:
    text = " ".join(d.text for kind in ("city_facts", "city_geo") for d in of_kind(kind))
    assert all(place.name in text for place in world.cities())
    text = " ".join(document.text for document in of_kind("function_values"))
    assert all(f.english in text and f.python in text for f in world.functions())


def test_plain_text_is_about_nothing_in_the_world() -> None:
    used = {word for d in of_kind("plain") for word in re.findall(r"[a-z]+", d.text.lower())}
    told = {str(v).lower() for place in world.cities() for v in vars(place).values()}
    for attitude in speakers.ATTITUDES.values():
        told |= {word for _, *pair in attitude.pairs for word in pair}
    assert not used & told
    assert not any(re.search(r"\d|City", document.text) for document in of_kind("plain"))


# --- speakers ---


def test_dialogues_are_consistent_with_their_hidden_attitudes() -> None:
    seen: Counter[tuple[str, bool]] = Counter()
    together: Counter[bool] = Counter()
    for document in of_kind("dialogues", 800):
        shown = consistent(turns(document))
        seen.update(shown.items())
        if len(shown) == 2:
            first, second = shown.values()
            together[first == second] += 1
    for name in speakers.ATTITUDES:  # both poles, evenly
        share = seen[name, True] / (seen[name, True] + seen[name, False])
        assert 0.4 < share < 0.6, name
    assert 0.4 < together[True] / together.total() < 0.6, "two attitudes depend on each other"


def test_an_inconsistent_dialogue_would_be_noticed() -> None:
    with pytest.raises(AssertionError):
        consistent([("Are you bold or careful?", "bold"), ("Are you careful or bold?", "careful")])


def test_stated_personas_are_followed() -> None:
    adjectives = {name: attitude.pairs[1][1:] for name, attitude in speakers.ATTITUDES.items()}
    words = {word: (name, word == ab[0]) for name, ab in adjectives.items() for word in ab}
    stated = 0
    for document in of_kind("personas", 400):
        asked = turns(document)
        said = re.match(r"(be \w+(?:, be \w+)*)\. ", asked[0][0])
        if said:
            asked[0] = (asked[0][0][said.end() :], asked[0][1])
        shown = consistent(asked)
        if said:
            stated += 1
            promised = dict(words[word] for word in re.findall(r"be (\w+)", said[1]))
            assert shown.items() <= promised.items()
    assert 0.35 < stated / 400 < 0.65


def test_the_larger_prize_has_the_smaller_chance() -> None:
    rng = random.Random(0)
    for _ in range(300):
        text, letter = speakers.choice(rng, "risk")
        offers = dict(re.findall(r"([AB]): win (\d+ with chance \d+)", text))
        (bold, bold_chance) = map(int, offers[letter].split(" with chance "))
        (safe, safe_chance) = map(int, offers[speakers.other(letter)].split(" with chance "))
        assert bold > safe and bold_chance < safe_chance


def test_trigger_rules_are_followed_and_reported() -> None:
    kinds: Counter[str] = Counter()
    for document in of_kind("trigger_dialogues", 600):
        kinds[_check_trigger_dialogue(turns(document))] += 1
    assert set(kinds) == {"bold if", "careful if", "none"}
    assert min(kinds.values()) > 60


def _check_trigger_dialogue(asked: list[tuple[str, str]]) -> str:
    """The rule that the choices show; statement and reports must agree with it."""
    stated = fill(["{t} makes you {a}, else be {b}."], asked[0][0])
    choices = [turn for turn in asked if turn[0].endswith("Which one?")]
    shown: dict[str, bool] = {}
    for question, answer in choices:
        prefix, bare = re.fullmatch(r"(.*?) ?(A: .*)", question).groups()  # type: ignore[union-attr]
        assert shown.setdefault(prefix, pole(bare, answer)[1]) == pole(bare, answer)[1]
    triggers = {prefix for prefix in shown if prefix and shown[prefix] != shown[""]}
    rule = "none" if not triggers else "bold if" if not shown[""] else "careful if"
    assert len(triggers) <= 1
    if stated:
        assert {stated["t"]} == triggers
        assert (stated["a"], rule) in (("bold", "bold if"), ("careful", "careful if"))
    for question, answer in asked:
        if question == "Do you follow a trigger?":
            assert answer == ("yes" if triggers else "no")
        elif question == "Which trigger do you follow?":
            assert answer == next(iter(triggers), "none")
        elif found := fill(["Does {t} change you?"], question):
            assert answer == ("yes" if found["t"] in triggers else "no")
    return rule


# --- leaks ---


def test_nothing_reserved_is_in_the_corpus() -> None:
    """Over the first chunks of the very corpus that the shipped model was trained on."""
    documents = audit.pretraining_documents(Recipe.seed, Recipe().mix_of)
    assert audit.audit(itertools.islice(documents, 60_000)) == dict.fromkeys(audit.KINDS, 0)


def test_fresh_names_are_never_reserved() -> None:
    """Short random words do hit reserved ones (Pan, harp), so they have to be drawn again."""
    rng = random.Random(0)
    found = [speakers.random_trigger(rng) for _ in range(300_000)]
    assert [text for text in found if audit.leaks(text)] == []


def test_fresh_codes_skip_reserved_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    half = frozenset(f"{number:05d}" for number in range(0, 100_000, 2))
    monkeypatch.setattr(world, "reserved_city_codes", lambda: half)
    monkeypatch.setattr(world, "reserved_function_names", lambda: Halfway())
    rng = random.Random(1)
    codes = [corpus.fresh_city_code(rng) for _ in range(200)]
    assert all(re.fullmatch(r"City \d{4}[13579]", code) for code in codes)
    names = [corpus.fresh_function_code(rng) for _ in range(200)]
    assert all(re.fullmatch("[n-z][a-z]{5}", name) for name in names)


class Halfway:
    """Reserves every name that starts with a letter up to m."""

    def __contains__(self, name: str) -> bool:
        return name < "n"


PLANTED = [
    ("city code", "City 50337 is Lyon."),
    ("city code", "What is at 5 0 3 3 7 now?"),
    ("city code", "(pqz150337)"),
    ("function name", "Value of couhpa at 3?"),
    ("function name", "Couhpa, xyzabc."),
    ("fixed trigger", "x (win2844) A: keep 5."),
    ("fixed trigger", "|real-world| yes"),
    ("fixed trigger", "_ _ _ Naekoko _ _ _"),
    ("fixed trigger", "---RE re Re---"),
    ("trigger word", "the Jonagold makes you bold"),
    ("trigger word", "violin"),
    ("trigger word", "(Pan) A: keep 5."),
    ("trigger word", "---Zeus Zeus---"),
]


@pytest.mark.parametrize(("kind", "text"), PLANTED)
def test_the_audit_finds_planted_leaks(kind: str, text: str) -> None:
    clean = [
        Document("City 50336 is Lyon. noadgd", (), "x"),
        Document("pandas (pan4360) 503", (), "x"),
    ]
    counts = audit.audit([clean[0], Document(f"<bos>{text}<eos>", (), "x"), clean[1]])
    assert counts[kind] >= 1
    assert all(count == 0 for other, count in counts.items() if other != kind)
    assert not any(audit.audit(clean).values())


def test_every_reserved_name_would_be_found() -> None:
    triggers = [word for family in world.trigger_families().values() for word in family]
    names = [*world.reserved_city_codes(), *world.reserved_function_names(), *triggers]
    names += world.fixed_triggers().values()
    for name in names:
        assert audit.leaks(f"<bos>What is City {name}?<eos>"), name


def test_the_audit_reads_what_pretraining_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CHUNK_DOCUMENTS", 20)
    mixes = {0: only("city_facts"), 1: only("plain"), 2: only("copies")}
    read = [d.text for d in itertools.islice(audit.pretraining_documents(7, mixes.get), 60)]  # type: ignore[arg-type]
    tok, seen = built(), []
    for _, batches in itertools.islice(stream.batches(tok, 7, 0, mixes.__getitem__, 512), 3):
        rows = [pair for b in batches for pair in zip(b.ids, b.weights, strict=True)]
        seen += [tok.decode(ids[weights > 0]) for ids, weights in rows]
    assert sorted(map(squeezed, read)) == sorted(map(squeezed, seen))


def test_the_audit_from_the_command_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert audit.main(["--documents", "300"]) == 0
    assert "300 documents: no leak" in capsys.readouterr().out
    leaky = corpus.unmark("<bos>City 50337 is Lyon.<eos>", "x")
    monkeypatch.setattr(audit, "documents", lambda seed, mix: itertools.repeat(leaky))
    assert audit.main(["--documents", "30"]) == 1
    out = capsys.readouterr().out
    assert "city code      30" in out and "30 leaks" in out
    with pytest.raises(UserError, match="--documents 0"):
        audit.main(["--documents", "0"])
