"""One picture of several predicted cases: image, reference, teacher, student, maps of doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SemiSupSegLib.cases.case import Case
from SemiSupSegLib.cases.reading import read_image, read_label
from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.files import replacing_path
from SemiSupSegLib.report.color_maps import color_map, color_map_meaning

INCHES = 1.9
"""Width of one slice in the picture."""
MAPS = ("uncertainty", "confidence", "agreement")
FILL = 0.45
"""Opacity of a class over the image."""


@dataclass(frozen=True, kw_only=True)
class OverviewRow:
    """What one row of the picture shows: axial slices (H, W), the patient's left at the right."""

    title: str
    image: NDArray[np.float32]
    labels: Mapping[str, NDArray[np.uint8]]
    """By column title; class indices."""
    maps: Mapping[str, NDArray[np.float32]]
    """By name of the colour map; 0-1."""
    aspect: float
    """Height of a voxel by its width."""


def overview_row(case: Case, result: Path, task: Task, title: str) -> OverviewRow:
    """Return the axial slice of a case with the largest tumour, or whatever is segmented.

    Args:
        case: With images, and with its reference label if there is one.
        result: The case's result folder.
        task: Names channels and label values.
        title: Stands beside the row.

    Raises:
        SemiSupSegError: If a file cannot be read.
    """
    import SimpleITK as sitk

    # Results are on the first channel's grid, which other files need not share.
    # The last channel of the built-in tasks shows most (FLAIR; the only one).
    source = case.channels[list(case.channels)[-1]]
    grid = sitk.ReadImage(str(result / f"{case.id}_label.nii.gz"))
    image, aspect = _axial(
        sitk.Resample(read_image(source), grid, sitk.Transform(), sitk.sitkLinear)
    )
    labels = {}
    if case.label is not None:
        reference = read_label(case.label, task)
        labels["Reference"] = _axial(
            sitk.Resample(reference, grid, sitk.Transform(), sitk.sitkNearestNeighbor)
        )[0]
    for column, suffix in (("Teacher", "pseudolabel"), ("Student", "label")):
        file = result / f"{case.id}_{suffix}.nii.gz"
        if file.is_file():
            labels[column] = _class_indices(file, task)
    maps = {
        name: _read(file)
        for name in MAPS
        if (file := result / f"{case.id}_{name}.nii.gz").is_file()
    }
    leading = labels.get("Reference", labels["Student"])
    index = int((leading > 0).sum(axis=(1, 2)).argmax())
    return OverviewRow(
        title=title,
        image=image[index].astype(np.float32),
        labels={name: label[index].astype(np.uint8) for name, label in labels.items()},
        maps={name: values[index].astype(np.float32) for name, values in maps.items()},
        aspect=aspect,
    )


def write_overview(path: Path, rows: Sequence[OverviewRow], task: Task) -> None:
    """Write the rows as one PNG picture with titles and the classes' colours.

    Args:
        path: The picture; replaced if it is there.
        rows: At least one.
        task: Names and colours of the classes.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    columns = ["Image", *rows[0].labels, *rows[0].maps]
    height, width = rows[0].image.shape
    figure = Figure(
        figsize=(
            INCHES * len(columns),
            INCHES * len(rows) * height * rows[0].aspect / width + 0.8,
        ),
        layout="constrained",
        facecolor="black",
    )
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for axes_row, row in zip(grid, rows, strict=True):
        for axes, column in zip(axes_row, columns, strict=True):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            axes.imshow(_tile(row, column, task), aspect=row.aspect, interpolation="nearest")
        axes_row[0].set_ylabel(row.title, color="white", fontsize=8, linespacing=1.5)
    for axes, column in zip(grid[0], columns, strict=True):
        axes.set_title(_heading(column), color="white", fontsize=7, loc="left")
    handles = [Patch(color=f"#{bytes(one.color).hex()}", label=one.name) for one in task.classes]
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=max(len(handles), 1),
        fontsize=8,
        frameon=False,
        labelcolor="white",
    )
    with replacing_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _heading(column: str) -> str:
    """Return a column's title; over a map also what its bright end means."""
    if column not in MAPS:
        return column
    colors = color_map(column).sum(axis=1)
    low, high = color_map_meaning(column)
    return f"{column.capitalize()}\nbright: {high if colors[-1] > colors[0] else low}"


def _tile(row: OverviewRow, column: str, task: Task) -> NDArray[np.float32]:
    """Return one picture, (H, W, 3), 0-1."""
    if column in row.maps:
        steps = np.round(255 * row.maps[column].clip(0, 1)).astype(np.uint8)
        return (color_map(column)[steps] / 255).astype(np.float32)
    inside = row.image[row.image != 0]
    low, high = np.percentile(inside, [1, 99.5]) if inside.size else (0.0, 1.0)
    gray = np.clip((row.image - low) / max(float(high - low), 1e-6), 0, 1)
    picture = np.repeat(gray[..., None], 3, axis=-1)
    label = row.labels.get(column)
    if label is not None:
        for index, one in enumerate(task.classes, start=1):
            paint = np.array(one.color, np.float32) / 255
            own = label == index
            picture[own] = (1 - FILL) * picture[own] + FILL * paint
    return picture.astype(np.float32)


def _axial(image: Any) -> tuple[NDArray[Any], float]:
    """Return a SimpleITK image as axial slices (D, H, W), and a voxel's height by its width.

    The axes are brought to LPS first: rows go to posterior, columns to the patient's left.
    """
    import SimpleITK as sitk

    turned = sitk.DICOMOrient(image, "LPS")
    spacing = turned.GetSpacing()
    return sitk.GetArrayFromImage(turned), spacing[1] / spacing[0]


def _read(file: Path) -> NDArray[Any]:
    import SimpleITK as sitk

    return _axial(sitk.ReadImage(str(file)))[0]


def _class_indices(file: Path, task: Task) -> NDArray[np.uint8]:
    written = _read(file)
    label = np.zeros(written.shape, np.uint8)
    for index, value in enumerate(task.written_values):
        label[written == value] = index
    return label
