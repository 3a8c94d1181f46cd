"""However a scan's voxels are stored, result and overlays land on the same anatomy, in mm."""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

sys.path.insert(0, str(Path(__file__).resolve().parent))
from semisupseg_testing import PanelTest, volume, world_of

from SemiSupSegLib.resources import ROOT

CASE = ROOT / "Demonstration" / "case"
MODEL = str(ROOT / "Demonstration" / "model")
CHANNELS = ("t1", "t1ce", "t2", "flair")
CROP = (slice(25, 53), slice(6, 36), slice(6, 32))
"""K, J, I: tumour, rim of the brain and some air; one window for the network, so it is quick."""
MODEL_SPACING = (2.296687, 2.321157, 2.337137)
"""Along I, J, K as the made-up case is stored, mm: the network takes such scans as they are."""
MAPS = ("uncertainty", "confidence", "agreement", "distance")
SEGMENTATIONS = ("label", "pseudo_label", "comparison", "sure", "possible")
LARGE = (("label", "edema"), ("pseudo_label", "edema"))
"""Where a channel is interpolated, results differ a little; these do not hang on a few voxels."""
EDEMA = 2
"""In label maps on the disk."""
DOUBTFUL = 0.2
"""Uncertainty from which the panel draws it."""

SAME_GEOMETRY_MM = 1e-4
SAME_IN_FILE_VOXELS = 1e-3
"""NIfTI holds float32."""
SAME_CENTRE_MM = 0.02
"""Where the network sees the same numbers but for their last bits."""
SAME_SHARE = 1e-3
"""So many voxels may differ there: which of two equally likely classes wins is chance."""
ONE_STEP = {"uncertainty": 0.005, "confidence": 0.005, "agreement": 0.005, "distance": 1.0}
"""To which maps are rounded; the distance from the result is in whole mm."""
INTERPOLATED_CENTRE_MM = 2.0
"""Where a channel is interpolated: less than a voxel (2.4 mm)."""


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

    @property
    def centre(self):
        """RAS, mm."""
        return (self.ijk_to_ras @ [*((size - 1) / 2 for size in self.size), 1])[:3]

    def moved(self, ras_to_ras):
        """Return the phantom at another place."""
        return Phantom(self.arrays, ras_to_ras @ self.ijk_to_ras)

    def with_spacing(self, spacing):
        """Return the phantom with other distances between the voxels, mm."""
        matrix = self.ijk_to_ras.copy()
        matrix[:3, :3] *= np.asarray(spacing) / np.linalg.norm(matrix[:3, :3], axis=0)
        return Phantom(self.arrays, matrix)


@dataclass(frozen=True)
class Storage:
    """In which order and sense the voxels of a phantom are stored."""

    axes: tuple[int, int, int]
    """The former axis (0: I) of each new axis."""
    flips: tuple[bool, bool, bool]
    """Which new axes run backwards."""

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
        return self._flipped(array.T.transpose(self.axes)).T

    def restore(self, array):
        """Return an array (K, J, I) as it was."""
        return self._flipped(array.T).transpose(np.argsort(self.axes)).T

    def _flipped(self, array):
        return np.flip(array, [axis for axis in range(3) if self.flips[axis]])


