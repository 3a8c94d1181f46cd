"""Which cases are scans of one patient: by folders, names and DICOM's PatientID.

Two patients taken for one cost a little training data; one patient taken for two lets training see
what is validated on. So in doubt, a small folder of scans is one patient.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence

from SemiSupSegLib.cases.listing import Place
from SemiSupSegLib.cases.names import is_partition, words_of
from SemiSupSegLib.errors import UsageError

_MAX_SCANS = 10
"""A folder with more cases is a collection, unless its cases are named as visits."""
_MAX_VISITS = 50
"""With more it is one even then."""

_MONTH, _DAY = r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_DATE = (
    rf"(?:(?:19|20)\d\d[-_.]?{_MONTH}[-_.]?{_DAY}|"
    rf"(?:{_MONTH}[-_.]{_DAY}|{_DAY}[-_.]{_MONTH})[-_.](?:19|20)\d\d)"
)
_STATE = (
    r"(?:pre|post|intra)(?:[-_ ]?(?:op|operative|surgery|treatment|therapy|rt|chemo))?|"
    r"baseline|follow[-_ ]?up|fu|initial|recurrence"
)
_VISIT_WORD = r"ses|session|visit|tp|time[-_ ]?point|day|week|month|year"
_SCAN_WORD = r"scan|exam|examination|study|acq|acquisition|time|frame"
_VISIT = re.compile(
    rf"(?:{_STATE}|{_VISIT_WORD})(?:[-_ ]?\d+(?:[-_ ]\d+)*)?|{_DATE}(?:[-_ ].*)?",
    re.IGNORECASE,
)
_SCAN = re.compile(rf"(?:{_SCAN_WORD})[-_ ]?\d+|t\d{{1,2}}", re.IGNORECASE)
_VISIT_SUFFIX = re.compile(
    r"(?P<brats>brats-[a-z]+-\d+)-\d{3}|(?P<upenn>upenn-gbm-\d+)_\d\d|"
    rf"(?P<other>.+?)[-_. ](?:(?:{_VISIT_WORD})[-_ ]?\d+(?:[-_ ]\d+)*|(?:{_STATE})[-_ ]?\d*)",
    re.IGNORECASE,
)
_SCAN_SUFFIX = re.compile(
    rf"(?P<patient>.+?)[-_. ](?:(?P<date>{_DATE})(?:[-_. ].*)?|(?P<time>t\d{{1,2}})|"
    rf"(?:{_SCAN_WORD})[-_ ]?\d{{1,2}})",
    re.IGNORECASE,
)
"""More digits are a case's number: in `la_scan_001`, `la` is no patient."""
_NUMBERED = re.compile(r"(?:(?P<rest>.+)[-_. ])?t(?P<number>\d{1,2})", re.IGNORECASE)
_CONTRASTS = frozenset((1, 2))
"""T1 and T2."""
_COLLECTION = re.compile(
    r"(?:fold|batch|site|cent(?:er|re)|cohort|group|set|part|split|hospital|clinic|scanner|vendor|"
    r"domain|institution|source|collection|subset|dataset|grade|class)[a-z]?\d*|"
    r"tr|ts|hold ?out|internal|external|controls?|healthy|normals?|tumou?rs?|gliomas?|gbm"
)
_PLACEHOLDER = re.compile(
    r"[\W_0]*|(?:anon|anonymous|anonymi[sz]ed|unknown|none|null|no ?(?:id|name)|patient|"
    r"deidentified|removed|test)[\W_0]*",
    re.IGNORECASE,
)


def is_timepoint(name: str) -> bool:
    """Return whether a folder's name is a visit or scan of a patient rather than a patient."""
    return _is_visit(name) or bool(_SCAN.fullmatch(name))


