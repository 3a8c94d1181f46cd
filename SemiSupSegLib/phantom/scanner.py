"""What a scanner makes of tissues: contrast of four channels, blur, shading, noise, grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from SemiSupSegLib.phantom.anatomy import Tissues, texture
from SemiSupSegLib.phantom.fields import Points, Values, random_field
from SemiSupSegLib.phantom.tumour import Tumour

CHANNELS = ("t1", "t1ce", "t2", "flair")

CONTRASTS = {
    #         fluid  grey  white necrosis edema enhancing vessels rim
    "t1": (0.22, 0.58, 0.82, 0.36, 0.56, 0.56, 0.05, -0.06),
    "t1ce": (0.22, 0.58, 0.82, 0.36, 0.55, 0.60, 0.65, -0.06),
    "t2": (1.20, 0.66, 0.46, 1.05, 0.88, 0.76, -0.10, 0.15),
    "flair": (0.16, 0.66, 0.52, 0.50, 1.00, 0.80, 0.00, 0.35),
}
"""Brightness of each tissue; vessels and rim are added. Typical of the sequences, not measured."""
UPTAKE = 0.75
"""Added to t1ce in enhancing tumour at strength 1."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A voxel grid in a patient; index (i, j, k) is the first, second and third array axis."""

    size: tuple[int, int, int]
    affine: NDArray[np.float64]
    """From index to R, A, S in mm around the brain's centre, shape (4, 4)."""

    def points(self) -> Points:
        """Return the positions of all voxels, shape (3, N), the last array axis fastest."""
        index = np.indices(self.size).reshape(3, -1)
        return (self.affine[:3, :3] @ index + self.affine[:3, 3:]).astype(np.float32)


def random_grid(size: tuple[int, int, int], rng: np.random.Generator) -> Grid:
    """Return a grid that covers the brain, in one of several orientations, a little oblique.

    Args:
        size: Voxels left-right, posterior-anterior, inferior-superior.
        rng: Draws spacing, orientation and tilt.
    """
    field_mm = np.array([146.0, 166.0, 130.0])
    spacing = field_mm / size * rng.uniform(0.98, 1.06)
    axes = np.eye(3)
    order = [(0, 1, 2), (1, 2, 0), (0, 2, 1)][rng.integers(3)] if rng.random() < 0.4 else (0, 1, 2)
    signs = rng.choice([-1.0, 1.0], 3)
    tilt = _rotation(rng.normal(0, 0.07, 3))
    linear = tilt @ (axes * spacing * signs)[:, order]
    shape = tuple(int(size[axis]) for axis in order)
    affine = np.eye(4)
    affine[:3, :3] = linear
    # The brain's centre lies a little above the middle of the field, because of the brain stem.
    affine[:3, 3] = -linear @ ((np.array(shape) - 1) / 2) + rng.normal(0, 1.5, 3) + [0, 0, -5]
    return Grid(size=(shape[0], shape[1], shape[2]), affine=affine)


def scan(
    points: Points, healthy: Tissues, tumour: Tumour, rng: np.random.Generator
) -> dict[str, Values]:
    """Return each channel's brightness at positions in the brain: no blur, shading or noise."""
    whole = np.clip(tumour.necrosis + tumour.edema + tumour.enhancing, 0, 1)
    grain = texture(points, rng)
    found = {}
    for channel in CHANNELS:
        fluid, grey, white, dead, swollen, alive, vessels, rim = (
            value * rng.uniform(0.94, 1.06) for value in CONTRASTS[channel]
        )
        normal = fluid * healthy.fluid + grey * healthy.grey + white * healthy.white
        normal = normal + rim * healthy.rim * healthy.white + vessels * healthy.vessels
        # Weak oedema keeps part of the tissue's own brightness.
        strength = tumour.edema_strength
        values = normal * (1 - whole) + tumour.necrosis * dead + tumour.enhancing * alive
        values += tumour.edema * (strength * swollen + (1 - strength) * normal)
        if channel == "t1ce":
            values += UPTAKE * tumour.enhancement * tumour.enhancing
        found[channel] = (values * (1 + 0.03 * grain)).astype(np.float32)
    return found


def acquire(
    ideal: Values, inside: NDArray[np.bool_], points: Points, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Return the image of one channel: blurred, shaded, noisy, in the scanner's own units.

    Args:
        ideal: Brightness from `scan`, of the voxels in the brain.
        inside: Which voxels these are, in the shape of the grid; the others become 0.
        points: Positions of the voxels in the brain, for the shading.
        rng: Draws the scanner's settings.
    """
    from scipy import ndimage

    blur = np.full(3, rng.uniform(0.25, 0.5))
    if rng.random() < 0.5:
        blur[rng.integers(3)] = rng.uniform(0.7, 1.2)  # Thick slices.
    image = np.zeros(inside.shape, np.float32)
    image[inside] = ideal
    # Divided by the blurred mask, so that the surface does not get darker.
    weight = ndimage.gaussian_filter(inside.astype(np.float32), blur)[inside]
    values = ndimage.gaussian_filter(image, blur)[inside] / weight
    values = np.maximum(values, 0) ** rng.uniform(0.85, 1.2)
    shading = random_field(points, rng, 190.0, 6)
    values = values * np.exp(rng.uniform(0.05, 0.16) * shading)
    noise = rng.uniform(0.02, 0.05)
    real = values + rng.normal(0, noise, values.shape)
    values = np.hypot(real, rng.normal(0, noise, values.shape))
    result = np.zeros(inside.shape, np.int16)
    result[inside] = np.clip(np.rint(values * rng.uniform(300, 900)), 1, 32_000)
    return result


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation by small angles (radian) around the three axes."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    around_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    around_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    around_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    rotation: NDArray[np.float64] = around_z @ around_y @ around_x
    return rotation
