"""What label, sure, possible, second, comparison and the figures are, by hand."""

import numpy as np
import pytest
import torch

from SemiSupSegLib.cases.task import Channel, Class, Region, Task
from SemiSupSegLib.inference.maps import Decision, FigureSums, compare


def a_task(num_foreground=2):
    names = [f"class{number}" for number in range(1, num_foreground + 1)]
    return Task(
        name="toy",
        title="Toy",
        channels=(Channel(name="mri"),),
        classes=tuple(
            Class(name=name, values=(10 * number,), color=(255, 0, 0))
            for number, name in enumerate(names, start=1)
        ),
        regions=(Region(name="both", classes=tuple(names[:2])),),
    )


def decided(probabilities, task=None, details=True):
    """A decision about voxels, each given by its class probabilities."""
    decision = Decision(task or a_task(), details=details, second=True)
    for probability in torch.tensor(probabilities, dtype=torch.float32).T:
        decision.add(probability.reshape(1, 1, -1))
    return decision


VOXELS = [
    [0.95, 0.03, 0.02],
    [0.05, 0.92, 0.03],
    [0.30, 0.45, 0.25],
    [0.04, 0.48, 0.48],
    [0.50, 0.08, 0.42],
]


def test_the_label_is_the_most_likely_class_and_the_lowest_of_equals():
    assert decided(VOXELS).label.flatten().tolist() == [0, 1, 1, 1, 0]


def test_second_is_the_runner_up_whatever_the_order():
    assert decided(VOXELS).second.flatten().tolist() == [1, 0, 0, 2, 2]


@pytest.mark.parametrize("seed", range(5))
def test_label_and_second_are_those_of_a_full_sort(seed):
    probabilities = torch.rand(200, 7, generator=torch.Generator().manual_seed(seed)).softmax(1)

    decision = decided(probabilities.tolist(), a_task(6))

    order = probabilities.argsort(1, descending=True)
    assert torch.equal(decision.label.flatten().long(), order[:, 0])
    assert torch.equal(decision.second.flatten().long(), order[:, 1])


def test_sure_and_possible_hold_a_bit_for_each_foreground_class():
    decision = decided(VOXELS)

    assert decision.sure.flatten().tolist() == [0, 1, 0, 0, 0]
    assert decision.possible.flatten().tolist() == [0, 1, 3, 3, 2]


def test_twelve_classes_have_a_bit_each():
    probabilities = [[0.0] * 12 + [1.0]]

    assert decided(probabilities, a_task(12)).sure.flatten().tolist() == [1 << 11]


@pytest.mark.parametrize(("foreground", "has_bits"), [(31, True), (32, False)])
def test_more_classes_than_bits_get_no_bits(foreground, has_bits):
    decision = decided([[0.0] * foreground + [1.0]], a_task(foreground))

    assert decision.has_bits == has_bits
    assert decision.label.item() == foreground
    if has_bits:
        assert decision.sure.item() == 1 << 30


def test_volumes_have_an_interval_from_sure_and_possible_voxels():
    sums = FigureSums(a_task())
    sums.add(decided(VOXELS), None)

    volumes = sums.result(voxel_volume_mm3=500.0).volumes_ml

    # In half millilitres: class1 is the label of 3 voxels, sure in 1, possible in 3.
    assert volumes["class1"] == {"value": 1.5, "low": 0.5, "high": 1.5}
    assert volumes["class2"] == {"value": 0.0, "low": 0.0, "high": 1.5}
    # The region's probabilities are .05 .95 .70 .96 .50.
    assert volumes["both"] == {"value": 1.5, "low": 1.0, "high": 2.0}


def test_an_interval_always_holds_its_value():
    # Twelve classes: the most likely one has less than a tenth.
    voxel = [0.075] * 13
    voxel[5] = 0.1 - 1e-4

    sums = FigureSums(a_task(12))
    sums.add(decided([voxel], a_task(12)), None)

    for one in sums.result(1000.0).volumes_ml.values():
        assert one["low"] <= one["value"] <= one["high"]
    assert sums.result(1000.0).volumes_ml["class5"]["value"] == 1


def test_confidence_is_the_expected_dice_of_methods_8_10():
    # Foreground (.03, .05, .70, .95, .60): 2 * 2.25 / (2.33 + 3).
    task = Task(
        name="one",
        title="One",
        channels=(Channel(name="mri"),),
        classes=(Class(name="object", values=(1,), color=(0, 0, 0)),),
    )
    foreground = (0.03, 0.05, 0.70, 0.95, 0.60)
    sums = FigureSums(task)
    sums.add(decided([[1 - p, p] for p in foreground], task), None)

    confidence = sums.result(1.0).confidence

    assert confidence["object"] == pytest.approx(0.844278, abs=1e-6)
    assert confidence["image"] == pytest.approx(0.844278, abs=1e-6)


def test_a_class_that_was_not_found_has_no_confidence_and_counts_0_in_the_image():
    sums = FigureSums(a_task())
    sums.add(decided([[0.0, 1.0, 0.0]]), None)

    confidence = sums.result(1.0).confidence

    assert confidence == {"image": 0.5, "class1": 1.0, "class2": None}


def test_teacher_student_dice_counts_classes_and_regions():
    # Student 0 1 1 1 0; teacher 0 1 2 0 0: class1 2*1/(3+1), region 2*2/(3+2).
    sums = FigureSums(a_task())
    sums.add(decided(VOXELS), torch.tensor([[[0, 1, 2, 0, 0]]], dtype=torch.uint8))

    dice = sums.result(1.0).teacher_student_dice

    assert dice == {
        "class1": pytest.approx(0.5),
        "class2": pytest.approx(0.0),
        "both": pytest.approx(0.8),
    }


def test_the_dice_of_nothing_with_nothing_is_not_a_number_to_report():
    sums = FigureSums(a_task())
    sums.add(decided([[1.0, 0.0, 0.0]]), torch.zeros(1, 1, 1, dtype=torch.uint8))

    assert set(sums.result(1.0).teacher_student_dice.values()) == {None}


def test_without_a_teacher_there_is_no_dice_with_it():
    sums = FigureSums(a_task())
    sums.add(decided(VOXELS), None)

    assert sums.result(1.0).teacher_student_dice == {}


def test_figures_of_slabs_add_up_to_those_of_the_whole():
    whole, parts = FigureSums(a_task()), FigureSums(a_task())
    whole.add(decided(VOXELS), None)
    parts.add(decided(VOXELS[:2]), None)
    parts.add(decided(VOXELS[2:]), None)

    assert parts.result(3.0) == whole.result(3.0)


def test_comparison_names_every_way_to_differ():
    student = np.array([[[0, 1, 0, 2, 1]]], np.uint8)
    teacher = np.array([[[0, 1, 2, 0, 2]]], np.uint8)

    assert compare(student, teacher).flatten().tolist() == [0, 1, 2, 3, 4]
