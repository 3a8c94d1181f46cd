"""`review label`, `export`, `cohort`, `compare`, `status` at the terminal, and the page."""

import argparse
import json
import logging
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from SemiSupSegLib.__main__ import main
from SemiSupSegLib.cases.geometry import geometry_of
from SemiSupSegLib.cases.listing import list_images
from SemiSupSegLib.cases.reading import content_hash, read_image
from SemiSupSegLib.commands.review_files import add_actions, run_action
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.preparation.nifti import write_nifti
from SemiSupSegLib.report.blocks import MINUS
from SemiSupSegLib.report.review import build_review_report
from SemiSupSegLib.review.change import Change
from SemiSupSegLib.review.dicom_seg import known_source, why_no_dicom_seg
from SemiSupSegLib.review.summary import summary_lines
from Testing.data import make_dicom_phantom
from Testing.data.make_review_folder import (
    begin,
    make_result,
    the_label,
    the_region_map,
    the_regions,
    the_task,
)


@pytest.fixture
def out(tmp_path) -> Path:
    """Three cases: the first reviewed by two, the second by nobody, the third is broken."""
    folder = tmp_path / "OUT"
    for case, scale in (("p1", 1.0), ("p2", 3.0)):
        make_result(folder, case, scale=scale)
    for name, target in (("ann", 3), ("bob", 2)):
        record = begin(folder / "p1", name)
        label = the_label()
        after = label.copy()
        after[the_region_map() == 1] = target
        record.decide(1, "relabelled", Change.between(label, after))
        record.decide(2, "confirmed")
        record.log_effort(90, 2)
    record.give_verdict("corrected", "<b>rim</b>")
    (folder / "p3").mkdir()
    (folder / "p3" / "case.json").write_text("{")
    return folder


def review(*words) -> int:
    parser = argparse.ArgumentParser()
    add_actions(parser.add_subparsers())
    return run_action(parser.parse_args([str(word) for word in words]))


def tell_task(result: Path) -> None:
    file = result / "case.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "task": the_task().to_json()}))


def test_the_table_says_what_comes_next(out, capsys):
    assert review("cohort", "--results", out) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["p2", "0.24", "mL", "3", "0", "-"]
    assert "bob: 2 of 3, corrected" in lines[2]
    assert "cannot be read as JSON" in lines[3]
    assert lines[-2:] == ["3 cases, 1 to be reviewed", "Next: p2"]


def test_a_folder_without_results_says_which_one_is_meant(tmp_path, capsys):
    assert review("cohort", "--results", tmp_path) == 0

    assert "holds no results. Give the folder that predict wrote to." in capsys.readouterr().out


def test_the_table_as_json(out, capsys):
    review("cohort", "--results", out, "--json", "-")

    content = json.loads(capsys.readouterr().out)
    assert content["next"] == "p2"
    assert [one["case"] for one in content["cases"]] == ["p2", "p1", "p3"]


def test_a_training_label_is_saved(out, capsys):
    with pytest.raises(UsageError, match="1 of 3 regions of p1 are not decided"):
        review("label", "--result", out / "p1", "--reviewer", "ann")
    assert review("label", "--result", out / "p1", "--reviewer", "ann", "--all") == 0
    assert review("label", "--result", out / "p1", "--reviewer", "bob", "--partial") == 0

    assert "p1_reviewed.nii.gz: 2 of 3 regions" in capsys.readouterr().out
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "p1" / "p1_reviewed-2.nii.gz")))
    assert 255 in values


def test_whose_review_must_be_said_if_there_are_two(out):
    with pytest.raises(UsageError, match="was reviewed by ann, bob"):
        review("label", "--result", out / "p1")
    with pytest.raises(SemiSupSegError, match="Nobody has reviewed"):
        review("status", "--result", out / "p2")
    with pytest.raises(UsageError, match="holds no review by zoe, only by ann, bob"):
        review("status", "--result", out / "p1", "--reviewer", "zoe")
    with pytest.raises(UsageError, match="cannot be a reviewer's alias"):
        review("status", "--result", out / "p1", "--reviewer", "Ann Smith")


def test_one_reviewer_alone_is_not_compared(out):
    begin(out / "p2", "ann")

    with pytest.raises(UsageError, match="reviewed by ann alone"):
        review("compare", "--result", out / "p2")


@pytest.mark.parametrize(
    "words", [("cohort",), ("export", "--format", "csv"), ("export", "--format", "html")]
)
def test_the_result_of_one_case_is_not_taken_for_a_folder_of_results(out, words):
    with pytest.raises(UsageError, match="is the result of one case") as told:
        review(*words, "--results", out / "p1")

    assert str(told.value).endswith(f"lies in: {out}")


def test_a_folder_of_results_is_not_taken_for_the_result_of_one_case(out):
    with pytest.raises(SemiSupSegError, match=r"results of 3 cases: .* such as .*p1\."):
        review("status", "--result", out)


