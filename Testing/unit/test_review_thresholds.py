"""Thresholds of review regions at the end of a run."""

from pathlib import Path

import numpy as np
import pytest
import torch

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.geometry import Geometry
from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.inference.calibration import uncalibrated
from SemiSupSegLib.preparation.prepare import PreparedCase
from SemiSupSegLib.review.fitting import thresholds_from_json
from SemiSupSegLib.training.review_thresholds import ReviewSamples

SHAPE = (14, 16, 20)
DOUBTED = (slice(4, 10), slice(4, 10), slice(5, 11))


def a_case(name):
    grid = Geometry(
        size=SHAPE[::-1],
        spacing=(1.0, 1.0, 1.0),
        origin=(0.0, 0.0, 0.0),
        direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    )
    label = np.zeros(SHAPE, np.uint8)
    label[2:12, 2:14, 2:18] = 2
    label[DOUBTED] = 3
    mask = np.ones(SHAPE, np.uint8)
    mask[0] = 0
    return PreparedCase(
        id=name,
        patient=name,
        original=grid,
        grid=grid,
        image_hash="0" * 64,
        reference=ImageSource(path=Path("t1.nii.gz")),
        arrays={"image": np.zeros((4, *SHAPE), np.float16), "mask": mask, "label": label},
    )


def a_network(best):
    """A network that misses class 3; there, `best` is the probability of the class it says."""

    def judged(case):
        said = np.where(case.label() == 3, 2, case.label())
        probabilities = torch.nn.functional.one_hot(torch.from_numpy(said.astype(np.int64)), 4)
        probabilities = probabilities.movedim(-1, 0).float()
        for index, probability in enumerate((0, 0, best, 1 - best)):
            probabilities[index][DOUBTED] = probability
        return probabilities, None

    return judged


def kept(best, names, *, teacher=True):
    samples = ReviewSamples(load_task("brats"), uncalibrated(4), names)
    networks = {"student": a_network(best), "best_validation": a_network(0.9)}
    if teacher:
        networks["teacher"] = a_network(best)
    for name in names:
        for network, judged in networks.items():
            samples.listening(network, judged)(a_case(name))
    return samples


@pytest.mark.parametrize("teacher", [True, False])
def test_thresholds_are_fitted_to_what_the_student_doubts(teacher):
    # Uncalibrated, the doubt is 1 - 0.6 and 1 - 0.72; a seed lies a tenth above the threshold.
    more = kept(0.6, ["a", "b", "c"], teacher=teacher).fit()
    less = kept(0.72, ["a", "b", "c"], teacher=teacher).fit()

    assert (more.options.grow, less.options.grow) == (0.3, 0.15)
    assert (more.fitted_on, more.top.error_share) == (3, pytest.approx(1))
    assert thresholds_from_json(more.to_json()) == more


def test_networks_are_listened_to_without_being_changed():
    samples = ReviewSamples(load_task("brats"), uncalibrated(4), ["a"])
    judged = a_network(0.6)

    probabilities, log_variance = samples.listening("student", judged)(a_case("a"))

    assert torch.equal(probabilities, judged(a_case("a"))[0])
    assert log_variance is None
    assert samples.listening("best_validation", judged) is judged


def test_without_validation_cases_nothing_is_fitted():
    assert kept(0.6, []).fit().to_json() == {}


def test_no_more_cases_are_kept_than_are_needed():
    names = [f"{number:02}" for number in range(50)]

    assert kept(0.6, names, teacher=False).fit().fitted_on == 20
