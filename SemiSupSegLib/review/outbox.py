"""Decisions on their way: first kept on this machine, then added to the record of the result.

The folder of a result may be on a share that does not answer, and the window writes local files
only. So a worker gives it a copy of the record, the window adds to the copy, and workers carry
what is new to the result's folder, as often as it takes.

<user data>/reviews/<case>-<id of the review>/
    outbox.json                       of which result, by whom
    review.<reviewer>.jsonl           the copy of the record, to which the window adds
    review.<reviewer>.regions.json    the regions that it lists
    carried.json                      how much of the copy is in the result's folder
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import read_json, replacing, write_json
from SemiSupSegLib.models.registry import user_data_folder
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.review.journal import add_lines, create_file, put_aside, whole_lines
from SemiSupSegLib.review.record import ReviewRecord, copy_companions

FORMAT, VERSION = "semisupseg-review-outbox", 1
_BOX, _CARRIED = "outbox.json", "carried.json"
_KEEP_SECONDS = 14 * 86400.0


@dataclass(frozen=True, kw_only=True)
class Outbox:
    """A copy of a record on this machine."""

    path: Path
    """Its folder."""
    folder: Path
    """The result's folder, OUT/<case>; it may not answer."""
    reviewer: str

    @property
    def record_file(self) -> Path:
        """The copy of the record."""
        return self.path / f"review.{self.reviewer}.jsonl"

    @property
    def is_waiting(self) -> bool:
        """Whether something in it is not in the result's folder yet; only local files are read."""
        try:
            size = self.record_file.stat().st_size
        except OSError:
            return False
        try:
            return bool(read_json(self.path / _CARRIED)["seen"] != size)
        except (SemiSupSegError, KeyError, TypeError):
            return True


@dataclass(frozen=True, kw_only=True)
class Carried:
    """Where the lines of an outbox are now."""

    target: Path
    """The record in the result's folder."""
    is_aside: bool
    """Whether somebody else has gone on with the review meanwhile, so that it is a file of its own.
    """


def outboxes() -> tuple[Outbox, ...]:
    """Return all of this user and machine, those that cannot be read left out."""
    try:
        paths = sorted((user_data_folder() / "reviews").iterdir())
    except OSError:
        return ()
    found = []
    for path in paths:
        with contextlib.suppress(SemiSupSegError):
            found.append(outbox(path))
    return tuple(found)


def outbox(path: Path) -> Outbox:
    """Return the outbox in a folder.

    Raises:
        SemiSupSegError: If there is none, or it is damaged.
    """
    content = read_json(path / _BOX)
    check_format(content, "review-outbox", path / _BOX)
    return Outbox(path=path, folder=Path(content["folder"]), reviewer=content["reviewer"])


def copy_to_outbox(record: ReviewRecord) -> Outbox:
    """Return an outbox whose copy holds all that a record holds.

    Call `carry_all` first: what waits in the outbox is then in the result's folder.

    Args:
        record: In the result's folder.

    Raises:
        SemiSupSegError: If a file cannot be read or written.
    """
    name = re.sub(r"[^\w.-]", "_", record.case)[:60]
    path = user_data_folder() / "reviews" / f"{name}-{record.id}"
    box = Outbox(path=path, folder=_absolute(record.folder), reviewer=record.reviewer)
    data = whole_lines(record.path)
    listed = f"review.{record.reviewer}.regions.json"
    try:
        regions = (record.folder / listed).read_bytes()
    except OSError as error:
        raise SemiSupSegError(
            f"{record.folder / listed} cannot be read ({error.strerror}), so nobody can tell which "
            "regions the review is about. Restore it, or begin the review anew."
        ) from error
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        with replacing(path / listed) as stream:
            stream.write(regions)
        if box.record_file.exists() and add_lines(box.record_file, data) is None:
            # Its own lines went aside in the result's folder.
            put_aside(box.record_file, path / f"superseded.{time.time_ns()}.jsonl")
        if not box.record_file.exists():
            create_file(box.record_file, data)
        _note(box, len(data))
        write_json(
            path / _BOX,
            {
                "format": FORMAT,
                "version": VERSION,
                "case": record.case,
                "folder": str(box.folder),
                "reviewer": box.reviewer,
            },
        )
    except OSError as error:
        raise SemiSupSegError(
            f"What is decided about {record.case} cannot be kept in {path} ({error.strerror}). "
            "Make room on the disk or check the folder's rights."
        ) from error
    return box


