"""What is to be segmented: channels, classes, regions, spacing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.files import read_json
from SemiSupSegLib.resources import ROOT, check_format


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One input image of a case."""

    name: str
    """As in file names and in the panel: t1, flair."""
    aliases: tuple[str, ...] = ()
    """Other names under which data sets know it, lower case."""
    required: bool = True
    """Whether a case without it is unusable."""


@dataclass(frozen=True, kw_only=True)
class Class:
    """What a voxel can be, besides background."""

    name: str
    values: tuple[int, ...]
    """Label values accepted on reading; the first is written."""
    color: tuple[int, int, int]
    """Red, green, blue, 0-255."""
    code: Mapping[str, Any] = field(default_factory=dict)
    """Standard terms: {category, type, modifier, anatomy}, each {scheme, value, meaning}."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """A union of classes."""

    name: str
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Task:
    """Channels, classes and regions of a segmentation problem.

    Inside the library, classes are numbered 0 (background), 1, 2, ... in the order of `classes`;
    label values exist in files only.
    """

    name: str
    title: str
    channels: tuple[Channel, ...]
    classes: tuple[Class, ...]
    regions: tuple[Region, ...] = ()
    spacing: tuple[float, float, float] | None = None
    """Voxel spacing x, y, z in mm for training; None: the median of the labelled training cases."""
    mask: str = "nonzero"
    """Where intensities count: `nonzero` (any channel differs from 0) or `all`."""
    expects: Mapping[str, bool] = field(default_factory=dict)
    """What the images must be already: {brain_extracted, coregistered}."""

    @property
    def num_classes(self) -> int:
        """Number of classes with background."""
        return len(self.classes) + 1

    @property
    def targets(self) -> dict[str, tuple[int, ...]]:
        """Class indices of all that has a figure of its own: each class, then each region."""
        index = {one.name: number for number, one in enumerate(self.classes, start=1)}
        found: dict[str, tuple[int, ...]] = {name: (number,) for name, number in index.items()}
        for region in self.regions:
            found[region.name] = tuple(index[name] for name in region.classes)
        return found

    @property
    def headline_targets(self) -> tuple[str, ...]:
        """What a mean Dice is taken over: the regions, or the classes if there are none."""
        chosen = self.regions if self.regions else self.classes
        return tuple(one.name for one in chosen)

    @property
    def written_values(self) -> tuple[int, ...]:
        """Label value written for each class index, background first."""
        return (0, *(one.values[0] for one in self.classes))

    def to_json(self) -> dict[str, Any]:
        """Return the content of the task file."""
        import json

        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {"format": "semisupseg-task", "version": 1, **content}


def task_from_json(content: Mapping[str, Any], source: Path | str = "task") -> Task:
    """Build a task from the content of a task file.

    Raises:
        SemiSupSegError: If the content does not follow the schema or contradicts itself.
    """
    check_format(dict(content), "task", source)
    task = Task(
        name=content["name"],
        title=content.get("title", content["name"]),
        channels=tuple(
            Channel(
                name=one["name"],
                aliases=tuple(one.get("aliases", ())),
                required=one.get("required", True),
            )
            for one in content["channels"]
        ),
        classes=tuple(
            Class(
                name=one["name"],
                values=tuple(one["values"]),
                color=tuple(one["color"]),
                code=one.get("code", {}),
            )
            for one in content["classes"]
        ),
        regions=tuple(
            Region(name=one["name"], classes=tuple(one["classes"]))
            for one in content.get("regions", ())
        ),
        spacing=tuple(content["spacing"]) if content.get("spacing") else None,
        mask=content.get("mask", "nonzero"),
        expects=content.get("expects", {}),
    )
    _check_consistency(task, source)
    return task


def load_task(name_or_file: str | Path) -> Task:
    """Return a built-in task by name (`brats`, `binary`) or the task of a file."""
    path = Path(name_or_file)
    builtin = ROOT / "Tasks" / f"{name_or_file}.json"
    if builtin.is_file():
        path = builtin
    elif not path.is_file():
        names = ", ".join(sorted(file.stem for file in (ROOT / "Tasks").glob("*.json")))
        raise UsageError(f"There is no task '{name_or_file}'. Give a task file or one of: {names}.")
    return task_from_json(read_json(path), path)


def _check_consistency(task: Task, source: Path | str) -> None:
    values = [value for one in task.classes for value in one.values]
    names = [one.name for one in task.classes] + [one.name for one in task.regions]
    channel_names = [name.lower() for one in task.channels for name in {one.name, *one.aliases}]
    known = {one.name for one in task.classes}
    problems = []
    if len(set(values)) < len(values) or 0 in values:
        problems.append("label values must be different and not 0")
    if len(set(names)) < len(names):
        problems.append("classes and regions must have different names")
    if len(set(channel_names)) < len(channel_names):
        problems.append("a channel name or alias is used twice")
    problems += [
        f"region {region.name} names unknown classes"
        for region in task.regions
        if not set(region.classes) <= known
    ]
    if problems:
        raise UsageError(f"Task {source}: {'; '.join(problems)}. Correct the task file.")
