"""Recording a merge: the merged trees as a commit with two parents."""

from __future__ import annotations

from dataclasses import replace
from operator import itemgetter

from hangar_cloud.catalog.commits import Commit, commit_path, make_commit
from hangar_cloud.catalog.keys import encode_key
from hangar_cloud.catalog.merge import Merge
from hangar_cloud.catalog.node_reader import NodeReader
from hangar_cloud.catalog.publishing import Publisher
from hangar_cloud.catalog.record_writer import RecordWriter
from hangar_cloud.catalog.tree_diff import differing_leaves


def publish_merge(
    publisher: Publisher,
    nodes: NodeReader,
    merge: Merge,
    parents: tuple[str, str],
    author: str,
    email: str,
    message: str,
    time: str | None = None,
) -> tuple[str, Commit]:
    """Write records and commit of a merge without conflicts; what is there already is not written again.

    Args:
        publisher: where to.
        nodes: reads the trees of both sides.
        merge: entries and changes of every merged column, with sealed places.
        parents: the commit that was merged into, and the one that was merged.
        author: name recorded in the commit.
        email: likewise.
        message: of the commit.
        time: of the commit; now by default.
    """
    records = RecordWriter(nodes)
    trees = {}
    for name, column in merge.columns.items():
        changes = sorted(((encode_key(key), row) for key, row in column.changes.items()), key=itemgetter(0))
        if column.other is not None:
            _, theirs = differing_leaves(nodes, column.entry.root, column.other.root)
            records.know(column.other.schema, theirs)
        trees[name] = (column.entry.schema, records.edit(column.entry.root, column.entry.schema, changes))
    roots = records.write(trees, publisher.put)
    entries = {name: replace(merge.columns[name].entry, root=root) for name, root in roots.items()}
    commit = make_commit(parents, entries, author, email, message, time)
    digest = commit.digest()
    publisher.put(commit_path(digest), commit.encode())
    return digest, commit
