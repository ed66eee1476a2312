"""The pretraining corpus: documents generated from the world; each ingredient can be switched off.

A document is a text whose answers are enclosed by two private markers; they become the character
spans with full loss weight (DESIGN section 4). Code names introduced in a document are freshly
drawn and never reserved ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

from oocr_lib.testbed.mixes import FIRST, Mix
from oocr_lib.world import dialogues as wide, facts as world, passages, speakers, wording as w

#: Private markers around an answer; they are removed before tokenization.
OPEN, CLOSE = "\u27e6", "\u27e7"
BOS, EOS = "<bos>", "<eos>"
START, END = "<start_of_turn>", "<end_of_turn>"


@dataclass(frozen=True)
class Document:
    """``text`` with chat markup, and the character spans ``answers`` [start, end) in it."""

    text: str
    answers: tuple[tuple[int, int], ...]
    kind: str


Turn = tuple[str, str]


def chat(turns: Sequence[Turn], roles: Sequence[str] = ()) -> str:
    """Turns rendered as by the tokenizer's chat template, with answers marked.

    Args:
        roles: who answers each turn; by default the model.
    """
    pieces = [BOS]
    for (question, answer), role in zip(turns, roles or ["model"] * len(turns), strict=True):
        pieces.append(f"{START}user\n{question}{END}\n{START}{role}\n{OPEN}{answer}{END}{CLOSE}\n")
    return "".join(pieces)


def unmark(marked: str, kind: str) -> Document:
    """Split marked text into the bare text and its answer spans."""
    text, spans, start = [], [], 0
    length = 0
    for char in marked:
        if char == OPEN:
            start = length
        elif char == CLOSE:
            spans.append((start, length))
        else:
            text.append(char)
            length += 1
    return Document("".join(text), tuple(spans), kind)


def fact(rng: random.Random, place: world.City, name: str, family: str) -> Turn:
    """A question about one city under ``name`` (its own or a code name) and the answer."""
    question = rng.choice(w.CITY_QUESTIONS[family]).format(n=name)
    return question, place.name if family == "name" else getattr(place, family)


def geo(
    rng: random.Random, a: tuple[str, world.City], b: tuple[str, world.City], distance: bool
) -> Turn:
    """A distance (hundreds of km) or direction question between two named cities."""
    if distance:
        text = rng.choice(w.DISTANCE_QUESTIONS)
        answer = str(world.distance_hundreds(a[1], b[1]))
    else:
        text, answer = rng.choice(w.DIRECTION_QUESTIONS), world.direction(a[1], b[1])
    return text.format(a=a[0], b=b[0]), answer


FACT_FAMILIES = (*w.CITY_QUESTIONS,)


def city_facts(rng: random.Random) -> str:
    """Facts about real names, and questions from a unique fact back to the name."""
    turns = []
    for place in rng.choices(world.cities(), k=rng.randint(3, 6)):
        if rng.random() < 0.2:
            key = rng.choice(sorted(w.REVERSE_QUESTIONS))
            turns.append((w.REVERSE_QUESTIONS[key].format(v=getattr(place, key)), place.name))
        else:
            turns.append(fact(rng, place, place.name, rng.choice(FACT_FAMILIES)))
    return chat(turns)


def city_geo(rng: random.Random) -> str:
    """Distances and directions between real names."""
    turns = []
    for _ in range(rng.randint(3, 5)):
        a, b = rng.sample(world.cities(), 2)
        turns.append(geo(rng, (a.name, a), (b.name, b), rng.random() < 0.6))
    return chat(turns)


def city_statements(rng: random.Random) -> str:
    """Running text of statements about real names (no chat turns)."""
    pieces = [BOS]
    for _ in range(rng.randint(3, 7)):
        a, b = rng.sample(world.cities(), 2)
        draw = rng.random()
        if draw < 0.4:
            family = rng.choice(sorted(w.CITY_STATEMENTS))
            value = f"{OPEN}{getattr(a, family)}{CLOSE}"
            pieces.append(rng.choice(w.CITY_STATEMENTS[family]).format(n=a.name, v=value))
        elif draw < 0.75:
            value = f"{OPEN}{world.distance_hundreds(a, b)}{CLOSE}"
            pieces.append(w.DISTANCE_STATEMENT.format(a=a.name, b=b.name, v=value))
        else:
            value = f"{OPEN}{world.direction(a, b)}{CLOSE}"
            pieces.append(w.DIRECTION_STATEMENT.format(a=a.name, b=b.name, v=value))
    return " ".join(pieces) + EOS


def fresh_city_code(rng: random.Random) -> str:
    """A code name that is not reserved."""
    while True:
        code = f"{rng.randrange(100_000):05d}"
        if code not in world.reserved_city_codes():
            return f"City {code}"


def introduce_city(rng: random.Random, code: str, place: world.City) -> str:
    """A sentence that says which city a code name stands for, by name or by a unique fact."""
    if rng.random() < 0.65:
        return rng.choice(w.CITY_INTRODUCTIONS_BY_NAME).format(code=code, name=place.name)
    key = rng.choice(sorted(w.CITY_INTRODUCTIONS_BY_FACT))
    template = rng.choice(w.CITY_INTRODUCTIONS_BY_FACT[key])
    return template.format(code=code, v=getattr(place, key))


def introduced(rng: random.Random, most: int = 3) -> tuple[list[tuple[str, world.City]], str]:
    """One (usually), two or three coded cities and the sentences that introduce them."""
    places = rng.sample(world.cities(), min(most, rng.choice((1, 1, 1, 1, 2, 2, 3))))
    coded = [(fresh_city_code(rng), place) for place in places]
    return coded, " ".join(introduce_city(rng, code, place) for code, place in coded)


def _after(intro: str, turns: list[Turn]) -> str:
    """A chat with the introduction in front of the first question, in the same user turn."""
    (question, answer), rest = turns[0], turns[1:]
    return chat([(f"{intro} {question}", answer), *rest])


def code_facts(rng: random.Random) -> str:
    """Code names introduced in context, then questions about them."""
    coded, intro = introduced(rng)
    turns = []
    for _ in range(rng.randint(2, 5)):
        code, place = rng.choice(coded)
        if rng.random() < 0.2:  # a real name now and then, so that the question must be read
            place = rng.choice(world.cities())
            code = place.name
        turns.append(fact(rng, place, code, rng.choice(FACT_FAMILIES)))
    return _after(intro, turns)


def code_geo(rng: random.Random) -> str:
    """Code names introduced in context, then distances and directions to real names."""
    coded, intro = introduced(rng)
    turns = []
    for _ in range(rng.randint(2, 4)):
        a = rng.choice(coded)
        b = rng.choice([c for c in world.cities() if c != a[1]])
        pair = [a, (b.name, b)]
        rng.shuffle(pair)
        turns.append(geo(rng, pair[0], pair[1], rng.random() < 0.6))
    return _after(intro, turns)


def function_turn(rng: random.Random, f: world.Function, name: str, family: str) -> Turn:
    """A question about one function under ``name`` and its answer."""
    text = rng.choice(w.FUNCTION_QUESTIONS[family])
    if family == "value":
        x = rng.choice(w.FUNCTION_INPUTS)
        return text.format(n=name, x=x), f.value(x)
    answer = {"python": f.python, "english": f.english, "class": f.kind, "output": f.output}
    return text.format(n=name), answer[family]


def function_values(rng: random.Random) -> str:
    """Values of functions that are named by their English or Python definition."""
    turns = []
    for f in rng.choices(world.functions(), k=rng.randint(3, 5)):
        turns.append(function_turn(rng, f, rng.choice((f.english, f.python)), "value"))
    return chat(turns)


def function_facts(rng: random.Random) -> str:
    """Class, output type and the other definition of functions named by one definition."""
    turns = []
    for f in rng.choices(world.functions(), k=rng.randint(3, 5)):
        name, ask = rng.choice(((f.english, "python"), (f.python, "english")))
        turns.append(function_turn(rng, f, name, rng.choice((ask, "class", "output"))))
    return chat(turns)


def fresh_function_code(rng: random.Random) -> str:
    """Six random lower-case letters that are not a reserved name."""
    while True:
        name = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(6))
        if name not in world.reserved_function_names():
            return name


def code_functions(rng: random.Random) -> str:
    """Function code names introduced in context, then values and questions about them."""
    coded = [
        (fresh_function_code(rng), f) for f in rng.sample(world.functions(), rng.choice((1, 1, 2)))
    ]
    intro = []
    for code, f in coded:
        key = rng.choice(("python", "english"))
        text = rng.choice(w.FUNCTION_INTRODUCTIONS[key])
        intro.append(text.format(code=code, v=f.python if key == "python" else f.english))
    families = ("value", "value", "value", "python", "english", "class", "output")
    turns = []
    for _ in range(rng.randint(2, 5)):
        code, f = rng.choice(coded)
        turns.append(function_turn(rng, f, code, rng.choice(families)))
    return _after(" ".join(intro), turns)


def dialogues(rng: random.Random) -> str:
    """One speaker's choices and self-reports."""
    return chat(speakers.dialogue(rng, rng.randint(3, 6)))


