"""What becomes of the conflicts of a merge: the strategy that is given to it, and the same for the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.model.plain import Snapshot
from tests.model.plain_merge import PlainMerge, with_row
from tests.model.values import KINDS, value_of


def strategy_of(how: str, decision: int) -> tuple[Any, Callable[[PlainMerge], Snapshot | None]]:
    """A strategy, and what the model does with it."""
    if how == "none":
        return None, lambda merge: None if merge.conflict else merge.snapshot
    if how in ("ours", "theirs"):
        return how, lambda merge: merge.resolved(how)

    def choose(column: str, key: Any) -> str:
        refusal = "refuse" if decision % 3 == 0 else "ours"
        return ("ours", "theirs", "new", refusal)[(decision // 4 ** (len(repr((column, key))) % 6)) % 4]

    def function(column: str, key: Any, ancestor: Any, ours: Any, theirs: Any) -> Any:
        choice = choose(column, key)
        kind = next((kind for kind in KINDS if _matches(kind, ours._entry.schema)), None)
        if choice == "new" and kind is not None:
            return value_of(kind, decision)
        return {"theirs": theirs, "refuse": None}.get(choice, ours)

    def outcome(merge: PlainMerge) -> Snapshot | None:
        refused = {place: how for place, how in merge.samples.items() if _is_refused(choose, *place)}
        if refused or merge.columns:
            # The error carries what is left.
            merge.samples = refused
            return None
        made = dict(merge.snapshot)
        for name, key in merge.samples:
            choice = choose(name or "metadata", key)
            kind = made[name].kind
            if choice == "new" and kind in KINDS:
                value = value_of(kind, decision)
            else:
                value = merge.value("theirs" if choice == "theirs" else "ours", name, key)
            made[name] = with_row(made[name], key, value)
        return made

    return function, outcome


def _is_refused(choose: Callable[[str, Any], str], name: str, key: Any) -> bool:
    return choose(name or "metadata", key) == "refuse"


def _matches(kind: Any, schema: Any) -> bool:
    return (kind.type, kind.nested, kind.dtype, kind.shape, kind.variable and kind.type == "ndarray") == (
        schema.column_type,
        schema.column_layout == "nested",
        schema.dtype,
        schema.shape,
        schema.schema_type == "variable_shape" and schema.column_type == "ndarray",
    )
