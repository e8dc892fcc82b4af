"""Batches for a plain loop: which samples, in which order, what they hold, and going on in the middle."""

from __future__ import annotations

import json
import pickle
import threading

import numpy as np
import pytest

from hangar_cloud import Repository, keys_where, make_numpy_dataset
from hangar_cloud.errors import TransformError
from tests.loaders.conftest import COUNT, image
from tests.repository.forging import flip, store_files
from tests.repository.making import add_commit, make_repository, noise

NUMBERS = [*range(COUNT)]
EACH_ORDER = [True, False, "full", "storage"]


def seen(dataset, name="image"):
    """The numbers that the images of an epoch tell, batch by batch."""
    return [batch[name][:, 0, 0].tolist() for batch in dataset]


def flat(batches):
    return [number for batch in batches for number in batch]


@pytest.mark.parametrize("shuffle", EACH_ORDER)
@pytest.mark.parametrize("memory", [1, 3000, 10**9], ids=["one step", "few", "all"])
def test_an_epoch_has_each_sample_once_with_all_that_belongs_to_it(co, shuffle, memory):
    dataset = make_numpy_dataset(
        [co[name] for name in ("image", "label", "name", "blob", "varying")],
        batch_size=32,
        shuffle=shuffle,
        memory=memory,
    )
    for _ in range(2):
        keys = []
        for batch in dataset:
            numbers = batch["image"][:, 0, 0].tolist()
            keys += numbers
            assert batch["image"].dtype == np.int32
            assert batch["image"].tobytes() == np.stack([image(key) for key in numbers]).tobytes()
            assert batch["label"].tolist() == [key % 10 for key in numbers]
            assert batch["name"] == [f"digit {key}" for key in numbers]
            assert batch["blob"] == [bytes([key % 256]) * (key % 90) for key in numbers]
            for key, value in zip(numbers, batch["varying"], strict=True):
                assert value.shape == (1 + key % 90, 2)
                assert (value == key).all()
        assert sorted(keys) == NUMBERS
        assert (keys == NUMBERS) == (shuffle is False)


def test_the_key_0_and_the_key_text_0_are_two_samples(co):
    found = flat(seen(make_numpy_dataset([co["image"], co["label"]], batch_size=50, shuffle=False)))
    assert found == [*NUMBERS, 1000]
    dataset = make_numpy_dataset(co["image"], ["0", 0, "0"], batch_size=2, shuffle=False)
    assert seen(dataset) == [[1000, 0], [1000]]


