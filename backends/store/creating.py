"""Creating an object at most once over a network that loses answers, and proving that a store can."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from hangar_cloud.backends.errors import HangarError, ReadOnlyStoreError, StoreUnavailableError
from hangar_cloud.backends.store.explaining import quote_detail
from hangar_cloud.backends.store.paths import PROBE_NAME
from hangar_cloud.backends.store.retry import Fault, with_retries

if TYPE_CHECKING:
    from hangar_cloud.backends.store.remote import RemoteStore

_VANISHED_LIMIT = 3
_RACERS = 8

_NEVER_LANDED = frozenset({Fault.UNREACHABLE, Fault.ABSENT, Fault.NO_BUCKET, Fault.NO_CREDENTIALS})
"""Faults after which nobody need look. After a refusal somebody must: the driver may have sent the request twice."""


async def create_object(store: RemoteStore, path: str, data: bytes) -> bool:
    """Create ``path`` unless it exists: True if ``data`` is there now, False if other bytes are.

    "Exists" may be the echo of our own earlier attempt whose answer was lost, in whichever layer it was
    repeated, so the object is read back and compared. Raises StoreUnavailableError where the outcome is
    unknown.
    """
    for _ in range(_VANISHED_LIMIT):
        error, perhaps_landed = await _try_create(store, path, data)
        if error is None:
            return True
        fault = store._classify_any(error)
        exists = fault is Fault.EXISTS
        if fault in _NEVER_LANDED and not perhaps_landed:
            raise store._explained(error, "create", path) from store._cause(error)
        try:
            found = await _read_back(store, path, patient=exists)
        except Exception as second:  # noqa: BLE001 - always raised again, explained
            if exists or perhaps_landed:
                raise _unknown(store, path, second) from store._cause(error)
            raise store._explained(error, "create", path) from store._cause(error)
        if found is not None:
            return found == data
        if not exists:
            lost = not perhaps_landed
            told = store._explained(error, "create", path) if lost else _unknown(store, path, error)
            raise told from store._cause(error)
        # It existed, and was deleted before we could look: the name is free again.
    raise StoreUnavailableError(
        f"{store._place(path)} was created and deleted by others {_VANISHED_LIMIT} times while we tried to "
        "create it. "
        "Try again when they have finished."
    )


async def _try_create(store: RemoteStore, path: str, data: bytes) -> tuple[Exception | None, bool]:
    """Return the failure, if any, and whether an attempt may have landed although it failed."""
    perhaps_landed = False

    async def write() -> None:
        nonlocal perhaps_landed
        try:
            await store._write(path, data, create=True)
        except Exception as error:
            perhaps_landed |= store._classify_any(error) in (Fault.TRANSIENT, Fault.BUSY)
            raise

    try:
        await with_retries(write, store._classify_any, store.retry)
    except Exception as error:  # noqa: BLE001 - the caller judges it
        return error, perhaps_landed
    return None, False


async def _read_back(store: RemoteStore, path: str, *, patient: bool) -> bytes | None:
    # After a whole round of failed retries another round would only make the caller wait.
    policy = store.retry if patient else replace(store.retry, attempts=min(2, store.retry.attempts), busy_for=1.0)
    try:
        return await with_retries(lambda: store._read(path, None, 0), store._classify_any, policy)
    except Exception as error:
        if store._classify_any(error) is Fault.ABSENT:
            return None
        raise


def _unknown(store: RemoteStore, path: str, error: Exception) -> HangarError:
    detail = quote_detail(error, store.storage_options)
    return StoreUnavailableError(
        f"Creating {store._place(path)} failed and it is unknown whether it took effect. "
        f"Repeating it is safe: try again when the store answers. (details: {detail})"
    )


async def prove_creates(store: RemoteStore) -> None:
    """Return if a second create of one name fails in ``store``; raise ReadOnlyStoreError if it succeeds.

    The probe object stays, so that the next proof takes one request and needs no permission to delete.
    """
    # Where it is there already, the first create shows it.
    if await _creates_probe(store) and await _creates_probe(store):
        raise not_proven(store)


async def _creates_probe(store: RemoteStore) -> bool:
    try:
        await with_retries(lambda: store._write(PROBE_NAME, _token(), create=True), store._classify_any, store.retry)
    except Exception as error:  # noqa: BLE001 - told in words of ours
        if store._classify_any(error) is Fault.EXISTS:
            return False
        raise store._explained(error, "write to", "") from store._cause(error)
    return True


async def prove_creates_by_race(store: RemoteStore) -> None:
    """Like ``prove_creates``, for drivers whose create may be look-then-write: of many at once, one may win."""
    name = f"{PROBE_NAME}-{secrets.token_hex(8)}"
    try:
        outcomes = await asyncio.gather(
            *(store._write(name, _token(), create=True) for _ in range(_RACERS)), return_exceptions=True
        )
    finally:
        await asyncio.gather(store._remove([name]), return_exceptions=True)
    if sum(outcome is None for outcome in outcomes) > 1:
        raise not_proven(store)
    for outcome in outcomes:
        if isinstance(outcome, Exception) and store._classify_any(outcome) is not Fault.EXISTS:
            raise store._explained(outcome, "write to", "") from store._cause(outcome)


def _token() -> bytes:
    return f"This object proves that creating a name twice fails here. {secrets.token_hex(16)}\n".encode()


def not_proven(store: RemoteStore) -> ReadOnlyStoreError:
    """Return the error for a store whose creates may overwrite."""
    return ReadOnlyStoreError(
        f"{store.url} lets a second create overwrite the first, so two writers could destroy each other's "
        "commits: "
        "nothing was written and the store stays read-only. Use a store that honours conditional writes "
        "(If-None-Match on S3, generation 0 on GCS), or update this one."
    )
