import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from SemiSupSegLib.evaluation.overlap import overlap_of_masks
from SemiSupSegLib.evaluation.surfaces import surface_distances

SHAPE = (4, 5, 6)
masks = arrays(np.bool_, SHAPE)
objects = masks.filter(lambda mask: bool(mask.any()))
spacings = st.tuples(*[st.floats(0.3, 5.0, allow_nan=False)] * 3)
laws = settings(deadline=None, derandomize=True, max_examples=40)


def slow_distances(first, second, spacing):
    def surface(mask):
        padded = np.pad(mask, 1)
        points = []
        for index in np.argwhere(mask):
            neighbours = [
                padded[tuple(index + 1 + step)]
                for step in np.vstack([np.eye(3), -np.eye(3)]).astype(int)
            ]
            if not all(neighbours):
                points.append(index * np.asarray(spacing))
        return np.array(points)

    there, back = surface(first), surface(second)
    pairs = np.linalg.norm(there[:, None] - back[None], axis=-1)
    return pairs.min(axis=1), pairs.min(axis=0)


@laws
@given(first=objects, second=objects, spacing=spacings)
def test_surface_distances_are_those_of_a_slow_search_over_all_pairs(first, second, spacing):
    to_second, to_first = slow_distances(first, second, spacing)

    found = surface_distances(first, second, spacing)

    np.testing.assert_allclose(found.to_reference, to_second, atol=1e-9)
    np.testing.assert_allclose(found.to_prediction, to_first, atol=1e-9)


@laws
@given(first=masks, second=masks)
def test_overlap_is_symmetric_and_dice_is_not_below_iou(first, second):
    there, back = overlap_of_masks(first, second), overlap_of_masks(second, first)

    assert there.dice == back.dice
    assert there.iou == back.iou
    assert 0 <= there.iou <= there.dice <= 1
    assert there.dice == pytest.approx(2 * there.iou / (1 + there.iou))


@laws
@given(mask=objects, spacing=spacings)
def test_a_mask_overlaps_itself_fully_at_distance_0(mask, spacing):
    distances = surface_distances(mask, mask, spacing)

    assert overlap_of_masks(mask, mask).dice == 1
    assert (distances.hd, distances.hd95, distances.assd) == (0, 0, 0)


@laws
@given(first=objects, second=objects, spacing=spacings, factor=st.floats(0.5, 3))
def test_distances_grow_with_the_spacing(first, second, spacing, factor):
    once = surface_distances(first, second, spacing)
    scaled = surface_distances(first, second, [step * factor for step in spacing])

    assert scaled.hd95 == pytest.approx(once.hd95 * factor)
    assert scaled.assd == pytest.approx(once.assd * factor)
    assert once.hd95 <= once.hd


@laws
@given(first=objects, second=objects, pad=st.integers(1, 3))
def test_empty_margins_change_no_distance(first, second, pad):
    # The border counts as outside, so it makes no difference whether background follows.
    once = surface_distances(first, second, (1, 2, 3))
    padded = surface_distances(np.pad(first, pad), np.pad(second, pad), (1, 2, 3))

    assert (once.hd, once.hd95, once.assd) == (padded.hd, padded.hd95, padded.assd)
