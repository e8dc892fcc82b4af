"""Tensors that come from workers in memory that is used again: nothing that is still looked at changes."""

from __future__ import annotations

import gc
import os
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hangar_cloud import make_torch_stream
from hangar_cloud.loaders import lent_memory, worker_memory
from tests.repository.making import add_commit, make_repository, noise

SIZE = 30_000
COUNT = 48
OPTIONS: dict[str, int] = {}
LEFT: set[str] = set()
pytestmark = [
    pytest.mark.usefixtures("one_thread_of_torch"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning:torch"),
]


@pytest.fixture(scope="module")
def column(tmp_path_factory):
    """Samples of 30 kB."""
    repository = make_repository(tmp_path_factory.mktemp("large") / "r")
    add_commit(repository, {key: noise(key, SIZE) for key in range(COUNT)}, column="image")
    return repository.checkout()["image"]


@pytest.fixture(autouse=True, params=["copied", "sent where they were read"])
def memory(request, monkeypatch):
    """Bytes for loaders: enough to keep all samples, of which batches are copies, or for portions of four batches."""
    if request.param == "copied":
        monkeypatch.setitem(OPTIONS, "memory", 64_000_000)
    else:
        monkeypatch.setitem(OPTIONS, "memory", 2_000_000)
        monkeypatch.setattr(worker_memory, "LEAST_BYTES", 1000)
    return OPTIONS["memory"]


def loader_of(column, workers=2, *, method="fork", persistent=True, **options):
    stream = make_torch_stream(column, batch_size=4, **{"shuffle": False, **OPTIONS, **options})
    return DataLoader(stream, None, num_workers=workers, multiprocessing_context=method, persistent_workers=persistent)


def is_batch(batch, number):
    """Whether this is the batch of that number in the order of the keys."""
    wanted = np.stack([noise(4 * number + i, SIZE) for i in range(len(batch))])
    return bool((batch.numpy() == wanted).all())


def pieces_here():
    """The pieces of memory that this process has, but for those that tests before left it."""
    gc.collect()
    maps = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[4] for line in maps if "hangar-batch" in line} - LEFT


@pytest.fixture(autouse=True)
def _left_by_others():
    """What ended workers had goes with the next loader's first batch, which is perhaps one of another test."""
    LEFT.clear()
    LEFT.update(pieces_here())


def test_what_is_kept_of_a_batch_stays_as_it_was_in_all_later_epochs(column):
    loader = loader_of(column)
    kept = [batch["image"] for batch in loader]
    rows = [batch["image"][2:3] for batch in loader]
    arrays = [batch["image"].numpy()[1] for batch in loader]
    for _ in range(3):
        for batch in loader:
            batch["image"].zero_()
    assert all(is_batch(batch, number) for number, batch in enumerate(kept))
    assert [row[0, :8].tolist() for row in rows] == [noise(4 * n + 2, SIZE)[:8].tolist() for n in range(12)]
    assert [row[:8].tolist() for row in arrays] == [noise(4 * n + 1, SIZE)[:8].tolist() for n in range(12)]


@pytest.mark.parametrize("how", ["shared", "sent on", "a part of it sent on"])
def test_a_view_of_numpys_stays_as_it_was_when_torch_moves_the_tensor(column, how):
    loader = loader_of(column, 1)
    queue = torch.multiprocessing.Queue()
    views, tensors = [], []
    for _ in range(2):
        for batch in loader:
            tensor = batch["image"] if how != "a part of it sent on" else batch["image"][1:]
            views.append(tensor.numpy())
            if how == "shared":
                tensor.share_memory_()
            else:
                queue.put(tensor)
                assert (queue.get().numpy() == views[-1]).all()
            tensors.append(tensor)
    first = 1 if how == "a part of it sent on" else 0
    for number, view in enumerate(views):
        assert (view[0] == noise(4 * (number % 12) + first, SIZE)).all()
    del views, tensors, tensor, batch, view
    assert len(pieces_here()) <= 30


def test_few_pieces_serve_many_batches_and_go_with_their_workers(column):
    loader = loader_of(column, persistent=False)
    for _ in range(4):
        for number, batch in enumerate(loader):
            assert is_batch(batch["image"], number)
        assert 0 < len(pieces_here()) <= 2 * 6
    del batch
    assert pieces_here() == set()


def test_batches_that_are_read_together_are_sent_where_they_are(column, memory):
    loader = loader_of(column, 1)
    for _ in range(3):
        kept = [batch["image"] for batch in loader]
        starts = sorted(batch.data_ptr() for batch in kept)
        assert all(is_batch(batch, number) for number, batch in enumerate(kept))
        side_by_side = sum(after - before == 4 * SIZE for before, after in pairwise(starts))
        assert (side_by_side >= 6) == (memory < COUNT * SIZE * 2)
        del kept


