"""Writing a label map as DICOM SEG, on the slices of the DICOM series it was made from."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSupSegLib import __version__
from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.geometry import Geometry
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.files import read_json, replacing_path
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.review.result_label import ResultLabel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAKER = "SemiSupSeg"
_TISSUE = {"scheme": "SCT", "value": "85756007", "meaning": "Tissue"}
"""For a class of which the task does not say what it is."""
_OLDEST = (0, 27)
"""Version of highdicom; Slicer 5.12 has it."""
_MAX_TEXT = 64
"""Characters that a name or meaning may have in DICOM."""


def why_no_dicom_seg(result: Path) -> str:
    """Return why a result cannot become a DICOM SEG, in a sentence; empty if it can.

    Only `case.json` is read, so that a button can know before it is pressed.

    Args:
        result: The result folder, OUT/<case>.
    """
    try:
        content = read_json(result / "case.json")
    except SemiSupSegError as error:
        return str(error)
    images = content.get("images") if isinstance(content, dict) else None
    if images and not any(one.get("series") for one in images.values()):
        return (
            "The case was not segmented from a DICOM series, and a DICOM SEG refers to the images "
            "it was made from."
        )
    return ""


def known_source(result: Path) -> ImageSource | None:
    """Return the series that a result was made from, if `case.json` tells and it is still there.

    Args:
        result: The result folder, OUT/<case>.

    Raises:
        SemiSupSegError: If `case.json` cannot be read.
    """
    from SemiSupSegLib.cases.reading import content_hash

    content = read_json(result / "case.json")
    check_format(content, "case-result", result / "case.json")
    for channel, one in content.get("images", {}).items():
        if not one.get("series"):
            continue
        # Told from the result folder, so that both may move together.
        source = ImageSource(path=result / one["path"], series=one["series"])
        with contextlib.suppress(SemiSupSegError):
            if content_hash(source) == content["inputs"].get(channel):
                return source
    return None


def find_source(folder: Path, inputs: Mapping[str, str]) -> ImageSource:
    """Return the series below a folder that a result was made from, known by its content.

    Of several channels the first one found counts, in their order.

    Args:
        folder: Where the DICOM files are; looked into with all its sub-folders.
        inputs: SHA-256 of each channel, as in `case.json`.

    Raises:
        UsageError: If there is no DICOM in the folder.
        SemiSupSegError: If none of its series is one of the inputs, or it cannot be read.
    """
    from SemiSupSegLib.cases.listing import list_images
    from SemiSupSegLib.cases.reading import content_hash

    series = [one.source for one in list_images(folder).images if one.is_dicom]
    if not series:
        raise UsageError(
            f"{folder} holds no DICOM images, and a DICOM SEG refers to them. Give the folder of "
            "the series that was segmented, or export as NIfTI or .seg.nrrd."
        )
    by_hash: dict[str, ImageSource] = {}
    for one in series:
        # A series that lacks slices or is damaged can be none that was segmented.
        with contextlib.suppress(SemiSupSegError):
            by_hash.setdefault(content_hash(one), one)
    for digest in inputs.values():
        if digest in by_hash:
            return by_hash[digest]
    count = f"{len(series)} DICOM series" if len(series) > 1 else "DICOM series"
    raise SemiSupSegError(
        f"The {count} in {folder} {'are' if len(series) > 1 else 'is'} none that this result was "
        "made from: its images were other files (NIfTI, or an altered copy). Give the folder of "
        "the series that was segmented, or export as NIfTI or .seg.nrrd."
    )


def write_dicom_seg(
    path: Path,
    label: ResultLabel,
    source: ImageSource,
    *,
    series_number: int = 1000,
    description: str = "",
) -> None:
    """Write a BINARY segmentation with one segment a class, in the order of the task.

    Args:
        path: The file to create or replace.
        label: What to write. Its grid may have the axes of the series in any order and sense.
        source: The series; its patient, study and frame of reference are taken over.
        series_number: Of the new series.
        description: SeriesDescription; default: whether it is predicted or reviewed.

    Raises:
        SemiSupSegError: If highdicom is not installed, the series does not lie on the label map's
            grid, or lacks what a DICOM SEG needs.

    Source: DICOM PS3.3 A.51 (Segmentation IOD).
    """
    if source.series is None:
        raise UsageError(
            f"{source.path} is no DICOM series, and a DICOM SEG refers to the images it was made "
            "from. Export as NIfTI or .seg.nrrd instead."
        )
    highdicom = _highdicom()
    datasets = _read_source(source)
    frames = _values_of_frames(datasets, label, source)
    if not frames.any():
        raise UsageError(
            f"The label map of {label.case} is empty, and a DICOM SEG must hold a segmented voxel. "
            "Export it as NIfTI."
        )
    told = description or ("Reviewed segmentation" if label.record else "Predicted segmentation")
    try:
        with warnings.catch_warnings():
            # About values of the source that break the standard in ways that do not matter here.
            warnings.simplefilter("ignore")
            segmentation = highdicom.seg.Segmentation(
                source_images=datasets,
                pixel_array=frames,
                segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=_descriptions(label),
                series_instance_uid=highdicom.UID(),
                series_number=series_number,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer=MAKER,
                manufacturer_model_name=MAKER,
                software_versions=__version__,
                device_serial_number=label.model_sha256[:16],
                content_label="SEGMENTATION",
                content_description=f"{told}, for research only"[:_MAX_TEXT],
                content_creator_name=None if label.record is None else label.record.reviewer,
                series_description=f"{MAKER}: {told}"[:_MAX_TEXT],
            )
            with replacing_path(path) as temporary:
                segmentation.save_as(temporary)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SemiSupSegError(
            f"The DICOM series in {source.path} cannot carry a DICOM SEG: {error}. Export as NIfTI "
            "or .seg.nrrd instead."
        ) from error


def _highdicom() -> Any:
    try:
        import highdicom
        import highdicom.seg
    except ImportError as error:
        raise SemiSupSegError(
            f"DICOM SEG needs the package highdicom ({error}). Install it with "
            "'pip install highdicom' (in Slicer 5.12 and later it is there), or export as NIfTI "
            "or .seg.nrrd."
        ) from error
    version = tuple(int(part) for part in re.findall(r"\d+", highdicom.__version__)[:2])
    if version < _OLDEST:
        raise SemiSupSegError(
            f"DICOM SEG needs highdicom {'.'.join(map(str, _OLDEST))} or later, and "
            f"{highdicom.__version__} is installed. Update it with 'pip install -U highdicom', or "
            "export as NIfTI or .seg.nrrd."
        )
    return highdicom


def _read_source(source: ImageSource) -> list[Any]:
    """Return the series' files along the slice normal, without their pixels."""
    import pydicom

    from SemiSupSegLib.cases.dicom import find_series

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            pydicom.dcmread(path, stop_before_pixels=True) for path in find_series(source).files
        ]


