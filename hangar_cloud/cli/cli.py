"""The command `hangar` itself: its options, and where each of its commands is.

Every command object is an attribute of this module, loaded when it is asked for (``cli.init``,
``cli.branch_create``); all of them take a `Repository` as click's ``obj``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import click

from hangar_cloud import __version__
from hangar_cloud.cli.context import Settings
from hangar_cloud.cli.guard import GuardedGroup
from hangar_cloud.cli.storage_option import parse_storage_options

_COMMANDS: Final = {
    "demo": ("demo_command", "demo"),
    "init": ("repository_commands", "init"),
    "clone": ("repository_commands", "clone"),
    "column": ("column_commands", "column"),
    "import": ("import_command", "import_data"),
    "export": ("export_command", "export_data"),
    "view": ("view_command", "view_data"),
    "status": ("history_commands", "status"),
    "diff": ("diff_command", "diff"),
    "commit": ("history_commands", "commit"),
    "restore": ("reset_commands", "restore"),
    "reset": ("reset_commands", "reset"),
    "stash": ("stash_commands", "stash"),
    "log": ("history_commands", "log"),
    "summary": ("history_commands", "summary"),
    "branch": ("branch_commands", "branch"),
    "checkout": ("branch_commands", "checkout"),
    "merge": ("merge_command", "merge"),
    "tag": ("ref_commands", "tag"),
    "reflog": ("ref_commands", "reflog"),
    "remote": ("remote_commands", "remote"),
    "push": ("transfer_commands", "push"),
    "fetch": ("transfer_commands", "fetch_records"),
    "fetch-data": ("transfer_commands", "fetch_data"),
    "prefetch": ("prefetch_command", "prefetch"),
    "server": ("server_command", "server"),
    "verify": ("verify_command", "verify"),
    "gc": ("gc_command", "gc"),
    "purge": ("purge_command", "purge"),
    "repack": ("repack_command", "repack"),
    "cache": ("cache_commands", "cache"),
    "writer-lock": ("repository_commands", "writer_lock_held"),
    "completion": ("completion_command", "completion"),
}

# In the order in which a newcomer meets them. What is in no section is shown in the last one.
_SECTIONS: Final = {
    "Start": ("demo", "init", "clone"),
    "Change what will be committed": ("column", "import", "status", "diff", "commit", "restore", "reset", "stash"),
    "Look at history and data": ("log", "summary", "view", "export"),
    "Branches and tags": ("branch", "checkout", "merge", "tag", "reflog"),
    "Share with others": ("remote", "push", "fetch", "fetch-data", "prefetch", "server"),
    "Keep a repository in order": ("verify", "gc", "purge", "repack", "cache", "writer-lock"),
}
_LAST_SECTION: Final = "Other"

_OBJECTS: Final = {
    **{attribute: module for module, attribute in _COMMANDS.values()},
    "branch_create": "branch_commands",
    "branch_list": "branch_commands",
    "branch_remove": "branch_commands",
    "branch_reset": "branch_commands",
    "branch_restore": "branch_commands",
    "cache_clear": "cache_commands",
    "cache_limit": "cache_commands",
    "cache_show": "cache_commands",
    "tag_create": "ref_commands",
    "tag_delete": "ref_commands",
    "tag_list": "ref_commands",
    "tag_push": "ref_commands",
    "alter_column": "column_commands",
    "create_column": "column_commands",
    "list_columns": "column_commands",
    "remove_column": "column_commands",
    "rename_column": "column_commands",
    "add_remote": "remote_commands",
    "list_remotes": "remote_commands",
    "ping_remote": "remote_commands",
    "remove_remote": "remote_commands",
    "drop_stash": "stash_commands",
    "list_stashes": "stash_commands",
    "pop_stash": "stash_commands",
    "save_stash": "stash_commands",
}


def load_command(name: str, asked: str = __name__) -> Any:
    """The command object of a function name. Raises AttributeError where there is none."""
    module = _OBJECTS.get(name)
    if module is None:
        raise AttributeError(f"module {asked!r} has no attribute {name!r}")
    return getattr(import_module(f"hangar_cloud.cli.{module}"), name)


def __getattr__(name: str) -> Any:
    return load_command(name)


def sections() -> dict[str, list[str]]:
    """Names of the commands by the section of the help that they are in."""
    found = {title: [name for name in names if name in _COMMANDS] for title, names in _SECTIONS.items()}
    placed = {name for names in found.values() for name in names}
    return {**found, _LAST_SECTION: [name for name in _COMMANDS if name not in placed]}


class LazyGroup(GuardedGroup):
    """Imports a command's module when that command, or help about it, is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in sections().values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        found: click.Command = load_command(_COMMANDS[cmd_name][1])
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, _COMMANDS))
        limit = formatter.width - 6 - width
        for title, names in sections().items():
            with formatter.section(title):
                commands = [(name, self.get_command(ctx, name)) for name in names]
                rows = [(name.ljust(width), command.get_short_help_str(limit)) for name, command in commands if command]
                formatter.write_dl(rows)


def _set_color(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.color = {"always": True, "never": False, "auto": ctx.color}[value]


@click.group(cls=LazyGroup, name="hangar")
@click.version_option(__version__, prog_name="hangar")
@click.option(
    "-C",
    "location",
    metavar="DIR_OR_URL",
    default=".",
    help="The repository's folder, or the URL of a bucket that is one. Default: this folder.",
)
@click.option(
    "--storage-option",
    "storage_options",
    metavar="KEY=VALUE",
    multiple=True,
    callback=parse_storage_options,
    help="Setting for buckets, as their fsspec driver takes it; may be repeated. KEY may be a path such as "
    "client_kwargs.region_name. Never written to disk. Secrets are better given in the environment.",
)
@click.option(
    "-b",
    "--branch",
    metavar="BRANCH",
    help="Branch of a bucket to look at and to write to. Default: master. In a folder, `hangar checkout` chooses it.",
)
@click.option("--offline", is_flag=True, help="Ask nobody over the network; what is not on this machine is an error.")
@click.option("--no-pager", is_flag=True, help="Do not send long output through a pager, even on a terminal.")
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    callback=_set_color,
    expose_value=False,
    help="When to colour. Default: on terminals, unless NO_COLOR is set.",
)
@click.option("--no-progress", is_flag=True, help="Draw no progress bars. They are only drawn on terminals anyway.")
@click.option("--debug", is_flag=True, help="Show where in the code an error comes from.")
@click.pass_context
def main(
    ctx: click.Context,
    location: str,
    storage_options: dict[str, Any],
    branch: str | None,
    offline: bool,
    no_pager: bool,
    no_progress: bool,
    debug: bool,
) -> None:
    """Git for tensors, where a cloud bucket is the repository.

    Commands work on the repository in this folder, or on the one named with -C. For buckets, credentials come
    from the usual places: AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS and
    so on.

    Try `hangar demo` first. Exit codes: 0 is success, 1 an error, 2 wrong usage.
    """
    if ctx.obj is None:
        ctx.obj = Settings(location, storage_options, offline, branch)
    if no_progress:
        from hangar_cloud.progress import set_progress

        set_progress(False)
    ctx.meta["hangar.debug"] = debug
    ctx.meta["hangar.no_pager"] = no_pager
