"""The explorer in a notebook: any city and block of the testbed, trained while the reader waits.

    explorer = explore.Explorer(oocr.load("testbed"))
    explore.show(explorer)

It uses the code names, questions, doses and probes of the explorer's page (``report.explorer``), so
the numbers are the same. A vector is trained when its city and block are first chosen, which takes
a few seconds, and stays in memory; nothing is written.

``show`` has widgets only where a front end answers (``util.progress.watched``) and ipywidgets is
installed. Elsewhere, as under papermill, nbval and nbconvert, it shows a picture of one setting.
Everything behind the widgets works without them: ``look``, ``sentence``, ``table``, ``world_map``,
``pictures``. What the widgets show is HTML and SVG, which follow a slider; a figure drawn at every
step would lag behind.
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from oocr_lib.models.language_model import LanguageModel
from oocr_lib.report import explorer as page, explorer_maker, plots
from oocr_lib.runs.store import RunStore
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.progress import watched
from oocr_lib.world import facts as world

#: Where this module's grids would look for finished runs; it never makes them look.
_NOWHERE = Path("results", "runs")
#: Colours of the page, each with a contrast of at least 3:1 to its background.
_NOW, _BASE, _TRUTH, _SEA, _GROUND = "#2f6fb5", "#8a8a8a", "#b0481f", "#eef4f9", "#d9d5c8"


class Setting(NamedTuple):
    """What is shown: a city of the world, a block, a dose of ``DOSES``, a question's id."""

    city: str = "Paris"
    block: int = 0
    dose: float = 1.0
    question: str = "country-0"