def test_two_reviewers_are_compared(out, capsys):
    assert review("compare", "--result", out / "p1") == 0

    text = capsys.readouterr().out
    assert re.search(r"1 \* +necrosis +relabelled +relabelled +18", text)
    assert "Verdict: none and corrected" in text
    assert "Equal decisions: 100%, Cohen's kappa 1.00" in text
    assert "1 of 3 regions differ" in text


def test_one_is_told_as_one(tmp_path, capsys):
    folder = make_result(tmp_path / "out", "p1", regions=the_regions()[:1])
    begin(folder, "ann")
    begin(folder, "bob")
    tell_task(folder)

    review("cohort", "--results", folder.parent)
    assert capsys.readouterr().out.splitlines()[-2] == "1 case, 1 to be reviewed"
    with pytest.raises(UsageError, match=r"1 of 1 region of p1 is not decided"):
        review("label", "--result", folder, "--reviewer", "ann")
    review("compare", "--result", folder)
    assert capsys.readouterr().out.splitlines()[-1] == "0 of 1 region differs (*)"


def test_a_case_without_regions_is_told_in_words(tmp_path, capsys):
    folder = make_result(tmp_path / "out", "p1", regions=())
    begin(folder, "ann")

    review("status", "--result", folder)
    review("cohort", "--results", folder.parent)

    text = capsys.readouterr().out
    assert "p1 by ann: no region is listed, no verdict yet" in text
    assert "ann: no region is listed" in text
    assert "0 of 0" not in text


def test_the_status_of_a_review(out, capsys):
    review("status", "--result", out / "p1", "--reviewer", "bob", "--json", "-")
    content = json.loads(capsys.readouterr().out)
    review("status", "--result", out / "p1", "--reviewer", "bob")

    assert content["regions"] == {"1": "relabelled", "2": "confirmed"}
    assert (content["verdict"], content["comment"]) == ("corrected", "<b>rim</b>")
    assert content["effort"]["voxels_changed"] == 18
    text = capsys.readouterr().out
    assert "p1 by bob: 2 of 3 regions, 92% of the expected error, corrected" in text
    assert "3: undecided. The teacher says edema, the student background." in text


@pytest.mark.parametrize("suffix", ["nifti", "seg.nrrd"])
def test_a_label_map_is_exported(out, capsys, suffix):
    tell_task(out / "p1")
    review("export", "--result", out / "p1", "--format", suffix, "--reviewer", "ann")
    review("export", "--result", out / "p1", "--format", suffix, "--predicted")

    ours, theirs = (
        sitk.GetArrayFromImage(sitk.ReadImage(path)) for path in capsys.readouterr().out.split()
    )
    assert (ours != theirs).sum() == 18
    assert set(np.unique(theirs)) == {0, 1, 2, 4}


def test_a_prediction_that_does_not_tell_its_task_needs_it(out):
    words = ("export", "--result", out / "p2", "--format", "nifti")

    with pytest.raises(UsageError, match="Say the model's task with --task"):
        review(*words)
    assert review(*words, "--task", "brats") == 0


def tell_series(result: Path, scans: Path) -> None:
    """Make a result one of a DICOM series."""
    folder = make_dicom_phantom.write_series(scans / "t1")
    (source,) = (one.source for one in list_images(folder).images)
    tell_task(result)
    content = json.loads((result / "case.json").read_text())
    content["inputs"] = {"t1": content_hash(source)}
    content["images"] = {"t1": {"path": str(scans / "t1"), "series": source.series}}
    (result / "case.json").write_text(json.dumps(content))
    values = np.zeros(make_dicom_phantom.SHAPE, np.uint8)
    values[1:3, 4:7, 2] = 4
    label = result / f"{result.name}_label.nii.gz"
    write_nifti(label, values, geometry_of(read_image(source)))


@pytest.mark.skipif(find_spec("highdicom") is None, reason="no wheels for this Python")
def test_what_highdicom_tells_of_the_images_is_not_printed(out, tmp_path, caplog):
    tell_series(out / "p2", tmp_path / "scans")

    with caplog.at_level(logging.INFO):
        code = main(["review", "export", "--result", str(out / "p2"), "--format", "dicom-seg"])

    assert (code, [one.name for one in caplog.records if "dicom" in one.name]) == (0, [])


