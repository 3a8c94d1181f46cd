import importlib
import math
import warnings

import numpy as np
import pytest

from SemiSupSegLib.evaluation.overlap import overlap_of_masks
from SemiSupSegLib.evaluation.surfaces import (
    _nearest,
    _surface,
    bounding_box,
    diagonal,
    surface_distances,
)

SHAPE = (12, 14, 16)


def independent(name):
    with warnings.catch_warnings():
        # These packages import scipy by names it has given up.
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module(name)


def a_mask(*boxes):
    mask = np.zeros(SHAPE, dtype=bool)
    for box in boxes:
        mask[tuple(slice(*limits) for limits in box)] = True
    return mask


def a_cube(start, side):
    return a_mask([(first, first + side) for first in start])


def a_voxel(*index):
    return a_cube(index, 1)


CUBE = a_cube((3, 3, 3), 3)
PAIRS = {
    "two voxels": (a_voxel(1, 1, 1), a_voxel(1, 4, 5), (1, 1, 1), 0, 5, 5, 5),
    "two voxels, anisotropic": (
        a_voxel(1, 1, 1),
        a_voxel(1, 4, 5),
        (1, 2, 1),
        0,
        math.sqrt(52),
        math.sqrt(52),
        math.sqrt(52),
    ),
    "a shifted cube": (CUBE, a_cube((4, 3, 3), 3), (1, 1, 1), 0.6667, 1, 1, 20 / 52),
    "a shifted cube, 2 mm": (CUBE, a_cube((4, 3, 3), 3), (2, 1, 1), 0.6667, 2, 2, 0.730769),
    "a cube and its inside": (
        a_cube((2, 2, 2), 5),
        CUBE,
        (1, 1, 1),
        0.355263,
        math.sqrt(3),
        math.sqrt(3),
        (54 + 36 * math.sqrt(2) + 8 * math.sqrt(3) + 26) / 124,
    ),
    "a far voxel more": (
        CUBE,
        a_mask([(3, 6)] * 3, [(10, 11), (4, 5), (4, 5)]),
        (1, 1, 1),
        0.981818,
        5,
        0,
        5 / 53,
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_distances_have_the_values_worked_out_by_hand(name):
    first, second, spacing, dice, hd, hd95, assd = PAIRS[name]

    found = surface_distances(first, second, spacing)

    assert overlap_of_masks(first, second).dice == pytest.approx(dice, abs=5e-5)
    assert found.hd == pytest.approx(hd)
    assert found.hd95 == pytest.approx(hd95, abs=5e-5)
    assert found.assd == pytest.approx(assd, abs=5e-7)


@pytest.mark.parametrize("name", PAIRS)
def test_order_of_the_masks_does_not_matter(name):
    first, second, spacing = PAIRS[name][:3]

    there, back = (
        surface_distances(first, second, spacing),
        surface_distances(second, first, spacing),
    )

    assert (there.hd, there.hd95) == (back.hd, back.hd95)
    assert there.assd == pytest.approx(back.assd)


def test_cubes_have_98_and_26_surface_voxels():
    assert _surface(a_cube((2, 2, 2), 5)).sum() == 98
    assert _surface(CUBE).sum() == 26


def test_the_border_of_the_grid_counts_as_outside():
    assert _surface(np.ones((3, 4, 5), dtype=bool)).sum() == 3 * 4 * 5 - 1 * 2 * 3


def test_a_slab_of_two_voxels_is_all_surface():
    assert _surface(np.ones((2, 4, 5), dtype=bool)).all()


def test_tree_and_distance_map_agree(monkeypatch):
    generator = np.random.default_rng(3)
    source, target = (generator.random((9, 10, 11)) < 0.05 for _ in range(2))
    spacing = (2.5, 0.7, 1.1)

    monkeypatch.setattr("SemiSupSegLib.evaluation.surfaces.VOXELS_PER_POINT", 0)
    with_tree = _nearest(source, target, spacing)
    monkeypatch.setattr("SemiSupSegLib.evaluation.surfaces.VOXELS_PER_POINT", 10**6)
    with_map = _nearest(source, target, spacing)

    np.testing.assert_allclose(with_tree, with_map)


def test_diagonal_of_a_brats_volume_is_373_mm():
    assert diagonal((155, 240, 240), (1, 1, 1)) == pytest.approx(373.1287, abs=5e-5)


def test_box_of_an_empty_mask_is_empty():
    assert bounding_box(np.zeros(SHAPE, dtype=bool)) == (slice(0, 0),) * 3


def test_an_empty_mask_has_no_distance():
    with pytest.raises(ValueError, match="empty mask has no surface"):
        surface_distances(CUBE, np.zeros(SHAPE, dtype=bool), (1, 1, 1))


@pytest.mark.parametrize("spacing", [(1, 1), (1, 0, 1), (1, math.nan, 1)])
def test_a_spacing_that_cannot_be_is_refused(spacing):
    with pytest.raises(ValueError, match="3 positive numbers"):
        surface_distances(CUBE, CUBE, spacing)


def test_masks_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="must lie on one grid"):
        surface_distances(CUBE, CUBE[1:], (1, 1, 1))


def test_medpy_gives_the_same_pooled_and_directed_distances():
    binary = independent("medpy.metric.binary")
    generator = np.random.default_rng(11)
    for spacing in ((1.0, 1.0, 1.0), (3.0, 0.9, 1.2)):
        first, second = (generator.random((8, 9, 10)) < 0.3 for _ in range(2))

        found = surface_distances(first, second, spacing)

        assert found.hd == pytest.approx(binary.hd(first, second, spacing))
        assert found.hd95_pooled == pytest.approx(binary.hd95(first, second, spacing))
        assert found.asd_directed == pytest.approx(binary.asd(first, second, spacing))
        directed = (found.asd_directed, binary.asd(second, first, spacing))
        sizes = found.to_reference.size, found.to_prediction.size
        assert found.assd == pytest.approx(np.average(directed, weights=sizes))


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # by its own calls
def test_area_weighted_distances_of_a_ball_differ_by_less_than_half_a_voxel():
    # The independent package measures on a marching-cubes surface, with another surface element.
    package = independent("surface_distance")
    grid = np.indices((24, 24, 24)) - np.array([11, 12, 11]).reshape(3, 1, 1, 1)
    ball = np.sqrt((grid**2).sum(axis=0)) < 7.5
    other = np.roll(np.sqrt((grid**2).sum(axis=0)) < 6.2, 2, axis=0)
    theirs = package.compute_surface_distances(ball, other, (1.0, 1.0, 1.0))

    ours = surface_distances(ball, other, (1.0, 1.0, 1.0))

    assert ours.hd95 == pytest.approx(package.compute_robust_hausdorff(theirs, 95), abs=0.5)
    average = np.mean(package.compute_average_surface_distance(theirs))
    assert ours.assd == pytest.approx(average, abs=0.5)
