"""Terminals for other processes, and what was shown on them."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios


def new_terminal(lines: int = 40, columns: int = 120) -> tuple[int, int]:
    """Descriptors of who looks at a terminal, and of the terminal, which the process is given and we then close."""
    ours, theirs = pty.openpty()
    # A terminal of no size at all, which a new one has, shows no progress bars.
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    return ours, theirs


def all_seen(ours: int) -> bytes:
    """What was shown until the process ended, control sequences included; `ours` is closed."""
    seen = b""
    while chunk := _read(ours):
        seen += chunk
    os.close(ours)
    return seen


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # the other side was closed
        return b""
