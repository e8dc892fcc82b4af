"""Datasets as torch knows them: classes that are made when torch is there, and what they are pickled as."""

from __future__ import annotations

from types import FunctionType
from typing import Any

import cloudpickle

_made: dict[str, type] = {}


def torch_class(base: type, name: str) -> type:
    """A class of our own as one of torch's: an IterableDataset if it can be iterated over, else a Dataset."""
    if name not in _made:
        from torch.utils.data import Dataset, IterableDataset

        kind: Any = IterableDataset if hasattr(base, "__iter__") else Dataset
        _made[name] = type(name, (base, kind), {"__doc__": base.__doc__})
    return _made[name]


def reduced(dataset: Any, base: type) -> tuple[Any, ...]:
    """What a dataset whose class `torch_class` made is pickled as. A transform may be a lambda or a local function."""
    state = dict(dataset.__dict__)
    transform = state["_transform"]
    # Workers that are not forked get a pickle, and pickle itself finds a function by its name alone.
    if isinstance(transform, FunctionType) and "<" in transform.__qualname__:
        state["_transform"] = _Carried(transform)
    return _restored, (base, type(dataset).__name__, state)


class _Carried:
    """A function that is pickled with its code, and comes back as itself."""

    def __init__(self, function: FunctionType) -> None:
        self._function = function

    def __reduce__(self) -> tuple[Any, ...]:
        return cloudpickle.loads, (cloudpickle.dumps(self._function),)


def _restored(base: type, name: str, state: dict[str, Any]) -> Any:
    """A dataset from its pickle."""
    made: Any = torch_class(base, name)
    dataset = made.__new__(made)
    dataset.__dict__.update(state)
    return dataset
