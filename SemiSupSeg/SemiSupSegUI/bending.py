"""What a transform that bends makes of a volume, a few rows of voxels at a time.

`vtkMRMLTransformableNode::HardenTransform` does the whole volume in one call, which takes up to
10 s: too long for the window.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator

import slicer
import vtk

_PIECE_SECONDS = 0.015
"""So long a piece should take; how many rows that are shows by the pieces before it."""
_LATTICE = 9
"""So many points along each axis tell how far a bent volume reaches."""


def bent_grid(volume) -> tuple[vtk.vtkMatrix4x4, tuple[int, int, int]]:
    """Return a grid with a volume's axes and spacing that holds what its transforms make of it.

    Returns:
        Matrix from voxel index to world RAS in mm; number of columns, rows, slices.
    """
    to_ras, to_ijk = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(to_ras)
    volume.GetRASToIJKMatrix(to_ijk)
    to_world = vtk.vtkGeneralTransform()
    volume.GetParentTransformNode().GetTransformToWorld(to_world)
    size = volume.GetImageData().GetDimensions()
    shares = [step / (_LATTICE - 1) for step in range(_LATTICE)]
    places = [
        to_ijk.MultiplyPoint((*to_world.TransformPoint(ras[:3]), 1.0))[:3]
        for at in itertools.product(shares, repeat=3)
        for ras in [
            to_ras.MultiplyPoint((*(s * (n - 1) for s, n in zip(at, size, strict=True)), 1.0))
        ]
    ]
    first = [math.floor(min(one[axis] for one in places) + 1e-6) for axis in range(3)]
    last = [math.ceil(max(one[axis] for one in places) - 1e-6) for axis in range(3)]
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(to_ras)
    for row, value in enumerate(to_ras.MultiplyPoint((*first, 1.0))[:3]):
        matrix.SetElement(row, 3, value)
    columns, rows, slices = (end - begin + 1 for begin, end in zip(first, last, strict=True))
    return matrix, (columns, rows, slices)


def bent_pieces(
    volume, ijk_to_world: vtk.vtkMatrix4x4, size: tuple[int, int, int]
) -> Iterator[memoryview | None]:
    """Yield the voxels of a volume as its parent transforms bend it, in order; None meanwhile.

    Values are interpolated linearly. What is 0 stays 0: interpolation alone would put a faint rim
    around a brain, which would count as brain. Beyond the image all is 0.

    Args:
        volume: `vtkMRMLScalarVolumeNode` under a transform.
        ijk_to_world: Of the grid whose voxels are yielded.
        size: Its columns, rows, slices.
    """
    import numpy as np
    from vtk.util.numpy_support import vtk_to_numpy

    with_inside = yield from _with_inside(volume)
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(with_inside)
    reslice.SetResliceTransform(_source_of(volume, ijk_to_world))
    reslice.SetInterpolationModeToLinear()
    reslice.SetBackgroundLevel(0.0)
    reslice.SetOutputSpacing(1.0, 1.0, 1.0)
    reslice.SetOutputOrigin(0.0, 0.0, 0.0)
    columns, num_rows, num_slices = size
    at_once = 1
    for number in range(num_slices):
        first = 0
        while first < num_rows:
            began = time.monotonic()
            last = min(first + at_once, num_rows) - 1
            reslice.SetOutputExtent(0, columns - 1, first, last, number, number)
            reslice.Update()
            bent = vtk_to_numpy(reslice.GetOutput().GetPointData().GetScalars())
            kept = np.where(bent[:, 1] >= 0.5, bent[:, 0], bent.dtype.type(0))
            spent = time.monotonic() - began
            yield kept.data
            first = last + 1
            # Rows differ: at most twice as many as before, so that no piece surprises.
            share = _PIECE_SECONDS / max(spent, 1e-4)
            at_once = max(1, min(2 * at_once, int(at_once * share)))


def _with_inside(volume) -> Iterator[None]:
    """Return the image with a second value a voxel: whether it is not 0; yields between slices."""
    import numpy as np
    from vtk.util.numpy_support import numpy_to_vtk

    array = slicer.util.arrayFromVolume(volume)
    both = np.empty((*array.shape, 2), array.dtype)
    for number, plane in enumerate(array):
        both[number, ..., 0] = plane
        both[number, ..., 1] = plane != 0
        if number % 16 == 0:
            yield
    image = vtk.vtkImageData()
    image.SetDimensions(*reversed(array.shape))
    scalars = numpy_to_vtk(both.reshape(-1, 2))
    image.GetPointData().SetScalars(scalars)
    return image


def _source_of(volume, ijk_to_world: vtk.vtkMatrix4x4) -> vtk.vtkGeneralTransform:
    """Return the transform from a voxel of the new grid to the voxel its value comes from."""
    to_ijk = vtk.vtkMatrix4x4()
    volume.GetRASToIJKMatrix(to_ijk)
    from_world = vtk.vtkGeneralTransform()
    volume.GetParentTransformNode().GetTransformFromWorld(from_world)
    whole = vtk.vtkGeneralTransform()
    whole.PostMultiply()
    whole.Concatenate(ijk_to_world)
    whole.Concatenate(from_world)
    whole.Concatenate(to_ijk)
    return whole
