"""The section Review: a case from its first region to its label, with a kill in the middle."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import qt
import slicer
import vtk

sys.path.insert(0, str(Path(__file__).resolve().parent))
from semisupseg_testing import PanelTest, segment_voxels

REVIEWER = "reviewer-1"


class ReviewTest(PanelTest):
    """The result of the made-up case."""

    def setUp(self):
        super().setUp()
        self.review = self.panel.review
        self.review.reviewer_box.text = REVIEWER
        self.try_it()
        self.apply()

    @property
    def session(self):
        """The open review."""
        return self.review.session

    def begin(self):
        """Press the button, and wait until the first region is shown."""
        self.review.update()
        self.assertTrue(self.review.begin_button.enabled, self.review.begin_button.toolTip)
        self.review.begin()
        self.wait(lambda: self.review.opening is None, "the result")
        self.assertIsNotNone(self.session, self.review.message.text)

    def lines(self):
        """Return what the record holds, from the disk."""
        text = self.session.record.path.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def drawn(self):
        """Return the label map that the copy in the scene shows."""
        session = self.session
        found = np.zeros(session.label.shape, np.uint8)
        for value, name in enumerate(session.record.classes, start=1):
            found[segment_voxels(session, name)] = value
        return found

    def stroke(self, voxels):
        """Paint voxels (D, H, W) with the active effect, as the brush does."""
        editor = self.review.editor._editor
        effect = editor.effectByName("Paint")
        image = effect.defaultModifierLabelmap()
        for slice_, row, column in np.argwhere(voxels):
            image.SetScalarComponentFromDouble(int(column), int(row), int(slice_), 0, 1)
        image.Modified()
        effect.saveStateForUndo()
        effect.modifySelectedSegmentByLabelmap(image, effect.ModificationModeAdd)

    def test_the_worst_region_is_shown_first(self):
        self.begin()

        errors = [one.expected_error_mm3 for one in self.session.regions]
        self.assertGreater(len(errors), 2)
        self.assertEqual(errors, sorted(errors, reverse=True))
        self.assertEqual(self.review.regions.table.currentRow(), 0)
        self.assertIn("0 of", self.review.progress.text)
        peak = self.session.regions[0].peak_ras
        for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            place = vtk.vtkMatrix4x4()
            place.DeepCopy(node.GetSliceToRAS())
            normal = [place.GetElement(row, 2) for row in range(3)]
            away = sum(
                n * (p - place.GetElement(r, 3))
                for r, (n, p) in enumerate(zip(normal, peak, strict=True))
            )
            self.assertLess(abs(away), 1e-3, node.GetName())

    def test_the_views_go_to_the_region_of_a_result_that_was_hardened_since(self):
        moved = vtk.vtkTransform()
        moved.RotateZ(20)
        moved.Translate(5, -7, 11)
        for kind in ("vtkMRMLScalarVolumeNode", "vtkMRMLSegmentationNode"):
            for node in slicer.util.getNodesByClass(kind):
                node.ApplyTransform(moved)

        self.begin()

        region = self.session.regions[0]
        marker = slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")[0]
        place = [0.0, 0.0, 0.0]
        marker.GetNthControlPointPositionWorld(0, place)
        to_voxel = vtk.vtkMatrix4x4()
        self.session.reference.GetRASToIJKMatrix(to_voxel)
        i, j, k = (round(part) for part in to_voxel.MultiplyPoint((*place, 1.0))[:3])
        self.assertEqual((k, j, i), region.peak_voxel)
        self.assertEqual(self.session.regions_map[k, j, i], region.id)

    def test_a_result_whose_confidence_was_removed_is_loaded_anew(self):
        former = self.state.result
        slicer.mrmlScene.RemoveNode(former.GetNodeReference("SemiSupSeg.confidence"))

        self.begin()

        self.assertIsNot(self.session.result, former)
        self.review.close()
        self.assertIs(self.state.result, former)

    def test_every_decision_is_on_the_disk_at_once(self):
        self.begin()
        first = self.session.regions[0].id

        self.review.decide("confirmed")

        self.assertEqual(self.lines()[-1]["status"], "confirmed")
        self.assertEqual(self.lines()[-1]["region"], first)
        self.assertEqual(self.session.status(first), "confirmed")
        self.assertNotEqual(self.review._region, first)
        self.assertIn("1 of", self.review.progress.text)
        self.review.undo()
        self.assertEqual(self.session.status(first), "")
        self.assertEqual(self.lines()[-1]["kind"], "undo")

    def test_relabelling_changes_the_regions_voxels_only(self):
        self.begin()
        region = self.session.regions[0]
        before = self.session.label.copy()
        inside = self.session.regions_map == region.id
        box = self.review.relabel_box
        box.setCurrentIndex(box.findData("background"))

        self.review.relabel()

        np.testing.assert_array_equal(self.session.label[~inside], before[~inside])
        self.assertFalse(self.session.label[inside].any())
        np.testing.assert_array_equal(self.drawn(), self.session.label)
        self.review.undo()
        np.testing.assert_array_equal(self.session.label, before)
        np.testing.assert_array_equal(self.drawn(), before)

    def test_without_a_choice_the_whole_region_becomes_its_second_class(self):
        self.begin()
        region = self.session.regions[0]
        inside = self.session.regions_map == region.id
        names = ("background", *self.session.record.classes)
        # Both sides of a border are in it.
        self.assertGreater(len(np.unique(self.session.label[inside])), 1)
        self.assertIn(region.second_class, self.review.relabel_box.currentText)

        self.review.relabel()

        found = np.unique(self.session.label[inside])
        self.assertEqual([names[value] for value in found], [region.second_class])

    def test_what_is_drawn_first_is_a_class_in_question(self):
        self.begin()
        if self.review.editor.why_not:
            self.skipTest(self.review.editor.why_not)
        editor, region = self.review.editor, self.session.regions[0]

        for pair, drawn in (
            (("background", "enhancing"), "enhancing"),
            (("edema", "background"), "edema"),
        ):
            one = replace(region, class_name=pair[0], second_class=pair[1])
            editor.start(self.session, one)
            self.assertEqual(editor._editor.currentSegmentID(), drawn)

    def test_what_was_chosen_to_relabel_one_region_is_not_meant_for_the_next(self):
        self.begin()
        box = self.review.relabel_box
        box.setCurrentIndex(box.findData("necrosis"))
        self.review.update()
        self.assertEqual(box.currentData, "necrosis")

        self.review.relabel()

        self.assertEqual(box.currentData, "")

    def test_next_and_previous_follow_the_table_as_it_is_shown(self):
        self.begin()
        table = self.review.regions.table
        ids = [one.id for one in self.session.regions]
        self.review.decide("confirmed")
        self.assertEqual(self.review._region, ids[1])

        self.review.step(-1)
        self.assertEqual(self.review._region, ids[0])
        self.review.step()
        self.assertEqual(self.review._region, ids[1])
        table.sortByColumn(0, qt.Qt.DescendingOrder)
        self.review.go_to(ids[-1])
        self.review.step()
        self.assertEqual(self.review._region, ids[-2])
        # What is decided is listed no more, and the next open one is that of the next row.
        box = self.review.regions.status_box
        box.setCurrentIndex(box.findData(""))
        self.review.decide("confirmed")
        self.assertEqual(self.review._region, [*ids, *ids][2 * len(ids) - 3])

    def test_with_a_filter_next_stays_among_what_is_listed(self):
        self.begin()
        regions = self.session.regions
        rarest = min(
            {one.class_name for one in regions},
            key=[one.class_name for one in regions].count,
        )
        listed = [one.id for one in regions if one.class_name == rarest]
        self.assertLess(len(listed), len(regions))
        box = self.review.regions.class_box
        box.setCurrentIndex(box.findData(rarest))

        for _ in range(2 * len(listed)):
            self.review.step()
            self.assertIn(self.review._region, listed)

    def begin_without_regions(self, sensitivity=0.5):
        """Begin the review of a result that lists nothing."""
        self.begin()
        folder = self.session.folder
        self.review.close()
        for path in folder.glob("review.*"):
            path.unlink()
        content = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        content["review_regions"] = []
        content["review"]["sensitivity"] = sensitivity
        (folder / "case.json").write_text(json.dumps(content), encoding="utf-8")
        self.begin()

    def test_no_more_is_advised_where_there_is_none(self):
        self.begin_without_regions(sensitivity=1.0)

        self.assertIn("that nothing is wrong.", self.review.message.text)
        self.assertNotIn("slider", self.review.message.text)

    def test_a_case_without_regions_wants_a_verdict_and_nothing_else(self):
        self.begin_without_regions()

        self.assertIn("No region is doubtful enough", self.review.message.text)
        self.assertIn('wrong: move the slider to "more".', self.review.message.text)
        words = "No region is listed. What is left is your verdict; saved"
        self.assertEqual(self.review.progress.text, words)
        self.review.case_box.give_verdict("accepted")
        self.assertTrue(self.review.progress.text.startswith("No region is listed; saved"))

    def test_the_slider_stays_where_it_was_put(self):
        self.begin()
        self.review.sensitivity_slider.value = 70

        self.review._sensitivity_chosen()
        self.wait(lambda: self.review.opening is None, "the list")

        self.assertEqual(self.review.sensitivity_slider.value, 70)

    def test_a_stroke_outside_of_the_region_does_nothing_unless_that_is_allowed(self):
        self.begin()
        if self.review.editor.why_not:
            self.skipTest(self.review.editor.why_not)
        region = self.session.regions[0]
        self.review.editor.margin_box.value = 0
        self.review.fix()
        before = self.session.label.copy()
        inside = self.session.regions_map == region.id
        value = 1 + self.session.record.classes.index("edema")
        self.review.editor._editor.setCurrentSegmentID("edema")
        everywhere = np.zeros(before.shape, bool)
        everywhere[tuple(slice(max(0, a - 3), b + 3) for a, b in region.box)] = True

        self.stroke(everywhere)
        self.wait(lambda: not self.session.has_unsaved_strokes, "the stroke on the disk")

        label = self.session.label
        self.assertTrue((label[inside] == value).all())
        np.testing.assert_array_equal(label[~inside], before[~inside])
        self.assertEqual(self.lines()[-1]["kind"], "edit")
        self.assertEqual(self.lines()[-1]["region"], region.id)
        self.review.editor.limit_box.checked = False
        self.stroke(everywhere)
        self.review.finish_fix()
        self.assertTrue((self.session.label[everywhere] == value).all())
        self.assertEqual(self.session.status(region.id), "fixed")

    def test_after_a_kill_everything_is_there_again(self):
        self.begin()
        ids = [one.id for one in self.session.regions]
        self.review.decide("confirmed")
        self.review.decide("ignored")
        self.review.relabel()
        label = self.session.label.copy()
        folder = self.session.folder
        # No goodbye: the panel is made anew over an empty scene, as after a crash.
        self.session.let_go()
        self.review.session = None
        slicer.mrmlScene.Clear(0)

        self.review.open_folder(folder)
        self.wait(lambda: self.review.opening is None, "the result")

        self.assertEqual(
            self.session.record.statuses,
            {
                ids[0]: "confirmed",
                ids[1]: "ignored",
                ids[2]: "relabelled",
            },
        )
        np.testing.assert_array_equal(self.session.label, label)
        np.testing.assert_array_equal(self.drawn(), label)
        self.assertEqual(self.review._region, ids[3] if len(ids) > 3 else ids[0])

    def test_closing_leaves_the_scene_as_it_was(self):
        from SemiSupSegUI import scene

        def names():
            nodes = slicer.mrmlScene.GetNodes()
            return sorted(
                nodes.GetItemAsObject(index).GetName() or ""
                for index in range(nodes.GetNumberOfItems())
                if nodes.GetItemAsObject(index).IsA("vtkMRMLDisplayableNode")
            )

        before = names()
        result = self.state.result
        self.assertTrue(result.GetDisplayNode().GetVisibility())
        self.begin()
        self.assertFalse(result.GetDisplayNode().GetVisibility())
        self.review.decide("confirmed")

        self.review.close()

        self.assertEqual(names(), before)
        self.assertTrue(result.GetDisplayNode().GetVisibility())
        self.assertIsNone(scene.overlay_node(result, "review"))

    def test_case_after_case_the_scene_keeps_no_display_nodes(self):
        def num_display_nodes():
            return slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLDisplayNode")

        self.begin()
        folder = self.session.folder
        self.review.close()
        self.segment.results.show("off")
        slicer.mrmlScene.Clear(0)
        numbers = []
        for _ in range(2):
            self.review.open_folder(folder)
            self.wait(lambda: self.review.opening is None, "the result")
            self.review.step()
            self.review.close()
            numbers.append(num_display_nodes())

        self.assertEqual(numbers[1], numbers[0])

    def test_undo_says_whether_it_took_back_the_comment_or_the_verdict(self):
        self.begin()
        box = self.review.case_box
        box.give_verdict("corrected")
        box.comment_edit.text = "the rim"
        box.comment_edit.modified = True
        box.keep_comment()

        self.review.undo()
        self.assertIn("the comment", self.review.message.text)
        self.assertEqual(self.session.record.verdict, "corrected")
        self.review.undo()
        self.assertIn("the verdict", self.review.message.text)
        self.assertIsNone(self.session.record.verdict)

    def test_the_scene_may_close_in_the_middle(self):
        self.begin()
        self.review.decide("confirmed")
        folder = self.session.folder

        slicer.mrmlScene.Clear(0)

        self.assertIsNone(self.session)
        record = folder / f"review.{REVIEWER}.jsonl"
        self.wait(lambda: "confirmed" in record.read_text(encoding="utf-8"), "the carrying")

    def test_the_slider_lists_others_until_something_is_decided(self):
        self.begin()
        before = sum(region.volume_mm3 for region in self.session.regions)
        self.review.sensitivity_slider.value = 100

        self.review._sensitivity_chosen()
        self.wait(lambda: self.review.opening is None, "the list")

        # Not always more in number: regions that grow may meet.
        self.assertGreater(sum(region.volume_mm3 for region in self.session.regions), before)
        self.review.decide("confirmed")
        self.assertFalse(self.review.sensitivity_slider.enabled)
        self.assertIn("decided already", self.review.sensitivity_slider.toolTip)

    def test_a_stroke_is_kept_also_where_the_label_fills_the_image(self):
        self.begin()
        if self.review.editor.why_not:
            self.skipTest(self.review.editor.why_not)
        session = self.session
        session.label[:] = 1
        session._write(tuple(slice(0, length) for length in session.label.shape))
        region = session.regions[0]
        self.review.fix()
        self.review.editor._editor.setCurrentSegmentID("edema")

        self.stroke(session.regions_map == region.id)
        self.review.finish_fix()

        edits = [line for line in self.lines() if line["kind"] == "edit"]
        self.assertEqual([line["region"] for line in edits], [region.id])
        inside = session.regions_map == region.id
        value = 1 + session.record.classes.index("edema")
        self.assertTrue((session.label[inside] == value).all())

    def test_a_result_that_is_replaced_ends_its_review(self):
        self.begin()
        self.review.decide("confirmed")
        former = self.session.folder
        volume = self.state.channel("t2")
        array = slicer.util.arrayFromVolume(volume)
        array[array > 0] += 1
        volume.Modified()
        self.apply()

        self.wait(lambda: self.session is None, "the panel to notice")

        self.begin()
        self.assertNotEqual(self.session.folder, former)
        self.assertEqual(self.session.record.statuses, {})

    def test_the_open_case_may_be_opened_again_and_what_was_shown_before_comes_back(self):
        result = self.state.result
        folder = Path(self.home) / "results" / result.GetAttribute("SemiSupSeg.result")
        slicer.mrmlScene.Clear(0)
        self.try_it()
        shown = self.need_views()[0]
        before = shown.GetBackgroundVolumeID()
        for _number in range(2):
            self.review.open_folder(folder)
            self.wait(lambda: self.review.opening is None, "the result")
            self.assertIsNotNone(self.session, self.review.message.text)
        self.review.decide("confirmed")

        self.review.close()

        self.assertEqual(shown.GetBackgroundVolumeID(), before)

    def nodes(self):
        """Return the names of the nodes that a result may bring."""
        kinds = ("vtkMRMLVolumeNode", "vtkMRMLSegmentationNode", "vtkMRMLTableNode")
        return sorted(
            node.GetName() for kind in kinds for node in slicer.util.getNodesByClass(kind)
        )

    def test_an_opening_that_is_cancelled_leaves_nothing_in_the_scene(self):
        folder = Path(self.home) / "results" / self.state.result.GetAttribute("SemiSupSeg.result")
        slicer.mrmlScene.Clear(0)
        self.try_it()
        shown = self.need_views()[0]
        before, nodes = shown.GetBackgroundVolumeID(), self.nodes()

        # While its maps come in one after the other.
        self.review.open_folder(folder)
        self.wait(lambda: len(self.nodes()) > len(nodes) + 1, "the first nodes")
        self.assertIsNotNone(self.review.opening)
        self.review.close()
        self.assertEqual(self.nodes(), nodes)
        self.assertEqual(self.review.message.text, "")

        # While it is opened again, with what it has loaded still there.
        self.review.open_folder(folder)
        self.wait(lambda: self.review.opening is None, "the result")
        self.review.begin_anew()
        self.assertIsNotNone(self.review.opening)
        self.review.close()

        self.assertEqual(self.nodes(), nodes)
        self.assertEqual(shown.GetBackgroundVolumeID(), before)

    def test_a_review_is_begun_anew_after_a_question_and_the_former_one_is_kept(self):
        self.begin()
        self.review.decide("confirmed")
        folder = self.session.folder

        self.review.begin_anew()
        self.wait(lambda: self.review.opening is None, "the result")

        self.assertIn("moved aside", self.asked[-1])
        self.assertEqual(self.session.record.statuses, {})
        former = (folder / f"review.{REVIEWER}.1.jsonl").read_text(encoding="utf-8")
        self.assertIn("confirmed", former)

    def test_what_is_not_on_the_disk_is_not_called_saved(self):
        self.begin()
        if self.review.editor.why_not:
            self.skipTest(self.review.editor.why_not)
        self.review.fix()

        self.stroke(self.session.regions_map == self.session.regions[0].id)

        self.assertTrue(self.session.has_unsaved_strokes)
        self.assertNotIn("saved", self.review.progress.text)
        self.wait(lambda: not self.session.has_unsaved_strokes, "the stroke on the disk")
        self.assertIn("saved", self.review.progress.text)

    def test_review_is_offered_as_soon_as_a_case_is_segmented(self):
        self.assertTrue(self.review.begin_button.enabled, self.review.begin_button.toolTip)

    def test_without_an_alias_the_button_says_so(self):
        self.review.reviewer_box.text = "Dr. X"
        self.review.update()

        self.assertFalse(self.review.begin_button.enabled)
        self.assertIn("alias", self.review.begin_button.toolTip)

    def test_the_table_is_filtered_and_sorted(self):
        self.begin()
        self.review.decide("confirmed")
        table, status = self.review.regions.table, self.review.regions.status_box

        status.setCurrentIndex(status.findData("confirmed"))

        shown = [row for row in range(table.rowCount) if not table.isRowHidden(row)]
        self.assertEqual(len(shown), 1)
        status.setCurrentIndex(0)
        name = self.session.regions[0].class_name
        box = self.review.regions.class_box
        box.setCurrentIndex(box.findData(name))
        shown = [row for row in range(table.rowCount) if not table.isRowHidden(row)]
        self.assertEqual(len(shown), sum(one.class_name == name for one in self.session.regions))
