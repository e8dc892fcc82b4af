"""Columns: adding and removing them in the staging area."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from hangar_cloud.cli import completing
from hangar_cloud.cli.context import with_repository, writing
from hangar_cloud.cli.guard import GuardedGroup
from hangar_cloud.cli.json_output import json_option, print_json
from hangar_cloud.cli.names import start_at

if TYPE_CHECKING:
    from hangar_cloud.repository import Repository

_NUMBERS: Final = ("UINT8", "INT8", "UINT16", "INT16", "UINT32", "INT32", "UINT64", "INT64")
_FRACTIONS: Final = ("FLOAT16", "FLOAT32", "FLOAT64", "COMPLEX64", "COMPLEX128")
_SHAPELESS: Final = ("STR", "BYTES")


@click.group(cls=GuardedGroup)
def column() -> None:
    """Add, list, alter, rename and remove columns."""


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


@column.command("list")
@json_option(
    commit="digest of the commit; null for what the next commit would hold",
    columns="a list: column, type, layout, schema_type, dtype, shape, backend, backend_options, samples",
)
@click.argument("startpoint", required=False, shell_complete=completing.commits)
@with_repository
def list_columns(repository: Repository, startpoint: str | None, as_json: bool) -> None:
    """List the columns of STARTPOINT; without it, those that the next commit would hold.

    STARTPOINT is a branch, a tag, or the first digits of a commit.
    """
    from hangar_cloud.cli.documents import column_document
    from hangar_cloud.status import describe, next_columns

    start = start_at(repository, startpoint)
    digest = repository._branches.find(next(iter(start.values()))) if start else None
    if digest is None:
        found = next_columns(repository._storage, repository._branches.current())
    else:
        found = {name: (entry, entry.count) for name, entry in repository._storage.commit(digest).columns.items()}
    columns = {name: (entry, count) for name, (entry, count) in found.items() if name}
    if as_json:
        documents = [column_document(name, entry, count) for name, (entry, count) in columns.items()]
        print_json({"commit": digest, "columns": documents})
        return
    width = max(map(len, columns), default=0)
    for name, (entry, count) in columns.items():
        click.echo(f"{name:<{width}}  {describe(entry.schema)}: {count:,} sample{'' if count == 1 else 's'}")
    if not columns:
        click.echo("There are no columns; `hangar column create` adds one.", err=True)


@column.command("alter")
@click.option(
    "--dtype",
    type=click.Choice(["BOOL", *_NUMBERS, *_FRACTIONS], case_sensitive=False),
    metavar="DTYPE",
    help="Another type of numbers; every value has to be the same in it.",
)
@click.option("--shape", metavar="SIZES", help="Another shape, or maximum: sizes with commas, such as 512,512,3.")
@click.option("--variable-shape/--fixed-shape", default=None, help="Whether samples may be smaller than the shape.")
@click.argument("name", shell_complete=completing.columns)
@with_repository
def alter_column(
    repository: Repository, name: str, dtype: str | None, shape: str | None, variable_shape: bool | None
) -> None:
    """Give the column NAME of arrays another dtype, shape or kind of shape.

    All its samples are checked first: if one would lose something, it is named and nothing is changed.
    """
    if dtype is None and shape is None and variable_shape is None:
        raise click.UsageError("say what to alter: --dtype, --shape, --variable-shape or --fixed-shape")
    sizes = None if shape is None else _sizes(shape)
    with writing(repository) as writer:
        altered = writer.columns.alter(name, dtype.lower() if dtype else None, sizes, variable_shape)
        what = f"{altered.dtype}, {altered.schema_type.partition('_')[0]} shape {altered.shape}"
        where = writer.branch_name
    click.echo(f"Column {name} ({what}) is staged on branch {where}; `hangar commit` records it.")


@column.command("rename")
@click.argument("name", shell_complete=completing.columns)
@click.argument("new_name")
@with_repository
def rename_column(repository: Repository, name: str, new_name: str) -> None:
    """Rename the column NAME to NEW_NAME. No data is moved."""
    with writing(repository) as writer:
        writer.columns.rename(name, new_name)
        where = writer.branch_name
    click.echo(f"The new name {new_name} is staged on branch {where}; `hangar commit` records it.")


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError:
        raise click.UsageError(f"--shape takes sizes with commas, such as 512,512,3, not {text!r}") from None


@column.command("remove")
@click.argument("name", shell_complete=completing.columns)
@with_repository
def remove_column(repository: Repository, name: str) -> None:
    """Remove the column NAME, with all its samples, from what will be committed.

    Earlier commits keep it.
    """
    with writing(repository) as writer:
        writer.columns.delete(name)
        where = writer.branch_name
    click.echo(f"The removal of column {name} is staged on branch {where}; `hangar commit` records it.")
