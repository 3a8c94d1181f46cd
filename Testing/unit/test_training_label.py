"""A review becomes a label to train on: a new file, its provenance, and what scan makes of it."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from SemiSupSegLib.__main__ import main
from SemiSupSegLib.cases import reviews
from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.discovery import discover
from SemiSupSegLib.cases.reading import content_hash
from SemiSupSegLib.cases.reviews import find_reviews, newest_reviewed_label, reviewed_labels
from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.preparation.nifti import write_nifti
from SemiSupSegLib.preparation.options import PreparationOptions
from SemiSupSegLib.preparation.prepare import prepare_case
from SemiSupSegLib.preparation.store import prepare_cases
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.review.change import Change
from SemiSupSegLib.review.cohort import read_row
from SemiSupSegLib.review.record import ReviewRecord
from SemiSupSegLib.review.training_label import save_training_label
from Testing.data.make_review_folder import (
    BOXES,
    GRID,
    MODEL,
    SHAPE,
    begin,
    make_result,
    the_confidence,
    the_label,
    the_region_map,
)

VALUES = np.array([0, 1, 2, 4], np.uint8)


@pytest.fixture
def a_result(tmp_path) -> Path:
    return make_result(tmp_path / "out")


def stored(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def region(number: int) -> np.ndarray:
    return the_region_map() == number


def relabelled(record, number: int, class_index: int):
    shown = record.label(the_label())
    after = shown.copy()
    after[region(number)] = class_index
    return record.decide(number, "relabelled", Change.between(shown, after))


def test_the_whole_label_is_written_on_the_original_grid(a_result):
    record = begin(a_result)
    relabelled(record, 2, 3)

    path = save_training_label(record)

    assert path.name == "p1_reviewed.nii.gz"
    expected = the_label()
    expected[region(2)] = 3
    assert np.array_equal(stored(path), VALUES[expected])
    assert stored(path).dtype == np.uint8
    ours, theirs = nibabel.load(path), nibabel.load(a_result / "p1_label.nii.gz")
    assert np.array_equal(ours.affine, theirs.affine)
    for name in ("sform_code", "qform_code", "srow_x", "quatern_b"):
        assert np.array_equal(ours.header[name], theirs.header[name])


def test_provenance_says_who_decided_what_on_which_result(a_result):
    record = begin(a_result)
    record.decide(1, "confirmed")
    relabelled(record, 2, 3)
    record.give_verdict("corrected", "the rim")
    record.log_effort(61.5, 4)

    path = save_training_label(record)

    content = json.loads((a_result / "p1_reviewed.json").read_text())
    check_format(content, "reviewed-label", "p1_reviewed.json")
    assert content["regions"] == {
        "confirmed": [1],
        "fixed": [],
        "relabelled": [2],
        "ignored": [],
        "undecided": [3],
    }
    assert content["model"] == {"sha256": MODEL, "name": "a model"}
    assert (content["reviewer"], content["verdict"], content["comment"]) == (
        "ann",
        "corrected",
        "the rim",
    )
    assert content["inputs"] == {"t1": "cd" * 32}
    assert content["label_sha256"] == content_hash(ImageSource(path=path))
    assert content["review"]["of_label_sha256"] == content_hash(
        ImageSource(path=a_result / "p1_label.nii.gz")
    )
    assert (content["partial"], content["unknown_value"], content["share_known"]) == (
        False,
        None,
        1.0,
    )
    assert content["effort"]["active_seconds"] == 61.5
    assert str(a_result) not in json.dumps(content)


def test_nothing_is_ever_overwritten_and_the_highest_number_counts(a_result):
    record = begin(a_result)
    record.give_verdict("accepted")
    first = save_training_label(record)
    before = first.read_bytes(), (a_result / "p1_reviewed.json").read_bytes()
    relabelled(record, 1, 2)
    second = save_training_label(record)
    (a_result / "p1_reviewed-9.json").write_text("{}")  # its label was never finished
    (a_result / "p1_reviewed-3.json").write_text("{}")

    third = save_training_label(record)

    assert [path.name for path in (first, second, third)] == [
        "p1_reviewed.nii.gz",
        "p1_reviewed-2.nii.gz",
        "p1_reviewed-4.nii.gz",
    ]
    assert (first.read_bytes(), (a_result / "p1_reviewed.json").read_bytes()) == before
    assert newest_reviewed_label(a_result) == third
    assert find_reviews(a_result.parent)["p1"].path == third


def test_ten_is_more_than_nine(a_result):
    for name in ("p1_reviewed-9.nii.gz", "p1_reviewed-10.nii.gz", "p1_reviewed-010.nii.gz"):
        (a_result / name).write_bytes(b"")

    assert newest_reviewed_label(a_result).name == "p1_reviewed-10.nii.gz"


def test_a_file_system_without_links_gets_the_same_files(a_result, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)

    paths = []
    for name in ("ann", "bob"):
        record = begin(a_result, name)
        record.give_verdict("accepted")
        paths.append(save_training_label(record))

    assert [path.name for path in paths] == ["p1_reviewed.nii.gz", "p1_reviewed-2.nii.gz"]
    assert np.array_equal(stored(paths[1]), VALUES[the_label()])
    assert sorted(path.name for path in a_result.iterdir() if path.name[0] == ".") == []


def test_a_partial_label_tells_of_decided_regions_drawn_and_confident_voxels_only(a_result):
    record = begin(a_result)
    record.decide(1, "confirmed")
    record.decide(2, "ignored")
    shown = the_label()
    drawn = shown.copy()
    drawn[5, 9, 7] = 1
    record.edit(None, Change.between(shown, drawn))

    path = save_training_label(record, partial=True)

    known = region(1) | ((the_confidence() >= 0.9) & (the_region_map() == 0))
    known[5, 9, 7] = True
    assert np.array_equal(stored(path), np.where(known, VALUES[drawn], 255))
    content = json.loads((a_result / "p1_reviewed.json").read_text())
    assert (content["partial"], content["unknown_value"], content["min_confidence"]) == (
        True,
        255,
        0.9,
    )
    assert content["share_known"] == pytest.approx(known.mean(), abs=1e-6)


def test_the_threshold_of_confidence_may_be_chosen(a_result):
    record = begin(a_result)
    record.decide(1, "confirmed")

    path = save_training_label(record, partial=True, min_confidence=0.96)

    assert np.array_equal(stored(path) != 255, region(1))


def test_a_stored_confidence_of_exactly_the_threshold_counts(a_result):
    record = begin(a_result)
    record.decide(1, "confirmed")

    path = save_training_label(record, partial=True, min_confidence=0.95)

    assert (stored(path)[:3][the_region_map()[:3] == 0] != 255).all()


def test_the_confidence_of_another_result_does_not_count(a_result):
    record = begin(a_result)
    record.decide(1, "confirmed")
    changed = the_label()
    changed[0] = 2
    make_result(a_result.parent, label=changed)

    path = save_training_label(record, partial=True)

    assert np.array_equal(stored(path) != 255, region(1))
    assert json.loads((a_result / "p1_reviewed.json").read_text())["min_confidence"] is None


def test_the_value_of_unknown_is_one_that_the_task_does_not_use(tmp_path):
    from SemiSupSegLib.review.record import ReviewRecord

    folder = make_result(tmp_path, label=(the_label() > 0).astype(np.uint8))
    record = ReviewRecord.begin(
        folder,
        "ann",
        case="p1",
        task=load_task("binary"),  # takes 255 for the object
        shape=SHAPE,
        label_file=folder / "p1_label.nii.gz",
        regions=json.loads((folder / "case.json").read_text())["review_regions"],
        regions_file=folder / "p1_regions.nii.gz",
        model_sha256=MODEL,
    )
    record.decide(1, "confirmed")

    path = save_training_label(record, partial=True)

    assert set(np.unique(stored(path))) == {0, 1, 254}
    assert find_reviews(tmp_path)["p1"].unknown == 254


def test_labels_of_a_folder_that_was_renamed_are_found_and_counted(a_result, tmp_path):
    record = begin(a_result)
    record.give_verdict("accepted")
    save_training_label(record)
    folder = a_result.rename(a_result.with_name("p1_first_visit"))

    second = save_training_label(ReviewRecord.open(folder, "ann"))
    hand_drawn = folder / "p1_first_visit_reviewed-3.nii.gz"
    hand_drawn.write_bytes(second.read_bytes())
    third = save_training_label(ReviewRecord.open(folder, "ann"))

    assert (second.name, third.name) == ("p1_reviewed-2.nii.gz", "p1_reviewed-4.nii.gz")
    assert newest_reviewed_label(folder) == third
    assert [sorted(reviewed_labels(folder)), read_row(folder).saved] == [[1, 2, 3, 4], 4]
    (found,) = find_reviews(folder.parent).values()
    assert (found.path, found.case) == (third, "p1")


def test_a_label_that_no_case_json_would_tell_of_is_named_after_its_folder(a_result):
    begin(a_result).give_verdict("accepted")
    folder = a_result.rename(a_result.with_name("p1_first_visit"))
    (folder / "case.json").unlink()

    path = save_training_label(ReviewRecord.open(folder, "ann"))

    assert newest_reviewed_label(folder) == path


def test_of_a_folder_and_its_copy_the_one_that_bears_the_cases_name_counts(a_result):
    record = begin(a_result)
    record.give_verdict("accepted")
    save_training_label(record)
    shutil.copytree(a_result, a_result.with_name("p1_backup"))
    newest = save_training_label(record)

    assert [one.path for one in find_reviews(a_result.parent).values()] == [newest]


def test_labels_are_found_from_within_their_folder(a_result, monkeypatch):
    record = begin(a_result)
    record.give_verdict("accepted")
    save_training_label(record)
    monkeypatch.chdir(a_result)

    assert list(reviewed_labels(Path())) == [1]


def test_case_json_is_read_only_where_a_label_bears_another_name(a_result, monkeypatch):
    (a_result / "p1_reviewed.nii.gz").write_bytes(b"")
    monkeypatch.setattr(reviews, "read_json", lambda path: pytest.fail(f"{path} is read"))

    assert list(reviewed_labels(a_result)) == [1]


def test_a_rejected_case_is_not_saved(a_result):
    record = begin(a_result)
    record.give_verdict("rejected", "moved")

    with pytest.raises(UsageError, match="p1 was rejected by ann"):
        save_training_label(record)

    assert newest_reviewed_label(a_result) is None


def test_a_partial_label_that_says_nothing_is_not_saved(a_result):
    record = begin(a_result)
    with pytest.raises(UsageError, match="Nothing of p1 was reviewed by ann"):
        save_training_label(record)
    record.decide(1, "ignored")
    with pytest.raises(UsageError, match="Nothing of p1 is decided yet"):
        save_training_label(record, partial=True, min_confidence=1.0)
    with pytest.raises(UsageError, match=r"confidence is 1\.5"):
        save_training_label(begin(a_result, "bob"), partial=True, min_confidence=1.5)


def test_without_the_map_of_regions_only_the_whole_label_can_be_saved(a_result):
    record = begin(a_result)
    record.decide(1, "confirmed")
    record.regions_file.unlink()

    with pytest.raises(SemiSupSegError, match="is missing, so nobody can tell which voxels"):
        save_training_label(record, partial=True)
    assert save_training_label(record).is_file()


# What scan and preparation make of it


@pytest.fixture
def a_cohort(tmp_path) -> Path:
    """One unlabelled case of four channels on the results' grid, and its result."""
    folder = tmp_path / "cases" / "p1"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("t1", "t1ce", "t2", "flair"):
        image = rng.integers(1, 500, SHAPE).astype(np.int16)
        write_nifti(folder / f"p1_{name}.nii.gz", image, GRID)
    case = discover(tmp_path / "cases").cases[0]
    inputs = {name: content_hash(source) for name, source in case.channels.items()}
    make_result(tmp_path / "out", inputs=inputs)
    return tmp_path


