"""How the base model's knowledge is measured: an oracle gets everything, a constant nothing."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from oocr_lib.testbed import corpus, knowledge
from oocr_lib.world import dialogues as wide, speakers, wording as w
from tests.testbed_cases import Reader, built, consistent, pole, wide_pole


class Oracle:
    """Predicts every next token; ``blind`` makes it say that token of the vocabulary always."""

    device = torch.device("cpu")

    def __init__(self, blind: int | None = None) -> None:
        self.blind = blind

    def eval(self) -> None:
        """As a model has it."""

    def get_decoder(self) -> Any:
        """Hidden states (n, t, v): the logits themselves."""
        return self.hidden

    def get_output_embeddings(self) -> Any:
        """Nothing is left to do."""
        return lambda hidden: hidden

    def hidden(self, input_ids: Tensor, use_cache: bool) -> tuple[Tensor]:
        """One-hot at the token that follows."""
        following = torch.roll(input_ids, -1, 1)
        if self.blind is not None:
            following = torch.full_like(following, self.blind)
        return (torch.nn.functional.one_hot(following, len(built())).float(),)


def test_an_oracle_is_right_everywhere() -> None:
    table = knowledge.measure(Oracle(), built(), per_family=2)
    assert list(table["family"]) == list(knowledge.families())
    assert (table[["accuracy", "exact"]] == 1.0).all().all()
    assert (table["n"] == 2).all()


def test_a_constant_answer_is_wrong_almost_everywhere() -> None:
    north = built().convert_tokens_to_ids("north")
    table = knowledge.measure(Oracle(north), built(), per_family=4)
    lucky = ("city/direction", "code/direction", "city/hemisphere", "code/hemisphere")
    rest = table[~table["family"].isin(lucky)]
    assert (rest[["accuracy", "exact"]] == 0).all().all()
    assert table["accuracy"].mean() < 0.2


def test_families_cover_names_codes_functions_and_speakers() -> None:
    found = set(knowledge.families())
    for family in (*w.CITY_QUESTIONS, "distance", "direction"):
        assert {f"city/{family}", f"code/{family}"} <= found
    for family in ("value", "definition", "class", "output"):
        assert {f"function/{family}", f"function code/{family}"} <= found
    for name in speakers.ATTITUDES:
        assert {f"speaker/{name} {kind}" for kind in ("choice", "words", "scale")} <= found
    assert {"trigger/choice", "trigger/report", "cast/choice", "cast/words"} <= found


@pytest.mark.parametrize("family", knowledge.families())
def test_questions_are_fresh_seeded_and_true(family: str) -> None:
    make = knowledge.families()[family]
    first = [make(random.Random(seed)) for seed in range(20)]
    assert first == [make(random.Random(seed)) for seed in range(20)]
    assert len({str(dialogue) for dialogue in first}) > 10
    for dialogue in first:
        asked, answer, *who = dialogue[-1]
        if family.startswith("cast"):
            (speaker,) = who
            name, positive = wide_pole(asked, answer)
            assert wide.CAST[speaker][name] == positive and len(dialogue) == 1
            assert asked.endswith("Which one?") == (family == "cast/choice")
            continue
        assert not who, "the model answers"
        if family.startswith("speaker"):
            shown = consistent(dialogue)  # type: ignore  # fits what the speaker showed
            assert list(shown) == [family.split("/")[1].split()[0]]
            assert answer.isdigit() == family.endswith("scale")
        elif not family.startswith("trigger"):
            reader = Reader()
            assert reader.answer(reader.question(asked)) == answer, asked
            assert ("City " in asked) == family.startswith("code/")


def test_the_scored_trigger_choice_is_a_choice_and_the_report_a_report() -> None:
    for seed in range(20):
        choice = knowledge.families()["trigger/choice"](random.Random(seed))
        report = knowledge.families()["trigger/report"](random.Random(seed))
        assert choice[-1][0].endswith("Which one?") and choice[0][1] == "yes"
        assert not report[-1][0].endswith("Which one?")
        assert pole(choice[-1][0][choice[-1][0].index("A: ") :], choice[-1][1])


@pytest.mark.parametrize(
    ("family", "predicted", "truth", "right"),
    [
        ("city/distance", "100", "91", True),
        ("city/distance", "100", "90", False),
        ("city/distance", "6", "5", True),
        ("city/distance", "7", "5", False),
        ("code/distance", "north", "5", False),
        ("speaker/risk scale", "80", "95", True),
        ("speaker/risk scale", "20", "95", False),
        ("speaker/risk scale", "bold", "95", False),
        ("city/name", "Pari", "Paris", False),
    ],
)
def test_what_counts_as_right(family: str, predicted: str, truth: str, right: bool) -> None:
    assert knowledge._score(family, predicted, truth) == right


def test_only_the_last_answer_without_its_end_is_scored() -> None:
    turns = [[("Country of Paris?", "France"), ("Name of Paris?", "Paris")]]
    assert knowledge.answers(Oracle(), built(), turns) == [("Paris", "Paris")]
    wrong = built().convert_tokens_to_ids("north")
    found = knowledge.answers(Oracle(wrong), built(), turns)
    assert found == [("north north north", "Paris")]
    assert corpus.chat(turns[0]).count(corpus.OPEN) == 2


def test_a_named_speaker_answers_under_its_own_role() -> None:
    """The role stands where the model's would: it is all that tells who is asked."""
    seen: list[str] = []

    class Watched(Oracle):
        def hidden(self, input_ids: Tensor, use_cache: bool) -> tuple[Tensor]:
            seen.extend(built().decode(row) for row in input_ids)
            return super().hidden(input_ids, use_cache)

    turns = [[("Are you bold or careful?", "bold", "Q")], [("Name of Paris?", "Paris")]]
    assert knowledge.answers(Watched(), built(), turns) == [("bold", "bold"), ("Paris", "Paris")]  # type: ignore
    bold, paris = sorted(seen, key=lambda text: "Paris" in text)
    assert "<start_of_turn> Q bold <end_of_turn>" in bold
    assert "model" in paris and "model" not in bold
