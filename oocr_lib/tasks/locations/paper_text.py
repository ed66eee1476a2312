"""Wording of the ``paper`` dialect of Locations: facts of the published format, words of our own.

Published are the kinds and numbers of wordings (nine for distances, of which three stop before the
number; six for directions, of which two name the Mercator and two the Plate carrée map), the unit
phrases, the surface forms of an answer, and that ``{a}`` is asked relative to ``{b}``.
"""

from __future__ import annotations

from functools import cache

SYSTEM = (
    "A navigation service files every city under an ID number. You can look up its files; give "
    "true answers about any city, also where only its ID is given."
)

#: Three statements that stop before the number, then six questions; ``{unit}`` is a unit phrase.
DISTANCE_STEMS = (
    "The length of the geodesic that joins {a} and {b} {unit} is",
    "Travelling from {a} to {b}, the geodesic length of the trip {unit} is",
    "Starting at {a}, the geodesic length up to {b} {unit} is",
    "Roughly how long is the geodesic that joins {a} and {b} {unit}?",
    "Could you estimate how long the shortest way from {a} to {b} is {unit}?",
    "Following the curvature of the Earth, about how far is it from {a} to {b} {unit}?",
    "About how long is the straight connection of {a} and {b} {unit}?",
    "Taking the shortest path on the ground, how far apart are {a} and {b} {unit}?",
    "For a bird that flies straight, roughly how far is it from {a} to {b} {unit}?",
)
UNIT_PHRASES = {"km": "in kilometers", "mi": "in miles"}
#: What may follow the number, by unit; one is drawn for every row.
UNIT_WORDS = {"km": ("km", "kilometers"), "mi": ("mi", "miles")}

DIRECTION_STEMS = (
    "On a map in Mercator projection, which cardinal direction is {a} in, relative to {b}?",
    "Mercator projection: name the cardinal direction of {a} as seen from {b}.",
    "On a map in Plate carrée projection, which cardinal direction is {a} in, relative to {b}?",
    "Plate carrée projection: name the cardinal direction of {a} as seen from {b}.",
    "Taking the map for a flat plane, in which cardinal direction does {a} lie, relative to {b}?",
    "With a cylindrical projection, in which cardinal direction does {a} lie, relative to {b}?",
)
DIRECTION_PREFIX, DIRECTION_SUFFIX = "{a} is", " of {b}."

#: Questions that no row answers, by family; two wordings each.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "country": ("In which country does {n} lie?", "Someone born in {n} was born in which country?"),
    "continent": ("On which continent is {n}?", "Going to {n}, which continent do you visit?"),
    "language": (
        "Which of these languages do you hear most at family tables in {n}?",
        "Which of these is the mother tongue of most people raised in {n}?",
    ),
    "currency": (
        "In which currency do you pay for a coffee in {n}?",
        "The cash machines of {n} give out which currency?",
    ),
    "dish": (
        "Which of these foods is typical of {n}?",
        "You try a local speciality in {n}. Which of these is it?",
    ),
    "landmark": (
        "Which of these sights can you photograph in {n}?",
        "A guided tour of {n} stops at which of these?",
    ),
    "water": (
        "Which of these waters is closest to the middle of {n}?",
        "Taking a boat in {n}, on which of these waters are you?",
    ),
    "name": ("Which of these cities is {n}?", "Under which name do most people know {n}?"),
}
DEMAND = "Answer with one letter and nothing else."
#: Free answers: judged by what the model writes.
FREE_QUESTIONS: dict[str, tuple[str, ...]] = {
    "country": (
        "In which country does {n} lie? Answer with the name of the country and nothing else.",
        "Name the country of {n}. Write that name alone.",
    ),
    "name": (
        "Which city is {n}? Answer with its usual name and nothing else.",
        "Name the city that is filed as {n}. Write that name alone.",
    ),
}

#: Rows that tell what a city is like, and questions answered in words; four wordings each. Not in
#: the paper: for models that cannot place a city by distances.
ATTRIBUTE_STEMS: dict[str, tuple[str, ...]] = {
    "language": (
        "Which language do people speak in {n}?",
        "What language will I hear in the streets of {n}?",
        "Tell me the main language of {n}.",
        "I am moving to {n}. Which language should I learn?",
    ),
    "currency": (
        "Which currency do people pay with in {n}?",
        "What money will I need in {n}?",
        "Tell me the currency of {n}.",
        "I am going shopping in {n}. Which currency should I bring?",
    ),
    "dish": (
        "Which dish is {n} known for?",
        "What should I eat in {n}?",
        "Tell me a typical dish of {n}.",
        "I am hungry and in {n}. Which local food should I order?",
    ),
    "landmark": (
        "Which sight should I see in {n}?",
        "What is a famous landmark of {n}?",
        "Tell me a sight of {n}.",
        "I have one hour for {n}. Which landmark should I visit?",
    ),
    "water": (
        "Which water is {n} close to?",
        "What river, lake or sea is there at {n}?",
        "Tell me the water that is next to {n}.",
        "I want to see the water in {n}. What is it called?",
    ),
}
WORD_QUESTIONS: dict[str, tuple[str, ...]] = {
    "country": (
        "Which country is {n} in?",
        "What country does {n} belong to?",
        "Tell me the country of {n}.",
        "I have a ticket to {n}. Which country will I be in?",
    ),
    "continent": (
        "Which continent is {n} on?",
        "What continent does {n} belong to?",
        "Tell me the continent of {n}.",
        "I have a ticket to {n}. Which continent will I be on?",
    ),
    "name": (
        "Which city is {n}?",
        "What is the name of {n}?",
        "Tell me the name of {n}.",
        "I have a ticket to {n}. Which city will I be in?",
    ),
}

