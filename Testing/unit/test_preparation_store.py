"""The prepared store: found by content and settings, complete or absent, shared."""

import dataclasses
import json
import mmap
import os
import shutil
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from SemiSupSegLib.cases.case import Case, CaseState, ImageSource
from SemiSupSegLib.cases.task import Channel, Class, Task
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.preparation import store as store_module
from SemiSupSegLib.preparation.options import PreparationOptions
from SemiSupSegLib.preparation.prepare import prepare_case
from SemiSupSegLib.preparation.store import default_store, prepare_cases

TASK = Task(
    name="one",
    title="One class",
    channels=(Channel(name="image"),),
    classes=(Class(name="object", values=(1, 255), color=(255, 0, 0)),),
)
OPTIONS = PreparationOptions(spacing=(1, 1, 1), mask="nonzero")


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    made = []
    for number in range(3):
        rng = np.random.default_rng(number)
        folder = tmp_path / f"case{number}"
        folder.mkdir()
        image = rng.integers(0, 50, (5, 6, 7)).astype(np.int16)
        label = (rng.random((5, 6, 7)) < 0.2).astype(np.uint8)
        sources = {}
        for name, array in (("image", image), ("seg", label)):
            path = folder / f"{name}.nrrd"
            sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
            sources[name] = ImageSource(path=path)
        made.append(
            Case(
                id=folder.name,
                patient=folder.name,
                state=CaseState.LABELLED,
                channels={"image": sources["image"]},
                label=sources["seg"],
            )
        )
    return made


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "not yet there" / "store"


def forbid_making(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a case was prepared again")

    monkeypatch.setattr(store_module, "prepare_images", refuse)


def test_stored_arrays_are_memory_mapped_and_equal_those_in_memory(cases, store):
    result = prepare_cases(cases, TASK, OPTIONS, store, with_label={"case0"}, workers=1)

    assert [one.id for one in result.prepared] == ["case0", "case1", "case2"]
    assert result.failed == ()
    stored, fresh = result.prepared[0], prepare_case(cases[0], TASK, OPTIONS, with_label=True)
    assert isinstance(stored.image().base, mmap.mmap)
    assert isinstance(stored.label().base, mmap.mmap)
    np.testing.assert_array_equal(stored.image(), fresh.image())
    np.testing.assert_array_equal(stored.mask(), fresh.mask())
    np.testing.assert_array_equal(stored.label(), fresh.label())
    assert (stored.grid, stored.original) == (fresh.grid, fresh.original)
    assert stored.image_hash == fresh.image_hash


def test_several_processes_make_the_same(cases, store, tmp_path):
    alone = prepare_cases(cases, TASK, OPTIONS, store, with_label=(), workers=1)
    seen = []

    together = prepare_cases(
        cases,
        TASK,
        OPTIONS,
        tmp_path / "other",
        with_label=(),
        workers=2,
        progress=lambda done, total: seen.append((done, total)),
    )

    for one, other in zip(alone.prepared, together.prepared, strict=True):
        np.testing.assert_array_equal(one.image(), other.image())
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_second_time_nothing_is_made(cases, store, monkeypatch):
    first = prepare_cases(cases, TASK, OPTIONS, store, with_label={"case1"}, workers=1)
    forbid_making(monkeypatch)

    second = prepare_cases(cases, TASK, OPTIONS, store, with_label={"case1"}, workers=1)

    assert second == first


def test_copied_files_are_recognised_by_content(cases, store, tmp_path, monkeypatch):
    first = prepare_cases(cases[:1], TASK, OPTIONS, store, with_label=(), workers=1)
    copy = tmp_path / "renamed.nrrd"
    shutil.copy(cases[0].channels["image"].path, copy)
    renamed = dataclasses.replace(cases[0], id="new", channels={"image": ImageSource(path=copy)})
    forbid_making(monkeypatch)

    second = prepare_cases([renamed], TASK, OPTIONS, store, with_label=(), workers=1)

    assert second.prepared[0].id == "new"
    assert second.prepared[0].folder == first.prepared[0].folder


def test_other_content_or_options_have_another_folder(cases, store):
    other = dataclasses.replace(OPTIONS, upper_quantile=0.9)

    folders = {
        prepared.folder
        for options in (OPTIONS, other)
        for prepared in prepare_cases(
            cases, TASK, options, store, with_label=(), workers=1
        ).prepared
    }

    assert len(folders) == 6


def test_labels_are_opened_only_for_the_ids_named(cases, store):
    broken = dataclasses.replace(cases[1], label=ImageSource(path=store / "missing.nrrd"))

    result = prepare_cases(
        [cases[0], broken], TASK, OPTIONS, store, with_label={"case0"}, workers=1
    )

    assert [one.has_label for one in result.prepared] == [True, False]
    assert result.failed == ()


def test_a_label_can_be_added_later_without_making_the_image_again(cases, store, monkeypatch):
    prepare_cases(cases[:1], TASK, OPTIONS, store, with_label=(), workers=1)
    forbid_making(monkeypatch)

    result = prepare_cases(cases[:1], TASK, OPTIONS, store, with_label={"case0"}, workers=1)

    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(cases[0].label.path)))
    np.testing.assert_array_equal(result.prepared[0].label(), expected)


