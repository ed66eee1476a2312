"""A batch without what is computed already: its columns, and what stands for the rest.

Axes: n rows, t columns that are run and the one after them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from oocr_lib import encoding
from oocr_lib.encoding import Batch, Encoded
from oocr_lib.engine.branch_masks import Layout, layout_of
from oocr_lib.engine.kv_cache import Past


@dataclass
class Shortened(Batch):
    """Rows without the tokens and blocks that are reused from a pool.

    Attributes:
        past: what is known before the first column and below the first block that is run;
            ``None`` when everything is computed.
        owner: (n, t) int64, in packed rows the item that each token belongs to (of the list that
            was collated); ``None`` where row i is item i.
        targets: (n, t) int64, in packed rows the token that is predicted at column j - 1, where
            ``answer_mask`` is set at j; ``None`` where it stands in ``input_ids`` at j.
        layout: of the first t - 1 columns, where answers stand side by side; else ``None``. What
            the columns of such a row predict is known only to the code that built it.
        columns: (n, w) the columns that the last block's MLP is being run on; ``None``: all.
    """

    past: Past | None = None
    owner: Tensor | None = None
    targets: Tensor | None = None
    layout: Layout | None = None
    columns: Tensor | None = None

    @property
    def whole(self) -> bool:
        """See ``Batch.whole``."""
        return self.past is None

    @property
    def packed(self) -> bool:
        """See ``Batch.packed``."""
        return self.owner is not None

    @property
    def items(self) -> int:
        """See ``Batch.items``."""
        return len(self) if self.owner is None else int(self.owner.max()) + 1

    @property
    def start(self) -> int:
        """See ``Batch.start``."""
        return 0 if self.past is None else self.past.length

    @property
    def some_rows(self) -> bool:
        """See ``Batch.some_rows``."""
        return self.past is not None and bool(self.past.active)

    @property
    def picked(self) -> Tensor | None:
        """See ``Batch.picked``."""
        return self.columns

    def of_items(self, values: Tensor) -> Tensor:
        """See ``Batch.of_items``."""
        return values[:, None] if self.owner is None else values[self.owner.to(values.device)]

    def to(self, device: torch.device | str) -> Shortened:
        """The same batch on another device."""
        plain = super().to(device)
        return Shortened(
            plain.input_ids,
            plain.lengths,
            plain.answer_mask,
            plain.positions,
            None if self.past is None else self.past.to(device),
            None if self.owner is None else self.owner.to(device),
            None if self.targets is None else self.targets.to(device),
            None if self.layout is None else self.layout.to(device),
        )

    def after(self, past: Past) -> Shortened:
        """The same columns behind what is known."""
        return replace(self, past=past)


def collate(items: Sequence[Encoded], pad_id: int) -> Shortened:
    """As ``encoding.collate``, but several answers may stand side by side behind a prompt."""
    batch = encoding.collate(items, pad_id)
    layout = layout_of(items, batch.input_ids.shape[1] - 1)
    return Shortened(
        batch.input_ids, batch.lengths, batch.answer_mask, batch.positions, layout=layout
    )
