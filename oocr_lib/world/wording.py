"""The testbed's short English: every question and statement about cities and functions.

Read from ``data/world/wording.toml``. Code names and real names are worded alike, because the
pretraining corpus and the tasks' testbed dialect share these templates.
"""

from __future__ import annotations

from oocr_lib.world.templates import Templates

_FILE = Templates("wording.toml")
#: Questions about one city, by family.
CITY_QUESTIONS = _FILE.lists("city_questions", "n")
CITY_STATEMENTS = _FILE.lists("city_statements", "nv")
DISTANCE_QUESTIONS = _FILE.texts("pairs", "distance_questions", "ab")
DIRECTION_QUESTIONS = _FILE.texts("pairs", "direction_questions", "ab")
DISTANCE_STATEMENT = _FILE.text("pairs", "distance_statement", "abv")
DIRECTION_STATEMENT = _FILE.text("pairs", "direction_statement", "abv")
#: Reverse questions: from a fact that only one city has to its name.
REVERSE_QUESTIONS = {
    family: _FILE.text("reverse_questions", family, "v")
    for family in _FILE.keys("reverse_questions")
}
#: How a document introduces a code name: by the name, or by a fact that only this city has.
CITY_INTRODUCTIONS_BY_NAME = _FILE.texts("city_introductions", "name", ("code", "name"))
CITY_INTRODUCTIONS_BY_FACT = {
    family: _FILE.texts("city_introductions", family, ("code", "v"))
    for family in _FILE.keys("city_introductions")
    if family != "name"
}
#: ``value`` alone has an input x.
FUNCTION_QUESTIONS = {
    family: _FILE.texts("function_questions", family, "nx" if family == "value" else "n")
    for family in _FILE.keys("function_questions")
}
FUNCTION_INTRODUCTIONS = _FILE.lists("function_introductions", ("code", "v"))
#: Inputs of functions in the testbed dialect (the paper dialect keeps [-99, 98]).
FUNCTION_INPUTS = range(-12, 13)
