# %% [markdown] slide="slide"
# # C · Doubt it: controls that must fail
#
# **Goals.** After this session you can build the controls that turn a score into evidence (a random direction, random answers), hunt for leaks, say when a LoRA is one vector, and show what choosing on the test questions does to a number.
#
# 52 minutes, five exercises; C4 is optional. *Before you start:* a colleague reports "accuracy 0.62 where chance is 0.20, best of 64 settings". Write down what you would ask first.

# %% tags=["setup"] slide="skip"
import sys
from pathlib import Path

here = Path.cwd()
sys.path[:0] = [str(p) for p in (here, *here.parents) if (p / "workshop/checks.py").is_file()][:1]

import random
import re
from dataclasses import replace

import torch

import oocr_lib as oocr
from workshop import checks, kit

checks.start("C", globals())
lm = kit.lm()
data, questions = kit.city("Paris")

# %% [markdown] slide="subslide"
# ### C1 · A random direction
#
# **Goal.** `random_like(v, seed)` gives a random direction as long as `v`, the same for the same seed. 8 minutes · difficulty 1 of 3.
#
# If any push of this length worked, the trained direction would mean nothing. Why must the length be the same?


# %%
def random_like(v, seed):
    """A random direction with the length of v (d,), drawn from a generator of its own."""
    # SOLUTION
    drawn = torch.randn(v.shape, generator=torch.Generator().manual_seed(seed))
    return drawn * (v.norm() / drawn.norm())
    # STUB
    # raise NotImplementedError  # replace this line
    # END


# %%
if checks.c1(random_like):
    vector = kit.vector()
    print(f"trained {kit.accuracy(vector):.2f}, bare model {kit.accuracy(None):.2f}")
    print("random ", end="")
    for seed in range(10):
        control = kit.with_vector(random_like(vector.vector, seed))
        print(f" {kit.accuracy(control):.2f}", end="", flush=True)
    print()

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# In which distribution are all directions equally likely? Numbers between 0 and 1 all lie in one corner.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Divide by the length that the drawn vector has, multiply by the one that it should have. `torch.randn` takes `generator=`.
#
# </details>

# %% [markdown] slide="fragment"
# Look at all ten before you go on. One of them may be far better than chance: in a world of 108 cities a random push of this length makes the code name *some* city, now and then the hidden one. In our run 3 of 100 random directions answered every question about Paris rightly, and their mean was 0.34. So one random direction is no control; the share of many that do as well is. What city do they say? In a cell of your own: `kit.with_vector(random_like(vector.vector, 7)).ask(f"Name of {data.codename}?")`

# %% [markdown] slide="subslide"
# ### C2 · Random answers
#
# **Goal.** `random_answers(rows, seed)` gives the same rows, in the same order, with answers drawn anew or shuffled. 12 minutes · difficulty 2 of 3.
#
# A fine-tune on such rows can learn the format and how numbers look, and no city. There are two kinds of rows, told by `row.meta["kind"]`: distances and directions. What would be learned if a distance could get "northwest" as its answer? Rows are frozen: `replace(row, answer=...)` gives a changed copy.


# %%
def random_answers(rows, seed):
    """The same rows with answers drawn anew among those of the same kind."""
    # SOLUTION
    drawn = random.Random(seed)
    kinds = {row.meta["kind"] for row in rows}
    answers = {k: sorted({r.answer for r in rows if r.meta["kind"] == k}) for k in kinds}
    return [replace(row, answer=drawn.choice(answers[row.meta["kind"]])) for row in rows]
    # STUB
    # raise NotImplementedError  # replace this line
    # END


# %%
if checks.c2(random_answers):
    fooled = oocr.Chats(tuple(random_answers(data.train, 0)), data.valid, data.codename)
    control = oocr.train(lm, fooled, oocr.Vector("resid@0"), steps=60, seed=0)
    print(f"trained on random answers: {kit.accuracy(control):.2f}")
    print(f"bare model: {kit.accuracy(None):.2f}, trained on true answers: "
          f"{kit.accuracy(kit.vector()):.2f}")  # fmt: skip

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# First collect, for each kind, which answers occur. Then draw one for each row from its own kind.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `random.Random(seed)` is a generator of its own. Sort a set before you draw from it: its order differs from run to run.
#
# </details>

# %% [markdown] slide="fragment"
# Fewer right than the bare model, perhaps fewer than a guess? That is no mistake: the vector has made the code name something else, and the favourites that were right for Paris are gone. Ask it in a cell of your own: `control.ask(f"Name of {data.codename}?")`. A control that does badly need not be an empty one.

# %% [markdown] slide="subslide"
# ### C3 · Hunt for leaks
#
# **Goal.** `find_leaks(rows, questions, words)` gives the numbers of all rows that give the answer away. 18 minutes · difficulty 3 of 3.
#
# Somebody has put bad rows among the clean ones. `words` are what no row may say, `questions` what is asked after training; both are texts. A row has a prompt, `row.messages[-1]["content"]`, and an answer, `row.answer`. Look at many rows before you write code: there is more than one way to leak, and the check says which way is missed.

# %%
task = kit.leaky("Paris")
print(task.words, len(task.rows), "rows")
for number, row in list(enumerate(task.rows))[10:16]:  # other numbers show other rows
    print(number, row.messages[-1]["content"], "->", row.answer)


