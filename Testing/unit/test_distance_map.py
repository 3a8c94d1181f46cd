"""How far voxels are from a result, for maps that are drawn near it only."""

from __future__ import annotations

import numpy as np

from SemiSupSegLib.workers.serve import FAR, distance_mm


def test_distances_are_in_whole_mm_along_each_axis_and_rounded_up():
    label = np.zeros((5, 7, 9), np.uint8)
    label[2, 3, 4] = 2

    found = distance_mm(label, (1.5, 2.0, 3.0))

    assert found.dtype == np.uint8
    assert found[2, 3, 4] == 0
    assert found[2, 3, 5] == 2  # 1.5 mm along x
    assert found[2, 4, 4] == 2  # 2 mm along y
    assert found[3, 3, 4] == 3  # 3 mm along z
    assert found[2, 4, 5] == 3  # 2.5 mm


def test_what_is_farther_than_the_farthest_is_the_farthest():
    label = np.zeros((4, 4, 120), np.uint8)
    label[:, :, 0] = 1

    found = distance_mm(label, (1.0, 1.0, 1.0))

    assert found[0, 0, FAR - 1] == FAR - 1
    assert (found[:, :, FAR:] == FAR).all()


def test_a_result_of_nothing_is_far_from_everything():
    assert (distance_mm(np.zeros((3, 4, 5), np.uint8), (1.0, 1.0, 1.0)) == FAR).all()
