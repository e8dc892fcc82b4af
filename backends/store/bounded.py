"""Running many coroutines, a few at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar, cast

from hangar_cloud.backends.store.driving import gather_driven, is_driving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

_Result = TypeVar("_Result")


async def gather_bounded(operations: Sequence[Callable[[], Awaitable[_Result]]], limit: int) -> list[_Result]:
    """Await every operation, at most ``limit`` at once, and return their results in order.

    The first failure cancels the rest, waits until they have ended, and is raised.
    """
    if len(operations) == 1:
        return [await operations[0]()]
    if is_driving():
        return gather_driven(operations, limit)
    results: list[_Result | None] = [None] * len(operations)
    remaining = iter(range(len(operations)))

    async def work() -> None:
        for index in remaining:
            results[index] = await operations[index]()

    workers = [asyncio.ensure_future(work()) for _ in range(min(limit, len(operations)))]
    try:
        await asyncio.gather(*workers)
    except BaseException:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        raise
    return cast("list[_Result]", results)
