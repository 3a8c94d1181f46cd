"""What one reviewer decided about one case: an append-only record, and its replay.

Four files lie beside the result, all of them named `review.<reviewer>.*`: the record (`.jsonl`),
the label map that the review began with (`.label.nii.gz`), the regions as they were listed then
(`.regions.json`) and their map (`.regions.nii.gz`). A later prediction may replace the result; the
review stays whole.
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from SemiSupSegLib.cases.task import Task, task_from_json
from SemiSupSegLib.errors import SemiSupSegError, UsageError, in_sentences
from SemiSupSegLib.files import read_json, replacing, write_json
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.review.change import Change, change_from_json
from SemiSupSegLib.review.journal import Journal, sync_folder
from SemiSupSegLib.review.options import NEUTRAL

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from SemiSupSegLib.review.regions import ReviewRegion

FORMAT, VERSION = "semisupseg-review", 1
REGIONS_FORMAT = "semisupseg-review-regions"
STATUSES = ("confirmed", "fixed", "relabelled", "ignored")
"""What can be decided about a region."""
VERDICTS = ("accepted", "corrected", "rejected")
"""What can be said about a case."""
_REVIEWER = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
"""Not - at the beginning: on a command line that is an option."""
_RECORD_FILE = re.compile(r"review\.([a-z0-9-]{1,32})\.jsonl")
_UNDOABLE = ("decision", "edit", "verdict")
_SUFFIXES = (".label.nii.gz", ".regions.json", ".regions.nii.gz")


class RankedRegion(Protocol):
    """What progress needs to know of a region; a `ReviewRegion` has it."""

    @property
    def id(self) -> int:
        """Its number in the map of regions."""

    @property
    def expected_error_mm3(self) -> float:
        """Expected volume of wrong voxels in it."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a record after the first."""

    n: int
    when: str
    """ISO time with its zone."""
    kind: str
    """`decision`, `edit`, `undo`, `verdict` or `effort`."""
    region: int | None = None
    status: str | None = None
    change: Change | None = None
    of: int | None = None
    """The line that an undo takes back."""
    verdict: str | None = None
    comment: str = ""
    active_seconds: float = 0.0
    strokes: int = 0


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What a review took; nothing of it if logging was switched off."""

    active_seconds: float
    strokes: int
    voxels_changed: int
    """Sum over the changes in force; a voxel changed twice counts twice."""
    accepted_unchanged: int
    """Number of regions that were confirmed as they were."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How much of a case is decided."""

    decided: int
    regions: int
    decided_error_mm3: float
    """Expected error of the regions that are decided."""
    expected_error_mm3: float
    """Expected error of all listed regions."""

    @property
    def is_complete(self) -> bool:
        """Whether every region is decided."""
        return self.decided == self.regions

    @property
    def share_of_error(self) -> float:
        """Share of the listed expected error that is decided, 0-1; 1 if there is none."""
        if self.expected_error_mm3 <= 0:
            return 1.0 if self.is_complete else 0.0
        return min(1.0, self.decided_error_mm3 / self.expected_error_mm3)

    @property
    def percent_of_error(self) -> int:
        """That share in percent, for people: 100 only if no region is open."""
        if self.is_complete:
            return round(100 * self.share_of_error)
        # Rounded down; the small number is for a share such as 0.29, which is 28.99... percent.
        return min(99, math.floor(100 * self.share_of_error + 1e-9))

    def __str__(self) -> str:
        if not self.regions:
            return "no region is listed"
        return (
            f"{self.decided} of {self.regions} region{'' if self.regions == 1 else 's'}, "
            f"{self.percent_of_error}% of the expected error"
        )


