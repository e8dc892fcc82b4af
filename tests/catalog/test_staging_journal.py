"""Single writes in the journal of a staging area: as good as in its database, whatever ends the process, and when."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from hangar_cloud.catalog import staging_journal
from hangar_cloud.catalog.errors import StagingError
from hangar_cloud.catalog.records import Row
from hangar_cloud.catalog.schema import ColumnSchema
from hangar_cloud.catalog.staging import ColumnEvent, SampleEvents, StagingArea
from tests.catalog.bench import run_python
from tests.forked import passes_forked

ENTRY = {"schema": ColumnSchema("str").to_json(), "backend": "i0", "backend_options": {}}
CREATED = ColumnEvent("text", "create", ENTRY)
JOURNAL = "staging.duckdb.journal"


def row(text: str) -> Row:
    return Row(b"\x00" + text.encode(), None, text.encode(), None)


EVENTS = [
    SampleEvents("text", [(0, row("zero"))]),
    SampleEvents("text", [("0", row("")), (3, row("three"))]),
    SampleEvents("text", [(0, None)]),
    SampleEvents("", [("name", row("metadata"))]),
    SampleEvents("nested", [((1, "1"), row("sub")), (("1", 1), None)]),
    SampleEvents("array", [(2**63 - 1, Row(b"\x00ABCDEF", None, b"ABCDEF", (2, 3)))]),
    SampleEvents("array", [(5, Row(b"\x01", None, b"", ()))]),
    SampleEvents("text", [(0, row("x" * 600))]),
]


def stage(area, events=EVENTS):
    for event in events:
        area.stage_samples(event.name, event.rows, {})


def staged(folder):
    area = StagingArea(folder)
    try:
        return list(area.events())
    finally:
        area.close()


@pytest.fixture
def left(tmp_path):
    """The folder of an area whose writer died with all but the first of `EVENTS` in the journal."""
    area = StagingArea(tmp_path / "at work")
    area.clear("master", "abc")
    stage(area)
    assert (tmp_path / "at work" / JOURNAL).exists()
    shutil.copytree(tmp_path / "at work", tmp_path / "left")
    area.close()
    journal = tmp_path / "left" / JOURNAL
    os.truncate(journal, len(journal.read_bytes().rstrip(b"\0")))  # zeros were written ahead
    return tmp_path / "left"


def test_single_writes_wait_in_the_journal_and_go_to_the_database_before_it_is_asked(tmp_path):
    area = StagingArea(tmp_path)
    stage(area)
    assert area.dirty
    assert (tmp_path / JOURNAL).exists()
    assert list(area.events()) == EVENTS
    assert not (tmp_path / JOURNAL).exists()
    stage(area, EVENTS[:3])
    area.stage_column(CREATED)
    stage(area, EVENTS[3:])
    area.close()
    assert not (tmp_path / JOURNAL).exists()
    assert staged(tmp_path) == [*EVENTS, *EVENTS[:3], CREATED, *EVENTS[3:]]


def test_a_killed_process_leaves_all_that_was_reported_as_durable(tmp_path):
    script = """
        import os, signal, sys
        from pathlib import Path
        from hangar_cloud.catalog.staging import StagingArea
        from tests.catalog.test_staging_journal import row
        area = StagingArea(Path(sys.argv[1]))
        for number in range(4500):
            area.stage_samples("text", [(number, row(str(number)))], {})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run_python(script.replace("\n        ", "\n"), str(tmp_path)).returncode == -signal.SIGKILL
    assert (tmp_path / JOURNAL).exists()
    assert staged(tmp_path) == [SampleEvents("text", [(n, row(str(n)))]) for n in range(4500)]
    assert staged(tmp_path) == [SampleEvents("text", [(n, row(str(n)))]) for n in range(4500)]


def test_an_end_torn_at_any_byte_is_passed_over(left):
    whole, ends = (left / JOURNAL).read_bytes(), []
    for size in range(len(whole) + 1):
        found = staging_journal.decode_events(whole[:size], 0, left)
        assert found == staging_journal.decode_events(whole, 0, left)[: len(found)]
        # Of a file whose size was on the disk before its bytes were, the rest is zeros.
        assert staging_journal.decode_events(whole[:size].ljust(len(whole), b"\0"), 0, left) == found
        if len(found) > len(ends):
            ends.append(size)
    assert len(ends) == len(EVENTS) - 1
    for size in (0, 5, 23, 24, 30, ends[0] - 1, ends[0], ends[3] + 7):
        copy = left.with_name(str(size))
        shutil.copytree(left, copy)
        os.truncate(copy / JOURNAL, size)
        kept = EVENTS[: 1 + sum(end <= size for end in ends)]
        assert staged(copy) == kept
        assert not (copy / JOURNAL).exists()
        area = StagingArea(copy)
        stage(area)
        area.close()
        assert staged(copy) == [*kept, *EVENTS]


def test_a_bit_that_changed_before_the_end_is_told_and_at_the_end_ends_it(left):
    whole = (left / JOURNAL).read_bytes()
    records = staging_journal.decode_events(whole, 0, left)
    last = whole.rfind(b"\xf5jr\n")
    for position in [*range(24, last, 11), *range(last, len(whole), 97)]:
        data = bytearray(whole)
        data[position] ^= 0x10
        if position < last:
            with pytest.raises(StagingError, match="damaged at byte"):
                staging_journal.decode_events(bytes(data), 0, left)
        else:
            assert staging_journal.decode_events(bytes(data), 0, left) == records[:-1]
    for position, told in ((40, 24), (3, 0), (9, 0), (20, 0)):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        (left / JOURNAL).write_bytes(damaged)
        for _ in range(2):
            with pytest.raises(StagingError, match=f"damaged at byte {told}; move it away"):
                StagingArea(left)
    (left / JOURNAL).unlink()
    assert staged(left) == EVENTS[:1]