def reviewed_case(root: Path):
    (case,) = discover(root / "cases", reviews=root / "out").cases
    return case


def saved_partial(root: Path) -> Path:
    record = begin(root / "out" / "p1")
    record.decide(1, "confirmed")
    relabelled(record, 3, 3)
    return save_training_label(record, partial=True)


def test_a_reviewed_case_is_labelled_for_scan(a_cohort):
    record = begin(a_cohort / "out" / "p1")
    record.decide(1, "confirmed")
    path = save_training_label(record)

    case = reviewed_case(a_cohort)

    assert (case.state.value, case.label.path, case.label_unknown) == ("reviewed", path, None)
    assert case.reasons == ()


@pytest.mark.parametrize("check_content", [True, False])
def test_a_reviewed_case_whose_result_folder_was_renamed_is_labelled(a_cohort, check_content):
    begin(a_cohort / "out" / "p1").give_verdict("accepted")
    folder = (a_cohort / "out" / "p1").rename(a_cohort / "out" / "p1_first_visit")
    path = save_training_label(ReviewRecord.open(folder, "ann"))

    (case,) = discover(
        a_cohort / "cases", reviews=a_cohort / "out", check_content=check_content
    ).cases

    assert (case.state.value, case.label.path) == ("reviewed", path)


def test_a_reviewed_label_says_which_label_it_takes_the_place_of(a_cohort):
    saved_partial(a_cohort)
    write_nifti(a_cohort / "cases" / "p1" / "p1_seg.nii.gz", the_label(), GRID)

    case = reviewed_case(a_cohort)

    assert case.state.value == "reviewed"
    (reason,) = case.reasons
    assert "p1_reviewed.nii.gz, whose voxels are known in part, takes" in reason.message
    assert reason.message.endswith("takes the place of the label p1_seg.nii.gz")


