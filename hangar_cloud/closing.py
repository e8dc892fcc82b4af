"""Closing a forgotten writer checkout when the interpreter ends."""

from __future__ import annotations

import atexit
import contextlib
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hangar_cloud.writer_checkout import WriterCheckout


def close_at_exit(checkout: WriterCheckout) -> Any:
    """Close a forgotten checkout when the interpreter ends, so that nothing waits unflushed in memory."""
    weak = weakref.ref(checkout)

    def close() -> None:
        living = weak()
        if living is not None and living._alive.open:
            with contextlib.suppress(Exception):
                living.close()

    atexit.register(close)
    return close
