"""A whole review as a person does it: many regions, fixes, a crash in the middle, label, export."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import slicer

sys.path.insert(0, str(Path(__file__).resolve().parent))
from semisupseg_testing import PanelTest

NUM_REGIONS = 20
NOISE = 1.25
"""Standard deviation, by that of the tissue's intensities."""


class ReviewSessionTest(PanelTest):
    """The made-up case, with the slider where most is listed."""

    def test_twenty_regions_a_crash_a_label_and_an_export(self):
        self.review = self.panel.review
        self.review.reviewer_box.text = "reviewer-1"
        self.try_it()
        self.add_noise()
        self.apply()
        self.review.update()
        self.review.begin()
        self.wait(lambda: self.review.opening is None, "the result")
        # Regions that grow may meet: the longest list is not that of most volume.
        for sensitivity in (50, 60, 40, 70, 30, 80, 20, 100):
            if len(self.review.session.regions) >= NUM_REGIONS:
                break
            self.review.sensitivity_slider.value = sensitivity
            self.review._sensitivity_chosen()
            self.wait(lambda: self.review.opening is None, "the list")
        session = self.review.session
        self.assertGreaterEqual(len(session.regions), NUM_REGIONS)
        folder = session.folder
        half = NUM_REGIONS // 2

        self.work_on(range(half))
        statuses, label = session.record.statuses, session.label.copy()
        self.crash()
        self.review.open_folder(folder)
        self.wait(lambda: self.review.opening is None, "the result")

        session = self.review.session
        self.assertEqual(session.record.statuses, statuses)
        np.testing.assert_array_equal(session.label, label)
        self.assertEqual(self.review._region, session.regions[half].id)
        self.work_on(range(half, NUM_REGIONS))
        self.assertEqual(len(session.record.statuses), NUM_REGIONS)
        self.assertIn(f"{NUM_REGIONS} of", self.review.progress.text)
        self.finish(folder, session.label.copy())

    def add_noise(self):
        """Make the case harder than the model was trained for, so that much of it is in doubt."""
        generator = np.random.default_rng(7)
        for box in self.segment.channel_boxes.values():
            values = slicer.util.arrayFromVolume(box.currentNode())
            inside = values > 0
            noise = generator.normal(0, NOISE * values[inside].std(), inside.sum())
            values[inside] = np.maximum(values[inside] + noise, 1)
            slicer.util.arrayFromVolumeModified(box.currentNode())

    def work_on(self, numbers):
        """Decide regions in all ways; with every third one, draw."""
        session = self.review.session
        can_draw = not self.review.editor.why_not
        for number in numbers:
            region = session.regions[number]
            self.review.go_to(region.id)
            if number % 3 == 0 and can_draw:
                self.review.fix()
                self.stroke(session.regions_map == region.id)
                self.review.finish_fix()
                self.assertEqual(session.status(region.id), "fixed")
            elif number % 3 == 1:
                self.review.decide("confirmed")
            else:
                self.review.relabel()
                self.assertEqual(session.status(region.id), "relabelled")

    def stroke(self, voxels):
        """Paint a region's voxels as edema."""
        editor = self.review.editor._editor
        editor.setCurrentSegmentID("edema")
        effect = editor.effectByName("Paint")
        image = effect.defaultModifierLabelmap()
        for slice_, row, column in np.argwhere(voxels):
            image.SetScalarComponentFromDouble(int(column), int(row), int(slice_), 0, 1)
        image.Modified()
        effect.saveStateForUndo()
        effect.modifySelectedSegmentByLabelmap(image, effect.ModificationModeAdd)

    def crash(self):
        """Leave without a goodbye; Testing/unit/test_review_kill.py kills a real process."""
        self.review.session.let_go()
        self.review.session = None
        slicer.mrmlScene.Clear(0)

    def finish(self, folder, label):
        """Give the verdict, save the label, export, and read both back."""
        session = self.review.session
        box = self.review.case_box
        box.give_verdict("corrected")
        self.assertEqual(session.record.verdict, "corrected")
        box.save_label()
        self.wait(lambda: list(folder.glob("*_reviewed.nii.gz")), "the label")
        self.wait(lambda: box.label_button.enabled, "the end")
        saved = next(iter(folder.glob("*_reviewed.nii.gz")))
        out = self.folder / "exported.seg.nrrd"
        box.choose_format("seg.nrrd")
        box.export(str(out))
        self.wait(out.is_file, "the export")
        self.wait(lambda: box.label_button.enabled, "the end")
        task = session.record.task
        self.review.close()

        written = slicer.util.arrayFromVolume(slicer.util.loadLabelVolume(str(saved)))
        np.testing.assert_array_equal(written, np.asarray(task.written_values)[label])
        node = slicer.util.loadSegmentation(str(out))
        self.assertEqual(
            [node.GetSegmentation().GetNthSegment(index).GetName() for index in range(3)],
            [one.name for one in task.classes],
        )
