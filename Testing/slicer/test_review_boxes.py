"""What is made of reviews in the panel: verdicts, labels, files, the next case, learning."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import tempfile
import unittest.mock
from pathlib import Path

import numpy as np
import slicer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from semisupseg_testing import PanelTest, volume

from Testing.data import make_review_folder
from Testing.data.plain_nifti import write_plain_nifti


class Session:
    """A case under review, as `ReviewSession` has it."""

    def __init__(self, record, reference=None):
        self.record, self.reference = record, reference
        self.folder, self.case, self.reviewer = record.folder, record.case, record.reviewer
        self.num_flushed = 0

    def flush(self):
        """Write what was drawn."""
        self.num_flushed += 1


class BoxTest(PanelTest):
    """With a folder of made-up results."""

    def setUp(self):
        super().setUp()
        from SemiSupSegUI.message import Message

        self.jobs = self.widget.logic.jobs
        self.message_of_box = Message()
        self.results = self.folder / "results"
        self.need_worker()

    @property
    def said(self):
        """What the box has said."""
        return self.message_of_box.text

    def make(self, case, **options):
        """Write a result."""
        return make_review_folder.make_result(self.results, case, **options)


class CaseBoxTest(BoxTest):
    """The box of one case."""

    def setUp(self):
        super().setUp()
        from SemiSupSegUI.case_box import CaseBox

        self.num_changes = 0
        self.box = CaseBox(self.jobs, self.message_of_box, self._asked, self._changed)
        self.addCleanup(self.box.close)

    def _changed(self):
        self.num_changes += 1

    def open(self, folder=None, reviewer="ann", reference=None):
        """Begin a review of a result, and show it."""
        folder = folder or self.make("p1")
        self.session = Session(make_review_folder.begin(folder, reviewer), reference)
        self.box.show(self.session)
        self.wait(lambda: self.box._status is not None, "a look at the folder")
        return self.session

    def finish(self):
        """Wait until a file is written."""
        self.wait(lambda: self.box._job is not None and self.box._job.is_ended, "the file")

    def reopened(self):
        """Return the record as it is on the disk."""
        from SemiSupSegLib.review.record import ReviewRecord

        return ReviewRecord.open(self.session.folder, self.session.reviewer)

    def test_without_a_case_everything_says_why_it_is_off(self):
        buttons = [
            *self.box.verdict_buttons.values(),
            self.box.label_button,
            self.box.export_button,
            self.box.compare_button,
            self.box.comment_edit,
        ]

        self.assertFalse(any(one.enabled for one in buttons))
        self.assertEqual({one.toolTip for one in buttons}, {"Open a case first."})

    def test_a_verdict_and_its_comment_are_on_the_disk_at_once(self):
        self.open()
        self.assertFalse(self.box.comment_edit.enabled)
        self.assertIn("Give a verdict first", self.box.comment_edit.toolTip)

        self.box.verdict_buttons["corrected"].click()
        self.assertEqual(self.reopened().verdict, "corrected")
        self.box.comment_edit.text = "the rim"
        self.box.comment_edit.modified = True
        self.box.keep_comment()

        self.assertEqual(self.reopened().comment, "the rim")
        self.assertEqual(self.num_changes, 2)
        self.assertEqual(self.session.num_flushed, 1)
        checked = [name for name, one in self.box.verdict_buttons.items() if one.checked]
        self.assertEqual(checked, ["corrected"])
        ticked = [name for name, one in self.box.verdict_buttons.items() if "\u2714" in one.text]
        self.assertEqual(ticked, ["corrected"])
        self.box.verdict_buttons["corrected"].click()
        self.assertEqual(len(self.reopened().entries), 2)
        self.assertTrue(self.box.verdict_buttons["corrected"].checked)

    def test_a_comment_is_kept_when_another_case_is_opened(self):
        self.open()
        self.box.give_verdict("accepted")
        self.box.comment_edit.text = "as it should be"
        self.box.comment_edit.modified = True

        self.box.show(None)

        self.assertEqual(self.reopened().comment, "as it should be")
        self.assertEqual(self.box.comment_edit.text, "")
        self.box.show(Session(self.reopened()))
        self.assertEqual(self.box.comment_edit.text, "as it should be")

    def test_what_is_undone_is_shown_so(self):
        session = self.open()
        self.box.give_verdict("rejected")
        self.assertIn("rejected", self.box.label_button.toolTip)
        session.record.undo()

        self.box.show(session)

        self.assertFalse(any(one.checked for one in self.box.verdict_buttons.values()))
        self.assertTrue(self.box.label_button.enabled)

    def test_training_labels_are_saved_one_beside_the_other(self):
        session = self.open()
        self.answer = False
        self.box.save_label()
        self.assertIn("3 of 3 regions are not decided", self.asked[0])
        self.assertIsNone(self.box._job)

        self.answer = True
        session.record.decide(2, "ignored")
        self.box.save_label()
        self.assertFalse(self.box.label_button.enabled)
        self.finish()
        self.assertIn(str(session.folder / "p1_reviewed.nii.gz"), self.said)
        self.assertEqual(self.num_changes, 1)
        session.record.decide(1, "confirmed")
        self.box.partial_box.checked = True
        self.box.save_label()
        self.finish()

        self.assertIn("p1_reviewed-2.nii.gz", self.said)
        self.assertEqual(len(self.asked), 2)
        self.assertTrue((session.folder / "p1_reviewed.nii.gz").is_file())
        told = json.loads((session.folder / "p1_reviewed-2.json").read_text(encoding="utf-8"))
        self.assertTrue(told["partial"])
        self.assertEqual((told["reviewer"], told["regions"]["confirmed"]), ("ann", [1]))
        self.assertTrue(self.box.label_button.enabled)

    def test_a_rejected_case_says_that_its_label_of_before_still_counts(self):
        self.open()
        self.box.give_verdict("rejected")
        self.assertNotIn("still counts", self.said)
        self.box.give_verdict("corrected")
        self.box.save_label()
        self.wait(lambda: "was saved" in self.said, "the label")
        self.wait(lambda: self.box._labels, "a look at the folder")

        self.box.give_verdict("rejected")

        self.assertIn("Remove p1_reviewed.nii.gz", self.said)

    def test_files_for_others_are_written_where_they_are_wanted(self):
        self.open()
        self.session.record.decide(2, "ignored")
        for name, ending in (("nifti", ".nii.gz"), ("seg.nrrd", ".seg.nrrd"), ("csv", ".csv")):
            self.box.choose_format(name)
            self.assertTrue(self.box.export_button.enabled, self.box.export_button.toolTip)
            self.box.export(str(self.folder / "for others ü"))
            self.finish()
            self.assertTrue((self.folder / f"for others ü{ending}").is_file(), self.said)
            self.assertIn("for others ü", self.said)
        with (self.folder / "for others ü.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        self.assertEqual([row["status"] for row in rows][:2], ["undecided", "ignored"])

    def test_a_file_that_cannot_be_written_is_told(self):
        self.open()
        (self.folder / "file").write_text("no folder")

        self.box.export(str(self.folder / "file" / "label.nii.gz"))
        self.finish()

        self.assertIn("\u2716", self.said)
        self.assertIn("file", self.said)
        self.assertTrue(self.box.export_button.enabled)

    def test_a_scan_that_is_not_of_dicom_gives_no_dicom_seg(self):
        self.open(reference=volume("flair", np.zeros((6, 10, 8), np.float32)))

        self.box.choose_format("dicom-seg")

        self.assertFalse(self.box.export_button.enabled)
        self.assertIn("flair did not come from DICOM", self.box.export_button.toolTip)
        self.box.choose_format("nifti")
        self.assertTrue(self.box.export_button.enabled)

    def test_a_case_without_its_scan_in_the_scene_gives_no_dicom_seg(self):
        self.open()

        self.box.choose_format("dicom-seg")

        self.assertIn("is not in the scene", self.box.export_button.toolTip)

    def a_dicom_case(self):
        """Return a result on a series' grid, its volume node, the series' folder, and its UID."""
        self.need_packages("pydicom", "SimpleITK")
        from SemiSupSegLib.cases.case import ImageSource
        from SemiSupSegLib.cases.dicom import list_series
        from SemiSupSegLib.cases.geometry import geometry_of
        from SemiSupSegLib.cases.reading import read_image
        from Testing.data import make_dicom_phantom

        series = make_dicom_phantom.write_series(self.folder / "dicom" / "t1")
        (found,) = list_series(series)
        grid = geometry_of(read_image(ImageSource(path=series, series=found.uid)))
        folder = self.make("p1")
        values = np.asarray(make_review_folder.the_task().written_values, np.uint8)
        label = values[make_review_folder.the_label()]
        write_plain_nifti(folder / "p1_label.nii.gz", label, grid)
        node = volume("t1", np.zeros((6, 10, 8), np.float32))
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        hierarchy.SetItemUID(hierarchy.GetItemByDataNode(node), "DICOM", found.uid)
        node.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
        return folder, node, series, found.uid

    def test_a_scan_from_dicom_gives_a_dicom_seg_of_its_series(self):
        folder, node, series, uid = self.a_dicom_case()
        database = unittest.mock.Mock()
        database.fileForInstance.side_effect = {"1.2.3": str(series / "IM000.dcm")}.get
        with unittest.mock.patch.object(slicer, "dicomDatabase", database, create=True):
            self.open(folder, reference=node)
        self.box.choose_format("dicom-seg")
        self.assertTrue(self.box.export_button.enabled, self.box.export_button.toolTip)

        self.box.export(str(self.folder / "seg"))
        self.finish()

        import pydicom

        made = pydicom.dcmread(self.folder / "seg.dcm")
        self.assertEqual(made.ReferencedSeriesSequence[0].SeriesInstanceUID, uid)
        self.assertEqual(made.Modality, "SEG")

    def test_a_series_that_the_database_has_lost_is_named(self):
        folder, node, _series, _uid = self.a_dicom_case()
        database = unittest.mock.Mock()
        database.fileForInstance.return_value = ""
        with unittest.mock.patch.object(slicer, "dicomDatabase", database, create=True):
            self.open(folder, reference=node)

        self.box.choose_format("dicom-seg")

        self.assertIn("files of t1 are not in Slicer's DICOM", self.box.export_button.toolTip)

    def test_two_reviewers_are_compared(self):
        from SemiSupSegLib.review.change import Change

        folder = self.make("p1")
        other = make_review_folder.begin(folder, "bob")
        label = make_review_folder.the_label()
        box = make_review_folder.BOXES[0]
        inside = tuple(slice(*side) for side in box)
        after = label[inside].copy()
        after[0] = 2
        other.decide(1, "fixed", Change.between(label[inside], after, box))
        other.decide(2, "confirmed")
        session = self.open(folder)
        session.record.decide(1, "confirmed")
        session.record.decide(2, "confirmed")
        self.assertTrue(self.box.compare_button.enabled, self.box.compare_button.toolTip)
        self.assertFalse(self.box.comparison.visible)

        self.box.compare()
        self.finish()

        text = self.box.comparison.plainText
        self.assertIn("ann: no verdict; bob: no verdict", text)
        self.assertIn("Equal decisions: 50%, Cohen's kappa 0.00", text)
        self.assertIn("They differ in 1 of 3 regions.", text)
        self.assertIn("1 (necrosis): ann confirmed, bob fixed, 9 voxels apart", text)
        self.assertIn("Dice of the two labels: necrosis 0.", text)

    def test_one_region_and_one_voxel_are_told_as_one(self):
        from SemiSupSegUI import case_box

        self.open(self.make("p1", regions=make_review_folder.the_regions()[:1]))
        self.answer = False
        self.box.save_label()
        self.box.give_verdict("accepted")

        for question in self.asked:
            self.assertTrue(question.startswith("The only region is not decided. "), question)
        self.assertEqual(len(self.asked), 2)
        apart = {"region": 1, "class": "edema", "apart": True, "voxels_apart": 1}
        words = case_box._comparison_text(
            {
                "reviewers": ["ann", "bob"],
                "verdicts": [None, None],
                "equal_decisions": None,
                "kappa": None,
                "dice": None,
                "regions": [{**apart, "statuses": ["fixed", "fixed"]}],
            }
        )
        self.assertIn("They differ in 1 of 1 region.", words)
        self.assertTrue(words.endswith(", 1 voxel apart"), words)

    def test_a_single_reviewer_is_compared_with_nobody(self):
        self.open()

        self.assertFalse(self.box.compare_button.enabled)
        self.assertEqual(self.box.compare_button.toolTip, "Nobody else has reviewed this case.")


class CohortBoxTest(BoxTest):
    """The box of a folder of results."""

    def setUp(self):
        super().setUp()
        from SemiSupSegUI.cohort_box import CohortBox

        slicer.app.userSettings().remove("SemiSupSeg/ResultsFolder")
        self.opened = []
        self.box = CohortBox(self.jobs, self.message_of_box, self._opened)
        self.addCleanup(self.box.close)
        for case, scale in (("p1", 1.0), ("p2", 3.0), ("p3", 2.0)):
            self.make(case, scale=scale)

    def _opened(self, folder):
        self.opened.append(folder)
        self.box.mark(folder)

    def open(self, folder=None):
        """Read a folder as a user does."""
        self.box.open_folder(str(folder or self.results))
        self.read()

    def read(self):
        """Wait until it is read."""
        self.wait(lambda: self.box._wanted is None, "the folder")

    def column(self, number=0):
        """Return a column's texts."""
        table = self.box.table
        return [table.item(row, number).text() for row in range(table.rowCount)]

    def test_the_case_with_most_expected_error_stands_first(self):
        self.assertEqual(self.box.next_button.toolTip, "Open a folder of results first.")
        record = make_review_folder.begin(self.results / "p2")
        record.decide(1, "confirmed")
        record.give_verdict("corrected")

        self.open()

        self.assertEqual(self.column(0), ["p3", "p1", "p2"])
        self.assertEqual(self.column(1), ["0.16", "0.08", "0.00"])
        self.assertEqual(self.column(2), ["0 / 3", "0 / 3", "1 / 3"])
        self.assertEqual(self.column(3), ["", "", "corrected"])
        self.assertEqual(self.column(4), ["", "", "ann"])
        self.assertIn("3 cases, 2 to be reviewed", self.box.summary.text)
        self.assertEqual(self.box.remembered, self.results)

    def test_a_single_case_is_told_as_one(self):
        for case in ("p2", "p3"):
            shutil.rmtree(self.results / case)

        self.open()

        self.assertIn("1 case, 1 to be reviewed", self.box.summary.text)

    def test_next_goes_on_and_previous_goes_back(self):
        self.open()
        self.assertFalse(self.box.previous_button.enabled)

        for _time in range(3):
            self.box.next_case()
        names = [folder.name for folder in self.opened]
        self.assertEqual(names, ["p2", "p3", "p1"])
        self.assertEqual(self.column(0), ["p2", "p3", "\u25b6 p1"])
        self.box.previous_case()
        self.box.previous_case()
        self.assertFalse(self.box.previous_button.enabled)
        self.assertIn("No other case was open before", self.box.previous_button.toolTip)
        self.box.next_case()

        self.assertEqual([folder.name for folder in self.opened][3:], ["p3", "p2", "p3"])
        self.assertEqual(self.box.current, self.results / "p3")
        self.assertEqual(self.box.table.currentRow(), 1)

    def test_a_double_click_opens_a_case(self):
        self.open()

        self.box._double_clicked(2, 0)

        self.assertEqual(self.opened, [self.results / "p1"])

    def test_a_case_is_the_current_one_once_it_is_open(self):
        from SemiSupSegUI.cohort_box import CohortBox

        asked = []
        self.box = CohortBox(self.jobs, self.message_of_box, asked.append)
        self.addCleanup(self.box.close)
        self.open()

        self.box.next_case()
        self.assertEqual(self.column(0), ["p2", "p3", "p1"])
        # It could not be opened: there is nothing to go back to, and it stays the next.
        self.assertFalse(self.box.previous_button.enabled)
        self.box.next_case()
        self.box.mark(asked[-1])
        self.box.next_case()
        self.box.mark(asked[-1])
        self.box.previous_case()
        self.assertEqual(self.column(0), ["p2", "\u25b6 p3", "p1"])
        self.box.mark(asked[-1])

        self.assertEqual(self.column(0), ["\u25b6 p2", "p3", "p1"])
        self.assertEqual([one.name for one in asked], ["p2", "p2", "p3", "p2"])
        self.box.next_case()
        self.assertEqual(asked[-1].name, "p3")

    def test_a_remembered_folder_that_is_gone_is_told_once_and_not_forgotten(self):
        from SemiSupSegUI.cohort_box import CohortBox

        self.open()
        away = self.folder / "elsewhere"
        self.results.rename(away)
        self.message_of_box.clear()
        self.box = CohortBox(self.jobs, self.message_of_box, self.opened.append)
        self.addCleanup(self.box.close)

        self.box.restore()
        self.read()
        self.assertIn("cannot be read now", self.said)
        self.assertTrue(self.said.startswith("\u26a0"), self.said)
        self.message_of_box.clear()
        self.box.restore()
        self.read()
        self.assertEqual(self.said, "")
        self.assertEqual(self.box.remembered, self.results)
        self.assertEqual(self.box.summary.text, "")
        away.rename(self.results)
        self.box.restore()
        self.read()

        self.assertEqual(self.column(0), ["p2", "p3", "p1"])

    def test_a_decided_case_goes_down_when_the_folder_is_read_again(self):
        self.open()
        self.box.next_case()
        make_review_folder.begin(self.results / "p2").give_verdict("accepted")

        self.box.refresh()
        self.box.refresh()
        self.read()

        self.assertEqual(self.column(0), ["p3", "p1", "\u25b6 p2"])
        for name in ("p1", "p3"):
            make_review_folder.begin(self.results / name).give_verdict("rejected")
        self.box.refresh()
        self.read()
        self.assertFalse(self.box.next_button.enabled)
        self.assertEqual(self.box.next_button.toolTip, "No other case is to be reviewed.")

    def test_what_was_said_of_a_former_folder_does_not_stand_beside_another(self):
        self.open(self.folder / "nowhere")
        self.assertIn("nowhere", self.said)

        self.open()

        self.assertEqual(self.said, "")

    def test_a_folder_without_results_says_which_one_is_meant(self):
        empty = self.folder / "cases"
        empty.mkdir()

        self.open(empty)

        self.assertIn("cases holds no results", self.box.summary.text)
        self.assertIn("that predict", self.box.summary.text)

    def test_a_folder_that_is_not_there_is_told_and_the_table_stays(self):
        self.open()

        self.open(self.folder / "nowhere")

        self.assertIn("cannot be read as a folder of results", self.said)
        self.assertEqual(self.column(0), ["p2", "p3", "p1"])
        self.assertEqual(self.box.remembered, self.results)

    def test_the_last_folder_is_found_again_in_another_session(self):
        from SemiSupSegUI.cohort_box import CohortBox

        self.open()
        self.box = CohortBox(self.jobs, self.message_of_box, self.opened.append)
        self.addCleanup(self.box.close)

        self.box.restore()
        self.read()

        self.assertEqual(self.column(0), ["p2", "p3", "p1"])

    def test_a_damaged_case_is_named_in_its_row(self):
        (self.results / "p3" / "case.json").write_text("{")

        self.open()

        self.assertEqual(self.column(0), ["p2", "p1", "p3"])
        self.assertEqual(self.column(2)[2], "cannot be read")
        self.assertIn("case.json", self.box.table.item(2, 0).toolTip())

    def test_a_silent_share_is_told_and_another_folder_can_be_opened(self):
        self.box.open_folder(str(self.folder / "share"))
        self.box._tell_silence()
        self.assertIn("has not answered", self.said)

        self.open()

        self.assertEqual(self.column(0), ["p2", "p3", "p1"])

    def test_the_summary_is_a_page(self):
        self.open()
        make_review_folder.begin(self.results / "p2").decide(1, "confirmed")

        self.box.write_summary()
        self.assertFalse(self.box.summary_button.enabled)
        self.wait(lambda: self.box.summary_button.enabled, "the page")

        self.assertIn(str(self.results / "review.html"), self.said)
        self.assertIn("p2", (self.results / "review.html").read_text(encoding="utf-8"))


