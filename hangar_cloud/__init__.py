"""Git for tensors, where a cloud bucket is the repository.

Importing this package is cheap on purpose: the names below are loaded on first use, so that ``hangar --help``
and a forked worker that never touches a store do not pay for pyarrow, duckdb and the cloud clients.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hangar_cloud.catalog.findings import Finding
    from hangar_cloud.loaders.filtering import keys_where
    from hangar_cloud.loaders.numpy_dataset import make_numpy_dataset
    from hangar_cloud.loaders.tf_dataset import make_tf_dataset
    from hangar_cloud.loaders.torch_dataset import make_torch_dataset
    from hangar_cloud.loaders.torch_stream import make_torch_stream
    from hangar_cloud.reading import set_read_ahead, set_read_memory
    from hangar_cloud.repository import Repository
    from hangar_cloud.request_limit import set_request_limit

__version__ = "0.1.0"  # the single source: pyproject.toml reads this literal without importing the package

__all__ = [
    "Finding",
    "Repository",
    "__version__",
    "keys_where",
    "make_numpy_dataset",
    "make_tf_dataset",
    "make_torch_dataset",
    "make_torch_stream",
    "set_read_ahead",
    "set_read_memory",
    "set_request_limit",
]

_HOMES = {
    "Finding": "hangar_cloud.catalog.findings",
    "Repository": "hangar_cloud.repository",
    "keys_where": "hangar_cloud.loaders.filtering",
    "make_numpy_dataset": "hangar_cloud.loaders.numpy_dataset",
    "make_tf_dataset": "hangar_cloud.loaders.tf_dataset",
    "make_torch_dataset": "hangar_cloud.loaders.torch_dataset",
    "make_torch_stream": "hangar_cloud.loaders.torch_stream",
    "set_read_ahead": "hangar_cloud.reading",
    "set_read_memory": "hangar_cloud.reading",
    "set_request_limit": "hangar_cloud.request_limit",
}


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it, and keep it."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
