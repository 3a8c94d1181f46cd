"""Slices of telling validation cases as pictures: image, labels, differences, maps."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SemiSupSegLib.cases.label_values import UNKNOWN_CLASS
from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.report.blocks import (
    Block,
    Gallery,
    Legend,
    Note,
    Ramp,
    Section,
    Swatch,
    Tile,
    number,
)
from SemiSupSegLib.report.color_maps import color_map, color_map_meaning, comparison_colors
from SemiSupSegLib.report.record import RunRecord

Picture = NDArray[np.uint8]
"""(H, W, 3)."""

Arrays = Mapping[str, NDArray[Any]]
"""Content of a slice file: `SemiSupSegLib.training.slices.write_slice`."""

SIDE = 256
"""Pixels of a picture's longer side, at least; slices are enlarged by whole numbers."""
FILL = 0.4
"""Opacity of a class over the image; its outline is opaque."""
MAP_STEPS = 200
MAPS = ("confidence", "agreement", "uncertainty")
MISTAKES = (
    (1, "right", (150, 150, 150)),
    (2, "missed", (0, 114, 178)),
    (3, "not there", (230, 159, 0)),
    (4, "wrong class", (204, 121, 167)),
)
"""Of a network against the reference; the colours of the comparison of teacher and student."""


def pictures_section(record: RunRecord) -> Section:
    """Return best, median and worst case, and cases of high, medium and low confidence."""
    chosen: Mapping[str, str] = (record.validation or {}).get("pictures", {})
    blocks: list[Block] = []
    if not chosen:
        blocks.append(Note(text=record.absence("Pictures of validation cases")))
        return Section(id="pictures", title="Pictures", blocks=blocks)
    slices = {case: _read_slice(record, case) for case in set(chosen.values())}
    missing = sorted(case for case, arrays in slices.items() if arrays is None)
    blocks.append(_legend(record.task))
    shown = set()
    for role in ("best", "median", "worst"):
        case = chosen.get(role)
        arrays = slices.get(case) if case else None
        if case and arrays is not None and case not in shown:
            shown.add(case)
            blocks.append(_case_gallery(record, role, case, arrays))
    for role in ("high_confidence", "medium_confidence", "low_confidence"):
        case = chosen.get(role)
        arrays = slices.get(case) if case else None
        if case and arrays is not None:
            blocks.append(_tier_gallery(record, role, case, arrays))
    num_cases = len((record.validation or {}).get("cases", {}))
    if num_cases < 3:
        blocks.append(
            Note(
                text=f"There {'is' if num_cases == 1 else 'are'} only {num_cases} validation "
                f"case{'' if num_cases == 1 else 's'}, so not every role has a case of its own."
            )
        )
    if missing:
        blocks.append(Note(text=f"No slice was written for {', '.join(missing)}."))
    return Section(
        id="pictures",
        title="Pictures (Liu, figures 7 to 9)",
        intro=(
            "Axial slices through the largest area of the reference, on the prepared grid, the "
            "patient's left at the right. In the maps bright means: look here."
        ),
        blocks=blocks,
    )


def _case_gallery(record: RunRecord, role: str, case: str, arrays: Arrays) -> Gallery:
    task = record.task
    channel, gray = _gray(task, arrays)
    truth = arrays["truth"]
    pictures = [(f"Image ({channel})", gray)]
    for name, title in (
        ("truth", "Reference"),
        ("teacher", "Teacher"),
        ("before", "Student before"),
        ("student", "Student"),
    ):
        if name in arrays:
            pictures.append((title, _with_label(task, gray, arrays[name])))
    if "teacher" in arrays:
        values = _comparison(arrays["student"], arrays["teacher"])
        colors = {value: color for value, (_, color) in comparison_colors().items() if value}
        pictures.append(("Teacher and student", _with_colors(gray, values, colors)))
    wrong = _comparison(arrays["student"], truth)
    wrong[truth == UNKNOWN_CLASS] = 0
    mistakes = {value: color for value, _, color in MISTAKES}
    pictures.append(("Student's errors", _with_colors(gray, wrong, mistakes)))
    for name in MAPS:
        if name in arrays:
            pictures.append((name.capitalize(), _as_map(name, arrays[name])))
    dice = {
        network: record.mean_dice(network).get(case) for network in ("student", "before", "teacher")
    }
    told = ", ".join(
        f"{network} {number(value)}" for network, value in dice.items() if value is not None
    )
    return Gallery(
        title=f"{role.capitalize()} case: {case}",
        tiles=tuple(_tile(title, picture, arrays) for title, picture in pictures),
        caption=f"Dice: {told}. Chosen by the student's Dice.",
    )


def _tier_gallery(record: RunRecord, role: str, case: str, arrays: Arrays) -> Gallery:
    details = (record.validation or {}).get("details", {})
    told = number(details[case]["student"]["image_confidence"]["self_dice"])
    dice = number(record.mean_dice("student").get(case))
    channel, gray = _gray(record.task, arrays)
    pictures = [
        (f"Image ({channel})", gray),
        ("Reference", _with_label(record.task, gray, arrays["truth"])),
        ("Student", _with_label(record.task, gray, arrays["student"])),
    ]
    pictures += [
        (name.capitalize(), _as_map(name, arrays[name]))
        for name in ("confidence", "agreement")
        if name in arrays
    ]
    return Gallery(
        title=f"{role.split('_')[0].capitalize()} image confidence: {case}",
        tiles=tuple(_tile(title, picture, arrays) for title, picture in pictures),
        caption=f"Image confidence {told}, true Dice {dice}.",
    )