class ReviewRecord:
    """One reviewer's decisions on one case; every one is on the disk when its method returns.

    Make one with `begin`, `begin_anew` or `open`. If a method raises, nothing has changed, neither
    on the disk nor here.
    """

    def __init__(self, folder: Path, reviewer: str, journal: Journal):
        self.folder = folder
        self.reviewer = reviewer
        self._journal = journal
        self._start = _checked_start(journal, reviewer)
        self._shape = _triple(self._start["shape"])
        self._errors: dict[int, float] = {
            int(region): value for region, value in self._start["expected_error_mm3"].items()
        }
        self._entries: list[Entry] = []
        self._in_force: dict[int, Entry] = {}
        """Decisions, edits and verdicts that were not taken back, by line."""
        for content in journal.lines[1:]:
            self._take(_entry(content, self._shape, self.path, len(self._entries) + 2))

    # Making

    @classmethod
    def begin(
        cls,
        folder: Path,
        reviewer: str,
        *,
        case: str,
        task: Task,
        shape: Sequence[int],
        label_file: Path,
        regions: Iterable[Mapping[str, Any] | ReviewRegion],
        regions_file: Path | None,
        model_sha256: str,
        model_name: str = "",
        inputs: Mapping[str, str] | None = None,
        review: Mapping[str, Any] | None = None,
    ) -> ReviewRecord:
        """Start a review of the result in `folder`.

        Args:
            folder: The result folder, OUT/<case>.
            reviewer: Alias of 1 to 32 characters a-z, 0-9 and -.
            case: The case's id.
            task: Its classes; kept in the record, so that nothing else is needed to read it.
            shape: D, H, W of the label map.
            label_file: The label map to begin with; it is copied.
            regions: What is listed, the best first: of `case.json`, or as `find_regions` gives it.
            regions_file: The map of their ids; it is copied. None: there is none.
            model_sha256: Of the model package that made the label map.
            model_name: Of that package, for provenance.
            inputs: SHA-256 of each channel, as in `case.json`.
            review: Thresholds and the like, as `review` in `case.json`.

        Raises:
            UsageError: If the reviewer's alias is none.
            SemiSupSegError: If there is a review by this reviewer already, or a file cannot be
                read or written.
        """
        path = _record_path(folder, reviewer)
        if has_review(folder, reviewer):
            raise _exists_already(path)
        stem = folder / f"review.{reviewer}"
        try:
            label_sha256 = _copy(label_file, Path(f"{stem}.label.nii.gz"))
            map_file = Path(f"{stem}.regions.nii.gz")
            if regions_file is None:
                map_file.unlink(missing_ok=True)
            else:
                _copy(regions_file, map_file)
            listed = [one if isinstance(one, Mapping) else one.to_json() for one in regions]
            content = {"format": REGIONS_FORMAT, "version": 1, "case": case}
            content |= {"review": dict(review or {}), "regions": [dict(one) for one in listed]}
            write_json(Path(f"{stem}.regions.json"), content)
            start = {
                "n": 1,
                "t": _now(),
                "kind": "begin",
                "format": FORMAT,
                "version": VERSION,
                "id": secrets.token_hex(8),
                "reviewer": reviewer,
                "case": case,
                "model_sha256": model_sha256,
                "model_name": model_name,
                "inputs": dict(inputs or {}),
                "label_sha256": label_sha256,
                "shape": [int(length) for length in shape],
                "classes": [one.name for one in task.classes],
                "task": task.to_json(),
                # So that a table of many cases need not read the list of each.
                "expected_error_mm3": {str(one["id"]): one["expected_error_mm3"] for one in listed},
            }
            # The record comes last: whoever finds it finds the other files.
            journal = Journal.create(path, start)
        except FileExistsError:
            raise _exists_already(path) from None
        except OSError as error:
            raise SemiSupSegError(
                f"The review of {case} cannot be begun. {in_sentences(error)}"
            ) from error
        return cls(folder, reviewer, journal)

    @classmethod
    def begin_anew(cls, folder: Path, reviewer: str, **values: Any) -> ReviewRecord:
        """Move the reviewer's former files aside as `review.<reviewer>.<n>.*`, and begin.

        Args:
            folder: The result folder.
            reviewer: The alias.
            values: As for `begin`.

        Raises:
            SemiSupSegError: As `begin`, and if a file cannot be moved.
        """
        if not has_review(folder, reviewer):
            return cls.begin(folder, reviewer, **values)
        try:
            number = _move_aside(folder, reviewer)
        except OSError as error:
            raise SemiSupSegError(
                f"The former review in {folder} cannot be moved aside. {in_sentences(error)}"
            ) from error
        try:
            return cls.begin(folder, reviewer, **values)
        except BaseException:
            # Unless another window has begun one meanwhile.
            if not has_review(folder, reviewer):
                _move_back(folder, reviewer, number)
            raise

    @classmethod
    def open(cls, folder: Path, reviewer: str) -> ReviewRecord:
        """Return a review that was begun, as its record leaves it.

        Raises:
            UsageError: If the reviewer's alias is none.
            SemiSupSegError: If there is none, or the record is damaged, of another format or of a
                newer version.
        """
        return cls(folder, reviewer, Journal(_record_path(folder, reviewer)))

    # What it is of

    @property
    def path(self) -> Path:
        """The record."""
        return self._journal.path

    @property
    def id(self) -> str:
        """Random; tells two reviews apart, also one begun anew from its former one."""
        return str(self._start["id"])

    @property
    def case(self) -> str:
        """The case's id."""
        return str(self._start["case"])

    @property
    def begun(self) -> str:
        """When: ISO time with its zone."""
        return str(self._start["t"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """D, H, W of the label map."""
        return self._shape

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the task's classes; background is not among them."""
        return tuple(self._start["classes"])

    @cached_property
    def task(self) -> Task:
        """The task as it was when the review began."""
        return task_from_json(self._start["task"], self.path)

    @property
    def model_sha256(self) -> str:
        """Of the model package whose result is reviewed."""
        return str(self._start["model_sha256"])

    @property
    def model_name(self) -> str:
        """Of that package; may be empty."""
        return str(self._start["model_name"])

    @property
    def inputs(self) -> dict[str, str]:
        """SHA-256 of each channel."""
        return dict(self._start["inputs"])

    @property
    def label_sha256(self) -> str:
        """SHA-256 of the bytes of `label_file` as they were when the review began."""
        return str(self._start["label_sha256"])

    @property
    def is_of_other_result(self) -> bool:
        """Whether the case was predicted anew, with another outcome, since the review began.

        The result's label map is read for it. The review goes on with its own.
        """
        try:
            return hash_of(self.folder / f"{self.case}_label.nii.gz") != self.label_sha256
        except OSError:
            return False

    @property
    def label_file(self) -> Path:
        """The label map that the review began with, in the task's written values."""
        return self.folder / f"review.{self.reviewer}.label.nii.gz"

    @property
    def regions_file(self) -> Path:
        """The map of the regions' ids, uint16; may be missing."""
        return self.folder / f"review.{self.reviewer}.regions.nii.gz"

    @property
    def listed(self) -> tuple[dict[str, Any], ...]:
        """The regions that were listed when the review began, the best first, as in `case.json`.

        Raises:
            SemiSupSegError: If their file is missing or damaged.
        """
        return tuple(self._list["regions"])

    @property
    def sensitivity(self) -> float:
        """Position of the slider, 0-1, at which these regions were found.

        Raises:
            SemiSupSegError: If their file is missing or damaged.
        """
        return float(self._list["review"].get("sensitivity", NEUTRAL))

    @cached_property
    def _list(self) -> dict[str, Any]:
        path = self.folder / f"review.{self.reviewer}.regions.json"
        content: dict[str, Any] = read_json(path)
        check_format(content, "review-regions", path)
        return content

    @property
    def regions(self) -> tuple[ReviewRegion, ...]:
        """The regions that were listed when the review began, the best first.

        Raises:
            SemiSupSegError: If their file is missing or damaged.
        """
        from SemiSupSegLib.review.regions import region_from_json

        return tuple(region_from_json(one) for one in self.listed)

    # What was decided

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every line after the first, those that were taken back too."""
        return tuple(self._entries)

    @property
    def statuses(self) -> dict[int, str]:
        """Status of each decided region: what was decided last and not taken back."""
        return {region: str(entry.status) for region, entry in self.decisions.items()}

    @property
    def decisions(self) -> dict[int, Entry]:
        """The line in force that decides each region."""
        found: dict[int, Entry] = {}
        for entry in self._in_force.values():
            if entry.kind == "decision" and entry.region is not None:
                found[entry.region] = entry
        return found

    @property
    def verdict(self) -> str | None:
        """`accepted`, `corrected` or `rejected`; None as long as none is given."""
        given = self._verdict_entry()
        return None if given is None else given.verdict

    @property
    def comment(self) -> str:
        """What was written with the verdict."""
        given = self._verdict_entry()
        return "" if given is None else given.comment

    @property
    def changed(self) -> str:
        """When the last line was written: ISO time with its zone."""
        return self._entries[-1].when if self._entries else self.begun

    @property
    def effort(self) -> Effort:
        """What the review took so far."""
        logged = [one for one in self._entries if one.kind == "effort"]
        return Effort(
            active_seconds=sum(one.active_seconds for one in logged),
            strokes=sum(one.strokes for one in logged),
            voxels_changed=sum(one.num_voxels for one in self.changes),
            accepted_unchanged=sum(
                status == "confirmed" and region not in self.redrawn
                for region, status in self.statuses.items()
            ),
        )

    @property
    def redrawn(self) -> frozenset[int]:
        """The regions in which a change is in force, whatever was decided about them since."""
        found = (one.region for one in self._in_force.values() if one.change is not None)
        return frozenset(region for region in found if region is not None)

    @property
    def changes(self) -> tuple[Change, ...]:
        """The changes in force, in the order in which they were made."""
        return tuple(one.change for one in self._in_force.values() if one.change is not None)

    @property
    def undoable(self) -> Entry | None:
        """What `undo` would take back; None if there is nothing."""
        return next(reversed(self._in_force.values()), None)

    def progress(self, regions: Iterable[RankedRegion] | None = None) -> Progress:
        """Return how many regions, and which share of the expected error, are decided.

        Args:
            regions: What counts; None: the regions that were listed when the review began.
        """
        if regions is None:
            errors = self._errors
        else:
            errors = {one.id: one.expected_error_mm3 for one in regions}
        done = errors.keys() & self.decisions.keys()
        return Progress(
            decided=len(done),
            regions=len(errors),
            decided_error_mm3=sum(errors[region] for region in sorted(done)),
            expected_error_mm3=sum(errors.values()),
        )

    # The label map

    def label(self, base: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the label map as the review leaves it.

        Args:
            base: Class indices of `label_file`, (D, H, W); it is not changed.

        Raises:
            SemiSupSegError: If the shape is another one, or a change is damaged.
        """
        import numpy as np

        label = np.array(base, dtype=np.uint8)
        for _ in self.replay(label):
            pass
        return label

    def replay(self, label: NDArray[Any]) -> Iterator[Change]:
        """Make the changes in force in `label`, one a step; a window can breathe between them.

        Args:
            label: Class indices of `label_file`, (D, H, W); changed in place.

        Yields:
            The change that was just made.

        Raises:
            SemiSupSegError: If the shape is another one, or a change is damaged.
        """
        if label.shape != self._shape:
            raise SemiSupSegError(
                f"{self.path} is of a label map of {self._shape} voxels, this one has "
                f"{label.shape}. Load the label map that the review began with."
            )
        for change in self.changes:
            try:
                change.apply(label)
            except ValueError as error:
                raise _damaged(self.path, str(error)) from error
            yield change

    # Deciding

    def decide(self, region: int, status: str, change: Change | None = None) -> Entry:
        """Decide a region.

        Args:
            region: Its id.
            status: One of `STATUSES`.
            change: What the decision does to the label map, if anything.

        Raises:
            UsageError: If the status is none, or the change leaves the label map.
            SemiSupSegError: If it cannot be written, or another program has written to the record.
        """
        _check_choice(status, STATUSES, "A region's status")
        return self._append("decision", region=int(region), status=status, change=change)

    def edit(self, region: int | None, change: Change) -> Entry:
        """Keep what was drawn, in a region or (None) anywhere.

        Raises:
            UsageError: If the change leaves the label map.
            SemiSupSegError: If it cannot be written, or another program has written to the record.
        """
        region = None if region is None else int(region)
        return self._append("edit", region=region, change=change)

    def undo(self, of: int | None = None) -> Entry | None:
        """Take back a decision, an edit or a verdict.

        Where the last one is taken back, `entry.change.revert(label)` makes the label map what it
        was. After taking back an earlier one, replay it.

        Args:
            of: The line; None: the last one in force.

        Returns:
            What was taken back; None if there is nothing.

        Raises:
            UsageError: If that line is not in force.
            SemiSupSegError: If it cannot be written, or another program has written to the record.
        """
        if of is None:
            last = self.undoable
            if last is None:
                return None
            of = last.n
        if of not in self._in_force:
            raise UsageError(f"Line {of} of {self.path} is nothing that can be taken back.")
        entry = self._in_force[of]
        self._append("undo", of=of)
        return entry

    def give_verdict(self, verdict: str, comment: str = "") -> Entry:
        """Say what the case is after the review.

        Raises:
            UsageError: If the verdict is none of `VERDICTS`.
            SemiSupSegError: If it cannot be written, or another program has written to the record.
        """
        _check_choice(verdict, VERDICTS, "A verdict")
        return self._append("verdict", verdict=verdict, comment=comment)

    def log_effort(self, active_seconds: float, strokes: int) -> Entry:
        """Keep what was spent since the last time; only numbers are kept."""
        seconds = round(max(0.0, float(active_seconds)), 1)
        return self._append("effort", active_seconds=seconds, strokes=max(0, int(strokes)))

    # Inside

    def _append(self, kind: str, **values: Any) -> Entry:
        number = len(self._entries) + 2
        change = values.get("change")
        if kind == "decision":
            values.setdefault("change", None)
        content = {"n": number, "t": _now(), "kind": kind, **values}
        if change is not None:
            content["change"] = change.to_json()
        try:
            # The same judge as on reading: what is written can be read back.
            entry = _entry(content, self._shape, self.path, number)
        except SemiSupSegError as error:
            raise UsageError(f"This cannot be part of a review: {error}") from error
        self._journal.append(content)
        self._take(entry)
        return entry

    def _take(self, entry: Entry) -> None:
        if entry.kind == "undo":
            if entry.of not in self._in_force:
                raise _damaged(self.path, f"line {entry.n} takes back a line that is not in force")
            del self._in_force[entry.of]
        elif entry.kind in _UNDOABLE:
            self._in_force[entry.n] = entry
        self._entries.append(entry)

    def _verdict_entry(self) -> Entry | None:
        given = [one for one in self._in_force.values() if one.kind == "verdict"]
        return given[-1] if given else None


def reviewers(folder: Path) -> tuple[str, ...]:
    """Return the aliases of those whose record is in a result folder, in order."""
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        return ()
    return tuple(sorted(found[1] for name in names if (found := _RECORD_FILE.fullmatch(name))))


def has_review(folder: Path, reviewer: str) -> bool:
    """Return whether a review by `reviewer` was begun in a result folder.

    A record without a whole line is none: its program was killed while it began.
    """
    try:
        with _record_path(folder, reviewer).open("rb") as stream:
            return stream.readline().strip(b"\0").endswith(b"\n")
    except OSError:
        return False


def check_reviewer(alias: str) -> str:
    """Return the alias if it is one.

    Raises:
        UsageError: If it is not 1 to 32 characters a-z, 0-9 and -, or begins with -.
    """
    if _REVIEWER.fullmatch(alias) is None:
        raise UsageError(
            f"'{alias}' cannot be a reviewer's alias. Use 1 to 32 of the characters a-z, 0-9 and "
            "-, the first one not a -; it need not tell who you are."
        )
    return alias


def _record_path(folder: Path, reviewer: str) -> Path:
    return folder / f"review.{check_reviewer(reviewer)}.jsonl"


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def _copy(source: Path, target: Path) -> str:
    """Copy a file so that the copy is there whole or not at all; return its SHA-256."""
    digest = hashlib.sha256()
    with source.open("rb") as reader, replacing(target) as writer:
        while block := reader.read(1 << 20):
            digest.update(block)
            writer.write(block)
    return digest.hexdigest()


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _move_aside(folder: Path, reviewer: str) -> int:
    """Give the four files of a review their next free number; return it.

    The record is moved last, the others are copied: a program that is killed in between leaves the
    former review as it was.
    """
    number = 1
    while (folder / f"review.{reviewer}.{number}.jsonl").exists():
        number += 1
    copy_companions(folder, reviewer, number)
    source = folder / f"review.{reviewer}.jsonl"
    source.rename(folder / f"review.{reviewer}.{number}.jsonl")
    sync_folder(folder)
    return number


def _move_back(folder: Path, reviewer: str, number: int) -> None:
    """Undo `_move_aside`; a full disk has room for that."""
    for suffix in (*_SUFFIXES, ".jsonl"):
        aside = folder / f"review.{reviewer}.{number}{suffix}"
        former = folder / f"review.{reviewer}{suffix}"
        if aside.exists():
            aside.replace(former)
        else:
            former.unlink(missing_ok=True)
    sync_folder(folder)


def copy_companions(folder: Path, reviewer: str, number: int) -> None:
    """Copy what lies beside a record, for a record `review.<reviewer>.<number>.jsonl`.

    Raises:
        OSError: If not all of it can be copied; none is left then.
    """
    copies = []
    try:
        for suffix in _SUFFIXES:
            source = folder / f"review.{reviewer}{suffix}"
            if source.exists():
                copies.append(folder / f"review.{reviewer}.{number}{suffix}")
                _copy(source, copies[-1])
    except BaseException:
        for copy in copies:
            copy.unlink(missing_ok=True)
        raise


def _checked_start(journal: Journal, reviewer: str) -> dict[str, Any]:
    """Return the first line.

    Raises:
        SemiSupSegError: If it is not that of a review by `reviewer`.
    """
    path = journal.path
    if not journal.lines:
        raise _damaged(path, "it has no whole line")
    start = journal.lines[0]
    check_format(start, "review-record", path)
    if start["reviewer"] != reviewer:
        raise SemiSupSegError(
            f"{path} is a review by {start['reviewer']}, not by {reviewer}. Give the file its "
            "former name."
        )
    return start


def _triple(shape: Sequence[int]) -> tuple[int, int, int]:
    depth, height, width = shape
    return depth, height, width


def _entry(
    content: Mapping[str, Any], shape: tuple[int, int, int], path: Path, number: int
) -> Entry:
    """Return what a line says.

    Raises:
        SemiSupSegError: If it says nothing that belongs there.
    """
    kind, change = content.get("kind"), content.get("change")
    if kind not in (*_UNDOABLE, "undo", "effort"):
        raise SemiSupSegError(
            f"Line {number} of {path} is of the kind '{kind}', which this SemiSupSeg does not "
            "know. Update SemiSupSeg."
        )
    try:
        if content["n"] != number:
            raise ValueError(f"its line {number} has the number {content['n']}")
        entry = Entry(
            n=number,
            when=_text(content["t"]),
            kind=kind,
            region=_whole(content.get("region")),
            status=content.get("status"),
            change=None if change is None else change_from_json(change, shape),
            of=_whole(content.get("of")),
            verdict=content.get("verdict"),
            comment=_text(content.get("comment", "")),
            active_seconds=float(content.get("active_seconds", 0)),
            strokes=int(content.get("strokes", 0)),
        )
        if kind == "decision" and (entry.region is None or entry.status not in STATUSES):
            raise ValueError(f"line {number} decides nothing")
        if kind == "edit" and entry.change is None:
            raise ValueError(f"line {number} changes nothing")
        if kind == "verdict" and entry.verdict not in VERDICTS:
            raise ValueError(f"line {number} is no verdict")
    except (KeyError, TypeError, ValueError) as error:
        what = f"line {number} lacks {error}" if isinstance(error, KeyError) else str(error)
        raise _damaged(path, what) from error
    return entry


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _whole(value: object) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ValueError(f"{value!r} is no number of a region or line")
    return value


def _check_choice(value: str, choices: Sequence[str], what: str) -> None:
    if value not in choices:
        raise UsageError(f"{what} is one of {', '.join(choices)}, not '{value}'.")


def _exists_already(path: Path) -> SemiSupSegError:
    return SemiSupSegError(f"There is a review already: {path}. Open it, or begin it anew.")


def _damaged(path: Path, what: str) -> SemiSupSegError:
    return SemiSupSegError(
        f"{path} is damaged: {what}. Restore the file from a backup, or move it away and begin "
        "anew."
    )
