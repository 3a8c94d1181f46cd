"""Looking into image files: header, voxels, hashes; remembered between scans."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.image_error import ImageFileError
from SemiSupSegLib.cases.label_values import distinct_values
from SemiSupSegLib.cases.reading import (
    ImageHeader,
    Volumes,
    files_of,
    header_from_json,
    read_header,
    read_volumes,
)
from SemiSupSegLib.files import replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

_RECORD = 3
"""Version of the records in the cache; others are ignored."""

_HIGHEST_LABEL, _MOST_LABELS = 255, 16
"""An image with no higher and no more values may be a label map."""

Stamp = tuple[tuple[int, int], ...]
"""Size and modification time (ns) of each file of an image."""


@dataclass(frozen=True, kw_only=True)
class VolumeFacts:
    """What a check of one volume's voxels found."""

    sha256: str
    """Of shape and real values: equal for one image in two files of other packing or type."""
    num_not_finite: int
    minimum: float
    """Of the finite voxels; 0 if there are none."""
    maximum: float
    values: tuple[float, ...] | None
    """Distinct values of a label map, and of an image that has as few; None for other images."""


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """What is known of one image file."""

    header: ImageHeader
    sha256: str = ""
    """Of the bytes on disk; empty before the content check."""
    volumes: tuple[VolumeFacts, ...] = ()
    """Empty before the content check."""

    def is_enough(self, content: bool, values: bool) -> bool:
        """Return whether the facts hold what a check would find."""
        has_values = all(one.values is not None for one in self.volumes)
        return not content or (bool(self.volumes) and (has_values or not values))


