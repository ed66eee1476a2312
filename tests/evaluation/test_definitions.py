"""How well a definition is known, from tables with and without validation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from oocr_lib.evaluation import definitions


def table(valid_loss: float, *families: str) -> pd.DataFrame:
    rows = [
        {"method": "m", "site": "s", "block": 0, "lr": 0.1, "concept": "c", "seed": 0, "run": "r"}
        | {"valid_loss": valid_loss, "family": name, "mc": 0.2 * i, "top1": 0.0, "rank": 1.0 + i}
        for i, name in enumerate(families)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("valid_loss", [0.5, np.nan])
def test_a_run_without_validation_is_not_lost(valid_loss: float) -> None:
    found = definitions.definition(table(valid_loss, "python", "english", "class"))
    assert found["mc"].tolist() == pytest.approx([0.1])
    assert found["first"].tolist() == [0.5] and found["place"].tolist() == [1.5]
    assert found["valid_loss"].isna().tolist() == [bool(np.isnan(valid_loss))]


def test_ranks_are_among_all_where_they_are_asked() -> None:
    found = definitions.definition(table(0.5, "python", "python of all", "class"))
    assert found["mc"].tolist() == [0.0]
    assert found["place"].tolist() == [2.0] and found["first"].tolist() == [0.0]
    assert found["first3"].tolist() == [1.0]


def test_runs_asked_among_five_only_stand_beside_others() -> None:
    other = table(np.nan, "python", "english").assign(method="n", run="q")
    both = pd.concat([table(0.5, "python", "python of all"), other])
    found = definitions.definition(both).set_index("method")
    assert found["mc"].tolist() == [0.0, pytest.approx(0.1)]
    assert found["place"].tolist() == [2.0, 1.5]