def test_the_unknown_voxels_of_a_partial_label_are_no_finding(a_cohort, capsys):
    saved_partial(a_cohort)

    case = reviewed_case(a_cohort)

    assert (case.state.value, case.label_unknown, case.reasons) == ("reviewed", 255, ())
    words = [str(a_cohort / "cases"), "--reviews", str(a_cohort / "out")]
    code = main(["scan", *words, "--json", "-"])
    content = json.loads(capsys.readouterr().out)
    assert (code, content["cases"][0]["label_unknown"]) == (0, 255)
    assert content["counts"]["reviewed"] == 1


def test_the_value_of_unknown_means_nothing_without_provenance(a_cohort):
    path = saved_partial(a_cohort)
    (path.parent / "p1_reviewed.json").unlink()

    case = reviewed_case(a_cohort)

    assert (case.state.value, case.reasons[0].code) == ("unusable", "unknown_label_value")


def test_damaged_provenance_makes_the_case_unusable(a_cohort):
    path = saved_partial(a_cohort)
    (path.parent / "p1_reviewed.json").write_text('{"format": "semisupseg-')

    case = reviewed_case(a_cohort)

    assert case.state.value == "unusable"
    assert "what was reviewed in p1_reviewed.nii.gz cannot be told" in case.reasons[0].message