def test_a_journal_that_was_taken_over_before_its_file_was_deleted_counts_once(left):
    journal = (left / JOURNAL).read_bytes()
    assert staged(left) == EVENTS
    (left / JOURNAL).write_bytes(journal)
    assert staged(left) == EVENTS
    area = StagingArea(left)
    stage(area)
    assert (left / JOURNAL).read_bytes()[:24] != journal[:24]
    area.clear("master", "def")
    (left / JOURNAL).write_bytes(journal)
    area.close()
    assert staged(left) == []


def test_a_note_that_nothing_is_staged_counts_for_nothing_beside_a_journal(tmp_path):
    area = StagingArea(tmp_path)
    area.clear("master", "abc")
    area.close()
    assert (tmp_path / "clean.json").exists()
    area = StagingArea(tmp_path)
    stage(area, EVENTS[:2])
    assert (tmp_path / JOURNAL).exists()
    assert not (tmp_path / "clean.json").exists()
    area.clear("master", "def")
    area.close()
    (tmp_path / JOURNAL).write_bytes(
        (head := staging_journal.file_head(1))
        + staging_journal.encode_record([[0, "text", 7, *[None] * 3, b"\0x", *[None] * 5, b"x", None]], 1, len(head))
    )
    assert staged(tmp_path) == [SampleEvents("text", [(7, Row(b"\0x", None, b"x", None))])]


def test_a_journal_beside_an_older_or_a_new_database_is_told(left):
    (left / JOURNAL).write_bytes(staging_journal.file_head(7))
    with pytest.raises(StagingError, match="of a later time"):
        StagingArea(left)


def test_something_else_in_the_place_of_the_journal_stops_nobody(left):
    (left / JOURNAL).unlink()
    os.mkfifo(left / JOURNAL)
    with pytest.raises(StagingError, match="is no file"):
        StagingArea(left)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"7",
        b"[]",
        b'["text", [[1, null, null, null, null, 9, 9]]]',
        b'["text", [[1, null, null, null, null, -1, 0]]]',
        b'["text", [[1.5, null, null, null, null, null, 0]]]',
        b'["text", [[null, null, null, null, null, null, 0]]]',
        b'["text", [[1, null, null, null, ["x"], null, 0]]]',
        b'["text", []]',
        b'["no/name", [[1, null, null, null, null, null, 0]]]',
        b"[" * 9999,
    ],
)
def test_a_record_that_somebody_made_up_is_damage(left, head):
    import xxhash

    payload = len(head).to_bytes(4, "little") + head
    record = b"\xf5jr\n" + len(payload).to_bytes(4, "little")
    record += xxhash.xxh3_64_intdigest(payload, seed=24).to_bytes(8, "little") + payload
    (left / JOURNAL).write_bytes(staging_journal.file_head(0) + record)
    with pytest.raises(StagingError, match="damaged at byte 24"):
        StagingArea(left)


@pytest.mark.parametrize("step", ["pwrite", "fdatasync", "open"])
def test_a_full_disk_refuses_one_write_and_keeps_what_was_staged(tmp_path, monkeypatch, step):
    area = StagingArea(tmp_path)
    first = EVENTS[:1] if step == "open" else EVENTS[:3]
    stage(area, first)
    real = getattr(os, step)

    def full(file, *arguments):
        if step == "pwrite":
            real(file, bytes(arguments[0])[:20], *arguments[1:])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(StagingError, match="No space left"):
            stage(area, EVENTS[3:4])
    shutil.copytree(tmp_path, tmp_path / "killed")
    assert staged(tmp_path / "killed") == first
    stage(area, EVENTS[4:])
    area.close()
    assert staged(tmp_path) == [*first, *EVENTS[4:]]


def test_a_database_that_cannot_take_over_keeps_the_journal(tmp_path, monkeypatch):
    area = StagingArea(tmp_path)
    stage(area)
    with monkeypatch.context() as patch:
        patch.setattr(area, "_insert", lambda *_: (_ for _ in ()).throw(StagingError("full")))
        with pytest.raises(StagingError, match="full"):
            area.stage_column(CREATED)
        assert (tmp_path / JOURNAL).exists()
    stage(area)
    area.stage_column(CREATED)
    assert list(area.events()) == [*EVENTS, *EVENTS, CREATED]
    area.close()
    assert staged(tmp_path) == [*EVENTS, *EVENTS, CREATED]


def test_the_journal_is_taken_over_when_it_is_long(tmp_path, monkeypatch):
    monkeypatch.setattr(staging_journal, "_MOST_EVENTS", 3)
    area = StagingArea(tmp_path)
    stage(area)
    assert len(staging_journal.decode_events((tmp_path / JOURNAL).read_bytes(), 2, tmp_path)) == 1
    shutil.copytree(tmp_path, tmp_path / "killed")
    area.close()
    assert staged(tmp_path) == staged(tmp_path / "killed") == EVENTS


def test_a_forked_child_leaves_the_journal_to_its_parent(tmp_path):
    area = StagingArea(tmp_path)
    stage(area)
    # No more of `close` than this: DuckDB itself does not survive a fork.
    assert passes_forked(lambda: not area._journal.is_mine)
    assert (tmp_path / JOURNAL).exists()
    stage(area)
    area.close()
    assert staged(tmp_path) == [*EVENTS, *EVENTS]
