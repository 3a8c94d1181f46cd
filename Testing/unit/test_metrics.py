import json
import math
import warnings

import numpy as np
import pytest

from SemiSupSegLib.cases.task import Channel, Class, Region, Task
from SemiSupSegLib.evaluation.metrics import evaluate_label_maps, statistics_of, summarise
from SemiSupSegLib.evaluation.overlap import Overlap, confusion_matrix, overlap_of

SHAPE = (4, 5, 6)
SPACING = (2.0, 1.0, 0.5)


@pytest.fixture
def a_task():
    return Task(
        name="two",
        title="Two classes",
        channels=(Channel(name="image"),),
        classes=(
            Class(name="core", values=(1,), color=(255, 0, 0)),
            Class(name="rim", values=(2,), color=(0, 255, 0)),
        ),
        regions=(Region(name="whole", classes=("core", "rim")),),
    )


def label_map(**boxes):
    label = np.zeros(SHAPE, dtype=np.uint8)
    for name, box in boxes.items():
        label[tuple(slice(*limits) for limits in box)] = {"core": 1, "rim": 2}[name]
    return label


def test_figures_of_a_class_and_of_a_region_are_as_worked_out_by_hand(a_task):
    reference = label_map(core=[(0, 2), (0, 2), (0, 2)], rim=[(2, 3), (0, 2), (0, 2)])
    prediction = label_map(core=[(0, 1), (0, 2), (0, 2)], rim=[(1, 3), (0, 2), (0, 2)])

    found = evaluate_label_maps(prediction, reference, SPACING, a_task)

    assert list(found) == ["core", "rim", "whole"]
    # core: 4 voxels of 8 are found, nothing else; all voxels are surface.
    assert found["core"]["dice"] == pytest.approx(8 / 12)
    assert found["core"]["iou"] == pytest.approx(0.5)
    assert found["core"]["ravd"] == pytest.approx(0.5)
    assert found["core"]["hd95_mm"] == pytest.approx(2.0)
    assert found["core"]["assd_mm"] == pytest.approx(4 * 2.0 / 12)
    assert found["core"]["volume_ml"] == pytest.approx(0.004)
    assert found["core"]["reference_volume_ml"] == pytest.approx(0.008)
    # rim: 8 voxels predicted, 4 of them right.
    assert found["rim"]["dice"] == pytest.approx(8 / 12)
    assert found["rim"]["ravd"] == pytest.approx(1.0)
    assert found["whole"]["dice"] == 1.0
    assert found["whole"]["hd95_mm"] == 0.0
    assert all(figures["empty"] is None for figures in found.values())


def test_a_class_that_is_in_neither_label_map_counts_as_right_and_is_flagged(a_task):
    label = label_map(core=[(0, 2), (0, 2), (0, 2)])

    rim = evaluate_label_maps(label, label, SPACING, a_task)["rim"]

    assert rim == {
        "dice": 1.0,
        "iou": 1.0,
        "hd95_mm": 0.0,
        "assd_mm": 0.0,
        "ravd": 0.0,
        "volume_ml": 0.0,
        "reference_volume_ml": 0.0,
        "empty": "both_empty",
    }


@pytest.mark.parametrize(("missing", "ravd"), [("prediction", 1.0), ("reference", None)])
def test_a_class_in_one_label_map_only_is_as_far_off_as_the_volume_is_large(a_task, missing, ravd):
    there, nothing = label_map(core=[(0, 2), (0, 2), (0, 2)]), label_map()
    pair = (nothing, there) if missing == "prediction" else (there, nothing)

    core = evaluate_label_maps(*pair, SPACING, a_task)["core"]

    assert (core["dice"], core["iou"], core["ravd"]) == (0.0, 0.0, ravd)
    assert core["hd95_mm"] == core["assd_mm"] == math.sqrt(8**2 + 5**2 + 3**2)
    assert core["empty"] == "one_empty"


def test_spacing_is_taken_along_depth_height_width(a_task):
    reference = label_map(core=[(0, 1), (0, 1), (0, 1)])
    moved = {
        4.0: label_map(core=[(2, 3), (0, 1), (0, 1)]),
        2.0: label_map(core=[(0, 1), (2, 3), (0, 1)]),
        1.0: label_map(core=[(0, 1), (0, 1), (2, 3)]),
    }

    for distance, prediction in moved.items():
        core = evaluate_label_maps(prediction, reference, SPACING, a_task)["core"]
        assert core["hd95_mm"] == pytest.approx(distance)