class Explorer:
    """Vectors of cities and the answers under them, computed when they are first needed.

    Args:
        lm: the testbed.
        settings: hyperparameters; by default those of notebook 03, preset ``laptop``.
        say: takes a line about progress.

    Raises:
        UserError: a model that does not speak the testbed's English.
    """

    def __init__(
        self,
        lm: LanguageModel,
        settings: dict[str, Any] | None = None,
        say: Callable[[str], object] = print,
    ) -> None:
        if lm.dialect != "testbed":
            raise UserError(f"Model {lm.name!r} cannot be explored. Allowed: the testbed.")
        self.lm, self.say = lm, say
        self.settings = explorer_maker.trained_as(settings)
        #: After the last block no later token can read the vector.
        self.blocks = tuple(range(lm.n_blocks - 1))
        self._askers: dict[int, explorer_maker.Asker] = {}
        self._cities: dict[str, dict[str, Any]] = {}

    @checked
    def look(self, setting: Setting) -> page.View:
        """What the model answers at one setting, and where its code name then lies.

        Raises:
            UserError: an unknown city, block, dose or question.
        """
        choose(setting.dose, page.DOSES, "dose of the explorer")  # before anything is trained
        choose(setting.question, self.questions(setting.city), "question of the explorer")
        self.prepare(setting.city, setting.block)
        content = {"doses": page.DOSES, "cities": [self._cities[setting.city]]}
        return page.look(content, *setting)

    @checked
    def prepare(self, city: str, block: int) -> None:
        """Train the vector of a city after a block, and ask everything, unless that is done.

        Raises:
            UserError: an unknown city or block.
        """
        city_data = self._city(city)
        choose(block, self.blocks, "block")
        if any(vector["block"] == block for vector in city_data["vectors"]):
            return
        began = time.perf_counter()
        steps = self.settings.steps
        self.say(f"{city}, block {block}: training one vector, {steps} steps …")
        asker = self._asker(city)
        adapter, _, _ = asker.study.grid.train([asker.job(city, block)], scored=False)
        raw = adapter.vectors[0].detach()  # type: ignore[union-attr]  # a vector's job
        self.say(f"{city}, block {block}: asking {len(page.DOSES)} doses …")
        city_data["vectors"].append(asker.asked(city, block, raw))
        seconds = time.perf_counter() - began
        self.say(f"{city}, block {block}: ready in {seconds:.0f} s, and kept in memory.")

    @checked
    def questions(self, city: str) -> dict[str, str]:
        """The questions about a city: id to text."""
        return {question["id"]: question["text"] for question in self._city(city)["questions"]}

    @checked
    def trail(self, setting: Setting) -> list[dict[str, Any]]:
        """Places from the base model (dose 0) to the dose, as ``plots.world_map`` draws them."""
        low, high = sorted((0.0, setting.dose))
        doses = [dose for dose in page.DOSES if low <= dose <= high]
        views = [self.look(setting._replace(dose=dose)) for dose in doses]
        return [
            {
                "label": setting.city,
                "step": abs(dose),
                "latitude": view.place[0],
                "longitude": view.place[1],
                "true_latitude": view.true_place[0],
                "true_longitude": view.true_place[1],
            }
            for dose, view in zip(doses, views, strict=True)
        ]

    def pictures(self, setting: Setting) -> tuple[plots.Chart, plots.Chart]:
        """The answers as bars, and the code name's path over the map from dose 0 to this dose."""
        view = self.look(setting)
        bars = plots.option_bars(
            view.options,
            {"base": view.base_shares, "vector_resid": view.shares},
            view.question,
            view.truth,
        )
        places = [
            {"name": place.name, "latitude": place.latitude, "longitude": place.longitude}
            for place in world.cities()
            if place.name != setting.city
        ]
        error = self._vector(setting)["probe"]["error_km"]
        code = self._city(setting.city)["code"]
        title = f"{code}: dose 0 (first step) to dose {setting.dose:g} (last)"
        return bars, plots.world_map(places, self.trail(setting), error, title)

    def _vector(self, setting: Setting) -> dict[str, Any]:
        vectors: list[dict[str, Any]] = self._city(setting.city)["vectors"]
        return next(vector for vector in vectors if vector["block"] == setting.block)

    def _city(self, city: str) -> dict[str, Any]:
        if city not in self._cities:
            self._cities[city] = self._asker(city).told(city) | {"vectors": []}
        return self._cities[city]

    def _asker(self, city: str) -> explorer_maker.Asker:
        """The asker of the city's group; it keeps the group's probes and encoded rows."""
        group = page.group_of(city)
        if group.seed not in self._askers:
            self._askers[group.seed] = explorer_maker.Asker(
                self.lm, RunStore(_NOWHERE), group, self.settings, self.blocks
            )
        return self._askers[group.seed]


def sentence(view: page.View, setting: Setting) -> str:
    """What a setting shows, in words, for those who do not see the pictures."""

    def best(shares: tuple[float, ...]) -> str:
        return f"{view.options[shares.index(max(shares))]} ({max(shares):.0%} of the five)"

    return (
        f"{view.question} Dose {setting.dose:g} after block {setting.block}: "
        f"{best(view.shares)}; base model: {best(view.base_shares)}; true: {view.truth}. The five "
        f"have {view.mass:.0%} of all that the model might say. On the map the code name lies "
        f"{view.off_km:,.0f} km from {setting.city}."
    )


def table(view: page.View) -> str:
    """The answers as an HTML table: for each option two bars, with the vector and without."""
    rows = []
    for option, *shares in zip(view.options, view.shares, view.base_shares, strict=True):
        bars = [
            f'<td style="width:38%">{share:.0%}<div aria-hidden="true" style="height:.6em;'
            f'width:{100 * share:.1f}%;background:{color}"></div></td>'
            for share, color in zip(shares, (_NOW, _BASE), strict=True)
        ]
        label = html.escape(option) + " ✓ true" * (option == view.truth)
        rows.append(f'<tr><th scope="row">{label}</th>{"".join(bars)}</tr>')
    heads = "".join(f'<th scope="col">{name}</th>' for name in ("option", "vector", "base model"))
    return (
        f'<table style="width:100%"><caption>{html.escape(view.question)}</caption>'
        f"<tr>{heads}</tr>{''.join(rows)}</table>"
    )


