"""Forecasts of time and memory follow the latest prediction of the same kind on this machine."""

from __future__ import annotations

import pytest

from SemiSupSegLib.workers.estimates import Kind, expected, remember

KIND = Kind(model="ab12", device="auto", overlap=0.5, passes=None)


@pytest.fixture(autouse=True)
def a_home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISUPSEG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_nothing_is_forecast_before_anything_was_measured():
    assert expected(KIND, 1_000_000) is None


def test_time_grows_with_the_voxels_and_memory_is_that_of_the_last_case():
    remember(KIND, num_voxels=2_000_000, seconds=8.0, peak_mb=900.0)

    found = expected(KIND, 5_000_000)

    assert found is not None
    assert found.seconds == pytest.approx(20.0)
    assert found.peak_mb == 900.0


@pytest.mark.parametrize(
    "other",
    [
        Kind(model="cd34", device="auto", overlap=0.5, passes=None),
        Kind(model="ab12", device="cpu", overlap=0.5, passes=None),
        Kind(model="ab12", device="auto", overlap=0.25, passes=None),
        Kind(model="ab12", device="auto", overlap=0.5, passes=8),
        Kind(model="ab12", device="auto", overlap=0.5, passes=None, probabilities=True),
    ],
    ids=["model", "device", "overlap", "passes", "probabilities"],
)
def test_another_kind_of_prediction_is_measured_apart(other):
    remember(KIND, num_voxels=1_000_000, seconds=8.0, peak_mb=900.0)

    assert expected(other, 1_000_000) is None
    remember(other, num_voxels=1_000_000, seconds=3.0, peak_mb=100.0)
    assert expected(KIND, 1_000_000).seconds == pytest.approx(8.0)
    assert expected(other, 1_000_000).seconds == pytest.approx(3.0)


def test_one_pass_is_the_same_as_none_said():
    remember(KIND, num_voxels=1_000_000, seconds=8.0, peak_mb=900.0)

    one = Kind(model="ab12", device="auto", overlap=0.5, passes=1)

    assert expected(one, 1_000_000).seconds == pytest.approx(8.0)


def test_a_damaged_file_of_timings_is_measured_anew(a_home):
    remember(KIND, num_voxels=1_000_000, seconds=8.0, peak_mb=900.0)
    (a_home / "timings.json").write_text("{", encoding="utf-8")

    assert expected(KIND, 1_000_000) is None
    remember(KIND, num_voxels=1_000_000, seconds=4.0, peak_mb=900.0)
    assert expected(KIND, 1_000_000).seconds == pytest.approx(4.0)
