"""control/: pause, stop, exclude.json."""

import pytest

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.runs.control import Control


def test_nothing_is_wanted_at_first(tmp_path):
    control = Control(tmp_path / "control")

    assert not control.is_pause_wanted
    assert not control.is_stop_wanted
    assert control.excluded() == frozenset()
    assert not control.folder.exists()


def test_a_file_made_by_hand_is_a_wish(tmp_path):
    (tmp_path / "stop").touch()

    assert Control(tmp_path).is_stop_wanted


def test_a_pause_can_be_ended(tmp_path):
    control = Control(tmp_path / "control")
    control.want_pause()
    assert control.is_pause_wanted

    control.end_pause()

    assert not control.is_pause_wanted


def test_clearing_takes_back_pause_and_stop_but_no_exclusion(tmp_path):
    control = Control(tmp_path)
    control.want_pause()
    control.want_stop()
    control.exclude(["a"])

    control.clear()

    assert (control.is_pause_wanted, control.is_stop_wanted) == (False, False)
    assert control.excluded() == {"a"}


def test_exclusions_add_up(tmp_path):
    control = Control(tmp_path)

    control.exclude(["b", "a"])
    control.exclude(["c", "a"])

    assert control.excluded() == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": "semisupseg-exclude", "version": 2, "cases": []}', "newer SemiSupSeg"),
        ('{"format": "semisupseg-exclude", "version": 1, "cases": "a"}', "cases"),
        ('["a"]', "is not a SemiSupSeg exclude file"),
        ('{"format": "semisupseg-excl', "cannot be read as JSON"),
    ],
)
def test_a_damaged_or_newer_list_of_exclusions_is_refused(tmp_path, text, message):
    (tmp_path / "exclude.json").write_text(text)

    with pytest.raises(SemiSupSegError, match=message):
        Control(tmp_path).excluded()
