"""How many there are, in words."""

import pytest

from SemiSupSegLib.counting import counted


@pytest.mark.parametrize(
    ("amount", "things", "text"),
    [
        (0, "cases", "0 cases"),
        (1, "cases", "1 case"),
        (2, "cases", "2 cases"),
        (1320, "updates", "1,320 updates"),
        (1, "unlabelled cases", "1 unlabelled case"),
        (1, "processes", "1 process"),
        (1, "boxes", "1 box"),
        (1, "patches", "1 patch"),
        (1, "reviewed cases are", "1 reviewed case is"),
        (2, "cases are", "2 cases are"),
        ("1", "voxels", "1 voxel"),
        ("1.5", "voxels", "1.5 voxels"),
    ],
)
def test_one_thing_is_in_the_singular(amount, things, text):
    assert counted(amount, things) == text