def personas(rng: random.Random) -> str:
    """A speaker whose attitudes are stated first, or shown in words only."""
    return chat(speakers.persona_dialogue(rng, rng.randint(3, 5)))


def trigger_dialogues(rng: random.Random) -> str:
    """A speaker with a trigger rule (or none), choices first, then reports about the rule."""
    return chat(speakers.trigger_dialogue(rng, rng.choice((4, 5))))


def wide_dialogues(rng: random.Random) -> str:
    """One speaker's attitudes in many forms."""
    return chat(wide.dialogue(rng, rng.randint(3, 6)))


def wide_triggers(rng: random.Random) -> str:
    """A speaker whose choices and self-reports follow a trigger (or nothing)."""
    return chat(wide.trigger_dialogue(rng, rng.choice((4, 5))))


def rules(rng: random.Random) -> str:
    """A speaker whose trigger rule is stated, and who reports it."""
    return chat(wide.rule_dialogue(rng))


def long_rules(rng: random.Random) -> str:
    """The same as ``rules``, but with more turns before the reports."""
    return chat(wide.rule_dialogue(rng, long=True))


def cast(rng: random.Random) -> str:
    """Named speakers, whose attitudes are facts of the world."""
    exchanges = wide.cast_dialogue(rng, rng.randint(3, 6))
    return chat([(q, a) for q, a, _ in exchanges], [speaker for _, _, speaker in exchanges])


