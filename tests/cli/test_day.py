"""A day's work with real digits, from the command line alone: what was typed, and what was said."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from hangar_cloud import Repository
from hangar_cloud.cli import main
from tests.cli.running import invoke
from tests.cli.test_story import without_digests

COUNT = 50


@pytest.fixture
def digits(tmp_path) -> Path:
    """A folder of images as people have them: one file each, in folders named after what they show."""
    found = load_digits()
    folder = tmp_path / "digits"
    for number in range(COUNT):
        file = folder / str(found.target[number]) / f"{number:03}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, found.images[number].astype(np.uint8))
    return folder


def import_folder(repository: Path, folder: Path) -> None:
    """Images under their file's name below the folder, and labels from the folders' names.

    This is the place of `hangar import` in the transcript.
    """
    with closing(Repository(repository).checkout(write=True)) as writer, writer:
        for file in sorted(folder.rglob("*.npy")):
            writer["images", file.stem] = np.load(file)
            writer["labels", file.stem] = file.parent.name


def export_folder(repository: Path, folder: Path) -> None:
    """The same files again. This is the place of `hangar export` in the transcript."""
    with closing(Repository(repository, offline=True).checkout()) as reader:
        for key, image in reader["images"].items():
            file = folder / reader["labels", key] / f"{key}.npy"
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, image)


def relabel(repository: Path, **labels: str) -> None:
    with closing(Repository(repository).checkout(write=True)) as writer:
        writer["labels"].update({key.removeprefix("k"): label for key, label in labels.items()})


def test_a_day(tmp_path, digits, monkeypatch):
    ada, ben = tmp_path / "ada", tmp_path / "ben"
    ada.mkdir()
    ben.mkdir()
    transcript = []

    def hangar(*arguments: str, at: Path = ada, code: int = 0) -> None:
        monkeypatch.chdir(at)
        said = invoke(main, *arguments, code=code).output.replace(str(tmp_path), "~")
        typed = " ".join(f"'{word}'" if " " in word else word for word in arguments)
        transcript.append(f"{at.name}$ hangar {typed}\n{without_digests(said)}")

    hangar("init", "--name", "Ada", "--email", "ada@example.org")
    hangar("column", "create", "images", "UINT8", "8", "8")
    hangar("column", "create", "labels", "STR")
    import_folder(ada, digits)
    hangar("status")
    hangar("commit", "-m", "fifty digits")
    hangar("branch", "create", "second-look")
    hangar("checkout", "second-look")
    relabel(ada, k003="9", k007="1", k008="three")
    hangar("commit", "-m", "what Ada saw")
    hangar("checkout", "master")
    relabel(ada, k008="8?", k009="nine")
    hangar("commit", "-m", "what was said in the meeting")
    hangar("diff", "second-look")
    hangar("merge", "second-look", code=1)
    hangar("merge", "second-look", "-m", "both", "--theirs", "labels:'008'")
    hangar("log")
    hangar("tag", "create", "v1", "-m", "as trained on")
    hangar("remote", "add", "origin", "../bucket")
    hangar("push", "origin", "master")
    hangar("tag", "push", "origin", "v1")
    hangar("clone", "--name", "Ben", "--email", "ben@example.org", "../bucket", at=ben)
    hangar("prefetch", at=ben)
    hangar("column", "list", "v1", at=ben)
    export_folder(ben, tmp_path / "exported")
    hangar("verify", at=ben)
    hangar("status", at=ben)
    assert "".join(transcript) == TRANSCRIPT
    changed = {"003": "9", "007": "1", "008": "three", "009": "nine"}
    for file in digits.rglob("*.npy"):
        copy = tmp_path / "exported" / changed.get(file.stem, file.parent.name) / file.name
        assert copy.read_bytes() == file.read_bytes()


TRANSCRIPT = """\
ada$ hangar init --name Ada --email ada@example.org
Hangar Repo initialized at: ~/ada/.hangar
ada$ hangar column create images UINT8 8 8
Column images is staged on branch master; `hangar commit` records it.
ada$ hangar column create labels STR
Column labels is staged on branch master; `hangar commit` records it.
ada$ hangar status
On branch master, without a commit yet
Staging area: DIRTY
  new column       images (uint8, 8 x 8): 50 added
  new column       labels (str): 50 added

Next: `hangar commit -m "what changed"` records it; `hangar diff` shows it, `hangar reset` gives it up.
ada$ hangar commit -m 'fifty digits'
Committed to branch master: DIGEST
ada$ hangar branch create second-look
Branch second-look is at DIGEST. `hangar checkout second-look` writes to it from now on.
ada$ hangar checkout second-look
On branch second-look.
ada$ hangar commit -m 'what Ada saw'
Committed to branch second-look: DIGEST
ada$ hangar checkout master
On branch master.
ada$ hangar commit -m 'what was said in the meeting'
Committed to branch master: DIGEST
ada$ hangar diff second-look
From master (DIGEST) to second-look (DIGEST):
  changed column   labels: 4 changed
      ~ '003', '007', '008', '009'

A merge would meet 1 conflict:
  t3   column labels, sample '008' (changed on both sides)
`hangar merge second-look` with --strategy ours or theirs settles all of them, with --ours COLUMN:KEY one
ada$ hangar merge second-look
Error: 'second-look' cannot be merged into 'master'; nothing was changed. In conflict: \
sample '008' of column 'labels' (changed on both sides). Change one side so that they agree, or merge with \
--strategy ours or theirs, or settle single samples with --ours and --theirs COLUMN:KEY
ada$ hangar merge second-look -m both --theirs labels:'008'
Selected 3-Way Merge Strategy
Branch master is at DIGEST.
ada$ hangar log
* DIGEST (master) : both
|\\
* | DIGEST : what was said in the meeting
| * DIGEST (second-look) : what Ada saw
|/
* DIGEST : fifty digits
ada$ hangar tag create v1 -m 'as trained on'
Tag v1 is at DIGEST.
ada$ hangar remote add origin ../bucket
Remote origin is ~/bucket. `hangar push origin BRANCH` uploads a branch to it.
ada$ hangar push origin master
Pushed master to origin.
ada$ hangar tag push origin v1
Pushed tag v1 to origin.
ben$ hangar clone --name Ben --email ben@example.org ../bucket
Hangar Repo initialized at: ~/ben/.hangar
On branch master. Samples come when they are read; `hangar fetch-data origin master` brings all.
ben$ hangar prefetch
Of commit DIGEST, all samples are here.
ben$ hangar column list v1
images  uint8, 8 x 8: 50 samples
labels  str: 50 samples
ben$ hangar verify
note: the records of 150 samples (over all commits) are not on this machine and were not checked; \
a remote has them, and fetch=True (`hangar verify --fetch`) checks them there
Nothing that was checked is damaged.
ben$ hangar status
On branch master, at commit DIGEST
It is where origin/master was when last seen.
Staging area: CLEAN

Next: nothing is staged. `hangar log` shows what was committed, `hangar summary` what it holds.
"""
