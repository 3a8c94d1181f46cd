"""A label map in the forms that other programs read, each judged by another reader."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.geometry import geometry_of
from SemiSupSegLib.cases.listing import list_images
from SemiSupSegLib.cases.reading import content_hash, read_image
from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.review.change import Change
from SemiSupSegLib.review.dicom_seg import find_source, write_dicom_seg
from SemiSupSegLib.review.export import export_label
from SemiSupSegLib.review.result_label import ResultLabel, predicted_label, reviewed_label
from SemiSupSegLib.review.summary import COLUMNS, summary_lines, write_csv
from Testing.data import make_dicom_phantom
from Testing.data.make_review_folder import (
    GRID,
    MODEL,
    begin,
    make_result,
    the_label,
    the_region_map,
    the_task,
)

VALUES = np.array([0, 1, 2, 4], np.uint8)
needs_highdicom = pytest.mark.skipif(
    find_spec("highdicom") is None, reason="highdicom has no wheels for this Python"
)


@pytest.fixture
def a_result(tmp_path) -> Path:
    return make_result(tmp_path / "out")


@pytest.fixture
def a_record(a_result):
    """A review that turned the second region into the enhancing class."""
    record = begin(a_result)
    label = the_label()
    after = label.copy()
    after[the_region_map() == 2] = 3
    record.decide(1, "confirmed")
    record.decide(2, "relabelled", Change.between(label, after))
    return record


def corrected() -> np.ndarray:
    label = the_label()
    label[the_region_map() == 2] = 3
    return label


# NIfTI


def test_nifti_holds_the_tasks_label_values_on_the_original_grid(a_result, a_record, tmp_path):
    path = tmp_path / "elsewhere" / "a.nii.gz"

    export_label(reviewed_label(a_record), path, "nifti")

    image = nibabel.load(path)
    assert np.array_equal(np.asarray(image.dataobj).T, VALUES[corrected()])
    assert np.array_equal(image.affine, nibabel.load(a_result / "p1_label.nii.gz").affine)


def test_the_prediction_can_be_exported_without_a_review(a_result, tmp_path):
    export_label(predicted_label(a_result, the_task()), tmp_path / "a.nii.gz", "nifti")

    stored = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nii.gz")))
    assert np.array_equal(stored, VALUES[the_label()])


# .seg.nrrd


def test_seg_nrrd_is_read_by_itk_on_its_grid(a_record, tmp_path):
    export_label(reviewed_label(a_record), tmp_path / "a.seg.nrrd", "seg.nrrd")

    image = sitk.ReadImage(str(tmp_path / "a.seg.nrrd"))

    assert np.array_equal(sitk.GetArrayFromImage(image), VALUES[corrected()])
    assert image.GetSize() == GRID.size
    for ours, theirs in (
        (image.GetSpacing(), GRID.spacing),
        (image.GetOrigin(), GRID.origin),
        (image.GetDirection(), GRID.direction),
    ):
        # The result is a NIfTI file, whose affine is float32.
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_seg_nrrd_says_where_each_segment_lies(a_record, tmp_path):
    export_label(reviewed_label(a_record), tmp_path / "a.seg.nrrd", "seg.nrrd")

    image = sitk.ReadImage(str(tmp_path / "a.seg.nrrd"))
    text = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}

    assert [text[f"Segment{number}_Name"] for number in range(3)] == [
        "necrosis",
        "edema",
        "enhancing",
    ]
    assert [text[f"Segment{number}_LabelValue"] for number in range(3)] == ["1", "2", "4"]
    assert text["Segment0_Extent"] == "1 4 2 5 1 3"
    assert text["Segmentation_MasterRepresentation"] == "Binary labelmap"


def test_seg_nrrd_has_a_segment_for_a_class_without_voxels(a_result, tmp_path):
    label = replace(predicted_label(a_result, the_task()), values=np.zeros_like(the_label()))

    export_label(label, tmp_path / "a.seg.nrrd", "seg.nrrd")

    image = sitk.ReadImage(str(tmp_path / "a.seg.nrrd"))
    assert image.GetMetaData("Segment2_Name") == "enhancing"
    assert image.GetMetaData("Segment2_Extent") == "0 -1 0 -1 0 -1"


@pytest.mark.parametrize(
    ("verdict", "status"),
    [(None, "inprogress"), ("accepted", "completed"), ("rejected", "flagged")],
)
def test_slicer_shows_the_verdict_at_the_segments(a_record, tmp_path, verdict, status):
    if verdict:
        a_record.give_verdict(verdict)

    export_label(reviewed_label(a_record), tmp_path / "a.seg.nrrd", "seg.nrrd")

    tags = sitk.ReadImage(str(tmp_path / "a.seg.nrrd")).GetMetaData("Segment0_Tags")
    assert f"Segmentation.Status:{status}|" in tags


# DICOM SEG


def series_of(folder: Path) -> ImageSource:
    (source,) = (one.source for one in list_images(folder).images if one.is_dicom)
    return source


def label_on(source: ImageSource, values: np.ndarray, *, turned: bool = False) -> ResultLabel:
    """Return a label map on the grid of a series, or on the same voxels in another order."""
    grid = geometry_of(read_image(source))
    if turned:
        image = sitk.GetImageFromArray(values)
        image.SetOrigin(grid.origin)
        image.SetSpacing(grid.spacing)
        image.SetDirection(grid.direction)
        image = sitk.Flip(sitk.PermuteAxes(image, (2, 0, 1)), (True, False, True))
        grid, values = geometry_of(image), sitk.GetArrayFromImage(image)
    return ResultLabel(
        case="p1",
        values=values,
        geometry=grid,
        file=Path("p1_label.nii.gz"),
        task=the_task(),
        model_sha256=MODEL,
        model_name="a model",
        inputs={"t1": content_hash(source)},
    )


def voxels_by_position(path: Path) -> dict[tuple[int, ...], str]:
    """Read a DICOM SEG without our writer's package: position (0.1 mm) → segment of each voxel."""
    one = pydicom.dcmread(path)
    bits = np.unpackbits(np.frombuffer(one.PixelData, np.uint8), bitorder="little")
    size = one.Rows * one.Columns
    frames = bits[: one.NumberOfFrames * size].reshape(-1, one.Rows, one.Columns)
    names = {item.SegmentNumber: item.SegmentLabel for item in one.SegmentSequence}
    shared = one.SharedFunctionalGroupsSequence[0]
    found = {}
    for frame, groups in zip(frames, one.PerFrameFunctionalGroupsSequence, strict=True):
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        down, right = shared.PixelMeasuresSequence[0].PixelSpacing
        start = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        along_row, along_column = np.array(orientation[:3], float), np.array(orientation[3:], float)
        for row, column in np.argwhere(frame):
            place = start + column * right * along_row + row * down * along_column
            key = tuple(int(value) for value in np.rint(place * 10))
            assert key not in found, "classes exclude each other"
            found[key] = names[number]
    return found


