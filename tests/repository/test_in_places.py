"""The same behaviour in a folder, in memory, at a file:// URL, and in S3 and GCS buckets."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from hangar_cloud import Repository
from hangar_cloud.backends.store import CountingStore
from hangar_cloud.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    DataNotLocalError,
    HangarError,
    HeadMovedError,
    InvalidArgumentError,
    StoreUnavailableError,
)
from tests.repository.making import add_commit, files_of, make_repository, read_all, same_columns

IMAGES = {n: np.random.default_rng(n).integers(0, 256, (64, 64), np.uint8) for n in range(60)}


def fill(repository):
    """One commit of images and labels; returns its digest and contents."""
    writer = repository.checkout(write=True)
    with writer.add_ndarray_column("images", prototype=IMAGES[0]) as images:
        images.update(IMAGES)
    labels = writer.add_str_column("labels")
    labels.update({n: f"label {n}" for n in IMAGES})
    digest = writer.commit("images")
    contents = {name: dict(column.items()) for name, column in writer.items()}
    writer.close()
    return digest, contents


def packed_size(repository):
    """Bytes of all packs in a repository's store."""
    return sum(info.size for info in repository._storage.store.list("packs/"))


class RepositoryContract:
    """What a repository does wherever it is; `place` and `options` come from each subclass."""

    @pytest.fixture
    def opened(self, place, options, tmp_path):
        """Opens the repository as on a machine that has never seen it, unless it is called with one's name."""

        def open_it(machine=None, **more):
            cache = tmp_path / "machines" / (machine or uuid.uuid4().hex)
            return Repository(place, exists=False, cache_dir=cache, storage_options=options, **more)

        return open_it

    @pytest.fixture
    def repository(self, opened):
        made = opened("first")
        made.init("Test User", "test@example.org")
        return made

    def test_init_write_commit_and_read_elsewhere(self, repository, opened):
        assert repository.list_branches() == ["master"]
        digest, contents = fill(repository)
        elsewhere = opened()
        assert elsewhere.initialized
        assert elsewhere.list_branches() == ["master"]
        checkout = elsewhere.checkout()
        assert checkout.commit_hash == digest
        assert np.array_equal(checkout["images", 7], IMAGES[7])
        assert checkout["labels"].get_batch([3, 1]) == ["label 3", "label 1"]
        checkout.close()
        assert same_columns(read_all(elsewhere), contents)
        assert same_columns(read_all(repository), contents)

    def test_later_commits_and_history(self, repository, opened):
        first, contents = fill(repository)
        second = add_commit(repository, {5: IMAGES[0], "new": IMAGES[1]}, column="images")
        elsewhere = opened()
        third = add_commit(elsewhere, {6: IMAGES[0]}, column="images")
        last = opened()
        assert last.log(return_contents=True)["order"] == [third, second, first]
        assert same_columns(read_all(last, commit=first), contents)
        found = read_all(last)["images"]
        assert np.array_equal(found[5], IMAGES[0])
        assert np.array_equal(found[6], IMAGES[0])
        assert np.array_equal(found["new"], IMAGES[1])
        assert len(found) == 61

    def test_branches(self, repository, opened):
        first, _ = fill(repository)
        repository.create_branch("dev")
        second = add_commit(repository, {5: IMAGES[0]}, column="images", branch="dev")
        elsewhere = opened()
        assert elsewhere.list_branches() == ["dev", "master"]
        assert elsewhere.checkout(branch="dev").commit_hash == second
        assert elsewhere.checkout(branch="master").commit_hash == first
        elsewhere.checkout(write=True, branch="master").close()
        with pytest.raises(RuntimeError, match="not fully merged"):
            elsewhere.remove_branch("dev")
        elsewhere.remove_branch("dev", force_delete=True)
        assert opened().list_branches() == ["master"]

    def test_staged_changes_survive_on_their_machine(self, repository, opened):
        fill(repository)
        writer = repository.checkout(write=True)
        writer["images", "staged"] = IMAGES[9]
        writer.close()
        writer = opened("first").checkout(write=True)
        assert np.array_equal(writer["images", "staged"], IMAGES[9])
        writer.commit("staged before")
        writer.close()
        assert np.array_equal(opened().checkout()["images", "staged"], IMAGES[9])

    def test_equal_samples_are_stored_once_across_sessions(self, repository, opened):
        fill(repository)
        size = packed_size(repository)
        add_commit(opened("first"), {f"again-{n}": image for n, image in IMAGES.items()}, column="images")
        assert packed_size(repository) == size

    def test_init_twice_is_refused(self, repository, opened):
        _, contents = fill(repository)
        with pytest.raises(FileExistsError, match="already"):
            opened().init("Other", "other@example.org")
        assert same_columns(read_all(opened()), contents)

    def test_remove_old(self, repository, opened):
        fill(repository)
        repository.init("Other", "other@example.org", remove_old=True)
        with pytest.raises(ValueError, match="nothing is committed"):
            opened().checkout()
        digest, contents = fill(repository)
        assert opened().checkout().commit_hash == digest
        assert same_columns(read_all(opened("first")), contents)

    def test_what_is_refused(self, repository, opened):
        fill(repository)
        for use in (
            lambda r: r.checkout(branch="nope"),
            lambda r: r.checkout(commit="abcdef"),
            lambda r: r.checkout(write=True, commit="abcdef"),
            lambda r: r.create_branch("a b"),
        ):
            with pytest.raises(ValueError) as caught:
                use(opened("first"))
            assert isinstance(caught.value, HangarError)
        assert repository.writer_lock_held is False


