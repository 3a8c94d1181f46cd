"""Laws of the kinds of errors."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_dilation, label

from SemiSupSegLib.evaluation.errors import split_errors

label_maps = arrays(np.uint8, (4, 5, 6), elements=st.integers(0, 2))
# What lies within a few units in the last place of 2 mm depends on how lengths are summed up.
fine_spacings = st.tuples(*[st.decimals("0.3", "2", places=1).map(float)] * 3)
any_spacings = st.tuples(*[st.floats(0.3, 9.0)] * 3)
laws = settings(deadline=None, derandomize=True, max_examples=40)


def num_within_2_mm_of_a_shared_border(prediction, reference, spacing):
    """Count by distance alone, with a search around each voxel."""
    everywhere = np.ones((3, 3, 3), dtype=bool)
    count = 0
    for said in range(3):
        for true in range(3):
            if said == true:
                continue
            patches, number = label((prediction == said) & (reference == true), everywhere)
            places = np.argwhere(reference == said)
            for one in range(1, number + 1):
                around = binary_dilation(patches == one, everywhere)
                if (around & (reference == said)).any() and (around & (prediction == true)).any():
                    distances = [
                        np.linalg.norm((places - index) * spacing, axis=1).min()
                        for index in np.argwhere(patches == one)
                    ]
                    count += sum(distance <= 2 + 1e-6 for distance in distances)
    return count


@laws
@given(prediction=label_maps, reference=label_maps, spacing=fine_spacings)
def test_up_to_2_mm_spacing_the_distance_alone_makes_a_boundary_error(
    prediction, reference, spacing
):
    found = split_errors(prediction, reference, spacing)

    expected = num_within_2_mm_of_a_shared_border(prediction, reference, spacing)
    assert found["boundary"]["voxels"] == expected


@laws
@given(prediction=label_maps, reference=label_maps, spacing=any_spacings)
def test_a_coarser_grid_has_no_more_boundary_errors(prediction, reference, spacing):
    fine, coarse = (
        split_errors(prediction, reference, size)["boundary"]["voxels"]
        for size in (spacing, [1.5 * side for side in spacing])
    )

    assert coarse <= fine
