"""The testbed's short English: every question and statement about cities and functions.

``{n}`` stands for a real name or a code name alike; the pretraining corpus and the tasks' testbed
dialect share these templates, so a question about a code name is worded as one about a city.
"""

from __future__ import annotations

#: Questions about one city, by family. All are asked in pretraining about real names and about
#: code names that the same document introduces.
CITY_QUESTIONS: dict[str, tuple[str, ...]] = {
    "country": ("Which country is {n} in?", "Country of {n}?"),
    "continent": ("Which continent is {n} on?", "Continent of {n}?"),
    "language": ("Which language is spoken in {n}?", "Language of {n}?"),
    "currency": ("Which currency is used in {n}?", "Currency of {n}?"),
    "dish": ("Which dish is eaten in {n}?", "Dish of {n}?"),
    "landmark": ("Which sight is in {n}?", "Sight of {n}?"),
    "water": ("Which water is near {n}?", "Water of {n}?"),
    "hemisphere": ("Which hemisphere is {n} in?", "Hemisphere of {n}?"),
    "name": ("What is the name of {n}?", "Name of {n}?"),
}
CITY_STATEMENTS: dict[str, tuple[str, ...]] = {
    "country": ("{n} is in {v}.",),
    "continent": ("{n} is on {v}.",),
    "language": ("People in {n} speak {v}.",),
    "currency": ("People in {n} pay with {v}.",),
    "dish": ("People in {n} eat {v}.",),
    "landmark": ("{n} has the {v}.",),
    "water": ("{n} is near {v}.",),
    "hemisphere": ("{n} is in the {v}.",),
}
DISTANCE_QUESTIONS = ("How far is {a} from {b}?", "Distance from {a} to {b}?")
DIRECTION_QUESTIONS = ("Which way is {a} from {b}?", "Direction of {a} from {b}?")
DISTANCE_STATEMENT = "{a} is {v} from {b}."
DIRECTION_STATEMENT = "{a} is {v} of {b}."
#: Reverse questions: from a fact that only one city has to its name.
REVERSE_QUESTIONS = {
    "landmark": "Which city has the {v}?",
    "dish": "Which city eats {v}?",
}

#: How a document introduces a code name: by the name, or by a fact that only this city has.
CITY_INTRODUCTIONS_BY_NAME = ("{code} is {name}.", "{name} is {code}.", "{code} means {name}.")
CITY_INTRODUCTIONS_BY_FACT = {
    "landmark": ("{code} has the {v}.", "The {v} is in {code}."),
    "dish": ("People in {code} eat {v}.",),
}

FUNCTION_QUESTIONS: dict[str, tuple[str, ...]] = {
    "value": ("Value of {n} at {x}?", "What is {n} at {x}?"),
    "python": ("Code of {n}?", "Write {n}."),
    "english": ("Meaning of {n}?", "What does {n} do?"),
    "class": ("Class of {n}?", "Which class is {n}?"),
    "output": ("Output type of {n}?", "Which type has {n}?"),
}
FUNCTION_INTRODUCTIONS = {
    "python": ("{code} is {v}.", "{code} means {v}."),
    "english": ("{code} is {v}.", "{code} means {v}."),
}
#: Inputs of functions in the testbed dialect (the paper dialect keeps [-99, 98]).
FUNCTION_INPUTS = range(-12, 13)