class ScanCache:
    """Facts about files by path, size and time, kept as JSON lines; safe to share and to delete.

    Args:
        path: The cache file; None remembers nothing.
    """

    def __init__(self, path: Path | None):
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Stamp, FileFacts]] = {}
        self._num_lines = 0
        self._line_start = ""
        if path is not None:
            self._load(path)

    def get(self, source: ImageSource, stamp: Stamp) -> FileFacts | None:
        """Return the facts about a file that has not changed since, if there are any."""
        known = self._known.get(_key(source))
        return known[1] if known is not None and known[0] == stamp else None

    def put(self, source: ImageSource, stamp: Stamp, facts: FileFacts) -> None:
        """Remember facts, at once also on disk."""
        with self._lock:
            self._known[_key(source)] = (stamp, facts)
            if self._path is None:
                return
            try:
                with self._path.open("a", encoding="utf-8", newline="\n") as stream:
                    stream.write(self._line_start + _line(_key(source), stamp, facts))
                self._num_lines += 1
                self._line_start = ""
            except OSError as error:
                logger.warning(
                    "%s cannot be written (%s), so the next scan will be as slow as this one.",
                    self._path,
                    error.strerror,
                )
                self._path = None

    def compact(self) -> None:
        """Drop outdated lines once they are most of the file."""
        if self._path is None or self._num_lines < 2 * len(self._known):
            return
        try:
            with replacing(self._path, "w") as stream:
                for key, (stamp, facts) in self._known.items():
                    stream.write(_line(key, stamp, facts))
        except OSError as error:
            logger.warning("%s cannot be written (%s).", self._path, error.strerror)

    def _load(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open(encoding="utf-8", errors="replace") as stream:
                for line in stream:
                    self._num_lines += 1
                    # After a torn last line the next record must begin a line of its own.
                    self._line_start = "" if line.endswith("\n") else "\n"
                    record = _record(line)
                    if record is not None:
                        key, stamp, facts = record
                        self._known[key] = (stamp, facts)
        except FileNotFoundError:
            return
        except OSError as error:
            logger.warning("%s cannot be read (%s).", path, error.strerror)


def default_cache(root: Path, store: Path | None = None) -> Path:
    """Return where facts about the files below `root` are kept (None: the user's own place)."""
    place = os.path.abspath(root)  # noqa: PTH100 - resolve() would follow the user's links
    name = hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return (user_cache_folder() if store is None else store) / "scans" / f"{name}.jsonl"


def user_cache_folder() -> Path:
    """Return the folder for what can be made anew: SEMISUPSEG_STORE, else the user's cache."""
    chosen = os.environ.get("SEMISUPSEG_STORE")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "SemiSupSeg"


def inspect(
    source: ImageSource, cache: ScanCache, *, content: bool, values: bool
) -> tuple[FileFacts, int]:
    """Return what is known of a file, opening it only if the cache does not know.

    Args:
        source: The file; its `component` does not matter.
        cache: Facts from former scans.
        content: Whether the voxels must be checked, not the header alone.
        values: Whether the distinct values are wanted (label maps).

    Returns:
        The facts and the number of bytes read for the content check.

    Raises:
        ImageFileError: If the file is damaged; this is never remembered.
    """
    stamp = _stamp(source)
    known = cache.get(source, stamp)
    if known is not None and known.is_enough(content, values):
        return known, 0
    if content:
        facts = _check(read_volumes(source), values)
    else:
        facts = FileFacts(header=read_header(source))
    cache.put(source, stamp, facts)
    return facts, sum(size for size, _ in stamp) if content else 0


def _check(volumes: Volumes, with_values: bool) -> FileFacts:
    return FileFacts(
        header=volumes.header,
        sha256=volumes.sha256,
        volumes=tuple(
            _volume_facts(volumes, number, with_values) for number in range(len(volumes.values))
        ),
    )


def _volume_facts(volumes: Volumes, number: int, with_values: bool) -> VolumeFacts:
    import numpy as np

    stored = volumes.values[number]
    low, high = stored.min(), stored.max()
    num_not_finite = 0
    # The minimum is NaN if any voxel is, and one of the two is infinite if any voxel is.
    if not (np.isfinite(low) and np.isfinite(high)):
        finite = stored[np.isfinite(stored)]
        num_not_finite = int(stored.size - finite.size)
        low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
    ends = sorted(float(end) * volumes.slope + volumes.intercept for end in (low, high))
    real = volumes.scaled(number)
    values = None
    if with_values and not num_not_finite:
        values = tuple(distinct_values(real))
    elif with_values:
        values = ()
    elif not num_not_finite and ends[0] >= 0 and ends[1] <= _HIGHEST_LABEL:
        values = _few_values(real)
    fits = not num_not_finite and max(-ends[0] - 1, ends[1]) < 1 << 15
    return VolumeFacts(
        sha256=_values_hash(real, fits),
        num_not_finite=num_not_finite,
        minimum=ends[0],
        maximum=ends[1],
        values=values,
    )


def _few_values(values: NDArray[Any]) -> tuple[float, ...] | None:
    """Return the distinct values if they are as few and whole as those of a label map."""
    if not all(_are_whole(one) for one in (values.reshape(-1)[::1009], values)):
        return None
    found = distinct_values(values)
    return tuple(found) if len(found) <= _MOST_LABELS else None


def _values_hash(values: NDArray[Any], fits_int16: bool) -> str:
    """Return the SHA-256 of shape and values: whole ones as int16 if these fit, else float32."""
    import numpy as np

    kind = "<f4"
    # Whole numbers are most common and int16 is the quickest to hash; a sample tells fractions.
    if fits_int16 and all(_are_whole(one) for one in (values.reshape(-1)[::1009], values)):
        kind = "<i2"
    digest = hashlib.sha256(f"{kind} {values.shape}".encode())
    with np.errstate(over="ignore"):
        digest.update(np.ascontiguousarray(values, dtype=kind).data)
    return digest.hexdigest()


def _are_whole(values: NDArray[Any]) -> bool:
    """Return whether all values, which fit int16, are whole."""
    return values.dtype.kind != "f" or bool((values.astype("<i2") == values).all())


def _stamp(source: ImageSource) -> Stamp:
    stamp = []
    for path in files_of(source):
        try:
            status = path.stat()
        except OSError as error:
            raise ImageFileError(
                "unreadable",
                path,
                f"{path.name} cannot be opened ({error.strerror})",
                "Check that it exists and may be read",
            ) from error
        stamp.append((status.st_size, status.st_mtime_ns))
    return tuple(stamp)


def _key(source: ImageSource) -> str:
    return str(source.path) if source.series is None else f"{source.path}#{source.series}"


def _line(key: str, stamp: Stamp, facts: FileFacts) -> str:
    record = {
        "record": _RECORD,
        "path": key,
        "stamp": stamp,
        "header": facts.header.to_json(),
        "sha256": facts.sha256,
        "volumes": [asdict(one) for one in facts.volumes],
    }
    return json.dumps(record) + "\n"


def _record(line: str) -> tuple[str, Stamp, FileFacts] | None:
    """Return a line's content; None for a torn line or another version."""
    try:
        content: Mapping[str, Any] = json.loads(line)
        if content["record"] != _RECORD:
            return None
        facts = FileFacts(
            header=header_from_json(content["header"]),
            sha256=content["sha256"],
            volumes=tuple(
                VolumeFacts(
                    **{
                        **one,
                        "values": None if one["values"] is None else tuple(one["values"]),
                    }
                )
                for one in content["volumes"]
            ),
        )
        stamp = tuple((int(size), int(time)) for size, time in content["stamp"])
        return content["path"], stamp, facts
    except (ValueError, KeyError, TypeError):
        return None