def test_a_partial_label_without_a_known_voxel_makes_the_case_unusable(a_cohort):
    path = saved_partial(a_cohort)
    write_nifti(path, np.full(SHAPE, 255, np.uint8), GRID)

    case = reviewed_case(a_cohort)

    assert case.state.value == "unusable"
    assert "says of no voxel what it is" in case.reasons[0].message


def test_preparation_keeps_what_is_unknown(a_cohort, tmp_path):
    path = saved_partial(a_cohort)
    case, task = reviewed_case(a_cohort), load_task("brats")
    options = PreparationOptions(spacing=GRID.spacing, mask="all", margin_voxels=0)
    expected = stored(path)

    in_memory = prepare_case(case, task, options, with_label=True)
    (in_store,) = prepare_cases([case], task, options, tmp_path / "s", with_label=["p1"]).prepared

    for prepared in (in_memory, in_store):
        label = np.asarray(prepared.label())
        assert np.unique(label).tolist() == [0, 1, 3, 255]
        for index, value in ((0, 0), (1, 1), (3, 4), (255, 255)):
            assert (label == index).sum() == (expected == value).sum()
        assert prepared.warnings == in_memory.warnings
        assert not [one for one in prepared.warnings if "labelled voxels" in one]


def test_a_label_read_as_whole_and_as_partial_is_not_one_in_the_store(a_cohort, tmp_path):
    saved_partial(a_cohort)
    case, task = reviewed_case(a_cohort), load_task("brats")
    options = PreparationOptions(spacing=GRID.spacing, mask="all", margin_voxels=0)

    prepare_cases([case], task, options, tmp_path / "s", with_label=["p1"])
    whole = prepare_cases(
        [replace(case, label_unknown=None)], task, options, tmp_path / "s", with_label=["p1"]
    )

    assert "255" in whole.failed[0][1]


def test_unknown_voxels_are_resampled_with_the_rest(a_cohort):
    saved_partial(a_cohort)
    case, task = reviewed_case(a_cohort), load_task("brats")
    options = PreparationOptions(spacing=(0.75, 1.25, 1.75), mask="all", margin_voxels=0)

    label = np.asarray(prepare_case(case, task, options, with_label=True).label())

    assert set(np.unique(label)) <= {0, 1, 2, 3, 255}
    assert 0.2 < (label == 255).mean() < 0.9
    assert BOXES[0] == ((1, 3), (2, 5), (1, 4))
