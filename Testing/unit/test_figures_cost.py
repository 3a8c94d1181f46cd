"""What the final figures of a run cost beside its networks."""

import pytest

from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.training.figures_cost import FiguresCost, measure_figures


def test_the_cost_is_in_proportion_to_cases_and_voxels():
    cost = FiguresCost(case=0.5, megavoxel=4.0)

    assert cost.seconds([]) == 0
    assert cost.seconds([250_000, 750_000]) == pytest.approx(2 * 0.5 + 4.0)


@pytest.mark.parametrize(
    ("task", "networks"),
    [("binary", ["student"]), ("brats", ["student", "teacher", "ensemble", "best_validation"])],
)
def test_the_figures_of_made_up_cases_are_measured(task, networks):
    cost = measure_figures(load_task(task), networks)

    assert cost.case >= 0
    assert cost.megavoxel > 0