def test_one_batch_of_each_portion_may_be_kept(column):
    """Portions of whose batches some are kept are not read into again; with enough of them batches are copied."""
    loader = loader_of(column, 1)
    kept = []
    for _ in range(6):
        for number, batch in enumerate(loader):
            if number % 4 == 1:
                kept.append((number, batch["image"]))
            else:
                batch["image"].zero_()
            del batch
    assert all(is_batch(batch, number) for number, batch in kept)
    del kept
    assert all(is_batch(batch["image"], number) for number, batch in enumerate(loader))


def test_more_batches_kept_than_there_are_pieces(column, monkeypatch):
    monkeypatch.setattr(lent_memory, "_MOST_PIECES", 2)
    loader = loader_of(column)
    kept = [batch["image"] for _ in range(2) for batch in loader]
    assert all(is_batch(batch, number % 12) for number, batch in enumerate(kept))
    assert len(pieces_here()) == 4


def test_a_process_forked_meanwhile_keeps_the_batch_that_its_parent_lets_go(column):
    loader = loader_of(column, 1)
    batches = iter(loader)
    batch = next(batches)["image"]
    asks, answers = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.read(asks[0], 1)
        os.write(answers[1], b"y" if is_batch(batch, 0) else b"n")
        os._exit(0)
    try:
        del batch
        assert len(list(map(len, batches))) == 11
        assert len(list(map(len, loader))) == 12
        os.write(asks[1], b"?")
        assert os.read(answers[0], 1) == b"y"
    finally:
        os.waitpid(child, 0)
        for end in (*asks, *answers):
            os.close(end)


def test_what_a_forked_process_lets_go_is_not_taken_from_its_parent(column):
    loader = loader_of(column, 1)
    batches = iter(loader)
    batch = next(batches)["image"]
    child = os.fork()
    if not child:
        del batch
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    list(batches)
    assert is_batch(batch, 0)


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_workers_that_are_started_anew_use_pieces_again(column, method):
    loader = loader_of(column, 1, method=method)
    for _ in range(2):
        assert all(is_batch(batch["image"], number) for number, batch in enumerate(loader))
    assert 0 < len(pieces_here()) <= 6


def several(batch):
    """Tensors of all kinds: of other types and layouts, and those that are no plain memory."""
    image = batch["image"]
    floats = image[:, :24_000].reshape(4, 20, 30, 40).float()
    return (
        floats.permute(0, 3, 1, 2),
        [floats.bfloat16(), floats.to(memory_format=torch.channels_last), floats[:, ::2]],
        {"few": image[:, 0].long(), "none": image[:0], "one": floats.sum(), "complex": floats + 1j},
        floats.to_sparse(),
        torch.nn.Parameter(floats),
        floats.clone().requires_grad_(),
    )


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning:torch")
def test_any_tensor_that_a_transform_returns_comes_as_it_is_without_workers(column):
    alone = [several({"image": batch["image"]}) for batch in make_torch_stream(column, batch_size=4, shuffle=False)]
    came = list(loader_of(column, transform=several))
    assert len(alone) == len(came) == 12
    for ours, theirs in zip(alone, came, strict=True):
        pairs = [(ours[0], theirs[0]), *zip(ours[1], theirs[1], strict=True)]
        pairs += [(ours[2][name], theirs[2][name]) for name in ours[2]]
        for one, other in pairs:
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            assert torch.equal(one, other)
            other.fill_(0)  # as may any batch
        for one, other in pairs[:3]:
            assert one.stride() == other.stride()
        assert theirs[3].is_sparse
        assert isinstance(theirs[4], torch.nn.Parameter)
        assert theirs[5].requires_grad


def test_a_worker_may_send_tensors_to_processes_other_than_the_one_that_trains(column):
    context = torch.multiprocessing.get_context("fork")
    asked, said = context.Queue(), context.Queue()

    def adds():
        for image in iter(asked.get, None):
            said.put(int(image.sum()))

    other = context.Process(target=adds, daemon=True)
    other.start()

    def told(batch):
        if batch["image"][0, 0] % 2:
            asked.put(batch["image"])
            batch["sum"] = said.get(timeout=60)
        return batch

    loader = loader_of(column, 1, transform=told)
    batches = [batch for _ in range(2) for batch in loader]
    sums = [(batch["sum"], int(batch["image"].sum())) for batch in batches if "sum" in batch]
    assert len(sums) not in (0, len(batches))
    assert all(one == other for one, other in sums)
    asked.put(None)
    other.join(60)