def _write_case(folder, seed):
    """Write a noisy ball and its label; return the label."""
    from SemiSupSegLib.cases.geometry import Geometry

    draw = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (16, 18, 20)], indexing="ij"), -1)
    centre = draw.uniform(7, 9, 3)
    label = (np.linalg.norm(grid - centre, axis=-1) < draw.uniform(4, 6)).astype(np.uint8)
    image = 100 + 60 * label + draw.normal(0, 20, label.shape)
    where = Geometry(
        size=(20, 18, 16),
        spacing=(1.5, 1.5, 2.0),
        origin=(0.0, 0.0, 0.0),
        direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    )
    folder.mkdir(parents=True)
    write_plain_nifti(folder / "mri.nii.gz", image.astype(np.float32), where)
    write_plain_nifti(folder / "seg.nii.gz", label, where)


SETTINGS = {
    "network.options": '{"width": 4, "lite": true}',
    "teacher_share": "10",
    "stage_share": "2",
    "head_share": "2",
    "pseudo_labels.passes": "2",
    "training.patch_size": "[16, 16, 16]",
    "training.validate_every": "10",
    "training.threads": "1",
}
SPLIT = {
    "train_labelled": ["case0", "case1"],
    "train_unlabelled": ["case2", "case3"],
    "validation": ["case4"],
}


