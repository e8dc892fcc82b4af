"""Batches that are staged in one cell: they come back as they were, are found, and are lost whole or not at all."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import Any

import duckdb
import numpy as np
import pytest

from hangar_cloud.catalog import sample_writer
from hangar_cloud.catalog.errors import StagingError
from hangar_cloud.catalog.schema import array_schema
from hangar_cloud.catalog.staged_batches import decode_batch, encode_batch
from hangar_cloud.catalog.staging import StagingArea
from hangar_cloud.catalog.staging_rebuild import rebuild
from hangar_cloud.catalog.tombstones import tombstone_digest
from tests.catalog.bench import Bench, committed, image, plains, run_python

IMAGES = {i: image(i) for i in range(0, 400, 2)}
LABELS = {i: np.array(i % 10) for i in range(300)}

KILLED = """
import os, signal, sys
from pathlib import Path
from tests.catalog.bench import Bench, image

bench = Bench(Path(sys.argv[1]))
bench.add("images")
bench.put("images", {i: image(i) for i in range(100)})
real = bench.staging._insert

def insert(table, *rest):
    real(table, *rest)
    if table == "batches":
        print("recorded", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

bench.staging._insert = insert
bench.put("images", {i: image(i) for i in range(50, 150)})
"""


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    bench.add("images")
    bench.add("labels")
    yield bench
    bench.close()


def cells(bench: Bench) -> list[tuple[str, int]]:
    return [
        (name, count) for name, count in bench.staging._query("SELECT name, samples FROM batches ORDER BY sequence")
    ]


def test_batches_come_back_in_order_and_what_is_behind_them_counts(bench, tmp_path):
    bench.put("images", IMAGES)
    bench.put("labels", LABELS)
    bench.put("images", {0: image(1000), 2: None, "text": image(7)})
    bench.put("images", {i: image(i + 1) for i in range(100, 300)})
    assert cells(bench) == [("images", 200), ("labels", 300), ("images", 200)]
    expected = plains({**IMAGES, 0: image(1000), "text": image(7), **{i: image(i + 1) for i in range(100, 300)}})
    del expected[2]
    events = list(bench.staging.events())
    assert bench.staging.size() == (2, 703)
    again = bench.reopen()
    assert list(again.staging.events()) == events
    assert again.contents("images") == expected
    assert again.contents("labels") == plains(LABELS)
    again.commit()
    assert cells(again) == []
    again.close()
    assert committed(tmp_path, "images") == expected
    assert committed(tmp_path, "labels") == plains(LABELS)


def test_a_database_that_is_made_anew_has_the_batches(bench, tmp_path):
    bench.put("images", IMAGES)
    bench.put("labels", LABELS)
    events = list(bench.staging.events())
    bench.close()
    rebuild(tmp_path / "staging")
    area = StagingArea(tmp_path / "staging")
    assert list(area.events()) == events
    area.replace(events[:3])
    assert list(area.events()) == events[:3]
    area.clear_until(3, None)
    assert list(area.events()) == []
    area.close()


def test_what_is_in_batches_is_found_by_its_digest(bench):
    bench.put("images", IMAGES)
    bench.put("labels", LABELS)
    image_row, label = bench.row("images", 4), bench.row("labels", 7)
    digests = {tombstone_digest(key, row.identity) for key, row in ((b"\1" + bytes(7) + b"\4", image_row),)}
    digests.add(tombstone_digest(b"\1" + bytes(7) + b"\7", label.identity))
    found = bench.staging.held(digests)
    assert sorted((name, key) for name, key, _ in found) == [("images", 4), ("labels", 7)]
    assert bench.staging.packs() == {image_row.place.pack}


def test_a_writer_that_is_killed_in_the_midst_of_a_batch_has_none_of_it(tmp_path):
    outcome = run_python(KILLED, str(tmp_path))
    assert outcome.returncode == -signal.SIGKILL, outcome.stderr
    assert outcome.stdout.split() == ["recorded"]
    again = Bench(tmp_path)
    kept = {i: image(i) for i in range(100)}
    assert again.contents("images") == plains(kept)
    again.put("images", IMAGES)
    assert again.contents("images") == plains({**kept, **IMAGES})
    again.close()


@pytest.mark.parametrize("size", [300, 40_000])
def test_a_pack_is_on_disk_before_rows_name_what_is_in_it(bench, monkeypatch, size):
    monkeypatch.setattr(sample_writer, "_APPEND_BYTES", 20_000)
    done: list[tuple[str, int]] = []
    write, flush, stage = os.pwrite, os.fsync, bench.staging.stage_samples

    def staged(*arguments: Any) -> None:
        done.append(("stage", -1))
        stage(*arguments)

    def written(file: int, data: Any, at: int) -> int:
        done.append(("write", file))
        return write(file, data, at)

    def flushed(file: int) -> None:
        flush(file)
        done.append(("flush", file))

    monkeypatch.setattr(os, "pwrite", written)
    monkeypatch.setattr(os, "fsync", flushed)
    bench.staging.stage_samples = staged
    column = bench.working.columns["images"]
    given = array_schema((size,), "|u1", None, False, False, "")
    payloads = [(i, given.encode(image(i, size), "")) for i in range(100)]
    bench.samples.write("images", replace(column.entry, schema=given), payloads)
    pack = bench.samples._pack._file
    steps = [what for what, file in done if file in (pack, -1)]
    assert steps.count("write") > 2
    assert steps[-2:] == ["flush", "stage"]


@pytest.mark.parametrize("kind", ["packed", "labels", "inline with digests"])
def test_a_batch_comes_back_from_its_cell(bench, kind):
    if kind == "inline with digests":
        bench.working.change_column("images", "p0", {})
        rows = bench.samples.write_loose("images", bench.working.columns["images"].entry, incoming(bench, "images"))
    elif kind == "packed":
        rows = bench.samples.write_batch("images", bench.working.columns["images"].entry, incoming(bench, "images"))
    else:
        rows = bench.samples.write_batch("labels", bench.working.columns["labels"].entry, incoming(bench, "labels"))
    cell = encode_batch(rows)
    assert cell is not None
    assert list(decode_batch(cell)) == list(rows)
    assert len(cell) < 90 * len(rows) or kind == "inline with digests"


def incoming(bench: Bench, name: str) -> Any:
    column = bench.working.columns[name]
    for key, value in (IMAGES if name == "images" else LABELS).items():
        column.put(key, column.entry.schema.encode(value, name))
    found = column.incoming()
    column._drop_pending(list(column.pending))
    return found


def test_a_damaged_cell_is_a_staging_error_and_nothing_else(bench, tmp_path):
    bench.put("images", IMAGES)
    cell = bytes(bench.staging._query("SELECT cell FROM batches")[0][0])
    bench.close()
    head = cell.index(b"}") + 1
    damaged: list[Any] = [
        b"",
        b"\xff" * 40,
        cell[:-1],
        cell + b"x",
        cell[:head] + bytes(len(cell) - head),
        cell.replace(b'"rows": 200', b'"rows": -20'),
        cell.replace(b'"identity": 33', b'"identity": 34'),
        cell.replace(b'"packs": [', b'"packs": 12'),
        b"\4\0\0\0[[]]",
        None,
    ]
    for one in damaged:
        database = duckdb.connect(str(tmp_path / "staging" / "staging.duckdb"))
        database.execute("UPDATE batches SET cell = ?", [one])
        database.close()
        area = StagingArea(tmp_path / "staging")
        with pytest.raises(StagingError, match="cannot be read"):
            list(area.events())
        area.close()