def _values_of_frames(
    datasets: Sequence[Any], label: ResultLabel, source: ImageSource
) -> NDArray[np.uint8]:
    """Return the class indices on the series' own slices, (frames, rows, columns).

    Raises:
        SemiSupSegError: If a slice has voxels that the label map does not.
    """
    import numpy as np

    from SemiSupSegLib.preparation.placement import find_placement

    made = []
    for frame in _frames(datasets, label.geometry, source):
        placement = find_placement(frame, label.geometry)
        if placement is None:
            raise SemiSupSegError(
                f"The slices of the DICOM series in {source.path} do not lie on the grid of the "
                f"label map ({label.geometry}). Give the series that the case was segmented on."
            )
        made.append(np.ascontiguousarray(placement.view(label.values))[0])
    return np.stack(made)


def _frames(datasets: Sequence[Any], grid: Geometry, source: ImageSource) -> Iterator[Geometry]:
    """Yield the grid of each slice, in the order of the files and of the frames in them."""
    for dataset in datasets:
        try:
            if "PerFrameFunctionalGroupsSequence" not in dataset:
                yield _slice(dataset, dataset, dataset, dataset, grid)
                continue
            shared = dataset.SharedFunctionalGroupsSequence[0]
            for frame in dataset.PerFrameFunctionalGroupsSequence:
                yield _slice(
                    dataset,
                    frame.PlanePositionSequence[0],
                    _group("PlaneOrientationSequence", frame, shared),
                    _group("PixelMeasuresSequence", frame, shared),
                    grid,
                )
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise SemiSupSegError(
                f"The DICOM series in {source.path} has slices without position, orientation or "
                "pixel size. Export as NIfTI or .seg.nrrd instead."
            ) from error


def _group(name: str, frame: Any, shared: Any) -> Any:
    return (frame if name in frame else shared)[name][0]


def _slice(
    dataset: Any, position: Any, orientation: Any, measures: Any, grid: Geometry
) -> Geometry:
    """Return a slice as a grid of one layer, as thick as the label map's voxels there."""
    import numpy as np

    cosines = [float(value) for value in orientation.ImageOrientationPatient]
    row, column = np.array(cosines[:3]), np.array(cosines[3:])
    normal = np.cross(row, column)
    nearest = int(np.abs(np.reshape(grid.direction, (3, 3)).T @ normal).argmax())
    row_spacing, column_spacing = (float(value) for value in measures.PixelSpacing)
    x, y, z = (float(value) for value in position.ImagePositionPatient)
    return Geometry(
        size=(int(dataset.Columns), int(dataset.Rows), 1),
        spacing=(column_spacing, row_spacing, grid.spacing[nearest]),
        origin=(x, y, z),
        direction=tuple(float(value) for value in np.stack([row, column, normal], axis=1).ravel()),
    )


def _descriptions(label: ResultLabel) -> list[Any]:
    import highdicom

    how = highdicom.seg.SegmentAlgorithmTypeValues
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=label.model_name[:_MAX_TEXT] or MAKER,
        family=highdicom.sr.CodedConcept("123110", "DCM", "Artificial Intelligence"),
        version=label.model_sha256[:12],
        source=MAKER,
    )
    found = []
    for number, one in enumerate(label.task.classes, start=1):
        anatomy = one.code.get("anatomy")
        description = highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=one.name[:_MAX_TEXT],
            segmented_property_category=_concept(one.code.get("category") or _TISSUE),
            segmented_property_type=_concept(one.code.get("type") or _TISSUE),
            algorithm_type=how.AUTOMATIC if label.record is None else how.SEMIAUTOMATIC,
            algorithm_identification=algorithm,
            anatomic_regions=[_concept(anatomy)] if anatomy else None,
            display_color=highdicom.color.CIELabColor.from_rgb(*one.color),
        )
        if modifier := one.code.get("modifier"):
            kind = description.SegmentedPropertyTypeCodeSequence[0]
            kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(modifier)]
        found.append(description)
    return found


def _concept(code: Mapping[str, str]) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code["value"], code["scheme"], code["meaning"][:_MAX_TEXT])
