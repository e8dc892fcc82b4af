"""The part of an integrity check that reads packs: each once, several at a time, going on where it was interrupted."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, cast

from hangar_cloud.backends.errors import CorruptDataError, HangarError, ObjectNotFoundError
from hangar_cloud.backends.held_objects import HeldObjects, concerns_object
from hangar_cloud.backends.pack_check import PackFault, check_contents, check_extent, check_frame
from hangar_cloud.backends.packs import pack_path
from hangar_cloud.backends.sample_spool import AskedSample, AskedSamples, SampleSpool, fingerprint
from hangar_cloud.backends.store import ObjectStore
from hangar_cloud.backends.store.port import ObjectInfo
from hangar_cloud.catalog.findings import Finding
from hangar_cloud.catalog.fsck_records import TreeCheck
from hangar_cloud.progress import byte_progress
from hangar_cloud.verified_packs import VerifiedPacks

_AT_ONCE: Final = 4
_MOST_SAMPLES: Final = 100
_TAIL_BYTES: Final = 128 * 1024


class _Outcome(NamedTuple):
    """What the check of one pack came to: its faults, and how many of its samples are not on this machine."""

    pack: bytes
    asked: int
    faults: list[PackFault]
    remote: int = 0
    verified: tuple[ObjectInfo, str] | None = None
    read: int = 0


class PackCheck:
    """Checks every pack that records ask for.

    Args:
        held: where packs are read from.
        trees: knows which records ask for what.
        contents: False to check only that packs, and places in them, exist.
        verified: the packs that need not be read again; not asked without `contents`.
        scratch: an existing folder for packs of buckets while they are checked.
        report: takes the findings.

    `remote_samples` counts the samples that were not checked because they are not on this machine.
    """

    def __init__(
        self,
        held: HeldObjects,
        trees: TreeCheck,
        contents: bool,
        verified: VerifiedPacks,
        scratch: Path,
        report: Callable[[Finding], None],
    ) -> None:
        self._held = held
        self._trees = trees
        self._contents = contents
        self._verified = verified
        self._scratch = scratch
        self._report = report
        self.remote_samples = 0

    def run(self, spool: SampleSpool) -> None:
        """Check the packs of all samples in the spool."""
        self._held.survey("packs/")
        infos = (self._held.info(pack_path(pack)) for pack in spool.packs)
        total = sum(info.size for info in infos if info is not None)
        with byte_progress("checking samples", total, enabled=self._contents) as progress:
            for group in spool.groups():
                for outcome in self._outcomes(group):
                    progress(outcome.read)
                    self._take(outcome)

    def _outcomes(self, group: dict[bytes, AskedSamples]) -> Iterator[_Outcome]:
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            yield from pool.map(self._check, group.items())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _check(self, item: tuple[bytes, AskedSamples]) -> _Outcome:
        pack, asked = item
        info = self._held.info(pack_path(pack))
        if info is None:
            return self._check_absent(pack, asked)
        if not self._contents:
            file = cast(BinaryIO, _ObjectEnd(self._held.store_of(info.path), info))
            return _Outcome(pack, len(asked), _caught(lambda: check_frame(file, info.size, asked)))
        print_ = fingerprint(asked)
        if (pack, info, print_) in self._verified:
            return _Outcome(pack, len(asked), [], read=info.size)
        faults = _caught(lambda: self._check_whole(pack, asked))
        return _Outcome(pack, len(asked), faults, 0, None if faults else (info, print_), info.size)

    def _check_whole(self, pack: bytes, asked: AskedSamples) -> Iterable[PackFault]:
        path = pack_path(pack)
        store = self._held.store_of(path)
        local = store.local_path(path)
        if local is not None:
            return list(check_contents(local, pack, asked))
        copy = self._scratch / f"{pack.hex()}.pack"
        try:
            store.download(path, copy)
            return list(check_contents(copy, pack, asked))
        finally:
            copy.unlink(missing_ok=True)

    def _check_absent(self, pack: bytes, asked: AskedSamples) -> _Outcome:
        """A pack that is not here as a whole: what there is of it, and whether a remote has it."""
        path = pack_path(pack)
        absence = self._held.absence(path, [(one.sample.place.offset, one.sample.place.stored) for one in asked])
        if not self._contents:
            if absence is None or self._held.has_parts(path):
                return _Outcome(pack, len(asked), [], len(asked))
            return _Outcome(pack, len(asked), _all_lost(absence, asked))
        away = [one for block in _blocks(asked) for one in self._not_here(path, block)]
        if not away or absence is None:
            return _Outcome(pack, len(asked), [], len(away))
        return _Outcome(pack, len(asked), _all_lost(absence, away))

    def _not_here(self, path: str, block: list[AskedSample]) -> list[AskedSample]:
        place = block[0].sample.place
        data = self._held.read_part(path, place.offset, place.stored)
        if data is None:
            return block
        # What fails its check in a file of parts was never written there in full: the same as a hole.
        return [fault.asked for fault in check_extent(data, block) if fault.asked is not None]

    def _take(self, outcome: _Outcome) -> None:
        """Report what the check of one pack came to."""
        self.remote_samples += outcome.remote
        if outcome.verified is not None:
            self._verified.add(outcome.pack, *outcome.verified)
        path = pack_path(outcome.pack)
        samples = [fault for fault in outcome.faults if fault.asked is not None]
        for fault in outcome.faults:
            if fault.asked is None:
                lost = f"; {len(samples)} of the {outcome.asked} samples in it cannot be read" if samples else ""
                message = f"{fault.message} (pack {outcome.pack.hex()[:12]}){lost}{self._held.origin(path)}"
                self._report(Finding(fault.kind, path, message=message))
        for fault in samples[:_MOST_SAMPLES]:
            self._report(self._sample_finding(path, fault))
        if len(samples) > _MOST_SAMPLES:
            more = f"{len(samples) - _MOST_SAMPLES:,} more samples of pack {outcome.pack.hex()[:12]} are like these"
            self._report(Finding(samples[-1].kind, path, message=more))

    def _sample_finding(self, path: str, fault: PackFault) -> Finding:
        assert fault.asked is not None
        try:
            owner, key = self._trees.owner_of(fault.asked.leaf, fault.asked.row)
        except HangarError:
            return Finding(fault.kind, path, message=fault.message)
        message = fault.message + self._held.origin(path)
        return Finding(fault.kind, path, owner.column, key, owner.commit, message)


class _ObjectEnd(io.RawIOBase):
    """An object as a file whose end is read at once, which holds most packs' whole index."""

    def __init__(self, store: ObjectStore, info: ObjectInfo) -> None:
        self._store = store
        self._info = info
        self._start = max(info.size - _TAIL_BYTES, 0)
        self._tail: bytes | None = None
        self._position = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (self._info.size if whence == 2 else 0)
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = min(self._position + size, self._info.size)
        position, self._position = self._position, end
        if position < self._start:
            return self._store.get_range(self._info.path, position, end - position)
        if self._tail is None:
            self._tail = self._store.get_range(self._info.path, self._start, self._info.size - self._start)
        return self._tail[position - self._start : end - self._start]


def _caught(check: Callable[[], Iterable[PackFault]]) -> list[PackFault]:
    """The faults that a check gives; an object that cannot be read is one, a store that gives no answer is not."""
    try:
        return list(check())
    except (ObjectNotFoundError, FileNotFoundError) as error:
        return [PackFault("missing", str(error))]
    except (CorruptDataError, OSError) as error:
        if not concerns_object(error):
            raise
        return [PackFault("damaged", str(error))]


def _blocks(asked: AskedSamples) -> Iterator[list[AskedSample]]:
    return (list(block) for _, block in groupby(asked, key=lambda one: one.sample.place[1:3]))


def _all_lost(absence: HangarError, asked: Iterable[AskedSample]) -> list[PackFault]:
    lost = [PackFault("missing", "the sample's bytes are nowhere", one) for one in asked]
    return [PackFault("missing", str(absence)), *lost]