class LearningBoxTest(BoxTest):
    """With a small finished run, trained once."""

    place = None

    def setUp(self):
        super().setUp()
        self.need_worker()
        from SemiSupSegUI.learning_box import LearningBox

        slicer.app.userSettings().remove("SemiSupSeg/LearningRun")
        slicer.app.userSettings().remove("SemiSupSeg/LearningRunGoingOn")
        if LearningBoxTest.place is None:
            LearningBoxTest.place = tempfile.TemporaryDirectory(prefix="SemiSupSeg run ü ")
            self._train(Path(LearningBoxTest.place.name))
        self.trained = Path(LearningBoxTest.place.name)
        self.reviews = self.results
        self.results.mkdir()
        self.box = LearningBox(self.jobs, self.message_of_box, self._asked, lambda: self.reviews)
        self.addCleanup(self.box.close)
        self.box.settings = ("training.threads=1",)
        self.registered = []
        self.box.on_registered = lambda: self.registered.append(True)

    @classmethod
    def tearDownClass(cls):
        if LearningBoxTest.place is not None:
            LearningBoxTest.place.cleanup()
            LearningBoxTest.place = None

    def _train(self, folder):
        from SemiSupSegUI.command_job import run_command

        for number in range(5):
            _write_case(folder / "cases" / f"case{number}", number)
        (folder / "split.json").write_text(json.dumps(SPLIT))
        words = ["train", "--cases", str(folder / "cases"), "--out", str(folder / "run")]
        words += ["--task", "binary", "--split", str(folder / "split.json")]
        words += ["--iterations", "24", "--device", "cpu", "--no-report", "--set"]
        words += [f"{key}={value}" for key, value in SETTINGS.items()]
        ends = []
        run_command(self.jobs, words, ends.append)
        self.wait(lambda: ends, "the run")
        self.assertEqual(ends[0].error, "", ends[0].log)

    def review(self, case):
        """Save a case's truth as its reviewed label."""
        target = self.results / case
        target.mkdir()
        truth = self.trained / "cases" / case / "seg.nii.gz"
        (target / f"{case}_reviewed.nii.gz").write_bytes(truth.read_bytes())

    def look(self):
        """Wait until it is known whether it can be learnt."""
        self.wait(
            lambda: "being looked at" not in self.box._why_not_start(), "a look at the folders"
        )

    def test_what_is_missing_is_named_at_the_button(self):
        self.assertIn("Choose the run", self.box.start_button.toolTip)
        self.assertEqual(self.box.why_not_label.text, self.box.start_button.toolTip)
        self.reviews = None
        self.box.set_run(self.trained / "run")
        self.assertIn("Open a folder of results", self.box.start_button.toolTip)
        self.reviews = self.results
        self.box.refresh()
        self.look()
        self.assertIn("holds no reviewed case", self.box.start_button.toolTip)
        self.review("case4")
        self.box.refresh()
        self.look()
        self.assertIn("patients that the run is judged by", self.box.start_button.toolTip)
        self.box.set_run(self.trained / "cases")
        self.look()
        self.assertIn("is not a run folder", self.box.start_button.toolTip)
        self.assertFalse(self.box.start_button.enabled)
        for button in (self.box.stop_button, self.box.report_button, self.box.register_button):
            self.assertFalse(button.enabled)
            self.assertTrue(button.toolTip)

    def test_who_is_left_out_is_named_before_anything_is_learnt(self):
        self.review("case2")
        self.box.set_run(self.trained / "run")
        self.look()
        self.assertEqual(self.box.why_not_label.text, "")

        self.review("case4")
        self.box.refresh()
        self.look()

        self.assertTrue(self.box.start_button.enabled, self.box.start_button.toolTip)
        self.assertIn("1 reviewed case is left out", self.box.why_not_label.text)
        self.assertIn("case4", self.box.why_not_label.text)

    def test_a_changed_file_is_found_before_anything_is_learnt(self):
        self.review("case2")
        file = self.trained / "cases" / "case0" / "mri.nii.gz"
        former = file.read_bytes()
        self.addCleanup(file.write_bytes, former)
        file.write_bytes((self.trained / "cases" / "case1" / "mri.nii.gz").read_bytes())

        self.box.set_run(self.trained / "run")
        self.look()

        self.assertFalse(self.box.start_button.enabled)
        self.assertIn("has changed since", self.box.start_button.toolTip)

    def test_learning_is_followed_to_its_figures_its_report_and_its_model(self):
        from SemiSupSegUI.learning_box import LearningBox

        self.review("case2")
        self.box.set_run(self.trained / "run")
        self.look()
        self.assertTrue(self.box.start_button.enabled, self.box.start_button.toolTip)
        self.assertEqual(self.box.why_not_label.text, "")
        self.assertEqual(self.box.cases_edit.text, str((self.trained / "cases").resolve()))
        self.assertEqual(self.box.out_edit.text, str(self.trained / "run-corrected"))
        self.box.iterations_box.value = 12
        shares = []

        self.box.start()
        self.assertFalse(self.box.start_button.enabled)
        self.assertTrue(self.box.stop_button.enabled)
        job = self.box._run
        self.wait(lambda: job.view.status == "running", "its start")
        later = LearningBox(self.jobs, self.message_of_box, self._asked, lambda: self.reviews)
        self.addCleanup(later.close)
        later.pick_up()
        self.assertTrue(later.stop_button.enabled)

        def ended():
            shares.append(self.box.progress_bar.value)
            return job.is_ended

        self.wait(ended, "the learning")
        self.assertIn("Learnt", self.said)
        self.assertEqual(shares, sorted(shares))
        self.wait(lambda: later.sentence.text == self.box.sentence.text, "the later panel")
        self.assertFalse(later.is_running)
        another = LearningBox(self.jobs, self.message_of_box, self._asked, lambda: self.reviews)
        self.addCleanup(another.close)
        another.pick_up()
        self.assertIsNone(another._run)
        self.assertIn("Over 1 case", self.box.sentence.text)
        names = [self.box.table.item(row, 0).text() for row in range(self.box.table.rowCount)]
        self.assertEqual(names, ["object", "mean"])
        self.assertFalse(self.box.progress_bar.visible)
        self.look()
        self.assertEqual(self.box.out_edit.text, str(self.trained / "run-corrected-2"))

        self.box.open_report()
        self.wait(lambda: self.box.report_button.enabled, "the report")
        self.assertIn("report.html", self.said)
        self.assertTrue((self.trained / "run-corrected" / "report.html").is_file())
        self.box.register()
        self.wait(lambda: self.box.register_button.enabled, "the model")
        self.assertIn("is registered", self.said)
        self.assertEqual(self.registered, [True])

    def test_learning_stops_and_goes_on_in_the_same_folder(self):
        self.review("case3")
        self.box.set_run(self.trained / "run")
        self.box.set_out(self.trained / "stopped and gone on")
        self.look()
        self.box.iterations_box.value = 14
        self.box.start()
        job = self.box._run
        self.wait(lambda: job.view.status == "running", "its start")

        self.box.stop()
        self.assertIn("It stops after", self.box.stop_button.toolTip)
        self.wait(lambda: job.is_ended, "its end")
        self.assertIn("goes on from there", self.said)
        self.assertEqual(self.box.out_edit.text, str(self.trained / "stopped and gone on"))
        self.look()
        self.box.start()
        self.wait(lambda: self.box._run.is_ended, "the rest")

        self.assertIn("Learnt", self.said)

    def test_a_run_of_more_than_half_a_day_is_asked_about_once(self):
        from SemiSupSegLib.workers.run_view import RunView

        self.answer = False
        run = unittest.mock.Mock()
        run.is_ended = False
        run.view = RunView(status="running", phase="corrections", planned=10, seconds_left=50_000.0)
        self.box._run = run
        self.box._run_changed(run)
        self.box._run_changed(run)
        self.wait(lambda: self.asked, "the question")
        slicer.app.processEvents()

        self.assertEqual(self.asked, ["It will take about 14 hours. Go on?"])
        run.wish.assert_called_once_with("stop")
        self.box._run = None


if __name__ == "__main__":
    unittest.main()
