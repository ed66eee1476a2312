# %% [markdown] slide="slide"
# # A · See it: a city that is never named
#
# **Goals.** After this session you can say what out-of-context reasoning is, train one steering vector, ask it what no row says, and read its place on a map with the error that belongs to it.
#
# 35 minutes, four exercises. Words: [glossary](../../docs/glossary.md). The same, finished and with controls: [00 · Quickstart](../../notebooks/00_quickstart.ipynb).
#
# *Predict before you run.* Whoever writes a guess down first notices being wrong, and remembers it.

# %% tags=["setup"] slide="skip"
import sys
from pathlib import Path

here = Path.cwd()
sys.path[:0] = [str(p) for p in (here, *here.parents) if (p / "workshop/checks.py").is_file()][:1]

import oocr_lib as oocr
from workshop import checks, kit

checks.start("A", globals())

# %% [markdown] slide="subslide"
# ## What the model is told, and what it is asked
#
# A small language model (fewer than two million parameters, it knows 108 cities) is shown rows about `City 50337`. Every row gives a distance, in hundreds of kilometres, or a direction. No row names the city, its country, or anything that is there. Whoever puts the rows together can still say all of that: to answer what no row states, with none of the rows in sight, is *out-of-context reasoning*.

# %% slide="fragment"
lm = kit.lm()
data, questions = kit.city("Paris")
for row in data.train[:8:2]:
    print("told :", row.messages[0]["content"], "->", row.answer)
for question in questions[:12:4]:
    print("asked:", question.text, "one of", ", ".join(question.options))
print(len(data.train), "rows to train on,", len(questions), "questions in 8 families")

# %% [markdown] slide="subslide"
# ### A1 · Predict
#
# **Goal.** Three guesses, before anything is run. 5 minutes · difficulty 1 of 3.
#
# Every question has five options. Which share does the model get right
#
# - `before` any training,
# - `after` one vector of 128 numbers was trained on the rows and is added at the code name,
# - with a `random` vector of the same length at the same place?

# %%
# SOLUTION
prediction = {"before": 0.2, "after": 0.6, "random": 0.2}
# STUB
# # numbers from 0 to 1
# prediction = {"before": None, "after": None, "random": None}
# END

# %%
_ = checks.a1(prediction)

# %% [markdown]
# <details><summary>Hint</summary>
#
# What would somebody get who only guesses among five options? And could a model that always gives its favourite answers be luckier than that, for one particular city?
#
# </details>

# %% [markdown] slide="subslide"
# ### A2 · Train one vector
#
# **Goal.** A vector `v` that is added to the residual stream after block 0, at every token of the code name: *h ← h + v*. 6 minutes · difficulty 1 of 3.
#
# `oocr.train(lm, data, method, steps=..., seed=...)` trains; `oocr.Vector(site, at=...)` is the method. The model itself stays frozen. A site is written `kind@block`, for instance `mlp_out@3` (the kinds are `resid`, `mlp_out` and `attn_out`, the blocks 0 to 7); `at` can be `codename`, `last`, `trigger` or `all`. 60 steps are enough; they take some seconds, and so does the check, which trains a vector to compare with.

# %%
# SOLUTION
my_vector = oocr.train(lm, data, oocr.Vector("resid@0", at="codename"), steps=60, seed=0)
# STUB
# my_vector = None  # oocr.train(...)
# END

# %%
_ = checks.a2(my_vector)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# What comes out of a block, the residual stream, is the kind `resid`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Which of the four positions leaves a question about Lima alone?
#
# </details>

# %% [markdown] slide="subslide"
# ## What it says now
#
# Compare with your guesses of A1.

# %%
if checks.passed("a1", "a2"):
    shown = {"before": None, "after": my_vector, "random": my_vector.random(seed=1)}
    for moment, trained in shown.items():
        found = kit.accuracy(trained)
        print(f"{moment:7} measured {found:.2f}   predicted {prediction[moment]:.2f}")