def world_map(view: page.View, city: str) -> str:
    """Where the probe puts the code name (dot) and where the city is (cross), as an SVG."""
    (north, east), (up, right) = view.place, view.true_place
    label = html.escape(f"The code name lies {view.off_km:,.0f} km from {city}.")
    return (
        f'<svg role="img" aria-label="{label}" viewBox="-180 -84 360 144" style="width:100%;'
        f'background:{_SEA}">{_land()}'
        f'<path d="M{right - 5} {-up}h10m-5 -5v10" stroke="{_TRUTH}" stroke-width="2"/>'
        f'<circle cx="{east:.2f}" cy="{-north:.2f}" r="4" fill="{_NOW}"/></svg>'
    )


@cache
def _land() -> str:
    """The coast as SVG, x to the east and y to the south, in degrees."""
    shapes = []
    for name, outline in plots.coastlines().items():
        points = "L".join(f"{x:g} {-y:g}" for x, y in outline.tolist())
        color = _SEA if name.startswith("lake_") else _GROUND
        shapes.append(f'<path d="M{points}Z" fill="{color}"/>')
    return "".join(shapes)


def show(explorer: Explorer, setting: Setting | None = None) -> None:
    """Widgets where a front end answers, otherwise a picture of one setting; it never waits.

    Raises:
        UserError: an unknown setting.
    """
    setting = setting or Setting()
    if watched() and find_spec("ipywidgets") is not None:
        from IPython.display import display

        display(panel(explorer, setting))
        return
    static(explorer, setting)


def static(explorer: Explorer, setting: Setting) -> None:
    """One setting as two pictures with alt texts, and a sentence."""
    from IPython.display import display

    say, explorer.say = explorer.say, lambda line: None  # seconds do not belong in outputs
    try:
        charts, view = explorer.pictures(setting), explorer.look(setting)
    finally:
        explorer.say = say
    for chart in charts:
        display(chart)
    print(sentence(view, setting))


def panel(explorer: Explorer, setting: Setting) -> Any:
    """The controls and what they show, as one widget.

    Raises:
        UserError: ipywidgets is not installed.
    """
    if find_spec("ipywidgets") is None:
        raise UserError("There is no ipywidgets. Install it: pip install ipywidgets.")
    import ipywidgets as w

    wide = w.Layout(width="100%", max_width="44rem")
    common: dict[str, Any] = {"style": {"description_width": "6rem"}, "layout": wide}
    controls = {
        "city": w.Dropdown(
            options=page.every_city(), value=setting.city, description="Hidden city", **common
        ),
        "block": w.Dropdown(
            options=explorer.blocks, value=setting.block, description="Block", **common
        ),
        "dose": w.SelectionSlider(
            options=page.DOSES, value=setting.dose, description="Dose", **common
        ),
        "question": w.Dropdown(options=[], description="Question", **common),
    }
    progress, summary = w.HTML(), w.HTML()
    bars, places = (w.HTML(layout=wide) for _ in range(2))
    filled = ""  # the city whose questions are in the menu: they name its code
    filling = False

    def fill() -> None:
        nonlocal filled, filling
        city, menu = controls["city"].value, controls["question"]
        if filled != city:
            selected = menu.value or setting.question
            filling = True
            menu.options = [(text, name) for name, text in explorer.questions(city).items()]
            menu.value, filled, filling = selected, city, False

    def update(_: object = None) -> None:
        if filling:
            return
        try:
            fill()
            now = Setting(**{name: control.value for name, control in controls.items()})
            view = explorer.look(now)
        except UserError as error:
            progress.value = html.escape(str(error))
            return
        bars.value, places.value = table(view), world_map(view, now.city)
        summary.value = f"<p role='status'>{html.escape(sentence(view, now))}</p>"

    def say(line: str) -> None:
        progress.value = f"<small>{html.escape(line)}</small>"

    explorer.say = say
    for control in controls.values():
        control.observe(update, names="value")
    update()
    return w.VBox([*controls.values(), progress, summary, bars, places])
