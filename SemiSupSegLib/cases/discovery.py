"""Finding the cases below a folder, whatever its layout, and what each can be used for."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from SemiSupSegLib.cases.case import Case, CaseState, Reason, Severity
from SemiSupSegLib.cases.examination import CaseExaminer, Examined
from SemiSupSegLib.cases.group import Group
from SemiSupSegLib.cases.grouping import group_images
from SemiSupSegLib.cases.inspection import ScanCache, default_cache
from SemiSupSegLib.cases.label_names import conflicting_labels
from SemiSupSegLib.cases.listing import Listing, list_images
from SemiSupSegLib.cases.names import NameReader
from SemiSupSegLib.cases.patients import patients_by_pattern
from SemiSupSegLib.cases.reviewed_label import ReviewedLabel
from SemiSupSegLib.cases.reviews import find_reviews, match_reviews
from SemiSupSegLib.cases.scan_lines import ScanLines
from SemiSupSegLib.cases.task import Task, load_task

_MAX_NAMED_TWINS = 3


@dataclass(frozen=True, kw_only=True)
class ScanResult:
    """The cases of a folder."""

    task: Task
    cases: tuple[Case, ...]
    layout: str
    """bids, nnunet, msd, separate_labels, case_folders, flat, or mixed; empty without cases."""
    seconds: float
    bytes_read: int
    """Bytes of the files whose content was checked now, not taken from the cache."""
    result_folders: tuple[Path, ...] = ()
    """Folders of our own results, which were not looked into."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of cases in each state."""
        found = Counter(case.state for case in self.cases)
        return {state.value: found[state] for state in CaseState}

    def to_json(self) -> dict[str, Any]:
        """Return the content of `scan --json`."""
        seconds = max(self.seconds, 1e-9)
        return {
            "task": self.task.name,
            "layout": self.layout,
            "counts": self.counts,
            "num_result_folders": len(self.result_folders),
            "seconds": round(self.seconds, 3),
            "rate": {
                "cases_per_s": round(len(self.cases) / seconds, 2),
                "mb_per_s": round(self.bytes_read / 1e6 / seconds, 2),
            },
            "cases": [_case_to_json(case) for case in self.cases],
        }