def test_the_order_is_that_of_seed_and_epoch_whatever_the_memory(co):
    first = make_numpy_dataset(co["image"], batch_size=32, seed=7, window=60)
    epochs = [seen(first) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    again = make_numpy_dataset(co["image"], batch_size=32, seed=7, window=60, memory=2000)
    again.set_epoch(1)
    assert seen(again) == epochs[1]
    assert seen(make_numpy_dataset(co["image"], batch_size=32, seed=8, window=60)) not in epochs


def test_batches_may_be_changed_and_the_next_epoch_is_as_it_was(co):
    dataset = make_numpy_dataset([co["image"], co["varying"]], batch_size=32, shuffle=False)
    before = seen(dataset)
    for batch in dataset:
        batch["image"][:] = -1
        for value in batch["varying"]:
            value[:] = -1
    assert seen(dataset) == before
    assert all((value >= 0).all() for batch in dataset for value in batch["varying"])


def test_samples_one_by_one(co):
    dataset = make_numpy_dataset([co["image"], co["name"]], range(5), shuffle=False)
    samples = list(dataset)
    assert [sample["image"].shape for sample in samples] == [(4, 5)] * 5
    assert [sample["name"] for sample in samples] == [f"digit {key}" for key in range(5)]
    parts = [make_numpy_dataset(co["image"], range(5), rank=rank, world_size=3) for rank in range(3)]
    numbers = [[int(sample["image"][0, 0]) for sample in part] for part in parts]
    assert sorted(flat(numbers)) == [0, 1, 2, 3, 4]
    assert [len(part) for part in parts] == [len(those) for those in numbers]


def test_ranks_share_global_batches_and_end_together(co):
    keys, whole = range(70), make_numpy_dataset(co["image"], range(70), batch_size=16, seed=3)
    parts = [seen(make_numpy_dataset(co["image"], keys, 16, seed=3, rank=r, world_size=3)) for r in range(3)]
    assert [flat(step) for step in zip(*parts, strict=True)] == seen(whole)
    last = [make_numpy_dataset(co["image"], range(17), 16, rank=r, world_size=3) for r in range(3)]
    assert [[batch["image"].shape[0] for batch in part] for part in last] == [[5, 0], [5, 0], [6, 1]]
    dropping = make_numpy_dataset(co["image"], range(17), 16, drop_last=True)
    assert [len(batch) for batch in seen(dropping)] == [16]
    assert len(dropping) == 1


@pytest.mark.parametrize("shuffle", EACH_ORDER)
@pytest.mark.parametrize("done", [0, 1, 6, 10])
def test_going_on_in_the_middle_of_an_epoch_with_other_ranks_and_memory(co, shuffle, done):
    options = {"batch_size": 32, "shuffle": shuffle, "window": 100}
    dataset = make_numpy_dataset([co["image"], co["label"]], **options)
    list(dataset)
    wanted = seen(make_numpy_dataset([co["image"], co["label"]], **options)), seen(dataset), seen(dataset)
    dataset.set_epoch(1)
    epoch = iter(dataset)
    for _ in range(done):
        next(epoch)
    state = json.loads(json.dumps(dataset.state_dict()))
    epoch.close()  # type: ignore[attr-defined]
    assert state == dataset.state_dict(batches=done)
    parts = [
        make_numpy_dataset([co["image"], co["label"]], **options, rank=rank, world_size=2, memory=4000)
        for rank in range(2)
    ]
    for part in parts:
        part.load_state_dict(state)
    assert [flat(step) for step in zip(*map(seen, parts), strict=True)] == wanted[1][done:]
    assert [flat(step) for step in zip(*map(seen, parts), strict=True)] == wanted[2]
    assert [part.epoch for part in parts] == [2, 2]


def test_a_state_of_something_else_is_refused(co, digits):
    dataset = make_numpy_dataset(co["image"], batch_size=32)
    state = dataset.state_dict()
    for other, what in (
        (make_numpy_dataset(co["image"], range(9), batch_size=32), "samples"),
        (make_numpy_dataset(co["image"], batch_size=32, seed=1), "seed"),
        (make_numpy_dataset(co["image"], batch_size=32, shuffle=False), "shuffle"),
        (make_numpy_dataset([co["image"], co["label"]], batch_size=32), "commit, columns or keys"),
        (make_numpy_dataset(co["image"], [*range(COUNT - 1, -1, -1), "0"], batch_size=32), "commit, columns or keys"),
    ):
        with pytest.raises(ValueError, match=what):
            other.load_state_dict(state)
    for broken in ({}, None, {**state, "epoch": -1}, {**state, "consumed": "9"}, {**state, "version": 2}):
        with pytest.raises(ValueError):
            dataset.load_state_dict(broken)
    for broken in ({**state, "workers": workers} for workers in (3, [1], ["a", "b"], [5, 0], [2, 2])):
        with pytest.raises(ValueError):
            dataset.load_state_dict(broken)


def test_an_iterator_that_is_still_used_does_not_undo_set_epoch_or_load_state_dict(co):
    def made():
        return make_numpy_dataset([co["image"], co["label"]], batch_size=64, seed=2, memory=4000)

    whole = made()
    wanted = [seen(whole) for _ in range(3)]
    dataset = made()
    old = iter(dataset)
    next(old)
    state = dataset.state_dict()
    dataset.set_epoch(2)
    next(old)
    assert seen(dataset) == wanted[2]
    dataset.load_state_dict(state)
    assert len(list(old)) == len(wanted[0]) - 2
    assert dataset.state_dict()["consumed"] == 64
    assert seen(dataset) == wanted[0][1:]
    assert seen(dataset) == wanted[1]


def test_more_batches_than_an_epoch_has_cannot_have_been_used(co):
    dataset = make_numpy_dataset(co["image"], range(20), batch_size=4)
    assert dataset.state_dict(batches=5)["consumed"] == 20
    with pytest.raises(ValueError, match="epoch 0 had 5 batches .*count the batches of this epoch"):
        dataset.state_dict(batches=6)
    dataset.load_state_dict(dataset.state_dict(batches=3))
    with pytest.raises(ValueError, match="had 2 batches"):
        dataset.state_dict(batches=3)


def test_whole_numbers_of_numpy_are_whole_numbers_and_give_the_same_order(co):
    plain = make_numpy_dataset(co["label"], batch_size=32, seed=7, rank=1, world_size=2)
    theirs = {name: np.int64(number) for name, number in {"seed": 7, "rank": 1, "world_size": 2}.items()}
    dataset = make_numpy_dataset(co["label"], batch_size=np.int32(32), memory=np.int64(1 << 28), **theirs)
    plain.set_epoch(3)
    dataset.set_epoch(np.int64(3))
    assert json.loads(json.dumps(dataset.state_dict())) == plain.state_dict()
    assert [b["label"].tolist() for b in dataset] == [b["label"].tolist() for b in plain]


def test_nested_samples_are_dicts_and_pairs_of_keys_make_samples_of_subsamples(co):
    dataset = make_numpy_dataset([co["scan"], co["label"]], batch_size=8)
    assert dataset.num_samples == 30
    for batch in dataset:
        for scan, label in zip(batch["scan"], batch["label"], strict=True):
            key = int(scan[0][0])
            assert label == key % 10
            assert {below: value.tolist() for below, value in scan.items()} == {
                below: [key + below] * 3 for below in range(1 + key % 3)
            }
    pairs = [(5, 2), (4, 0), (5, 0)]
    dataset = make_numpy_dataset([co["scan"], co["label"]], pairs, batch_size=2, shuffle=False)
    assert [batch["scan"].tolist() for batch in dataset] == [[[7] * 3, [4] * 3], [[5] * 3]]
    assert [batch["label"].tolist() for batch in dataset] == [[5, 4], [5]]
    every = [(key, below) for key in range(30) for below in range(1 + key % 3)]
    found = [int(v) for batch in make_numpy_dataset(co["scan"], every, 8) for v in batch["scan"][:, 0]]
    assert sorted(found) == sorted(key + below for key, below in every)


def test_columns_of_several_checkouts_and_repositories(co, digits, tmp_path):
    other = make_repository(tmp_path / "other")
    add_commit(other, {key: np.full(2, key, np.float64) for key in range(5, 400)}, column="image")
    theirs, again = other.checkout(), digits.checkout()
    with pytest.raises(ValueError, match="two fields would be called 'image'"):
        make_numpy_dataset([co["image"], theirs["image"]], batch_size=64)
    dataset = make_numpy_dataset({"x": co["image"], "y": theirs["image"], "z": again["label"]}, batch_size=64)
    found = [(x, y, z) for b in dataset for x, y, z in zip(b["x"][:, 0, 0], b["y"][:, 0], b["z"], strict=True)]
    assert sorted(found) == [(key, key, key % 10) for key in range(5, COUNT)]
    theirs.close()
    again.close()


def test_partial_keys_leave_the_samples_that_all_columns_have(co):
    dataset = make_numpy_dataset([co["image"], co["few"]], batch_size=50)
    assert sorted(flat(seen(dataset))) == [key for key in NUMBERS if key % 3]
    part = make_numpy_dataset([co["image"], co["few"]], index_range=slice(10, 60, 2), batch_size=50, shuffle=False)
    assert flat(seen(part)) == [key for key in NUMBERS if key % 3][10:60:2]
    assert part.keys == [key for key in NUMBERS if key % 3][10:60:2]
    both = make_numpy_dataset(co["image"], np.array([3, 1]), index_range=slice(0, 9), batch_size=9, shuffle=False)
    assert seen(both) == [[3, 1]]
    assert list(make_numpy_dataset(co["none"], batch_size=9)) == []
    assert list(make_numpy_dataset([co["image"], co["none"]], batch_size=9)) == []
    assert list(make_numpy_dataset(co["image"], [], batch_size=9)) == []


def test_what_is_refused_before_anything_is_read(co, digits):
    image, few = co["image"], co["few"]
    with pytest.raises(TypeError, match=r"co\['image'\], not their names"):
        make_numpy_dataset("image", batch_size=2)
    with pytest.raises(TypeError, match=r"co\.columns or .*not the checkout"):
        make_numpy_dataset(co, batch_size=2)
    for columns in ([], (), None, "image", 7, ["image"], [image, None], co):
        with pytest.raises(TypeError, match="a loader takes"):
            make_numpy_dataset(columns, batch_size=2)
    with pytest.raises(KeyError, match=r"'few' lacks 2 of the keys: 3, 6"):
        make_numpy_dataset([image, few], [1, 3, 2, 6], 2)
    with pytest.raises(KeyError, match="not suitable"):
        make_numpy_dataset(image, [-1], 2)
    with pytest.raises(KeyError, match=r"lacks 1 of the keys: \(5, 9\)"):
        make_numpy_dataset(co["scan"], [(5, 1), (5, 9)], 2)
    with pytest.raises(ValueError, match="is flat"):
        make_numpy_dataset(image, [(5, 1)], 2)
    with pytest.raises(ValueError, match="some keys are pairs"):
        make_numpy_dataset(co["scan"], [(5, 1), 5], 2)
    for wrong in (
        {"batch_size": 0},
        {"batch_size": 2.0},
        {"batch_size": True},
        {"shuffle": np.arange(2)},
        {"index_range": slice("a")},
        {"index_range": slice(0, 9, 0)},
        {"shuffle": "random"},
        {"shuffle": 1},
        {"window": 0},
        {"seed": -1},
        {"rank": 1},
        {"world_size": 3},
        {"memory": 0},
        {"transform": 3},
        {"index_range": 5},
        {"keys": "abc"},
        {"field_names": ["a", "b"]},
        {"field_names": [""]},
        {"collate_fn": list, "transform": list},
    ):
        with pytest.raises(ValueError):
            make_numpy_dataset(image, **({"batch_size": 2} | wrong))
    with pytest.raises(TypeError, match="field_names"):
        make_numpy_dataset(image, batch_size=2, field_names="image")
    writer = digits.checkout(write=True)
    with pytest.raises(PermissionError, match=r"'image' is of a checkout for writing.*commit"):
        make_numpy_dataset(writer["image"], batch_size=2)
    writer.close()


def test_columns_without_a_common_key_are_named(tmp_path):
    repository = make_repository(tmp_path / "r")
    add_commit(repository, {1: noise(1), 2: noise(2)}, column="one")
    add_commit(repository, {"1": noise(1), 7: noise(2)}, column="other")
    checkout = repository.checkout()
    with pytest.raises(ValueError, match=r"no sample is in all of the columns: 'one' has 1, 2; 'other' has 7, '1'"):
        make_numpy_dataset([checkout["one"], checkout["other"]], batch_size=1)
    checkout.close()


def test_a_closed_checkout_refuses_even_what_is_in_memory(digits):
    checkout = digits.checkout()
    dataset = make_numpy_dataset([checkout["image"], checkout["label"]], batch_size=32)
    list(dataset)
    epoch = iter(dataset)
    next(epoch)
    checkout.close()
    with pytest.raises(PermissionError):
        next(epoch)
    with pytest.raises(PermissionError):
        next(iter(dataset))


def test_transforms_and_collating(co):
    dataset = make_numpy_dataset([co["image"], co["label"]], range(10), 4, transform=lambda b: b["label"] * 2, seed=1)
    plain = make_numpy_dataset([co["image"], co["label"]], range(10), 4, seed=1)
    assert [batch.tolist() for batch in dataset] == [(batch["label"] * 2).tolist() for batch in plain]
    collated = make_numpy_dataset(
        co["label"], range(10), 4, False, False, lambda samples: [s["label"] for s in samples]
    )
    assert list(collated) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]

    def fails(batch):
        if (batch["label"] == 7).any():
            raise OSError("no")

    dataset = make_numpy_dataset(co["label"], range(10), 4, shuffle=False, transform=fails)
    epoch = iter(dataset)
    next(epoch)
    with pytest.raises(TransformError, match=r"the samples 4, 5, 6, 7: OSError: no"):
        next(epoch)


