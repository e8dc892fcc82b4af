"""`hangar import` and `hangar export`, as a person uses them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess

import numpy as np
import pytest
from PIL import Image

from hangar_cloud import Repository
from hangar_cloud.cli import cli, main
from hangar_cloud.external.terminal_picture import draw
from tests.cli.running import HANGAR, clean_environment, invoke
from tests.terminal import all_seen, new_terminal


@pytest.fixture
def photos(place):
    """Six pictures of two classes below `photos`."""
    for number in range(6):
        folder = place / "photos" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(number)).save(folder / f"{number}.png")
    return place / "photos"


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (4, 5, 3), np.uint8)


def test_files_become_a_column_and_files_again(repo, photos, place):
    result = invoke(cli.import_data, "images", "photos", "--labels", "labels", obj=repo)
    assert result.stdout == (
        "Made columns labels, images.\nImported 12 samples to branch master; `hangar commit` records them.\n"
    )
    assert result.stderr == ""
    invoke(cli.commit, "-m", "photos", obj=repo)
    again = invoke(cli.import_data, "images", "photos", "--labels", "labels", obj=repo)
    assert (
        again.stdout
        == "Imported 0 samples to branch master, 12 there already; --overwrite takes the files as they are now.\n"
    )
    assert invoke(cli.export_data, "images", "-o", "out", "-f", "png", obj=repo).stdout == (
        "Exported 6 samples to out.\n"
    )
    assert np.array_equal(np.asarray(Image.open(place / "out" / "dog" / "3.png")), pixels(3))
    said = invoke(cli.export_data, "images", "-o", "out", "-f", "png", obj=repo, code=1).stderr
    assert "already; give" in said
    assert "--overwrite" in said
    assert "overwrite=True" not in said
    invoke(cli.export_data, "images", "-o", "out", "-f", "png", "--overwrite", obj=repo)


def test_refused_files_are_named_and_strict_exits_with_1(repo, photos):
    (photos / "cat" / "broken.png").write_bytes(b"no")
    result = invoke(cli.import_data, "images", "photos", obj=repo)
    assert result.stderr == f"Refused: photos{os.sep}cat{os.sep}broken.png: this is no picture that Pillow knows\n"
    assert "Imported 6 samples to branch master, 1 refused" in result.stdout
    invoke(cli.import_data, "--strict", "images", "photos", obj=repo, code=1)
    for path in photos.rglob("[0-9].png"):
        path.write_bytes(b"no")
    (photos / "cat" / "other.png").write_bytes(b"no")
    co = repo.checkout(write=True)
    co.reset_staging_area()
    assert "0 samples" in invoke(cli.import_data, "images", "photos", obj=repo, code=1).stdout


def test_what_was_done_as_json(repo, photos):
    (photos / "cat" / "broken.png").write_bytes(b"no")
    told = json.loads(invoke(cli.import_data, "images", "photos", "--json", obj=repo).stdout)
    assert told["refused"][0]["source"].endswith("broken.png")
    del told["refused"]
    assert told == {"branch": "master", "added": 6, "skipped": 0, "columns": ["images"], "made": ["images"]}


def test_import_to_another_branch_and_over_what_is_there(filled, place):
    invoke(cli.branch_create, "dev", obj=filled)
    np.save(place / "3.npy", np.zeros((28, 28), np.uint8))
    invoke(cli.import_data, "images", "3.npy", "--branch", "dev", obj=filled)
    invoke(cli.commit, "-m", "one more", obj=filled)
    dev = filled.checkout(branch="dev")
    assert "3" in dev["images"]
    np.save(place / "3.npy", np.ones((28, 28), np.uint8))
    invoke(cli.import_data, "images", "3.npy", "--overwrite", obj=filled)
    co = filled.checkout(write=True, branch="dev")
    assert co["images", "3"].sum() == 784
    co.close()


def test_options_of_the_plugin_are_passed_on(repo, photos, place):
    invoke(cli.import_data, "grey", "photos", "--mode", "L", obj=repo)
    co = repo.checkout(write=True)
    assert co["grey"].shape == (4, 5)
    co.commit("grey")
    co.close()
    invoke(cli.export_data, "grey", "-o", "out", "-f", "jpg", "--quality=5", obj=repo)
    assert len(list((place / "out").rglob("*.jpg"))) == 6
    said = invoke(cli.import_data, "images", "photos", "--overwite", obj=repo, code=1).stderr
    assert "no option overwite; it takes mode, frame" in said


def test_samples_are_chosen_by_key_and_type(filled, place):
    co = filled.checkout(write=True)
    co["labels", "3"] = "text three"
    co.commit("a text key")
    co.close()
    invoke(cli.export_data, "labels", "-s", "int:3", "-o", "number", obj=filled)
    invoke(cli.export_data, "labels", "-s", "3", "-o", "text", obj=filled)
    assert (place / "number" / "3.txt").read_text() == "label 3"
    assert (place / "text" / "3.txt").read_text() == "text three"
    said = invoke(cli.export_data, "labels", "-o", "both", obj=filled, code=1).stderr
    assert "samples 3 and '3' would both be the file" in said
    assert not (place / "both").exists()
    assert "no sample 'x'" in invoke(cli.export_data, "labels", "-s", "x", obj=filled, code=1).stderr


def test_a_startpoint_says_which_commit(filled, place):
    first = filled.log(return_contents=True)["head"]
    co = filled.checkout(write=True)
    co["labels", 3] = "changed"
    co.commit("changed")
    co.close()
    invoke(cli.export_data, "labels", first[:8], "-o", "old", obj=filled)
    invoke(cli.export_data, "labels", "-o", "new", obj=filled)
    assert (place / "old" / "3.txt").read_text() == "label 3"
    assert (place / "new" / "3.txt").read_text() == "changed"


@pytest.mark.parametrize(
    ("kind", "out"), [("parquet", "out.parquet"), ("zarr", "out.zarr"), ("webdataset", "tars"), ("imagefolder", "out")]
)
def test_a_dataset_goes_out_and_comes_in(filled, place, kind, out, tmp_path):
    said = invoke(cli.export_data, "--dataset", kind, "-o", out, "master", obj=filled).stdout
    assert said == f"Exported {10 if kind == 'imagefolder' else 20} samples to {out}.\n"
    other = Repository(tmp_path / "other", exists=False)
    with contextlib.redirect_stdout(io.StringIO()):
        other.init("Ada", "ada@example.org")
    assert "20 samples" in invoke(cli.import_data, "--dataset", "auto", out, obj=other).stdout
    co = other.checkout(write=True)
    names = ["image", "label"] if kind == "imagefolder" else ["images", "labels"]
    key = "label 3/3" if kind == "imagefolder" else 3
    assert list(co.columns) == names or kind == "imagefolder"
    if kind != "imagefolder":
        assert co[names[1], key] == "label 3"
        assert co[names[0], key].sum() == 3 * 784
    co.close()


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        (cli.import_data, [], "give COLUMN and PATH; or a whole dataset"),
        (cli.import_data, ["images"], "give COLUMN and PATH"),
        (cli.import_data, ["--dataset", "zarr", "a", "b"], "give one PATH with --dataset"),
        (cli.import_data, ["--dataset", "hdf5", "a"], "'hdf5' is not one of 'auto', 'parquet'"),
        (cli.import_data, ["--dataset", "zarr", "a", "--labels", "x"], "--labels is for files"),
        (cli.import_data, ["images", "a", "--key", "x"], "--key is for whole datasets"),
        (cli.import_data, ["--dataset", "zarr", "a", "--mode", "L"], "--mode"),
        (cli.import_data, ["images", "a", "-x"], "-x"),
        (cli.export_data, [], "give COLUMN and perhaps STARTPOINT"),
        (cli.export_data, ["--dataset", "zarr"], "--dataset FORMAT -o PATH"),
        (cli.export_data, ["images", "--image", "x"], "--image is for whole datasets"),
        (cli.export_data, ["--dataset", "zarr", "-o", "x", "-s", "3"], "--sample is for files"),
        (cli.view_data, ["images"], "give COLUMN, SAMPLE and perhaps STARTPOINT"),
    ],
)
def test_wrong_usage_is_told(filled, place, command, arguments, said):
    before = sorted(path.name for path in place.iterdir())
    assert said in invoke(command, *arguments, obj=filled, code=2).stderr
    assert sorted(path.name for path in place.iterdir()) == before


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        (cli.import_data, ["images", "gone"], "there is no file or folder gone"),
        (cli.import_data, ["no good", "x.txt"], "'no good' is not suitable"),
        (cli.import_data, ["images", "x.txt"], "takes numpy.ndarray, not str"),
        (cli.import_data, ["new", "x.txt", "--branch", "nope"], "there is no branch 'nope'"),
        (cli.import_data, ["new", "x.txt", "--plugin", "nope"], "there is no plugin 'nope'"),
        (cli.import_data, ["--dataset", "auto", "x.txt"], "is not seen to be a dataset"),
        (cli.export_data, ["nope"], "there is no column 'nope'; there is: images, labels"),
        (cli.export_data, ["images", "nope"], "there is no branch 'nope'"),
        (cli.export_data, ["images", "-f", "xyz"], "no plugin that can save .xyz files"),
        (cli.export_data, ["labels", "-f", "npy"], "is str, no array"),
        (cli.view_data, ["images", "int:30"], "no sample 30"),
    ],
)
def test_mistakes_are_told_in_a_line(filled, place, command, arguments, said):
    (place / "x.txt").write_text("hello")
    before = sorted(path.name for path in place.iterdir())
    result = invoke(command, *arguments, obj=filled, code=1)
    assert said in result.stderr
    assert sorted(path.name for path in place.iterdir()) == before
    assert "nothing" in invoke(cli.commit, "-m", "x", obj=filled, code=1).stderr


def test_several_paths_are_one_too_many(filled):
    said = invoke(cli.import_data, "images", "a.png", "b.png", obj=filled, code=2).stderr
    assert "give COLUMN and one PATH, a file or a folder of files" in said


def test_a_quality_without_its_number_is_refused(filled, place):
    said = invoke(cli.export_data, "images", "-f", "jpg", "--quality", obj=filled, code=1).stderr
    assert "quality is a whole number from 1 to 100, not True" in said
    assert list(place.glob("*.jpg")) == []


def test_a_bucket_takes_an_import(photos, bucket, place, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    invoke(main, "-C", bucket, "init", "--name", "Ada", "--email", "a@b.c")
    invoke(main, "-C", bucket, "import", "images", "photos", "--labels", "labels")
    invoke(main, "-C", bucket, "commit", "-m", "photos")
    made = invoke(main, "-C", bucket, "branch", "create", "dev").stdout
    assert "`hangar -C URL --branch dev …` writes to it." in made
    invoke(main, "-C", bucket, "export", "labels", "-o", "out")
    assert (place / "out" / "dog" / "3.txt").read_text() == "dog"


def test_view_prints_plainly_where_it_is_piped(filled):
    picture = invoke(main, "view", "images", "int:3", obj=filled).stdout
    assert picture.startswith("uint8 array of shape (28, 28), from 3 to 3, mean 3\n")
    assert "\x1b" not in picture
    assert invoke(cli.view_data, "labels", "int:3", "master", obj=filled).stdout == "label 3\n"


def test_view_of_a_nested_sample(repo):
    co = repo.checkout(write=True)
    co.add_bytes_column("scans", contains_subsamples=True)["p"] = {0: b"ab", "late": b"c" * 100}
    co.commit("scans")
    co.close()
    whole = invoke(cli.view_data, "scans", "p", obj=repo).stdout
    assert whole.startswith("int:0:\n2 bytes: 61 62\nstr:late:\n100 bytes: 63 63")
    assert invoke(cli.view_data, "scans", "p", "--subsample", "int:0", obj=repo).stdout == "2 bytes: 61 62\n"
    assert "--subsample" not in invoke(cli.view_data, "scans", "nope", obj=repo, code=1).stderr


def in_a_terminal(place, *arguments: str, **environment: str) -> str:
    """What a command prints to a terminal of 80 characters by 24 lines."""
    ours, theirs = new_terminal(24, 80)
    process = subprocess.Popen(
        [*HANGAR, *arguments],
        cwd=place,
        env=clean_environment(place) | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"} | environment,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = all_seen(ours)
    assert process.wait(60) == 0
    return seen.decode("utf-8").replace("\r\n", "\n")


def test_view_draws_in_a_terminal(repo, place):
    co = repo.checkout(write=True)
    red_over_blue = np.zeros((2, 3, 3), np.uint8)
    red_over_blue[0, :, 0] = 255
    red_over_blue[1, :, 2] = 255
    co.add_ndarray_column("images", prototype=red_over_blue)["a"] = red_over_blue
    co.add_str_column("texts")["a"] = "\x1b]0;owned\x07plain"
    co.commit("pictures")
    co.close()
    drawn = in_a_terminal(place, "view", "images", "a", COLORTERM="truecolor")
    assert "\x1b[38;2;255;0;0;48;2;255;0;0m\u2580" in drawn
    assert "\x1b[38;2;0;0;255;48;2;0;0;255m\u2580" in drawn
    assert drawn.count("\u2580") == 12 * 4
    assert in_a_terminal(place, "view", "texts", "a") == "\ufffd]0;owned\ufffdplain\n"


def test_a_picture_fits_the_terminal_and_its_colours():
    red = np.zeros((5, 3, 3), np.uint8)
    red[:, :, 0] = 255
    assert draw(red, 80, 24, all_colours=False).startswith("\x1b[38;5;196;48;5;196m\u2580")
    shades = np.linspace(0, 1, 16_000, dtype=np.float32).reshape(40, 400)
    for pixels_drawn, columns, lines in (
        (shades, 80, 22),
        (shades.T, 80, 22),
        (shades > 0.5, 10, 3),
        (red[:1, :1], 1, 1),
    ):
        rows = draw(pixels_drawn, columns, lines, all_colours=True).split("\n")
        assert 1 <= len(rows) <= lines
        assert {row.count("\u2580") for row in rows} == {rows[0].count("\u2580")}
        assert rows[0].count("\u2580") <= columns
        assert all(row.endswith("\x1b[0m") for row in rows)


def test_view_opens_a_window_where_asked(filled):
    said = invoke(cli.view_data, "labels", "int:3", "--window", "--plugin", "numpy", "--nope", "1", obj=filled, code=1)
    assert "no option nope" in said.stderr
