"""What the library's messages advise in Python, for people who type commands at this moment (pure)."""

from __future__ import annotations

from typing import Final

_IN_THE_SHELL: Final = (
    ("give remove_old=True", "give --overwrite"),
    ("with force_delete=True", "with --force"),
    ("give overwrite=True", "give --overwrite"),
    ("import with clean_names=True", "import with --clean-names"),
    ("import with keep_extensions=True", "import with --keep-extensions"),
    ("with plugin=", "with --plugin"),
    ("with columns=", "with --column"),
    ("in columns=", "with --column"),
    ("with format=", "with --dataset"),
    ("say image=", "say --image"),
    ("say label=", "say --label"),
    ("the first is frame=0", "the first is --frame 0"),
    ("see remote.add", "`hangar remote add` adds one"),
    ("call force_release_writer_lock()", "run `hangar writer-lock --force-release`"),
    ("open another branch for writing first", "`hangar checkout` another branch first"),
    (
        "or give storage_options {'key': ..., 'secret': ...}; for a public bucket {'anon': True}",
        "or give --storage-option key=... --storage-option secret=...; for a public bucket --storage-option anon=true",
    ),
    ("open that branch to commit them or to call reset_staging_area()", "`hangar commit` or `hangar reset` them"),
    ("commit them, stash them too, or call reset_staging_area(),", "`hangar commit` or `hangar stash save` them"),
    ("commit them or call reset_staging_area()", "`hangar commit`, `hangar stash save` or `hangar reset` them"),
    (
        "merge with strategy='ours', strategy='theirs', or a function that decides for each sample",
        "merge with --strategy ours or theirs, or settle single samples with --ours and --theirs COLUMN:KEY",
    ),
    (
        "strategy='ours' or strategy='theirs' (a function is asked about samples, not about columns as a whole)",
        "--strategy ours or theirs",
    ),
    ("open it with checkout(write=True) and commit first", "`hangar commit` first"),
    ("make one with Repository.init() (or `hangar init`)", "`hangar init` makes one"),
    ("opened with offline=True", "opened with --offline"),
    ("open it once without,", "run this once without,"),
    ("give reset_branch one of the commits that reflog shows", "use `hangar branch reset` (see `hangar reflog`)"),
    ("force=True", "--force"),
    (
        "Open a local folder, Repository('./data'), and clone the bucket into it; or",
        "`hangar -C FOLDER clone URL` makes a copy in a folder, which can have them; or",
    ),
)


def advice_in_shell(message: str) -> str:
    """A message with its advice as commands and options."""
    for python, shell in _IN_THE_SHELL:
        message = message.replace(python, shell)
    return message
