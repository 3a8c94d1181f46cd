"""Laws of the road from a file to the prepared grid and back, for any grid a scanner may make."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from SemiSupSegLib.cases.case import Case, CaseState, ImageSource
from SemiSupSegLib.cases.task import Channel, Class, Task
from SemiSupSegLib.preparation.options import PreparationOptions
from SemiSupSegLib.preparation.placement import find_placement
from SemiSupSegLib.preparation.prepare import PreparedCase, prepare_case
from SemiSupSegLib.preparation.restoring import restore, restore_labels, write_volume

TASK = Task(
    name="three",
    title="Three classes",
    channels=(Channel(name="image"),),
    classes=tuple(
        Class(name=name, values=(value,), color=(0, 0, value))
        for value, name in enumerate(("one", "two", "three"), start=1)
    ),
)
LAWS = settings(deadline=None, derandomize=True, max_examples=25)


@dataclass(frozen=True)
class Scan:
    """A grid: RAS affine and size, both in index order x, y, z."""

    affine: np.ndarray
    size: tuple[int, int, int]


@st.composite
def scans(draw: st.DrawFn, size: st.SearchStrategy[tuple[int, int, int]]) -> Scan:
    """Oblique, flipped, permuted, anisotropic and shifted grids."""
    angles = [draw(st.floats(-40, 40)) for _ in range(3)]
    rotation = np.eye(3)
    for axis, angle in enumerate(np.radians(angles)):
        turn = np.eye(3)
        one, two = [other for other in range(3) if other != axis]
        turn[one, one] = turn[two, two] = np.cos(angle)
        turn[one, two], turn[two, one] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ turn
    permutation = np.eye(3)[draw(st.permutations(range(3)))]
    flips = np.diag([draw(st.sampled_from([1.0, -1.0])) for _ in range(3)])
    spacing = np.diag([draw(st.floats(0.4, 4.0)) for _ in range(3)])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ permutation @ flips @ spacing
    affine[:3, 3] = [draw(st.floats(-300, 300)) for _ in range(3)]
    return Scan(affine=affine, size=draw(size))


small = st.tuples(st.integers(3, 9), st.integers(3, 9), st.integers(3, 9))
large = st.just((44, 36, 28))


def prepare(scan: Scan, image: np.ndarray, label: np.ndarray, **options: object) -> PreparedCase:
    """Write both (x, y, z) as NIfTI and prepare them; spacing None keeps the scan's own."""
    with tempfile.TemporaryDirectory() as folder:
        sources = {}
        for name, array in (("image", image), ("label", label)):
            path = Path(folder) / f"{name}.nii"
            nibabel.save(nibabel.Nifti1Image(array, scan.affine), path)
            sources[name] = ImageSource(path=path)
        case = Case(
            id="ann",
            patient="ann",
            state=CaseState.LABELLED,
            channels={"image": sources["image"]},
            label=sources["label"],
        )
        tolerance = 0.0 if options.get("spacing") else 1e9
        spacing = options.pop("spacing", None) or (1.0, 1.0, 1.0)
        chosen = PreparationOptions(
            **{"mask": "nonzero", "resample_tolerance": tolerance, **options}, spacing=spacing
        )
        return prepare_case(case, TASK, chosen, with_label=True)


def spacing_of(scan: Scan) -> tuple[float, float, float]:
    """Return the voxel sizes along left, posterior, superior."""
    probe = sitk.Image([2, 2, 2], sitk.sitkUInt8)
    lps = np.diag([-1.0, -1.0, 1.0]) @ scan.affine[:3, :3]
    sizes = np.linalg.norm(lps, axis=0)
    probe.SetSpacing(sizes.tolist())
    probe.SetDirection((lps / sizes).ravel().tolist())
    return sitk.DICOMOrient(probe, "LPS").GetSpacing()


def ellipsoid(size: tuple[int, int, int], shift: tuple[float, ...] = (0.0, 0.0, 0.0)) -> np.ndarray:
    """Two nested classes, (x, y, z)."""
    axes = np.meshgrid(*[np.arange(count) for count in size], indexing="ij")
    distance = sum(
        ((axis - (count - 1) / 2 - move) / (0.4 * count)) ** 2
        for axis, count, move in zip(axes, size, shift, strict=True)
    )
    return ((distance < 1).astype(np.uint8) + (distance < 0.4)).astype(np.uint8)


def not_zero(size: tuple[int, int, int]) -> np.ndarray:
    """An image whose mask is all of it; one value everywhere would be refused."""
    return (1 + np.arange(np.prod(size)) % 100).astype(np.int16).reshape(size)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@LAWS