def expected_by_position(values: np.ndarray) -> dict[tuple[int, ...], str]:
    """Return the same from the phantom's own geometry, (slices, rows, columns)."""
    names = ("", "necrosis", "edema", "enhancing")
    row, column, _ = make_dicom_phantom.axes()
    down, right = make_dicom_phantom.PIXEL_SPACING
    found = {}
    for number, y, x in np.argwhere(values):
        place = np.array(make_dicom_phantom.position(number)) + x * right * row + y * down * column
        found[tuple(int(value) for value in np.rint(place * 10))] = names[values[number, y, x]]
    return found


def phantom_label() -> np.ndarray:
    values = np.zeros(make_dicom_phantom.SHAPE, np.uint8)
    values[1:4, 2:5, 3:6] = 1
    values[4, 0, 0] = 3
    values[2, 7, 1:7] = 2
    return values


@needs_highdicom
@pytest.mark.parametrize("turned", [False, True], ids=["as the slices", "turned"])
def test_a_dicom_seg_lies_where_the_series_does(tmp_path, turned):
    source = series_of(make_dicom_phantom.write_series(tmp_path / "dicom"))
    label = label_on(source, phantom_label(), turned=turned)

    export_label(label, tmp_path / "a.dcm", "dicom-seg", dicom=tmp_path / "dicom")

    assert voxels_by_position(tmp_path / "a.dcm") == expected_by_position(phantom_label())


