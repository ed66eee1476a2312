# %% [markdown] slide="slide"
# # B · Build it: the four pieces behind one vector
#
# **Goals.** After this session you have written, in about twenty lines, what `oocr.train` does: the hook that adds a vector, the loss on answer tokens only, the training loop, and the scoring among five options. Each piece is compared with the library's.
#
# 46 minutes, four exercises. *Before you start:* which of the four pieces would, if it were wrong, still let the loss fall? Note your guess.

# %% tags=["setup"] slide="skip"
import sys
from pathlib import Path

here = Path.cwd()
sys.path[:0] = [str(p) for p in (here, *here.parents) if (p / "workshop/checks.py").is_file()][:1]

import torch
from torch.nn import functional as F

from workshop import checks, kit

checks.start("B", globals())
lm = kit.lm()

# %% [markdown] slide="subslide"
# ## A batch
#
# Rows stand below one another, padded on the right. `answer_mask` is True at the answer's tokens, `positions["codename"]` at the tokens of the code name. Axes: *n* rows, *t* tokens, *d* width.

# %%
rows = kit.batch(3)
print("input_ids", tuple(rows.input_ids.shape))
code, answer = rows.positions["codename"], rows.answer_mask
for n, ids in enumerate(rows.input_ids):
    for t, token in enumerate(ids):
        mark = "[c]" if code[n, t] else "[a]" if answer[n, t] else ""
        print(lm.tokenizer.decode(token) + mark, end=" ")
    print()
print("[c]: code name, [a]: answer")

# %% [markdown] slide="subslide"
# ### B1 · The hook
#
# **Goal.** `make_hook(v, mask)` returns a forward hook that adds `v` (d,) to the module's output (n, t, d) where `mask` (n, t) is True. 10 minutes · difficulty 2 of 3.
#
# PyTorch calls a forward hook with the module, its arguments and its output; what the hook returns takes the output's place. A gradient must be able to flow back to `v`.


# %%
def make_hook(v, mask):
    """A forward hook that adds v (d,) where mask (n, t) is True."""

    # SOLUTION
    def hook(module, args, output):
        return output + mask[..., None] * v

    return hook
    # STUB
    # def hook(module, args, output):
    #     raise NotImplementedError  # replace this line
    #
    # return hook
    # END


# %%
_ = checks.b1(make_hook)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `mask` has two axes and `output` three. `mask[..., None]` has a third one, of length 1, which broadcasts.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# True counts as 1 and False as 0. Make a new tensor: a change in place would disturb what autograd has kept.
#
# </details>

# %% [markdown] slide="subslide"
# ### B2 · The loss
#
# **Goal.** `answer_loss(logits, ids, answer_mask)`: the mean cross-entropy of all answer tokens of the batch, nothing else. 10 minutes · difficulty 2 of 3.
#
# `logits` are (n, t, vocabulary), `ids` and `answer_mask` (n, t). Which logits say what token *j* is going to be?


# %%
def answer_loss(logits, ids, answer_mask):
    """Mean cross-entropy over the answer's tokens; a tensor with its graph."""
    # SOLUTION
    at = answer_mask[:, 1:]
    return F.cross_entropy(logits[:, :-1][at], ids[:, 1:][at])
    # STUB
    # raise NotImplementedError  # replace this line
    # END


# %%
_ = checks.b2(answer_loss)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The model sees tokens 0 to *j* and then says token *j + 1*. So predictions and targets are shifted against each other by one place.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `F.cross_entropy` takes (m, vocabulary) and (m,). A mask as an index, `x[mask]`, gives just these m entries. Shift the mask together with what it marks.
#
# </details>

# %% [markdown] slide="subslide"
# ### B3 · The training loop
#
# **Goal.** `train_vector(v, loss_of, batches, lr)` makes one step of Adam for every batch and returns the losses as plain numbers. `v` itself changes. 12 minutes · difficulty 2 of 3.
#
# `loss_of(v, batch)` gives the loss of one batch. Nothing else is trained.


# %%
def train_vector(v, loss_of, batches, lr):
    """One step of Adam a batch; returns the loss of each batch, before its step."""
    # SOLUTION
    optimiser = torch.optim.Adam([v], lr=lr)
    losses = []
    for batch in batches:
        optimiser.zero_grad()
        loss = loss_of(v, batch)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses
    # STUB
    # losses = []
    # for batch in batches:
    #     raise NotImplementedError  # replace this line
    # return losses
    # END


# %%
_ = checks.b3(train_vector)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Four things happen for every batch: old gradients go, the loss is computed, its gradient flows back, the optimiser steps.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A loss that is kept as a tensor keeps the whole forward pass with it. `item()` gives a plain number.
#
# </details>

# %% [markdown] slide="subslide"
# ### B4 · Scoring among five options
#
# **Goal.** `among_options(logits, options, truth)` returns `(p, right)`: the probability of the true option among the five, and 1.0 if it is the likeliest of them, else 0.0. 8 minutes · difficulty 2 of 3.
#
# `logits` (vocabulary,) are those after the question, `options` five token ids, `truth` the place of the true one in that list.


# %%
def among_options(logits, options, truth):
    """Probability of the true option among the options, and 1.0 if it is the likeliest."""
    # SOLUTION
    own = logits[options]
    return float(torch.softmax(own, -1)[truth]), float(own.argmax() == truth)
    # STUB
    # raise NotImplementedError  # replace this line
    # END


# %%
_ = checks.b4(among_options)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The model might like a sixth word best. It does not stand for election.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `logits[options]` are five numbers, in the order of the options. `truth` counts in that order, too.
#
# </details>

# %% [markdown] slide="subslide"
# ## All four together
#
# Your own vector, with your own pieces and 40 steps. It is counted in units of the typical length of what flows there, `kit.scale()`, as the library counts it; the 40 batches of 16 rows are the library's, too. What will it answer, and is it the library's vector? *Predict the cosine of the two before you run this.*

# %%
theta = torch.zeros(lm.d_model, requires_grad=True)


def loss_of(v, batch):
    hook = make_hook(v * kit.scale(), batch.positions["codename"])
    handle = lm.module(kit.SITE).register_forward_hook(hook)
    try:
        logits = lm.model(input_ids=batch.input_ids, use_cache=False).logits
    finally:
        handle.remove()
    return answer_loss(logits, batch.input_ids, batch.answer_mask)


if checks.passed("b1", "b2", "b3"):
    losses = train_vector(theta, loss_of, kit.rows_in_order(40, 16), 0.05)
    print(f"loss of the first batch {losses[0]:.2f}, of the last {losses[-1]:.2f}")

# %%
if checks.passed("b1", "b2", "b3", "b4"):
    right = []
    for logits, options, truth in kit.one_token_questions(theta.detach()):
        right.append(among_options(logits, options, truth)[1])
    print(f"your vector: {sum(right) / len(right):.2f} of {len(right)} questions right, of five")
    theirs = kit.vector().vector / kit.scale()
    print(f"cosine with the library's vector: {F.cosine_similarity(theta, theirs, dim=0):.2f}")

# %% [markdown] slide="slide"
# ## To take away
#
# - A vector at all tokens, a loss on the whole row or a softmax over the whole vocabulary all run without an error. Only a comparison with something known shows them.
# - Two vectors may say the same and still differ in many directions that nothing reads ([notebook 08](../../notebooks/08_learned_vs_naive.ipynb)).
# - Your guess at the start: with a mistake in the hook, the loss or the loop, the loss still fell when we tried it, and the scoring never touches it. That it falls proves little.
#
# Next: [C · Doubt it](c_doubt.ipynb).
