"""Importing folders of files: what is read, what is refused and why, and going on after it was cut off."""

from __future__ import annotations

import os
import signal
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hangar_cloud import Repository, external
from hangar_cloud.errors import InvalidArgumentError, InvalidSchemaError, PluginError, ReadOnlyError
from hangar_cloud.external import image_plugin
from tests.external.conftest import picture
from tests.repository.making import make_repository, read_all, same, start_process, wait_for_line


def test_a_tree_becomes_a_column_with_its_paths_as_keys(writer, photos):
    report = external.import_files(writer, "images", photos, labels="labels")
    assert (report.added, report.skipped, report.refused) == (24, 0, [])
    assert report.made == ("labels", "images")
    column = writer["images"]
    assert (column.dtype, column.shape, column.schema_type) == (np.uint8, (6, 5, 3), "fixed_shape")
    assert sorted(column) == sorted(f"{('cat', 'dog', 'owl')[n % 3]}/{n:03d}" for n in range(12))
    assert all(same(column[f"cat/{n:03d}"], picture(n)) for n in range(0, 12, 3))
    assert set(writer["labels"].values()) == {"cat", "dog", "owl"}
    assert writer["labels", "owl/002"] == "owl"


def test_one_file_is_imported_by_its_name(writer, photos):
    external.import_files(writer, "images", photos / "cat" / "003.png")
    assert list(writer["images"]) == ["003"]


def test_pictures_of_several_sizes_make_a_variable_shape_up_to_the_largest(writer, tmp_path):
    for number, shape in enumerate([(4, 9, 3), (7, 2, 3), (5, 5, 3)]):
        Image.fromarray(picture(number, shape)).save(tmp_path / f"{number}.png")
    external.import_files(writer, "images", tmp_path)
    column = writer["images"]
    assert (column.schema_type, column.shape) == ("variable_shape", (7, 9, 3))
    assert same(column["1"], picture(1, (7, 2, 3)))


