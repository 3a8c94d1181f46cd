"""The error for an image file that cannot be used."""

from __future__ import annotations

from pathlib import Path

from SemiSupSegLib.errors import SemiSupSegError


class ImageFileError(SemiSupSegError):
    """An image file is damaged or not what it should be.

    Args:
        code: A reason's code, such as `unreadable`.
        file: The file or series folder.
        message: What is wrong, naming the file, without a final stop.
        remedy: What to do, without a final stop.
    """

    def __init__(self, code: str, file: Path, message: str, remedy: str):
        super().__init__(f"{file.parent}: {message}. {remedy}.")
        self.code = code
        self.file = file
        self.message = message
        self.remedy = remedy
