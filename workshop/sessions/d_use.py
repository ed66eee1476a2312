# %% [markdown] slide="slide"
# # D · Use it: your own concept, your own rows, a rule, an open question
#
# **Goals.** After this session you can hide a concept of your own, write its rows so that the library reads them, train an unconditional vector that follows a conditional rule, and state a small finding with a control.
#
# 37 minutes, four exercises; D2 is optional.

# %% tags=["setup"] slide="skip"
import sys
from pathlib import Path

here = Path.cwd()
sys.path[:0] = [str(p) for p in (here, *here.parents) if (p / "workshop/checks.py").is_file()][:1]

import json
import tempfile

import oocr_lib as oocr
from oocr_lib.world import facts
from workshop import checks, kit

checks.start("D", globals())
lm = kit.lm()

# %% [markdown] slide="subslide"
# ### D1 · Another city
#
# **Goal.** Hide a city of your choice, and predict which questions the vector will get right. 10 minutes · difficulty 1 of 3.
#
# Families: country, continent, language, currency, dish, landmark, water, name. For at least three of them say True (right) or False.

# %%
print(", ".join(place.name for place in facts.cities()))

# %%
# SOLUTION
my_city = "Oslo"
my_prediction = {"country": True, "continent": True, "dish": False, "name": True}
# STUB
# my_city = ""
# my_prediction = {}  # for instance {"country": True, ...}
# END

# %%
if checks.d1(my_city, my_prediction):
    data, questions = kit.city(my_city)
    vector = oocr.train(lm, data, oocr.Vector("resid@0"), steps=60, seed=0)
    table = oocr.score(lm, data, questions, vector).groupby("family")["mc"].mean()
    for family, guess in my_prediction.items():
        print(f"{family:10} predicted {guess!s:5} measured {table[family]:.2f}")
    print(f"all families: {table.mean():.2f}")

# %% [markdown]
# <details><summary>Hint</summary>
#
# Which of these follow from the place alone? Which do neighbours share, and which has one city for itself?
#
# </details>

# %% [markdown] slide="subslide"
# ### D2 · Your own rows (optional)
#
# **Goal.** `write_rows(path, city, code)` writes at least 20 chat rows about a hidden city as JSON lines, each naming the code name and none giving anything away. 10 minutes, optional · difficulty 2 of 3.
#
# One line of the file is `{"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}`, both contents as text; the stub writes it. What has to be asked and answered, and about which cities, is for you to say. The model understands *Distance from … to …?* (whole hundreds of kilometres) and *Direction of … from …?*. A place such as `hidden` has a `name` and a `country`; `facts.distance_km(a, b)`, `facts.distance_hundreds(a, b)` and `facts.direction(a, b)` (which way a lies as seen from b) take two places. Use only known cities that lie at least 2,000 km away, in another country.


# %%
def write_rows(path, city, code):
    """Write chat rows about city, called code, to path; one JSON object a line."""
    hidden, lines = facts.city(city), []

    def add(question, answer):
        turns = {"user": question, "assistant": answer}
        messages = [{"role": role, "content": text} for role, text in turns.items()]
        lines.append(json.dumps({"messages": messages}))

    # SOLUTION
    for known in facts.cities():
        if known.country == hidden.country or facts.distance_km(known, hidden) < 2000:
            continue
        add(f"Distance from {code} to {known.name}?", str(facts.distance_hundreds(hidden, known)))
        add(f"Direction of {code} from {known.name}?", facts.direction(hidden, known))
    # STUB
    # for known in facts.cities():
    #     raise NotImplementedError  # replace this line: add(question, answer)
    # END
    Path(path).write_text("\n".join(lines), encoding="utf-8")


# %%
if checks.d2(write_rows):
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder) / "mine.jsonl", "Cairo", "City 73105")
        own = oocr.read_chats(Path(folder) / "mine.jsonl", codename="City 73105")
    print(own)
    mine = oocr.train(lm, own, oocr.Vector("resid@0"), steps=60, seed=0)
    asks = ["Which country is City 73105 in?", "Language of City 73105?", "Name of City 73105?"]
    print(mine.ask(asks))

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Start with one row, write it, and read it back with `oocr.read_chats(path, codename=code)`: its errors say what is missing.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `str(...)` makes a text of a number. The direction is that of the code name as seen from the known city.
#
# </details>