AS_IT_WAS = Storage((0, 1, 2), (False, False, False))
ALL_STORAGES = [
    Storage(axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]


@dataclass
class Landed:
    """What a result shows, and where."""

    voxels: dict[tuple[str, str], np.ndarray]
    """Maps, and each segment of each segmentation: (K, J, I) on the reference's grid."""
    centres: dict[tuple[str, str], np.ndarray]
    """Of the doubtful voxels, and of each segment that has voxels: world RAS, mm."""


class OrientationTest(PanelTest):
    """Every check is a real prediction of a part of the made-up case."""

    _whole = None

    def part(self, steps=(1, 1, 1)):
        """Return the part; `steps` (K, J, I) leave voxels out, so that they lie wider apart."""
        if OrientationTest._whole is None:
            OrientationTest._whole = _read_case()
        whole = OrientationTest._whole
        crop = tuple(
            slice(one.start, one.stop, step) for one, step in zip(CROP, steps, strict=True)
        )
        to_whole = np.diag([*steps[::-1], 1.0])
        to_whole[:3, 3] = [one.start for one in CROP[::-1]]
        arrays = {name: array[crop] for name, array in whole.arrays.items()}
        return Phantom(arrays, whole.ijk_to_ras @ to_whole)

    def island(self):
        """Return the middle of the part in air: nothing of it leaves the scan when it bends."""
        part, air = self.part(), 4
        inner = (slice(2, 26), slice(3, 27), slice(0, 24))
        arrays = {name: np.pad(array[inner], air) for name, array in part.arrays.items()}
        to_part = np.eye(4)
        to_part[:3, 3] = [one.start - air for one in inner[::-1]]
        return Phantom(arrays, part.ijk_to_ras @ to_part)

    def bend_back(self, flair, phantom, to_world):
        """Give a volume such voxels that the phantom's flair is what a transform makes of them."""
        shift = np.eye(4)
        shift[:3, 3] = np.subtract(phantom.centre, to_world.TransformPoint(phantom.centre))
        grid = phantom.moved(shift)
        ijk = _ijk(phantom.ijk_to_ras, _moved_centres(grid, to_world))
        array = phantom.arrays["flair"]
        bent = _linear_values(array, ijk) * (_linear_values(array > 0, np.rint(ijk)) > 0)
        slicer.util.updateVolumeFromArray(flair, bent.reshape(array.shape).astype(np.float32))
        flair.SetIJKToRASMatrix(_vtk_matrix(grid.ijk_to_ras))

    def volumes(self, phantom):
        """Return a volume node for each channel."""
        return {
            name: volume(name, array, phantom.ijk_to_ras) for name, array in phantom.arrays.items()
        }

    def predict(self, volumes):
        """Segment and return the result's segmentation node."""
        from SemiSupSegUI.segmenting import Options

        self.need_worker()
        ended = []
        self.widget.logic.segment(MODEL, volumes, options=Options(overlap=0.0), on_end=ended.append)
        self.wait(lambda: ended, "the segmentation")
        self.assertEqual(ended[0].error, "")
        self.assertIsNotNone(ended[0].segmentation)
        return ended[0].segmentation

    def land(self, phantom):
        """Segment a phantom in an empty scene and return what came of it."""
        slicer.mrmlScene.Clear(0)
        result = self.predict(self.volumes(phantom))
        self.check_geometry(result)
        self.check_air(result, phantom)
        return _landed(result)

    def hand_over(self, volumes, channel):
        """Return what the worker gets of a channel at the centres of the reference's voxels."""
        from SemiSupSegUI.exporting import Export

        export = Export(volumes, self.folder / "handed_over")
        for _step in export.steps():
            pass
        reference = next(iter(volumes.values()))
        points = _places(_matrix(reference), slicer.util.arrayFromVolume(reference).shape)
        node = slicer.util.loadVolume(str(export.files[channel]), {"show": False})
        values = _linear_values(slicer.util.arrayFromVolume(node), _ijk(_matrix(node), points))
        slicer.mrmlScene.RemoveNode(node)
        return values

    def check_geometry(self, result):
        """All stands on the reference's grid, under its transform; so does the file."""
        self.check_file(result)
        reference = result.GetNodeReference("SemiSupSeg.reference")
        wanted = _matrix(reference)
        corners = _corners(reference)
        for name in MAPS:
            node = result.GetNodeReference("SemiSupSeg." + name)
            shift = np.abs(_matrix(node) @ corners - wanted @ corners).max()
            self.assertLess(shift, SAME_GEOMETRY_MM, name)
            self.assertEqual(
                node.GetImageData().GetDimensions(), reference.GetImageData().GetDimensions()
            )
            self.assertEqual(node.GetTransformNodeID(), reference.GetTransformNodeID(), name)
        for name in SEGMENTATIONS:
            node = _segmentation(result, name)
            self.assertEqual(node.GetTransformNodeID(), reference.GetTransformNodeID(), name)
            content = node.GetSegmentation()
            text = content.GetConversionParameter(
                slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
            )
            grid = slicer.vtkOrientedImageData()
            slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, grid, False)
            images = [grid]
            images += [
                node.GetBinaryLabelmapInternalRepresentation(identity)
                for identity in content.GetSegmentIDs()
            ]
            for image in images:
                shift = np.abs(_image_matrix(image) @ corners - wanted @ corners).max()
                self.assertLess(shift, SAME_GEOMETRY_MM, name)
            self.assertEqual(grid.GetDimensions(), reference.GetImageData().GetDimensions())

    def check_file(self, result):
        """The label map on the disk shows the same voxels at the reference's own places."""
        case = result.GetAttribute("SemiSupSeg.result")
        file = self.home / "results" / case / f"{case}_label.nii.gz"
        saved = slicer.util.loadVolume(str(file), {"show": False})
        reference = result.GetNodeReference("SemiSupSeg.reference")
        shown = slicer.util.arrayFromSegmentBinaryLabelmap(result, "edema", reference) > 0
        # Slicer turns an axis when it reads a left-handed file, so places are compared.
        ijk = _ijk(_matrix(saved), _places(_matrix(reference), shown.shape))
        self.assertLess(np.abs(ijk - np.rint(ijk)).max(), SAME_IN_FILE_VOXELS)
        values = _linear_values(slicer.util.arrayFromVolume(saved), np.rint(ijk))
        np.testing.assert_array_equal(values.reshape(shown.shape) == EDEMA, shown)
        slicer.mrmlScene.RemoveNode(saved)

    def check_air(self, result, phantom):
        """Where all channels are 0 there is no doubt, and nothing is found: to the voxel."""
        air = np.all([array == 0 for array in phantom.arrays.values()], axis=0)
        doubt = _map(result, "uncertainty")
        self.assertTrue(0.05 < air.mean() < 0.95)
        self.assertEqual(doubt[air].max(), 0)
        self.assertGreater((doubt[~air] > 0).mean(), 0.5)

    def check_same(self, found, wanted, storage=AS_IT_WAS, move=None):
        """The same voxels but for a few, and the same places in mm.

        Args:
            found: A result.
            wanted: That of the phantom as it was.
            storage: How the found one's voxels are stored.
            move: Where the anatomy went, RAS to RAS; None: nowhere.
        """
        self.assertEqual(found.voxels.keys(), wanted.voxels.keys())
        for key, values in found.voxels.items():
            differs = np.abs(storage.restore(values) - wanted.voxels[key])
            tolerance = ONE_STEP.get(key[0], 0) + 1e-6
            self.assertLessEqual((differs > tolerance).mean(), SAME_SHARE, key)
        self.check_centres(found, wanted, SAME_CENTRE_MM, move=move)

    def check_centres(self, found, wanted, tolerance_mm, move=None, among=None):
        """Each centre of mass lies where it has to."""
        self.assertIn(("label", "edema"), wanted.centres)
        self.assertIn(("uncertainty", "doubtful"), wanted.centres)
        for key, centre in wanted.centres.items():
            if among is not None and key not in among:
                continue
            there = centre if move is None else (move @ [*centre, 1])[:3]
            self.assertIn(key, found.centres)
            away = np.linalg.norm(found.centres[key] - there)
            self.assertLess(away, tolerance_mm, key)

    # Order and sense of the axes

    def test_all_48_orders_and_senses_of_the_axes_land_on_the_same_places(self):
        # Oblique as the case is, and twice as far apart along one axis.
        phantom = self.part(steps=(2, 1, 1))
        wanted = self.land(phantom)
        self.assertEqual(len(ALL_STORAGES), 48)
        for storage in ALL_STORAGES:
            with self.subTest(storage):
                self.check_same(self.land(storage.apply(phantom)), wanted, storage)

    def test_scans_that_need_no_resampling_give_the_same_voxels_exactly(self):
        phantom = self.part().with_spacing(MODEL_SPACING)
        wanted = self.land(phantom)
        # Each order of the axes, each with other flips.
        for storage in ALL_STORAGES[1::9]:
            with self.subTest(storage):
                found = self.land(storage.apply(phantom))

                for key, values in found.voxels.items():
                    np.testing.assert_array_equal(
                        storage.restore(values), wanted.voxels[key], str(key)
                    )
                self.check_centres(found, wanted, SAME_GEOMETRY_MM)

    def test_channels_may_each_be_stored_in_another_order(self):
        phantom = self.part()
        wanted = self.land(phantom)
        slicer.mrmlScene.Clear(0)
        storages = dict(zip(CHANNELS, ALL_STORAGES[5::13], strict=False))
        volumes = {}
        for name, storage in storages.items():
            stored = storage.apply(phantom)
            volumes[name] = volume(name, stored.arrays[name], stored.ijk_to_ras)

        result = self.predict(volumes)

        self.check_geometry(result)
        self.check_same(_landed(result), wanted, storages["t1"])

    # Directions and spacings

    def test_a_scan_that_lies_aslant_keeps_its_voxels(self):
        phantom = self.part()
        wanted = self.land(phantom)
        turn = _turned(25.0, (1, 2, 3), phantom.centre, (7.0, -11.0, 3.0))
        storage = Storage((2, 0, 1), (True, False, False))

        found = self.land(storage.apply(phantom.moved(turn)))

        self.check_same(found, wanted, storage, move=turn)

    def test_a_channel_with_thick_slices_shifts_nothing(self):
        phantom, coarse = self.part(), self.part(steps=(2, 1, 1))
        wanted = self.land(phantom)
        slicer.mrmlScene.Clear(0)
        volumes = self.volumes(phantom)
        slicer.mrmlScene.RemoveNode(volumes["t2"])
        volumes["t2"] = volume("t2", coarse.arrays["t2"], coarse.ijk_to_ras)

        result = self.predict(volumes)

        self.check_geometry(result)
        self.check_centres(_landed(result), wanted, INTERPOLATED_CENTRE_MM, among=LARGE)

    # Parent transforms

    def test_a_rigid_transform_of_all_channels_moves_the_result_along(self):
        phantom = self.part()
        wanted = self.land(phantom)
        slicer.mrmlScene.Clear(0)
        move = _turned(130.0, (3, -1, 2), phantom.centre, (20.0, 5.0, -30.0))
        volumes = self.volumes(phantom)
        transform = _linear(move)
        for node in volumes.values():
            node.SetAndObserveTransformNodeID(transform.GetID())

        result = self.predict(volumes)

        self.check_geometry(result)
        self.check_air(result, phantom)
        self.check_same(_landed(result), wanted, move=move)

    def test_a_transform_of_one_channel_counts(self):
        phantom = self.part()
        wanted = self.land(phantom)
        slicer.mrmlScene.Clear(0)
        shift = _turned(15.0, (1, 1, 4), phantom.centre, (-40.0, 25.0, 60.0))
        volumes = self.volumes(phantom)
        # It lies elsewhere, and its transform brings it back.
        volumes["flair"].SetIJKToRASMatrix(_vtk_matrix(shift @ phantom.ijk_to_ras))
        volumes["flair"].SetAndObserveTransformNodeID(_linear(np.linalg.inv(shift)).GetID())

        result = self.predict(volumes)

        self.check_geometry(result)
        self.assertIsNone(result.GetParentTransformNode())
        self.check_same(_landed(result), wanted)

    def test_a_transform_of_the_reference_alone_is_the_results_too(self):
        phantom = self.part()
        wanted = self.land(phantom)
        slicer.mrmlScene.Clear(0)
        shift = _turned(40.0, (2, -3, 1), phantom.centre, (12.0, 80.0, -5.0))
        volumes = self.volumes(phantom)
        volumes["t1"].SetIJKToRASMatrix(_vtk_matrix(shift @ phantom.ijk_to_ras))
        transform = _linear(np.linalg.inv(shift))
        volumes["t1"].SetAndObserveTransformNodeID(transform.GetID())

        result = self.predict(volumes)

        self.check_geometry(result)
        self.assertIs(result.GetParentTransformNode(), transform)
        self.check_same(_landed(result), wanted)

    def test_a_bending_transform_of_one_channel_counts_and_nothing_is_left_of_it(self):
        phantom = self.island()
        wanted = self.land(phantom)
        slicer.mrmlScene.Clear(0)
        volumes = self.volumes(phantom)
        bend = _bending(phantom)
        flair = volumes["flair"]
        # Bent the other way, so that its transform straightens it.
        self.bend_back(flair, phantom, bend.GetTransformToParent())
        flair.SetAndObserveTransformNodeID(bend.GetID())
        voxels = slicer.util.arrayFromVolume(flair).copy()
        matrix = _matrix(flair)
        nodes = _nodes()

        handed_over = self.hand_over(volumes, "flair")
        result = self.predict(volumes)

        # It fits at its place better than a voxel beside it.
        wished = phantom.arrays["flair"]
        fits = [
            np.corrcoef(np.roll(wished, step, axis).ravel(), handed_over)[0, 1]
            for axis, step in ((0, 0), *itertools.product(range(3), (1, -1)))
        ]
        self.assertGreater(fits[0], 0.95)
        self.assertGreater(fits[0], max(fits[1:]) + 0.01)
        self.check_geometry(result)
        self.assertIsNone(result.GetParentTransformNode())
        self.check_centres(_landed(result), wanted, INTERPOLATED_CENTRE_MM, among=LARGE)
        # The user's volume is as it was, and no copy of it is left.
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(flair), voxels)
        np.testing.assert_array_equal(_matrix(flair), matrix)
        self.assertIs(flair.GetParentTransformNode(), bend)
        self.assertFalse(bend.IsTransformToWorldLinear())
        added = [slicer.mrmlScene.GetNodeByID(identity) for identity in _nodes() - nodes]
        for node in added:
            if node.IsA("vtkMRMLVolumeNode"):
                self.assertNotIn(node.GetAttribute("SemiSupSeg.role"), (None, "copy"))
        self.assertEqual([node for node in added if node.IsA("vtkMRMLTransformNode")], [])

    def test_a_bending_transform_of_all_channels_bends_the_result(self):
        phantom = self.island()
        wanted = self.land(phantom)
        slicer.mrmlScene.Clear(0)
        volumes = self.volumes(phantom)
        bend = _bending(phantom)
        for node in volumes.values():
            node.SetAndObserveTransformNodeID(bend.GetID())

        result = self.predict(volumes)

        self.assertIsNone(result.GetParentTransformNode())
        doubt = result.GetNodeReference("SemiSupSeg.uncertainty")
        self.assertIsNone(doubt.GetParentTransformNode())
        found = _landed(result, on_reference=False)
        to_world = bend.GetTransformToParent()
        for key in LARGE:
            there = to_world.TransformPoint(wanted.centres[key])
            self.assertGreater(np.linalg.norm(np.subtract(there, wanted.centres[key])), 10)
            away = np.linalg.norm(np.subtract(there, found.centres[key]))
            self.assertLess(away, INTERPOLATED_CENTRE_MM, key)
        # There is doubt in the brain only, which is where the transform puts it.
        brain = np.any([array > 0 for array in phantom.arrays.values()], axis=0)
        air = ~_grown(_grown(brain))
        deep_inside = ~_grown(_grown(~brain))
        usual = (wanted.voxels["uncertainty", ""][deep_inside] > 0).mean()
        doubts = _nearest_values(doubt, _moved_centres(phantom, to_world)).reshape(brain.shape)
        self.assertEqual(doubts[air].max(), 0)
        self.assertGreater((doubts[deep_inside] > 0).mean(), 0.9 * usual)
        unmoved = _nearest_values(doubt, _moved_centres(phantom, vtk.vtkIdentityTransform()))
        self.assertGreater(unmoved.reshape(brain.shape)[air].max(), 0)


