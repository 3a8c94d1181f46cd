"""The results table: volumes and confidence per class and region, as text for people."""

from __future__ import annotations

from collections.abc import Mapping

import vtk
from slicer.i18n import tr as _

from SemiSupSegLib.cases.task import Task


def fill_table(table, content: Mapping, task: Task) -> None:
    """Write volumes, confidence and review regions per class and region into a table node.

    It is text for people: what is not known is a dash. `case.json` has all digits. The confidence
    of a class is the Dice that its probabilities let expect; what a quality network thinks of it
    has a column only if the model has one. "T-S" is teacher and student; to review are regions.
    """
    estimated = content.get("estimated_dice") or {}
    titles = (
        _("Name"),
        _("mL"),
        _("mL range"),
        _("Confidence"),
        *([_("Est. Dice")] if estimated else []),
        _("Dice T-S"),
        _("Review"),
    )
    columns = [vtk.vtkStringArray() for _title in titles]
    regions = [f"{one.name} = {' + '.join(one.classes)}" for one in task.regions]
    dice = content.get("teacher_student_dice") or {}
    for name in task.targets:
        volume = content["volumes_ml"].get(name, {})
        low, high = _number(volume.get("low"), 1), _number(volume.get("high"), 1)
        cells = (
            name,
            _number(volume.get("value"), 1),
            # Without spaces, so that a large tumour's row fits into the panel.
            f"{low}-{high}" if "-" not in (low, high) else "-",
            _number(content["confidence"].get(name), 2),
            *([_number(estimated.get(name), 2)] if estimated else []),
            _number(dice.get(name), 2),
            _to_review(content, name, task),
        )
        for column, text in zip(columns, cells, strict=True):
            column.InsertNextValue(text)
    before = table.StartModify()
    try:
        table.RemoveAllColumns()
        for title, column in zip(titles, columns, strict=True):
            column.SetName(title)
            table.AddColumn(column)
        # Else the view has letters there, and our titles stand in its first row.
        table.SetUseColumnTitleAsColumnHeader(True)
        table.SetLocked(True)
        table.SetDescription("; ".join(regions))
    finally:
        table.EndModify(before)


def _to_review(content: Mapping, name: str, task: Task) -> str:
    """Return how many review regions may be of a class, or of one of a region's."""
    if "review_regions" not in content:
        return "-"
    classes = next((set(one.classes) for one in task.regions if one.name == name), {name})
    listed = content["review_regions"]
    return str(sum(bool(classes & {one["class"], one["second_class"]}) for one in listed))


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
