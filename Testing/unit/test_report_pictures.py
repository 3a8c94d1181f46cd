"""Pictures of slices."""

import numpy as np
import pytest

from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.report import pictures


@pytest.fixture
def a_slice() -> dict[str, np.ndarray]:
    truth = np.zeros((20, 30), np.uint8)
    truth[5:9, 10:20] = 2
    image = np.zeros((4, 20, 30), np.float16)
    image[:, 2:18, 2:28] = 1
    image[1, 2:18, 2:28] = np.random.default_rng(0).normal(1, 0.1, (16, 26))
    image[1][truth > 0] = 3
    return {"image": image, "truth": truth, "spacing_mm": np.array([2.0, 1.0])}


def test_the_channel_that_shows_the_foreground_best_is_chosen(a_slice):
    a_slice["image"][0] *= np.random.default_rng(1).normal(1, 0.1, (20, 30))

    name, gray = pictures._gray(load_task("brats"), a_slice)

    assert name == "t1ce"
    assert gray[0, 0].tolist() == [0, 0, 0]
    # 256 / 30 rounds to 9.
    assert gray.shape == (180, 270, 3)


def test_a_slice_without_foreground_still_has_a_picture(a_slice):
    a_slice["truth"][:] = 0

    name, gray = pictures._gray(load_task("brats"), a_slice)

    assert name == "t1"
    assert np.isfinite(gray).all()


def test_labels_are_filled_with_outlines_in_the_class_color(a_slice):
    task = load_task("brats")
    _, gray = pictures._gray(task, a_slice)

    painted = pictures._with_label(task, gray, a_slice["truth"])

    assert painted[5 * 9, 10 * 9].tolist() == list(task.classes[1].color)
    assert (painted[0] == gray[0]).all()


def test_a_comparison_tells_missed_invented_and_misnamed_apart():
    student = np.array([[0, 1, 0, 2, 1]], np.uint8)
    reference = np.array([[0, 1, 2, 0, 2]], np.uint8)

    assert pictures._comparison(student, reference).tolist() == [[0, 1, 2, 3, 4]]


def test_maps_take_the_ends_of_their_colors():
    steps = np.array([[0, 200]], np.uint8)

    picture = pictures._as_map("uncertainty", steps)

    table = pictures.color_map("uncertainty")
    assert picture[0, 0].tolist() == table[0].tolist()
    assert picture[0, -1].tolist() == table[255].tolist()


def test_tiles_keep_the_proportions_of_the_patient(a_slice):
    tile = pictures._tile("Image", np.zeros((20, 30, 3), np.uint8), a_slice)

    assert (tile.width_mm, tile.height_mm) == (30, 40)
    assert tile.uri.startswith("data:image/png;base64,")