def carry(box: Outbox) -> Carried:
    """Add what is new in an outbox to the record in the result's folder; harmless if repeated.

    Where another program has written other lines meanwhile, both are kept: those of the outbox go
    to `review.<reviewer>.<n>.jsonl`, and so does what follows them.

    Raises:
        SemiSupSegError: If the result's folder cannot be read or written; all waits on.
    """
    size = box.record_file.stat().st_size
    data = whole_lines(box.record_file)
    stem = f"review.{box.reviewer}"
    main = box.folder / f"{stem}.jsonl"
    try:
        if not box.folder.is_dir():
            raise FileNotFoundError(2, "it is not there", str(box.folder))
        targets, number = [main], 1
        while (aside := box.folder / f"{stem}.{number}.jsonl").exists():
            targets.append(aside)
            number += 1
        head = data[: data.find(b"\n") + 1]
        of_this_review = [one for one in targets if _begins_with(one, head)]
        for target in of_this_review:
            if add_lines(target, data) is not None:
                break
        else:
            target = aside
            if main in of_this_review:
                copy_companions(box.folder, box.reviewer, number)
            create_file(target, data)
    except OSError as error:
        raise SemiSupSegError(
            f"{box.folder} cannot be written ({error.strerror or error}). What was decided is kept "
            "on this machine and is added as soon as that works. Check the folder, its share and "
            "its rights."
        ) from error
    _note(box, size)
    return Carried(target=target, is_aside=target != main)


def carry_all(folder: Path) -> tuple[Carried, ...]:
    """Carry what waits for a result, or for the results in a folder.

    A folder that was moved, or goes by another path, is known by the records in it.

    Args:
        folder: OUT/<case> or OUT.

    Raises:
        SemiSupSegError: As `carry`.
    """
    wanted = _absolute(folder)
    done = []
    for box in outboxes():
        if not box.is_waiting:
            continue
        if wanted in (box.folder, box.folder.parent):
            done.append(carry(box))
            continue
        place = _place_below(wanted, box)
        if place is not None:
            # It may have been copied: then the former folder gets it, too.
            with contextlib.suppress(SemiSupSegError):
                carry(box)
            done.append(carry(replace(box, folder=place)))
    return tuple(done)


def forget_old() -> None:
    """Remove outboxes that nobody has used for two weeks, and in which nothing waits."""
    for box in outboxes():
        if not box.is_waiting and time.time() - box.record_file.stat().st_mtime > _KEEP_SECONDS:
            shutil.rmtree(box.path, ignore_errors=True)


def _place_below(folder: Path, box: Outbox) -> Path | None:
    """Return where the review of an outbox lies: in a folder OUT/<case> or OUT; None: neither."""
    data = whole_lines(box.record_file)
    head = data[: data.find(b"\n") + 1]
    for place in (folder, folder / box.folder.name):
        try:
            if _begins_with(place / f"review.{box.reviewer}.jsonl", head):
                return place
        except OSError:
            continue
    return None


def _note(box: Outbox, seen: int) -> None:
    write_json(box.path / _CARRIED, {"seen": seen})


def _begins_with(path: Path, head: bytes) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(head)) == head
    except FileNotFoundError:
        return False


def _absolute(folder: Path) -> Path:
    # Not resolved: that would ask the share.
    return Path(os.path.normpath(folder.absolute()))
