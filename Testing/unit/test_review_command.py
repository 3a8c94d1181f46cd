import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from SemiSupSegLib.__main__ import main
from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.files import write_json
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.review.cohort import read_cohort
from SemiSupSegLib.review.fitting import ReviewThresholds
from SemiSupSegLib.review.record import ReviewRecord
from SemiSupSegLib.review.regions import RegionOptions, find_regions
from SemiSupSegLib.review.results import read_regions, review_content
from SemiSupSegLib.workers.job import JobFolder
from SemiSupSegLib.workers.opening import open_review

ROOT = Path(__file__).resolve().parents[2]

SHAPE = (18, 20, 22)
DIRECTION = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


@pytest.fixture
def result(tmp_path):
    """A result folder with one clear and one faint region; label values are the task's."""
    folder = tmp_path / "Ünal 7"
    folder.mkdir()
    label = np.zeros(SHAPE, np.uint8)
    label[3:15, 3:15, 3:19] = 2
    confidence = np.ones(SHAPE, np.float32)
    confidence[4:8, 4:8, 4:8] = 0.5
    confidence[10:14, 10:14, 12:16] = 0.75
    second = np.where(label == 2, 4, 0).astype(np.uint8)
    for name, values in (("label", label), ("confidence", confidence), ("second", second)):
        write(folder / f"Ünal 7_{name}.nii.gz", values)
    indices = np.array([0, 0, 2, 0, 3], np.uint8)
    found = find_regions(
        label=indices[label],
        confidence=confidence,
        second=indices[second],
        geometry=geometry(folder),
        class_names=("necrosis", "edema", "enhancing"),
    )
    write(folder / "Ünal 7_regions.nii.gz", found.map)
    content = {
        "format": "semisupseg-case-result",
        "version": 1,
        "case": "Ünal 7",
        "model_sha256": "0" * 64,
        "inputs": {},
        "volumes_ml": {"edema": {"value": 1.5}},
        "warnings": ["kept"],
        "task": load_task("brats").to_json(),
        **review_content(found, ReviewThresholds(options=RegionOptions(), fitted_on=0)),
    }
    write_json(folder / "case.json", content)
    return folder


def write(path, array):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.5, 2.0))
    image.SetOrigin((10.0, -20.0, 30.0))
    image.SetDirection(DIRECTION)
    sitk.WriteImage(image, str(path))


def geometry(folder):
    from SemiSupSegLib.cases.geometry import geometry_of

    return geometry_of(sitk.ReadImage(str(folder / f"{folder.name}_label.nii.gz")))


def content_of(folder):
    return json.loads((folder / "case.json").read_text())


def map_of(folder):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{folder.name}_regions.nii.gz")))


def test_the_regions_are_listed_as_a_table_with_their_reason(result, capsys):
    assert main(["review", "--result", str(result)]) == 0

    told = capsys.readouterr().out
    first, *lines = told.splitlines()
    # 64 voxels of 3 mm3 with one half of doubt, and as many with a quarter.
    assert first == ("Ünal 7: 1 region to look at; expected error 0.1 mL, 67% of it in them")
    assert "Unsure between edema and enhancing, away from any border; " in told
    assert "not fitted" in lines[-1]


def test_the_list_is_written_as_a_file_of_its_own(result, tmp_path):
    assert main(["review", "--result", str(result), "--json", str(tmp_path / "list.json")]) == 0

    content = json.loads((tmp_path / "list.json").read_text())
    check_format(content, "review-regions", "list.json")
    assert content["case"] == "Ünal 7"
    assert content["regions"] == content_of(result)["review_regions"]


def test_list_is_the_same_action_by_its_name(result, capsys):
    assert main(["review", "--result", str(result)]) == 0
    plain = capsys.readouterr().out
    assert main(["review", "list", "--result", str(result)]) == 0
    assert capsys.readouterr().out == plain
    assert main(["review", "--result", str(result), "list"]) == 0
    assert capsys.readouterr().out == plain


def test_the_middle_of_the_slider_finds_what_was_found(result, tmp_path):
    before = content_of(result)
    words = ["review", "--result", str(result), "--json", str(tmp_path / "list.json")]

    assert main([*words, "--sensitivity", "0.5"]) == 0

    listed = json.loads((tmp_path / "list.json").read_text())
    assert listed["regions"] == before["review_regions"]
    assert listed["review"] == before["review"]


def test_another_sensitivity_lists_more_and_leaves_the_result_alone(result, tmp_path):
    before = (result / "case.json").read_bytes()
    words = ["review", "--result", str(result), "--json", str(tmp_path / "list.json")]

    assert main([*words, "--sensitivity", "0.8"]) == 0

    assert len(json.loads((tmp_path / "list.json").read_text())["regions"]) == 2
    assert (result / "case.json").read_bytes() == before


