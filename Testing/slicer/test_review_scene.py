"""What a review does to views and segments, and what it makes of what a user does to them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import slicer
import vtk

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from semisupseg_testing import PanelTest, segment_voxels, volume

from Testing.data import make_review_folder


class ReviewSceneTest(PanelTest):
    """A made-up result from a folder."""

    def setUp(self):
        super().setUp()
        self.need_worker()
        self.review = self.panel.review
        self.review.reviewer_box.text = "ann"
        self.result = self.make_result(self.folder / "out")

    def make_result(self, out, inputs=None):
        """Write OUT/p1, and return it."""
        regions = make_review_folder.the_regions()
        result = make_review_folder.make_result(out, regions=regions, inputs=inputs)
        content = json.loads((result / "case.json").read_text(encoding="utf-8"))
        content["task"] = make_review_folder.the_task().to_json()
        (result / "case.json").write_text(json.dumps(content), encoding="utf-8")
        return result

    def open(self):
        """Open the result, and return its session."""
        self.review.open_folder(self.result)
        self.wait(lambda: self.review.opening is None, "the result")
        self.assertIsNotNone(self.session, self.review.message.text)
        return self.session

    @property
    def session(self):
        """The open review."""
        return self.review.session

    def shown(self):
        """Return the label map that the copy in the scene shows."""
        found = np.zeros(self.session.label.shape, np.uint8)
        for value, name in enumerate(self.session.record.classes, start=1):
            if self.session.node.GetSegmentation().GetSegment(name) is not None:
                found[segment_voxels(self.session, name)] = value
        return found


class ViewsTest(ReviewSceneTest):
    """Where slice and 3D views look."""

    def setUp(self):
        super().setUp()
        self.camera = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLCameraNode")
        self.camera.SetFocalPoint(1, 2, 3)
        self.camera.SetPosition(1, 302, 3)
        self.camera.SetViewUp(0, 0, 1)
        self.need_views()
        self.slices = slicer.util.getNodesByClass("vtkMRMLSliceNode")
        self.slices[0].SetXYZOrigin(12, -7, 0)
        self.slices[0].SetFieldOfView(111, 77, 1)

    def looks(self):
        """Return where each view looks: matrix, how far it is dragged, its size; the camera."""
        found = []
        for node in self.slices:
            matrix = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS()).tolist()
            found.append((matrix, node.GetXYZOrigin(), node.GetFieldOfView()))
        camera = self.camera
        return [*found, (camera.GetFocalPoint(), camera.GetPosition(), camera.GetViewUp())]

    def test_all_views_are_centred_on_the_peak(self):
        self.open()

        for number in (2, 1):
            self.review.go_to(number)
            peak = self.session.region(number).peak_ras
            for node in self.slices:
                matrix = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
                np.testing.assert_allclose(matrix[:3, 3], peak, atol=1e-4)
                self.assertEqual(node.GetXYZOrigin(), (0.0, 0.0, 0.0))
            np.testing.assert_allclose(self.camera.GetFocalPoint(), peak, atol=1e-4)
            # From where it was looked at before: the same direction, the same distance.
            away = np.subtract(self.camera.GetPosition(), self.camera.GetFocalPoint())
            np.testing.assert_allclose(away, (0, 300, 0), atol=1e-6)

    def test_back_shows_all_views_as_they_were(self):
        before = self.looks()
        self.open()
        fields = [node.GetFieldOfView() for node in self.slices]
        # The loaded images are fitted into the views; that is before the first region.
        self.review.go_back()
        self.assertFalse(self.review.back_button.enabled)
        start = self.looks()
        self.review.go_to(2)
        self.review.go_to(1)
        self.camera.SetViewUp(1, 0, 0)
        self.assertNotEqual(self.looks(), start)

        self.assertTrue(self.review.back_button.enabled)
        self.review.back_button.click()

        self.assertEqual(self.looks(), start)
        self.assertEqual([node.GetFieldOfView() for node in self.slices], fields)
        self.assertEqual(self.looks()[-1], before[-1])

    def test_a_view_that_the_user_has_moved_stays_there_when_the_review_is_closed(self):
        self.open()
        self.review.go_back()
        start = self.looks()
        self.review.go_to(1)
        moved = self.slices[1]
        moved.SetSliceOffset(moved.GetSliceOffset() + 4.5)
        place = slicer.util.arrayFromVTKMatrix(moved.GetSliceToRAS()).tolist()

        self.review.close()

        self.assertEqual(slicer.util.arrayFromVTKMatrix(moved.GetSliceToRAS()).tolist(), place)
        self.assertEqual(self.looks()[0], start[0])
        self.assertEqual(self.looks()[-1], start[-1])

    def test_marker_and_outline_are_where_the_region_is(self):
        session = self.open()
        self.review.go_to(2)
        region = session.region(2)

        marker = slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")[0]
        self.assertEqual(marker.GetNumberOfControlPoints(), 1)
        place = [0.0, 0.0, 0.0]
        marker.GetNthControlPointPositionWorld(0, place)
        np.testing.assert_allclose(place, region.peak_ras, atol=1e-4)
        outline = self.review.pointer._outline
        drawn = slicer.util.arrayFromSegmentBinaryLabelmap(outline, "region", session.reference)
        np.testing.assert_array_equal(drawn > 0, session.regions_map == 2)


class LeavingTest(ReviewSceneTest):
    """What is left in the scene after a review that did not come about."""

    def setUp(self):
        super().setUp()
        self.need_views()
        self.shown_before = volume("shown before", np.zeros((3, 4, 5), np.float32))
        slicer.util.setSliceViewerLayers(background=self.shown_before)

    def displayed(self):
        """Return the names of all volumes and segmentations."""
        kinds = ("vtkMRMLScalarVolumeNode", "vtkMRMLSegmentationNode")
        return [node.GetName() for kind in kinds for node in slicer.util.getNodesByClass(kind)]

    def backgrounds(self):
        """Return what the slice views show."""
        views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
        return {node.GetBackgroundVolumeID() for node in views}

    def begin_anew_without_images(self):
        """Open the result from its folder, and begin it anew at once."""
        self.open()
        self.assertNotIn(self.shown_before.GetID(), self.backgrounds())
        self.review.begin_anew()
        self.assertIsNotNone(self.review.opening)

    def test_a_review_that_is_closed_while_it_is_begun_anew_leaves_nothing(self):
        self.begin_anew_without_images()

        self.review.close()

        self.assertEqual(self.displayed(), ["shown before"])
        self.assertEqual(self.backgrounds(), {self.shown_before.GetID()})

    def test_a_review_that_cannot_be_begun_anew_leaves_nothing(self):
        self.open()
        (self.result / "p1_regions.nii.gz").unlink()

        self.review.begin_anew()
        self.wait(lambda: self.review.opening is None, "the refusal")

        self.assertIsNone(self.session)
        self.assertIn("p1_regions.nii.gz", self.review.message.text)
        self.assertEqual(self.displayed(), ["shown before"])
        self.assertEqual(self.backgrounds(), {self.shown_before.GetID()})

    def test_a_result_that_is_removed_while_it_is_opened_is_told_in_words(self):
        session = self.open()
        result = session.result
        self.review.begin_anew()
        slicer.mrmlScene.RemoveNode(result)
        self.wait(lambda: self.review.opening is None, "the refusal")

        self.assertIn("was removed from the scene", self.review.message.text)

    def a_scene_with_the_result(self):
        """Open the result, and keep its nodes as a scene does that was saved and loaded."""
        result = self.open().result
        self.review._loaded = []
        self.review.close()
        self.assertTrue(slicer.mrmlScene.IsNodePresent(result))
        return result

    def test_another_patients_case_of_the_same_name_is_not_shown_with_these_images(self):
        self.a_scene_with_the_result()
        other = self.make_result(self.folder / "other", inputs={"t1": "ef" * 32})
        self.assertEqual(other.name, self.result.name)

        self.review.open_folder(other)
        self.wait(lambda: self.review.opening is None, "the refusal")

        self.assertIsNone(self.session)
        self.assertIn("of other images", self.review.message.text)

    def test_a_result_in_the_scene_is_reviewed_there_also_from_a_copy_of_its_folder(self):
        result = self.a_scene_with_the_result()
        shutil.copytree(self.result, self.folder / "copy" / self.result.name)

        self.review.open_folder(self.folder / "copy" / self.result.name)
        self.wait(lambda: self.review.opening is None, "the result")

        self.assertIsNotNone(self.session, self.review.message.text)
        self.assertIs(self.session.result, result)

    def test_images_that_are_not_there_are_named(self):
        self.open()

        self.assertIn("Without these images", self.review.message.text)
        self.assertIn(": t1.", self.review.message.text)
        self.assertIn("no image", self.session.reference.GetName())

    def test_a_status_is_readable_although_its_row_was_hidden_when_it_was_given(self):
        self.open()
        table, box = self.review.regions.table, self.review.regions.status_box
        box.setCurrentIndex(box.findData("fixed"))
        narrow = table.columnWidth(2)

        self.session.decide(1, "relabelled")
        box.setCurrentIndex(0)

        self.assertGreater(table.columnWidth(2), narrow)
        table.resizeColumnToContents(2)
        widest = table.columnWidth(2)
        box.setCurrentIndex(box.findData("relabelled"))
        box.setCurrentIndex(0)
        self.assertEqual(table.columnWidth(2), widest)


class SegmentsTest(ReviewSceneTest):
    """What a user does to the copy's segments in other modules."""

    def add_segment(self, name, inside):
        """Add a segment as a user does in the module Segment Editor; return its id."""
        node = self.session.node
        identity = node.GetSegmentation().AddEmptySegment("", name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            inside.astype(np.uint8), node, identity, self.session.reference
        )
        return identity

    def settle(self):
        """Wait until what was drawn is on the disk."""
        self.assertTrue(self.session.has_unsaved_strokes)
        self.wait(lambda: not self.session.has_unsaved_strokes, "the strokes on the disk")

    def test_a_removed_segment_is_an_edit_and_undo_brings_it_back(self):
        session = self.open()
        before = session.label.copy()
        self.assertEqual(set(np.unique(before)), {0, 1, 2, 3})

        session.node.GetSegmentation().RemoveSegment("edema")
        self.settle()

        expected = np.where(before == 2, 0, before)
        np.testing.assert_array_equal(session.label, expected)
        self.assertIn("edema was removed", self.review.message.text)
        lines = session.record.path.read_text(encoding="utf-8").splitlines()
        self.assertEqual(json.loads(lines[-1])["kind"], "edit")
        self.review.undo()
        np.testing.assert_array_equal(session.label, before)
        np.testing.assert_array_equal(self.shown(), before)

    def test_the_effort_is_kept_when_the_scene_is_closed(self):
        session = self.open()
        record = session.record
        session._active, session._strokes = 12.0, 3

        slicer.mrmlScene.Clear(0)

        self.assertEqual(record.effort.active_seconds, 12.0)
        self.assertEqual(record.effort.strokes, 3)

    def test_the_effort_of_each_minute_is_kept_while_the_review_goes_on(self):
        session = self.open()
        session._active = 59.0
        session.decide(1, "confirmed")
        before = session.record.effort.active_seconds
        session._active = 60.0

        session.decide(2, "confirmed")

        self.assertEqual(before, 0)
        self.assertGreaterEqual(session.record.effort.active_seconds, 60.0)

    def test_a_segment_that_the_user_adds_outlives_the_review(self):
        session = self.open()
        before = session.label.copy()
        inside = np.zeros(before.shape, bool)
        inside[1:3, 7:9, 0:2] = True
        self.assertFalse(before[inside].any())

        self.add_segment("Vessel", inside)
        self.settle()
        self.assertIn("Vessel", self.review.message.text)
        reference = session.reference
        kept = session._own.node
        self.assertTrue(kept.GetSaveWithScene())
        self.assertFalse(kept.GetDisplayNode().GetVisibility())
        drawn = self.voxels_of(kept, reference)
        np.testing.assert_array_equal(drawn, inside)
        np.testing.assert_array_equal(session.label, before)
        self.review.close()

        self.assertTrue(slicer.mrmlScene.IsNodePresent(kept))
        self.assertTrue(kept.GetDisplayNode().GetVisibility())
        self.assertIn(kept.GetName(), self.review.message.text)
        self.assertEqual(kept.GetSegmentation().GetNumberOfSegments(), 1)
        self.assertEqual(kept.GetSegmentation().GetNthSegment(0).GetName(), "Vessel")

    def voxels_of(self, node, reference):
        """Return where the first segment of a node is."""
        identity = node.GetSegmentation().GetNthSegmentID(0)
        return slicer.util.arrayFromSegmentBinaryLabelmap(node, identity, reference) > 0

    def test_what_is_drawn_on_in_an_added_segment_is_kept_too_until_it_is_removed(self):
        session = self.open()
        inside = np.zeros(session.label.shape, bool)
        inside[0, 5:8, 2:4] = True
        identity = self.add_segment("Vessel", inside)
        self.settle()
        inside[5, 3, 1] = True

        slicer.util.updateSegmentBinaryLabelmapFromArray(
            inside.astype(np.uint8), session.node, identity, session.reference
        )
        self.settle()

        kept = session._own.node
        np.testing.assert_array_equal(self.voxels_of(kept, session.reference), inside)
        session.node.GetSegmentation().RemoveSegment(identity)
        self.settle()
        self.assertEqual(kept.GetSegmentation().GetNumberOfSegments(), 0)
        np.testing.assert_array_equal(self.shown(), session.label)

    def test_what_the_copy_shows_follows_the_label_map_beyond_its_image(self):
        session = self.open()
        before = session.label.copy()
        # Region 3 lies in a corner where nothing is drawn.
        self.review.go_to(3)
        box = self.review.relabel_box
        box.setCurrentIndex(box.findData("enhancing"))
        self.review.relabel()

        expected = np.where(session.regions_map == 3, 3, before)
        np.testing.assert_array_equal(session.label, expected)
        np.testing.assert_array_equal(self.shown(), expected)
        self.review.undo()
        np.testing.assert_array_equal(self.shown(), before)

    def test_at_a_corner_of_the_image_strokes_reach_as_far_as_the_margin_and_the_image(self):
        session = self.open()
        if self.review.editor.why_not:
            self.skipTest(self.review.editor.why_not)
        before = session.label.copy()
        self.review.go_to(3)
        self.review.editor.margin_box.value = 3
        self.review.fix()
        self.review.editor._editor.setCurrentSegmentID("edema")

        # 0.75 x 1.25 x 3.5 mm: of 3 mm, four columns, two rows and no slice.
        self.stroke_everywhere()
        self.review.finish_fix()

        drawn = np.zeros(before.shape, bool)
        drawn[0:1, 0:4, 0:6] = True
        edema = 1 + session.record.classes.index("edema")
        np.testing.assert_array_equal(session.label, np.where(drawn, edema, before))
        np.testing.assert_array_equal(self.shown(), session.label)
        self.review.undo()
        self.review.undo()
        np.testing.assert_array_equal(session.label, before)

    def stroke_everywhere(self):
        """Paint the whole image with the chosen segment, as the brush does."""
        effect = self.review.editor._editor.effectByName("Paint")
        image = effect.defaultModifierLabelmap()
        image.GetPointData().GetScalars().Fill(1)
        image.Modified()
        effect.saveStateForUndo()
        effect.modifySelectedSegmentByLabelmap(image, effect.ModificationModeAdd)

    def test_overlapping_layers_are_read_as_they_lie(self):
        session = self.open()
        before = session.label.copy()
        inside = before == 3
        inside[2, 2:4, 1:3] = True
        segmentation = session.node.GetSegmentation()
        segmentation.SeparateSegmentLabelmap("enhancing")

        slicer.util.updateSegmentBinaryLabelmapFromArray(
            inside.astype(np.uint8), session.node, "enhancing", session.reference
        )
        self.settle()

        np.testing.assert_array_equal(session.label, np.where(inside, 3, before))
        self.review.undo()
        np.testing.assert_array_equal(session.label, before)
        np.testing.assert_array_equal(self.shown(), before)

    def test_a_copy_brought_onto_another_grid_is_told_and_not_lost(self):
        session = self.open()
        before = session.label.copy()
        image = (
            session.node.GetSegmentation().GetSegment("edema").GetRepresentation("Binary labelmap")
        )
        matrix = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        kept = vtk.vtkMatrix4x4()
        kept.DeepCopy(matrix)
        matrix.SetElement(0, 3, matrix.GetElement(0, 3) + 5)
        image.SetImageToWorldMatrix(matrix)
        image.Modified()
        self.wait(lambda: "another grid" in self.review.message.text, "the message")

        self.assertTrue(session.has_unsaved_strokes)
        np.testing.assert_array_equal(session.label, before)
        image.SetImageToWorldMatrix(kept)
        session.flush()
        self.assertFalse(session.has_unsaved_strokes)

    def test_the_editor_takes_no_other_segmentation_when_it_is_stopped(self):
        self.open()
        if self.review.editor.why_not:
            self.skipTest(self.review.editor.why_not)
        self.review.fix()

        self.review.finish_fix()
        self.review.pointer.clear()

        node = self.review.editor._editor.mrmlSegmentEditorNode()
        self.assertIsNone(node.GetSegmentationNode())
