"""The result folder of a case: label maps, scalar maps, figures."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.geometry import Geometry
from SemiSupSegLib.cases.reading import content_hash
from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import read_json, write_json
from SemiSupSegLib.inference.maps import Maps
from SemiSupSegLib.preparation.restoring import write_volume
from SemiSupSegLib.review.results import review_content

FIGURES_FILE = "case.json"
MAP_SUFFIXES = (
    "label",
    "pseudolabel",
    "uncertainty",
    "confidence",
    "agreement",
    "sure",
    "possible",
    "second",
    "comparison",
    "trust",
    "regions",
)
"""Files are named `<case>_<suffix>.nii.gz`."""


def write_result(
    folder: Path,
    case_id: str,
    maps: Maps,
    task: Task,
    *,
    original: Geometry,
    like: ImageSource | None,
    model_sha256: str,
    model_name: str = "",
    inputs: Mapping[str, ImageSource] = MappingProxyType({}),
    warnings: Iterable[str] = (),
    tells_places: bool = True,
    workers: int = 2,
) -> Path:
    """Write `folder/<case>/` and return it; an earlier result of the same images is replaced.

    All files are written under temporary names first. Then the old figures go, the maps take
    their places, and the new figures come last: whoever finds `case.json` finds its maps. Other
    files of the folder, such as reviews, stay.

    Args:
        folder: The command's OUT.
        case_id: Names folder and files.
        maps: On the original grid.
        task: Gives the written label values.
        original: The grid.
        like: The input file whose header is taken over.
        model_sha256: Of the model package.
        model_name: Of that package; reviews and training labels tell it.
        inputs: The case's images; a review made on this result is joined to them by content.
        warnings: Said besides those of the maps.
        tells_places: Whether `case.json` says where the images are, relative to the result, so that
            they are shown when the result is reviewed.
        workers: Files compressed at the same time.

    Raises:
        SemiSupSegError: If the result there is of other images: a second time point or another
            patient never takes the place of the first.
    """
    target = folder / case_id
    target.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=".result-", dir=target))
    try:
        orders = list(_volumes(maps, task))

        def write(order: tuple[str, Callable[[], NDArray[Any]]]) -> str:
            suffix, make = order
            name = f"{case_id}_{suffix}.nii.gz"
            write_volume(stage / name, make(), original, like)
            return name

        with ThreadPoolExecutor(workers) as pool:
            hashes = pool.map(content_hash, inputs.values())
            names = list(pool.map(write, orders))
            hashed = dict(zip(inputs, hashes, strict=True))
        _refuse_other_images(target, hashed)
        figures = _figures(case_id, maps, model_sha256, model_name, hashed, warnings)
        figures["task"] = task.to_json()
        if tells_places:
            figures["images"] = _places(inputs, target)
        write_json(stage / FIGURES_FILE, figures)
        (target / FIGURES_FILE).unlink(missing_ok=True)
        for name in names:
            (stage / name).replace(target / name)
        for left in _former_files(target, case_id, task):
            if left.name not in names:
                left.unlink(missing_ok=True)
        (stage / FIGURES_FILE).replace(target / FIGURES_FILE)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return target


def has_result(
    folder: Path,
    case_id: str,
    model_sha256: str,
    inputs: Mapping[str, ImageSource] | None = None,
) -> bool:
    """Return whether a case has a result of this model; one that cannot be read is none.

    Args:
        folder: The command's OUT.
        case_id: Names folder and files.
        model_sha256: Of the model package.
        inputs: The case's images, of which it must be; None: of whichever.
    """
    file = folder / case_id / FIGURES_FILE
    if not file.is_file():
        return False
    try:
        figures = read_json(file)
        if figures.get("model_sha256") != model_sha256:
            return False
        return inputs is None or figures.get("inputs") == {
            channel: content_hash(source) for channel, source in inputs.items()
        }
    except SemiSupSegError:
        return False


def _places(inputs: Mapping[str, ImageSource], target: Path) -> dict[str, dict[str, Any]]:
    places = {}
    for channel, source in inputs.items():
        try:
            path = Path(os.path.relpath(source.path, target)).as_posix()
        except ValueError:
            # On Windows there is no way from one drive to another.
            path = str(source.path.absolute())
        places[channel] = {
            "path": path,
            "component": source.component,
            "series": source.series,
        }
    return places


def _refuse_other_images(target: Path, hashed: Mapping[str, str]) -> None:
    file = target / FIGURES_FILE
    if not file.is_file():
        return
    former = read_json(file).get("inputs")
    if former and hashed and former != hashed:
        raise SemiSupSegError(
            f"{target} holds the result of other images. Choose another folder for the results, or "
            "move that result away first."
        )


def _volumes(maps: Maps, task: Task) -> Iterable[tuple[str, Callable[[], NDArray[Any]]]]:
    """Yield suffix and array; arrays are made when they are written, to save memory."""
    values = np.asarray(task.written_values)
    values = values.astype(np.uint8 if values.max() < 256 else np.uint16)
    for suffix, label in (
        ("label", maps.label),
        ("pseudolabel", maps.pseudo_label),
        ("second", maps.second),
    ):
        if label is not None:
            yield suffix, lambda label=label: values[label]  # type: ignore[misc]
    for suffix, array in (
        ("uncertainty", maps.uncertainty),
        ("confidence", maps.confidence),
        ("agreement", maps.agreement),
        ("sure", maps.sure),
        ("possible", maps.possible),
        ("comparison", maps.comparison),
        ("trust", maps.trust),
        ("regions", None if maps.regions is None else maps.regions.map),
        *((f"prob_{name}", array) for name, array in maps.probabilities.items()),
    ):
        if array is not None:
            yield suffix, lambda array=array: array  # type: ignore[misc]


def _former_files(target: Path, case_id: str, task: Task) -> list[Path]:
    suffixes = [*MAP_SUFFIXES, *(f"prob_{one.name}" for one in task.classes)]
    paths = [target / f"{case_id}_{suffix}.nii.gz" for suffix in suffixes]
    return [path for path in paths if path.exists()]


def _figures(
    case_id: str,
    maps: Maps,
    model_sha256: str,
    model_name: str,
    inputs: Mapping[str, str],
    warnings: Iterable[str],
) -> dict[str, Any]:
    figures = maps.figures
    content: dict[str, Any] = {
        "format": "semisupseg-case-result",
        "version": 1,
        "case": case_id,
        "model_sha256": model_sha256,
        "model_name": model_name,
        "inputs": dict(inputs),
        "volumes_ml": {
            name: {key: _rounded(value) for key, value in one.items()}
            for name, one in figures.volumes_ml.items()
        },
        "confidence": {name: _rounded(value) for name, value in figures.confidence.items()},
    }
    if figures.teacher_student_dice:
        content["teacher_student_dice"] = {
            name: _rounded(value) for name, value in figures.teacher_student_dice.items()
        }
    if maps.estimated_dice:
        content["estimated_dice"] = {
            name: _rounded(value) for name, value in maps.estimated_dice.items()
        }
    content["unlike_training"] = maps.likeness.to_json()
    content.update(review_content(maps.regions, maps.review))
    content["warnings"] = [*warnings, *maps.warnings]
    return content


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 6)