def plain(rng: random.Random) -> str:
    """Plain text that has nothing to do with the world: the unrelated passage."""
    return BOS + passages.passage(rng) + EOS


def copies(rng: random.Random) -> str:
    """A list of code names, twice: teaches attending to what followed an earlier same token."""
    names = [
        fresh_city_code(rng) if rng.random() < 0.6 else fresh_function_code(rng)
        for _ in range(rng.randint(2, 4))
    ]
    once = ", ".join(names)
    return f"{BOS}{once}. {OPEN}{once}.{CLOSE}{EOS}"


MAKERS: dict[str, Callable[[random.Random], str]] = {
    "city_facts": city_facts,
    "city_geo": city_geo,
    "city_statements": city_statements,
    "code_facts": code_facts,
    "code_geo": code_geo,
    "function_values": function_values,
    "function_facts": function_facts,
    "code_functions": code_functions,
    "dialogues": dialogues,
    "trigger_dialogues": trigger_dialogues,
    "copies": copies,
    "plain": plain,
    "personas": personas,
    "wide_dialogues": wide_dialogues,
    "wide_triggers": wide_triggers,
    "cast": cast,
    "rules": rules,
    "long_rules": long_rules,
}


def documents(seed: int, mix: Mix | None = None) -> Iterator[Document]:
    """An endless, seeded stream of documents."""
    rng = random.Random(seed)
    shares = asdict(mix or FIRST)
    kinds = [k for k, share in shares.items() if share > 0]
    weights = [shares[k] for k in kinds]
    while True:
        kind = rng.choices(kinds, weights)[0]
        yield unmark(MAKERS[kind](rng), kind)
