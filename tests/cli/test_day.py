"""A day's work with real digits, from the command line alone: what was typed, and what was said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

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


def written(folder: Path, labels: dict[str, str]) -> None:
    """Files with one label each, as somebody types them."""
    for key, label in labels.items():
        file = folder / f"{key}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(label)


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
    hangar("import", "images", "../digits", "--labels", "labels")
    hangar("status")
    hangar("commit", "-m", "fifty digits")
    hangar("branch", "create", "second-look")
    hangar("checkout", "second-look")
    written(tmp_path / "seen", {"3/003": "9", "7/007": "1", "8/008": "three"})
    hangar("import", "labels", "../seen", "--overwrite")
    hangar("commit", "-m", "what Ada saw")
    hangar("checkout", "master")
    written(tmp_path / "said", {"8/008": "8?", "9/009": "nine"})
    hangar("import", "labels", "../said", "--overwrite")
    hangar("commit", "-m", "what was said in the meeting")
    hangar("diff", "second-look")
    hangar("merge", "second-look", code=1)
    hangar("merge", "second-look", "-m", "both", "--theirs", "labels:8/008")
    hangar("log")
    hangar("tag", "create", "v1", "-m", "as trained on")
    hangar("remote", "add", "origin", "../bucket")
    hangar("push", "origin", "master")
    hangar("tag", "push", "origin", "v1")
    hangar("clone", "--name", "Ben", "--email", "ben@example.org", "../bucket", at=ben)
    hangar("prefetch", at=ben)
    hangar("column", "list", "v1", at=ben)
    hangar("view", "images", "3/003", at=ben)
    hangar("export", "images", "-o", "../exported", at=ben)
    hangar("export", "labels", "-o", "../exported", "v1", at=ben)
    hangar("verify", at=ben)
    hangar("status", at=ben)
    assert "".join(transcript) == TRANSCRIPT
    changed = {"003": "9", "007": "1", "008": "three", "009": "nine"}
    for file in digits.rglob("*.npy"):
        copy = tmp_path / "exported" / file.relative_to(digits)
        assert copy.read_bytes() == file.read_bytes()
        assert copy.with_suffix(".txt").read_text() == changed.get(file.stem, file.parent.name)


TRANSCRIPT = """\
ada$ hangar init --name Ada --email ada@example.org
Hangar Repo initialized at: ~/ada/.hangar
ada$ hangar import images ../digits --labels labels
Made columns labels, images.
Imported 100 samples to branch master; `hangar commit` records them.
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
ada$ hangar import labels ../seen --overwrite
Imported 3 samples to branch second-look; `hangar commit` records them.
ada$ hangar commit -m 'what Ada saw'
Committed to branch second-look: DIGEST
ada$ hangar checkout master
On branch master.
ada$ hangar import labels ../said --overwrite
Imported 2 samples to branch master; `hangar commit` records them.
ada$ hangar commit -m 'what was said in the meeting'
Committed to branch master: DIGEST
ada$ hangar diff second-look
From master (DIGEST) to second-look (DIGEST):
  changed column   labels: 4 changed
      ~ '3/003', '7/007', '8/008', '9/009'

A merge would meet 1 conflict:
  t3   column labels, sample '8/008' (changed on both sides)
`hangar merge second-look` with --strategy ours or theirs settles all of them, with --ours COLUMN:KEY one
ada$ hangar merge second-look
Error: 'second-look' cannot be merged into 'master'; nothing was changed. In conflict: sample '8/008' of \
column 'labels' (changed on both sides). Change one side so that they agree, or merge with --strategy ours or \
theirs, or settle single samples with --ours and --theirs COLUMN:KEY
ada$ hangar merge second-look -m both --theirs labels:8/008
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
ben$ hangar view images 3/003
uint8 array of shape (8, 8), from 0 to 15, mean 4.17188
[[ 0  0  7 15 13  1  0  0]
 [ 0  8 13  6 15  4  0  0]
 [ 0  2  1 13 13  0  0  0]
 [ 0  0  2 15 11  1  0  0]
 [ 0  0  0  1 12 12  1  0]
 [ 0  0  0  0  1 10  8  0]
 [ 0  0  8  4  5 14  9  0]
 [ 0  0  7 13 13  9  0  0]]
ben$ hangar export images -o ../exported
Exported 50 samples to ../exported.
ben$ hangar export labels -o ../exported v1
Exported 50 samples to ../exported.
ben$ hangar verify
note: the records of 150 samples (over all commits) are not on this machine and were not checked; a remote \
has them, and fetch=True (`hangar verify --fetch`) checks them there
Nothing that was checked is damaged.
ben$ hangar status
On branch master, at commit DIGEST
It is where origin/master was when last seen.
Staging area: CLEAN

Next: nothing is staged. `hangar log` shows what was committed, `hangar summary` what it holds.
"""
