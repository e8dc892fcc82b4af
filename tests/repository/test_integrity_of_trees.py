"""Integrity of record trees: nodes with right checksums that break a rule, each planted by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hangar_cloud.catalog.keys import encode_key
from hangar_cloud.catalog.records import leaf_digest
from hangar_cloud.catalog.schema import ColumnSchema, array_schema
from hangar_cloud.errors import CorruptDataError
from tests.repository.forging import boundaries, damage, inline, kinds, messages, text_rows

TEXT = ColumnSchema("str")
KEYS = list(range(20_000))
CUTS = boundaries(KEYS[1:])


def leaves_of(forger, keys=KEYS, cuts=CUTS):
    """Leaves of these rows, cut before these keys."""
    edges = [keys[0], *cuts, keys[-1] + 1]
    return [forger.leaf(text_rows(range(a, b)), TEXT) for a, b in itertools.pairwise(edges)]


def test_there_are_leaves_to_break():
    assert len(CUTS) > 3


def test_a_tree_made_by_hand_as_it_should_be_is_sound(empty, forger):
    forger.commit(TEXT, forger.inner(leaves_of(forger)))
    assert empty.fsck() == []
    committed = empty._storage.commit(empty.log(return_contents=True)["head"])
    assert empty._storage.nodes.find(committed.columns["forged"].root, TEXT, 7) is not None


def test_rows_out_of_order(empty, forger):
    forger.commit(TEXT, forger.leaf(text_rows([1, 3, 2, 4]), TEXT))
    (finding,) = damage(empty)
    assert (finding.kind, finding.column, finding.key) == ("tree", "forged", 2)
    assert "out of order" in finding.message


def test_a_key_twice(empty, forger):
    forger.commit(TEXT, forger.leaf(text_rows([1, 2, 2]), TEXT))
    assert "out of order at 2" in messages(empty)


def test_text_before_numbers(empty, forger):
    forger.commit(TEXT, forger.leaf(text_rows(["a", 1]), TEXT))
    assert kinds(empty) == {"tree"}


@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_leaf_with_another_number_of_rows(empty, forger, count):
    leaf = forger.leaf(text_rows([1, 2]), TEXT)
    forger.commit(TEXT, leaf._replace(count=count))
    assert f"2 rows, where {count} are declared" in messages(empty)


def test_a_leaf_with_another_first_key(empty, forger):
    leaf = forger.leaf(text_rows([1, 2]), TEXT)
    forger.commit(TEXT, leaf._replace(first=encode_key(0)))
    assert "begins at key 1, where 0 is declared" in messages(empty)


def test_a_leaf_with_another_digest(empty, forger):
    leaf = forger.leaf(text_rows([1, 2]), TEXT)
    forger.commit(TEXT, leaf._replace(digest=bytes(32)))
    assert kinds(empty) == {"digest"}


def test_an_inline_value_changed_with_its_checksum(empty, forger):
    right = text_rows(range(10))
    wrong = [*right[:3], (right[3][0], inline(TEXT, "another")), *right[4:]]
    forger.commit(TEXT, forger.leaf(wrong, TEXT)._replace(digest=leaf_digest(right)))
    assert [(f.kind, f.column) for f in damage(empty)] == [("digest", "forged")]


def test_a_leaf_cut_where_none_may_be(empty, forger):
    leaves = leaves_of(forger, cuts=sorted([*CUTS, CUTS[0] + 5]))
    forger.commit(TEXT, forger.inner(leaves))
    (finding,) = damage(empty)
    assert f"begins at key {CUTS[0] + 5}, where none may begin" in finding.message


def test_a_leaf_not_cut_where_one_must_be(empty, forger):
    forger.commit(TEXT, forger.inner(leaves_of(forger, cuts=CUTS[1:])))
    (finding,) = damage(empty)
    assert finding.key == CUTS[0]
    assert "another must begin" in finding.message


def test_children_in_the_wrong_order(empty, forger):
    first, second, third, *others = leaves_of(forger)
    forger.commit(TEXT, forger.inner([first, third, second, *others]))
    assert "out of order" in messages(empty)


def test_children_that_overlap(empty, forger):
    first, second, *others = leaves_of(forger)
    longer = forger.leaf(text_rows(range(CUTS[0] + 1)), TEXT)
    forger.commit(TEXT, forger.inner([longer, second, *others]))
    assert "a node begins before the end of the one before it" in messages(empty)
    assert first != longer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 19_999}, "20000 rows, where 19999 are declared"),
        ({"first": encode_key("x")}, "first key is not that of its first child"),
        ({"digest": bytes(32)}, "does not match its digest"),
        ({"level": 0}, "not readable"),
        ({"level": 2}, "not readable"),
        ({"level": 7}, "not readable"),
    ],
)
def test_an_inner_node_that_is_not_what_its_parent_says(empty, forger, change, message):
    root = forger.inner(leaves_of(forger))
    forger.commit(TEXT, root._replace(**change))
    assert message in messages(empty)


def test_a_child_with_another_count_than_it_has(empty, forger):
    first, second, *others = leaves_of(forger)
    wrong = [first._replace(count=first.count + 1), second._replace(count=second.count - 1), *others]
    forger.commit(TEXT, forger.inner(wrong))
    assert [finding.kind for finding in damage(empty)] == ["tree", "tree"]


def test_a_root_with_one_child(empty, forger):
    forger.commit(TEXT, forger.inner([forger.leaf(text_rows([1, 2]), TEXT)]))
    assert "one child" in messages(empty)


def test_a_leaf_that_is_missing_or_elsewhere(empty, forger):
    first, second, *others = leaves_of(forger)
    nowhere = second._replace(place=second.place._replace(object=b"x" * 16))
    forger.commit(TEXT, forger.inner([first, nowhere, *others]))
    assert [(f.kind, f.object) for f in damage(empty)] == [("missing", f"records/{(b'x' * 16).hex()}.parquet")]
    moved = second._replace(place=second.place._replace(length=2**60))
    forger.commit(TEXT, forger.inner([first, moved, *others]), "other")
    assert "damaged" in kinds(empty)
    odd = second._replace(place=second.place._replace(object=b"abc"))
    forger.commit(TEXT, forger.inner([first, odd, *others]), "third")
    assert "names an object that cannot be" in messages(empty)


def test_a_leaf_of_another_column(empty, forger):
    numbers = array_schema((), np.int64, None, False, False, "x")
    forger.commit(numbers, forger.leaf(text_rows([1, 2]), TEXT))
    assert kinds(empty) == {"damaged"}


def test_damage_in_a_node_that_many_commits_share_is_told_once(empty, forger):
    for n in range(4):
        forger.commit(TEXT, forger.leaf(text_rows([1, 3, 2]), TEXT) if n == 0 else _last(empty), "forged")
    assert len(damage(empty)) == 1


def _last(repository):
    head = repository.log(return_contents=True)["head"]
    return repository._storage.commit(head).columns["forged"].root


def test_reading_notices_less_than_the_check(empty, forger):
    """What the check is for: a reader of key 1 has no reason to look at the order of the others."""
    forger.commit(TEXT, forger.leaf(text_rows([1, 3, 2]), TEXT))
    checkout = empty.checkout()
    assert checkout["forged", 1] == "text 1"
    checkout.close()
    assert empty.verify_repo_integrity() is False
    assert issubclass(CorruptDataError, ValueError)
