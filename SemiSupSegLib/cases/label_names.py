"""What a data set's `dataset.json` calls its label values, and whether a task means the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SemiSupSegLib.cases.case import Reason, Severity
from SemiSupSegLib.cases.names import words_of
from SemiSupSegLib.cases.task import Task

LabelNames = Mapping[str, tuple[int, ...]]
"""Name → label values: one for a class, several for a region."""

_NEGATIONS = ("non", "not", "no", "without")
_SPELLINGS = {"tumour": "tumor", "oedema": "edema"}
_SYNONYMS = {
    "whole": "wt",
    "complete": "wt",
    "core": "tc",
    "ed": "edema",
    "snfh": "edema",
    "hyperintensity": "edema",
    "necrotic": "necrosis",
    "ncr": "necrosis",
    "net": "necrosis",
    "netc": "necrosis",
    "nonenhancing": "necrosis",
}
"""Words of brain tumour data sets for classes and regions, where a task has these."""


@dataclass(frozen=True, kw_only=True)
class _Meaning:
    """A name that was understood."""

    name: str
    values: tuple[int, ...]
    classes: frozenset[str]
    """What a voxel with such a value may be."""

    @property
    def is_region(self) -> bool:
        """Whether a voxel without such a value is none of these classes."""
        return len(self.values) > 1

    @property
    def is_class(self) -> bool:
        """Whether it names one class."""
        return not self.is_region and len(self.classes) == 1


def label_names(content: Mapping[str, Any]) -> LabelNames:
    """Return name → values of a `dataset.json`, whichever way round it has them.

    The Decathlon has value → name, nnU-Net name → value, or → values for a region.
    """
    table: object = content.get("labels")
    found: dict[str, tuple[int, ...]] = {}
    for left, right in table.items() if isinstance(table, dict) else ():
        name, values = left, right if isinstance(right, list) else [right]
        if isinstance(right, str) and left.isdecimal():
            name, values = right, [int(left)]
        numbers = tuple(one for one in values if isinstance(one, int) and one)
        if numbers:
            found[name] = (*found.get(name, ()), *numbers)
    return found


def conflicting_labels(names: LabelNames, task: Task) -> list[str]:
    """Return where the names give a value another meaning than the task, like `1 is edema`."""
    own = {value: one.name for one in task.classes for value in one.values}
    known = _understood(names, task)
    wrong = []
    for value in sorted({value for one in known for value in one.values}):
        inside = [one for one in known if value in one.values]
        possible = frozenset.intersection(*(one.classes for one in inside))
        for one in known:
            if one.is_region and one not in inside:
                possible -= one.classes
        if own.get(value) not in possible:
            wrong.append(f"{value} is {_told(inside, possible, known, task)}")
    return wrong


def label_findings(names: LabelNames, task: Task, label: Path) -> list[Reason]:
    """Return a warning if the values of a label map may mean something else than in the task."""
    wrong = conflicting_labels(names, task)
    reads = f"reads {'; '.join(f'{one.name} = {one.values[0]}' for one in task.classes)}"
    if wrong:
        message = f"dataset.json says {', '.join(wrong)}, but task '{task.name}' {reads}"
        remedy = "Give a task file with this data set's values, or classes will be mixed up"
    elif names and len(task.classes) > 1 and not _understood(names, task):
        said = "; ".join(
            f"{name} = {', '.join(str(value) for value in values)}"
            for name, values in names.items()
        )
        message = (
            f"dataset.json says {said}, and none of these names is one of task '{task.name}', "
            f"which {reads}"
        )
        remedy = "Check that they mean the same, or give a task file with this data set's values"
    else:
        return []
    return [
        Reason(
            code="label_meaning",
            severity=Severity.WARNING,
            file=str(label),
            message=message,
            remedy=remedy,
        )
    ]


def _understood(names: LabelNames, task: Task) -> list[_Meaning]:
    """Return what the names mean that speak of the task's classes or regions."""
    meanings: dict[tuple[str, ...], frozenset[str]] = {}
    for region in task.regions:
        meanings[_spoken(region.name)] = frozenset(region.classes)
    for one in task.classes:
        meanings[_spoken(one.name)] = frozenset((one.name,))
    for word, target in _SYNONYMS.items():
        if (target,) in meanings:
            meanings.setdefault((word,), meanings[(target,)])
    found = [
        _Meaning(name=name, values=values, classes=_classes_of(_spoken(name), meanings))
        for name, values in names.items()
    ]
    # Several values with the name of one class are a region of an unknown kind: in KiTS, the
    # values of "kidney" are kidney, tumour and cyst.
    return [one for one in found if one.classes and not (one.is_region and len(one.classes) == 1)]


def _classes_of(
    words: tuple[str, ...], meanings: Mapping[tuple[str, ...], frozenset[str]]
) -> frozenset[str]:
    """Return the classes that a name speaks of, within the region that it speaks of."""
    spoken = [
        classes
        for name, classes in meanings.items()
        if any(words[start : start + len(name)] == name for start in range(len(words)))
    ]
    classes = frozenset[str]().union(*(one for one in spoken if len(one) == 1))
    regions = [one for one in spoken if len(one) > 1]
    region = frozenset.intersection(*regions) if regions else classes
    within = classes & region
    return within if within else classes if classes else region


def _spoken(name: str) -> tuple[str, ...]:
    """Return the words of a name in one spelling, a negation joined to its word."""
    words = [_SPELLINGS.get(word, word) for word in words_of(name)]
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] in _NEGATIONS:
            joined[-1] = f"non{word}"
        else:
            joined.append(word)
    return tuple(joined)


def _told(
    inside: Sequence[_Meaning], possible: frozenset[str], known: Iterable[_Meaning], task: Task
) -> str:
    """Return what a value is: its own name, or the classes that its regions leave."""
    for one in inside:
        if not one.is_region:
            return one.name
    elsewhere = frozenset[str]().union(*(one.classes for one in known if one.is_class))
    left = possible - elsewhere or possible
    if not left:
        return " and ".join(one.name for one in inside)
    return " or ".join(one.name for one in task.classes if one.name in left)
