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


@dataclass(frozen=True, kw_only=True)
class Split:
    """Case ids by use; a patient's cases are all in one list."""

    train_labelled: tuple[str, ...]
    train_unlabelled: tuple[str, ...]
    validation: tuple[str, ...]


def read_split(path: Path, cases: Sequence[Case]) -> Split:
    """Return the split of a file, whose lists may name cases or patients.

    Raises:
        UsageError: If the file is no split, names an unknown case, names a labelled use for a
            case without label, or has one case or patient in two lists; all problems at once.
    """
    content = _lists(path)
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
    A patient's unlabelled cases are left out if the patient is in the validation set or trained
    on with labels: a patient is never in two sets.

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
    patients = sorted({case.patient for case in labelled})
    random.Random(seed).shuffle(patients)
    count = 0
    if len(patients) >= 2:
        count = min(max(round(validation_fraction * len(patients)), 1), len(patients) - 1)
    judged = set(patients[:count])
    return Split(
        train_labelled=tuple(case.id for case in labelled if case.patient not in judged),
        train_unlabelled=tuple(case.id for case in usable if case.patient not in set(patients)),
        validation=tuple(case.id for case in labelled if case.patient in judged),
    )


def write_split(path: Path, split: Split) -> None:
    """Write a split file that `read_split` reads."""
    content = {"format": "semisupseg-split", "version": 1}
    write_json(path, {**content, **json.loads(json.dumps(asdict(split)))})


def _lists(path: Path) -> Mapping[str, list[str]]:
    content: Any = read_json(path)
    if not isinstance(content, dict) or not set(_SETS) & set(content):
        raise UsageError(
            f"{path} is not a split file. It must be a JSON object with the lists "
            f"{', '.join(_SETS)}."
        )
    lists = {}
    for name in _SETS:
        entries = content.get(name, [])
        if not isinstance(entries, list) or not all(isinstance(one, str) for one in entries):
            raise UsageError(f"{path}: '{name}' must be a list of case or patient ids.")
        lists[name] = entries
    return lists


def _overlaps(chosen: Mapping[str, list[str]], by_id: Mapping[str, Case]) -> list[str]:
    """Name every patient that is in more than one list."""
    uses: dict[str, list[str]] = defaultdict(list)
    for name, ids in chosen.items():
        for case_id in ids:
            patient = by_id[case_id].patient
            if name not in uses[patient]:
                uses[patient].append(name)
    return [
        f"patient {patient} is in {' and '.join(names)}"
        for patient, names in uses.items()
        if len(names) > 1
    ]
