"""Nothing may come twice where runs are counted."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest

from oocr_lib.util.doubles import check_runs, no_doubles
from oocr_lib.util.errors import UserError


def test_the_values_come_back_and_a_double_is_named() -> None:
    assert no_doubles(range(3), "block") == (0, 1, 2)
    assert no_doubles([], "block") == ()
    with pytest.raises(UserError, match=r"^The block 4 comes twice\. Allowed: ") as caught:
        no_doubles([3, 4, 4, 3], "block")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="The run PARIS comes twice"):
        no_doubles(["paris", "paris"], "run", str.upper)


def rows(*runs: tuple[str, str, int, int]) -> pd.DataFrame:
    return pd.DataFrame(runs, columns=["run", "concept", "seed", "block"])


def test_a_run_with_two_rows_is_named() -> None:
    once = rows(("a", "Paris", 0, 1), ("b", "Paris", 1, 1))
    check_runs(once, "mc")
    with pytest.raises(UserError, match=r"run b, concept Paris, seed 1, block 1.*averaged in 'mc'"):
        check_runs(pd.concat([once, once.iloc[1:]]), "mc")


def test_the_name_of_a_run_may_come_again_at_another_block_or_concept() -> None:
    """Vectors that no grid trained are asked under the same number at every block."""
    check_runs(rows(("naive 0", "Paris", 0, 1), ("naive 0", "Paris", 0, 2)), "mc")
    check_runs(rows(("naive 0", "Paris", 0, 1), ("naive 0", "Rome", 0, 1)), "mc")


def test_a_table_that_does_not_name_its_runs_is_left_alone() -> None:
    check_runs(rows(("a", "Paris", 0, 1)).drop(columns="run").loc[[0, 0]], "mc")


def test_lists_can_be_checked_without_pandas() -> None:
    code = "import sys; import oocr_lib.util.doubles; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
