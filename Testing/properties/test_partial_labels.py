"""Laws of references that leave voxels unknown: those voxels might as well not be there."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.evaluation.calibration import region_of_interest
from SemiSupSegLib.evaluation.errors import split_errors
from SemiSupSegLib.evaluation.overlap import dice_of_targets
from SemiSupSegLib.methods.protocol import ParameterGroup, Phase
from SemiSupSegLib.training.sampling import Sampler

lawful = settings(deadline=None, derandomize=True, max_examples=25)
seeds = st.integers(0, 2**31)
TASK = load_task("brats")
SHAPE = (5, 6, 7)


def draw(seed, share=0.3):
    generator = np.random.default_rng(seed)
    prediction, reference = (
        generator.integers(0, TASK.num_classes, SHAPE).astype(np.uint8) for _ in range(2)
    )
    reference[generator.random(SHAPE) < share] = 255
    return prediction, reference


@lawful
@given(seed=seeds, share=st.floats(0, 1))
def test_dice_is_that_of_the_known_voxels_laid_in_a_row(seed, share):
    prediction, reference = draw(seed, share)
    known = reference != 255

    in_a_row = (prediction[known].reshape(1, 1, -1), reference[known].reshape(1, 1, -1))

    assert dice_of_targets(prediction, reference, TASK) == dice_of_targets(*in_a_row, TASK)


@lawful
@given(seed=seeds)
def test_what_is_predicted_at_unknown_voxels_changes_no_error(seed):
    prediction, reference = draw(seed)
    other = np.where(reference == 255, 0, prediction).astype(np.uint8)

    one, two = (
        split_errors(label, reference, (1.0, 1.0, 2.0))["total"]["voxels"]
        for label in (prediction, other)
    )

    known = reference != 255
    assert one == two == int((prediction != reference)[known].sum())


@lawful
@given(seed=seeds)
def test_the_region_of_interest_loses_unknown_voxels_and_no_others(seed):
    prediction, reference = draw(seed)
    whole = np.where(reference == 255, 0, reference).astype(np.uint8)

    region = region_of_interest(prediction, reference, (1.0, 1.0, 2.0), margin_mm=1.0)

    everywhere = region_of_interest(prediction, whole, (1.0, 1.0, 2.0), margin_mm=1.0)
    np.testing.assert_array_equal(region, everywhere & (reference != 255))


@lawful
@given(
    favoured=st.integers(1, 5),
    others=st.integers(1, 7),
    share=st.floats(0, 1),
    count=st.integers(1, 6),
    iterations=st.integers(1, 20),
)
def test_favoured_cases_are_never_more_than_a_patch_off_their_share(
    favoured, others, share, count, iterations
):
    ids = [f"case{number}" for number in range(favoured + others)]
    phase = Phase(
        name="p",
        iterations=iterations,
        group=ParameterGroup(parameters=()),
        labelled_per_batch=count,
        favoured=ids[:favoured],
        favoured_share=share,
    )
    sampler = Sampler({}, (16, 16, 16), 0, 0.5)

    drawn = [
        one
        for iteration in range(iterations)
        for one in sampler.labelled_ids(ids, phase, iteration, count)
    ]

    assert len(drawn) == iterations * count
    if share:
        among = sum(one in ids[:favoured] for one in drawn)
        assert among == math.floor(len(drawn) * share)
    # No favoured case comes up twice before each has come up once.
    times = [drawn.count(one) for one in ids[:favoured]]
    assert not share or max(times) - min(times) <= 1
