"""Columns: adding and removing them in the staging area."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from hangar_cloud.cli.context import with_repository, writing
from hangar_cloud.cli.guard import GuardedGroup

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository

_NUMBERS: Final = ("UINT8", "INT8", "UINT16", "INT16", "UINT32", "INT32", "UINT64", "INT64")
_FRACTIONS: Final = ("FLOAT16", "FLOAT32", "FLOAT64", "COMPLEX64", "COMPLEX128")
_SHAPELESS: Final = ("STR", "BYTES")


@click.group(cls=GuardedGroup)
def column() -> None:
    """Add and remove columns."""


@column.command("create")
@click.option("--variable-shape", is_flag=True, help="Samples may be smaller than SHAPE, in every dimension.")
@click.option("--contains-subsamples", is_flag=True, help="Each sample is a set of subsamples with keys of their own.")
@click.argument("name")
@click.argument(
    "dtype", metavar="DTYPE", type=click.Choice(["BOOL", *_NUMBERS, *_FRACTIONS, *_SHAPELESS], case_sensitive=False)
)
@click.argument("shape", nargs=-1, type=int)
@with_repository
def create_column(
    repository: Repository,
    variable_shape: bool,
    contains_subsamples: bool,
    name: str,
    dtype: str,
    shape: tuple[int, ...],
) -> None:
    """Add a column NAME of DTYPE to what will be committed.

    DTYPE is BOOL, INT8 to INT64, UINT8 to UINT64, FLOAT16 to FLOAT64, COMPLEX64, COMPLEX128, STR or BYTES.
    SHAPE is the size of each dimension of a sample, one number each; without it samples are single numbers.
    STR and BYTES columns have none.

    \b
    Images of 256 x 256 pixels in colour:
      hangar column create images UINT8 256 256 3
    Images of at most that size:
      hangar column create images UINT8 256 256 3 --variable-shape
    Captions:
      hangar column create captions STR
    """
    dtype = dtype.upper()
    if dtype in _SHAPELESS and (shape or variable_shape):
        raise click.UsageError(f"a {dtype} column has no shape; leave SHAPE and --variable-shape out")
    with writing(repository) as writer:
        if dtype == "STR":
            writer.add_str_column(name, contains_subsamples)
        elif dtype == "BYTES":
            writer.add_bytes_column(name, contains_subsamples)
        else:
            writer.add_ndarray_column(
                name,
                shape=shape,
                dtype=dtype.lower(),
                variable_shape=variable_shape,
                contains_subsamples=contains_subsamples,
            )
        where = writer.branch_name
    click.echo(f"Column {name} is staged on branch {where}; `hangar commit` records it.")


@column.command("remove")
@click.argument("name")
@with_repository
def remove_column(repository: Repository, name: str) -> None:
    """Remove the column NAME, with all its samples, from what will be committed.

    Earlier commits keep it.
    """
    with writing(repository) as writer:
        writer.columns.delete(name)
        where = writer.branch_name
    click.echo(f"The removal of column {name} is staged on branch {where}; `hangar commit` records it.")