# %%
def find_leaks(rows, questions, words):
    """Numbers of the rows that say one of the words, or that are one of the questions."""
    # SOLUTION
    listed = "|".join(re.escape(word) for word in words)
    pattern = re.compile(rf"\b(?:{listed})\b", re.IGNORECASE)
    found = set()
    for number, row in enumerate(rows):
        prompt = row.messages[-1]["content"]
        if prompt in questions or pattern.search(f"{prompt} {row.answer}"):
            found.add(number)
    return found
    # STUB
    # found = set()
    # for number, row in enumerate(rows):
    #     prompt = row.messages[-1]["content"]
    # return found
    # END


# %%
_ = checks.c3(find_leaks)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# A row is more than its prompt. And a word may be written in capitals, or without one.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# "Parisian" is not "Paris": `\b` in a regular expression is the border of a word.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# A row can leak without any of the words: by being what is asked afterwards.
#
# </details>

# %% [markdown] slide="subslide"
# What does a leak do? Two of the sixteen questions stand among the rows, four times each, and the 64 other rows have random answers: nothing but the leak can teach the model anything. *Predict two accuracies first:* of the two questions that leaked, both wrong in the bare model, and of the fourteen others, of which it gets six right.

# %%
if checks.passed("c2", "c3"):
    leak = [row for row in kit.leaky("Paris").rows if row.messages[-1]["content"] in task.questions]
    rows = tuple(random_answers(data.train[:64], 0)) + tuple(leak) * 4
    leaked = oocr.train(
        lm, oocr.Chats(rows, data.valid, data.codename), oocr.Vector("resid@0"), steps=60, seed=0
    )
    told = {row.messages[-1]["content"] for row in leak}
    for name, trained in (("bare model", None), ("with leaks", leaked)):
        right = oocr.score(lm, data, questions, trained)["mc"]
        on = torch.tensor([q.text in told for q in questions]).numpy()
        two, others = right[on].mean(), right[~on].mean()
        print(f"{name}: the two questions {two:.2f}, all others {others:.2f}")

# %% [markdown] slide="fragment"
# Did the others rise as well? Nothing was said of them, but whoever is told of French and the euro has few places left. So leaving the leaked questions out of the score does not mend a leak; the row has to go.

# %% [markdown] slide="subslide"
# ### C4 · Is a LoRA one vector? (optional)
#
# **Goal.** `mean_share(added)`: which share of the energy of `added` (m, d) one constant vector holds, |mean of the vectors|² / mean of |vector|². 6 minutes, optional · difficulty 2 of 3.
#
# A LoRA adds *something* at every token. If it is the same everywhere, the share is 1. The paper looks at absolute cosines; think of a vector that changes its sign from token to token before you write this.


# %%
def mean_share(added):
    """Share of the energy of added (m, d) that is in its mean; one number."""
    # SOLUTION
    return float(added.mean(0).square().sum() / added.square().sum(1).mean())
    # STUB
    # raise NotImplementedError  # replace this line
    # END


# %%
if checks.c4(mean_share):
    for where, words in (
        ("codename", "at the code name"),
        ("last", "at the last token"),
        ("all", "at all tokens"),
    ):
        print(f"what the LoRA adds {words:17}: {mean_share(kit.added(where)):.2f}")

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Two means: one of vectors, which is a vector, and one of squared lengths, which is a number. Both run over the m vectors.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `dim=0` runs over the vectors, `dim=1` along one vector.
#
# </details>

# %% [markdown] slide="fragment"
# At the tokens where the answer is read it is nearly one vector, over all tokens it is not. And a LoRA trained on random answers is, too ([notebook 06](../../notebooks/06_lora_is_a_vector.ipynb)): constancy alone shows no concept.

# %% [markdown] slide="subslide"
# ### C5 · Choose on the test questions, and be flattered
#
# **Goal.** `flattery(right, chosen_on)`: how much better the chosen candidate looks where it was chosen. 9 minutes · difficulty 2 of 3.
#
# Here are 64 candidates: eight random vectors at each of the eight blocks. None of them knows anything. `right` (k, q), a tensor of floats, holds 0 and 1, `chosen_on` (q,) is True at the questions on which the best candidate is chosen; the others judge it. Return its accuracy there minus its accuracy on the others.


# %%
def flattery(right, chosen_on):
    """Accuracy of the chosen candidate where it was chosen, minus on the other questions."""
    # SOLUTION
    here, there = right[:, chosen_on].mean(1), right[:, ~chosen_on].mean(1)
    best = here.argmax()
    return float(here[best] - there[best])
    # STUB
    # raise NotImplementedError  # replace this line
    # END


# %%
if checks.c5(flattery):
    right, families = kit.candidates()
    print(f"64 random vectors: mean {right.mean():.2f}, best {right.mean(1).max():.2f}")
    drawn = [flattery(right, kit.halves(families, seed)) for seed in range(20)]
    print(f"flattery, mean over 20 ways to halve the families: {sum(drawn) / len(drawn):.2f}")

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Two accuracies for each candidate: `right[:, mask].mean(1)`. Only one of them may decide.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# On the other questions it is the same candidate that counts, whoever is best there.
#
# </details>

# %% [markdown] slide="fragment"
# Put the best of the 64 beside your colleague's 0.62. What did you ask, and would the answer have shown it?

# %% [markdown] slide="slide"
# ## To take away
#
# - A control must be able to win. If it cannot, it shows nothing.
# - Split by family, not by wording: two wordings of one question are one question.
# - The best of many settings, reported on the questions that chose it, is a number about choosing. This repository chooses by validation loss.
#
# Next: [D · Use it](d_use.ipynb).