@given(scan=scans(small), seed=st.integers(0, 99))
def test_with_unchanged_spacing_every_voxel_of_a_label_map_comes_back(scan, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 3, scan.size).astype(np.int16)
    image[1, 1, 1] = 1
    # What lies outside the box of the mask is left out on purpose.
    label = np.where(image > 0, rng.integers(0, 4, scan.size), 0).astype(np.uint8)

    prepared = prepare(scan, image, label)

    np.testing.assert_array_equal(restore_labels(prepared.label(), prepared), label.T)


@LAWS
@given(scan=scans(small), seed=st.integers(0, 99))
def test_with_unchanged_spacing_every_intensity_comes_back(scan, seed):
    image = np.random.default_rng(seed).integers(1, 500, scan.size).astype(np.int16)

    prepared = prepare(scan, image, np.zeros_like(image, np.uint8), upper_quantile=None)
    restored = restore(prepared.image().astype(np.float32), prepared, outside=[0.0])[0]

    expected = ((image - image.mean()) / image.std()).T
    np.testing.assert_allclose(restored, expected, atol=4e-3)


@LAWS
@given(scan=scans(small))
def test_prepared_axes_run_left_posterior_superior(scan):
    image = not_zero(scan.size)

    prepared = prepare(scan, image, np.ones_like(image, np.uint8))

    direction = np.reshape(prepared.grid.direction, (3, 3))
    np.testing.assert_array_less(0, np.diag(direction))
    assert find_placement(prepared.grid, prepared.original) is not None


@LAWS
@given(scan=scans(large), finer=st.tuples(*[st.floats(0.5, 1.0)] * 3))
def test_a_label_map_keeps_its_dice_on_a_finer_grid_and_back(scan, finer):
    label = ellipsoid(scan.size)
    spacing = tuple(one * factor for one, factor in zip(spacing_of(scan), finer, strict=True))

    prepared = prepare(scan, label.astype(np.int16), label, spacing=spacing, mask="all")
    restored = restore_labels(prepared.label(), prepared)

    for value in (1, 2):
        assert dice(restored == value, value == label.T) > 0.99


@LAWS
@given(
    scan=scans(large),
    factors=st.tuples(*[st.floats(0.6, 1.5)] * 3),
    shift=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
)
def test_shares_of_a_class_keep_their_dice_on_any_grid_and_back(scan, factors, shift):
    # The road of predictions: probabilities are restored, then the larger one wins.
    label = (ellipsoid(scan.size, shift) > 0).astype(np.int16)
    spacing = tuple(one * factor for one, factor in zip(spacing_of(scan), factors, strict=True))
    prepared = prepare(
        scan, label, label.astype(np.uint8), spacing=spacing, mask="all", upper_quantile=None
    )
    # The z-scored image of a label map is its share but for scale.
    values = prepared.image().astype(np.float32)
    share = (values - values.min()) / (values.max() - values.min())

    restored = restore(share, prepared, outside=[0.0])[0]

    assert dice(restored > 0.5, label.T > 0) > 0.99


@LAWS
@given(scan=scans(small), factors=st.tuples(*[st.floats(0.4, 2.5)] * 3))
def test_a_constant_stays_constant_and_reaches_every_voxel(scan, factors):
    image = not_zero(scan.size)
    spacing = tuple(one * factor for one, factor in zip(spacing_of(scan), factors, strict=True))
    prepared = prepare(scan, image, np.ones_like(image, np.uint8), spacing=spacing)

    restored = restore(np.ones((1, *prepared.shape), np.float32), prepared, outside=[0.0])

    np.testing.assert_allclose(restored, 1, atol=1e-5)


@LAWS
@given(scan=scans(small))
def test_written_files_have_the_affine_of_the_input(scan):
    label = np.arange(np.prod(scan.size), dtype=np.uint8).reshape(scan.size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nii.gz"
        nibabel.save(nibabel.Nifti1Image(label, scan.affine), path)
        prepared = prepare(scan, not_zero(scan.size), label * 0)

        like, alone = Path(folder) / "like.nii.gz", Path(folder) / "alone.nii.gz"
        write_volume(like, label.T, prepared, ImageSource(path=path))
        write_volume(alone, label.T, prepared.original)

        source, same, near = (nibabel.load(one) for one in (path, like, alone))
        np.testing.assert_array_equal(same.affine, source.affine)
        np.testing.assert_array_equal(np.asarray(same.dataobj), label)
        np.testing.assert_allclose(near.affine, scan.affine, rtol=1e-6, atol=1e-4)
        assert int(same.header["sform_code"]) == int(source.header["sform_code"])
