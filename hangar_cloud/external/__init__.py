"""Everything that comes from other formats, and goes to them: files, tables, whole datasets.

`load`, `save`, `show` and `board_show` work on one sample and one file, by a plugin. `import_files` and
`export_files` do so for folders of files, `import_dataset` and `export_dataset` for whole datasets of other tools.

Importing it is cheap: the names below are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hangar_cloud.external.base_plugin import ArrayFacts, BasePlugin
    from hangar_cloud.external.datasets import export_dataset, import_dataset
    from hangar_cloud.external.file_export import export_files
    from hangar_cloud.external.file_import import import_files
    from hangar_cloud.external.high_level import board_show, load, save, show
    from hangar_cloud.external.plugin_registry import list_plugins
    from hangar_cloud.external.transfer_report import ExportReport, ImportReport, Refused

__all__ = [
    "ArrayFacts",
    "BasePlugin",
    "ExportReport",
    "ImportReport",
    "Refused",
    "board_show",
    "export_dataset",
    "export_files",
    "import_dataset",
    "import_files",
    "list_plugins",
    "load",
    "save",
    "show",
]

_HOMES = {
    "ArrayFacts": "base_plugin",
    "BasePlugin": "base_plugin",
    "ExportReport": "transfer_report",
    "ImportReport": "transfer_report",
    "Refused": "transfer_report",
    "board_show": "high_level",
    "export_dataset": "datasets",
    "export_files": "file_export",
    "import_dataset": "datasets",
    "import_files": "file_import",
    "list_plugins": "plugin_registry",
    "load": "high_level",
    "save": "high_level",
    "show": "high_level",
}


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it, and keep it."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
