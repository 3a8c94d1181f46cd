"""Whether a finished run can learn from corrections, and from which cases; without torch.

A person corrects what a run's student has made of cases. The run can go on from there if all is
still as it was: its model, the scans and labels that it learnt from, and those it is judged by.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SemiSupSegLib.cases.case import Case, CaseState
from SemiSupSegLib.cases.discovery import discover
from SemiSupSegLib.cases.inspection import default_cache
from SemiSupSegLib.cases.reading import content_hash
from SemiSupSegLib.cases.reviews import find_reviews
from SemiSupSegLib.cases.split import Split
from SemiSupSegLib.cases.task import Task, task_from_json
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.models.package import identity, read_manifest, verify_files
from SemiSupSegLib.runs.reviewed import with_frozen_reviews
from SemiSupSegLib.runs.run_folder import RunFolder

_MAX_NAMED = 5
_CORRECTED = re.compile(r"-corrected(-[0-9]+)?$")


@dataclass(frozen=True, kw_only=True)
class CorrectionsPlan:
    """What a run would learn from corrections: everything here was compared with its hash."""

    former: Mapping[str, Any]
    """run.json of the run that it goes on from."""
    manifest: Mapping[str, Any]
    """Of that run's student."""
    model_sha256: str
    """The student's identity."""
    task: Task
    split: Split
    """Trained on: the former labelled cases, then newly reviewed ones; validation as it was."""
    cases: tuple[Case, ...]
    """Those of the split, with the labels to be used."""
    notes: tuple[str, ...] = ()
    """What a person should know, such as who is left out, in sentences."""


def look_before_learning(
    run: Path, cases: Path, reviews: Path, *, thorough: bool = True
) -> tuple[str, tuple[str, ...]]:
    """Return why a run cannot learn (empty if it can), and what to know before it does.

    Args:
        run: The finished run.
        cases: The folder of cases that it was trained on, where it is now.
        reviews: Folder of results with reviewed labels.
        thorough: Whether files are compared with their hashes, which reads all of them. False
            tells in milliseconds what can be told from run.json, names and manifest alone; what
            is found changed later, `learn` refuses when it starts, and it names who is left out
            for a patient in common, too.
    """
    try:
        if thorough:
            return "", plan_corrections(run, cases, reviews).notes
        return "", tuple(_look(run, cases, reviews))
    except SemiSupSegError as error:
        return str(error), ()
    except OSError as error:
        return f"{error.filename or run}: {error.strerror or error}. Check the folder.", ()


def cases_of(run: Path) -> Path:
    """Return the folder of cases that a run was trained on, as it was then; it may have moved.

    Raises:
        SemiSupSegError: If the folder is no run, or an old one that does not tell.
    """
    request = RunFolder(run).read_config().get("request", {})
    if not request.get("cases"):
        raise SemiSupSegError(f"{run} does not tell where its cases are. Give their folder.")
    return Path(request["cases"]["folder"])


def free_folder(run: Path) -> Path:
    """Return a name beside a run that is not taken: RUN-corrected, RUN-corrected-2, ..."""
    stem = _CORRECTED.sub("", run.name) + "-corrected"
    path, number = run.with_name(stem), 1
    while path.exists():
        number += 1
        path = run.with_name(f"{stem}-{number}")
    return path


def plan_corrections(
    run: Path, cases: Path, reviews: Path, *, cache: Path | None = None
) -> CorrectionsPlan:
    """Find the cases to learn from, and compare all that matters with its hash.

    Args:
        run: The finished run.
        cases: Folder of cases.
        reviews: Folder of results with reviewed labels.
        cache: File that remembers facts about the cases; None: one in the user's cache folder.

    Raises:
        SemiSupSegError: If something is missing or has changed, or nothing is left to learn from.
    """
    former, manifest = _finished(run)
    verify_files(run)
    if not cases.is_dir():
        raise SemiSupSegError(_no_folder(cases, run))
    num_reviews = len(find_reviews(reviews))
    task = task_from_json(former["task"], RunFolder(run).run_json)
    split = former["split"]
    known = [*split["train_labelled"], *split["validation"]]
    cache = default_cache(cases) if cache is None else cache
    patient = former.get("patient")
    # Labels of no other case are opened.
    plain = {
        case.id: case
        for case in discover(cases, task, cache=cache, label_ids=set(known), patient=patient).cases
    }
    found = discover(cases, task, cache=cache, label_ids=(), reviews=reviews, patient=patient).cases
    joined = {case.id: case for case in found if case.state is CaseState.REVIEWED}
    left_out = _of_validation(joined, plain, split["validation"])
    reviewed = {name: case for name, case in joined.items() if name not in left_out}
    spoilt = [
        case
        for case in found
        if case.state is CaseState.UNUSABLE and plain[case.id].state is not CaseState.UNUSABLE
    ]
    notes = _notes(left_out, spoilt, num_reviews - len(joined) - len(spoilt), cases)
    if not reviewed:
        nothing = _nothing(reviews, bool(left_out)) if left_out or not notes else _NONE_USABLE
        raise SemiSupSegError(" ".join([*notes, nothing]))
    members = _members(run, former, known, plain, reviewed, cases)
    labelled = [*split["train_labelled"]]
    labelled += sorted(set(reviewed) - set(labelled))
    return CorrectionsPlan(
        former=former,
        manifest=manifest,
        model_sha256=identity(run),
        task=task,
        split=Split(
            train_labelled=tuple(labelled),
            train_unlabelled=(),
            validation=tuple(split["validation"]),
        ),
        cases=tuple(
            reviewed.get(name) or members[name] for name in (*labelled, *split["validation"])
        ),
        notes=tuple(notes),
    )