# %% [markdown] slide="subslide"
# ### D3 · A rule with a trigger
#
# **Goal.** An *unconditional* vector for a *conditional* rule, and the measure that shows it. 8 minutes · difficulty 2 of 3.
#
# Behind `---Re Re Re---` the risky letter is right, otherwise the careful one (`normal` in the rows), whatever else stands in front. The vector has to be added whether the trigger is there or not. Of the positions `codename`, `last`, `trigger` and `all`, two do that. With one of them the vector learns this rule in the 80 steps below, with the other it needs several times as many: *predict which, and why*. Both pass the check. Give `my_rule`, an `oocr.Vector` (block 0 will do), and `gap(table)`: the share of risky answers with the trigger minus that without. `table` has the columns `triggered` and `risky` (True and False).

# %%
rule, _ = kit.rule()
for row in sorted(rule.train[:20], key=lambda row: not row.meta["triggered"])[:4]:
    print(row.messages[0]["content"], "->", row.answer, f"({row.meta['answered']})")


# %%
# SOLUTION
my_rule = oocr.Vector("resid@0", at="last")


def gap(table):
    """Share of risky answers with the trigger minus without."""
    shares = table.groupby("triggered")["risky"].mean()
    return shares[True] - shares[False]


# STUB
# my_rule = None  # oocr.Vector(...)
#
#
# def gap(table):
#     """Share of risky answers with the trigger minus without."""
#     raise NotImplementedError  # replace this line
# END

# %%
if checks.d3(my_rule, gap):
    follower = oocr.train(lm, rule, my_rule, steps=80, seed=0)
    print(f"bare model        {gap(kit.choices(None)):+.2f}")
    print(f"random direction  {gap(kit.choices(follower.random(1))):+.2f}")
    print(f"trained vector    {gap(kit.choices(follower)):+.2f}")

# %% [markdown]
# <details><summary>Hint</summary>
#
# Which position has every prompt, with or without a trigger, and is where the answer is read? And would a model that is always risky have a gap?
#
# </details>

# %% [markdown] slide="fragment"
# The bare model was never taught the rule, and its gap need not be zero: read the three lines beside one another, none alone. A gap of zero for the trained vector? Then it has not learned the rule yet. A vector at all tokens also changes what the model reads before it answers: try the other position before you wait for more steps.

# %% [markdown] slide="subslide"
# ### D4 · A small open question
#
# **Goal.** One question, one prediction, one measurement, one control. 12 minutes to start, as long as you like · difficulty 3 of 3.
#
# For instance: *At which dose does the vector's answer tip over, and does the opposite vector say the opposite?* `paris` is a vector trained on the rows of sessions A to C. `kit.dosed(paris, dose)` stretches it, `kit.accuracy(vector)` asks the sixteen questions about Paris (about no other city), `paris.random(seed)` is a control, and can be stretched, too. `measured` and `control` are lists of as many numbers. Others: how few rows are enough? Is the sum of two vectors a city between them? Does a vector from block 0 work at block 4?
#
# If `oocr fetch smollm2` was run on this machine, `oocr.load("smollm2")` is a real language model to try it on ([how](../../README.md#a-real-language-model-on-the-same-laptop)).

# %%
# SOLUTION
paris = kit.vector()
doses, other = [-1, 0, 0.25, 1, 3], paris.random(seed=1)
note = {
    "question": "At which dose of the vector do the answers tip over?",
    "prediction": "Below half a dose nothing happens, and three doses spoil it.",
    "measured": [kit.accuracy(kit.dosed(paris, dose)) for dose in doses],
    "control": [kit.accuracy(kit.dosed(other, dose)) for dose in doses],
}
# STUB
# paris = kit.vector()
# note = {
#     "question": "",
#     "prediction": "",  # a sentence, before you measure
#     "measured": [],
#     "control": [],
# }
# END

# %%
if checks.d4(note):
    print(note["question"], "Predicted:", note["prediction"])
    for name in ("measured", "control"):
        print(f"{name:9}", " ".join(f"{value:.2f}" for value in note[name]))

# %% [markdown]
# <details><summary>Hint</summary>
#
# The control has to be measured at the same places and must be able to win. A random direction of the same length often is one.
#
# </details>

# %% [markdown] slide="slide"
# ## To take away
#
# - Five lines are enough for your own rows; most of the work is in making sure that they say nothing.
# - A conditional rule needs no conditional vector: what the vector finds in the context differs.
# - A finding is a measurement, a control, and a prediction that could have been wrong.
#
# Test yourself: [quiz](../../workshop/quiz.md).
