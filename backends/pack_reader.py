"""Reading samples out of packs: checksummed blocks, decoded once, kept under a bound."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from hangar_cloud.backends.arenas import Arenas, BlockName
from hangar_cloud.backends.arriving import Arriving
from hangar_cloud.backends.block_runs import read_runs
from hangar_cloud.backends.blocks import Place
from hangar_cloud.backends.box_reader import LEAST_BYTES, BoxReader, Part
from hangar_cloud.backends.errors import (
    CorruptDataError,
    DataNotLocalError,
    HangarError,
    ObjectNotFoundError,
    PurgedBytesError,
)
from hangar_cloud.backends.fork_lock import ForkLock
from hangar_cloud.backends.local_files import LocalFiles
from hangar_cloud.backends.object_source import Extent, ObjectSource
from hangar_cloud.backends.packs import NO_PACK, pack_path, staged_pack_number
from hangar_cloud.backends.sample_extents import PackedSample, Purged, payload_of, sample_extent, shared_extent
from hangar_cloud.backends.tiledb_arrays import Elements
from hangar_cloud.backends.values import payload_size, sample_digest

__all__ = ["SHARED_BLOCK_LIMIT", "UNREADABLE", "DecodedBlock", "PackReader", "PackedSample", "Purged"]

_DECODED_LIMIT: Final = 128 * 1024 * 1024
SHARED_BLOCK_LIMIT: Final = 64 * 1024
"""Blocks of up to so many raw bytes are kept decoded."""
UNREADABLE: Final = (CorruptDataError, DataNotLocalError, ObjectNotFoundError, PurgedBytesError)
"""What reading a sample may raise that speaks of this sample alone."""

T = TypeVar("T")


class DecodedBlock:
    """A block's raw bytes, and where those of its samples begin that were compared with their digests.

    An intact block may still be the wrong one (a pack of another name was put in its place), so each sample is
    compared the first time it is read.

    `wanted` is whether somebody would have gathered batches from it before.
    """

    __slots__ = ("proven", "raw", "spot", "wanted")

    def __init__(self, raw: memoryview, sample: PackedSample) -> None:
        self.raw = raw
        self.spot = 0
        self.wanted = False
        self.proven = {sample.place.start}

    def payload(self, sample: PackedSample) -> memoryview | None:
        """The sample's payload, None if these are not its bytes."""
        place = sample.place
        data = payload_of(self.raw, place)
        if place.start not in self.proven and not self.prove(place.start, place.size, sample.digest, sample.prefix):
            return None
        return data

    def prove(self, start: int, size: int, digest: bytes, prefix: bytes) -> bool:
        """Whether the bytes from `start` are those of a sample; remembered if so."""
        if sample_digest(prefix, self.raw[start : start + size]) != digest:
            return False
        self.proven.add(start)
        return True


Blocks = dict[BlockName, DecodedBlock]


