"""What Dice is guessed to be without a quality network."""

import math

import numpy as np
import pytest

from SemiSupSegLib.quality.baselines import learn_guesses, shape_of

SPACING = (3.0, 1.0, 2.0)


def a_mask(*boxes):
    mask = np.zeros((12, 14, 10), bool)
    for z, y, x in boxes:
        mask[slice(*z), slice(*y), slice(*x)] = True
    return mask


def test_the_shape_of_a_box_is_as_worked_out_by_hand():
    mask = a_mask(((2, 4), (3, 8), (1, 4)))

    log_volume, components, surface = shape_of(mask, SPACING)

    # 6 x 5 x 6 mm: volume 180, faces 2 (30 + 36 + 30).
    assert log_volume == pytest.approx(math.log(181))
    assert components == 1
    assert surface == pytest.approx(2 * (5 * 6 + 6 * 6 + 6 * 5) / 180)


def test_a_mask_at_the_border_of_the_grid_has_a_surface_there_too():
    inside, at_border = a_mask(((2, 4), (3, 8), (1, 4))), a_mask(((0, 2), (0, 5), (0, 3)))

    assert shape_of(at_border, SPACING) == pytest.approx(shape_of(inside, SPACING))


def test_parts_that_touch_at_a_corner_are_one():
    touching = a_mask(((2, 4), (2, 4), (2, 4)), ((4, 6), (4, 6), (4, 6)))
    apart = a_mask(((2, 4), (2, 4), (2, 4)), ((5, 7), (5, 7), (5, 7)))

    assert [shape_of(one, SPACING)[1] for one in (touching, apart)] == [1, 2]


def test_an_empty_mask_has_no_shape():
    assert shape_of(a_mask(), SPACING) == (0, 0, 0)


def test_a_line_through_shapes_tells_a_dice_that_follows_them():
    draw = np.random.default_rng(0)
    shapes = [(one[0], one[1], one[2]) for one in draw.uniform(0, 1, (20, 3))]
    dice = [0.1 + 0.5 * volume - 0.2 * count + 0.3 * area for volume, count, area in shapes]

    guesses = learn_guesses(shapes, dice)

    assert guesses.mean == pytest.approx(np.mean(dice))
    assert guesses.of_shape((0.5, 0.25, 1.0)) == pytest.approx(0.1 + 0.25 - 0.05 + 0.3)
    assert guesses.of_shape((9.0, 0.0, 0.0)) == 1
    assert guesses.of_shape((0.0, 9.0, 0.0)) == 0


def test_few_masks_have_a_mean_but_no_line():
    guesses = learn_guesses([(1.0, 1.0, 1.0)] * 7, [0.5] * 6 + [0.85])

    assert guesses.mean == pytest.approx(0.55)
    assert guesses.of_shape((1.0, 1.0, 1.0)) is None


def test_masks_of_one_shape_leave_their_mean():
    guesses = learn_guesses([(2.0, 1.0, 0.5)] * 8, [0.2, 0.4] * 4)

    assert guesses.of_shape((2.0, 1.0, 0.5)) == pytest.approx(0.3)
