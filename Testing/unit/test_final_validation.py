"""What is written about a finished run's validation cases."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.geometry import Geometry
from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.inference.calibration import uncalibrated
from SemiSupSegLib.preparation.prepare import PreparedCase
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.training.final_validation import summarise_validation

SHAPE = (12, 16, 20)


def a_case(name: str, *, offset: int = 0) -> PreparedCase:
    grid = Geometry(
        size=SHAPE[::-1],
        spacing=(1.0, 2.0, 3.0),
        origin=(0.0, 0.0, 0.0),
        direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    )
    label = np.zeros(SHAPE, np.uint8)
    label[4:8, 4:10, 5:12] = 2
    label[5 + offset // 2, 5:8, 6:10] = 3
    label[5, 5:7, 6:8] = 1
    image = np.repeat(label[None], 4, 0).astype(np.float16)
    return PreparedCase(
        id=name,
        patient=name,
        original=grid,
        grid=grid,
        image_hash="0" * 64,
        reference=ImageSource(path=Path("t1.nii.gz")),
        arrays={"image": image, "mask": np.ones(SHAPE, np.uint8), "label": label},
    )


def a_network(wrong_rows: int, *, with_variance: bool = True):
    """A network that is right but for the first rows of the volume's last columns."""

    def judged(case: PreparedCase) -> tuple[torch.Tensor, torch.Tensor | None]:
        label = case.label().copy()
        label[:, : 4 + wrong_rows] = 0
        truth = torch.from_numpy(label.astype(np.int64))
        probabilities = torch.nn.functional.one_hot(truth, 4).movedim(-1, 0).float()
        probabilities = 0.9 * probabilities + 0.025
        return probabilities, torch.full(SHAPE, -5.0) if with_variance else None

    return judged


@pytest.fixture
def a_run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


@pytest.fixture
def validation() -> list[PreparedCase]:
    return [a_case(f"case_{number}", offset=number) for number in range(3)]


def summarised(run: RunFolder, validation: list[PreparedCase], **networks: object) -> dict:
    task = load_task("brats")
    summarise_validation(run, task, networks, validation, uncalibrated(task.num_classes))
    return json.loads((run.validation / "cases.json").read_text())


def test_the_figures_of_each_case_network_and_target_are_written(a_run, validation):
    content = summarised(a_run, validation, student=a_network(0), teacher=a_network(2))

    check_format(content, "validation", "cases.json")
    assert set(content["cases"]) == {"case_0", "case_1", "case_2"}
    assert content["cases"]["case_0"]["student"]["WT"]["dice"] == 1
    # The label has 6 rows, the teacher misses 2: 2 * 4 / (6 + 4).
    assert content["cases"]["case_0"]["teacher"]["WT"]["dice"] == pytest.approx(0.8)


def test_errors_are_split_in_millilitres(a_run, validation):
    content = summarised(a_run, validation, student=a_network(2))

    errors = content["details"]["case_0"]["student"]["errors_ml"]
    # 4 slices, 2 rows, 7 columns are missed, 6 mm3 each.
    assert sum(errors.values()) == pytest.approx(4 * 2 * 7 * 6 / 1000)


def test_each_image_confidence_and_the_share_of_foreground_are_written(a_run, validation):
    content = summarised(a_run, validation, student=a_network(0))

    detail = content["details"]["case_0"]["student"]
    assert list(detail["image_confidence"]) == ["self_dice", "class_mean", "mean_fg", "mean_all"]
    assert all(0 < value <= 1 for value in detail["image_confidence"].values())
    label = np.asarray(validation[0].label())
    assert detail["foreground_share"] == pytest.approx((label > 0).mean())


def test_reliability_is_given_before_and_after_calibration(a_run, validation):
    content = summarised(a_run, validation, student=a_network(1))

    found = content["reliability"]["student"]
    assert 0 <= found["before"]["ece"] <= 1
    assert found["after"]["ece"] < found["before"]["ece"]
    bins = found["before"]["bins"]
    assert sum(one["count"] for one in bins) == sum(one["count"] for one in found["after"]["bins"])


def test_one_case_has_no_reliability_after_calibration(a_run, validation):
    content = summarised(a_run, validation[:1], student=a_network(1))

    assert content["reliability"]["student"]["after"] is None
    assert content["pictures"] == {"best": "case_0", "high_confidence": "case_0"}


def test_slices_hold_labels_maps_and_spacing_of_the_fullest_slice(a_run, validation):
    content = summarised(a_run, validation, student=a_network(0), teacher=a_network(2))

    shown = content["pictures"]["best"]
    with np.load(a_run.validation / "slices" / f"{shown}.npz", allow_pickle=False) as arrays:
        assert arrays["image"].shape == (4, 16, 20)
        assert arrays["spacing_mm"].tolist() == [2.0, 1.0]
        assert int(arrays["index"]) == 4
        assert arrays["truth"].sum() > arrays["teacher"].sum()
        assert {"student", "uncertainty", "confidence", "agreement"} <= set(arrays.files)
        assert arrays["agreement"].max() == 200


def test_outside_the_mask_the_maps_are_those_of_a_prediction(a_run, validation):
    for case in validation:
        case.arrays["mask"][:, :, -3:] = 0
    content = summarised(a_run, validation, student=a_network(0), teacher=a_network(2))

    shown = content["pictures"]["best"]
    with np.load(a_run.validation / "slices" / f"{shown}.npz", allow_pickle=False) as arrays:
        assert (arrays["confidence"][:, :-3] < 200).any()
        for name, value in (("confidence", 200), ("agreement", 200), ("uncertainty", 0)):
            assert (arrays[name][:, -3:] == value).all(), name


def test_without_teacher_and_log_variance_the_maps_that_need_them_are_absent(a_run, validation):
    content = summarised(a_run, validation, student=a_network(0, with_variance=False))

    assert set(content["histograms"]) == {"confidence"}
    assert sum(content["histograms"]["confidence"]["shares"]) == pytest.approx(1)
    assert set(content["reliability"]) == {"student"}


def test_only_slices_of_shown_cases_stay(a_run):
    many = [a_case(f"case_{number}") for number in range(9)]

    content = summarised(a_run, many, student=a_network(1))

    files = {path.name for path in (a_run.validation / "slices").iterdir()}
    assert files == {f"{name}.npz" for name in set(content["pictures"].values())}