class BucketContract(RepositoryContract):
    """What is so in buckets only."""

    def test_a_bucket_has_no_remotes(self, repository):
        for use in (lambda: repository.remote, lambda: repository.clone("a", "b", "/tmp/x")):
            with pytest.raises(InvalidArgumentError, match="it is the bucket itself"):
                use()

    def test_two_writers_lose_nothing(self, repository, opened):
        fill(repository)
        one, two = repository.checkout(write=True), opened("second").checkout(write=True)
        one["images", "one"] = IMAGES[1]
        two["images", "two"] = IMAGES[2]
        one["labels", 0] = "changed by both"
        two["labels", 0] = "changed by both, differently"
        one.commit("first")
        with pytest.raises(HeadMovedError, match="labels"):
            two.commit("second")
        assert np.array_equal(two["images", "two"], IMAGES[2])
        assert two["labels", 0] == "changed by both, differently"
        two["labels", 0] = "changed by both"
        self._commit_or_keep(two, opened)
        one.close()
        found = read_all(opened())
        assert np.array_equal(found["images"]["one"], IMAGES[1])
        assert np.array_equal(found["images"]["two"], IMAGES[2])
        assert found["labels"][0] == "changed by both"

    @staticmethod
    def _commit_or_keep(writer, opened):
        writer.commit("second, in agreement")
        writer.close()

    def test_two_writers_of_disjoint_keys_both_land(self, repository, opened):
        fill(repository)
        writers = [repository.checkout(write=True), repository.checkout(write=True), opened("2").checkout(write=True)]
        for number, writer in enumerate(writers):
            writer["images", f"writer-{number}"] = IMAGES[number]
        digests = [writer.commit(f"commit {number}") for number, writer in enumerate(writers)]
        for writer in writers:
            writer.close()
        found = read_all(opened())["images"]
        assert all(np.array_equal(found[f"writer-{number}"], IMAGES[number]) for number in range(3))
        order = opened().log(return_contents=True)["order"]
        assert set(digests) <= set(order)


class CachedBucketContract(BucketContract):
    """What is so in buckets whose objects are copied to this machine to be read."""

    def test_what_was_read_is_read_again_from_the_cache(self, repository, opened):
        digest, contents = fill(repository)
        reader = opened("reader")
        assert same_columns(read_all(reader), contents)
        again = opened("reader")
        counting = CountingStore(again._storage.store)
        again._storage.store = counting
        assert same_columns(read_all(again), contents)
        assert counting.bytes_received < 5_000
        offline = opened("reader", offline=True)
        assert offline.checkout().commit_hash == digest
        assert same_columns(read_all(offline), contents)

    def test_offline_with_part_of_the_data(self, repository, opened):
        fill(repository)
        reader = opened("reader")
        reader.checkout()["labels", 3]
        offline = opened("reader", offline=True)
        with pytest.warns(UserWarning, match="not all data of commit .* is on this machine .*images"):
            checkout = offline.checkout()
        assert checkout["labels", 3] == "label 3"
        with pytest.raises(FileNotFoundError, match=r"images.*offline=True") as caught:
            checkout["images", 3]
        assert type(caught.value) is DataNotLocalError
        checkout.close()
        with pytest.raises(RuntimeError, match="offline=True"):
            opened("never seen", offline=True).checkout()

    def test_offline_nothing_is_written_to_the_bucket(self, repository, opened):
        digest, _ = fill(repository)
        before = {info.path for info in repository._storage.store.list("")}
        offline = opened("first", offline=True)
        assert offline.checkout().commit_hash == digest
        refused = [
            lambda: offline.checkout(write=True),
            lambda: offline.create_branch("side", digest),
            lambda: offline.remove_branch("master", force_delete=True),
            lambda: offline.reset_branch("master", "master@{1}"),
            lambda: offline.restore_branch("master"),
            lambda: offline.reflog("master"),
            lambda: offline.checkout(as_of="2026-01-01"),
        ]
        for attempt in refused:
            with pytest.raises(StoreUnavailableError, match="cannot write to a bucket.*offline=True"):
                attempt()
        assert {info.path for info in repository._storage.store.list("")} == before
        writer = opened("first").checkout(write=True)
        writer["labels", 999] = "the lock is free"
        writer.commit("online")
        writer.close()

    def test_who_made_a_repository_can_open_it_offline_at_once(self, repository, opened):
        offline = opened("first", offline=True)
        assert offline.initialized
        with pytest.raises(DataNotLocalError, match="'master'.*never seen"):
            offline.checkout()
        digest, contents = fill(repository)
        offline = opened("first", offline=True)
        assert offline.checkout().commit_hash == digest
        assert set(contents) == set(offline.checkout())
        assert not opened("second", offline=True).initialized

    def test_a_new_repository_in_an_emptied_bucket_keeps_its_user(self, repository, opened):
        fill(repository)
        store = repository._storage.store
        store.delete([info.path for info in store.list("")])
        again = opened("first")
        again.init("Other User", "other@example.org")
        digest, contents = fill(opened("first"))
        assert opened().log(return_contents=True)["specs"][digest]["commit_user"] == "Other User"
        assert same_columns(read_all(opened()), contents)

    def test_a_cache_limit_is_kept(self, repository, opened, tmp_path):
        _, contents = fill(repository)
        noise = {f"noise-{n}": np.random.default_rng(n + 100).integers(0, 256, (64, 64), np.uint8) for n in range(400)}
        for start in range(0, 400, 100):
            add_commit(repository, dict(list(noise.items())[start : start + 100]), column="images")
        small = opened("small", cache_size=600_000)
        found = read_all(small)
        assert all(np.array_equal(found["images"][key], value) for key, value in noise.items())
        assert np.array_equal(found["images"][5], contents["images"][5])
        add_commit(repository, {"last": noise["noise-0"] + 1}, column="images")
        assert np.array_equal(opened("small", cache_size=600_000).checkout()["images", "last"], noise["noise-0"] + 1)
        folder = tmp_path / "machines" / "small"
        used = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
        assert used < 600_000
        assert np.array_equal(small.checkout()["images", "noise-0"], noise["noise-0"])


