import numpy as np
import pytest

from SemiSupSegLib.evaluation.qubrats import entropy_uncertainty, filtering_curves

REFERENCE = np.array([1, 1, 1, 0, 0, 0, 0, 0], dtype=bool)
PREDICTION = np.array([1, 1, 0, 1, 0, 0, 0, 0], dtype=bool)
UNCERTAINTY = np.array([10, 60, 90, 80, 5, 0, 30, 0], dtype=np.float32)
BRAIN = np.ones(8, dtype=bool)


def test_curves_and_score_have_the_values_worked_out_by_hand():
    found = filtering_curves(PREDICTION, REFERENCE, UNCERTAINTY, BRAIN, num_thresholds=5)

    assert found.thresholds == (0, 25, 50, 75, 100)
    assert found.dice == pytest.approx((1, 1, 1, 1, 0.6667), abs=5e-5)
    assert found.ftp == pytest.approx((1, 0.5, 0.5, 0, 0), abs=1e-6)
    assert found.ftn == pytest.approx((0.5, 0.25, 0, 0, 0), abs=1e-6)
    assert found.auc_dice == pytest.approx(0.958333, abs=1e-6)
    assert found.auc_ftp == pytest.approx(0.375, abs=1e-6)
    assert found.auc_ftn == pytest.approx(0.125, abs=1e-6)
    assert found.score == pytest.approx(0.819444, abs=1e-6)


def test_thresholds_are_41_by_default():
    found = filtering_curves(PREDICTION, REFERENCE, UNCERTAINTY, BRAIN)

    assert len(found.thresholds) == 41
    assert found.thresholds[1] == 2.5


def test_a_map_of_zeros_scores_two_thirds_and_a_third_of_the_dice():
    found = filtering_curves(PREDICTION, REFERENCE, np.zeros(8), BRAIN)

    assert found.score == pytest.approx((2 / 3 + 2) / 3)


def test_true_negatives_outside_the_brain_do_not_count():
    brain = np.array([1, 1, 1, 1, 1, 1, 0, 0], dtype=bool)

    found = filtering_curves(PREDICTION, REFERENCE, UNCERTAINTY, brain, num_thresholds=5)

    assert found.ftn == pytest.approx((0.5, 0, 0, 0, 0), abs=1e-6)


def test_a_region_in_neither_label_map_has_dice_1_at_every_threshold():
    nothing = np.zeros(8, dtype=bool)

    found = filtering_curves(nothing, nothing, UNCERTAINTY, BRAIN)

    assert set(found.dice) == {1.0}
    assert set(found.ftp) == {0.0}


def test_a_voxel_on_the_threshold_is_kept_in_single_precision_too():
    share = np.array([0.3], dtype=np.float32) * np.float32(100)
    one = np.ones(1, dtype=bool)

    found = filtering_curves(one, one, share, one, num_thresholds=11)

    assert found.ftp[3] == 0.0
    assert found.ftp[2] == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [-1.0, 101.0, np.nan])
def test_uncertainty_outside_0_to_100_is_refused(bad):
    with pytest.raises(ValueError, match="must be within 0-100"):
        filtering_curves(PREDICTION, REFERENCE, np.full(8, bad), BRAIN)


def test_arrays_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="shapes differ"):
        filtering_curves(PREDICTION, REFERENCE, UNCERTAINTY, BRAIN[1:])


def test_entropy_is_0_for_sure_and_100_for_even_odds():
    found = entropy_uncertainty(np.array([0, 0.5, 1, 0.25]))

    assert found.tolist() == pytest.approx([0, 100, 0, 81.12781], abs=1e-5)
