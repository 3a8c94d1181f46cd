"""Scenes close, nodes vanish, people edit: nothing breaks, nothing of theirs is lost."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import slicer
import vtk

sys.path.insert(0, str(Path(__file__).resolve().parent))
from semisupseg_testing import PanelTest, run_in_workers_python

REGISTER = """
from pathlib import Path
from SemiSupSegLib.models import registry
registry.register(Path(sys.argv[1]), sys.argv[2])
"""


class SceneLifeTest(PanelTest):
    """What may happen beside and after a segmentation."""

    def until_running(self):
        """Start, and wait until the worker is at it."""
        self.need_worker()
        self.try_it()
        self.segment.apply()
        segmenting = self.segment.segmenting
        self.wait(lambda: segmenting._job is not None and segmenting._job.state.pid, "the worker")
        return segmenting

    def results_on_disk(self):
        """Return the figures of all results."""
        return list((self.home / "results").glob("*/case.json"))

    def test_a_scene_closed_during_a_job_keeps_the_result_on_the_disk(self):
        segmenting = self.until_running()

        slicer.mrmlScene.Clear(0)
        self.wait(lambda: segmenting.is_ended, "the job")

        self.assertIn("The scene was closed", self.message)
        self.assertEqual(len(self.results_on_disk()), 1)
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLSegmentationNode"), [])

    def test_a_reference_removed_during_a_job_keeps_the_result_on_the_disk(self):
        segmenting = self.until_running()

        slicer.mrmlScene.RemoveNode(slicer.util.getNode("Phantom_0032_t1"))
        self.wait(lambda: segmenting.is_ended, "the job")

        self.assertIn("removed", self.message)
        self.assertEqual(len(self.results_on_disk()), 1)

    def test_results_go_with_a_reference_that_is_moved_during_a_job(self):
        segmenting = self.until_running()
        reference = slicer.util.getNode("Phantom_0032_t1")
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
        turned = vtk.vtkTransform()
        turned.RotateX(30)
        turned.Translate(5, -7, 11)
        transform.SetMatrixTransformToParent(turned.GetMatrix())

        reference.SetAndObserveTransformNodeID(transform.GetID())
        self.wait(lambda: segmenting.is_ended, "the job")

        inputs = [
            slicer.util.getNode(f"Phantom_0032_{one}") for one in ("t1", "t1ce", "t2", "flair")
        ]
        made = [
            node
            for kind in ("vtkMRMLSegmentationNode", "vtkMRMLScalarVolumeNode")
            for node in slicer.util.getNodesByClass(kind)
            if node not in inputs
        ]
        self.assertIn(self.state.result, made)
        for name in ("confidence", "uncertainty", "agreement"):
            self.assertIn(slicer.util.getNode(f"*{name}"), made)
        for node in made:
            with self.subTest(node.GetName()):
                self.assertEqual(node.GetTransformNodeID(), transform.GetID())

    def test_results_go_with_a_reference_that_is_hardened_during_a_job(self):
        segmenting = self.until_running()
        reference = slicer.util.getNode("Phantom_0032_t1")
        moved = vtk.vtkTransform()
        moved.Translate(5, -7, 11)

        reference.ApplyTransform(moved)
        self.wait(lambda: segmenting.is_ended, "the job")

        expected = vtk.vtkMatrix4x4()
        reference.GetIJKToRASMatrix(expected)
        found = vtk.vtkMatrix4x4()
        confidence = slicer.util.getNode("*confidence")
        confidence.GetIJKToRASMatrix(found)
        self.assertEqual(
            slicer.util.arrayFromVTKMatrix(found).tolist(),
            slicer.util.arrayFromVTKMatrix(expected).tolist(),
        )

    def test_a_cancelled_job_changes_nothing(self):
        segmenting = self.until_running()
        before = slicer.mrmlScene.GetNumberOfNodes()

        self.segment.cancel()
        self.wait(lambda: segmenting.is_ended, "the end")

        self.assertIn("Cancelled", self.message)
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodes(), before)
        self.assertEqual(self.results_on_disk(), [])
        self.apply()
        self.assertIsNotNone(self.state.result)

    def test_a_killed_worker_is_reported_and_the_next_job_gets_another(self):
        if os.name == "nt":
            self.skipTest("Windows has no SIGKILL")
        segmenting = self.until_running()

        os.kill(segmenting._job.state.pid, signal.SIGKILL)
        self.wait(lambda: segmenting.is_ended, "the end")

        self.assertIn("worker", self.message)
        self.apply()
        self.assertIsNotNone(self.state.result)

    def test_a_saved_scene_shows_result_and_choices_again(self):
        self.try_it()
        self.apply()
        box = self.segment.results.overlay_box
        box.setCurrentIndex(box.findData("confidence"))
        file = str(self.folder / "scene.mrb")
        self.assertTrue(slicer.util.saveScene(file))

        slicer.mrmlScene.Clear(0)
        self.assertIsNone(self.state.result)
        slicer.util.loadScene(file)
        self.wait(lambda: self.segment.results.overlays.shown != "off", "the panel to notice")

        result = self.state.result
        self.assertEqual(
            result.GetNodeReference("SemiSupSeg.reference").GetName(), "Phantom_0032_t1"
        )
        self.assertEqual(self.state.channel("flair").GetName(), "Phantom_0032_flair")
        self.assertEqual(self.segment.results.overlays.shown, "confidence")
        values = slicer.util.arrayFromVolume(result.GetNodeReference("SemiSupSeg.confidence"))
        self.assertGreater(np.unique(values).size, 10)
        box.setCurrentIndex(box.findData("off"))
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            self.assertNotEqual(
                composite.GetForegroundVolumeID(),
                result.GetNodeReference("SemiSupSeg.confidence").GetID(),
            )
        self.assertTrue(result.GetDisplayNode().GetVisibility2DFill())

    def test_every_overlay_that_a_scene_was_saved_with_can_be_taken_back(self):
        self.need_views()
        self.try_it()
        self.apply()
        results = self.segment.results
        for name in ("contours", "uncertainty", "comparison", "teacher_student"):
            with self.subTest(name):
                results.show(name)
                file = str(self.folder / f"{name}.mrb")
                self.assertTrue(slicer.util.saveScene(file))
                slicer.mrmlScene.Clear(0)
                # The empty scene is shown before the saved one is added to it.
                self.panel.exit()
                self.panel.enter()

                slicer.util.loadScene(file)
                self.wait(lambda name=name: results.overlays.shown == name, "the panel to notice")
                results.show("off")

                display = self.state.result.GetDisplayNode()
                self.assertTrue(display.GetVisibility())
                self.assertTrue(display.GetVisibility2D())
                self.assertTrue(display.GetVisibility2DFill())
                self.assertEqual(display.GetNumberOfViewNodeIDs(), 0)
                for role in ("sure", "possible", "comparison", "pseudo_label"):
                    node = self.state.result.GetNodeReference("SemiSupSeg." + role)
                    self.assertFalse(node.GetDisplayNode().GetVisibility(), role)

    def test_a_scene_that_takes_the_place_of_another_is_worked_with(self):
        self.try_it()
        file = str(self.folder / "scene.mrml")
        self.assertTrue(slicer.util.saveScene(file))

        slicer.mrmlScene.SetURL(file)
        slicer.mrmlScene.Connect()
        self.wait(lambda: self.state and self.state.channel("t2"), "the panel to notice")

        self.assertEqual(self.state.channel("t2").GetName(), "Phantom_0032_t2")

    def test_after_closing_the_scene_the_default_model_is_chosen_again(self):
        from SemiSupSegUI import demonstration

        self.need_worker()
        run_in_workers_python(REGISTER, str(demonstration.MODEL), "mine")
        self.segment.read_models()
        self.assertEqual(self.state.model, "mine")

        slicer.mrmlScene.Clear(0)
        self.wait(lambda: self.state.model, "the panel to notice")

        self.assertEqual(self.state.model, "mine")
        self.assertEqual(list(self.segment.channel_boxes), ["t1", "t1ce", "t2", "flair"])

    def test_a_cancel_that_comes_too_late_lets_the_result_be(self):
        segmenting = self.until_running()
        self.wait(lambda: segmenting._result is not None or segmenting.is_ended, "the maps")

        self.segment.cancel()
        self.wait(lambda: segmenting.is_ended, "the end")

        self.assertIsNotNone(self.state.result)
        self.assertEqual(self.state.result.GetSegmentation().GetNumberOfSegments(), 3)

    def test_a_full_disk_is_told_and_the_next_try_works(self):
        full = OSError(28, "No space left on device")
        self.need_worker()
        self.try_it()
        places = (
            "SemiSupSegUI.segment.new_job_folder",
            "SemiSupSegUI.segmenting.PredictRequest.write",
            "SemiSupSegUI.segmenting.read_json",
        )
        for place in places:
            with self.subTest(place), mock.patch(place, side_effect=full):
                self.segment.apply()
                self.wait(lambda: not self.segment.is_running, "the end")
                self.assertIn("No space left on device", self.message)
                self.assertIsNone(self.state.result)

        self.apply()

        self.assertIsNotNone(self.state.result)

    def test_nothing_of_a_removed_result_stays_drawn(self):
        self.try_it()
        self.apply()
        contours = self.state.result.GetNodeReference("SemiSupSeg.sure").GetDisplayNode()
        self.assertTrue(contours.GetVisibility())

        slicer.mrmlScene.RemoveNode(self.state.result)
        self.wait(lambda: not contours.GetVisibility(), "the panel to notice")

        self.assertEqual(self.segment.results.overlays.shown, "off")

    def test_a_removed_table_is_neither_copied_nor_saved(self):
        self.try_it()
        self.apply()
        buttons = (self.segment.results.copy_button, self.segment.results.csv_button)
        self.assertTrue(all(button.enabled for button in buttons))

        slicer.mrmlScene.RemoveNode(self.state.result.GetNodeReference("SemiSupSeg.table"))
        self.wait(lambda: not buttons[0].enabled, "the panel to notice")

        for button in buttons:
            self.assertEqual(button.toolTip, "The table was removed. Apply the model again.")
        self.apply()
        self.assertTrue(all(button.enabled for button in buttons))

    def test_removed_nodes_cost_the_window_nothing(self):
        self.try_it()
        with mock.patch("SemiSupSegUI.segment.SegmentSection.scene_changed") as noticed:
            for _ in range(20):
                slicer.mrmlScene.RemoveNode(
                    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
                )
            slicer.app.processEvents()
            self.assertEqual(noticed.call_count, 0)
            for _ in range(20):
                slicer.mrmlScene.RemoveNode(
                    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
                )
            self.wait(lambda: noticed.call_count, "the panel to notice")
            self.assertEqual(noticed.call_count, 1)

    def test_an_edited_segmentation_is_never_overwritten_without_asking(self):
        self.try_it()
        self.apply()
        result = self.state.result
        result.GetSegmentation().RemoveSegment("necrosis")
        self.answer = False

        self.segment.apply()

        self.assertEqual(len(self.asked), 1)
        self.assertIn("drawn or changed", self.asked[0])
        self.assertTrue(self.segment.segmenting.is_ended)
        self.assertEqual(result.GetSegmentation().GetNumberOfSegments(), 2)
        self.answer = True
        self.apply()
        self.assertEqual(result.GetSegmentation().GetNumberOfSegments(), 3)

    def test_what_is_changed_while_a_job_runs_is_not_overwritten(self):
        self.try_it()
        self.apply()
        former = self.state.result
        segmenting = self.until_running()
        former.GetSegmentation().RemoveSegment("necrosis")
        self.wait(lambda: segmenting.is_ended, "the end")

        self.assertEqual(former.GetSegmentation().GetNumberOfSegments(), 2)
        self.assertIsNot(self.state.result, former)
        self.assertEqual(self.state.result.GetSegmentation().GetNumberOfSegments(), 3)
        self.assertIn(f"{former.GetName()} was changed meanwhile", self.message)
        self.assertIn(self.state.result.GetName(), self.message)

    def test_a_second_time_point_never_replaces_the_first(self):
        self.try_it()
        self.apply()
        first = self.state.result
        before = first.GetAttribute("SemiSupSeg.result")
        volumes = slicer.modules.volumes.logic()
        second = volumes.CloneVolume(
            slicer.mrmlScene, slicer.util.getNode("Phantom_0032_t1"), "second_t1"
        )

        self.segment.channel_boxes["t1"].setCurrentNode(second)
        self.assertIsNone(self.segment.output_box.currentNode())
        self.apply()

        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        folders = [
            hierarchy.GetItemName(hierarchy.GetItemParent(hierarchy.GetItemByDataNode(one)))
            for one in (first, self.state.result)
        ]
        self.assertEqual(folders, ["SemiSupSeg - Phantom_0032_t1", "SemiSupSeg - second_t1"])
        self.assertEqual(first.GetAttribute("SemiSupSeg.result"), before)
        self.assertEqual(
            first.GetNodeReference("SemiSupSeg.reference").GetName(), "Phantom_0032_t1"
        )
        # Also not if a person chooses it.
        self.segment.output_box.setCurrentNode(first)
        self.assertFalse(self.segment.apply_button.enabled)
        self.assertIn("result of another volume", self.segment.apply_button.toolTip)

    def test_what_a_result_has_replaced_can_be_brought_back(self):
        self.try_it()
        self.apply()
        result = self.state.result
        reference = slicer.util.getNode("Phantom_0032_t1")
        self.assertFalse(self.segment.results.restore_button.enabled)
        result.GetSegmentation().RemoveSegment("necrosis")
        edema = slicer.util.arrayFromSegmentBinaryLabelmap(result, "edema", reference)
        self.apply()
        self.assertEqual(result.GetSegmentation().GetNumberOfSegments(), 3)

        # The second run replaces what is machine-made, and the edited one is still kept.
        self.apply()
        counts = []
        for _ in range(3):
            self.segment.results.show("contours")
            self.segment.results.restore_previous()
            self.assertTrue(result.GetDisplayNode().GetVisibility2D())
            self.assertEqual(self.segment.results.overlay_box.currentData, "off")
            self.assertIn("overlays and table are those of the latest", self.message)
            counts.append(result.GetSegmentation().GetNumberOfSegments())
            if counts[-1] == 2:
                back = slicer.util.arrayFromSegmentBinaryLabelmap(result, "edema", reference)
                np.testing.assert_array_equal(back, edema)

        self.assertEqual(counts, [3, 2, 3])
        self.assertEqual(result.GetSegmentation().GetSegment("edema").GetName(), "edema")

    def test_a_folder_of_cases_is_segmented_into_another(self):
        from SemiSupSegUI import demonstration

        self.need_worker()
        self.try_it()
        cases = demonstration.MODEL.parent
        out = self.folder / "results of a folder"

        self.segment.segment_folder(str(cases / "case"), str(out))
        self.assertFalse(self.segment.apply_button.enabled)
        self.wait(lambda: self.segment.folder_run.is_ended, "the folder")

        self.assertIn(str(out), self.message)
        self.assertEqual(len(list(out.glob("*/case.json"))), 1)
        self.assertTrue(self.segment.apply_button.enabled)

    def test_a_damaged_case_of_a_folder_is_named_with_its_reason_in_the_details(self):
        from SemiSupSegUI import demonstration

        self.need_worker()
        self.try_it()
        cases, out = self.folder / "cases", self.folder / "out"
        for name in ("whole", "damaged"):
            shutil.copytree(demonstration.MODEL.parent / "case", cases / name)
        for file in (cases / "damaged").glob("*flair.nii.gz"):
            file.write_bytes(file.read_bytes()[:1000])

        self.segment.segment_folder(str(cases), str(out))
        self.wait(lambda: self.segment.folder_run.is_ended, "the folder")

        self.assertIn("Not predicted: damaged.", self.message)
        self.assertIn(f"The others lie in {out}.", self.message)
        self.assertIn("damaged: not predicted. ", self.segment.message._details.plainText)
        self.assertTrue((out / "whole" / "case.json").is_file())

    def test_a_folder_of_cases_is_not_segmented_into_itself(self):
        from SemiSupSegUI import demonstration

        self.need_worker()
        self.try_it()
        cases = self.folder / "cases"
        shutil.copytree(demonstration.MODEL.parent / "case", cases / "Phantom_0032")

        self.segment.segment_folder(str(cases), str(cases))
        self.wait(lambda: self.segment.folder_run.is_ended, "the folder")

        self.assertIn("would be written among its images", self.message)
        self.assertIn("Choose another folder for the results.", self.message)
        self.assertNotIn("--", self.message)
        self.assertEqual(list(cases.rglob("case.json")), [])

    def test_volumes_and_maps_of_a_finished_job_are_removed_and_its_log_stays(self):
        self.try_it()
        self.apply()
        self.wait(lambda: self.widget.logic.jobs.is_idle, "the last work")

        jobs = [job for job in (self.home / "jobs").iterdir() if (job / "request.json").is_file()]
        self.assertEqual(len(jobs), 1)
        self.assertTrue((jobs[0] / "events.jsonl").is_file())
        self.assertEqual([one.name for one in jobs[0].rglob("*.npy")], [])
        self.assertEqual([one.name for one in jobs[0].rglob("*.nrrd")], [])

    def test_jobs_of_long_ago_are_removed_and_later_ones_stay(self):
        from SemiSupSegUI.jobs import clean_up_old

        jobs = self.home / "jobs"
        for name, days in (("old", 20), ("new", 3)):
            (jobs / name).mkdir(parents=True)
            then = time.time() - days * 86400
            os.utime(jobs / name, (then, then))

        list(clean_up_old())

        self.assertFalse((jobs / "old").exists())
        self.assertTrue((jobs / "new").exists())
