"""`hangar completion`."""

from __future__ import annotations

import click

from hangar_cloud.cli.guard import GuardedCommand


@click.command(cls=GuardedCommand)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete hangar's commands.

    Options are completed too, and the names of branches, tags, columns, remotes and stashes. These come from this
    machine: no key press waits for the network.

    \b
    bash:  echo 'eval "$(hangar completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(hangar completion zsh)"' >> ~/.zshrc
    fish:  hangar completion fish > ~/.config/fish/completions/hangar.fish
    """
    from click.shell_completion import get_completion_class

    from hangar_cloud.cli.cli import main

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(main, {}, "hangar", "_HANGAR_COMPLETE").source())