def _read_case():
    arrays = {}
    for name in CHANNELS:
        (file,) = CASE.glob(f"*_{name}.nii.gz")
        node = slicer.util.loadVolume(str(file), {"show": False})
        arrays[name] = slicer.util.arrayFromVolume(node).copy()
        matrix = _matrix(node)
        slicer.mrmlScene.RemoveNode(node)
    return Phantom(arrays, matrix)


def _landed(result, on_reference=True):
    """Return what a result shows, and where.

    Args:
        result: Its segmentation node.
        on_reference: Whether voxels are compared on the reference's grid.
    """
    reference = result.GetNodeReference("SemiSupSeg.reference")
    voxels, centres = {}, {}
    for name in MAPS:
        voxels[name, ""] = _map(result, name).astype(np.float32)
    doubtful = voxels["uncertainty", ""] >= DOUBTFUL
    doubt = result.GetNodeReference("SemiSupSeg.uncertainty")
    centres["uncertainty", "doubtful"] = world_of(doubt, doubtful)
    for name in SEGMENTATIONS:
        node = _segmentation(result, name)
        for identity in node.GetSegmentation().GetSegmentIDs():
            centre = _centre(node, identity)
            if centre is not None:
                centres[name, identity] = centre
            if on_reference:
                array = slicer.util.arrayFromSegmentBinaryLabelmap(node, identity, reference)
                voxels[name, identity] = (array > 0).astype(np.int8)
    return Landed(voxels, centres)