def test_write_replaces_list_and_map_and_nothing_else(result):
    before = content_of(result)
    files = {path.name for path in result.iterdir()}

    assert main(["review", "--result", str(result), "--sensitivity", "0.8", "--write"]) == 0

    after = content_of(result)
    check_format(after, "case-result", "case.json")
    assert [one["id"] for one in after["review_regions"]] == [1, 2]
    assert sorted(np.unique(map_of(result))) == [0, 1, 2]
    assert (map_of(result) == 1).sum() == 64
    assert after["review"]["sensitivity"] == 0.8
    changed = {"review_regions", "review"}
    assert {name: after[name] for name in before.keys() - changed} == {
        name: before[name] for name in before.keys() - changed
    }
    assert {path.name for path in result.iterdir()} == files
    label, regions = (
        nibabel.load(result / f"Ünal 7_{name}.nii.gz") for name in ("label", "regions")
    )
    np.testing.assert_array_equal(regions.affine, label.affine)
    assert regions.get_data_dtype() == np.uint16


def test_the_slider_starts_from_the_fitted_thresholds_however_often_it_is_moved(result):
    before = content_of(result)

    for place in ("0.8", "0.9", "0.5"):
        assert main(["review", "--result", str(result), "--sensitivity", place, "--write"]) == 0

    assert content_of(result) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--result OUT/<case>"),
        (("--result", "{}", "--sensitivity", "1.2"), "1.2"),
    ],
)
def test_wrong_words_are_refused(result, capsys, words, message):
    assert main(["review", *(word.format(result) for word in words)]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_a_result_is_told(tmp_path, capsys):
    assert main(["review", "--result", str(tmp_path)]) == 1
    assert "OUT/<case>" in capsys.readouterr().err


def test_a_result_of_an_earlier_version_asks_to_be_predicted_again(result, capsys):
    content = content_of(result)
    del content["review_regions"], content["review"]
    write_json(result / "case.json", content)

    assert main(["review", "--result", str(result)]) == 1
    assert "Predict the case again" in capsys.readouterr().err


def test_a_missing_map_is_named(result, capsys):
    (result / "Ünal 7_confidence.nii.gz").unlink()

    assert main(["review", "--result", str(result), "--sensitivity", "0.6"]) == 1
    assert "Ünal 7_confidence.nii.gz" in capsys.readouterr().err


def test_a_damaged_list_is_refused(result, capsys):
    content = content_of(result)
    del content["review_regions"][0]["box"]
    write_json(result / "case.json", content)

    assert main(["review", "--result", str(result)]) == 1
    assert "damaged or incomplete" in capsys.readouterr().err


def test_damaged_thresholds_are_refused_as_damaged(result, capsys):
    content = content_of(result)
    content["review"]["thresholds"]["grow"] = "a"
    write_json(result / "case.json", content)

    assert main(["review", "--result", str(result), "--sensitivity", "0.6"]) == 1
    told = capsys.readouterr().err
    assert "damaged or incomplete" in told
    assert "Predict the case again." in told


def test_a_sure_case_lists_nothing_and_does_not_say_that_nothing_is_wrong(result, capsys):
    write(result / "Ünal 7_confidence.nii.gz", np.ones(SHAPE, np.float32))

    assert main(["review", "--result", str(result), "--sensitivity", "0.5", "--write"]) == 0
    told = capsys.readouterr().out
    assert "nothing is doubtful enough to be listed; expected error 0.0 mL" in told
    assert "a higher --sensitivity lists more" in told
    assert map_of(result).max() == 0
    assert main(["review", "--result", str(result), "--sensitivity", "1"]) == 0
    assert "mean that nothing is wrong.\n" in capsys.readouterr().out


KILLED = """
import os, signal, sys
from SemiSupSegLib import files
from SemiSupSegLib.__main__ import main

take_place, left = files._take_place, int(sys.argv[2])

def killed(temporary, path):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    take_place(temporary, path)

files._take_place = killed
main(["review", "--result", sys.argv[1], "--sensitivity", "0.9", "--write"])
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
@pytest.mark.parametrize(("at", "sensitivity"), [(1, 0.5), (2, 0.9), (3, 0.9), (4, 0.9), (5, 0.9)])
def test_killed_while_regions_are_replaced_list_and_map_go_together(
    result, tmp_path, at, sensitivity
):
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(result), str(at)], capture_output=True, cwd=ROOT
    )
    assert ended.returncode == (0 if at == 5 else -signal.SIGKILL), ended.stderr
    listed = read_regions(result)
    (row,) = read_cohort(result.parent)

    open_review(result, "ann", JobFolder(tmp_path / "job"))

    assert listed.sensitivity == sensitivity
    assert row.problem == ""
    record = ReviewRecord.open(result, "ann")
    assert [one["id"] for one in record.listed] == [one.id for one in listed.regions]
    assert read_regions(result).to_json() == listed.to_json()
    regions = map_of(result)
    assert regions.max() == len(listed.regions) > 0
    for one in listed.regions:
        assert regions[one.peak_voxel] == one.id
