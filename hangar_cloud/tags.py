"""Tags: names for commits that stay where they are."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from hangar_cloud.catalog.errors import HeadMovedError
from hangar_cloud.catalog.keys import check_name
from hangar_cloud.catalog.near_names import did_you_mean
from hangar_cloud.catalog.pointers import Pointer, PointerLog
from hangar_cloud.config import is_writable_text
from hangar_cloud.errors import InvalidArgumentError, InvalidNameError, RefExistsError, RefNotFoundError

_READS_AS_DIGEST: Final = re.compile(r"[0-9a-f]{4,64}")


class Tag(NamedTuple):
    """A tag: its name, the digest of its commit, what was said of it, by whom and when (UTC, ISO 8601)."""

    name: str
    digest: str
    message: str
    author: str
    time: str


class Tags:
    """The tags of one store.

    Args:
        log: their pointer log.
        location: of the repository, for messages.
    """

    def __init__(self, log: PointerLog, location: str) -> None:
        self._log = log
        self._location = location

    def create(self, name: str, digest: str, message: str) -> Tag:
        """Name a commit. Raises InvalidNameError, InvalidArgumentError, or RefExistsError where the name is taken."""
        check_tag_name(name)
        if not isinstance(message, str) or not is_writable_text(message):
            raise InvalidArgumentError(f"tag {name!r}: the message must be text without lone surrogates")
        old = self._log.head(name)
        if old is not None and old.alive:
            raise RefExistsError(
                f"there is a tag {name!r} already, at {(old.commit or '')[:12]}; a tag does not move. Choose another "
                "name, or delete it first"
            )
        try:
            return _tag(self._log.move(name, old, digest, "tag", message=message))
        except HeadMovedError:
            raise RefExistsError(f"another writer made a tag {name!r} just now; nothing was changed") from None

    def delete(self, name: str) -> Tag:
        """Remove a tag; its commit stays. Raises RefNotFoundError where there is none."""
        pointer = self._living(name)
        if pointer is None:
            raise self._absent(name)
        self._log.move(name, pointer, None, "untag")
        return _tag(pointer)

    def all(self) -> list[Tag]:
        """All tags, by name."""
        return [_tag(pointer) for pointer in self._log.heads().values()]

    def find(self, name: str) -> Tag | None:
        """A tag, None where there is none of that name."""
        pointer = self._living(name)
        return None if pointer is None else _tag(pointer)

    def take(self, tag: Tag) -> bool:
        """Add a tag of another store where there is none of that name; says whether it is new here."""
        old = self._log.head(tag.name)
        if old is not None and old.alive:
            return False
        self._log.move(tag.name, old, tag.digest, "tag", message=tag.message)
        return True

    def _living(self, name: str) -> Pointer | None:
        try:
            check_tag_name(name)
        except InvalidNameError:
            return None
        pointer = self._log.head(name)
        return pointer if pointer is not None and pointer.alive else None

    def _absent(self, name: str) -> RefNotFoundError:
        names = [tag.name for tag in self.all()]
        there = f"{', '.join(names) or 'none'}{did_you_mean(name, names)}"
        return RefNotFoundError(f"there is no tag {name!r} in {self._location}; there is: {there}")


def check_tag_name(name: str) -> str:
    """The name itself if a tag may have it. Raises InvalidNameError."""
    check_name(name, "tag")
    if _READS_AS_DIGEST.fullmatch(name):
        raise InvalidNameError(f"tag name {name!r} is not suitable: it reads like the digest of a commit")
    return name


def _tag(pointer: Pointer) -> Tag:
    return Tag(pointer.branch, pointer.commit or "", pointer.message, pointer.author, pointer.time)
