"""Values of columns as torch takes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from hangar_cloud.column import ColumnReader
from hangar_cloud.errors import InvalidSchemaError
from hangar_cloud.external.optional_packages import require


def import_torch(what: str) -> Any:
    """The module torch. Raises MissingPackageError with the line that installs it."""
    return require("torch", "torch", what)


def check_dtypes(columns: dict[str, ColumnReader]) -> None:
    """Refuse columns of a dtype that torch has no tensors of. Raises InvalidSchemaError."""
    torch = import_torch("a torch dataset")
    for column in columns.values():
        schema = column._entry.schema
        if schema.column_type != "ndarray":
            continue
        try:
            torch.from_numpy(np.empty(0, schema.numpy_dtype.newbyteorder("=")))
        except TypeError as error:
            raise InvalidSchemaError(
                f"column {column.column!r} is of dtype {schema.dtype}, of which torch has no tensors; make a numpy "
                "dataset of it, or alter the column to another dtype"
            ) from error


def to_torch(value: Any, pin: bool = False) -> Any:
    """Arrays as tensors of the same memory, also those in lists and dicts; text and bytes as they are.

    Args:
        value: of a batch or a sample.
        pin: copy arrays into page-locked memory, from which a GPU takes them faster.
    """
    import torch

    if isinstance(value, np.ndarray):
        native = value if value.dtype.isnative else value.astype(value.dtype.newbyteorder("="))
        tensor = torch.from_numpy(native)
        return tensor.pin_memory() if pin else tensor
    if isinstance(value, list):
        return [to_torch(one, pin) for one in value]
    if isinstance(value, dict):
        return {name: to_torch(one, pin) for name, one in value.items()}
    return value
