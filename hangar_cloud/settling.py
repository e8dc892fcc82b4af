"""Settling samples that a commit finds changed by another writer, as the user says."""

from __future__ import annotations

from typing import Final

from hangar_cloud.backends.pack_reader import PackReader
from hangar_cloud.catalog.backoff import ATTEMPTS
from hangar_cloud.catalog.commits import METADATA, ColumnEntry
from hangar_cloud.catalog.committer import CommitRules
from hangar_cloud.catalog.keys import RowKey
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.rebase import Conflict
from hangar_cloud.catalog.receipts import check_idempotency_key
from hangar_cloud.catalog.schema import Payload
from hangar_cloud.catalog.working_set import WorkingSet
from hangar_cloud.errors import InvalidArgumentError
from hangar_cloud.merging import OURS, THEIRS, LazyValue, Resolver

REBASE: Final = "rebase"
FAIL: Final = "fail"
OnConflict = str | Resolver


def commit_rules(
    on_conflict: OnConflict, attempts: int, idempotency_key: str | None, nodes: NodeReader, packs: PackReader
) -> CommitRules:
    """The rules of a commit from what the user gave.

    Args:
        on_conflict: see `WriterCheckout.commit`.
        attempts: at least 1.
        idempotency_key: or None.
        nodes: reads records.
        packs: reads samples, staged ones too.

    Raises:
        InvalidArgumentError: `on_conflict` or `attempts` cannot be meant.
        InvalidNameError: nor can the key.
    """
    if on_conflict not in (REBASE, FAIL, OURS, THEIRS) and not callable(on_conflict):
        raise InvalidArgumentError(
            f"on_conflict must be 'rebase', 'fail', 'ours', 'theirs' or a function, not {on_conflict!r}"
        )
    if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
        raise InvalidArgumentError(
            f"attempts must be a whole number of at least 1 (default {ATTEMPTS}), not {attempts!r}"
        )
    if idempotency_key is not None:
        check_idempotency_key(idempotency_key)
    settler = None if on_conflict in (REBASE, FAIL) else Settler(on_conflict, nodes, packs)
    return CommitRules(on_conflict != FAIL, settler, attempts, idempotency_key)


class Settler:
    """Settles conflicting samples one by one; conflicts about whole columns are left.

    Args:
        strategy: "ours" keeps what is staged, "theirs" what the other writer committed, a function decides for each.
        nodes: reads records.
        packs: reads samples, staged ones too.
    """

    def __init__(self, strategy: OnConflict, nodes: NodeReader, packs: PackReader) -> None:
        self._strategy = strategy
        self._nodes = nodes
        self._packs = packs

    def __call__(self, working: WorkingSet, head: dict[str, ColumnEntry], conflicts: list[Conflict]) -> list[Conflict]:
        """Stage the outcome of each conflict; returns those that are not settled, and then stages nothing."""
        decided: list[tuple[str, RowKey, LazyValue | object]] = []
        left = []
        for conflict in conflicts:
            decision = None if conflict.key is None else self._decide(working, head, conflict.column, conflict.key)
            if conflict.key is None or decision is None:
                left.append(conflict)
            else:
                decided.append((conflict.column, conflict.key, decision))
        if not left:
            self._stage(working, decided)
        return left

    def _decide(self, working: WorkingSet, head: dict[str, ColumnEntry], name: str, key: RowKey) -> LazyValue | object:
        base, theirs, column = working.base.get(name), head[name], working.columns[name]
        if isinstance(self._strategy, str):
            row = self._nodes.find(theirs.root, theirs.schema, key)
            return LazyValue(self._packs, column.entry, column.staged[key] if self._strategy == OURS else row)
        rows = [
            None if base is None else self._nodes.find(base.root, base.schema, key),
            column.staged[key],
            self._nodes.find(theirs.root, theirs.schema, key),
        ]
        sides = [LazyValue(self._packs, column.entry, row) for row in rows]
        decision: object = self._strategy("metadata" if name == METADATA else name, key, *sides)
        return decision

    def _stage(self, working: WorkingSet, decided: list[tuple[str, RowKey, LazyValue | object]]) -> None:
        encoded = [
            (name, key, None if isinstance(value, LazyValue) else _encode(working, name, key, value), value)
            for name, key, value in decided
        ]
        for name, key, payload, value in encoded:
            if isinstance(value, LazyValue):
                working.stage_rows(name, [(key, value.row)])
            else:
                working.columns[name].put(key, payload)
        working.flush()


def _encode(working: WorkingSet, name: str, key: RowKey, value: object) -> Payload:
    return working.columns[name].entry.schema.encode(
        value, f"what on_conflict gave for column {name!r}, sample {key!r}"
    )
