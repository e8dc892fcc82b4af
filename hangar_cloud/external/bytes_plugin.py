"""Files as they are."""

from __future__ import annotations

import os
from typing import Any

from hangar_cloud.errors import UnexportableError
from hangar_cloud.external.base_plugin import BasePlugin
from hangar_cloud.external.file_names import file_of, parse_tagged
from hangar_cloud.external.placing import placed_file


class BytesPlugin(BasePlugin):
    """A file is one bytes sample. Named by ``plugin="bytes"`` it keeps files of any ending, undecoded."""

    def __init__(self) -> None:
        super().__init__(["load", "save", "board_show"], ["bin"])

    def load(self, fpath: str | os.PathLike[str]) -> tuple[bytes, str]:
        """Read a file: (its bytes, name)."""
        with open(fpath, "rb") as file:
            return file.read(), self.sample_name(fpath)

    def save(
        self,
        arr: Any,
        outdir: str | os.PathLike[str],
        sample_detail: str,
        extension: str,
        *,
        overwrite: bool = False,
    ) -> str:
        """Write bytes, and return the path.

        Raises:
            ValueError: the sample is not bytes.
            FileExistsError: there is such a file (unless `overwrite`).
        """
        if not isinstance(arr, bytes):
            raise UnexportableError(f"sample {sample_detail!r} is {type(arr).__name__}, not bytes; use npy or txt")
        path = file_of(outdir, str(parse_tagged(sample_detail)), extension)
        with placed_file(path, overwrite) as temporary:
            temporary.write_bytes(arr)
        return str(path)

    def board_show(self, arr: Any) -> str:
        """An HTML element with the first of the bytes."""
        from hangar_cloud.external.array_text import as_html, describe_sample

        return as_html(describe_sample(arr))