@needs_highdicom
def test_a_dicom_seg_lies_where_a_file_of_many_frames_does(tmp_path):
    source = series_of(make_dicom_phantom.write_enhanced(tmp_path / "dicom"))
    image = read_image(source)
    # The frames of the file are stored from the last slice to the first.
    values = phantom_label()[::-1]
    grid = geometry_of(image)
    assert grid.shape == make_dicom_phantom.SHAPE
    label = label_on(source, np.ascontiguousarray(values))

    write_dicom_seg(tmp_path / "a.dcm", label, source)

    assert voxels_by_position(tmp_path / "a.dcm") == expected_by_position(phantom_label())


@needs_highdicom
def test_dcmqi_reads_a_dicom_seg_as_the_same_label_map(tmp_path):
    """What Slicer itself reads DICOM SEG with."""
    program = Path(sys.executable).parent / "segimage2itkimage"
    if not program.exists():
        pytest.skip("dcmqi is not installed")
    source = series_of(make_dicom_phantom.write_series(tmp_path / "dicom"))
    write_dicom_seg(tmp_path / "a.dcm", label_on(source, phantom_label()), source)

    words = [str(program), "--inputDICOM", str(tmp_path / "a.dcm"), "--outputType", "nrrd"]
    words += ["--outputDirectory", str(tmp_path), "--mergeSegments"]
    done = subprocess.run(words, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    image = sitk.ReadImage(str(tmp_path / "1.nrrd"))
    names = {one["labelID"]: one["SegmentLabel"] for one in _segments_of(tmp_path / "meta.json")}
    found = {
        tuple(
            int(value)
            for value in np.rint(
                10 * np.array(image.TransformIndexToPhysicalPoint((int(x), int(y), int(z))))
            )
        ): names[int(image.GetPixel(int(x), int(y), int(z)))]
        for z, y, x in np.argwhere(sitk.GetArrayFromImage(image))
    }
    assert found == expected_by_position(phantom_label())


def _segments_of(file: Path):
    return [one for group in json.loads(file.read_text())["segmentAttributes"] for one in group]


@needs_highdicom
def test_a_dicom_seg_belongs_to_the_patient_and_refers_to_the_slices(tmp_path):
    folder = make_dicom_phantom.write_series(tmp_path / "dicom")
    source = series_of(folder)

    write_dicom_seg(tmp_path / "a.dcm", label_on(source, phantom_label()), source)

    made = pydicom.dcmread(tmp_path / "a.dcm")
    first = pydicom.dcmread(next(folder.iterdir()))
    assert made.SOPClassUID == pydicom.uid.SegmentationStorage
    for name in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert made[name].value == first[name].value
    assert made.SeriesInstanceUID != first.SeriesInstanceUID
    (referenced,) = made.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == first.SeriesInstanceUID
    frame = made.PerFrameFunctionalGroupsSequence[0]
    (derivation,) = frame.DerivationImageSequence
    uid = derivation.SourceImageSequence[0].ReferencedSOPInstanceUID
    (same,) = (
        one for path in folder.iterdir() if (one := pydicom.dcmread(path)).SOPInstanceUID == uid
    )
    place = frame.PlanePositionSequence[0].ImagePositionPatient
    assert np.allclose(np.array(same.ImagePositionPatient, float), np.array(place, float))


@needs_highdicom
def test_a_dicom_seg_has_a_coded_segment_for_each_class(tmp_path):
    source = series_of(make_dicom_phantom.write_series(tmp_path / "dicom"))

    write_dicom_seg(tmp_path / "a.dcm", label_on(source, phantom_label()), source)

    segments = pydicom.dcmread(tmp_path / "a.dcm").SegmentSequence
    for segment, one in zip(segments, load_task("brats").classes, strict=True):
        assert segment.SegmentLabel == one.name
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        for sequence, kind in (
            (segment.SegmentedPropertyCategoryCodeSequence, "category"),
            (segment.SegmentedPropertyTypeCodeSequence, "type"),
            (segment.AnatomicRegionSequence, "anatomy"),
        ):
            (code,) = sequence
            assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == (
                one.code[kind]["value"],
                one.code[kind]["scheme"],
                one.code[kind]["meaning"],
            )


@needs_highdicom
def test_a_class_without_terms_is_a_tissue_for_dicom(tmp_path):
    source = series_of(make_dicom_phantom.write_series(tmp_path / "dicom"))
    label = label_on(source, phantom_label())
    classes = tuple(replace(one, code={}) for one in label.task.classes)

    write_dicom_seg(
        tmp_path / "a.dcm", replace(label, task=replace(label.task, classes=classes)), source
    )

    segment = pydicom.dcmread(tmp_path / "a.dcm").SegmentSequence[0]
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"
    assert "AnatomicRegionSequence" not in segment


def test_the_series_is_known_by_its_content(tmp_path):
    for number, name in enumerate(("t1", "t2"), start=1):
        make_dicom_phantom.write_series(
            tmp_path / "dicom" / name, seed=number, series=number, description=name
        )
    sources = {one.source.path.name: one.source for one in list_images(tmp_path / "dicom").images}
    inputs = {"t1": "00" * 32, "t2": content_hash(sources["t2"])}

    assert find_source(tmp_path / "dicom", inputs) == sources["t2"]
    assert find_source(tmp_path / "dicom" / "t2", inputs).series == sources["t2"].series


def test_a_result_that_is_not_of_dicom_says_so(a_record, tmp_path):
    label = reviewed_label(a_record)
    (tmp_path / "empty").mkdir()
    make_dicom_phantom.write_series(tmp_path / "dicom")

    with pytest.raises(UsageError, match="these are not known: the images were other files"):
        export_label(label, tmp_path / "a.dcm", "dicom-seg")
    with pytest.raises(UsageError, match="holds no DICOM images"):
        export_label(label, tmp_path / "a.dcm", "dicom-seg", dicom=tmp_path / "empty")
    with pytest.raises(SemiSupSegError, match="is none that this result was made from"):
        export_label(label, tmp_path / "a.dcm", "dicom-seg", dicom=tmp_path / "dicom")
    with pytest.raises(UsageError, match="is no DICOM series"):
        export_label(
            label, tmp_path / "a.dcm", "dicom-seg", source=ImageSource(path=Path("t1.nii.gz"))
        )
    assert not (tmp_path / "a.dcm").exists()


@needs_highdicom
def test_a_series_on_another_grid_is_refused(a_record, tmp_path):
    source = series_of(make_dicom_phantom.write_series(tmp_path / "dicom"))

    with pytest.raises(SemiSupSegError, match="do not lie on the grid of the label map"):
        write_dicom_seg(tmp_path / "a.dcm", reviewed_label(a_record), source)


@needs_highdicom
def test_an_empty_label_map_is_no_dicom_seg(tmp_path):
    source = series_of(make_dicom_phantom.write_series(tmp_path / "dicom"))

    with pytest.raises(UsageError, match="The label map of p1 is empty"):
        write_dicom_seg(
            tmp_path / "a.dcm", label_on(source, np.zeros((6, 10, 8), np.uint8)), source
        )


@needs_highdicom
def test_a_series_without_frame_of_reference_is_told(tmp_path):
    folder = make_dicom_phantom.write_series(tmp_path / "dicom")
    for path in folder.iterdir():
        one = pydicom.dcmread(path)
        del one.FrameOfReferenceUID
        one.save_as(path)
    source = series_of(folder)

    with pytest.raises(SemiSupSegError, match="cannot carry a DICOM SEG"):
        write_dicom_seg(tmp_path / "a.dcm", label_on(source, phantom_label()), source)


def test_without_its_package_it_is_said_how_to_install_it(tmp_path, monkeypatch):
    source = series_of(make_dicom_phantom.write_series(tmp_path / "dicom"))
    monkeypatch.setitem(sys.modules, "highdicom", None)

    with pytest.raises(SemiSupSegError, match="pip install highdicom"):
        write_dicom_seg(tmp_path / "a.dcm", label_on(source, phantom_label()), source)


@needs_highdicom
def test_an_old_highdicom_is_told(tmp_path, monkeypatch):
    import highdicom

    monkeypatch.setattr(highdicom, "__version__", "0.22.0")
    source = series_of(make_dicom_phantom.write_series(tmp_path / "dicom"))

    with pytest.raises(SemiSupSegError, match=r"0\.27 or later, and 0\.22\.0 is installed"):
        write_dicom_seg(tmp_path / "a.dcm", label_on(source, phantom_label()), source)


def test_an_unknown_format_is_told(a_record, tmp_path):
    with pytest.raises(UsageError, match=r"there are: nifti, seg\.nrrd, dicom-seg"):
        export_label(reviewed_label(a_record), tmp_path / "a.stl", "stl")


# The summary


def test_the_summary_has_a_line_for_each_region_and_reviewer(a_result, a_record, tmp_path):
    begin(a_result, "bob").decide(3, "ignored")
    a_record.give_verdict("corrected")
    make_result(a_result.parent, "p2")

    lines, problems = summary_lines([a_result, a_result.parent / "p2"])
    write_csv(tmp_path / "a.csv", lines)

    with (tmp_path / "a.csv").open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert problems == []
    assert tuple(rows[0]) == COLUMNS
    assert [(row["case"], row["reviewer"], row["region"], row["status"]) for row in rows] == [
        ("p1", "ann", "1", "confirmed"),
        ("p1", "ann", "2", "relabelled"),
        ("p1", "ann", "3", "undecided"),
        ("p1", "bob", "1", "undecided"),
        ("p1", "bob", "2", "undecided"),
        ("p1", "bob", "3", "ignored"),
        ("p2", "", "1", "undecided"),
        ("p2", "", "2", "undecided"),
        ("p2", "", "3", "undecided"),
    ]
    assert rows[0]["verdict"] == "corrected"
    assert rows[0]["reason"] == "The teacher says edema, the student necrosis."
    assert float(rows[0]["expected_error_mm3"]) == 40.0
    assert rows[0]["decided"] == a_record.decisions[1].when
    assert rows[2]["decided"] == ""


def test_what_was_said_of_a_case_stands_in_the_summary(a_result, a_record, tmp_path):
    said = '=1+1; "left", or right?\nAsk Ünal'
    a_record.give_verdict("rejected", said)
    nothing_doubtful = make_result(a_result.parent, "p2", regions=[])
    begin(nothing_doubtful, "bob").give_verdict("accepted", "fine")
    make_result(a_result.parent, "p3", regions=[])

    lines, _ = summary_lines([a_result, nothing_doubtful, a_result.parent / "p3"])
    write_csv(tmp_path / "a.csv", lines)

    with (tmp_path / "a.csv").open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["comment"] for row in rows] == [f"'{said}"] * 3 + ["fine", ""]
    named = [(row["case"], row["reviewer"], row["region"], row["verdict"]) for row in rows[3:]]
    assert named == [("p2", "bob", "", "accepted"), ("p3", "", "", "")]
    assert rows[3]["volume_mm3"] == ""


def test_a_spreadsheet_runs_nothing_of_the_summary(tmp_path):
    folder = make_result(tmp_path / "out", "=cmd")

    lines, _ = summary_lines([folder])
    write_csv(tmp_path / "a.csv", lines)

    assert "\n'=cmd," in (tmp_path / "a.csv").read_text(encoding="utf-8-sig")


def test_a_result_that_cannot_be_read_is_named_in_the_summary(a_result, tmp_path):
    (tmp_path / "out" / "p2").mkdir()
    (tmp_path / "out" / "p3").mkdir()
    content = json.loads((a_result / "case.json").read_text(encoding="utf-8"))
    content |= {"case": "p3", "review_regions": [{}]}
    (tmp_path / "out" / "p3" / "case.json").write_text(json.dumps(content), encoding="utf-8")

    lines, problems = summary_lines(sorted((tmp_path / "out").iterdir()))

    assert len(lines) == 3
    assert ["does not exist" in problems[0], "is damaged" in problems[1]] == [True, True]
