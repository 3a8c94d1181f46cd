"""Grids read from NIfTI headers are those that an independent reader finds."""

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.geometry import geometry_of
from SemiSupSegLib.cases.reading import read_header

angles = st.floats(-3.1, 3.1)
spacings = st.floats(0.3, 6.0)
offsets = st.floats(-300, 300)


def rotation(x: float, y: float, z: float) -> np.ndarray:
    transform = sitk.Euler3DTransform((0, 0, 0), x, y, z)
    return np.reshape(transform.GetMatrix(), (3, 3))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("nifti") / "a.nii"


@given(
    turns=st.tuples(angles, angles, angles),
    spacing=st.tuples(spacings, spacings, spacings),
    origin=st.tuples(offsets, offsets, offsets),
    flips=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    order=st.permutations([0, 1, 2]),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_an_oblique_flipped_shifted_grid_is_read_as_itk_reads_it(
    path, turns, spacing, origin, flips, order
):
    affine = np.eye(4)
    affine[:3, :3] = (rotation(*turns) * np.array(flips) * np.array(spacing))[:, order]
    affine[:3, 3] = origin
    image = nibabel.Nifti1Image(np.zeros((5, 4, 3), dtype=np.uint8), affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    nibabel.save(image, path)

    ours = read_header(ImageSource(path=path)).geometry

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    assert ours.corner_shift_voxels(geometry_of(reader.Execute())) < 1e-3
