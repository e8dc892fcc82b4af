"""``python -m hangar_cloud``: the command `hangar`, where that is not on the path."""

from __future__ import annotations

from hangar_cloud.cli import main

if __name__ == "__main__":
    main(prog_name="hangar")
