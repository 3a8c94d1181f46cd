"""Which volume becomes which channel, with what reason, and what prevents Apply."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import slicer
import vtk

sys.path.insert(0, str(Path(__file__).resolve().parent))
from semisupseg_testing import PanelTest, volume

VOXELS = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
CHANNELS = ("t1", "t1ce", "t2", "flair")


class InputsTest(PanelTest):
    """With the model for made-up brains, which wants four channels."""

    def setUp(self):
        super().setUp()
        from SemiSupSegUI import demonstration

        self.state.model = str(demonstration.MODEL)
        self.segment.read_models()

    def chosen(self):
        """Return the names of the chosen volumes."""
        return {
            name: box.currentNode().GetName() if box.currentNode() else None
            for name, box in self.segment.channel_boxes.items()
        }

    def hindrance(self):
        """Return what prevents Apply."""
        self.assertFalse(self.segment.apply_button.enabled)
        return self.segment.apply_button.toolTip

    def series(self, name, description="", **levels):
        """Return a volume whose item says what DICOM would: patient, study, date."""
        node = volume(name, VOXELS)
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        patient = levels.get("patient", "A")
        study = f"{patient}/{levels.get('date', '20260101')}"
        parent = hierarchy.GetItemChildWithName(hierarchy.GetSceneItemID(), study)
        if not parent:
            parent = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), study)
            hierarchy.SetItemAttribute(parent, "DICOM.PatientID", patient)
            hierarchy.SetItemAttribute(parent, "DICOM.StudyInstanceUID", study)
            hierarchy.SetItemAttribute(parent, "DICOM.StudyDate", levels.get("date", "20260101"))
        item = hierarchy.GetItemByDataNode(node)
        hierarchy.SetItemParent(item, parent)
        hierarchy.SetItemAttribute(item, "DICOM.SeriesDescription", description)
        return node

    def test_another_order_of_the_same_voxels_is_no_other_grid(self):
        # Stored the other way round: columns as slices, and those from the end on.
        turned = np.ascontiguousarray(VOXELS.transpose(2, 1, 0)[:, :, ::-1])
        to_turned = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 3], [0, 0, 0, 1]], float)
        volume("t1", VOXELS)
        volume("t2", turned, to_turned)

        self.segment.detect()

        self.assertEqual(self.segment.notes.text, "")

    def test_half_a_voxel_is_another_grid(self):
        moved = np.eye(4)
        moved[0, 3] = 0.5
        volume("t1", VOXELS)
        volume("t2", VOXELS, moved)

        self.segment.detect()

        self.assertIn("t2 (t2) lies on another grid", self.segment.notes.text)

    def test_node_names_are_read(self):
        for name in ("AX T2 brain", "case 1 FLAIR", "T1 post", "T1w"):
            volume(name, VOXELS)

        self.segment.detect()

        self.assertEqual(
            self.chosen(),
            {"t1": "T1w", "t1ce": "T1 post", "t2": "AX T2 brain", "flair": "case 1 FLAIR"},
        )
        self.assertEqual(
            self.segment.channel_boxes["t1ce"].toolTip, 'Chosen because its name is "T1 post".'
        )
        self.assertTrue(self.segment.apply_button.enabled)

    def test_file_names_are_read_where_node_names_tell_nothing(self):
        for number, name in enumerate(("a_T1.nii.gz", "a_T1GD.nii.gz", "a_T2.nrrd", "a_FLAIR.nii")):
            storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
            storage.SetFileName(str(self.folder / name))
            node = volume(f"Volume {number}", VOXELS)
            node.SetAndObserveStorageNodeID(storage.GetID())

        self.segment.detect()

        self.assertEqual(
            self.chosen(),
            {"t1": "Volume 0", "t1ce": "Volume 1", "t2": "Volume 2", "flair": "Volume 3"},
        )
        self.assertEqual(
            self.segment.channel_boxes["t1ce"].toolTip,
            'Chosen because its file\'s name is "a_T1GD".',
        )

    def test_dicom_series_descriptions_are_read(self):
        for number, text in enumerate(("t1_mprage t1", "T1 km", "t2 tse T2", "t2 FLAIR tra"), 1):
            self.series(f"{number}: series", text)

        self.segment.detect()

        self.assertEqual(
            self.chosen(),
            {"t1": "1: series", "t1ce": "2: series", "t2": "3: series", "flair": "4: series"},
        )
        self.assertIn("DICOM series description", self.segment.channel_boxes["t2"].toolTip)

    def test_inputs_are_of_one_study_the_later_of_equals(self):
        for date in ("20250101", "20260101"):
            for channel in CHANNELS:
                self.series(f"{channel}", channel, date=date).SetName(f"{channel} {date}")
        self.series("t2 of another", "t2", patient="B")

        self.segment.detect()

        self.assertEqual(self.chosen(), {name: f"{name} 20260101" for name in CHANNELS})

    def test_missing_channels_are_named(self):
        volume("x_t1", VOXELS)
        volume("x_flair", VOXELS)

        self.segment.detect()

        self.assertIn("Choose a volume for t1ce, t2.", self.hindrance())

    def test_one_volume_in_two_channels_is_refused(self):
        nodes = {name: volume(name, VOXELS) for name in CHANNELS}
        self.segment.detect()

        self.segment.channel_boxes["t2"].setCurrentNode(nodes["t1"])

        self.assertIn("t1 is chosen for t1 and for t2", self.hindrance())

    def test_volumes_of_two_patients_are_refused(self):
        for channel in CHANNELS:
            self.series(channel, channel, patient="A")
        other = self.series("t2 of B", "t2", patient="B")
        self.segment.detect()

        self.segment.channel_boxes["t2"].setCurrentNode(other)

        self.assertIn("2 different patients", self.hindrance())

    def test_two_dates_are_asked_about(self):
        for channel in CHANNELS:
            self.series(channel, channel)
        later = self.series("later", "t2", date="20260301")
        self.segment.detect()
        self.segment.channel_boxes["t2"].setCurrentNode(later)
        self.answer = False

        self.segment.apply()

        self.assertEqual(len(self.asked), 1)
        self.assertIn("20260101, 20260301", self.asked[0])
        self.assertIsNone(self.segment.segmenting)

    def test_another_grid_is_said_before_apply(self):
        for channel in CHANNELS:
            volume(channel, VOXELS)
        slicer.util.getNode("t2").SetSpacing(1, 1, 2)

        self.segment.detect()

        self.assertIn("t2 (t2) lies on another grid", self.segment.notes.text)
        self.assertNotIn("flair", self.segment.notes.text)
        self.assertTrue(self.segment.apply_button.enabled)

    def test_a_transform_that_moves_all_channels_alike_needs_no_resampling(self):
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        matrix = vtk.vtkMatrix4x4()
        matrix.SetElement(0, 3, 12.5)
        transform.SetMatrixTransformToParent(matrix)
        for channel in CHANNELS:
            volume(channel, VOXELS).SetAndObserveTransformNodeID(transform.GetID())
        self.segment.detect()
        self.assertEqual(self.segment.notes.text, "")

        slicer.util.getNode("t2").SetAndObserveTransformNodeID(None)
        self.segment.update()

        self.assertIn("t2 (t2) lies on another grid", self.segment.notes.text)

    def test_without_a_model_apply_says_so(self):
        self.state.model = ""
        self.segment.read_models()

        self.assertIn("There is no model", self.hindrance())

    def test_inputs_are_found_when_the_module_is_shown_again(self):
        self.widget.exit()
        for channel in CHANNELS:
            volume(channel, VOXELS)

        self.widget.enter()

        self.assertEqual(self.chosen(), {name: name for name in CHANNELS})

    def test_a_renamed_volume_keeps_its_reason(self):
        for channel in CHANNELS:
            volume(channel, VOXELS)
        self.segment.detect()

        self.segment._channel_chosen("t2", slicer.util.getNode("t2"))

        self.assertIn("Chosen because", self.segment.channel_boxes["t2"].toolTip)

    def test_a_mask_with_several_values_a_voxel_is_refused(self):
        for channel in CHANNELS:
            volume(channel, VOXELS)
        self.segment.detect()
        colours = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "colours")
        image = vtk.vtkImageData()
        image.SetDimensions(6, 5, 4)
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
        colours.SetAndObserveImageData(image)

        self.segment.options.mask_box.setCurrentNode(colours)

        self.assertIn("colours has several values a voxel", self.hindrance())

    def test_a_removed_volume_is_no_longer_chosen(self):
        for channel in CHANNELS:
            volume(channel, VOXELS)
        self.segment.detect()
        self.assertTrue(self.segment.apply_button.enabled)

        slicer.mrmlScene.RemoveNode(slicer.util.getNode("flair"))
        self.wait(lambda: not self.segment.apply_button.enabled, "the panel to notice")

        self.assertIn("Choose a volume for flair", self.hindrance())

    def test_no_neighbour_takes_the_place_of_a_removed_volume(self):
        for channel in CHANNELS:
            volume(channel, VOXELS)
        self.segment.detect()
        mask_box, output_box = self.segment.options.mask_box, self.segment.output_box
        mask_box.setCurrentNode(volume("mask", VOXELS))
        outputs = [
            slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name) for name in "ab"
        ]
        output_box.setCurrentNode(outputs[0])

        for name in ("t1ce", "mask"):
            slicer.mrmlScene.RemoveNode(slicer.util.getNode(name))
        slicer.mrmlScene.RemoveNode(outputs[0])
        self.wait(lambda: not self.segment.apply_button.enabled, "the panel to notice")

        self.assertEqual(self.chosen(), {"t1": "t1", "t1ce": None, "t2": "t2", "flair": "flair"})
        self.assertIsNone(self.segment.channel_boxes["t1ce"].currentNode())
        self.assertIsNone(self.segment.options.chosen().mask)
        self.assertIsNone(self.state.output)
        self.assertIsNone(output_box.currentNode())

    def test_what_is_chosen_outlasts_the_import_of_another_scene(self):
        for channel in (*CHANNELS, "other", "mask"):
            volume(channel, VOXELS)
        self.segment.detect()
        self.segment.channel_boxes["t1ce"].setCurrentNode(slicer.util.getNode("other"))
        self.segment.options.mask_box.setCurrentNode(slicer.util.getNode("mask"))
        output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
        self.segment.output_box.setCurrentNode(output)
        before = self.chosen()
        self.assertEqual(before["t1ce"], "other")
        file = self.folder / "another.mrml"
        file.write_text("<MRML></MRML>", encoding="utf-8")

        slicer.util.loadScene(str(file))
        slicer.app.processEvents()

        self.assertEqual(self.chosen(), before)
        self.assertEqual(self.segment.channel_boxes["t1ce"].currentNode().GetName(), "other")
        self.assertEqual(self.segment.options.chosen().mask.GetName(), "mask")
        self.assertIs(self.state.output, output)
        self.assertIs(self.segment.output_box.currentNode(), output)

    def test_the_reference_is_the_tasks_first_channel_in_whatever_order_volumes_are_given(self):
        from SemiSupSegLib.errors import SemiSupSegError

        nodes = {name: volume(name, VOXELS) for name in reversed(CHANNELS)}
        model = self.state.model

        segmenting = self.widget.logic.segment(model, nodes)
        segmenting.cancel()

        self.assertEqual(list(segmenting._volumes), list(CHANNELS))
        with self.assertRaisesRegex(SemiSupSegError, "missing: t2"):
            self.widget.logic.segment(
                model, {name: nodes[name] for name in ("t1", "t1ce", "flair")}
            )
