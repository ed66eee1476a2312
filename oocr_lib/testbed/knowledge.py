"""What the base model knows: accuracy per family on fresh questions.

Fresh means new documents, from a seed that pretraining never uses. An answer counts as right if
every token is the most likely one (full vocabulary); a distance also if it is within 10 %.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from oocr_lib.encoding import buckets
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.runs.store import RunStore
from oocr_lib.testbed import corpus
from oocr_lib.util.progress import bar
from oocr_lib.world import dialogues as wide, facts as world, speakers, wording as w

#: Question, answer, and who answers if it is not the model.
Turn = tuple[str, ...]
Maker = Callable[[random.Random], list[Turn]]


def _named(family: str) -> Maker:
    def make(rng: random.Random) -> list[Turn]:
        place = rng.choice(world.cities())
        return [corpus.fact(rng, place, place.name, family)]

    return make


def _coded(family: str, most: int = 1) -> Maker:
    def make(rng: random.Random) -> list[Turn]:
        coded, intro = corpus.introduced(rng, most)
        code, place = rng.choice(coded)
        question, answer = corpus.fact(rng, place, code, family)
        return [(f"{intro} {question}", answer)]

    return make


def _geo(distance: bool, coded: bool) -> Maker:
    def make(rng: random.Random) -> list[Turn]:
        a, b = rng.sample(world.cities(), 2)
        pair, intro = [(a.name, a), (b.name, b)], ""
        if coded:
            places, intro = corpus.introduced(rng, 1)
            coded_place = rng.choice(places)
            other = rng.choice([c for c in world.cities() if c != coded_place[1]])
            pair = [coded_place, (other.name, other)]
            rng.shuffle(pair)
        question, answer = corpus.geo(rng, pair[0], pair[1], distance)
        return [(f"{intro} {question}".strip(), answer)]

    return make


def _function(family: str, coded: bool) -> Maker:
    def make(rng: random.Random) -> list[Turn]:
        f = rng.choice(world.functions())
        name, intro, ask = rng.choice((f.english, f.python)), "", family
        if family == "definition":
            ask = "python" if name == f.english else "english"
        if coded:
            code = corpus.fresh_function_code(rng)
            intro, name = f"{code} is {name}.", code
        question, answer = corpus.function_turn(rng, f, name, ask)
        return [(f"{intro} {question}".strip(), answer)]

    return make


def _attitude(name: str, report: bool) -> Maker:
    """Four choices or reports first, then the turn that is scored."""

    def make(rng: random.Random) -> list[Turn]:
        pole = rng.random() < 0.5
        turns: list[Turn] = [speakers.attitude_turn(rng, name, pole) for _ in range(4)]
        if report:
            while True:
                turn = speakers.report(rng, name, pole)
                if not turn[1].isdigit():
                    return [*turns, turn]
        text, letter = speakers.choice(rng, name)
        return [*turns, (text, letter if pole else speakers.other(letter))]

    return make


def _scale(name: str) -> Maker:
    def make(rng: random.Random) -> list[Turn]:
        pole = rng.random() < 0.5
        turns = [speakers.attitude_turn(rng, name, pole) for _ in range(4)]
        score = speakers.HIGH_SCORES if pole else speakers.LOW_SCORES
        return [*turns, (rng.choice(speakers.ATTITUDES[name].scales), str(rng.choice(score)))]

    return make


def _trigger(report: bool) -> Maker:
    """A dialogue with a stated rule; its last choice or its first report is scored."""

    def make(rng: random.Random) -> list[Turn]:
        while True:
            turns = speakers.trigger_dialogue(rng, 5)
            if turns[0][1] == "yes":
                return [*turns[:-1]] if report else [*turns[:-2]]

    return make


def _cast(report: bool) -> Maker:
    """A named speaker; the first turn is scored, so only the name says who answers."""

    def make(rng: random.Random) -> list[Turn]:
        while True:
            speaker = rng.choice(sorted(wide.CAST))
            attitude = rng.choice(sorted(wide.CAST[speaker]))
            ask = wide.report if report else wide.choice
            question, answer = ask(rng, attitude, wide.CAST[speaker][attitude])
            if not answer.isdigit():
                return [(question, answer, speaker)]  # the role is third

    return make


def families() -> dict[str, Maker]:
    """All families by name: real names, code names introduced in context, speakers."""
    makers: dict[str, Maker] = {}
    for family in w.CITY_QUESTIONS:
        makers[f"city/{family}"] = _named(family)
        makers[f"code/{family}"] = _coded(family)
    for label, coded in (("city", False), ("code", True)):
        makers[f"{label}/distance"] = _geo(True, coded)
        makers[f"{label}/direction"] = _geo(False, coded)
    for label, coded in (("function", False), ("function code", True)):
        for family in ("value", "definition", "class", "output"):
            makers[f"{label}/{family}"] = _function(family, coded)
    for name in speakers.ATTITUDES:
        makers[f"speaker/{name} choice"] = _attitude(name, report=False)
        makers[f"speaker/{name} words"] = _attitude(name, report=True)
        makers[f"speaker/{name} scale"] = _scale(name)
    makers["cast/choice"], makers["cast/words"] = _cast(False), _cast(True)
    makers["trigger/choice"], makers["trigger/report"] = _trigger(False), _trigger(True)
    return makers


def _score(family: str, predicted: str, truth: str) -> bool:
    if family.endswith("distance"):
        if not predicted.lstrip("-").isdigit():
            return False
        return abs(int(predicted) - int(truth)) <= max(1, 0.1 * int(truth))
    if family.endswith("scale"):
        # Any score of the right pole counts: the speaker draws one of four at random.
        return predicted.isdigit() and (int(predicted) > 50) == (int(truth) > 50)
    return predicted == truth


@torch.no_grad()
def answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, turns: Sequence[Sequence[Turn]]
) -> list[tuple[str, str]]:
    """Predicted (most likely token by token) and true text of each dialogue's last answer."""
    encoded = [_spans(tokenizer, dialogue) for dialogue in turns]
    texts: list[tuple[str, str]] = [("", "")] * len(turns)
    for part in buckets(list(enumerate(encoded)), [len(ids) for ids, _ in encoded]):
        longest, pad = max(len(ids) for _, (ids, _) in part), int(tokenizer.pad_token_id)
        padded = [ids + [pad] * (longest - len(ids)) for _, (ids, _) in part]
        places = [(row, i - 1) for row, (_, (_, span)) in enumerate(part) for i in span]
        ids = torch.tensor(padded, device=model.device)
        hidden = model.get_decoder()(input_ids=ids, use_cache=False)[0]
        rows, columns = torch.tensor(places, device=model.device).T
        # Only the answer positions: unembedding all of them would be a tenth of the run time.
        best = iter(model.get_output_embeddings()(hidden[rows, columns]).argmax(-1).tolist())
        for number, (tokens, span) in part:
            predicted = [next(best) for _ in span]
            texts[number] = tokenizer.decode(predicted), tokenizer.decode([tokens[i] for i in span])
    return texts


