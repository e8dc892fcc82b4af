"""Where samples lie that were stored before, by digest: so that equal samples are stored once.

A cache, rebuilt from record trees when it is lost: sorted arrays in files, searched by the first
eight bytes of the digest. Files are never changed, so many processes may share the folder. Every entry
has a checksum, because a damaged place would be written into history.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xxhash

from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.store.durable_files import temporary_sibling
from hangar_cloud.backends.values import digests_of
from hangar_cloud.backends.xxh3_rows import xxh3_rows
from hangar_cloud.catalog.place_table import NUMBERS, Places
from hangar_cloud.catalog.row_batch import Changes, SortedRows

_MERGE_ABOVE: Final = 16
_MAX_NUMBER: Final = 2**63 - 1
_SUFFIX: Final = ".places"
_MARK: Final = ".covered"
_MOST_MARKS: Final = 1024
_ENTRY: Final = np.dtype(
    [
        ("head", "<u8"),
        ("digest", "V32"),
        ("pack", "V16"),
        ("offset", "<u8"),
        ("stored", "<u8"),
        ("start", "<u8"),
        ("size", "<u8"),
        ("check", "<u8"),
    ]
)
_CHECKED_BYTES: Final = _ENTRY.itemsize - 8


class DigestIndex:
    """A folder of sorted runs of (digest, place), and marks of the trees that it covers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: dict[str, npt.NDArray[Any]] | None = None
        self._marks = _MOST_MARKS  # added since it was looked how many there are

    def find(self, digests: Collection[bytes], usable: Callable[[Place], bool] = lambda _: True) -> dict[bytes, Place]:
        """The places of those digests that are known, as far as they are `usable`."""
        runs = self._load()
        if not runs or not digests:
            return {}
        digests = list(digests)
        heads = np.frombuffer(b"".join(digests), ">u8")[::4]
        found: dict[bytes, Place] = {}
        for run in runs.values():
            positions = np.searchsorted(run["head"], heads)
            inside = np.minimum(positions, len(run) - 1)
            for i in np.flatnonzero((positions < len(run)) & (run["head"][inside] == heads)):
                digest = digests[int(i)]
                place = next((p for p in _matches(run, int(positions[i]), digest) if usable(p)), None)
                if place is not None:
                    found[digest] = place
        return found

    def add(self, entries: Iterable[tuple[bytes, Place]], covers: Iterable[bytes] = ()) -> None:
        """Record places of digests; `covers` are digests of tree roots that are now wholly indexed."""
        listed = list(entries)
        self._add(b"".join(digest for digest, _ in listed), Places.of([place for _, place in listed]), covers)

    def add_rows(self, changes: Iterable[Changes], covers: Iterable[bytes] = ()) -> None:
        """Record where the samples of rows lie, those that are packed; `covers` as in `add`."""
        digests: list[bytes] = []
        places: list[Places] = []
        for rows in changes:
            batch = rows.batch if isinstance(rows, SortedRows) else None
            if batch is None or not batch.alike:
                packed = [(row.identity, row.place) for _, row in rows if row is not None and row.place is not None]
                digests += [identity[1:] for identity, _ in packed]
                places.append(Places.of([place for _, place in packed]))
            elif batch.places is not None:
                digests.append(bytes(digests_of(batch.identities).data))
                places.append(batch.places)
        self._add(b"".join(digests), Places.joined(places) if digests else Places.of([]), covers)

    def _add(self, joined: bytes, places: Places, covers: Iterable[bytes]) -> None:
        """Record where samples lie, whose digests are given one behind the other."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if joined:
            heads = np.frombuffer(joined, ">u8")[::4]
            order = np.argsort(heads)
            run = np.zeros(len(order), _ENTRY)
            run["head"] = heads[order]
            run["digest"] = np.frombuffer(joined, "V32")[order]
            run["pack"] = places.pack_bytes()[order]
            for name, column in zip(NUMBERS, places.numbers, strict=True):
                run[name] = column[order]
            run = _each_once(run)
            run["check"] = _checksums(run)
            self._save(run)
        for root in covers:
            (self._folder / f"{root.hex()}{_MARK}").touch()
            self._marks += 1
        if self._marks > _MOST_MARKS // 4:
            self._drop_old_marks()

    def covers(self, root: bytes) -> bool:
        """True if all samples of the tree with that root digest were recorded."""
        return (self._folder / f"{root.hex()}{_MARK}").exists()

    def _drop_old_marks(self) -> None:
        """Forget of older trees that they are covered: each commit adds a mark, and every write looks through them."""
        marks = sorted((self._folder / name for name in self._names(_MARK)), key=_time)
        if len(marks) > _MOST_MARKS:
            for mark in marks[: -_MOST_MARKS // 2]:
                mark.unlink(missing_ok=True)
        self._marks = 0

    def _names(self, suffix: str) -> list[str]:
        try:
            return [name for name in os.listdir(self._folder) if name.endswith(suffix)]
        except FileNotFoundError:
            return []

    def _load(self) -> dict[str, npt.NDArray[Any]]:
        if self._runs is None:
            self._runs = {}
        names = set(self._names(_SUFFIX))
        for gone in set(self._runs) - names:
            del self._runs[gone]
        for name in names - set(self._runs):
            # A run that a dying process left half-written, or another process merged away, is only a cache miss.
            with contextlib.suppress(OSError, ValueError):
                self._runs[name] = np.memmap(self._folder / name, _ENTRY, mode="r").view(np.ndarray)
        if len(self._runs) > _MERGE_ABOVE:
            self._merge()
        return self._runs

    def _merge(self) -> None:
        assert self._runs is not None
        old = _small_ones({name: len(run) for name, run in self._runs.items()})
        merged = np.concatenate([self._runs.pop(name) for name in old])
        self._runs.update([self._save(merged[np.argsort(merged["head"], kind="stable")])])
        for name in old:
            (self._folder / name).unlink(missing_ok=True)

    def _save(self, run: npt.NDArray[Any]) -> tuple[str, npt.NDArray[Any]]:
        name = f"{secrets.token_hex(8)}{_SUFFIX}"
        with temporary_sibling(self._folder / name) as incoming:
            with incoming.open("xb") as file:
                # Without numpy's header, the parser of which fails in many ways where it is damaged.
                # Nor forced to the disk: what a power cut takes of it is a miss, as each entry has a checksum.
                run.tofile(file)
            os.replace(incoming, self._folder / name)
        return name, run


def _small_ones(sizes: dict[str, int]) -> list[str]:
    """The runs to merge: half of them at least, but not one that is far longer than all of those, or each few commits
    of one sample would write a million entries anew."""
    chosen: list[str] = []
    total = 0
    for name, size in sorted(sizes.items(), key=lambda item: item[1]):
        if len(chosen) >= _MERGE_ABOVE // 2 and size > 4 * total:
            break
        chosen.append(name)
        total += size
    return chosen


def _time(mark: Path) -> float:
    try:
        return mark.stat().st_mtime
    except FileNotFoundError:  # another process dropped it
        return 0


def _matches(run: npt.NDArray[Any], position: int, digest: bytes) -> Iterator[Place]:
    head = run["head"][position]
    while position < len(run) and run["head"][position] == head:
        entry = run[position]
        if entry["digest"].tobytes() == digest and int(entry["check"]) == _checksum(entry):
            numbers = [int(entry[name]) for name in ("offset", "stored", "start", "size")]
            if max(numbers) <= _MAX_NUMBER:
                yield Place(entry["pack"].tobytes(), *numbers)
        position += 1


def _checksum(entry: Any) -> int:
    return xxhash.xxh3_64_intdigest(entry.tobytes()[:_CHECKED_BYTES])


def _checksums(run: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    return xxh3_rows(run.view(np.uint8).reshape(len(run), -1)[:, :_CHECKED_BYTES])


def _each_once(run: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Sorted entries without those that repeat the digest before them: equal samples of one commit have one place."""
    alike = np.flatnonzero(run["head"][1:] == run["head"][:-1]) + 1
    if not len(alike):
        return run
    repeated = [i for i in alike.tolist() if run["digest"][i].tobytes() == run["digest"][i - 1].tobytes()]
    return np.delete(run, repeated)