def test_a_damaged_sample_is_named_where_it_comes_and_those_before_it_are_given(tmp_path):
    repository = make_repository(tmp_path / "r")
    add_commit(repository, {key: noise(key, 50_000) for key in range(40)}, column="image")
    (pack,) = store_files(repository, "packs/*/*.pack")
    flip(pack, 30 * 50_100)
    checkout = Repository(repository.path).checkout()
    given = []
    with pytest.raises(ValueError, match=r"column 'image', sample (29|30)"):
        given += [batch["image"] for batch in make_numpy_dataset(checkout["image"], batch_size=4, shuffle=False)]
    dataset = make_numpy_dataset(checkout["image"], batch_size=4, shuffle=False)
    count = 0
    with pytest.raises(ValueError, match="column 'image'"):
        for batch in dataset:
            assert (batch["image"][0] == noise(count, 50_000)).all()
            count += 4
    assert count == 28
    checkout.close()


def test_choosing_by_labels_reads_no_samples(co):
    assert keys_where(co["label"], lambda label: label == 3) == [key for key in NUMBERS if key % 10 == 3]
    assert keys_where(co["name"], lambda name: name.endswith("7 7")) == []
    assert keys_where(co["none"], bool) == []
    assert keys_where(co["label"], lambda label: label < 0) == ["0"]
    with pytest.raises(TransformError, match=r"column 'label', sample 0: ZeroDivisionError"):
        keys_where(co["label"], lambda label: 1 // int(label))
    with pytest.raises(ValueError, match=r"'image', sample 0: its value does not stand in its record"):
        keys_where(co["image"], bool)
    with pytest.raises(ValueError, match="nested"):
        keys_where(co["scan"], bool)
    with pytest.raises(ValueError, match="predicate"):
        keys_where(co["label"], 3)
    with pytest.raises(TypeError):
        keys_where("label", bool)


def test_pickled_it_reads_the_same_without_what_it_had_in_memory(co):
    dataset = make_numpy_dataset([co["image"], co["name"]], batch_size=32, seed=4)
    first, second = seen(dataset), seen(dataset)
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 40_000
    again = pickle.loads(pickled)
    again.set_epoch(0)
    assert [seen(again), seen(again)] == [first, second]


def test_threads_of_abandoned_epochs_end(co):
    dataset = make_numpy_dataset(co["image"], batch_size=4, memory=2000)
    before = threading.active_count()
    for _ in range(20):
        next(iter(dataset))
    assert threading.active_count() <= before + 1
    epoch = iter(dataset)
    next(epoch)
    epoch.close()  # type: ignore[attr-defined]
    del epoch
    assert threading.active_count() == before


def test_a_batch_size_given_as_keys_and_a_memory_with_a_unit_are_told(co):
    with pytest.raises(ValueError, match="say batch_size=64"):
        make_numpy_dataset(co["image"], 64)
    with pytest.raises(ValueError, match="memory, in bytes, must be a whole number"):
        make_numpy_dataset(co["image"], batch_size=4, memory="1GB")


def test_decoded_blocks_of_texts_count_as_memory_of_the_loader(tmp_path):
    repository = make_repository(tmp_path / "r")
    writer = repository.checkout(write=True)
    writer.add_str_column("text").update((n, noise(n, 400).tobytes().hex()) for n in range(3000))
    writer.commit("texts")
    writer.close()
    checkout = Repository(repository.path).checkout()
    column = checkout["text"]
    for memory, kept in ((400_000, 100_000), (64_000_000, 16_000_000)):
        there = column._packs.decoded_bytes
        dataset = make_numpy_dataset(column, batch_size=50, memory=memory)
        seen = [len(text) for batch in dataset for text in batch["text"]]
        assert seen == [800] * 3000
        assert there < column._packs.decoded_bytes <= there + kept
    checkout.close()
