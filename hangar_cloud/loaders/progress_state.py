"""What is kept to go on in the middle of an epoch, and what is refused when it does not fit (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from hangar_cloud.errors import InvalidArgumentError

VERSION: Final = 1
_NUMBERS: Final = ("version", "seed", "epoch", "consumed", "samples", "next_step", "batch_size", "start")


class Place(NamedTuple):
    """A place in training.

    Attributes:
        epoch: its number.
        consumed: samples of the epoch that all ranks together have had.
        start: samples that were left out at the beginning of the epoch, when it was gone on with.
        next_step: of a worker: its next step, counted behind `start`.
        batch_size: of the global batches since `start`.
        workers: of a worker: (its number, how many there are); None of a whole rank.
    """

    epoch: int
    consumed: int
    start: int
    next_step: int
    batch_size: int
    workers: tuple[int, int] | None


def to_state(place: Place, *, seed: int, order: str, samples: int, fingerprint: str) -> dict[str, Any]:
    """A place as plain values that JSON and torch.save take."""
    state = {**place._asdict(), "workers": None if place.workers is None else list(place.workers)}
    told = {"version": VERSION, "seed": seed, "order": order, "samples": samples, "fingerprint": fingerprint}
    return {**told, **state}


def from_state(state: Any, *, seed: int, order: str, samples: int, fingerprint: str) -> Place:
    """The place that a state tells.

    Raises:
        InvalidArgumentError: it is no such state, or of other samples, another seed or another order.
    """
    if not isinstance(state, Mapping) or not {*_NUMBERS, "order", "fingerprint", "workers"} <= state.keys():
        raise InvalidArgumentError(f"this is not what state_dict() returns: {str(state)[:80]}")
    if any(type(state[name]) is not int or state[name] < 0 for name in _NUMBERS if name != "seed"):
        raise InvalidArgumentError("this is not what state_dict() returns: it has numbers that are none")
    if state["version"] != VERSION:
        raise InvalidArgumentError(f"this state is of version {state['version']}, and {VERSION} is read; upgrade")
    for what, theirs, ours in (
        ("samples", state["samples"], samples),
        ("seed", state["seed"], seed),
        ("order (shuffle, window)", state["order"], order),
        ("data (commit, columns or keys)", state["fingerprint"], fingerprint),
    ):
        if theirs != ours:
            raise InvalidArgumentError(
                f"this state is of a dataset with other {what}: {theirs!r} there, {ours!r} here; open the same commit "
                "with the same arguments (batch_size, rank, world_size and memory may differ)"
            )
    workers = state["workers"]
    if workers is not None and not _is_worker(workers):
        raise InvalidArgumentError(f"this is not what state_dict() returns: workers is {workers!r}")
    return Place(
        state["epoch"],
        min(state["consumed"], samples),
        min(state["start"], samples),
        state["next_step"],
        max(state["batch_size"], 1),
        None if workers is None else (int(workers[0]), int(workers[1])),
    )


def _is_worker(workers: Any) -> bool:
    """Whether this tells a worker: its number, and how many there are."""
    if not isinstance(workers, (list, tuple)) or [type(number) for number in workers] != [int, int]:
        return False
    return bool(0 <= workers[0] < workers[1])
