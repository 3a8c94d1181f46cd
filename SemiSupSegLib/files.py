"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from SemiSupSegLib.errors import SemiSupSegError, renamed


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_RIGHTS = 0o666 & ~_umask()
"""Of any new file. Asked once: the mask can only be read by changing it, for all threads."""


_TRIALS, _WAIT_SECONDS = 50, 0.02
_READERS_LOCK = os.name == "nt"
"""Windows lets no file be replaced while somebody reads it, and progress is read all the time."""


def _temporary(path: Path, suffix: str) -> tuple[int, Path]:
    """Return a new file beside `path`, as a handle and by its name."""
    prefix = f".{path.name}."
    try:
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=path.parent)
    except OSError as error:
        _raise_renamed(error, prefix, path)
        raise
    return handle, Path(name)


def _raise_renamed(error: BaseException, temporary: str, path: Path) -> None:
    """Raise an error anew if it names a temporary file, which tells a user nothing."""
    known = renamed(error, temporary, path)
    if known is not None:
        raise known from error


def _take_place(temporary: Path, path: Path) -> None:
    for trial in range(1, _TRIALS + 1):
        try:
            temporary.replace(path)
            return
        except PermissionError:
            if not _READERS_LOCK or trial == _TRIALS:
                raise
            time.sleep(_WAIT_SECONDS)


@contextlib.contextmanager
def replacing(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` that takes its place when the block ends well.

    The data is flushed to the disk before the rename, so after a power cut there is
    either the former file or the complete new one.

    Args:
        path: The file to create or replace; its folder must exist.
        mode: "wb", or "w" (UTF-8, Unix line ends).
    """
    encoding, errors, newline = (None,) * 3 if "b" in mode else ("utf-8", "backslashreplace", "\n")
    handle, temporary = _temporary(path, ".part")
    try:
        # A file name may hold bytes that are no UTF-8; the escape is one in JSON, too.
        with open(handle, mode, encoding=encoding, errors=errors, newline=newline) as stream:  # noqa: PTH123 (a handle)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes the file private.
        temporary.chmod(_RIGHTS)
        _take_place(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        _raise_renamed(error, temporary.name, path)
        raise


@contextlib.contextmanager
def replacing_path(path: Path) -> Iterator[Path]:
    """Like `replacing`, for libraries that want a file name; the suffix of `path` is kept."""
    suffix = "".join(path.suffixes[-2:]) if path.name.endswith(".gz") else path.suffix
    handle, temporary = _temporary(path, f".part{suffix}")
    os.close(handle)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(_RIGHTS)
        _take_place(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        _raise_renamed(error, temporary.name, path)
        raise


def make_output_folder(folder: Path) -> None:
    """Make a folder if need be, and check that files can be written there.

    For use before long work, whose result would be lost.

    Raises:
        SemiSupSegError: If it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SemiSupSegError(
            f"Nothing can be written to the folder {folder} ({error.strerror}). Choose another "
            "one, or change its rights."
        ) from error


def make_folder_of(file: Path) -> None:
    """Like `make_output_folder`, for the folder of a file that is to be written.

    Raises:
        SemiSupSegError: If the file cannot be written.
    """
    if file.is_dir():
        raise SemiSupSegError(f"{file} is a folder. Give the name of a file.")
    make_output_folder(file.parent)


def write_json(path: Path, content: object) -> None:
    """Replace `path` by `content` as indented JSON; NaN and infinity are refused."""
    with replacing(path, "w") as stream:
        json.dump(content, stream, indent=2, ensure_ascii=False, allow_nan=False)
        stream.write("\n")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        SemiSupSegError: If the file is missing, unreadable or not JSON.
    """
    try:
        # From bytes: a byte order mark, which editors on Windows write, is understood.
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise SemiSupSegError(f"{path} does not exist. Check the path.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise SemiSupSegError(
            f"{path} cannot be read as JSON ({error}). Restore the file or make it anew."
        ) from error