def discover(
    folder: Path,
    task: Task | None = None,
    *,
    check_content: bool = True,
    workers: int | None = None,
    cache: Path | None = None,
    label_ids: Collection[str] | None = None,
    reviews: Path | None = None,
    patient: str | None = None,
    lines: ScanLines | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ScanResult:
    """Find the cases below a folder; every one ends in a state, with reasons.

    Files are only read, never changed.

    Args:
        folder: In any layout that grouping.py understands, or itself one case.
        task: None: recognised, `brats` or `brats_msd` if their channels or four numbered ones
            are found, else `binary`.
        check_content: Whether voxels are checked (NaN, empty, damaged, label values, doubles),
            or headers only.
        workers: Number of threads; None: one a core. Unpacking, hashing and arithmetic run
            outside the interpreter lock, so they scale without processes.
        cache: File that remembers what was found; None: one in the user's cache folder.
        label_ids: If given, only label files of cases with one of these ids or patients are
            opened; others are noted to exist. What is a case's id is no patient's here.
        reviews: A folder of results whose reviewed labels (`<case>/<case>_reviewed.nii.gz`, of
            several the newest) take the place of labels.
        patient: A regular expression that finds the patient in a case id (its first group, or the
            whole match); None: told from folders, names and DICOM.
        lines: Hears of the cases as soon as they are found, and of each again once it was checked.
        progress: Called with the number of cases done and of all cases.

    Raises:
        UsageError: If `folder` cannot be read, or `patient` finds none.
        SemiSupSegError: If a folder or `dataset.json` in it cannot be read.
    """
    start = time.perf_counter()
    listing = list_images(folder)
    task_is_recognised = task is None
    if task is None:
        task = _recognise(listing)
    groups = group_images(listing, task)
    unmatched: frozenset[str] = frozenset()
    if patient is not None:
        groups, unmatched = _with_patients(groups, patient)
    layout = _layout(groups)
    if lines is not None:
        lines.begin(task, layout, groups)
    known = ScanCache(cache if cache is not None else default_cache(listing.root))
    examiner = CaseExaminer(
        task, known, check_content=check_content, task_is_recognised=task_is_recognised
    )
    reviewed = find_reviews(reviews) if reviews is not None else {}
    label_patients = {*(label_ids or ())} - {group.id for group in groups}

    def examine(group: Group, label: ReviewedLabel | None) -> Examined:
        opens = label_ids is None or group.id in label_ids or group.patient in label_patients
        found = examiner.examine(group, opens_label=opens, reviewed=label)
        if group.id in unmatched:
            reasons = (*found.case.reasons, _no_patient(group))
            found = replace(found, case=replace(found.case, reasons=reasons))
        return found

    def tell(done: int, total: int, one: Examined) -> None:
        if lines is not None:
            lines.checked(one.case, one.geometry)
        if progress is not None:
            progress(done, total)

    examined = _in_parallel(
        groups, lambda group: examine(group, None), workers or _num_cores(), tell
    )
    as_checked = [one.case for one in examined]
    for number, label in match_reviews(reviewed, examined).items():
        examined[number] = examine(groups[number], label)
    known.compact()
    cases = tuple(_with_twins(examined))
    if lines is not None:
        # What only a look at all cases together tells.
        for case, before, one in zip(cases, as_checked, examined, strict=True):
            if case != before:
                lines.checked(case, one.geometry)
    return ScanResult(
        task=task,
        cases=cases,
        layout=layout,
        seconds=time.perf_counter() - start,
        bytes_read=sum(one.bytes_read for one in examined),
        result_folders=tuple(listing.root.joinpath(*one) for one in listing.result_folders),
    )


def _recognise(listing: Listing) -> Task:
    """Return `brats` if a case has channels that only it tells apart, else `binary`.

    Four channels that are numbered without names are taken for it too; their order is then a guess
    that each case warns of.
    `brats_msd` instead of `brats` if a `dataset.json` names the label values as that does.
    """
    brats = load_task("brats")
    names = NameReader(brats)
    for group in group_images(listing, brats):
        channels = {one.channel for one in group.images if one.channel}
        told = {names.channel(name) for name in group.channel_names.values()} - {None}
        # Two are enough: as binary, a case with two images could only be refused as doubled.
        numbers = {one.index for one in group.images if one.index is not None}
        is_numbered = numbers == set(range(len(brats.channels))) and not group.channel_names
        if max(len(channels), len(told)) >= 2 or is_numbered:
            decathlon = load_task("brats_msd")
            said = group.label_names
            other = conflicting_labels(said, brats) and not conflicting_labels(said, decathlon)
            return decathlon if other else brats
    return load_task("binary")


def _with_patients(groups: Sequence[Group], pattern: str) -> tuple[list[Group], frozenset[str]]:
    """Return the groups with the patients that a pattern finds, and the ids where it finds none."""
    found = patients_by_pattern([group.id for group in groups], pattern)
    renamed = [
        group if patient is None else replace(group, patient=patient)
        for group, patient in zip(groups, found, strict=True)
    ]
    without = [group.id for group, one in zip(groups, found, strict=True) if one is None]
    return renamed, frozenset(without)


def _no_patient(group: Group) -> Reason:
    return Reason(
        code="no_patient",
        severity=Severity.WARNING,
        file=str(group.folder),
        message=f"the patient pattern finds nothing in {group.id}; its patient is taken to be "
        f"{group.patient}, as names and folders tell",
        remedy="If that is wrong, change the pattern",
    )


def _in_parallel(
    groups: Sequence[Group],
    examine: Callable[[Group], Examined],
    workers: int,
    tell: Callable[[int, int, Examined], None],
) -> list[Examined]:
    results: dict[int, Examined] = {}
    with ThreadPoolExecutor(max_workers=workers) as pool:
        waiting = {pool.submit(examine, group): number for number, group in enumerate(groups)}
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                results[waiting[future]] = future.result()
                tell(done, len(groups), future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [results[number] for number in range(len(groups))]


def _with_twins(examined: Sequence[Examined]) -> Iterator[Case]:
    """Yield the cases, with a warning where one image occurs more than once."""
    places: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for number, one in enumerate(examined):
        for channel, digest in one.image_hashes.items():
            places[digest].append((number, channel))
    for number, one in enumerate(examined):
        within: list[str] = []
        others: dict[str, list[str]] = {}
        for channel, digest in one.image_hashes.items():
            for there, channel_there in places[digest]:
                if there != number:
                    shared = others.setdefault(examined[there].case.id, [])
                    if channel not in shared:
                        shared.append(channel)
                elif channel_there != channel and channel not in within:
                    within.append(channel)
        reasons = [_duplicate_channels(one.case, within)] if within else []
        if others:
            reasons.append(_duplicate_cases(one.case, others))
        if reasons:
            yield replace(one.case, reasons=(*one.case.reasons, *reasons), twins=tuple(others))
        else:
            yield one.case


def _duplicate_channels(case: Case, channels: Sequence[str]) -> Reason:
    return Reason(
        code="duplicate_content",
        severity=Severity.WARNING,
        file=str(case.channels[channels[1]].path),
        message=f"channels {', '.join(channels)} hold the same image",
        remedy="Put the right scan in each channel",
    )


def _duplicate_cases(case: Case, others: Mapping[str, Sequence[str]]) -> Reason:
    """Warn that other cases (id → channels here) hold images of this one."""
    named = ", ".join(list(others)[:_MAX_NAMED_TWINS])
    if len(others) > _MAX_NAMED_TWINS:
        named += f" and {len(others) - _MAX_NAMED_TWINS} more"
    channels = list(dict.fromkeys(channel for shared in others.values() for channel in shared))
    if len(channels) == 1:
        what = f"the image of channel {channels[0]} is"
    elif len(channels) == len(case.channels):
        what = f"the images of all channels ({', '.join(channels)}) are"
    else:
        what = f"the images of channels {', '.join(channels)} are"
    return Reason(
        code="duplicate_content",
        severity=Severity.WARNING,
        file=str(case.channels[channels[0]].path),
        message=f"{what} also in {named}",
        remedy="If this is one scan twice, remove one, or keep both in the same set of the split",
    )


def _layout(groups: Sequence[Group]) -> str:
    kinds = Counter(group.kind for group in groups)
    if not kinds:
        return ""
    if kinds["separate_labels"]:
        # Cases without a label lie as if there were no folder of labels.
        kinds["separate_labels"] += kinds.pop("flat", 0) + kinds.pop("case_folders", 0)
    (kind, count), *_ = kinds.most_common(1)
    return kind if count > len(groups) / 2 else "mixed"


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _case_to_json(case: Case) -> dict[str, Any]:
    content: dict[str, Any] = {
        "id": case.id,
        "patient": case.patient,
        "state": case.state.value,
        "channels": {name: str(source.path) for name, source in case.channels.items()},
        "label": str(case.label.path) if case.label is not None else None,
        "reasons": [
            {**asdict(reason), "severity": reason.severity.value} for reason in case.reasons
        ],
    }
    if case.label_unknown is not None:
        content["label_unknown"] = case.label_unknown
    components = {
        name: source.component
        for name, source in case.channels.items()
        if source.component is not None
    }
    if components:
        content["components"] = components
    series = {name: source.series for name, source in case.channels.items() if source.series}
    if series:
        content["series"] = series
    return content
