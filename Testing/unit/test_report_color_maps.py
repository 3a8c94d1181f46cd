"""Colours of the maps: in order for every reader, and as their script makes them."""

import json

import numpy as np
import pytest

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.report.color_maps import color_map, color_map_meaning, comparison_colors
from Testing.data import make_color_maps

MAPS = ("uncertainty", "confidence", "agreement", "trust")
# Linear RGB as seen without one kind of cone: Machado, Oliveira, Fernandes 2009, severity 1.
READERS = {
    "all cones": np.eye(3),
    "no long-wave cones": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "no middle-wave cones": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "no short-wave cones": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def luminance(colors: np.ndarray, reader: np.ndarray) -> np.ndarray:
    """CIE lightness L*, 0-100."""
    encoded = colors / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = (linear @ reader.T).clip(0, 1)
    relative = seen @ np.array([0.2126, 0.7152, 0.0722])
    root = np.cbrt(relative)
    return np.where(relative > 0.008856, 116 * root - 16, 903.3 * relative)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("reader", READERS)
def test_lightness_runs_one_way_for_every_reader(name, reader):
    lightness = luminance(color_map(name).astype(float), READERS[reader])
    # Sixteenths: neighbours differ by less than the rounding to 8 bits.
    steps = np.diff(lightness[:: 255 // 15])

    assert (steps > 2).all() or (steps < -2).all()


@pytest.mark.parametrize("name", MAPS)
def test_no_colour_vanishes_on_a_grey_scan(name):
    colors = color_map(name).astype(int)

    assert (colors.max(axis=1) - colors.min(axis=1)).min() >= 25


def test_bright_is_where_to_look_in_all_maps():
    light = {name: luminance(color_map(name).astype(float), np.eye(3)) for name in MAPS}

    assert light["uncertainty"][-1] > light["uncertainty"][0]
    assert light["confidence"][0] > light["confidence"][-1]
    assert light["agreement"][0] > light["agreement"][-1]
    assert light["trust"][0] > light["trust"][-1]


@pytest.mark.parametrize("name", MAPS)
def test_the_committed_tables_are_those_of_the_script(name, tmp_path, monkeypatch):
    monkeypatch.setattr(make_color_maps, "FOLDER", tmp_path)

    make_color_maps.main()

    content = json.loads((tmp_path / f"{name}.json").read_text())
    assert np.abs(np.array(content["colors"], int) - color_map(name).astype(int)).max() <= 1
    assert content["licence"].startswith("Apache-2.0")


def test_meanings_and_comparison_are_in_words():
    assert color_map_meaning("uncertainty") == ("sure", "as unsure as can be")
    assert comparison_colors()[2][0] == "teacher only"


def test_an_unknown_map_names_those_there_are():
    with pytest.raises(UsageError, match="agreement, comparison, confidence, trust, uncertainty"):
        color_map("doubt")
