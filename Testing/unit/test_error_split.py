import numpy as np
import pytest
from scipy.ndimage import binary_dilation, label

from SemiSupSegLib.evaluation.errors import split_errors

SHAPE = (12, 16, 20)


def label_map(*boxes):
    label = np.zeros(SHAPE, dtype=np.uint8)
    for value, *box in boxes:
        label[tuple(slice(*limits) for limits in box)] = value
    return label


LESION = (1, (3, 9), (3, 9), (3, 9))


def voxels(prediction, reference, spacing=(1, 1, 1), **options):
    found = split_errors(prediction, reference, spacing, **options)
    return {kind: found[kind]["voxels"] for kind in found}


def test_equal_label_maps_have_no_errors():
    found = split_errors(label_map(LESION), label_map(LESION), (1, 1, 1))

    assert found["boundary"] == {"voxels": 0, "mm3": 0.0, "fraction": 0.0}
    assert found["total"] == {"voxels": 0, "mm3": 0.0, "fraction_of_foreground": 0.0}
    nothing = label_map()
    assert split_errors(nothing, nothing, (1, 1, 1))["total"]["fraction_of_foreground"] is None


def test_a_border_2_mm_too_far_out_is_boundary_error_and_3_mm_is_false_positive_beyond():
    wide = label_map((1, (3, 9), (3, 9), (3, 12)))

    found = voxels(wide, label_map(LESION))

    assert found == {
        "boundary": 2 * 36,
        "false_positive": 36,
        "false_negative": 0,
        "class_confusion": 0,
        "total": 3 * 36,
    }


def test_distance_is_measured_in_mm():
    wide = label_map((1, (3, 9), (3, 9), (3, 12)))

    found = voxels(wide, label_map(LESION), (1, 1, 2))

    assert (found["boundary"], found["false_positive"]) == (36, 72)


@pytest.mark.parametrize("spacing", [2.0, 2.3, 5.0])
def test_one_voxel_too_far_out_is_boundary_error_on_every_grid(spacing):
    wide = label_map((1, (3, 9), (3, 9), (3, 10)))

    found = voxels(wide, label_map(LESION), (spacing, spacing, spacing))

    assert found["boundary"] == found["total"] == 36


def test_the_second_voxel_of_a_coarse_grid_is_not_boundary_error():
    wide = label_map((1, (3, 9), (3, 9), (3, 11)))

    found = voxels(wide, label_map(LESION), (2.3, 2.3, 2.3))

    assert (found["boundary"], found["false_positive"]) == (36, 36)


def test_on_a_coarse_grid_an_edge_voxel_is_no_neighbour():
    # The added column shares an edge with the lesion: 2.3 * sqrt(2) = 3.3 mm between centres.
    beside = label_map(LESION, (1, (3, 9), (9, 10), (9, 10)))

    assert voxels(beside, label_map(LESION), (2.3, 2.3, 2.3))["false_positive"] == 6


def test_a_small_missed_lesion_is_false_negative_and_not_boundary():
    small = (1, (1, 3), (12, 14), (15, 17))

    found = voxels(label_map(LESION), label_map(LESION, small))

    assert found["false_negative"] == 8
    assert found["boundary"] == 0


def test_a_small_invented_lesion_is_false_positive_and_not_boundary():
    small = (1, (1, 3), (12, 14), (15, 17))

    assert voxels(label_map(LESION, small), label_map(LESION))["false_positive"] == 8


def test_a_lesion_of_the_wrong_class_is_class_confusion():
    found = split_errors(label_map((2, *LESION[1:])), label_map(LESION), (2, 1, 0.5))

    assert found["class_confusion"] == {"voxels": 216, "mm3": 216.0, "fraction": 1.0}
    assert found["total"]["fraction_of_foreground"] == 1.0


def test_a_shifted_border_between_two_classes_is_boundary_error():
    rim = (2, (3, 9), (3, 9), (9, 15))
    shifted = label_map((1, (3, 9), (3, 9), (3, 10)), (2, (3, 9), (3, 9), (10, 15)))

    found = voxels(shifted, label_map(LESION, rim))

    assert found["boundary"] == found["total"] == 36


def test_every_wrong_voxel_is_of_exactly_one_kind():
    generator = np.random.default_rng(4)
    prediction, reference = generator.integers(0, 3, (2, 6, 7, 8), dtype=np.uint8)

    found = split_errors(prediction, reference, (1.5, 1, 0.7), boundary_mm=1)

    kinds = [found[kind] for kind in found if kind != "total"]
    assert sum(kind["voxels"] for kind in kinds) == int((prediction != reference).sum())
    assert sum(kind["fraction"] for kind in kinds) == pytest.approx(1)


def test_boundary_errors_agree_with_a_slow_search_around_each_voxel():
    generator = np.random.default_rng(7)
    prediction, reference = (generator.random((2, 6, 7, 8)) < 0.15).astype(np.uint8)
    spacing = np.array([1.5, 1.0, 0.8])
    everywhere = np.ones((3, 3, 3), dtype=bool)

    expected = 0
    for said, true in ((0, 1), (1, 0)):
        patches, count = label((prediction == said) & (reference == true), everywhere)
        for number in range(1, count + 1):
            patch = patches == number
            around = binary_dilation(patch, everywhere)
            if (
                not ((reference == said) & around).any()
                or not ((prediction == true) & around).any()
            ):
                continue
            places = np.argwhere(reference == said)
            expected += sum(
                np.linalg.norm((places - index) * spacing, axis=1).min() <= 2
                for index in np.argwhere(patch)
            )

    assert voxels(prediction, reference, spacing)["boundary"] == expected


def test_beyond_the_grid_there_is_no_class():
    reference = label_map((1, (0, 4), (3, 9), (3, 9)))
    prediction = label_map((1, (3, 4), (3, 9), (3, 9)))

    # The lesion ends at the border of the volume: no background lies behind it.
    assert (
        voxels(prediction, reference)["boundary"]
        < voxels(np.roll(prediction, 4, axis=0), np.roll(reference, 4, axis=0))["boundary"]
    )
