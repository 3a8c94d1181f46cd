"""Which cases are trained on with labels, without, and which only judged."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from SemiSupSegLib.cases.case import Case, CaseState
from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.files import read_json, write_json

_SETS = ("train_labelled", "train_unlabelled", "validation")
_MAX_NAMED_CASES = 5


@dataclass(frozen=True, kw_only=True)
class Split:
    """Case ids by use; a patient is trained on or validated on, never both."""

    train_labelled: tuple[str, ...]
    train_unlabelled: tuple[str, ...]
    validation: tuple[str, ...]


def read_split(path: Path, cases: Sequence[Case]) -> Split:
    """Return the split of a file, whose lists may name cases or patients.

    Raises:
        UsageError: If the file is no split, names an unknown case, names a labelled use for a
            case without label, has one case in two lists, or a patient in training and
            validation; all problems at once.
    """
    content = read_lists(path)
    by_id = {case.id: case for case in cases}
    by_patient: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_patient[case.patient].append(case)
    problems: list[str] = []
    chosen: dict[str, list[str]] = {}
    for name in _SETS:
        found: dict[str, Case] = {}
        for entry in content[name]:
            here = [by_id[entry]] if entry in by_id else by_patient.get(entry, [])
            if not here:
                problems.append(f"{name} names {entry}, which is no case or patient here")
            found.update({case.id: case for case in here})
        if name != "train_unlabelled":
            problems += [
                f"{name} names {case.id}, which has no label"
                for case in found.values()
                if case.label is None
            ]
        chosen[name] = list(found)
    problems += _overlaps(chosen, by_id)
    if problems:
        more = f" And {len(problems) - 5} more." if len(problems) > 5 else ""
        raise UsageError(
            f"The split {path} does not fit the cases: {'; '.join(problems[:5])}.{more} "
            "Correct the file."
        )
    return Split(**{name: tuple(ids) for name, ids in chosen.items()})


def default_split(cases: Sequence[Case], seed: int, validation_fraction: float = 0.2) -> Split:
    """Divide cases by patient: labelled ones into training and validation, the rest unlabelled.

    Of two or more patients with labels at least one goes to each set; a single one is trained on.
    Unlabelled cases of the validation patients are left out (`left_out` tells). Patients that
    share an image count as one.

    Args:
        cases: Unusable ones are left out.
        seed: Draws the validation patients; the order of `cases` does not matter.
        validation_fraction: Share of the labelled patients, between 0 and 1.

    Raises:
        ValueError: If the fraction is not between 0 and 1.
    """
    if not 0 <= validation_fraction <= 1:
        raise ValueError(f"validation_fraction is {validation_fraction}, must be in [0, 1]")
    usable = sorted(
        (case for case in cases if case.state is not CaseState.UNUSABLE), key=lambda one: one.id
    )
    labelled = [case for case in usable if case.state is not CaseState.UNLABELLED]
    person = _persons(usable)
    patients = sorted({person[case.id] for case in labelled})
    random.Random(seed).shuffle(patients)
    count = 0
    if len(patients) >= 2:
        count = min(max(round(validation_fraction * len(patients)), 1), len(patients) - 1)
    judged = set(patients[:count])
    trained = [case for case in usable if person[case.id] not in judged]
    return Split(
        train_labelled=tuple(one.id for one in trained if one.state is not CaseState.UNLABELLED),
        train_unlabelled=tuple(one.id for one in trained if one.state is CaseState.UNLABELLED),
        validation=tuple(case.id for case in labelled if person[case.id] in judged),
    )


def left_out(split: Split, cases: Sequence[Case]) -> str:
    """Return a sentence on the usable cases that a default split does not use; empty if none."""
    used = {*split.train_labelled, *split.train_unlabelled, *split.validation}
    unused = [
        case.id for case in cases if case.state is not CaseState.UNUSABLE and case.id not in used
    ]
    if not unused:
        return ""
    who = (
        "1 unlabelled case is left out, since its patient is"
        if len(unused) == 1
        else f"{len(unused)} unlabelled cases are left out, since their patients are"
    )
    return f"{who} validated on: {_listed(unused)}."


def separated_twins(split: Split, cases: Sequence[Case]) -> str:
    """Return a warning of cases in training that share an image with validation; empty if none."""
    trained = {*split.train_labelled, *split.train_unlabelled}
    judged = set(split.validation)
    pairs = [
        f"{case.id} ({', '.join(twin for twin in case.twins if twin in judged)})"
        for case in cases
        if case.id in trained and judged & set(case.twins)
    ]
    if not pairs:
        return ""
    hold = "case in training holds" if len(pairs) == 1 else "cases in training hold"
    return (
        f"{len(pairs)} {hold} the same image as a validation case, which makes figures look "
        f"better than they are: {_listed(pairs)}. Put both in one list of the split, or remove "
        "one."
    )


def write_split(path: Path, split: Split) -> None:
    """Write a split file that `read_split` reads."""
    content = {"format": "semisupseg-split", "version": 1}
    write_json(path, {**content, **json.loads(json.dumps(asdict(split)))})


def read_lists(path: Path) -> Mapping[str, list[str]]:
    """Return the cases or patients that a split file names, by use; not compared with any cases.

    Raises:
        UsageError: If the file is no split, or has a list of another name in the place of one.
    """
    content: Any = read_json(path)
    if not isinstance(content, dict) or not set(_SETS) & set(content):
        raise UsageError(
            f"{path} is not a split file. It must be a JSON object with the lists "
            f"{', '.join(_SETS)}."
        )
    missing = [name for name in _SETS if name not in content]
    strange = [name for name, one in content.items() if isinstance(one, list) and name not in _SETS]
    if missing and strange:
        # Such as train_unlabeled: read as a split without that list, its cases would be left out.
        raise UsageError(
            f"{path} has the list '{strange[0]}', which means nothing here, and no '{missing[0]}'. "
            f'If it is meant, correct the name; if not, add "{missing[0]}": [].'
        )
    lists = {}
    for name in _SETS:
        entries = content.get(name, [])
        if not isinstance(entries, list) or not all(isinstance(one, str) for one in entries):
            raise UsageError(f"{path}: '{name}' must be a list of case or patient ids.")
        lists[name] = entries
    return lists


def _overlaps(chosen: Mapping[str, list[str]], by_id: Mapping[str, Case]) -> list[str]:
    """Name every case in more than one list, and every patient in training and validation."""
    uses: dict[str, list[str]] = defaultdict(list)
    sets_of: dict[str, list[str]] = defaultdict(list)
    for name, ids in chosen.items():
        for case_id in ids:
            uses[case_id].append(name)
            patient = by_id[case_id].patient
            if name not in sets_of[patient]:
                sets_of[patient].append(name)
    return [
        f"patient {patient} is in {' and '.join(names)}"
        for patient, names in sets_of.items()
        if len(names) > 1 and "validation" in names
    ] + [
        f"case {case_id} is in {' and '.join(names)}"
        for case_id, names in uses.items()
        if len(names) > 1 and "validation" not in names
    ]


def _persons(cases: Sequence[Case]) -> dict[str, str]:
    """Return for each case's id one name for its patient and all who share an image with it."""
    by_id = {case.id: case for case in cases}
    by_patient: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_patient[case.patient].append(case)
    found: dict[str, str] = {}
    for start in sorted(cases, key=lambda one: one.patient):
        waiting = [start]
        while waiting:
            case = waiting.pop()
            if case.id in found:
                continue
            found[case.id] = start.patient
            waiting += by_patient[case.patient]
            waiting += [by_id[twin] for twin in case.twins if twin in by_id]
    return found


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMED_CASES
    return ", ".join(names[:_MAX_NAMED_CASES]) + (f" and {more} more" if more > 0 else "")
