"""Work with an idempotency key that is done again: only what the branch holds already is dropped."""

from __future__ import annotations

import warnings

import numpy as np
import pytest


@pytest.fixture
def done(committed):
    """A writer of a branch that holds the work of the key "k"."""
    writer = committed.checkout(write=True)
    writer["text", 0] = "work"
    digest = writer.commit("work", idempotency_key="k")
    yield writer, digest
    writer.close()


def test_a_backend_that_was_changed_is_kept_in_a_stash(done):
    writer, digest = done
    writer["array"].change_backend("p0")
    with pytest.warns(UserWarning, match="is kept in stash 'repeated-"):
        assert writer.commit("work", idempotency_key="k") == digest
    assert writer["array"].backend == "i0"
    writer.stash.pop()
    assert writer["array"].backend == "p0"
    writer.reset_staging_area(force=True)


def test_a_backend_that_the_branch_has_by_now_is_dropped(done):
    writer, digest = done
    writer["array"].change_backend("p0")
    writer.commit("the backend", idempotency_key="k2")
    writer["array", 1] = np.full(3, 1, np.float32)
    writer["text", 0] = "work"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert writer.commit("work", idempotency_key="k") == digest
    assert writer["array"].backend == "p0"
    assert writer.stash.list() == []
