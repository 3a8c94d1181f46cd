"""However a scan's voxels are stored, result and overlays land on the same anatomy, in mm."""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from semisupseg_testing import PanelTest

from SemiSupSegLib.resources import ROOT

CASE = ROOT / "Demonstration" / "case"
CHANNELS = ("t1", "t1ce", "t2", "flair")
CROP = (slice(25, 53), slice(6, 36), slice(6, 32))
"""K, J, I: of the made-up brain, the tumour and some of the rim; one window for the network."""
MODEL_SPACING = (2.296687, 2.321157, 2.337137)
"""Of the demonstration model, mm along left, posterior, superior: such scans are not resampled."""
MAPS = ("uncertainty", "confidence", "agreement")
SEGMENTATIONS = ("label", "pseudo_label", "comparison", "sure", "possible")
DOUBTFUL = 0.2
"""Uncertainty from which the panel draws it."""

SAME_GEOMETRY_MM = 1e-4
SAME_CENTRE_MM = 0.02
"""Where the network sees the same numbers but for the last bit."""
SAME_SHARE = 1e-3
"""So many of the voxels may differ there: which of two equals wins is chance."""
ONE_STEP = 0.005 + 1e-6
"""Maps are rounded to 1/200."""
RESAMPLED_CENTRE_MM = 1.5
"""Where a channel is interpolated once more on its way: less than a voxel."""


@dataclass(frozen=True)
class Phantom:
    """Four channels on one grid."""

    arrays: dict[str, np.ndarray]
    """(K, J, I)."""
    ijk_to_ras: np.ndarray

    @property
    def size(self):
        """Voxels along I, J, K."""
        return self.arrays[CHANNELS[0]].shape[::-1]

    def moved(self, ras_to_ras):
        """Return the phantom at another place."""
        return Phantom(self.arrays, ras_to_ras @ self.ijk_to_ras)


@dataclass(frozen=True)
class Storage:
    """In which order and sense the voxels are stored.

    Args:
        axes: The former axis (0: I) of each new axis.
        flips: Which new axes run backwards.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def apply(self, phantom):
        """Return the phantom stored so; its anatomy stays where it is."""
        to_former = np.zeros((4, 4))
        to_former[3, 3] = 1
        for new, (former, is_flipped) in enumerate(zip(self.axes, self.flips, strict=True)):
            to_former[former, new] = -1 if is_flipped else 1
            to_former[former, 3] = phantom.size[former] - 1 if is_flipped else 0
        arrays = {name: self.reorder(array) for name, array in phantom.arrays.items()}
        return Phantom(arrays, phantom.ijk_to_ras @ to_former)

    def reorder(self, array):
        """Return an array (K, J, I) stored so."""
        stored = array.T.transpose(self.axes)
        return np.flip(stored, [axis for axis in range(3) if self.flips[axis]]).T

    def restore(self, array):
        """Return an array (K, J, I) as it was."""
        stored = np.flip(array.T, [axis for axis in range(3) if self.flips[axis]])
        return stored.transpose(np.argsort(self.axes)).T


AS_IT_WAS = Storage((0, 1, 2), (False, False, False))
ALL_STORAGES = [
    Storage(axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]


@dataclass
class Landed:
    """What a result shows, and where."""

    maps: dict[str, np.ndarray]
    """Overlay volumes, (K, J, I) of the reference."""
    segments: dict[tuple[str, str], np.ndarray]
    """By segmentation and segment, (K, J, I) of the reference."""
    centres: dict[tuple[str, str], np.ndarray]
    """Of each segment that is not empty, and of the doubtful voxels: world RAS, mm."""


class OrientationTest(PanelTest):
    """Each test makes real predictions of a part of the made-up case."""

    _whole = None

    @classmethod
    def setUpClass(cls):
        if OrientationTest._whole is None:
            OrientationTest._whole = _read_case()

    def phantom(self, steps=(1, 1, 1)):
        """Return the part; `steps` (K, J, I) leave voxels out, so that they lie wider apart."""
        crop = tuple(
            slice(one.start, one.stop, step) for one, step in zip(CROP, steps, strict=True)
        )
        arrays = {name: array[crop] for name, array in self._whole.arrays.items()}
        matrix = self._whole.ijk_to_ras.copy()
        matrix[:3, 3] = (
            (matrix @ [one.start for one in CROP[::-1]] + [1])[:3]
            if False
            else (matrix @ [*(one.start for one in CROP[::-1]), 1])[:3]
        )
        matrix[:3, :3] = matrix[:3, :3] * np.array(steps[::-1])
        return Phantom(arrays, matrix)
