"""What an integrity check found, as data (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

NOTES: Final = frozenset({"remote", "hint", "purged"})

_COPY: Final = (
    "An object that a remote or another clone has intact: delete the one here, if there is one, and fetch the branch "
    "and its data again. Names are made of contents, so a copied object is the right one or is found out. Samples "
    "that are nowhere intact are lost; all others can still be read."
)
_FORGED: Final = (
    "Where no 'damaged' finding names the same object, its bytes are as they were written, and wrong: no disk does "
    "this, some program did. Make a branch from a commit before, or set the samples named above anew."
)
_ADVICE: Final = {
    "missing": _COPY,
    "damaged": _COPY,
    "digest": _FORGED,
    "tree": _FORGED,
    "value": _FORGED,
    "place": _FORGED,
    "pointer": "Copy the entry of the branch's log from a remote or a backup; do not write to that branch before.",
    "staging": "Commits are not concerned. Commit what can be read of the uncommitted changes; then reset the staging "
    "area, or drop the stash.",
    "unsupported": "Upgrade hangar-cloud, and check again.",
}


def advice(findings: Iterable[Finding]) -> list[str]:
    """What to do about some findings, each advice once."""
    return list(dict.fromkeys(_ADVICE[finding.kind] for finding in findings if finding.is_damage))


class Finding(NamedTuple):
    """One thing that is wrong with a repository, or worth knowing.

    Attributes:
        kind: what sort of thing:

            - ``"missing"``: an object that is referred to is neither here nor in a remote.
            - ``"damaged"``: bytes that fail their checksum, do not match their object's name, or cannot be read.
            - ``"digest"``: intact bytes that are not what history says they are.
            - ``"tree"``: rows or nodes in the wrong order, number or place in a record tree.
            - ``"value"``: a record that its column's schema does not allow.
            - ``"place"``: a record that points where no sample is.
            - ``"pointer"``: a gap in a branch's log, or an entry that says what no entry says.
            - ``"staging"``: uncommitted changes of this machine, staged or stashed, that cannot be read.
            - ``"unsupported"``: written by a later version, and so not checked.
            - ``"remote"`` (a note): how much is not on this machine, and so was not checked.
            - ``"purged"`` (a note): how many samples were erased from history by `Repository.purge`.
            - ``"hint"`` (a note): the advisory branch hint is damaged or wrong, which harms nobody.
        object: name of the object in the store (`docs/format.md`), or path of a file beside it; "" for none.
        column: name of the column; "" is the metadata.
        key: of the sample; a pair of keys in a nested column.
        commit: digest of a commit that reaches it: the first one met, from the heads back.
        message: what is wrong, for people.
    """

    kind: str
    object: str
    column: str | None = None
    key: Any = None
    commit: str | None = None
    message: str = ""

    @property
    def is_damage(self) -> bool:
        """False for notes, which make no repository unsound."""
        return self.kind not in NOTES

    def __str__(self) -> str:
        """One line for people."""
        parts = [f"{self.kind if self.is_damage else 'note'}: {self.message}"]
        if self.column is not None:
            parts.append(f"column {self.column!r}" if self.column else "metadata")
        if self.key is not None:
            parts.append(f"sample {self.key!r}")
        if self.commit is not None:
            parts.append(f"commit {self.commit[:12]}")
        if self.object and self.object not in self.message:
            parts.append(self.object)
        return " | ".join(parts)