def _finished(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return run.json and the student's manifest."""
    if not run.is_dir():
        raise SemiSupSegError(
            f"The run folder {run} is not there. If it was moved, give its new place."
        )
    config = RunFolder(run).read_config()
    return config, read_manifest(run)


def _look(run: Path, cases: Path, reviews: Path) -> list[str]:
    """Refuse what needs no file of a case to be opened; return who is left out, in sentences."""
    former, _ = _finished(run)
    if not cases.is_dir():
        raise SemiSupSegError(_no_folder(cases, run))
    found = find_reviews(reviews)
    judged = set(former["split"]["validation"])
    contents = {
        frozenset(
            digest for what, digest in former["inputs"].get(name, {}).items() if what != "label"
        )
        for name in judged
    }
    left_out = {
        name: one.case
        for name, one in found.items()
        if one.case in judged or one.file_hashes in contents
    }
    if not any(not one.problem and name not in left_out for name, one in found.items()):
        raise SemiSupSegError(_nothing(reviews, bool(found)))
    return _notes(list(left_out.values()), (), 0, cases)


def _no_folder(cases: Path, run: Path) -> str:
    return (
        f"{cases}, the folder of cases of {run}, is not there. If it was moved, give its new "
        "place; else put it back."
    )


_NONE_USABLE = (
    "So there is nothing to learn from. Reviewed cases must lie in the folder of cases: copy "
    "theirs into it, or give a folder that holds the run's cases and the reviewed ones."
)


def _nothing(reviews: Path, has_others: bool) -> str:
    if has_others:
        return (
            f"All reviewed cases in {reviews} are of patients that the run is judged by. Learning "
            "from them would make its figures worthless: review other cases."
        )
    return f"{reviews} holds no reviewed case. Review a case and save it as a training label first."


def _of_validation(
    reviewed: Mapping[str, Case], plain: Mapping[str, Case], validation: Sequence[str]
) -> list[str]:
    """Return the reviewed cases that are of a validation patient, or hold one's image."""
    judged = set(validation)
    patients = {plain[name].patient for name in judged if name in plain}
    return [
        name
        for name, case in reviewed.items()
        if name in judged or case.patient in patients or judged & set(case.twins)
    ]


def _notes(
    left_out: Sequence[str], spoilt: Sequence[Case], unmatched: int, cases: Path
) -> list[str]:
    notes = []
    if left_out:
        notes.append(
            f"{_counted(left_out, 'reviewed case')} left out, since the run is judged by "
            f"{'its patient' if len(left_out) == 1 else 'their patients'}: {_listed(left_out)}."
        )
    notes += [f"Left out: {case.id}: {case.reasons[0].sentences}" for case in spoilt]
    if unmatched > 0:
        what = (
            "1 reviewed label belongs" if unmatched == 1 else f"{unmatched} reviewed labels belong"
        )
        notes.append(f"{what} to no case in {cases}, or to one whose images have changed.")
    return notes


def _members(
    run: Path,
    former: Mapping[str, Any],
    known: Sequence[str],
    plain: Mapping[str, Case],
    reviewed: Mapping[str, Case],
    cases: Path,
) -> dict[str, Case]:
    """Return the former run's labelled and validation cases, as it had them.

    Raises:
        SemiSupSegError: If one is missing or has changed.
    """
    missing = [name for name in known if name not in plain]
    if missing:
        raise SemiSupSegError(
            f"{cases} does not hold {_listed(missing)}, which {run} was trained on or is judged "
            "by. Give the folder that it was trained on, or put the files back."
        )
    # A case reviewed for that run keeps the label that it had there, unless it was reviewed anew.
    request = former.get("request", {}).get("reviews") or {}
    frozen = with_frozen_reviews(
        [plain[name] for name in known],
        former.get("reviewed", {}),
        Path(request.get("folder", ".")),
    )
    members = {case.id: case for case in frozen}
    for name in known:
        case = members[name]
        sources = dict(case.channels)
        if case.label is not None and name not in reviewed:
            sources["label"] = case.label
        for what, digest in former["inputs"].get(name, {}).items():
            if what == "label" and name in reviewed:
                continue
            if what not in sources:
                raise SemiSupSegError(
                    f"Case {name} has no file for {what} any more, which {run} learnt from or is "
                    "judged by. Put the file back."
                )
            if content_hash(sources[what]) != digest:
                raise SemiSupSegError(
                    f"{sources[what]} has changed since {run} was started, so what was learnt "
                    "then would not fit. Put the former file back, or train anew."
                )
    for name in set(reviewed) & set(former["inputs"]) - set(known):
        for what, source in reviewed[name].channels.items():
            if content_hash(source) != former["inputs"][name].get(what):
                raise SemiSupSegError(
                    f"{source} has changed since {run} was started. Put the former file back, or "
                    "train anew."
                )
    return members


def _counted(names: Sequence[str], what: str) -> str:
    return f"1 {what} is" if len(names) == 1 else f"{len(names)} {what}s are"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
