"""Whether a case is recognised as unlike what a model was trained on."""

from types import SimpleNamespace

import numpy as np
import pytest

from SemiSupSegLib.cases.task import Channel, Class, Task
from SemiSupSegLib.inference.likeness import likeness, mean_of, reference_of, scores_of
from SemiSupSegLib.inference.maps import Figures

TASK = Task(
    name="toy",
    title="Toy",
    channels=(Channel(name="t1"), Channel(name="t2", required=False)),
    classes=(Class(name="a", values=(1,), color=(255, 0, 0)),),
    regions=(),
)


def a_case(seed, spacing=(1.0, 1.0, 2.0), shape=1.0, has_second=True):
    """A case whose prepared intensities are normal, or skewed by a power."""
    draw = np.random.default_rng(seed)
    image = draw.normal(size=(2, 10, 12, 14))
    image[0] = np.sign(image[0]) * np.abs(image[0]) ** shape
    if not has_second:
        image[1] = 0
    mask = np.zeros(image.shape[1:], np.uint8)
    mask[1:-1] = 1
    return SimpleNamespace(
        image=lambda: image.astype(np.float16),
        mask=lambda: mask,
        original=SimpleNamespace(spacing=spacing),
    )


def figures(confidence=0.9, dice=0.95):
    return Figures(
        volumes_ml={}, confidence={"image": confidence, "a": confidence},
        teacher_student_dice={"a": dice},
    )  # fmt: skip


def a_reference(num_validation, confidences=None, dice=None):
    made = reference_of(
        TASK, [a_case(seed) for seed in range(3)],
        [a_case(100 + number) for number in range(num_validation)],
    )  # fmt: skip
    values = np.linspace(0.5, 0.9, num_validation) if num_validation else []
    details = [
        {"image_confidence": {"self_dice": one}, "teacher_student_dice": one} for one in values
    ]
    return {**made, "scores": scores_of(details)}


def test_a_case_like_the_others_has_no_reasons():
    found = likeness(a_reference(6), a_case(50), figures(), TASK, {})

    assert found.is_judged
    assert found.reasons == ()


@pytest.mark.parametrize(
    ("count", "value", "is_strange", "words"),
    [
        (4, 0.1, False, ""),
        # 0.5, 0.6, 0.7, 0.8 and 0.9 have a standard deviation of 0.158: the limit is 0.342.
        (5, 0.35, False, ""),
        (5, 0.33, True, "than in any of 5 validation cases (0.50 and more)"),
        # The 5th percentile of 21 values from 0.5 to 0.9 is the second lowest.
        (21, 0.53, False, ""),
        (21, 0.51, True, "than in 95 % of 21 validation cases (above 0.52)"),
    ],
)
def test_scores_are_compared_with_the_validation_cases(count, value, is_strange, words):
    reference = a_reference(count)

    sure = likeness(reference, a_case(50), figures(confidence=value), TASK, {})
    agreed = likeness(reference, a_case(50), figures(dice=value), TASK, {})
    reference["scores"]["estimated_dice"] = list(np.linspace(0.5, 0.9, count))
    estimated = likeness(reference, a_case(50), figures(), TASK, {"a": value, "b": None})

    assert sure.is_judged == agreed.is_judged == estimated.is_judged == (count >= 5)
    for found, start in (
        (sure, "The model is less sure"),
        (agreed, "Teacher and student differ"),
        (estimated, "The quality network thinks less of this case's result"),
    ):
        assert len(found.reasons) == is_strange
        assert all(one.startswith(start) and words in one for one in found.reasons)


def test_strange_intensities_name_their_channel():
    found = likeness(a_reference(5), a_case(50, shape=3.0), figures(), TASK, {})

    (reason,) = found.reasons
    assert reason.startswith("Channel t1: the intensities")


def test_a_channel_that_a_case_does_not_have_is_no_strange_one():
    assert likeness(a_reference(5), a_case(50, has_second=False), figures(), TASK, {}).reasons == ()


@pytest.mark.parametrize(
    ("spacing", "is_strange"),
    [((1.0, 1.0, 2.9), False), ((2.0, 1.0, 1.0), False), ((1.0, 1.0, 6.0), True),
     ((0.3, 0.3, 0.3), True)],
)  # fmt: skip
def test_voxels_of_another_size_are_strange_in_any_order_of_axes(spacing, is_strange):
    found = likeness(a_reference(0), a_case(50, spacing=spacing), figures(), TASK, {})

    assert len(found.reasons) == is_strange
    assert not found.is_judged


def test_a_validation_case_of_nothing_does_not_end_a_run():
    empty = a_case(100)
    empty.image = lambda: np.zeros((2, 10, 12, 14), np.float16)

    assert reference_of(TASK, [a_case(0)], [empty])["deviations"] == [0.0]


def test_a_package_without_reference_judges_nothing():
    found = likeness({}, a_case(50), figures(confidence=0.0), TASK, {})

    assert not found.is_judged
    assert found.reasons == ()


def test_what_neither_map_has_does_not_count_in_the_mean():
    assert mean_of({"a": 0.5, "b": None, "c": 1.0}, ["a", "b"]) == 0.5
    assert mean_of({"b": None}, ["b"]) is None
