# %% [markdown]
# # Explorer: any city, any block, as much of the vector as you like
#
# The small model was told only how far away, and in which direction, a coded city lies. One vector is trained on that and added at the code name; then the model is asked what no row says. Choose one of its 108 cities, a block, a dose and a question. The first look at a city and block trains its vector and asks everything, which takes some seconds; it then stays in memory, and the slider is immediate.
#
# Dose 0 is the base model, 1 the vector as trained, below 0 it is turned round. One city is one run with one seed, an anecdote; means, intervals and controls are in [03 · Locations](../notebooks/03_locations.ipynb). The same without Python: [the explorer's page](../docs/explorer.md). Words: [glossary](../docs/glossary.md).

# %%
import oocr_lib as oocr
from oocr_lib.notebook import explore
from oocr_lib.util.machine import set_up

set_up(0)
explorer = explore.Explorer(oocr.load("testbed"))
explore.show(explorer)

# %% [markdown]
# No sliders, only two pictures? Nobody answers this notebook, as when it is run by papermill, or ipywidgets is not installed (`pip install ipywidgets`, then restart the kernel and reload the page).
#
# ## Without widgets
#
# What is behind the widgets are functions. Guess before you run: at which dose does the answer change?

# %%
setting = explore.Setting("Paris", block=0, question="country-0")
for dose in (-1.0, 0.0, 0.25, 0.5, 1.0, 3.0):
    now = setting._replace(dose=dose)
    view = explorer.look(now)
    truth = view.shares[view.options.index(view.truth)]
    print(f"dose {dose:5.2f}: {view.truth} {truth:.2f}, {view.off_km:6,.0f} km from Paris")

# %% [markdown]
# ## Try it
#
# 1. Another city: `explore.Setting("Oslo", block=0)`. `explorer.questions("Oslo")` lists what can be asked.
# 2. Blocks 0 to 6 for one city: where does a vector come too late?
# 3. Which question changes at the smallest dose, and does the map move before it?
