"""Text."""

from __future__ import annotations

import os
from typing import Any

from hangar_cloud.errors import UnexportableError, UnreadableFileError
from hangar_cloud.external.base_plugin import BasePlugin
from hangar_cloud.external.file_names import file_of, parse_tagged
from hangar_cloud.external.placing import placed_file


class TextPlugin(BasePlugin):
    """A text file is one str sample, every character of it kept, line ends too."""

    def __init__(self) -> None:
        super().__init__(["load", "save", "show", "board_show"], ["txt", "md", "json", "xml", "html"])

    def load(self, fpath: str | os.PathLike[str], *, encoding: str = "utf-8") -> tuple[str, str]:
        """Read a file: (text, name).

        Raises:
            ValueError: it is not text in that encoding.
        """
        with open(fpath, "rb") as file:
            data = file.read()
        try:
            return data.decode(encoding), self.sample_name(fpath)
        except (UnicodeDecodeError, LookupError) as error:
            raise UnreadableFileError(
                f"{os.fspath(fpath)}: this is no text in {encoding} ({error}); give its encoding, such as latin-1"
            ) from error

    def save(
        self,
        arr: Any,
        outdir: str | os.PathLike[str],
        sample_detail: str,
        extension: str,
        *,
        overwrite: bool = False,
    ) -> str:
        """Write text in UTF-8, and return the path.

        Raises:
            ValueError: the sample is not str, or holds half a character (a lone surrogate), which UTF-8 cannot.
            FileExistsError: there is such a file (unless `overwrite`).
        """
        if not isinstance(arr, str):
            raise UnexportableError(f"sample {sample_detail!r} is {type(arr).__name__}, not text; use npy or bin")
        try:
            data = arr.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UnexportableError(f"sample {sample_detail!r} cannot be a text file: {error}") from error
        path = file_of(outdir, str(parse_tagged(sample_detail)), extension)
        with placed_file(path, overwrite) as temporary:
            temporary.write_bytes(data)
        return str(path)

    def show(self, arr: Any) -> None:
        """Open the text in the system's pager."""
        import pydoc

        pydoc.pager(str(arr))

    def board_show(self, arr: Any) -> str:
        """An HTML element with the text."""
        from hangar_cloud.external.array_text import as_html

        return as_html(str(arr))
