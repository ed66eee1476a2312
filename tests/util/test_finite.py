"""Numbers that are none, where they appear."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from oocr_lib.util.errors import UserError
from oocr_lib.util.finite import no_nan

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("make", [torch.tensor, np.array, pd.Series])
def test_one_among_many_is_counted_whatever_holds_them(make: Any) -> None:
    no_nan(make([1.0, INF, -INF]), "Numbers")
    no_nan(make([1, 2]), "Numbers")
    with pytest.raises(UserError, match=r"^Losses: 2 values are not a number \(NaN\)\. Allowed"):
        no_nan(make([1.0, NAN, INF, NAN]), "Losses")


def test_any_shape_and_precision() -> None:
    no_nan(torch.zeros(0, 3), "Nothing")
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        with pytest.raises(UserError, match="1 values"):
            no_nan(torch.tensor([[[1.0, NAN]]], dtype=dtype), "Numbers")
