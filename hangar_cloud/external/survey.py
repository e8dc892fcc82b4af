"""What kind of column a set of samples wants."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.external.base_plugin import ArrayFacts

_Kind = tuple[str, str, int]


class Survey:
    """Looks at samples one by one, and says which column holds most of them."""

    def __init__(self) -> None:
        self._counts: Counter[_Kind] = Counter()
        self._largest: dict[_Kind, tuple[int, ...]] = {}
        self._differ: set[_Kind] = set()

    def see(self, value: Any) -> None:
        """Take a sample into account: an array or its `ArrayFacts`, text, or bytes."""
        if isinstance(value, (np.ndarray, ArrayFacts)):
            self._see_array(value.dtype, tuple(value.shape))
        else:
            self._counts["str" if isinstance(value, str) else "bytes", "", 0] += 1

    def schema(self) -> ColumnSchema | None:
        """The schema that most of the samples have; None if there were none."""
        if not self._counts:
            return None
        kind = self._counts.most_common(1)[0][0]
        if kind[0] != "ndarray":
            return ColumnSchema(kind[0])
        how = "variable_shape" if kind in self._differ else "fixed_shape"
        return ColumnSchema("ndarray", "flat", how, kind[1], self._largest[kind])

    def _see_array(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        # What no column holds (dates, records, long doubles) is refused sample by sample.
        if 0 in shape or dtype.kind not in "biufc" or dtype.itemsize > (16 if dtype.kind == "c" else 8):
            return
        kind = ("ndarray", dtype.str, len(shape))
        self._counts[kind] += 1
        largest = self._largest.setdefault(kind, shape)
        if largest != shape:
            self._differ.add(kind)
            self._largest[kind] = tuple(max(pair) for pair in zip(largest, shape, strict=True))