def test_left_atrium_preset_is_what_medpy_gives_in_voxels(a_task):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its own imports
        from medpy.metric import binary
    generator = np.random.default_rng(5)
    prediction, reference = ((generator.random((8, 9, 10)) < 0.2).astype(np.uint8) for _ in "ab")

    core = evaluate_label_maps(prediction, reference, SPACING, a_task, preset="la_voxels")["core"]

    assert core["dice_ref"] == pytest.approx(binary.dc(prediction, reference))
    assert core["iou_ref"] == pytest.approx(binary.jc(prediction, reference))
    assert core["hd95_ref"] == pytest.approx(binary.hd95(prediction, reference))
    assert core["asd_ref"] == pytest.approx(binary.asd(prediction, reference))
    assert core["ravd"] == pytest.approx(abs(binary.ravd(prediction, reference)))


def test_left_atrium_preset_scores_an_empty_prediction_as_the_papers_do(a_task):
    there, nothing = label_map(core=[(0, 2), (0, 2), (0, 2)]), label_map()

    missed = evaluate_label_maps(nothing, there, SPACING, a_task, preset="la_voxels")["core"]
    invented = evaluate_label_maps(there, nothing, SPACING, a_task, preset="la_voxels")["core"]

    names = ("dice_ref", "iou_ref", "hd95_ref", "asd_ref")
    assert [missed[name] for name in names] == [0.0, 0.0, 0.0, 0.0]
    assert [invented[name] for name in names] == [0.0, 0.0, None, None]
    assert missed["hd95_mm"] == math.sqrt(8**2 + 5**2 + 3**2)


def test_an_unknown_preset_is_answered_with_the_known_ones(a_task):
    with pytest.raises(ValueError, match="must be one of: mm, la_voxels"):
        evaluate_label_maps(label_map(), label_map(), SPACING, a_task, preset="voxel")


def test_label_maps_of_different_size_are_refused(a_task):
    with pytest.raises(ValueError, match=r"shape \(4, 5, 6\), reference \(3, 5, 6\)"):
        evaluate_label_maps(label_map(), label_map()[1:], SPACING, a_task)


def test_a_class_index_that_the_task_does_not_have_is_refused(a_task):
    with pytest.raises(ValueError, match="reference has class index 3, the task has 0 to 2"):
        evaluate_label_maps(label_map(), label_map() + np.uint8(3), SPACING, a_task)


def test_confusion_matrix_counts_every_pair_of_classes():
    prediction = np.array([0, 0, 1, 1, 2, 2, 2], dtype=np.uint8)
    reference = np.array([0, 1, 1, 2, 2, 0, 2], dtype=np.uint8)

    confusion = confusion_matrix(prediction, reference, 3)

    assert confusion.tolist() == [[1, 1, 0], [0, 1, 1], [1, 0, 2]]
    assert overlap_of(confusion, (1, 2)) == Overlap(
        true_positives=4, false_positives=1, false_negatives=1
    )


def test_summary_gives_mean_sd_median_and_n_and_counts_empties():
    def figures(dice, ravd, empty=None):
        return {"whole": {"dice": dice, "ravd": ravd, "empty": empty}}

    cases = {
        "a": figures(0.5, 0.1),
        "b": figures(0.8, 0.3),
        "c": figures(0.0, None, "one_empty"),
        "d": figures(1.0, 0.0, "both_empty"),
    }

    found = summarise(cases)["whole"]

    assert found["dice"]["mean"] == pytest.approx(0.575)
    assert found["dice"]["sd"] == pytest.approx(math.sqrt(0.5675 / 3))
    assert found["dice"]["median"] == pytest.approx(0.65)
    assert found["dice"]["n"] == 4
    assert found["ravd"]["n"] == 3
    assert found["empty"] == {"both_empty": 1, "one_empty": 1}
    skipped = summarise(cases, skip_empty=True)["whole"]
    assert skipped["dice"]["n"] == 3
    assert skipped["dice"]["mean"] == pytest.approx(1.3 / 3)
    assert skipped["empty"] == {"both_empty": 1, "one_empty": 1}


def test_statistics_of_too_few_values_are_null_and_not_nan():
    assert statistics_of([]) == {"mean": None, "sd": None, "median": None, "n": 0}
    assert statistics_of([0.5]) == {"mean": 0.5, "sd": None, "median": 0.5, "n": 1}


def test_figures_can_be_written_as_strict_json(a_task):
    cases = {
        "a": evaluate_label_maps(label_map(), label_map(), SPACING, a_task, preset="la_voxels"),
        "b": evaluate_label_maps(label_map(core=[(0, 1)] * 3), label_map(), SPACING, a_task),
    }

    json.dumps({"cases": cases, "summary": summarise(cases)}, allow_nan=False)
