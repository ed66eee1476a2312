"""A batch that starts from stored tokens, for what must refuse it."""

from __future__ import annotations

import torch

from oocr_lib.encoding import Batch
from oocr_lib.engine.kv_cache import Past
from oocr_lib.engine.shortened import Shortened


def shortened(batch: Batch) -> Shortened:
    """The rows of a batch, as if something before them were known."""
    n = len(batch)
    past = Past(torch.zeros(n, 1, 2, 1, 0, 4), torch.zeros(n).long(), torch.ones(n).long())
    return Shortened(**vars(batch), past=past)
