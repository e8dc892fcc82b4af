"""Columns to be altered, and looking at what altering them did."""

from __future__ import annotations

import shutil
from uuid import uuid4

from hangar_cloud import Repository
from tests.repository.making import files_of, make_repository, same


def column_of(
    values, *, name="x", repository=None, variable=False, shape=None, backend=None, commit=True, tmp_path=None
):
    """A writer with one column of these values, committed."""
    repository = repository or make_repository(tmp_path / "r")
    writer = repository.checkout(write=True)
    first = next(iter(values.values()))
    writer.add_ndarray_column(name, shape or first.shape, first.dtype, variable_shape=variable, backend=backend).update(
        values
    )
    if commit:
        writer.commit("values")
    return repository, writer


def holds(column, values):
    return list(column) == list(values) and all(same(column[key], value) for key, value in values.items())


def reopened(repository, tmp_path):
    """What a writer finds that opens a copy of the folder, made while the first one is open: as after a kill."""
    target = tmp_path / f"killed-{uuid4().hex}"
    shutil.copytree(repository.path, target)
    return Repository(target)


def packs_of(repository):
    return {name: data for name, data in files_of(repository.path).items() if name.endswith(".pack")}


def two_branches(tmp_path, base):
    """A repository with these values in column "x", and two branches of it: master and dev."""
    repository, writer = column_of(base, tmp_path=tmp_path)
    writer.close()
    repository.create_branch("dev")
    return repository


def on(repository, branch):
    """A writer on a branch."""
    return repository.checkout(write=True, branch=branch)
