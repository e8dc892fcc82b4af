"""What the Hugging Face `datasets` library notes about columns: pictures, sounds, classes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any, Final

from hangar_cloud.errors import HangarError, UnreadableFileError
from hangar_cloud.external.audio_plugin import describe_audio, read_audio
from hangar_cloud.external.image_plugin import describe_image, read_image

_NOTE: Final = b"huggingface"
_READERS: Final = {"Image": read_image, "Audio": read_audio}
_DESCRIBERS: Final = {"Image": describe_image, "Audio": describe_audio}


def features_of(schema: Any) -> dict[str, dict[str, Any]]:
    """The features of the columns of an Arrow schema, by name; empty where there are none, or they are damaged."""
    try:
        features = json.loads((schema.metadata or {}).get(_NOTE, b"{}"))["info"]["features"]
        return {str(name): one for name, one in features.items() if isinstance(one, dict)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def is_media(feature: dict[str, Any] | None) -> bool:
    """Whether a column holds files of pictures or sounds."""
    return (feature or {}).get("_type") in _READERS


def class_names(feature: dict[str, Any] | None) -> list[str] | None:
    """The names of the classes whose numbers a column holds; None where it holds something else."""
    if (feature or {}).get("_type") != "ClassLabel":
        return None
    names = (feature or {}).get("names")
    return [str(name) for name in names] if isinstance(names, list) and names else None


def decode_classes(names: list[str], array: Any) -> Iterator[Any]:
    """The name of each class; None where there is none, also for -1, which stands for "not known"."""
    for number in array.to_pylist():
        if number is None or number == -1:
            yield None
        elif 0 <= number < len(names):
            yield names[number]
        else:
            yield UnreadableFileError(f"there is no class {number}; the dataset names {len(names)}")


def decode_media(feature: dict[str, Any], array: Any, describe: bool = False) -> Iterator[Any]:
    """The array of each picture or sound, or with `describe` its `ArrayFacts`; None where there is none.

    What cannot be read is an error in its place.
    """
    read: Any = (_DESCRIBERS if describe else _READERS)[feature["_type"]]
    for row in array.to_pylist():
        data = row.get("bytes") if isinstance(row, dict) else row
        if row is None:
            yield None
        elif not isinstance(data, bytes):
            # A path is one of the machine that made the dataset: here it may be any file.
            yield UnreadableFileError("the dataset only names a file, whose contents are not in it")
        else:
            try:
                yield read(BytesIO(data), f"a {feature['_type'].lower()}")
            except ImportError:
                raise
            except HangarError as error:
                yield error
