"""``python -m hangar_cloud.cli``: the same as ``python -m hangar_cloud``."""

from __future__ import annotations

from hangar_cloud.cli import main

if __name__ == "__main__":
    main(prog_name="hangar")
