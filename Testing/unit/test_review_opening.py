"""What a worker hands to the panel when a result is opened for review."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from SemiSupSegLib.__main__ import main
from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.reading import content_hash
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.files import read_json, write_json
from SemiSupSegLib.preparation.nifti import write_nifti
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.review.change import Change
from SemiSupSegLib.review.outbox import carry_all
from SemiSupSegLib.review.record import ReviewRecord
from SemiSupSegLib.workers.job import JobFolder
from SemiSupSegLib.workers.opening import open_review
from Testing.data.make_review_folder import (
    GRID,
    SHAPE,
    make_result,
    the_label,
    the_region_map,
    the_task,
)

IMAGE = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISUPSEG_HOME", str(tmp_path / "home"))


@pytest.fixture
def result(tmp_path):
    """A result whose image lies in another folder."""
    image = tmp_path / "cases" / "p1" / "p1_t1.nii.gz"
    image.parent.mkdir(parents=True)
    write_nifti(image, IMAGE, GRID)
    folder = make_result(tmp_path / "out", inputs={"t1": content_hash(ImageSource(path=image))})
    content = read_json(folder / "case.json")
    content["task"] = the_task().to_json()
    content["images"] = {"t1": {"path": os.path.relpath(image, folder)}}
    write_json(folder / "case.json", content)
    return folder


def opened(result, job, **options):
    """Open it, and return the content of both files."""
    open_review(result, "ann", JobFolder(job), **options)
    content, told = read_json(job / "result.json"), read_json(job / "review.json")
    check_format(content, "job-result", "result.json")
    check_format(told, "review-opened", "review.json")
    return content, told


def array(job, file):
    return np.load(job / file, allow_pickle=False)


def test_the_record_is_begun_and_maps_and_images_are_handed_over(result, tmp_path):
    job = tmp_path / "job"

    content, told = opened(result, job)

    record = ReviewRecord.open(result, "ann")
    assert (record.case, record.model_name) == ("p1", "a model")
    np.testing.assert_array_equal(array(job, content["maps"]["label"]), the_label())
    np.testing.assert_array_equal(array(job, content["maps"]["regions"]), the_region_map())
    listed = read_json(result / "case.json")["review_regions"]
    assert [one["id"] for one in content["review_regions"]] == [one["id"] for one in listed]
    assert {"confidence", "distance"} <= content["maps"].keys()
    np.testing.assert_array_equal(array(job, told["images"]["t1"]["file"]), IMAGE)
    assert content["grid"]["size"] == list(GRID.size)


def test_a_review_goes_on_where_it_was(result, tmp_path):
    opened(result, tmp_path / "first")
    record = ReviewRecord.open(result, "ann")
    after = the_label()
    after[2, 3, 2] = 3
    record.decide(1, "relabelled", Change.between(the_label(), after))

    content, _ = opened(result, tmp_path / "again", has_scene=True)

    np.testing.assert_array_equal(array(tmp_path / "again", content["maps"]["label"]), after)
    assert content["maps"].keys() == {"label", "regions"}
    assert ReviewRecord.open(result, "ann").statuses == {1: "relabelled"}


def test_another_image_in_its_place_is_not_shown(result, tmp_path):
    write_nifti(tmp_path / "cases" / "p1" / "p1_t1.nii.gz", IMAGE + np.int16(1), GRID)

    _, told = opened(result, tmp_path / "job")

    assert told["images"] == {}
    assert told["missing_images"] == ["t1"]
    assert opened(result, tmp_path / "next", has_scene=True)[1]["missing_images"] == []


def test_other_regions_are_refused_once_something_is_decided(result, tmp_path):
    opened(result, tmp_path / "first")
    ReviewRecord.open(result, "ann").decide(1, "confirmed")

    with pytest.raises(UsageError, match="decided something"):
        opened(result, tmp_path / "again", sensitivity=0.8)


def test_begun_anew_the_former_record_is_kept(result, tmp_path):
    opened(result, tmp_path / "first")
    ReviewRecord.open(result, "ann").decide(1, "confirmed")

    opened(result, tmp_path / "again", is_anew=True)

    assert ReviewRecord.open(result, "ann").statuses == {}
    former = (result / "review.ann.1.jsonl").read_text()
    assert json.loads(former.splitlines()[1])["status"] == "confirmed"


def test_what_is_no_result_is_refused(tmp_path):
    (tmp_path / "p1").mkdir()

    with pytest.raises(SemiSupSegError, match="no result of a case"):
        opened(tmp_path / "p1", tmp_path / "job")


@pytest.mark.parametrize("name", ["label", "regions"])
def test_no_review_begins_with_a_damaged_file(result, tmp_path, name):
    file = result / f"p1_{name}.nii.gz"
    whole = file.read_bytes()
    file.write_bytes(whole[:60])

    with pytest.raises(SemiSupSegError, match=f"p1_{name}"):
        opened(result, tmp_path / "job")

    assert not list(result.glob("review.*"))
    file.write_bytes(whole)
    opened(result, tmp_path / "again")


def test_no_review_begins_without_a_map_of_confidence(result, tmp_path):
    (result / "p1_confidence.nii.gz").unlink()

    with pytest.raises(SemiSupSegError, match=r"confidence\.nii\.gz is missing, without which"):
        opened(result, tmp_path / "job")

    assert not list(result.glob("review.*"))


def test_the_command_does_it(result, tmp_path):
    words = ["review", "open", "--result", str(result), "--reviewer", "ann"]
    words += ["--job", str(tmp_path / "job")]

    assert main(words) == 0

    assert (tmp_path / "job" / "review.json").is_file()


def test_what_waits_on_this_machine_belongs_to_what_is_opened(result, tmp_path):
    _, told = opened(result, tmp_path / "first")
    assert told["aside"] == []
    window = ReviewRecord.open(Path(told["outbox"]), "ann")
    assert window.listed == ReviewRecord.open(result, "ann").listed
    before = np.load(tmp_path / "first" / "maps" / "label.npy")
    change = Change.between(before, np.where(the_region_map() == 1, 3, before))
    window.decide(1, "relabelled", change)

    _, again = opened(result, tmp_path / "second")

    label = np.load(tmp_path / "second" / "maps" / "label.npy")
    assert (label[the_region_map() == 1] == 3).all()
    assert again["outbox"] == told["outbox"]


def test_what_waits_for_a_folder_that_was_moved_is_in_the_label_map(result, tmp_path):
    _, told = opened(result, tmp_path / "first")
    change = Change.between(the_label(), np.where(the_region_map() == 1, 3, the_label()))
    ReviewRecord.open(Path(told["outbox"]), "ann").decide(1, "relabelled", change)
    moved = result.rename(tmp_path / "elsewhere")

    _, again = opened(moved, tmp_path / "second")

    assert ReviewRecord.open(moved, "ann").statuses == {1: "relabelled"}
    assert again["outbox"] == told["outbox"]
    label = np.load(tmp_path / "second" / "maps" / "label.npy")
    assert (label[the_region_map() == 1] == 3).all()


def test_an_older_copy_of_the_folder_gets_what_was_decided_since(result, tmp_path):
    _, told = opened(result, tmp_path / "first")
    copied = Path(shutil.copytree(result, tmp_path / "copied"))
    change = Change.between(the_label(), np.where(the_region_map() == 1, 3, the_label()))
    ReviewRecord.open(Path(told["outbox"]), "ann").decide(1, "relabelled", change)
    carry_all(result)

    _, again = opened(copied, tmp_path / "second")

    listed = ReviewRecord.open(Path(again["outbox"]), "ann").statuses
    assert listed == ReviewRecord.open(copied, "ann").statuses == {1: "relabelled"}
    label = np.load(tmp_path / "second" / "maps" / "label.npy")
    assert (label[the_region_map() == 1] == 3).all()


@pytest.mark.parametrize("place", ["elsewhere", "elsewhere/p1"])
def test_a_command_finds_what_waits_for_a_folder_that_was_moved(result, tmp_path, place):
    _, told = opened(result, tmp_path / "first")
    ReviewRecord.open(Path(told["outbox"]), "ann").decide(1, "confirmed")
    result.parent.rename(tmp_path / "elsewhere")

    carry_all(tmp_path / place)

    moved = tmp_path / "elsewhere" / "p1"
    assert ReviewRecord.open(moved, "ann").statuses == {1: "confirmed"}


def test_the_slider_stands_where_the_review_was_listed(result, tmp_path):
    _, told = opened(result, tmp_path / "first", sensitivity=0.25)
    assert told["sensitivity"] == 0.25
    # Another reviewer lists others.
    open_review(result, "bob", JobFolder(tmp_path / "bob"), sensitivity=0.75)

    _, told = opened(result, tmp_path / "again")

    assert told["sensitivity"] == 0.25


def test_what_went_aside_is_named(result, tmp_path):
    _, told = opened(result, tmp_path / "first")
    ReviewRecord.open(result, "ann").decide(1, "ignored")
    ReviewRecord.open(Path(told["outbox"]), "ann").decide(1, "confirmed")

    _, again = opened(result, tmp_path / "second")

    assert again["aside"] == ["review.ann.1.jsonl"]
    assert ReviewRecord.open(Path(again["outbox"]), "ann").statuses == {1: "ignored"}