class TestInAFolder(RepositoryContract):
    @pytest.fixture
    def place(self, tmp_path):
        return tmp_path / "folder"

    @pytest.fixture
    def options(self):
        return None


class TestAtAFileUrl(BucketContract):
    @pytest.fixture
    def place(self, tmp_path):
        return f"file://{tmp_path}/a%20folder"

    @pytest.fixture
    def options(self):
        return None


class TestInMemory(CachedBucketContract):
    @pytest.fixture
    def place(self):
        return f"memory://{uuid.uuid4().hex}/data"

    @pytest.fixture
    def options(self):
        return None


class TestInS3(CachedBucketContract):
    @pytest.fixture
    def place(self, s3_url):
        return s3_url

    @pytest.fixture
    def options(self, s3_options):
        return s3_options


class TestInGcs(CachedBucketContract):
    @pytest.fixture
    def place(self, gcs_url):
        return gcs_url

    @pytest.fixture
    def options(self, gcs_options):
        return gcs_options


def test_a_prefix_beside_another_is_another_repository(s3_url, s3_options, tmp_path):
    one = make_repository(s3_url, storage_options=s3_options, cache_dir=tmp_path)
    two = make_repository(f"{s3_url}-2", storage_options=s3_options, cache_dir=tmp_path)
    add_commit(one, {0: np.zeros(100)})
    add_commit(two, {0: np.ones(100)})
    one.init("a", "b", remove_old=True)
    assert read_all(two)["array"][0][0] == 1


def test_a_bucket_that_is_not_there(s3_options, tmp_path):
    with pytest.raises(BucketNotFoundError, match="s3://no-such-bucket-here"):
        Repository("s3://no-such-bucket-here/x", storage_options=s3_options, cache_dir=tmp_path)
    assert not files_of(tmp_path)


def test_wrong_credentials(s3_url, s3_options, tmp_path):
    with pytest.raises(AccessDeniedError, match="credentials were refused"):
        Repository(s3_url, storage_options={**s3_options, "secret": "wrong"}, cache_dir=tmp_path)


def test_no_server(s3_server, s3_url, tmp_path):
    options = s3_server.options_for("http://127.0.0.1:9")
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        Repository(s3_url, storage_options=options, cache_dir=tmp_path)


def test_credentials_that_may_only_read(s3_server, s3_url, s3_options, tmp_path):
    repository = make_repository(s3_url, storage_options=s3_options, cache_dir=tmp_path / "writer")
    digest, contents = fill(repository)
    reader = Repository(s3_url, storage_options=s3_server.reader_options, cache_dir=tmp_path / "reader")
    assert same_columns(read_all(reader), contents)
    writer = reader.checkout(write=True)
    writer["labels", 0] = "mine"
    with pytest.raises(PermissionError, match="do not allow"):
        writer.commit("not allowed")
    assert writer["labels", 0] == "mine"
    writer.close()
    assert repository.checkout().commit_hash == digest
    with pytest.raises(PermissionError):
        reader.create_branch("mine")