def numbers_visits(places: Iterable[Place], labels: Iterable[Place] = ()) -> bool:
    """Return whether names such as `P1_T1` give a patient's visit rather than a contrast.

    They do if there is a `P1_T0` or `P1_T3` beside it, or if each number has a label of its own.

    Args:
        places: Folders or images; each ends with the name in question.
        labels: Label maps in folders of labels.
    """
    return any(len(one) > 1 and not one <= _CONTRASTS for one in _numbers(places)) or any(
        len(one) > 1 for one in _numbers(labels)
    )


def patients_of(case_ids: Sequence[str]) -> list[str]:
    """Return the patient of each case id: the id, without a time point such as BraTS's `-000`.

    Dates and numbers of scans may be those of the cases as well (`la_scan1`). They are a patient's
    if few cases share what is before them and not all cases do; or all do and it has a digit, like
    `P3_20200101`.
    """
    patients = list(case_ids)
    while True:
        shorter = _without_scans([_without_visit(one) for one in patients])
        if shorter == patients:
            return patients
        patients = shorter


def patients_by_pattern(case_ids: Sequence[str], pattern: str) -> list[str | None]:
    """Return the patient that a regular expression finds in each case id; None where it does not.

    Args:
        case_ids: Of all cases.
        pattern: Searched anywhere in the id; its first group is the patient, or without groups
            the whole match.

    Raises:
        UsageError: If it is no regular expression, or finds nothing in any id.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"--patient {pattern} is no regular expression ({error}). For ids such as P012_scan1 "
            r"it may be '(P\d+)_'."
        ) from error
    found = [_first_of(compiled.search(case_id)) for case_id in case_ids]
    if case_ids and not any(found):
        raise UsageError(
            f"--patient {pattern} finds no patient in any case id, for example {case_ids[0]}. "
            "Correct it, or leave it out: patients are then told from names and folders."
        )
    return found


def _first_of(match: re.Match[str] | None) -> str | None:
    if match is None:
        return None
    return (match[1] if match.re.groups else match[0]) or None


def patient_folders(paths: Iterable[Place]) -> set[Place]:
    """Return the folders that each hold the scans of one patient.

    They hold few cases (at most 10, or 50 if all are visits) and have no name such as `train` or
    `site_3`. Besides, the folders in them are named as visits (`baseline`, `2020-03-01`, `P1_pre`);
    or there are at least as many such folders side by side as one holds cases, and their cases
    are numbered `scan1`, repeat from folder to folder, or carry the folder's name.

    Args:
        paths: One for each case.
    """
    paths = list(paths)
    children: dict[Place, set[str]] = defaultdict(set)
    num_cases: Counter[Place] = Counter()
    for path in paths:
        for depth in range(1, len(path)):
            children[path[:depth]].add(path[depth])
            num_cases[path[:depth]] += 1
    found = {
        folder
        for folder, names in children.items()
        if not _is_collection(folder[-1]) and _has_visits(folder[-1], names)
    }
    levels: dict[Place, list[Place]] = defaultdict(list)
    for folder in {path[:-1] for path in paths if len(path) > 1}:
        if not _is_collection(folder[-1]):
            levels[folder[:-1]].append(folder)
    for folders in levels.values():
        most = max(num_cases[folder] for folder in folders)
        if len(folders) > 1 and most <= _MAX_SCANS:
            found.update(_patients_of_level({one: children[one] for one in folders}, most))
    return found


def patient_folder(path: Place, folders: set[Place]) -> Place | None:
    """Return the outermost of the patients' folders that a case lies in."""
    return next((path[:end] for end in range(1, len(path)) if path[:end] in folders), None)