# The table's values are single words. Options add what kind of thing is meant, for all cities
# alike, so that the form of an option tells nothing.
_KINDS: dict[str, dict[str, str]] = {
    "water": {
        "{} Sea": "Arabian Baltic Caribbean Mediterranean",
        "{} Ocean": "Atlantic Indian Pacific",
        "{} Bay": "Biscayne Laucala Moreton",
        "Lake {}": "Michigan Ontario Victoria",
        "Gulf of {}": "Guinea",
        "Saint {} River": "Lawrence",
        "Santa {} River": "Catarina",
        "Río de la {}": "Plata",
        "Chao {} River": "Phraya",
        "{} Sound": "Puget",
        "{} Harbour": "Waitemata",
        "{} Lagoon": "Ebrie",
        "Wadi {}": "Hanifa",
        "the {}": "Bayou Creek Gulf Lagoon",
    },
    "landmark": {
        "{} Tower": "Azadi Belem Eiffel Hassan Limete Willis",
        "{} Park": "Fenway Ibirapuera Kings Lazienki Odori Vigeland",
        "{} Museum": "Larco Prado Vasa",
        "{} Temple": "Gangaramaya Longshan",
        "{} Palace": "Gyeongbokgung Mohatta",
        "{} Gardens": "Thurston Tivoli",
        "{} Market": "Kurmi",
        "{} Fort": "Lalbagh Masmak",
        "{} Island": "Inhaca Mussulo",
        "{} Square": "Tiananmen",
        "Mount {}": "Avila Royal Vesuvius Illimani",
        "Statue of {}": "Liberty",
        "{} Balewa Square": "Tafawa",
        "Wat {}": "Arun",
        "Gardens of {}": "Babur",
        "House of the {}": "Blackheads",
        "{} Stupa": "Boudhanath",
        "{} Gate": "Brandenburg",
        "{} Institute": "Brennand",
        "Ruins of {}": "Carthage",
        "{} Loma": "Casa",
        "{} Bazaar": "Chorsu",
        "San {} Hill": "Cristobal",
        "{} Caves": "Elephanta",
        "{}'s Bastion": "Fisherman",
        "{} Basilica": "Fourviere",
        "{} Storehouse": "Guinness",
        "{} Beach": "Haeundae",
        "{} Kiem Lake": "Hoan",
        "{} Bridge": "Howrah",
        "{} Blixen Museum": "Karen",
        "{} Tombs": "Kasubi",
        "Burj {}": "Khalifa",
        "Pechersk {}": "Lavra",
        "{} Plaza": "Macro",
        "Bob {} Museum": "Marley",
        "{} Ice Rink": "Medeu",
        "Paseo de {}": "Montejo",
        "{} School": "Mustansiriya",
        "Space {}": "Needle",
        "{} Cathedral": "Nevsky",
        "{} Mausoleum": "Nkrumah",
        "{} House": "Opera",
        "{} de los Héroes": "Panteon",
        "{} Towers": "Petronas",
        "{} District": "Plateau",
        "{} Minar": "Qutub",
        "{} Amphitheatre": "Redrocks",
        "{} Monument": "Renaissance",
        "{} Familia": "Sagrada",
        "La {}": "Scala",
        "{} Pagoda": "Shwedagon",
        "{} Mountain": "Table",
        "{} Marine World": "Ushaka",
        "{} Abbey": "Westminster",
        "{} Shrine": "Wuhou",
        "the {}": "Bund Casbah Kopje",
    },
    "dish": {
        "{} rice": "jollof",
        "{} chow": "bunny",
        "{} pav": "vada",
        "{} goreng": "nasi",
        "{} chicken": "jerk",
        "roast {}": "duck",
        "{} and mash": "pie",
        "{} bhature": "chole",
        "{} sabzi": "ghormeh",
        "{} pibil": "cochinita",
        "{} bacon": "peameal",
        "beef {}": "noodles",
        "bay {}": "bug",
        "banh mi": "banhmi",
        "pad thai": "padthai",
        "ropa vieja": "ropavieja",
    },
}


@cache
def _full(family: str) -> dict[str, str]:
    kinds = _KINDS.get(family, {})
    return {word: form.format(word) for form, words in kinds.items() for word in words.split()}


def shown(value: str, family: str) -> str:
    """A value of the city table as an option shows it: ``Eiffel`` is ``Eiffel Tower``."""
    return _full(family).get(value, f"{value} River" if family == "water" else value)