def _centre(node, identity):
    """Return a segment's centre of mass from its own image: world RAS, mm; None if it is empty."""
    image = node.GetBinaryLabelmapInternalRepresentation(identity)
    inside = _voxels(image) == node.GetSegmentation().GetSegment(identity).GetLabelValue()
    if not inside.any():
        return None
    extent = image.GetExtent()
    k, j, i = (
        axis.mean() + extent[2 * number]
        for axis, number in zip(np.nonzero(inside), (2, 1, 0), strict=True)
    )
    return (_to_world(node) @ _image_matrix(image) @ [i, j, k, 1])[:3]


def _voxels(image):
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def _map(result, name):
    return slicer.util.arrayFromVolume(result.GetNodeReference("SemiSupSeg." + name))


def _segmentation(result, name):
    return result if name == "label" else result.GetNodeReference("SemiSupSeg." + name)


def _to_world(node):
    matrix = vtk.vtkMatrix4x4()
    transform = node.GetParentTransformNode()
    if transform is not None:
        transform.GetMatrixTransformToWorld(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def _matrix(node):
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def _image_matrix(image):
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def _vtk_matrix(array):
    return slicer.util.vtkMatrixFromArray(np.asarray(array, float))


def _corners(node):
    """Return the indices of a volume's corner voxels, (4, 8)."""
    last = [size - 1 for size in node.GetImageData().GetDimensions()]
    return np.array([[*one, 1] for one in itertools.product(*((0, end) for end in last))]).T


def _turned(degrees, axis, centre, shift):
    """Return a rigid movement, 4x4: a turn about an axis through a centre, then a shift in mm."""
    transform = vtk.vtkTransform()
    transform.Translate(*np.add(centre, shift))
    transform.RotateWXYZ(degrees, *axis)
    transform.Translate(*np.negative(centre))
    return slicer.util.arrayFromVTKMatrix(transform.GetMatrix())


def _linear(matrix):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(_vtk_matrix(matrix))
    return node


def _bending(phantom):
    """Return a transform node that shifts by 12 mm and bends by some mm more."""
    size = np.asarray(phantom.size) - 1
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for share in itertools.product((-0.2, 0.5, 1.2), repeat=3):
        point = (phantom.ijk_to_ras @ [*(size * share), 1])[:3]
        bend = 3.0 * np.sin(np.array([3.0, 5.0, 4.0]) * share[::-1])
        source.InsertNextPoint(point)
        target.InsertNextPoint(np.sum([point, (12.0, 0.0, 0.0), bend], axis=0))
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    spline.SetBasisToR()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    node.SetAndObserveTransformToParent(spline)
    return node


def _places(ijk_to_ras, shape):
    """Return the centres of all voxels of an array (K, J, I), (N, 3) in RAS."""
    k, j, i = np.indices(shape).reshape(3, -1)
    return (ijk_to_ras @ [i, j, k, np.ones_like(i)])[:3].T


def _moved_centres(phantom, transform):
    """Return where a transform puts the centres of a phantom's voxels, (N, 3) in RAS."""
    points = _places(phantom.ijk_to_ras, phantom.size[::-1])
    before, after = vtk.vtkPoints(), vtk.vtkPoints()
    before.SetDataTypeToDouble()
    after.SetDataTypeToDouble()
    before.SetData(numpy_to_vtk(np.ascontiguousarray(points), deep=True))
    transform.TransformPoints(before, after)
    return vtk_to_numpy(after.GetData())


def _grown(mask):
    """Return a mask with the six neighbours of its voxels; it must not touch the border."""
    grown = mask.copy()
    for axis in range(3):
        for step in (1, -1):
            grown |= np.roll(mask, step, axis)
    return grown


def _ijk(ijk_to_ras, points):
    """Return indices, not whole, (3, N) of points (N, 3) in RAS."""
    return np.linalg.solve(ijk_to_ras, np.column_stack([points, np.ones(len(points))]).T)[:3]


def _nearest_values(node, points):
    """Return a volume's values at the voxels nearest to points (N, 3) in RAS; 0 outside."""
    return _linear_values(slicer.util.arrayFromVolume(node), np.rint(_ijk(_matrix(node), points)))


def _linear_values(array, ijk):
    """Return an array's (K, J, I) linearly interpolated values at indices (3, N); 0 outside."""
    padded = np.pad(np.asarray(array, float), 1)
    limit = np.array(array.shape[::-1])[:, None]
    ijk = np.clip(ijk, -1, limit) + 1
    low = np.minimum(np.floor(ijk).astype(int), limit)
    share = ijk - low
    values = np.zeros(ijk.shape[1])
    for corner in itertools.product((0, 1), repeat=3):
        step = np.array(corner)[:, None]
        i, j, k = low + step
        values += np.prod(np.where(step, share, 1 - share), axis=0) * padded[k, j, i]
    return values


def _nodes():
    collection = slicer.mrmlScene.GetNodes()
    return {
        collection.GetItemAsObject(index).GetID() for index in range(collection.GetNumberOfItems())
    }