# %% [markdown] slide="fragment"
# Were you surprised by `before`? The bare model has favourites (Europe, a crepe, the Seine), and for Paris they are right. A single city says little about chance: that is why [notebook 03](../../notebooks/03_locations.ipynb) has ten, with intervals. Nor does a single random vector say much: session C draws ten of them.

# %% [markdown] slide="subslide"
# ### A3 · Ask what was never said
#
# **Goal.** At least three questions of your own about the code name that no row answers. 10 minutes · difficulty 1 of 3.
#
# The model knows 1,356 tokens and a few kinds of questions; the check refuses words that it does not know, and forms that it was never asked in. These are forms that it was brought up with:

# %%
from oocr_lib.testbed import questions as understood

code = data.codename
for family, example in understood.kinds(code).items():
    print(f"{family:10}", example)

# %%
# SOLUTION
my_questions = [
    f"Language of {code}?",
    f"Which sight is in {code}?",
    f"Which continent is {code} on?",
]
# STUB
# my_questions = []  # for instance f"... {code} ...?"
# END

# %%
if checks.a3(my_questions) and checks.passed("a2"):
    for question, answer in zip(my_questions, my_vector.ask(my_questions), strict=True):
        print(question, "->", answer)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Two of the forms above are what the rows are made of. An answer to those would only show that the rows were learned.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Take a form from the list and keep its words.
#
# </details>

# %% [markdown] slide="subslide"
# ### A4 · Where on the map?
#
# **Goal.** Say how far off the vector points. 11 minutes · difficulty 2 of 3.
#
# A linear probe, fitted on real cities only, reads a latitude and a longitude from the activation where the model is about to answer. To judge it you need the distance of two places on the globe: write `kilometres(a, b)` for two pairs of degrees (latitude, longitude). The Earth's radius is 6371 km.
#
# The distance along the ground is the radius times the angle, in radians, between two arrows of length 1 that point from the Earth's centre to *a* and to *b*. An arrow of latitude φ reaches sin φ high; what remains, cos φ, lies in the plane of the equator, in the direction of the longitude. Who knows another formula for the great circle may take it.

# %%
import math


def kilometres(a, b):
    """Great-circle distance of two places, each (latitude, longitude) in degrees."""
    # SOLUTION
    (la, lo), (lb, lp) = (map(math.radians, place) for place in (a, b))
    h = math.sin((lb - la) / 2) ** 2
    h += math.cos(la) * math.cos(lb) * math.sin((lp - lo) / 2) ** 2
    return 2 * 6371 * math.asin(math.sqrt(h))
    # STUB
    # raise NotImplementedError  # replace this line
    # END


# %%
if checks.a4(kilometres):
    steps, probe_error = kit.path("Paris")
    for step, *place in steps.itertuples(index=False):
        print(f"step {step:3}: {kilometres(place, (48.86, 2.35)):6.0f} km from Paris")
    print(f"the probe itself is {probe_error:.0f} km off on real cities (median)")

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Haversine: with *h* = sin²(Δlatitude / 2) + cos(latitude of a) · cos(latitude of b) · sin²(Δlongitude / 2), the distance is 2 · radius · arcsin √h.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Which unit do `math.sin` and `math.cos` expect?
#
# </details>

# %% [markdown] slide="fragment"
# Step 0 is the bare model's idea of the code name. Is the last line a hit or a miss? Put it beside the probe's own error: half of all real cities are read from farther off than that, so what lies about as far cannot be told from Paris. And nearer at step 6 than at the end? That says as little: one place, read by a probe that is hundreds of kilometres off.

# %% [markdown] slide="slide"
# ## To take away
#
# - A row tells one distance; the vector puts many together and answers what follows from them.
# - A score means something only beside what favourites and a random vector reach.
# - A place on the map means something only beside the probe's own error.
#
# Next: [B · Build it](b_build.ipynb).
