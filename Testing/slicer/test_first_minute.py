"""From an empty scene to a result with its doubt: the made-up case."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import qt
import slicer
import vtk

sys.path.insert(0, str(Path(__file__).resolve().parent))
from semisupseg_testing import PanelTest, volume


class FirstMinute(PanelTest):
    """What a new user does first."""

    def test_a_made_up_case_is_segmented_with_three_clicks(self):
        self.try_it()

        self.assertEqual(
            {name: box.currentNode().GetName() for name, box in self.segment.channel_boxes.items()},
            {name: f"Phantom_0032_{name}" for name in ("t1", "t1ce", "t2", "flair")},
        )
        self.assertIn("t1ce", self.segment.channel_boxes["t1ce"].toolTip)
        self.apply()

        self.assertIn("Done", self.message)
        result = self.state.result
        self.assertEqual(self._names(result), ["necrosis", "edema", "enhancing"])
        self._check_geometry(result)
        self._check_file(result)
        self._check_terms(result)
        self._check_table(result)
        self._check_hierarchy(result)
        self.assertEqual(self.state.overlay, "contours")
        for name in ("necrosis", "edema", "enhancing"):
            self.assertIn(name, self.segment.results.classes.text)
        self.assertNotIn("Not judged", "".join(self.segment.segmenting._result.content["notes"]))

    def test_trying_it_never_takes_a_patients_volumes(self):
        voxels = np.zeros((4, 5, 6), np.int16)
        for channel in ("t1", "t1ce", "t2", "flair"):
            volume(f"Patient_{channel}", voxels)
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        dated = hierarchy.GetItemByDataNode(slicer.util.getNode("Patient_t2"))
        hierarchy.SetItemAttribute(dated, "DICOM.SeriesDate", "20261122")

        self.try_it()

        names = [box.currentNode().GetName() for box in self.segment.channel_boxes.values()]
        self.assertEqual([name.partition("_")[0] for name in names], ["Phantom"] * 4)
        self.assertIn("not for patients", self.segment.model_line.text)

    def test_a_second_run_replaces_the_first_and_leaves_no_stray_nodes(self):
        self.try_it()
        self.apply()
        before = self._nodes()

        self.apply()

        self.assertEqual(self._nodes(), before)
        self.assertEqual(self.asked, [])

    def test_the_forecast_tells_of_the_workers_start_until_it_has_started(self):
        self.try_it()
        self.apply()
        told = self.segment.estimate.text
        self.segment._jobs._runner.give_up_memory()
        self.segment.update()
        told_without = self.segment.estimate.text

        self.assertTrue(told.endswith("as the last such case here."), told)
        self.assertEqual(told_without, told + " The worker's start comes on top: some seconds.")

    def test_a_whole_head_and_a_case_unlike_the_training_data_are_told(self):
        self.try_it()
        draw = np.random.default_rng(0)
        for channel in ("t1", "t1ce", "t2", "flair"):
            node = slicer.util.getNode(f"Phantom_0032_{channel}")
            voxels = slicer.util.arrayFromVolume(node)
            head = np.where(voxels > 0, 0.2 * voxels + 3000, draw.normal(1500, 800, voxels.shape))
            slicer.util.updateVolumeFromArray(node, head.astype(np.float32))

        self.apply()

        self.assertIn("unlike the cases", self.message)
        self.assertIn("expects the brain alone", self.message)
        self.assertIn("Extract the brain first", self.message)
        self.assertIn("less sure of this case", self.message)
        self.assertIsNotNone(self.state.result)

    def test_what_is_told_of_a_volume_calls_it_by_its_name(self):
        self.try_it()
        slicer.util.getNode("Phantom_0032_t2").SetSpacing(2, 2, 2)
        self.apply()

        self.assertIn("Phantom_0032_t2 lies on another grid", self.message)
        self.assertNotIn(".nrrd", self.message)
        voxels = slicer.util.arrayFromVolume(slicer.util.getNode("Phantom_0032_flair"))
        broken = voxels.astype(np.float32)
        broken[20, 20, 20] = np.nan
        slicer.util.updateVolumeFromArray(slicer.util.getNode("Phantom_0032_flair"), broken)
        self.apply()

        self.assertIn("Phantom_0032_flair has voxels that are not numbers", self.message)
        self.assertNotIn(str(self.home), self.message)

    def _check_geometry(self, result):
        reference = slicer.util.getNode("Phantom_0032_t1")
        wanted = _matrix(reference)
        for role in ("uncertainty", "confidence", "agreement"):
            overlay = result.GetNodeReference("SemiSupSeg." + role)
            self.assertLess(np.abs(_matrix(overlay) - wanted).max(), 1e-4, role)
            self.assertEqual(
                overlay.GetImageData().GetDimensions(), reference.GetImageData().GetDimensions()
            )
            values = slicer.util.arrayFromVolume(overlay)
            self.assertGreaterEqual(values.min(), 0)
            self.assertLessEqual(values.max(), 1)
            self.assertGreater(values.std(), 0, role)

    def _check_file(self, result):
        case = result.GetAttribute("SemiSupSeg.result")
        saved = slicer.util.loadVolume(
            str(self.home / "results" / case / f"{case}_label.nii.gz"), {"show": False}
        )
        written = slicer.util.arrayFromVolume(saved)
        reference = slicer.util.getNode("Phantom_0032_t1")
        self.assertLess(np.abs(_matrix(saved) - _matrix(reference)).max(), 1e-3)
        for name, value in (("necrosis", 1), ("edema", 2), ("enhancing", 4)):
            shown = slicer.util.arrayFromSegmentBinaryLabelmap(result, name, reference)
            np.testing.assert_array_equal(shown > 0, written == value)
        self.assertGreater((written == 2).sum(), 100)

    def _check_terms(self, result):
        tag = vtk.reference("")
        segment = result.GetSegmentation().GetSegment("edema")
        segment.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), tag)
        self.assertEqual(len(str(tag).split("~")), 7)
        self.assertIn("SCT^79654002^Edema", str(tag))
        np.testing.assert_allclose(segment.GetColor(), (0, 158 / 255, 115 / 255), atol=1e-6)

    def _check_table(self, result):
        table = result.GetNodeReference("SemiSupSeg.table")
        self.assertEqual(table.GetNumberOfRows(), 6)
        view = self.segment.results.table_view.model()
        titles = [view.headerData(column, qt.Qt.Horizontal) for column in range(2)]
        self.assertEqual((titles, view.rowCount()), (["Name", "mL"], 6))
        names = [table.GetCellText(row, 0) for row in range(6)]
        self.assertEqual(names, ["necrosis", "edema", "enhancing", "WT", "TC", "ET"])
        self.assertIn("TC = necrosis + enhancing", self.segment.results.regions.text)
        reference = slicer.util.getNode("Phantom_0032_t1")
        voxel_ml = np.prod(reference.GetSpacing()) / 1000
        shown = slicer.util.arrayFromSegmentBinaryLabelmap(result, "edema", reference)
        self.assertAlmostEqual(float(table.GetCellText(1, 1)), shown.sum() * voxel_ml, places=1)
        text = self.segment.results._table_text("\t").splitlines()
        self.assertEqual(len(text), 7)
        self.assertTrue(text[2].startswith("edema\t"))
        self.assertNotIn("nan", "".join(text))

    def _check_hierarchy(self, result):
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(result))
        self.assertEqual(hierarchy.GetItemName(folder), "SemiSupSeg - Phantom_0032_t1")
        for role in ("uncertainty", "confidence", "agreement", "pseudo_label", "sure", "table"):
            item = hierarchy.GetItemByDataNode(result.GetNodeReference("SemiSupSeg." + role))
            self.assertEqual(hierarchy.GetItemParent(item), folder, role)

    def _names(self, segmentation):
        content = segmentation.GetSegmentation()
        return [
            content.GetNthSegment(index).GetName() for index in range(content.GetNumberOfSegments())
        ]

    def _nodes(self):
        collection = slicer.mrmlScene.GetNodes()
        return sorted(
            collection.GetItemAsObject(index).GetClassName()
            for index in range(collection.GetNumberOfItems())
        )


def _matrix(node):
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)
