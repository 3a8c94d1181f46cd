"""`prepare` from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from SemiSupSegLib.__main__ import main


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(3):
        folder = tmp_path / "cases" / f"case{number}"
        folder.mkdir(parents=True)
        for name, highest in (("mri", 200), ("seg", 2)):
            array = rng.integers(0, highest, (6, 7, 8)).astype(np.uint8)
            sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / f"{name}.nii.gz"))
    return tmp_path / "cases"


def labels_in(store: Path) -> int:
    return len(list(store.glob("*/label-*.npy")))


def test_all_cases_and_labels_are_prepared(cohort, tmp_path, capsys):
    store = tmp_path / "store"

    code = main(["prepare", "--cases", str(cohort), "--store", str(store), "--workers", "1"])

    assert code == 0
    assert "3 of 3 cases are prepared at 1 x 1 x 1 mm" in capsys.readouterr().out
    assert labels_in(store) == 3


def test_what_was_found_in_the_files_is_kept_in_the_chosen_store(cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISUPSEG_STORE", str(tmp_path / "usual"))

    main(["prepare", "--cases", str(cohort), "--store", str(tmp_path / "store"), "--workers", "1"])

    assert list((tmp_path / "store" / "scans").glob("*.jsonl"))
    assert not (tmp_path / "usual").exists()


def test_with_a_split_labels_of_unlabelled_cases_stay_closed(cohort, tmp_path, capsys):
    store = tmp_path / "store"
    split = {
        "train_labelled": ["case0"],
        "train_unlabelled": ["case1"],
        "validation": ["case2"],
    }
    (tmp_path / "split.json").write_text(json.dumps(split))
    words = ["--split", str(tmp_path / "split.json"), "--set", "spacing=[2, 2, 2]"]

    code = main(["prepare", "--cases", str(cohort), "--store", str(store), *words])

    assert code == 0
    assert "at 2 x 2 x 2 mm" in capsys.readouterr().out
    assert labels_in(store) == 2


def test_with_a_split_a_damaged_label_of_an_unlabelled_case_does_no_harm(cohort, tmp_path, capsys):
    (cohort / "case1" / "seg.nii.gz").write_bytes(b"damaged")
    split = {"train_labelled": ["case0"], "train_unlabelled": ["case1"], "validation": ["case2"]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    words = ["--cases", str(cohort), "--store", str(tmp_path / "store")]

    code = main(["prepare", *words, "--split", str(tmp_path / "split.json")])

    assert code == 0
    assert "3 of 3 cases are prepared" in capsys.readouterr().out


@pytest.mark.parametrize(("use", "expected"), [("train_unlabelled", 1), (None, 0)])
def test_unusable_cases_are_said_and_those_of_the_split_are_a_failure(
    cohort, tmp_path, capsys, use, expected
):
    (cohort / "case1" / "mri.nii.gz").write_bytes(b"damaged")
    split = {"train_labelled": ["case0"], "train_unlabelled": [], "validation": ["case2"]}
    if use is not None:
        split[use] = ["case1"]
    (tmp_path / "split.json").write_text(json.dumps(split))
    words = ["--cases", str(cohort), "--store", str(tmp_path / "store")]

    code = main(["prepare", *words, "--split", str(tmp_path / "split.json")])

    assert code == expected
    printed = capsys.readouterr().out
    assert "Left out case1: mri.nii.gz" in printed
    assert "2 of 3 cases are prepared" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "n4"], "has no '='"),
        (["--set", "spacings=1"], "Did you mean 'spacing'"),
        (["--workers", "0"], "must be 1 or more"),
    ],
)
def test_wrong_options_are_usage_errors(cohort, capsys, words, message):
    assert main(["prepare", "--cases", str(cohort), *words]) == 2
    assert message in capsys.readouterr().err