@pytest.mark.skipif(find_spec("highdicom") is None, reason="no wheels for this Python")
def test_a_dicom_seg_is_exported_from_where_the_series_is(out, tmp_path, capsys):
    folder = make_dicom_phantom.write_series(tmp_path / "scans" / "t1")
    (source,) = (one.source for one in list_images(folder).images)
    file = out / "p2" / "case.json"
    content = json.loads(file.read_text())
    content["inputs"] = {"t1": content_hash(source)}
    content["images"] = {"t1": {"path": "../../scans/t1", "series": source.series}}
    file.write_text(json.dumps(content))
    values = np.zeros(make_dicom_phantom.SHAPE, np.uint8)
    values[1:3, 4:7, 2] = 4
    write_nifti(out / "p2" / "p2_label.nii.gz", values, geometry_of(read_image(source)))
    words = ("export", "--result", out / "p2", "--format", "dicom-seg", "--task", "brats")

    assert why_no_dicom_seg(out / "p2") == ""
    assert known_source(out / "p2").series == source.series
    assert review(*words) == 0
    made = pydicom.dcmread(capsys.readouterr().out.strip())
    assert (made.NumberOfFrames, int(made.pixel_array.sum())) == (2, 6)
    content["inputs"] = {"t1": "ef" * 32}  # of a file that was made of the series
    file.write_text(json.dumps(content))
    with pytest.raises(SemiSupSegError, match="is none that this result was made from"):
        review(*words, "--dicom", tmp_path / "scans")
    assert review(*words, "--dicom", folder, "--series", source.series) == 0
    with pytest.raises(UsageError, match="Say which folder with --dicom"):
        review(*words, "--series", source.series)
    (folder / "IM000.dcm").write_bytes(b"")
    assert known_source(out / "p2") is None
    with pytest.raises(UsageError, match="or have moved"):
        review(*words)


def test_a_result_of_other_files_says_why_it_cannot_be_a_dicom_seg(out):
    file = out / "p2" / "case.json"
    content = json.loads(file.read_text())
    content["images"] = {"t1": {"path": "../../t1.nii.gz", "component": None, "series": None}}
    file.write_text(json.dumps(content))

    assert "was not segmented from a DICOM series" in why_no_dicom_seg(out / "p2")
    assert "cannot be read as JSON" in why_no_dicom_seg(out / "p3")


def test_the_summary_of_a_folder_names_all_that_is_left_out(out, capsys):
    begin(out / "p2", "ann")
    begin(out / "p2", "bob")
    (out / "p2" / "review.ann.jsonl").write_text("{")
    (out / "p4").mkdir()
    (out / "p4" / "case.json").write_text("[]")

    with pytest.raises(SemiSupSegError, match="3 of the files could not be read") as told:
        review("export", "--results", out, "--format", "csv")

    # Two reviewers of p1, and the one of p2 whose record is whole.
    assert capsys.readouterr().out.strip() == f"{out / 'review.csv'}: 9 lines"
    assert "p2,bob,3," in (out / "review.csv").read_text(encoding="utf-8-sig")
    for file in ("p2/review.ann.jsonl", "p3/case.json", "p4/case.json"):
        assert str(out / file) in str(told.value)
    assert review("export", "--result", out / "p1", "--format", "csv") == 0
    assert (out / "p1" / "review.csv").is_file()


def test_formats_want_one_case_or_all(out):
    with pytest.raises(UsageError, match="is of one case"):
        review("export", "--results", out, "--format", "nifti")
    with pytest.raises(UsageError, match="is of a folder of results"):
        review("export", "--result", out / "p1", "--format", "html")


def test_the_page_tells_progress_decisions_agreement_and_volumes(out):
    assert review("export", "--results", out, "--format", "html") == 0

    text = (out / "review.html").read_text(encoding="utf-8")
    plain = " ".join(re.sub(r"<(style|svg).*?</\1>|<[^>]+>", " ", text, flags=re.DOTALL).split())
    assert "1 of 3 cases are reviewed." in plain
    assert "Next is p2, with 240 mm³ of expected error." in plain
    assert "Verdicts: 1 corrected." in plain
    assert "p1 80 mm³ 3 bob 2 of 3 92 % corrected" in plain
    assert "ann and bob 1 2 100 % 1.00" in plain
    assert "p1 1 necrosis ann bob relabelled relabelled" in plain
    # 48 voxels of 3.28125 mm³ less 18.
    assert f"p1 bob necrosis 0.16 mL 0.10 mL {MINUS}0.06 mL" in plain
    assert "Comments Case Reviewer Comment p1 bob &lt;b&gt;rim&lt;/b&gt;" in plain
    assert "p3: case.json cannot be read as JSON" in plain


def test_the_page_counts_one_case_as_one(out):
    assert review("label", "--result", out / "p1", "--reviewer", "bob") == 0
    assert review("export", "--results", out, "--format", "html") == 0

    assert ">case with a saved label<" in (out / "review.html").read_text(encoding="utf-8")


def test_the_page_needs_nothing_else_and_tells_no_path(out):
    path = build_review_report(out)

    text = path.read_text(encoding="utf-8")
    assert str(out.parent) not in text
    assert not re.search(r'(src|href)="(?!#|data:)', text)
    assert "<script" not in text


def test_a_page_of_nothing_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no results"):
        build_review_report(tmp_path)


def test_a_page_before_anybody_has_begun(tmp_path):
    make_result(tmp_path / "OUT")

    text = build_review_report(tmp_path / "OUT", tmp_path / "a.html").read_text(encoding="utf-8")

    assert "The case is not reviewed yet." in text
    assert "No region is decided yet." in text


def test_a_result_of_a_newer_version_is_named_and_not_listed(out):
    file = out / "p2" / "case.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": 2}))

    lines, (problem,) = summary_lines([out / "p2"])

    assert (lines, "newer SemiSupSeg" in problem) == ([], True)