class PackReader:
    """Payloads of packed samples, from sealed packs and from packs still being staged.

    Args:
        source: where sealed packs are read from.
        staging: folder of the staging packs of this writer, None for a reader.
        decoded_limit: bytes of decoded shared blocks kept in memory.
        purged: asked of samples that cannot be read, and whether any is to be taken from a remote.
        any_purged: whether `purged` has to be asked at all, of samples that are read by the hundred.

    `decoded` are these blocks, by pack and offset, `decoded_bytes` their bytes; `arenas` is where those lie that
    batches are gathered from.
    """

    def __init__(
        self,
        source: ObjectSource,
        staging: Path | None = None,
        decoded_limit: int = _DECODED_LIMIT,
        purged: Purged = lambda digest, here: None,
        any_purged: Callable[[], bool] = lambda: True,
    ) -> None:
        self._source = source
        self._purged = purged
        self._any_purged = any_purged
        self._staging = staging
        self._staged_files = LocalFiles()
        self.decoded: OrderedDict[tuple[bytes, int], DecodedBlock] = OrderedDict()
        self.decoded_bytes = 0
        self._decoded_limit = decoded_limit
        self._lock = ForkLock()
        self._boxes = BoxReader()
        self.arenas = Arenas(decoded_limit)
        source.tell_of_maps(self.arenas)
        self.arriving = Arriving()

    def read(self, sample: PackedSample) -> memoryview:
        """One sample's payload, read-only.

        Raises:
            CorruptDataError: damaged, with pack and position.
            DataNotLocalError: not here, and not to be fetched.
            HangarError: it was purged, in the words of `purged`.
        """
        place = sample.place
        with self._purge_told(sample):
            block = self.decoded.get((place.pack, place.offset))
            payload = None if block is None else block.payload(sample)
            return payload_of(self._load(sample), place) if payload is None else payload

    def read_many(self, samples: Sequence[PackedSample], held: bool = False) -> list[memoryview]:
        """Payloads of many samples, in the order asked. Each block is read, fetched and decoded
        once, and missing blocks are fetched in joined requests. `held` as in `read_runs`. Raises as `read`."""
        blocks: dict[tuple[bytes, int], DecodedBlock] = {}
        missing: dict[tuple[bytes, int], PackedSample] = {}
        for sample in samples:
            name = (sample.place.pack, sample.place.offset)
            if name in blocks or name in missing:
                continue
            block = self.decoded.get(name)
            if block is not None:
                blocks[name] = block
            elif staged_pack_number(name[0]) is not None:
                blocks[name] = DecodedBlock(self._load(sample), sample)
            else:
                missing[name] = sample
        if self._any_purged() and any(self._purged(s.digest, True) is not None for s in missing.values()):
            return [self.read(sample) for sample in samples]
        with suppress(*UNREADABLE):
            blocks.update(self._bring(missing, held))
        if not blocks.keys() >= {sample.place[:2] for sample in samples}:
            # One by one, since the error must be about the sample that fails. The one of all of them is forgotten by
            # now: it would keep what was read in memory.
            return [self.read(sample) for sample in samples]
        payloads = []
        for sample in samples:
            payload = blocks[sample.place.pack, sample.place.offset].payload(sample)
            payloads.append(self.read(sample) if payload is None else payload)
        return payloads

    def _bring(self, missing: dict[BlockName, PackedSample], held: bool) -> Blocks:
        """Blocks that are not in memory, each by one thread: others wait for it. Raises as `read_blocks`."""
        found: Blocks = {}
        while missing:
            with self.arriving.bringing(missing) as mine:
                some = {name: missing.pop(name) for name in mine}
                if some:
                    found.update(self._remember(some, self.read_blocks(list(some.values()), held=held)))
            self.arriving.wait(missing)
            here = {name: block for name in missing if (block := self.decoded.get(name)) is not None}
            found.update(here)
            for name in here:
                del missing[name]
        return found

    def read_blocks(
        self, samples: Sequence[PackedSample], are_absent: bool = False, held: bool = False
    ) -> list[memoryview]:
        """The decoded blocks of samples of different blocks, as they are, without being remembered.

        With `are_absent` they are not looked for here: `absent` said so. `held` as in `read_runs`.

        Raises:
            as `read`, without saying which sample it is about, and without the words of `purged`.
        """
        return read_runs(self._source, samples, self._purged_after_fetching(), are_absent, held)

    def spot(self, name: tuple[bytes, int], block: DecodedBlock) -> int:
        """Where in `arenas` a decoded block lies; it is brought there."""
        if block.spot and self.arenas.holds(block.spot):
            return block.spot
        block.spot, block.raw, dropped = self.arenas.place(block.raw, name)
        with self._lock.lock:
            # A block that stayed would keep all of its chunk in memory.
            for old in dropped:
                gone = self.decoded.pop(old, None)
                self.decoded_bytes -= 0 if gone is None else len(gone.raw)
        return block.spot

    def let_go(self) -> None:
        """Every now and then, close files that another process evicted; reading from files does so too."""
        self._source.let_go()

    def read_box(
        self, sample: PackedSample, shape: Sequence[int], lows: Sequence[int], highs: Sequence[int]
    ) -> Elements | None:
        """A box of one array, read as `BoxReader.read` does; None where the sample has to be read as a whole.

        That is so too where the parts of the array that are wanted cannot be read: the error is that of the sample.

        Args:
            sample: of an ndarray column.
            shape: of the sample.
            lows, highs: first element of the box and the one behind the last, in each dimension; none is empty.
        """
        place, digest, prefix = sample
        if place.stored < LEAST_BYTES or place.pack == NO_PACK or payload_size(prefix) != place.size:
            return None
        if self._purged(digest, True) is not None:
            return None
        try:
            return self._boxes.read(place, digest, lambda parts: self._read_parts(place, parts), shape, lows, highs)
        except UNREADABLE:
            return None

    def fetch(self, samples: Sequence[PackedSample]) -> None:
        """Bring samples to this machine, every one verified against its digest. Raises as `read`."""
        blocks: dict[tuple[bytes, int], list[PackedSample]] = {}
        for sample in samples:
            blocks.setdefault((sample.place.pack, sample.place.offset), []).append(sample)
        self._source.read_many([shared_extent(members, self._purged) for members in blocks.values()], must_keep=True)

    def is_local(self, sample: PackedSample) -> bool:
        """True if the sample can be read without a remote."""
        if self.is_whole(sample.place.pack):
            return True
        try:
            return self._source.is_local(self.extent(sample))
        except PurgedBytesError:
            return False

    def read_local(self, sample: PackedSample) -> memoryview | None:
        """One sample's payload, or None where it cannot be read without a remote."""
        if staged_pack_number(sample.place.pack) is not None:
            return self.read(sample)
        try:
            return payload_of(self._source.read_local(self.extent(sample)), sample.place)
        except (CorruptDataError, DataNotLocalError, PurgedBytesError):
            return None

    def is_purged(self, digest: bytes) -> bool:
        """Whether a sample is known here to be purged."""
        return self._purged(digest, True) is not None

    def seems_local(self, place: Place) -> bool:
        """Whether a block is on this machine, as far as can be told without reading it: a hint."""
        return not self._absent([place])

    def absent(self, samples: Sequence[PackedSample]) -> list[PackedSample]:
        """Those of some samples whose blocks do not seem to be on this machine, in their order: a hint."""
        names = self._absent(sample.place for sample in samples)
        return [sample for sample in samples if sample.place[:2] in names]

    def _absent(self, places: Iterable[Place]) -> set[tuple[bytes, int]]:
        asked: defaultdict[bytes, list[tuple[int, int]]] = defaultdict(list)
        decoded = self.decoded
        for pack, offset, stored, _, _ in places:
            if (pack, offset) not in decoded:
                asked[pack].append((offset, stored))
        return {
            (pack, offset)
            for pack, spans in asked.items()
            for (offset, _), here in zip(spans, self._source.seem_local(pack_path(pack), spans), strict=True)
            if not here
        }

    def keeps(self, size: int) -> bool:
        """Whether so many bytes of what is fetched are kept on this machine."""
        return self._source.keeps(size)

    def is_whole(self, pack: bytes) -> bool:
        """True if the whole pack is on this machine."""
        # Looked up each time: another process may have evicted it, or it was found damaged.
        return staged_pack_number(pack) is not None or (self._source.store / pack_path(pack)).exists()

    def _purged_after_fetching(self) -> Purged:
        """As `purged`, for samples that arrive together: with the first it is looked up whether there are any."""
        any_purged: list[bool] = []

        def purged(digest: bytes, here: bool) -> HangarError | None:
            if not any_purged:
                any_purged.append(self._any_purged())
            return self._purged(digest, here) if any_purged[0] else None

        return purged

    def extent(self, sample: PackedSample) -> Extent[memoryview]:
        """The part of a pack that holds a sample, with the check that decodes it."""
        return sample_extent(sample, self._purged)

    def keep_at_most(self, limit: int) -> None:
        """Drop the decoded blocks that were kept first, until they are no more than so many bytes."""
        with self._lock.lock:
            self._drop_to(limit)

    def forget(self) -> None:
        """Drop decoded blocks and open staging files."""
        with self._lock.lock:
            self.decoded.clear()
            self.decoded_bytes = 0
        self.arenas.forget()
        self._staged_files.forget_all()
        self._boxes.forget()

    @contextmanager
    def _purge_told(self, sample: PackedSample) -> Iterator[None]:
        """Where a sample cannot be read since it was purged, say that."""
        try:
            yield
        except UNREADABLE as error:
            purged = self._purged(sample.digest, False)
            if purged is None:
                raise
            raise purged from error

    def _load(self, sample: PackedSample) -> memoryview:
        place = sample.place
        self.arriving.wait([(place.pack, place.offset)])
        if place.pack == NO_PACK:
            raise PurgedBytesError("the sample stood in its record and was purged; what was said of it is not here")
        number = staged_pack_number(place.pack)
        purged = self._purged(sample.digest, True)
        if purged is not None:
            # Told at once, and without asking a remote that may still have what was purged here.
            raise purged
        extent = self.extent(sample)
        raw = self._source.read(extent) if number is None else self._load_staged(number, extent)
        self._remember({place[:2]: sample}, [raw])
        return raw

    def _load_staged(self, number: int, extent: Extent[T]) -> T:
        if self._staging is None:
            raise CorruptDataError(f"a committed record refers to staging pack {number}")
        path = self._staging / f"{number}.pack"
        try:
            data = self._staged_files.read(path, extent.offset, extent.length)
            return extent.verify(memoryview(data), False)
        except FileNotFoundError as error:
            raise CorruptDataError(f"staging pack {path} is gone") from error
        except CorruptDataError as error:
            raise CorruptDataError(f"staging pack {path} at byte {extent.offset}: {error}") from error

    def _read_parts(self, place: Place, parts: Sequence[Part]) -> list[Any]:
        """What the checks of parts of an extent make of them. Raises CorruptDataError, or as `ObjectSource.read`."""
        number = staged_pack_number(place.pack)
        if number is None:
            return self._source.read_many([_part_of(place, *part) for part in parts], tiles=True)
        return [self._load_staged(number, _part_of(place, *part)) for part in parts]

    def _remember(self, samples: Mapping[BlockName, PackedSample], raws: Sequence[memoryview]) -> Blocks:
        """Keep decoded blocks in memory, each with a sample that was compared; those of big samples are not kept."""
        blocks = {name: DecodedBlock(raw, samples[name]) for name, raw in zip(samples, raws, strict=True)}
        with self._lock.lock:
            for name, block in blocks.items():
                size = len(block.raw)
                if size <= SHARED_BLOCK_LIMIT:
                    old = self.decoded.pop(name, None)
                    self.decoded_bytes += size - (0 if old is None else len(old.raw))
                    self.decoded[name] = block
            self._drop_to(self._decoded_limit)
        return blocks

    def _drop_to(self, limit: int) -> None:
        while self.decoded_bytes > limit:
            _, dropped = self.decoded.popitem(last=False)
            self.decoded_bytes -= len(dropped.raw)


def _part_of(place: Place, start: int, length: int, check: Callable[[memoryview], T]) -> Extent[T]:
    """A part of the extent of a place."""

    def verify(data: memoryview, fetched: bool) -> T:
        if len(data) != length:
            raise CorruptDataError(f"only {len(data)} of {length} bytes are there")
        return check(data)

    if start + length > place.stored:
        raise CorruptDataError("an array is longer than its record says")
    return Extent(pack_path(place.pack), place.offset + start, length, verify)