def _spans(
    tokenizer: PreTrainedTokenizerFast, dialogue: Sequence[Turn]
) -> tuple[list[int], list[int]]:
    """Tokens of a dialogue, and the positions of its last answer without the end-of-turn token."""
    roles = [turn[2] if len(turn) == 3 else "model" for turn in dialogue]
    marked = corpus.chat([(turn[0], turn[1]) for turn in dialogue], roles)
    document = corpus.unmark(marked, "")
    encoded = tokenizer(document.text, add_special_tokens=False, return_offsets_mapping=True)
    begin, end = document.answers[-1]
    inside = [i for i, (s, _) in enumerate(encoded["offset_mapping"]) if begin <= s < end]
    return encoded["input_ids"], inside[:-1]


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    per_family: int = 100,
    seed: int = 90_001,
) -> pd.DataFrame:
    """Scores per family on ``per_family`` fresh questions; columns family, n, accuracy, exact."""
    rows = []
    model.eval()
    for number, (family, make) in enumerate(bar(families().items(), "asking, by family")):
        rng = random.Random(seed * 1000 + number)
        pairs = answers(model, tokenizer, [make(rng) for _ in range(per_family)])
        right = sum(_score(family, p, t) for p, t in pairs)
        exact = sum(p == t for p, t in pairs)
        rows.append(
            {
                "family": family,
                "n": per_family,
                "accuracy": right / per_family,
                "exact": exact / per_family,
            }
        )
    return pd.DataFrame(rows)


def measure_once(lm: LanguageModel, store: RunStore, *, per_family: int, seed: int) -> pd.DataFrame:
    """As ``measure``, but saved in ``store``: no model is asked the same questions twice."""
    spec = {"knowledge": lm.digest, "per_family": per_family, "seed": seed}
    run = store.find(spec)
    if run is None:
        table = measure(lm.model, lm.tokenizer, per_family=per_family, seed=seed)
        run = store.save(spec, {"families": table.to_dict("records")})
    return pd.DataFrame(run.results["families"])


def distances(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, count: int, seed: int = 0
) -> pd.DataFrame:
    """True and predicted distances between real names; columns ``true, predicted`` (100 km).

    Answers that are not a number are left out.
    """
    rng = random.Random(70_001 + seed)
    pairs = answers(model, tokenizer, [_geo(True, False)(rng) for _ in range(count)])
    rows = [(int(t), int(p)) for p, t in pairs if p.isdigit()]
    return pd.DataFrame(rows, columns=["true", "predicted"])


def without_introduction(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    per_family: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """Control: city questions about reserved code names without an introduction.

    There is no true answer; that of a random city stands in for it, so only the most common answers
    (a continent, a hemisphere) can be guessed. Columns family, n, accuracy.
    """
    rows = []
    for number, family in enumerate(bar(w.CITY_QUESTIONS, "asking, by family")):
        rng = random.Random((80_001 + seed) * 1000 + number)
        turns: list[list[Turn]] = []
        for _ in range(per_family):
            code = rng.choice(sorted(world.reserved_city_codes()))
            turns.append([corpus.fact(rng, rng.choice(world.cities()), f"City {code}", family)])
        right = sum(p == t for p, t in answers(model, tokenizer, turns))
        rows.append({"family": family, "n": per_family, "accuracy": right / per_family})
    return pd.DataFrame(rows)