def _legend(task: Task) -> Legend:
    classes = tuple(Swatch(name=one.name, color=_css(one.color)) for one in task.classes)
    both = tuple(
        Swatch(name=name, color=_css(color))
        for value, (name, color) in comparison_colors().items()
        if value
    )
    mistakes = tuple(Swatch(name=name, color=_css(color)) for _, name, color in MISTAKES)
    ramps = []
    for name in MAPS:
        colors = color_map(name)
        low, high = color_map_meaning(name)
        steps = tuple(_css(colors[index]) for index in range(0, 256, 15))
        ramps.append(Ramp(name=name.capitalize(), colors=steps, low=low, high=high))
    return Legend(
        groups=(
            ("Classes", classes),
            ("Teacher and student", both),
            ("Student's errors", mistakes),
        ),
        ramps=tuple(ramps),
    )


def _read_slice(record: RunRecord, case: str) -> dict[str, NDArray[Any]] | None:
    path = record.run.validation / "slices" / f"{Path(case).name}.npz"
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, KeyError):
        return None


def _gray(task: Task, arrays: Arrays) -> tuple[str, Picture]:
    """Return the channel in which the foreground stands out most, and its name."""
    image = arrays["image"].astype(np.float32)
    foreground = (arrays["truth"] > 0) & (arrays["truth"] != UNKNOWN_CLASS)
    # Preparation leaves exact zeros outside the mask.
    outside = (image == 0).all(axis=0)
    around = ~foreground & ~outside
    best, contrast = 0, -1.0
    for index, channel in enumerate(image):
        if foreground.any() and around.any():
            spread = float(channel[around].std()) + 1e-6
            found = abs(float(channel[foreground].mean() - channel[around].mean())) / spread
            if found > contrast:
                best, contrast = index, found
    channel = image[best]
    inside = channel[~outside] if (~outside).any() else channel.ravel()
    low, high = np.percentile(inside, [0.5, 99.5])
    scaled = np.clip((channel - low) / max(float(high - low), 1e-6), 0, 1)
    scaled[outside] = 0
    gray = np.round(255 * scaled).astype(np.uint8)
    return task.channels[best].name, np.repeat(_enlarge(gray)[..., None], 3, axis=-1)


def _with_label(task: Task, gray: Picture, label: NDArray[np.uint8]) -> Picture:
    colors = {index: one.color for index, one in enumerate(task.classes, start=1)}
    return _with_colors(gray, label, colors)


def _with_colors(
    gray: Picture, values: NDArray[np.uint8], colors: Mapping[int, tuple[int, int, int]]
) -> Picture:
    picture = gray.astype(np.float32)
    large = _enlarge(values)
    edge = _outline(large)
    for value, color in colors.items():
        own = large == value
        paint = np.asarray(color, np.float32)
        picture[own] = (1 - FILL) * picture[own] + FILL * paint
        picture[own & edge] = paint
    return picture.astype(np.uint8)


def _outline(label: NDArray[np.uint8]) -> NDArray[np.bool_]:
    edge = np.zeros(label.shape, bool)
    for axis in (0, 1):
        differs = np.diff(label.astype(np.int16), axis=axis) != 0
        first = [slice(None)] * 2
        second = [slice(None)] * 2
        first[axis], second[axis] = slice(0, -1), slice(1, None)
        edge[tuple(first)] |= differs
        edge[tuple(second)] |= differs
    return edge


def _as_map(name: str, steps: NDArray[np.uint8]) -> Picture:
    index = np.round(steps.astype(np.float32) * (255 / MAP_STEPS)).clip(0, 255).astype(np.uint8)
    return color_map(name)[_enlarge(index)]


def _comparison(student: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return 0 where both are background, 1 same class, 2 only `other`, 3 only student, 4 else."""
    values = np.zeros(student.shape, np.uint8)
    values[(student > 0) & (student == other)] = 1
    values[(student == 0) & (other > 0)] = 2
    values[(student > 0) & (other == 0)] = 3
    values[(student > 0) & (other > 0) & (student != other)] = 4
    return values


def _enlarge(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    factor = max(1, round(SIDE / max(values.shape)))
    return values.repeat(factor, axis=0).repeat(factor, axis=1)


def _tile(title: str, picture: Picture, arrays: Arrays) -> Tile:
    from matplotlib.image import imsave

    stream = io.BytesIO()
    imsave(stream, picture, format="png")
    row_mm, column_mm = (float(value) for value in arrays["spacing_mm"])
    height, width = arrays["truth"].shape
    return Tile(
        uri="data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii"),
        title=title,
        width_mm=width * column_mm,
        height_mm=height * row_mm,
    )


def _css(color: Any) -> str:
    red, green, blue = (int(part) for part in color)
    return f"rgb({red} {green} {blue})"
