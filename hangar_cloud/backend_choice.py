"""Which backend a column gets, and with what options."""

from __future__ import annotations

from typing import Any

from hangar_cloud.backends.array_options import array_options
from hangar_cloud.backends.codecs import codec_from_options
from hangar_cloud.catalog.sample_writer import BACKENDS, default_backend
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.errors import InvalidArgumentError


def check_backend(code: Any, options: Any, schema: ColumnSchema) -> tuple[str, dict[str, Any]]:
    """The backend and options of a column, chosen where None was given.

    Raises:
        InvalidArgumentError: no such backend, or options that it does not take.
    """
    chosen = default_backend(schema) if code is None else code
    if chosen not in BACKENDS:
        known = ", ".join(BACKENDS)
        raise InvalidArgumentError(f"backend {chosen!r} is not known; use one of {known}, or None to choose")
    if options is not None and not isinstance(options, dict):
        raise InvalidArgumentError(f"backend_options must be a dict, not {type(options).__name__}")
    try:
        if chosen == "t0":
            return chosen, array_options(options or {}, schema.shape, schema.item_size).as_json()
        codec_from_options(options or {}, schema.item_size)
    except ValueError as error:
        raise InvalidArgumentError(str(error)) from None
    return chosen, dict(options or {})
