"""What a model's manifest says, in words."""

import pytest

from SemiSupSegLib.models.description import details

MANIFEST = {
    "task": {"name": "binary", "channels": [{"name": "mri"}], "classes": [{"name": "object"}]},
    "network": {"name": "transaspp", "patch_size": [32, 32, 32]},
    "method": "curriculum",
    "library": {"torch": "2.13"},
}


def figures(mean, sd, n):
    return {"object": {"dice": {"mean": mean, "sd": sd, "n": n}}}


@pytest.mark.parametrize(
    ("validation", "line"),
    [
        (
            {"student": figures(0.8, 0.05, 12), "teacher": figures(0.7, 0.1, 12)},
            "Dice of object: 0.800 (standard deviation 0.050), teacher 0.700, "
            "on 12 validation cases",
        ),
        (
            {"student": figures(0.8, None, 1), "teacher": figures(None, None, 0)},
            "Dice of object: 0.800 on 1 validation case",
        ),
        (
            {"student": figures(0.8, None, None), "teacher": figures(0.7, None, None)},
            "Dice of object: 0.800, teacher 0.700",
        ),
        ({"student": figures(0.8, None, 3)}, "Dice of object: 0.800 on 3 validation cases"),
    ],
)
def test_the_teacher_s_figures_stand_next_to_the_student_s(validation, line):
    told = details({**MANIFEST, "validation": validation}).splitlines()

    assert [one for one in told if one.startswith("Dice")] == [line]