def test_a_corrected_label_stands_beside_the_former_one(cases, store):
    first = prepare_cases(cases[:1], TASK, OPTIONS, store, with_label={"case0"}, workers=1)
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((5, 6, 7), np.uint8)), str(cases[0].label.path))

    second = prepare_cases(cases[:1], TASK, OPTIONS, store, with_label={"case0"}, workers=1)

    assert second.prepared[0].folder == first.prepared[0].folder
    assert second.prepared[0].label().all()
    assert not first.prepared[0].label().all()


def test_when_a_process_is_killed_the_rest_is_made_without_processes(
    cases, store, monkeypatch, caplog
):
    def die(*_: object) -> None:
        raise BrokenProcessPool("a child is gone")

    monkeypatch.setattr(store_module, "_make_in_processes", die)

    result = prepare_cases(cases, TASK, OPTIONS, store, with_label=(), workers=2)

    assert len(result.prepared) == 3
    assert "What remains, 3 cases, is prepared one after the other" in caplog.text


def test_a_case_that_fails_is_reported_and_the_others_go_on(cases, store):
    cases[1].channels["image"].path.write_bytes(b"not an image")
    gone = dataclasses.replace(
        cases[2], channels={"image": ImageSource(path=store / "missing.nrrd")}
    )

    result = prepare_cases([cases[0], cases[1], gone], TASK, OPTIONS, store, with_label=())

    assert [one.id for one in result.prepared] == ["case0"]
    assert [case_id for case_id, _ in result.failed] == ["case1", "case2"]
    assert "image.nrrd" in result.failed[0][1]
    assert "missing.nrrd" in result.failed[1][1]


def test_an_interrupted_case_leaves_nothing_and_is_made_again(cases, store, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "write_json", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare_cases(cases[:1], TASK, OPTIONS, store, with_label=(), workers=1)
    assert list(store.iterdir()) == []

    result = prepare_cases(cases[:1], TASK, OPTIONS, store, with_label=(), workers=1)

    assert len(result.prepared) == 1


def test_a_folder_without_all_its_files_is_made_again(cases, store):
    first = prepare_cases(cases[:1], TASK, OPTIONS, store, with_label=(), workers=1).prepared[0]
    expected = np.array(first.image())
    first.image_file.unlink()

    second = prepare_cases(cases[:1], TASK, OPTIONS, store, with_label=(), workers=1).prepared[0]

    np.testing.assert_array_equal(second.image(), expected)


@pytest.mark.parametrize("name", ["image_file", "mask_file", "label_file", "meta.json"])
def test_a_file_that_was_cut_short_is_made_again(cases, store, name):
    def prepared():
        return prepare_cases(cases[:1], TASK, OPTIONS, store, with_label=["case0"], workers=1)

    first = prepared().prepared[0]
    file = getattr(first, name, first.folder / name)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])

    second = prepared()

    assert second.failed == ()
    assert file.read_bytes() == content


def test_two_at_once_share_one_store(cases, store):
    results = []
    both = [
        threading.Thread(
            target=lambda: results.append(
                prepare_cases(cases, TASK, OPTIONS, store, with_label={"case2"}, workers=1)
            )
        )
        for _ in range(2)
    ]
    for one in both:
        one.start()
    for one in both:
        one.join()

    assert results[0] == results[1]
    assert len(results[0].prepared) == 3
    assert len(list(store.iterdir())) == 3


def test_only_old_unfinished_folders_are_cleared(cases, store):
    old, new = store / ".part-old", store / ".part-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    two_days_ago = time.time() - 48 * 3600
    os.utime(old, (two_days_ago, two_days_ago))

    prepare_cases(cases[:1], TASK, OPTIONS, store, with_label=(), workers=1)

    assert not old.exists()
    assert new.exists()


def test_the_folder_says_what_it_was_made_from(cases, store):
    prepared = prepare_cases(cases[:1], TASK, OPTIONS, store, with_label=(), workers=1).prepared[0]

    meta = json.loads((prepared.folder / "meta.json").read_text(encoding="utf-8"))

    assert meta["format"] == "semisupseg-prepared"
    assert meta["options"]["spacing"] == [1, 1, 1]
    assert meta["image_hash"] == prepared.image_hash
    assert "case0" not in json.dumps(meta)


def test_a_store_that_cannot_be_made_says_what_to_do(cases, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(SemiSupSegError, match="SEMISUPSEG_STORE"):
        prepare_cases(cases, TASK, OPTIONS, tmp_path / "file" / "store", with_label=())


def test_the_environment_names_the_default_store(monkeypatch, tmp_path):
    monkeypatch.setenv("SEMISUPSEG_STORE", str(tmp_path))
    assert default_store() == tmp_path

    monkeypatch.delenv("SEMISUPSEG_STORE")
    assert default_store().parts[-2:] == ("SemiSupSeg", "prepared")