def test_what_cannot_be_imported_is_told_file_by_file_and_the_rest_goes_on(writer, photos):
    (photos / "cat" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    (photos / "cat" / "notes.xyz").write_text("hello")
    (photos / "cat" / "with space.png").write_bytes((photos / "cat" / "000.png").read_bytes())
    (photos / "cat" / "noending").write_text("x")
    Image.fromarray(picture(1, (6, 5))).save(photos / "cat" / "grey.png")
    Image.fromarray(picture(1)).save(photos / "cat" / "003.bmp")
    Image.fromarray(picture(1)).save(photos / "top.png")
    (photos / ".DS_Store").write_bytes(b"junk")
    (photos / "cat" / "loop").symlink_to(photos)
    report = external.import_files(writer, "images", photos, labels="labels")
    told = {os.path.relpath(one.source, photos): one.reason for one in report.refused}
    assert set(told) == {
        *("cat/broken.png", "cat/notes.xyz", "cat/with space.png", "cat/grey.png", "cat/003.png", "top.png"),
        "cat/noending",
    }
    assert "damaged or not supported" in told["cat/broken.png"] or "no picture" in told["cat/broken.png"]
    assert "no plugin that can load .xyz files" in told["cat/notes.xyz"]
    assert "is not suitable" in told["cat/with space.png"]
    assert "2 dimension(s)" in told["cat/grey.png"]
    assert "'cat/003' is that of cat/003.bmp too" in told["cat/003.png"]
    assert "no folder that could be its labels" in told["top.png"]
    assert len(writer["images"]) == 12
    assert "7 refused" in str(report)


def test_pipes_and_dead_links_hold_nobody_up(writer, photos):
    os.mkfifo(photos / "cat" / "pipe.png")
    (photos / "cat" / "dead.png").symlink_to(photos / "gone.png")
    report = external.import_files(writer, "images", photos)
    assert [os.path.basename(one.source) for one in report.refused] == ["dead.png", "pipe.png"]
    assert all("no file, or a link" in one.reason for one in report.refused)
    assert report.added == 12


def test_no_label_is_there_without_its_image(writer, photos):
    Image.fromarray(picture(1, (6, 5))).save(photos / "cat" / "grey.png")
    external.import_files(writer, "images", photos, labels="labels")
    assert list(writer["labels"]) == list(writer["images"])


def test_endings_can_be_kept_and_names_cleaned(writer, photos):
    (photos / "cat" / "with \u00fc space.png").write_bytes((photos / "cat" / "000.png").read_bytes())
    Image.fromarray(picture(1)).save(photos / "cat" / "003.bmp")
    report = external.import_files(writer, "images", photos, keep_extensions=True, clean_names=True)
    assert report.refused == []
    assert {"cat/003.png", "cat/003.bmp", "cat/with_space.png"} <= set(writer["images"])


def test_pictures_of_several_kinds_are_made_one(writer, photos):
    Image.fromarray(picture(1, (6, 5))).save(photos / "cat" / "grey.png")
    assert external.import_files(writer, "images", photos, mode="L").refused == []
    assert writer["images"].shape == (6, 5)


def test_a_second_run_reads_and_writes_only_what_is_missing(writer, photos, monkeypatch):
    external.import_files(writer, "images", photos, labels="labels")
    del writer["images"]["cat/003"]
    del writer["labels"]["dog/001"]
    Image.fromarray(picture(99)).save(photos / "owl" / "new.png")
    Image.fromarray(picture(99)).save(photos / "owl" / "002.png")
    read: list[str] = []
    real = image_plugin.read_image

    def noting(source, where, *more):
        read.append(os.path.basename(where))
        return real(source, where, *more)

    monkeypatch.setattr(image_plugin, "read_image", noting)
    report = external.import_files(writer, "images", photos, labels="labels")
    assert sorted(read) == ["001.png", "003.png", "new.png"]
    assert (report.added, report.skipped) == (4, 22)
    assert same(writer["images", "owl/002"], picture(2))
    assert external.import_files(writer, "images", photos, overwrite=True).added == 13
    assert same(writer["images", "owl/002"], picture(99))


IMPORT = """
    import sys
    from hangar_cloud import Repository, external
    from hangar_cloud.external import staging_writer

    real = staging_writer.StagingWriter.flush
    def flush(self):
        real(self)
        if self.report.added >= 40:
            print("some", flush=True)
            sys.stdin.read()
    staging_writer.StagingWriter.flush = flush
    staging_writer._MOST_SAMPLES = 20
    co = Repository(sys.argv[1]).checkout(write=True)
    external.import_files(co, "images", sys.argv[2], labels="labels", workers=2)
"""


def test_a_killed_import_keeps_what_it_staged_and_the_next_one_goes_on(repo, tmp_path):
    folder = tmp_path / "many"
    for number in range(60):
        (folder / "abc"[number % 3]).mkdir(parents=True, exist_ok=True)
        np.save(folder / "abc"[number % 3] / f"{number}.npy", picture(number))
    process = start_process(IMPORT, str(repo.path), str(folder))
    assert wait_for_line(process) == "some"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    writer = Repository(repo.path).checkout(write=True)
    assert 15 <= len(writer["images"]) < 60
    report = external.import_files(writer, "images", folder, labels="labels")
    assert report.skipped >= 40
    assert report.added + report.skipped == 120
    assert report.refused == []
    writer.commit("all of them")
    writer.close()
    found = read_all(repo)
    assert len(found["images"]) == len(found["labels"]) == 60
    assert all(same(found["images"][f"{'abc'[n % 3]}/{n}"], picture(n)) for n in range(60))


def test_many_files_take_little_memory(writer, tmp_path):
    """However many are decoded, few of them wait."""
    for number in range(40):
        np.save(tmp_path / f"{number:02d}.npy", np.full((512, 1024), number, np.uint8))
    tracemalloc.start()
    report = external.import_files(writer, "images", tmp_path, workers=2)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.added == 40
    # 20 MiB of samples, 8 MiB of which may wait, and their encoded form.
    assert most < 40 * 2**20


def test_archives_and_tables_give_a_sample_for_each_of_theirs(writer, tmp_path):
    np.savez(tmp_path / "two.npz", a=np.arange(3), b=np.arange(3) + 5)
    np.save(tmp_path / "two.npy", np.arange(3) + 9)
    report = external.import_files(writer, "numbers", tmp_path)
    assert report.refused == []
    assert list(writer["numbers"]) == ["two", "two/a", "two/b"]
    assert external.import_files(writer, "numbers", tmp_path).skipped == 3
    (tmp_path / "two.npz").unlink()
    (tmp_path / "t.csv").write_text("1,2,3\n4,5,6\n")
    assert external.import_files(writer, "numbers", tmp_path / "t.csv").added == 2
    assert writer["numbers", "t/1"].tolist() == [4, 5, 6]


def test_text_and_sound_make_their_columns(writer, tmp_path):
    (tmp_path / "a.txt").write_bytes("one\r\ntwo \u00fc".encode())
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe")
    report = external.import_files(writer, "texts", tmp_path)
    assert writer["texts", "a"] == "one\r\ntwo \u00fc"
    assert [one.source for one in report.refused] == [str(tmp_path / "b.txt")]
    assert report.refused[0].reason.startswith("this is no text in utf-8")
    assert external.import_files(writer, "texts", tmp_path, encoding="latin-1").added == 1
    for length in (30, 50):
        external.save(np.arange(length, dtype=np.int16), tmp_path, f"int:{length}", "wav", samplerate=8000)
        (tmp_path / "a.txt").unlink(missing_ok=True)
        (tmp_path / "b.txt").unlink(missing_ok=True)
    external.import_files(writer, "sounds", tmp_path)
    assert (writer["sounds"].dtype, writer["sounds"].shape) == (np.int16, (50,))
    assert writer["sounds", "30"].tolist() == list(range(30))


def test_empty_arrays_are_refused_one_by_one(writer, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((0, 3)))
    np.save(tmp_path / "b.npy", np.zeros((2, 3)))
    np.save(tmp_path / "c.npy", np.zeros((1, 3)))
    report = external.import_files(writer, "numbers", tmp_path)
    assert list(writer["numbers"]) == ["b", "c"]
    assert "empty arrays are not stored" in report.refused[0].reason


def test_what_no_column_holds_is_refused_file_by_file(writer, tmp_path):
    for name, dtype in (("a", [("x", "i4")]), ("b", "M8[s]"), ("c", "U3"), ("d", np.longdouble), ("e", "f4")):
        np.save(tmp_path / f"{name}.npy", np.zeros(2, dtype))
    report = external.import_files(writer, "numbers", tmp_path, workers=1)
    assert list(writer["numbers"]) == ["e"]
    assert sorted(Path(one.source).name for one in report.refused) == ["a.npy", "b.npy", "c.npy", "d.npy"]


def test_nothing_that_can_be_read_makes_no_column(writer, tmp_path):
    (tmp_path / "a.xyz").write_text("x")
    report = external.import_files(writer, "images", tmp_path, labels="labels")
    assert len(report.refused) == 1
    assert list(writer.columns) == []


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "said"),
    [
        (["images", "gone"], {}, FileNotFoundError, "there is no file or folder"),
        (["images", "empty"], {}, ValueError, "there are no files in"),
        (["images", "s3://b/x"], {}, ValueError, "is a URL"),
        (["no good", "photos"], {}, ValueError, "'no good' is not suitable"),
        (["images", "photos"], {"labels": "no good"}, ValueError, "'no good' is not suitable"),
        (["images", "photos"], {"labels": "images"}, ValueError, "a column of their own"),
        (["images", "photos"], {"labels": "numbers"}, InvalidSchemaError, "column 'numbers' is there and holds"),
        (["scans", "photos"], {}, InvalidArgumentError, "column 'scans' is nested"),
        (["numbers", "photos"], {"labels": "numbers"}, InvalidArgumentError, "own"),
        (["images", "photos"], {"workers": 0}, InvalidArgumentError, "workers is the number of threads"),
        (["images", "photos"], {"plugin": "no"}, PluginError, "there is no plugin 'no'"),
        (["images", "photos"], {"modus": "RGB"}, InvalidArgumentError, "no option modus"),
        (["images", "photos"], {"mode": "PINK"}, InvalidArgumentError, "no mode 'PINK'"),
    ],
)
def test_what_is_asked_wrongly_is_refused_before_anything_is_written(
    writer, photos, tmp_path, monkeypatch, arguments, settings, error, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    writer.add_ndarray_column("numbers", shape=(3,), dtype=np.int64)
    writer.add_ndarray_column("scans", shape=(6, 5, 3), dtype=np.uint8, contains_subsamples=True)
    with pytest.raises(error, match=said):
        external.import_files(writer, *arguments, **settings)
    assert list(writer.columns) == ["numbers", "scans"]


def test_a_reader_is_not_written_to(repo, photos):
    make = repo.checkout(write=True)
    make.add_str_column("a")["x"] = "y"
    make.commit("one")
    make.close()
    with pytest.raises(ReadOnlyError, match=r"checkout\(write=True\)"):
        external.import_files(repo.checkout(), "images", photos)


def test_files_can_be_kept_as_they_are(writer, photos, tmp_path):
    external.import_files(writer, "files", photos, plugin="bytes")
    assert writer["files", "cat/003"] == (photos / "cat" / "003.png").read_bytes()
    external.export_files(writer, "files", tmp_path / "out", extension="png")
    assert same(external.load(tmp_path / "out" / "cat" / "003.png")[0], picture(3))


def test_subsamples_go_to_a_folder_for_each_sample(writer, tmp_path):
    scans = writer.add_ndarray_column("scans", shape=(6, 5, 3), dtype=np.uint8, contains_subsamples=True)
    scans["p/7"] = {0: picture(0), "late": picture(1)}
    scans[3] = {0: picture(2)}
    external.export_files(writer, "scans", tmp_path / "out", extension="png")
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")}
    assert found == {"p/7/0.png", "p/7/late.png", "3/0.png"}
    external.export_files(writer, "scans", tmp_path / "some", samples=[("p/7", "late"), 3])
    assert same(external.load(tmp_path / "some" / "p" / "7" / "late.npy")[0], picture(1))
    assert len(list((tmp_path / "some").rglob("*.npy"))) == 2


def test_what_was_purged_is_not_imported_again(repo, photos):
    writer = repo.checkout(write=True)
    external.import_files(writer, "images", photos)
    writer.commit("photos")
    writer.close()
    repo.purge(column="images", key="cat/003", reason="asked for")
    writer = repo.checkout(write=True)
    report = external.import_files(writer, "images", photos, overwrite=True)
    assert [os.path.basename(one.source) for one in report.refused] == ["003.png"]
    assert "purged" in report.refused[0].reason
    writer.close()


def test_straight_to_a_bucket(photos, tmp_path, s3_url, s3_options):
    bucket = make_repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "one")
    writer = bucket.checkout(write=True)
    external.import_files(writer, "images", photos, labels="labels")
    writer.commit("photos")
    writer.close()
    other = Repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "two").checkout()
    assert same(other["images", "owl/002"], picture(2))
    assert external.export_files(other, "images", tmp_path / "out", extension="png").files == 12
    assert same(external.load(tmp_path / "out" / "owl" / "002.png")[0], picture(2))
