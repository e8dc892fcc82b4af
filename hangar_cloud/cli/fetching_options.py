"""Options of the commands that bring samples here."""

from __future__ import annotations

from typing import Final

import click

from hangar_cloud.cli import completing

only_columns: Final = click.option(
    "-d",
    "--column",
    "columns",
    metavar="<column>",
    multiple=True,
    shell_complete=completing.columns,
    help="Only this column; may be repeated.",
)
all_history: Final = click.option("-a", "--all-history", is_flag=True, help="Also the samples of all earlier commits.")
