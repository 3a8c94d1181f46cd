"""Files are checked by their schemas; without the validator, by their outline."""

from __future__ import annotations

import sys

import pytest

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.resources import check_format


def test_without_its_validator_the_outline_of_a_file_is_checked(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastjsonschema", None)
    good = {"format": "semisupseg-timings", "version": 1, "measured": {}}

    check_format(good, "timings", "timings.json")
    with pytest.raises(SemiSupSegError, match="lacks measured"):
        check_format({"format": "semisupseg-timings", "version": 1}, "timings", "timings.json")
    with pytest.raises(SemiSupSegError, match="newer SemiSupSeg"):
        check_format({**good, "version": 2}, "timings", "timings.json")
