"""What is exported as .seg.nrrd is a segmentation to Slicer, with names, colours, terms, voxels."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import numpy as np
import slicer
import vtk

DIRECTION = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
"""Of a grid that is turned by exact cosines."""


class SegNrrdTest(unittest.TestCase):
    """A label map of two classes, written by the library and read by Slicer's storage node."""

    def setUp(self):
        slicer.mrmlScene.Clear(0)
        # The library is found from the module.
        slicer.util.getModuleWidget("SemiSupSeg")
        from SemiSupSegLib.cases.geometry import Geometry
        from SemiSupSegLib.cases.task import load_task

        self.task = load_task("brats")
        self.grid = Geometry(
            size=(8, 10, 6),
            spacing=(0.75, 1.25, 3.5),
            origin=(-31.5, 22.25, 40.0),
            direction=DIRECTION,
        )
        self.values = np.zeros(self.grid.shape, np.uint8)
        self.values[1:3, 2:5, 1:4] = 1
        self.values[5, 9, 7] = 3
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def read(self, **options):
        """Write the label map, read it as a node, and return the node."""
        from SemiSupSegLib.review.seg_nrrd import write_seg_nrrd

        path = Path(self.folder.name) / "a.seg.nrrd"
        write_seg_nrrd(path, self.values, self.grid, self.task, **options)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
        storage.SetFileName(str(path))
        self.assertEqual(storage.ReadData(node), 1)
        return node

    def segments(self, node):
        """Return the segments with their ids."""
        segmentation = node.GetSegmentation()
        return {
            segmentation.GetNthSegmentID(number): segmentation.GetNthSegment(number)
            for number in range(segmentation.GetNumberOfSegments())
        }

    def test_segments_have_names_colours_values_and_terms(self):
        found = self.segments(self.read(status="completed"))

        self.assertEqual(list(found), ["Segment_1", "Segment_2", "Segment_4"])
        for segment, one in zip(found.values(), self.task.classes, strict=True):
            self.assertEqual(segment.GetName(), one.name)
            self.assertEqual(segment.GetLabelValue(), one.values[0])
            for ours, theirs in zip(segment.GetColor(), one.color, strict=True):
                self.assertAlmostEqual(ours, theirs / 255, places=5)
            terms, status = vtk.mutable(""), vtk.mutable("")
            segment.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), terms)
            segment.GetTag("Segmentation.Status", status)
            self.assertEqual(str(status), "completed")
            for kind in ("category", "type", "anatomy"):
                code = one.code[kind]
                self.assertIn(
                    "^".join((code["scheme"], code["value"], code["meaning"])), str(terms)
                )

    def test_voxels_lie_where_they_lay(self):
        node = self.read()

        for index, segment_id in enumerate(self.segments(node), start=1):
            # The segment alone: other segments share its voxels in the file.
            image = slicer.vtkOrientedImageData()
            node.GetBinaryLabelmapRepresentation(segment_id, image)
            matrix = vtk.vtkMatrix4x4()
            image.GetImageToWorldMatrix(matrix)
            found = set()
            extent = image.GetExtent()
            for z in range(extent[4], extent[5] + 1):
                for y in range(extent[2], extent[3] + 1):
                    for x in range(extent[0], extent[1] + 1):
                        if image.GetScalarComponentAsDouble(x, y, z, 0):
                            place = matrix.MultiplyPoint((x, y, z, 1))
                            found.add(tuple(round(value, 3) for value in place[:3]))
            self.assertEqual(found, self._places(index))

    def test_the_reference_grid_comes_back(self):
        text = self.read().GetSegmentation().GetConversionParameter("Reference image geometry")

        image = slicer.vtkOrientedImageData()
        slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, image, False)
        self.assertEqual(image.GetExtent(), (0, 7, 0, 9, 0, 5))
        for ours, theirs in zip(image.GetSpacing(), self.grid.spacing, strict=True):
            self.assertAlmostEqual(ours, theirs)
        for ours, theirs in zip(image.GetOrigin(), (31.5, -22.25, 40.0), strict=True):
            self.assertAlmostEqual(ours, theirs)

    def _places(self, index):
        """Return where the voxels of a class lie, RAS in mm, from the grid's definition."""
        axes = np.reshape(DIRECTION, (3, 3)) * np.asarray(self.grid.spacing)
        found = set()
        for z, y, x in np.argwhere(self.values == index):
            lps = np.asarray(self.grid.origin) + axes @ (x, y, z)
            ras = (-lps[0], -lps[1], lps[2])
            found.add(tuple(round(float(value), 3) for value in ras))
        return found


if __name__ == "__main__":
    unittest.main()
