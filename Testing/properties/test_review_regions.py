"""Laws of review regions: what they add up to, and that only positions in mm decide."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from SemiSupSegLib.cases.geometry import geometry_of
from SemiSupSegLib.review.doubt import doubt_of
from SemiSupSegLib.review.regions import RegionOptions, find_regions

laws = settings(deadline=None, derandomize=True, max_examples=25)
spacings = st.tuples(*[st.sampled_from((0.5, 0.9375, 1.0, 1.7, 3.0))] * 3)
options = st.builds(
    lambda grow, above, share, most, smallest: RegionOptions(
        grow=grow,
        seed=grow + above,
        max_share=share,
        min_share=share / 4,
        max_regions=most,
        min_volume_mm3=smallest,
        max_volume_mm3=60.0,
    ),
    st.sampled_from((0.1, 0.3, 0.5)),
    st.sampled_from((0.0, 0.1)),
    st.sampled_from((0.1, 0.3, 1.0)),
    st.sampled_from((3, 20)),
    st.sampled_from((0.0, 10.0, 40.0)),
)


def a_case(seed, spacing):
    """Blobs of doubt over blobs of classes, as SimpleITK images with an oblique direction."""
    draw = np.random.default_rng(seed)
    shape = tuple(draw.integers(6, 15, 3))
    smooth = [smoothed(draw.normal(size=shape)) for _ in range(4)]
    label = (smooth[0] > 0.1).astype(np.uint8) + (smooth[0] > 0.5)
    # No two voxels are alike, as in a real map before it is rounded.
    doubt = np.clip(0.35 + 0.4 * smooth[1], 0, 0.99)
    other = (label + 1 + (smooth[2] > 0)) % 3
    teacher = np.where(smooth[3] > 0.6, other, label)
    cosine, sine = np.cos(0.3), np.sin(0.3)
    images = {}
    for name, values in {
        "label": label,
        "confidence": (1 - doubt).astype(np.float32),
        "agreement": np.clip(1 - 0.3 * np.abs(smooth[3]), 0, 1).astype(np.float32),
        "second": other.astype(np.uint8),
        "pseudo_label": teacher.astype(np.uint8),
    }.items():
        image = sitk.GetImageFromArray(values)
        image.SetSpacing(spacing)
        image.SetOrigin((-12.5, 3.25, 40.0))
        image.SetDirection((cosine, -sine, 0, sine, cosine, 0, 0, 0, 1))
        images[name] = image
    return images


def smoothed(values):
    for axis in range(3):
        values = values + np.roll(values, 1, axis) + np.roll(values, -1, axis)
    return values / values.std()


def found_in(images, chosen):
    arrays = {name: sitk.GetArrayFromImage(image) for name, image in images.items()}
    geometry = geometry_of(images["label"])
    found = find_regions(
        **arrays, geometry=geometry, class_names=("edema", "enhancing"), options=chosen
    )
    seen = (arrays["label"] > 0) | (arrays["pseudo_label"] > 0)
    doubt = doubt_of(arrays["confidence"], seen, geometry.spacing[::-1], chosen)
    return found, doubt, geometry


@laws
@given(seed=st.integers(0, 10_000), spacing=spacings, chosen=options)
def test_figures_are_those_of_the_map(seed, spacing, chosen):
    found, doubt, geometry = found_in(a_case(seed, spacing), chosen)
    voxel = geometry.voxel_volume_mm3

    assert found.expected_error_mm3 == pytest.approx(doubt.sum() * voxel, rel=1e-5)
    assert sorted(set(np.unique(found.map)) - {0}) == [one.id for one in found.regions]
    for region in found.regions:
        mine = found.map == region.id
        assert region.volume_mm3 == pytest.approx(mine.sum() * voxel)
        assert region.expected_error_mm3 == pytest.approx(doubt[mine].sum() * voxel, rel=1e-5)
        assert region.mean_doubt == pytest.approx(doubt[mine].mean(), rel=1e-5)
        assert doubt[mine].min() >= chosen.grow - 1e-6
        for axis, (start, stop) in enumerate(region.box):
            hits = np.flatnonzero(mine.any(axis=tuple({0, 1, 2} - {axis})))
            assert (start, stop) == (hits[0], hits[-1] + 1)


@laws
@given(seed=st.integers(0, 10_000), spacing=spacings, chosen=options)
def test_the_peak_is_inside_and_has_the_most_doubt(seed, spacing, chosen):
    images = a_case(seed, spacing)
    found, doubt, _ = found_in(images, chosen)

    for region in found.regions:
        assert found.map[region.peak_voxel] == region.id
        assert region.peak_doubt == doubt[region.peak_voxel] == doubt[found.map == region.id].max()
        z, y, x = region.peak_voxel
        left, posterior, superior = images["label"].TransformIndexToPhysicalPoint((x, y, z))
        assert region.peak_ras == pytest.approx((-left, -posterior, superior))


@laws
@given(seed=st.integers(0, 10_000), spacing=spacings, chosen=options)
def test_the_worst_come_first_and_none_is_dust(seed, spacing, chosen):
    found, _, geometry = found_in(a_case(seed, spacing), chosen)

    errors = [one.expected_error_mm3 for one in found.regions]
    step = 1e-3 * geometry.voxel_volume_mm3
    assert all(later <= earlier + step for earlier, later in itertools.pairwise(errors))
    assert len(found.regions) <= chosen.max_regions
    if chosen.max_share == 1.0:
        # Nothing is cut then, and what is not cut is no dust.
        assert all(one.volume_mm3 >= chosen.min_volume_mm3 - 1e-6 for one in found.regions)


@laws
@given(
    seed=st.integers(0, 10_000),
    spacing=spacings,
    chosen=options,
    order=st.permutations((0, 1, 2)),
    flips=st.tuples(*[st.booleans()] * 3),
)
def test_how_the_volume_is_stored_makes_no_difference(seed, spacing, chosen, order, flips):
    images = a_case(seed, spacing)
    turned = {
        name: sitk.Flip(sitk.PermuteAxes(image, order), flips) for name, image in images.items()
    }

    here, _, _ = found_in(images, chosen)
    there, _, _ = found_in(turned, chosen)

    assert len(here.regions) == len(there.regions)
    for one, other in zip(here.regions, there.regions, strict=True):
        assert other.peak_ras == pytest.approx(one.peak_ras, abs=1e-6)
        assert other.volume_mm3 == pytest.approx(one.volume_mm3)
        assert other.expected_error_mm3 == pytest.approx(one.expected_error_mm3, rel=1e-5)
        assert (other.class_name, other.second_class) == (one.class_name, one.second_class)
        assert other.reason == one.reason
    back = sitk.GetImageFromArray(there.map)
    back.CopyInformation(turned["label"])
    undone = sitk.PermuteAxes(sitk.Flip(back, flips), [order.index(axis) for axis in range(3)])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(undone), here.map)


@laws
@given(seed=st.integers(0, 10_000), spacing=spacings, chosen=options)
def test_the_same_case_gives_the_same_regions(seed, spacing, chosen):
    first, _, _ = found_in(a_case(seed, spacing), chosen)
    second, _, _ = found_in(a_case(seed, spacing), chosen)

    assert [one.to_json() for one in first.regions] == [one.to_json() for one in second.regions]
    np.testing.assert_array_equal(first.map, second.map)


@laws
@given(seed=st.integers(0, 10_000), spacing=spacings, chosen=options)
def test_more_sensitivity_never_covers_less_doubt(seed, spacing, chosen):
    images = a_case(seed, spacing)
    covered = []
    for place in (0.0, 0.3, 0.5, 0.7, 1.0):
        moved = chosen.with_sensitivity(place)
        found, _, _ = found_in(images, moved)
        if len(found.regions) < moved.max_regions:
            covered.append(found.map > 0)

    for less, more in itertools.pairwise(covered):
        assert not (less & ~more).any()
