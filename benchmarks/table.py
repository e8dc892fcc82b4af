"""The lines of the table."""

from __future__ import annotations

from benchmarks.rows import Row


def human(value: float) -> str:
    """Seconds in the unit that suits."""
    for limit, factor, unit in ((1e-3, 1e6, "us"), (1, 1e3, "ms")):
        if value < limit:
            return f"{value * factor:.2f} {unit}"
    return f"{value:.2f} s"


def line(row: Row, ours: float, peer: float | None) -> str:
    """A line of the table."""
    if row.measure:
        met = ours <= row.seconds
        return f"{row.name:<44} {ours:>10,.0f} {row.measure:<38} <= {row.seconds:<9,.0f} {_whether(met)}"
    if peer is None or row.peer is None:
        met, compared, bar = ours <= row.seconds, "", f"<= {human(row.seconds)}"
    else:
        ratio = peer / ours
        met, compared = ratio >= row.factor, f"{row.peer.who} {human(peer)} = {ratio:.2f}x"
        bar = f">= {row.factor:g}x" if row.factor else "no bar"
    found = "" if bar == "no bar" else _whether(met)
    return f"{row.name:<44} {human(ours):>10} / {row.unit:<7} {compared:<28} {bar:<12} {found}".rstrip()


def _whether(met: bool) -> str:
    return "met" if met else "NOT MET"
