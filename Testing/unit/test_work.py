"""The work of a plan, in forward passes over one patch, or in seconds."""

import pytest

from SemiSupSegLib.methods.protocol import ParameterGroup, Phase
from SemiSupSegLib.training.work import Prices, Work, kind_of

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


def test_with_prices_the_same_plan_is_counted_in_seconds():
    plan = [*a_plan(), a_phase("stage_2", 10, unlabelled_per_batch=1, prologue_work=20)]
    updates = dict.fromkeys(map(kind_of, plan), 2.0) | {kind_of(plan[0]): 3.0}
    prices = Prices(update=updates, scoring=0.5, refining=0.25, window=0.1, figures=40.0)

    work = Work(plan, 10, WINDOWS, after=30, prices=prices)

    # 16 updates of the teacher, 24 others; the phase without updates labels nothing. Judged: after
    # 10, 16, 30 (two networks) and 40.
    assert work.of_updates == 16 * 3 + 24 * 2
    assert work.planned == pytest.approx(
        16 * 3 + 24 * 2 + 50 * 0.25 + 20 * 0.25 + 5 * WINDOWS * 0.1 + 30 * 0.1 + 40
    )
    assert work.done(0, 9, prologue_done=True) == 27


def test_prices_of_another_plan_are_known_as_such():
    plan = a_plan()
    some = Prices(update={kind_of(plan[0]): 1.0}, scoring=1, refining=1, window=1, figures=0)

    assert some.are_of(plan[:1])
    assert not some.are_of(plan)
