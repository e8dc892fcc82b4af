"""Which plugins there are, and which one is for a file."""

from __future__ import annotations

import warnings
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from hangar_cloud.errors import PluginError

# Hangar's own group too, so that plugins made for it are found.
GROUPS: Final = ("hangar_cloud.external.plugins", "hangar.external.plugins")
BUILT_IN: Final = {
    "image": ("image_plugin", "ImagePlugin"),
    "numpy": ("numpy_plugin", "NumpyPlugin"),
    "table": ("table_plugin", "TablePlugin"),
    "text": ("text_plugin", "TextPlugin"),
    "audio": ("audio_plugin", "AudioPlugin"),
    "bytes": ("bytes_plugin", "BytesPlugin"),
}


def list_plugins() -> dict[str, Any]:
    """Every plugin that can be loaded, by name: installed ones before built-in ones.

    Warns:
        UserWarning: an installed plugin cannot be loaded; the others are there all the same.
    """
    found = {}
    for name, entry in _installed().items():
        try:
            found[name] = _made(entry)
        except PluginError as error:
            warnings.warn(str(error), UserWarning, stacklevel=2)
    return found | {name: _built_in(name) for name in BUILT_IN if name not in found}


def find_plugin(method: str, plugin: str | None = None, extension: str | None = None) -> Any:
    """The plugin that has a method, by its name or for the ending of a file.

    Where several are for that ending, an installed one goes before a built-in one, and names decide among those.

    Warns:
        UserWarning: several are for that ending; says which one is used.

    Raises:
        PluginError: there is none, or it does not have the method.
    """
    if plugin:
        return _by_name(method, plugin)
    if not extension:
        raise PluginError("give the name of a plugin or the ending of a file: both are missing")
    known = list_plugins()
    # "nii.gz" and then "gz": an ending of two parts goes first.
    for ending in _endings(extension):
        fitting = [name for name, one in known.items() if method in one.provides and accepts(one, ending)]
        if fitting:
            if len(fitting) > 1:
                warnings.warn(
                    f"several plugins {method} .{ending} files: {', '.join(fitting)}; {fitting[0]!r} is used. Name "
                    "another one with plugin=",
                    UserWarning,
                    stacklevel=3,
                )
            return known[fitting[0]]
    raise PluginError(
        f"there is no plugin that can {method} .{_endings(extension)[0]} files; there is: {_told(known)}. Another one "
        f"can be installed, as an entry point of {GROUPS[0]!r}, or named with plugin="
    )


def accepts(plugin: Any, ending: str) -> bool:
    """True if a plugin is for files of that ending (without dot, in small letters)."""
    return ending in {one.lower().lstrip(".") for one in plugin.accepts}


def _endings(extension: str) -> list[str]:
    parts = extension.lower().strip(".").split(".")
    return [".".join(parts[i:]) for i in range(len(parts))]


def _by_name(method: str, name: str) -> Any:
    entry = _installed().get(name)
    if entry is None and name not in BUILT_IN:
        raise PluginError(f"there is no plugin {name!r}; there is: {', '.join([*_installed(), *BUILT_IN])}")
    found = _built_in(name) if entry is None else _made(entry)
    if method not in found.provides:
        raise PluginError(f"the plugin {name!r} cannot {method}; it has {', '.join(found.provides)}")
    return found


def _told(known: dict[str, Any]) -> str:
    return ", ".join(f"{name} ({' '.join(one.accepts)})" for name, one in known.items())


@cache
def _installed() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for group in GROUPS:
        for entry in sorted(entry_points(group=group), key=lambda one: one.name):
            found.setdefault(entry.name, entry)
    return found


@cache
def _made(entry: EntryPoint) -> Any:
    try:
        loaded = entry.load()
        made = loaded() if isinstance(loaded, type) else loaded
        made.provides, made.accepts  # noqa: B018
    except Exception as error:
        raise PluginError(
            f"the plugin {entry.name!r} ({entry.value}) cannot be loaded: {type(error).__name__}: {error}. Update or "
            "uninstall its package"
        ) from error
    return made


@cache
def _built_in(name: str) -> Any:
    module, kind = BUILT_IN[name]
    return getattr(import_module(f"hangar_cloud.external.{module}"), kind)()