def united(patients: Sequence[str], patient_ids: Sequence[Hashable | None]) -> list[str]:
    """Return one name for patients whose DICOM series have one PatientID.

    The PatientID itself may be personal and is never shown. It is not believed where it is a
    placeholder, or more cases than one patient has share it.

    Args:
        patients: The patient of each case as folders and names tell.
        patient_ids: PatientID of each case, or None.
    """
    counts = Counter(patient_ids)
    first: dict[Hashable, str] = {}
    renamed: dict[str, str] = {}

    def name_of(patient: str) -> str:
        while patient in renamed:
            patient = renamed[patient]
        return patient

    for patient, patient_id in zip(patients, patient_ids, strict=True):
        if patient_id is None or counts[patient_id] > _MAX_SCANS:
            continue
        name, other = name_of(patient), name_of(first.setdefault(patient_id, patient))
        if name != other:
            renamed[max(name, other)] = min(name, other)
    return [name_of(patient) for patient in patients]


def is_placeholder(patient_id: str) -> bool:
    """Return whether a PatientID is what anonymising leaves, such as `ANON` or `000`."""
    return bool(_PLACEHOLDER.fullmatch(patient_id.strip()))


def _numbers(places: Iterable[Place]) -> Iterable[set[int]]:
    """Return the numbers in names such as `P1_T0`, together for names that differ in it only."""
    found: dict[Place, set[int]] = defaultdict(set)
    for place in places:
        match = _NUMBERED.fullmatch(place[-1]) if place else None
        if match:
            found[(*place[:-1], match["rest"] or "")].add(int(match["number"]))
    return found.values()


def _without_visit(name: str) -> str:
    match = _VISIT_SUFFIX.fullmatch(name)
    if match is None:
        return name
    return match["brats"] or match["upenn"] or match["other"]


def _without_scans(names: Sequence[str]) -> list[str]:
    found = {name: _SCAN_SUFFIX.fullmatch(name) for name in names}
    counts = Counter(match["patient"] for match in found.values() if match)
    shared = os.path.commonprefix(list(found))
    shortened = {}
    for name, match in found.items():
        if match is None or _is_collection(match["patient"]):
            continue
        patient = match["patient"]
        most = _MAX_VISITS if match["date"] else _MAX_SCANS
        is_one_of_several = not shared.startswith(patient)
        is_numbered = (match["date"] or match["time"]) and re.search(r"\d", patient)
        if counts[patient] <= most and (is_one_of_several or is_numbered):
            shortened[name] = patient
    return [shortened.get(name, name) for name in names]


def _is_collection(name: str) -> bool:
    return is_partition(name) or bool(_COLLECTION.fullmatch("".join(words_of(name))))


def _is_visit(name: str) -> bool:
    return bool(_VISIT.fullmatch(name))


def _has_visits(folder: str, names: set[str]) -> bool:
    rests = [_without(folder, name) for name in names]
    wanted = any if len(names) <= _MAX_SCANS else all
    return len(names) <= _MAX_VISITS and wanted(_is_visit(rest) for rest in rests)


def _patients_of_level(level: dict[Place, set[str]], most: int) -> Iterable[Place]:
    """Return which of the folders side by side are patients, of at most `most` cases each."""
    for folder, names in level.items():
        if all(_SCAN.fullmatch(_without(folder[-1], name)) for name in names):
            yield folder
    if len(level) < most:
        return
    places = Counter(name.lower() for names in level.values() for name in names)
    repeating = [
        folder for folder, names in level.items() if any(places[one.lower()] > 1 for one in names)
    ]
    if 2 * len(repeating) >= len(level):
        yield from level
    for folder, names in level.items():
        if re.search(r"\d", folder[-1]) and all(_is_numbered(folder[-1], one) for one in names):
            yield folder


def _is_numbered(folder: str, name: str) -> bool:
    """Return whether a case is called `P1_2` or `P1_b` in folder `P1`; `P1_00002` is a case."""
    rest = _without(folder, name)
    return rest != name and not re.fullmatch(r"\d{4,}", rest)


def _without(folder: str, name: str) -> str:
    """Return a case's name without that of its folder at the start."""
    if name.lower().startswith(folder.lower()) and re.match(r"[-_. ]", name[len(folder) :]):
        return name[len(folder) + 1 :]
    return name
