"""The work of a plan, in forward passes over one patch."""

import pytest

from SemiSupSegLib.methods.protocol import ParameterGroup, Phase
from SemiSupSegLib.training.work import Work

WINDOWS = 7


def a_phase(name, iterations, **changes):
    values = {"group": ParameterGroup(parameters=[]), "labelled_per_batch": 2, **changes}
    return Phase(name=name, iterations=iterations, **values)


def a_plan():
    """30 updates, judged after 10, 16 (a phase's end), 20 and 30."""
    return [
        a_phase("teacher", 16, judged=("teacher",)),
        a_phase("distil", 4, passes_per_patch=5, judged=()),
        a_phase("none", 0, prologue_work=1000, judged_at_end=("student_raw",)),
        a_phase(
            "stage_1",
            10,
            unlabelled_per_batch=1,
            prologue_work=50,
            judged=("student",),
            judged_at_end=("student_raw",),
        ),
    ]


@pytest.mark.parametrize(
    ("phase", "updates", "prologue_done", "expected"),
    [
        (0, 0, True, 0),
        (0, 9, True, 9 * 6),
        (0, 10, True, 10 * 6 + WINDOWS),
        (0, 15, True, 15 * 6 + WINDOWS),
        (0, 16, True, 96 + 2 * WINDOWS),
        (1, 0, False, 96 + 2 * WINDOWS),
        (1, 4, True, 96 + 2 * WINDOWS + 40),
        (2, 0, False, 136 + 2 * WINDOWS),
        (3, 0, False, 136 + 2 * WINDOWS),
        (3, 0, True, 186 + 2 * WINDOWS),
        (3, 9, True, 186 + 2 * WINDOWS + 81),
        (3, 10, True, 186 + 2 * WINDOWS + 90 + 2 * WINDOWS),
        (4, 0, False, 276 + 4 * WINDOWS),
    ],
)
def test_updates_work_on_cases_and_judging_are_counted(phase, updates, prologue_done, expected):
    work = Work(a_plan(), 10, WINDOWS)

    assert work.done(phase, updates, prologue_done=prologue_done) == expected
    assert work.planned == 276 + 4 * WINDOWS


def test_work_between_updates_is_counted_once_it_is_done():
    phase = a_phase("joint", 10, between_at=(0, 4, 8), between_work=100, judged=())
    work = Work([phase], 50, WINDOWS)

    # What is due after 4 updates is done when there are 5.
    done = [work.done(0, updates, prologue_done=True) for updates in (0, 1, 4, 5, 9, 10)]

    assert done == [0, 106, 124, 230, 354, 360]
    assert work.planned == 360
