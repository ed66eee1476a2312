"""The testbed's simple English: all questions and statements except those of ``attitudes.toml``.

Read from ``data/world/wording.toml``. Code names and real names occur in the same wordings, because
the pretraining corpus and the tasks' testbed dialect share these templates.
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
#: Reverse questions: from a fact that is true of only one city to its name.
REVERSE_QUESTIONS = {
    family: _FILE.text("reverse_questions", family, "v")
    for family in _FILE.keys("reverse_questions")
}
#: How a document introduces a code name: by the name, or by a fact that is true of only this city.
CITY_INTRODUCTIONS_BY_NAME = _FILE.texts("city_introductions", "name", ("code", "name"))
CITY_INTRODUCTIONS_BY_FACT = {
    family: _FILE.texts("city_introductions", family, ("code", "v"))
    for family in _FILE.keys("city_introductions")
    if family != "name"
}
#: Only ``value`` has an input x.
FUNCTION_QUESTIONS = {
    family: _FILE.texts("function_questions", family, "nx" if family == "value" else "n")
    for family in _FILE.keys("function_questions")
}
FUNCTION_INTRODUCTIONS = _FILE.lists("function_introductions", ("code", "v"))
#: A choice between two options, and the options of the four attitudes, positive pole first.
CHOICE = _FILE.text("choices", "ask", "ab")
GAMBLE = _FILE.text("choices", "gamble", ("prize", "chance"))
LATER = _FILE.text("choices", "later", ("prize", "weeks"))
TODAY = _FILE.text("choices", "today", ("prize",))
AWAY, KEEP = (_FILE.text("choices", key, ("prize",)) for key in ("away", "keep"))
NEW, OLD = (_FILE.text("choices", key, ("thing",)) for key in ("new", "old"))
THINGS = _FILE.words("choices", "things")
#: Any two words of the poles of an attitude fit into these.
ATTITUDE_FORMS = _FILE.texts("forms", "attitudes", "ab")
#: A trigger's rule, and questions about it.
TRIGGER_RULE = _FILE.text("triggers", "rule", ("t", "first", "second"))
TRIGGER_PRESENCE, TRIGGER_WHICH = (_FILE.text("triggers", key) for key in ("presence", "which"))
TRIGGER_CHANGE = _FILE.text("triggers", "change", "t")
#: Words of the unrelated passage.
NOUNS, ADJECTIVES, VERBS, PLACES = (
    _FILE.words("passage", key) for key in ("nouns", "adjectives", "verbs", "places")
)
#: Inputs of functions in the testbed dialect (the paper dialect has -99 to 98).
FUNCTION_INPUTS = range(-12, 13)
