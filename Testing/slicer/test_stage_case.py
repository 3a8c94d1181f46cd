"""A case of a stage in the scene, while its training waits in a process of its own."""

from __future__ import annotations

import json
import sys
import unittest
import unittest.mock
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from semisupseg_testing import PanelTest

from Testing.data.plain_nifti import write_plain_nifti

SPLIT = {
    "train_labelled": ["case0"],
    "train_unlabelled": ["case1", "case2", "case3"],
    "validation": ["case4"],
}
SETTINGS = {
    "network.options": '{"width": 4, "lite": true}',
    "teacher_share": "2",
    "stage_share": "20",
    "head_share": "1",
    "fractions": "[1.0, 1.0]",
    "pseudo_labels.passes": "2",
    "training.patch_size": "[16, 16, 16]",
    "training.validate_every": "100",
    "training.threads": "1",
    "training.checkpoint_seconds": "0",
}


def _write_case(folder, seed):
    """Write an image of a ball, and its label."""
    from SemiSupSegLib.cases.geometry import Geometry

    draw = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (16, 18, 20)], indexing="ij"), -1)
    label = np.linalg.norm(grid - draw.uniform(7, 10, 3), axis=-1) < 5
    image = 100 + 60 * label + draw.normal(0, 20, label.shape)
    geometry = Geometry(
        size=(20, 18, 16), spacing=(1.5, 1.5, 2.0), origin=(3.0, -4.0, 5.0),
        direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    )  # fmt: skip
    folder.mkdir(parents=True)
    write_plain_nifti(folder / "mri.nii.gz", image.astype(np.float32), geometry)
    write_plain_nifti(folder / "seg.nii.gz", label.astype(np.uint8), geometry)


class StageCaseTest(PanelTest):
    """A run that waits in its first stage."""

    def setUp(self):
        super().setUp()
        self.need_worker()
        from SemiSupSegUI.message import Message
        from SemiSupSegUI.stage_case import StageCase

        self.review = self.panel.review
        self.review.reviewer_box.text = "ann"
        self.said = Message()
        self.changes = []
        self.jobs = self.widget.logic.jobs
        self.stage_case = StageCase(
            self.jobs,
            self.said,
            self.review.open_folder,
            self.review.why_not_open,
            lambda: self.changes.append(self.stage_case.is_running),
        )
        self.run_folder = self.folder / "run"

    def train(self):
        """Begin a training, and let it wait in its first stage."""
        from SemiSupSegUI.jobs import new_job_folder

        from SemiSupSegLib.runs.control import Control
        from SemiSupSegLib.runs.run_folder import RunFolder
        from SemiSupSegLib.runs.stages import shown_stages
        from SemiSupSegLib.runs.state import RunState, RunStatus

        for number in range(5):
            _write_case(self.folder / "cases" / f"case{number}", number)
        (self.folder / "split.json").write_text(json.dumps(SPLIT))
        words = ["train", "--cases", str(self.folder / "cases"), "--out", str(self.run_folder)]
        words += ["--task", "binary", "--split", str(self.folder / "split.json")]
        words += ["--store", str(self.folder / "store"), "--iterations", "44", "--device", "cpu"]
        words += ["--no-report", "--set", *(f"{key}={one}" for key, one in SETTINGS.items())]
        job = self.jobs.run(new_job_folder(), words, lambda job: None)
        self.addCleanup(self.jobs.cancel, job)
        run = RunFolder(self.run_folder)
        self.wait(lambda: job.is_ended or shown_stages(run), "the first stage")
        self.assertFalse(job.is_ended, job.state.error)
        Control(run.control).want_pause()
        self.wait(
            lambda: RunState.read(run.state_json).status is RunStatus.PAUSED, "the training's pause"
        )
        (stage,) = shown_stages(run)
        return {one.rank: one.case for one in stage.cases}

    def test_the_least_confident_case_is_shown_with_all_overlays(self):
        from SemiSupSegUI import scene
        from SemiSupSegUI.stage_case import results_of_stage

        cases = self.train()
        case = cases["least"]

        self.stage_case.start(self.run_folder, 1, case)
        self.assertTrue(self.stage_case.is_running)
        self.assertIn(f"Making the maps of {case}, stage 1", self.said.text)
        self.wait(lambda: not self.stage_case.is_running, "the maps")
        self.assertIn("opened in Review", self.said.text)
        self.wait(lambda: self.review.opening is None, "the case")

        self.assertEqual(self.changes, [True, False])
        session = self.review.session
        self.assertIsNotNone(session, self.review.message.text)
        self.assertEqual(session.folder, results_of_stage(self.run_folder, 1) / case)
        self.assertTrue(session.folder.is_relative_to(self.home))
        roles = ("uncertainty", "confidence", "agreement", "trust", "pseudo_label", "comparison")
        for role in (*roles, "sure", "possible"):
            self.assertIsNotNone(scene.overlay_node(session.result, role), role)
        results = self.panel.segment.results
        results.show("trust")
        results.update()
        self.assertEqual(results.overlays.shown, "trust")
        self.assertIn("the weight that a voxel", results.overlay_meaning.text)
        self.assertIn("0.50 or less", results.overlay_meaning.text)
        warnings = json.loads((session.folder / "case.json").read_text())["warnings"]
        self.assertTrue(any("The student is not finished" in one for one in warnings), warnings)
        background = self.need_layout().sliceWidget("Red").sliceLogic()
        volume = background.GetBackgroundLayer().GetVolumeNode()
        self.assertEqual(volume.GetName(), f"{case} image")

    def test_cancelled_nothing_is_opened(self):
        cases = self.train()

        self.stage_case.start(self.run_folder, 1, cases["most"])
        self.stage_case.cancel()
        self.wait(lambda: self.jobs.is_idle or not self.stage_case.is_running, "the end")

        self.assertEqual(self.changes, [True, False])
        self.assertIn("no case was opened", self.said.text)
        self.assertIsNone(self.review.session)
        self.assertIsNone(self.review.opening)

    def test_what_went_wrong_is_said_in_the_worker_s_words(self):
        self.stage_case.start(self.run_folder, 1, "case1")
        self.wait(lambda: not self.stage_case.is_running, "the failure")

        self.assertIn("is not a run folder", self.said.text)
        self.assertIsNone(self.review.opening)

    def test_without_a_reviewer_no_work_is_begun(self):
        self.review.reviewer_box.text = ""

        self.stage_case.start(self.run_folder, 1, "case1")

        self.assertFalse(self.stage_case.is_running)
        self.assertIn("Type a short name", self.said.text)


if __name__ == "__main__":
    unittest.main()
