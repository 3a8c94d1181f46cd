"""Before its first case a model is forecast by one window of it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from SemiSupSegLib.__main__ import main
from SemiSupSegLib.inference.sliding_window import count_windows
from SemiSupSegLib.models.package import identity
from SemiSupSegLib.resources import ROOT
from SemiSupSegLib.workers.estimates import Kind, Window, bound, is_rehearsed, remember_window
from SemiSupSegLib.workers.rehearsal import rehearse, rehearse_models

MODEL = ROOT / "Demonstration" / "model"
KIND = Kind(model="ab12", device="auto", overlap=0.5, passes=None)
WINDOW = Window(seconds=0.5, size=(32, 32, 32), spacing=None, process_mb=400.0)


@pytest.fixture(autouse=True)
def a_home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISUPSEG_HOME", str(tmp_path / "home"))


def test_a_case_needs_at_most_what_all_its_windows_need():
    remember_window("ab12", ("auto", "cpu"), WINDOW)

    # 64 voxels are windows at 0, 16, 32; 27 of them.
    found = bound(KIND, (64, 64, 64), (1.0, 1.0, 1.0))

    assert found is not None
    assert found.is_bound
    assert found.seconds == pytest.approx(27 * 0.5)
    assert found.peak_mb == pytest.approx(400 + 64**3 * 70 / 1e6)


def test_a_case_that_is_resampled_has_other_voxels():
    coarse = Window(seconds=1.0, size=(32, 32, 32), spacing=(2.0, 2.0, 2.0), process_mb=0.0)

    # 64 voxels of 1 mm are 32 of 2 mm: one window.
    assert coarse.bound((64, 64, 64), (1.0, 1.0, 1.0), 0.5, 1).seconds == pytest.approx(1.0)
    assert coarse.bound((64, 64, 64), (1.0, 1.0, 1.0), 0.5, 8).seconds == pytest.approx(8.0)


@given(
    size=st.tuples(*[st.integers(1, 200)] * 3),
    patch=st.tuples(*[st.integers(8, 96)] * 3),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.9]),
)
def test_windows_are_counted_as_they_are_placed(size, patch, overlap):
    window = Window(seconds=1.0, size=patch, spacing=None, process_mb=0.0)

    found = window.bound(size, (1.0, 1.0, 1.0), overlap, 1)

    assert found.seconds == count_windows(size, patch, overlap)


def test_nothing_is_said_of_another_model_or_device():
    remember_window("ab12", ("auto", "cpu"), WINDOW)

    others = itertools.product(("cd34",), ("auto", "cpu", "cuda:0"))
    for model, device in (*others, ("ab12", "cuda:0")):
        kind = Kind(model=model, device=device, overlap=0.5, passes=None)
        assert bound(kind, (64, 64, 64), (1.0, 1.0, 1.0)) is None


def test_a_model_is_rehearsed_once():
    assert rehearse(MODEL)

    assert is_rehearsed(identity(MODEL))
    assert not rehearse(MODEL)
    kind = Kind(model=identity(MODEL), device="auto", overlap=0.5, passes=None)
    assert bound(kind, (64, 64, 64), (1.0, 1.0, 1.0)).seconds > 0


def test_an_imported_model_is_rehearsed_and_a_damaged_one_is_passed_over(tmp_path):
    assert main(["models", "import", str(MODEL)]) == 0
    (tmp_path / "home" / "models" / "broken").mkdir()

    assert is_rehearsed(identity(MODEL))
    assert rehearse_models() == 0