def test_a_batch_outlives_its_workers_and_is_the_last_to_go(column):
    loader = loader_of(column, 1)
    batches = iter(loader)
    batch = next(batches)["image"]
    next(batches)
    del batches, loader
    gc.collect()
    assert is_batch(batch, 0)
    assert len(pieces_here()) >= 1
    del batch
    assert pieces_here() == set()


def test_memory_and_descriptors_stay_the_same_over_many_epochs(column):
    loader = loader_of(column, 1)
    worker = None
    seen = []
    for _ in range(12):
        for batch in loader:
            assert batch["image"].shape == (4, SIZE)
        worker = worker or Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[-1]
        there = len(os.listdir(f"/proc/{worker}/fd"))
        seen.append((len(pieces_here()), len(os.listdir("/proc/self/fd")), there))
    # How many are in use at once depends on who is quicker. A piece is a descriptor here, and two in its worker.
    assert max(pieces for pieces, _, _ in seen) <= 8
    beside = [(here - pieces, there - 2 * pieces) for pieces, here, there in seen]
    assert max(beside[4:]) <= max(beside[:4])


def test_forks_amid_epochs_leave_no_memory_behind(column):
    """A piece that had been opened anew after a fork was kept for ever."""
    loader = loader_of(column)
    seen = []
    for _ in range(6):
        for number, batch in enumerate(loader):
            if number % 4 == 1:
                child = os.fork()
                if not child:
                    os._exit(0)
                os.waitpid(child, 0)
            assert is_batch(batch["image"], number)
        del batch
        seen.append(len(pieces_here()))
    assert max(seen) <= 2 * 8, "of two workers"


@pytest.fixture
def lender():
    return lent_memory.Lender()


def numbers_in_use(lender):
    return {number for number, (piece, _) in lender._pieces.items() if piece.is_used}


def test_small_tensors_do_not_take_the_memory_that_is_read_into(lender):
    room = lender.room(2_000_000, 6)
    (large,) = numbers_in_use(lender)
    del room
    lent = [lender.lend(np.zeros(30_000, np.uint8)) for _ in range(8)]
    assert large not in {told[0][2] for told in lent}
    again = lender.room(2_000_000, 6)
    assert large in numbers_in_use(lender)
    assert lender.lend(again[1000:2000])[0][2] == large


def test_there_is_a_bound_on_what_is_read_into(lender):
    rooms = [lender.room(1_500_000, 3) for _ in range(4)]
    assert [room is None for room in rooms] == [False, False, False, True]
    del rooms[0]
    assert lender.room(1_500_000, 3) is not None


def test_what_a_worker_has_when_it_forks_is_not_read_into_again(lender):
    room = lender.room(1_500_000, 6)
    lender.spoil()
    before = numbers_in_use(lender)
    del room
    kept = lender.room(1_500_000, 6)
    assert kept is not None
    assert not numbers_in_use(lender) & before
    assert len(lender._pieces) == 1


def test_memory_of_a_worker_that_waits_for_the_next_epoch_goes_back_to_the_system(lender, monkeypatch):
    room = lender.room(8_000_000, 6)
    held = lender.room(1_500_000, 6)
    room[:] = held[:100].sum() + 7
    (number,) = [number for number, (piece, _) in lender._pieces.items() if len(piece.bytes) > 4_000_000]
    del room
    held[:] = 5
    _, descriptor = lender._pieces[number]
    monkeypatch.setattr(lent_memory, "_IDLE_SECONDS", 0.3)
    for _ in range(3):
        lender.let_go_later()
    assert os.fstat(descriptor).st_blocks * 512 >= 8_000_000, "the next epoch may begin at once"
    ends = time.monotonic() + 60
    while os.fstat(descriptor).st_blocks * 512 > 100_000:
        assert time.monotonic() < ends
        lender.let_go_later()
        time.sleep(0.1)
    assert (held == 5).all()


def test_memory_that_cannot_be_had_costs_no_descriptor(lender, monkeypatch):
    def fails(descriptor, size):
        raise OSError(27, "File too large")

    monkeypatch.setattr(os, "truncate", fails)
    before = len(os.listdir("/proc/self/fd"))
    assert all(lender.room(1_500_000, 6) is None for _ in range(5))
    assert lender.lend(np.zeros(30_000, np.uint8)) is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_who_lets_go_while_the_lock_is_held_elsewhere_waits_for_nobody(column):
    """The collector may let go of tensors in a thread for which the holder of the lock waits."""
    batch = next(iter(loader_of(column, 1, persistent=False)))["image"]
    holds, may_go = threading.Event(), threading.Event()

    def hold():
        with worker_memory._receiving:
            holds.set()
            may_go.wait(60)
        worker_memory._count_those_that_went()

    holder = threading.Thread(target=hold)
    holder.start()
    assert holds.wait(60)
    del batch
    gc.collect()
    may_go.set()
    holder.join(60)
    assert not worker_memory._went
