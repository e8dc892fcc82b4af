"""Names that a shell completes: branches, tags, columns, remotes, stashes.

A key press may not wait for the network, so everything comes from this machine; of a bucket, what was seen of it
before. Nothing is printed and nothing fails: what cannot be read has no completions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from hangar_cloud.storage import Storage

Source = Callable[["Storage"], Iterable[str]]
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _completer(*sources: Source) -> Completer:
    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        taken = ctx.params.get(parameter.name or "")
        given = set(taken) if isinstance(taken, (tuple, list)) else set()
        names = dict.fromkeys(name for source in sources for name in _names(ctx, source))
        return [CompletionItem(name) for name in names if name.startswith(incomplete) and name not in given]

    return complete


def _names(ctx: click.Context, source: Source) -> list[str]:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            storage = _storage(ctx)
            return [] if storage is None else list(source(storage))
    except Exception:  # noqa: BLE001 - a shell shows whatever is printed in the middle of the typed line
        return []


def _storage(ctx: click.Context) -> Storage | None:
    from hangar_cloud.cli.context import Settings
    from hangar_cloud.storage import Storage

    root = ctx.find_root()
    if root.obj is not None and not isinstance(root.obj, Settings):
        given: Any = root.obj
        return given._storage  # type: ignore[no-any-return]
    options = root.params.get("storage_options") or {}
    storage = Storage(root.params.get("location") or ".", options, offline=True)
    return None if storage.repository_id() is None else storage


def _branches(storage: Storage) -> Iterable[str]:
    return storage.heads()


def _tracked(storage: Storage) -> Iterable[str]:
    from hangar_cloud.catalog.tracking import TrackingRefs

    return TrackingRefs(storage.root / "remotes").all()


def _deleted(storage: Storage) -> Iterable[str]:
    living = storage.heads()
    return (name for name in storage.pointers().all_names() if name not in living)


def _tags(storage: Storage) -> Iterable[str]:
    return (tag.name for tag in storage.tags().all())


def _columns(storage: Storage) -> Iterable[str]:
    from hangar_cloud.branches import Branches
    from hangar_cloud.status import next_columns

    return (name for name in next_columns(storage, Branches(storage).current()) if name)


def _remotes(storage: Storage) -> Iterable[str]:
    return sorted(storage.config().remotes)


def _stashes(storage: Storage) -> Iterable[str]:
    from hangar_cloud.catalog.stashes import Stashes

    return (info.name for info in Stashes(storage.root).all())


def words(*completers: Completer) -> Completer:
    """One completer for each word of an argument that takes several."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        place = len(ctx.params.get(parameter.name or "") or ())
        return completers[place](ctx, parameter, incomplete) if place < len(completers) else []

    return complete


def files(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Files and folders, which the shell knows itself."""
    return [CompletionItem(incomplete, type="file")]


def nothing(_ctx: click.Context, _parameter: click.Parameter, _incomplete: str) -> list[CompletionItem]:
    """No names: there may be millions of samples."""
    return []


branches = _completer(_branches)
deleted_branches = _completer(_deleted)
tags = _completer(_tags)
commits = _completer(_branches, _tracked, _tags)
columns = _completer(_columns)
remotes = _completer(_remotes)
stashes = _completer(_stashes)
