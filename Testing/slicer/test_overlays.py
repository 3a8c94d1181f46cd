"""Each overlay shows what it says, and switching off puts back what was ours only."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import slicer

sys.path.insert(0, str(Path(__file__).resolve().parent))
from semisupseg_testing import PanelTest, volume


class OverlaysTest(PanelTest):
    """On one result of the made-up case."""

    def setUp(self):
        super().setUp()
        self.need_views()
        self.try_it()
        self.apply()
        self.result = self.state.result
        self.show("off")

    def show(self, name):
        """Choose an overlay as a user does."""
        box = self.segment.results.overlay_box
        box.setCurrentIndex(box.findData(name))
        self.assertEqual(self.segment.results.overlays.shown, name)

    def composites(self):
        """Return the views' layers."""
        return slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")

    def node(self, role):
        """Return a map's node."""
        return self.result.GetNodeReference("SemiSupSeg." + role)

    def settings(self):
        """Return all that overlays may touch."""
        return [
            *(
                (
                    one.GetBackgroundVolumeID(),
                    one.GetForegroundVolumeID(),
                    one.GetForegroundOpacity(),
                    one.GetLabelVolumeID(),
                )
                for one in self.composites()
            ),
            *(
                (
                    one.GetID(),
                    one.GetVisibility(),
                    one.GetVisibility2D(),
                    one.GetVisibility2DFill(),
                    one.GetVisibility2DOutline(),
                )
                for one in (self.result.GetDisplayNode(),)
            ),
        ]

    def test_every_overlay_can_be_taken_back(self):
        before = self.settings()
        for name in (
            "contours",
            "pseudo_label",
            "uncertainty",
            "confidence",
            "agreement",
            "comparison",
        ):
            with self.subTest(name):
                self.show(name)
                self.assertNotEqual(self.settings(), before)
                self.show("off")
                self.assertEqual(self.settings(), before)

    def test_a_map_is_the_foreground_with_a_hard_threshold(self):
        self.show("uncertainty")

        display = self.node("uncertainty").GetDisplayNode()
        for composite in self.composites():
            self.assertEqual(composite.GetForegroundVolumeID(), self.node("uncertainty").GetID())
            self.assertAlmostEqual(composite.GetForegroundOpacity(), 0.6)
        self.assertTrue(display.GetApplyThreshold())
        self.assertAlmostEqual(display.GetLowerThreshold(), 0.2)
        self.assertIn("0.20 or more", self.segment.results.overlay_meaning.text)
        self.segment.results.threshold_slider.value = 0.5
        self.assertIn("0.50 or more", self.segment.results.overlay_meaning.text)
        self.assertAlmostEqual(display.GetLowerThreshold(), 0.5)
        self.show("confidence")
        self.assertAlmostEqual(self.node("confidence").GetDisplayNode().GetUpperThreshold(), 0.8)

    def test_trust_is_offered_for_a_stage_s_case_alone(self):
        box = self.segment.results.overlay_box
        item = box.model().item(box.findData("trust"))

        self.assertFalse(item.isEnabled())
        self.assertIn("training's stage", item.toolTip())

    def test_what_the_user_has_changed_since_stays(self):
        other = volume("other", slicer.util.arrayFromVolume(self.node("uncertainty")))
        self.show("uncertainty")
        composite = self.composites()[0]
        composite.SetForegroundVolumeID(other.GetID())

        self.show("off")

        self.assertEqual(composite.GetForegroundVolumeID(), other.GetID())
        self.assertTrue(self.result.GetDisplayNode().GetVisibility2DFill())

    def test_contours_are_two_kinds_of_lines(self):
        self.show("contours")

        widths = {}
        for role in ("sure", "possible"):
            display = self.node(role).GetDisplayNode()
            self.assertTrue(display.GetVisibility())
            self.assertFalse(display.GetVisibility2DFill())
            widths[role] = display.GetSliceIntersectionThickness()
        self.assertGreater(widths["sure"], widths["possible"])
        for name in ("necrosis", "edema", "enhancing"):
            sure = self.inside("sure", name)
            possible = self.inside("possible", name)
            self.assertGreater(possible.sum(), 0)
            self.assertTrue((sure <= possible).all(), name)

    def inside(self, role, name):
        """Return where a segment of a map is."""
        reference = self.result.GetNodeReference("SemiSupSeg.reference")
        return slicer.util.arrayFromSegmentBinaryLabelmap(self.node(role), name, reference) > 0

    def test_the_key_goes_round_off_contours_and_the_last_map(self):
        shown = []
        self.show("agreement")
        for _ in range(4):
            self.segment.results.next_overlay()
            shown.append(self.segment.results.overlays.shown)

        self.assertEqual(shown, ["off", "contours", "agreement", "off"])

    def test_an_overlay_without_its_map_says_why(self):
        slicer.mrmlScene.RemoveNode(self.node("comparison"))
        self.segment.results.update()
        box = self.segment.results.overlay_box
        self.assertFalse(box.model().item(box.findData("comparison")).isEnabled())

        box.setCurrentIndex(box.findData("comparison"))

        self.assertEqual(self.segment.results.overlays.shown, "off")
        self.assertIn("no such map", self.segment.results.overlay_meaning.text)

    def test_teacher_and_student_stand_side_by_side_and_the_layout_comes_back(self):
        manager = self.need_layout()
        before = manager.layout

        self.show("teacher_student")

        self.assertNotEqual(manager.layout, before)
        views = [
            node.GetDisplayNode().GetViewNodeIDs()
            for node in (self.node("pseudo_label"), self.result)
        ]
        self.assertEqual([len(one) for one in views], [1, 1])
        self.assertNotEqual(views[0], views[1])
        self.show("off")
        self.assertEqual(manager.layout, before)
        self.assertEqual(len(self.result.GetDisplayNode().GetViewNodeIDs()), 0)

    def test_a_map_can_be_drawn_near_the_result_only_and_itself_stays_whole(self):
        whole = slicer.util.arrayFromVolume(self.node("uncertainty")).copy()
        distance = slicer.util.arrayFromVolume(self.node("distance"))
        result = np.zeros(distance.shape, bool)
        for name in ("necrosis", "edema", "enhancing"):
            reference = self.result.GetNodeReference("SemiSupSeg.reference")
            shown = slicer.util.arrayFromSegmentBinaryLabelmap(self.result, name, reference)
            result |= shown > 0
        np.testing.assert_array_equal(distance == 0, result)

        self.segment.results.near_slider.value = 5
        self.show("uncertainty")

        drawn = slicer.mrmlScene.GetNodeByID(self.composites()[0].GetForegroundVolumeID())
        values = slicer.util.arrayFromVolume(drawn)
        np.testing.assert_array_equal(values[distance <= 5], whole[distance <= 5])
        self.assertTrue((values[distance > 5] < 0).all())
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(self.node("uncertainty")), whole)
        self.segment.results.near_slider.value = 0
        self.assertEqual(
            self.composites()[0].GetForegroundVolumeID(), self.node("uncertainty").GetID()
        )

    def test_contours_of_another_result_take_the_place_of_the_first_ones(self):
        first = self.result
        self.state.output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "second")
        self.segment.update()
        self.show("contours")
        sure = self.node("sure").GetDisplayNode()
        self.assertTrue(sure.GetVisibility())

        self.apply()

        self.assertIsNot(self.state.result, first)
        self.assertFalse(sure.GetVisibility())
        self.assertTrue(first.GetDisplayNode().GetVisibility2D())

    def test_other_modules_find_the_result_itself_shown(self):
        self.show("contours")
        self.assertFalse(self.result.GetDisplayNode().GetVisibility2D())

        self.widget.exit()
        self.assertTrue(self.result.GetDisplayNode().GetVisibility2D())

        self.widget.enter()
        self.assertFalse(self.result.GetDisplayNode().GetVisibility2D())

    def test_a_view_that_comes_with_a_new_layout_shows_the_map(self):
        manager = self.need_layout()
        known = len(self.composites())
        self.show("uncertainty")
        self.addCleanup(manager.setLayout, manager.layout)

        manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutThreeOverThreeView)

        self.assertGreater(len(self.composites()), known)
        wanted = {self.node("uncertainty").GetID()}
        self.wait(
            lambda: {one.GetForegroundVolumeID() for one in self.composites()} == wanted,
            "the map in every view",
        )
        self.show("off")
        self.assertEqual({one.GetForegroundVolumeID() for one in self.composites()}, {None})

    def test_display_nodes_that_were_removed_are_made_again(self):
        legends = slicer.modules.colors.logic()
        for name, roles in (
            ("uncertainty", ("uncertainty",)),
            ("contours", ("sure", "possible")),
            ("pseudo_label", ("pseudo_label",)),
        ):
            with self.subTest(name):
                self.show(name)
                for node in (self.result, *map(self.node, roles)):
                    slicer.mrmlScene.RemoveNode(node.GetDisplayNode())

                self.show("off")
                self.show(name)

                for node in map(self.node, roles):
                    self.assertTrue(node.GetDisplayNode().GetVisibility())
        display = self.node("uncertainty").GetDisplayNode()
        self.assertEqual(display.GetColorNode().GetName(), "SemiSupSeg uncertainty")
        self.assertEqual((display.GetWindowLevelMin(), display.GetWindowLevelMax()), (0, 1))
        self.assertIsNotNone(legends.GetColorLegendDisplayNode(self.node("uncertainty")))
        self.widget.exit()
        self.assertTrue(self.result.GetDisplayNode().GetVisibility2D())

    def test_an_earlier_result_is_chosen_with_its_maps_its_table_and_its_images(self):
        first, own = self.result, self.node("uncertainty")
        first_table = self.node("table")
        # Another patient, who looks the same.
        for box in self.segment.channel_boxes.values():
            former = box.currentNode()
            other = volume("other " + former.GetName(), slicer.util.arrayFromVolume(former))
            box.setCurrentNode(other)
        self.assertIsNone(self.state.output)
        self.apply()
        second = self.state.result
        self.assertIsNot(second, first)
        self.show("uncertainty")
        box = self.segment.results.result_box
        self.assertEqual(box.count, 2)
        self.assertEqual(box.currentData, second.GetID())

        box.setCurrentIndex(box.findData(first.GetID()))

        self.assertIs(self.state.result, first)
        self.assertIs(self.segment.results.table_view.mrmlTableNode(), first_table)
        reference = first.GetNodeReference("SemiSupSeg.reference").GetID()
        for composite in self.composites():
            self.assertEqual(composite.GetForegroundVolumeID(), own.GetID())
            self.assertEqual(composite.GetBackgroundVolumeID(), reference)
        self.assertTrue(second.GetDisplayNode().GetVisibility2DFill())
        slicer.mrmlScene.RemoveNode(first)
        self.wait(lambda: box.count == 1, "the list of results")
        self.assertFalse(self.segment.results.widget.isHidden())
        self.assertTrue(self.segment.results.details.isHidden())

        box.setCurrentIndex(0)

        self.assertIs(self.state.result, second)
        self.assertFalse(self.segment.results.details.isHidden())
