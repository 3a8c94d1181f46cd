"""The window keeps decisions on this machine; workers bring them to the result's folder."""

from __future__ import annotations

import json
import sys
import unittest.mock
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from test_review_scene import ReviewSceneTest


class CarryingTest(ReviewSceneTest):
    """A result in a folder that is there, or away for a while."""

    def there(self, name="ann"):
        """Return the lines of a record in the result's folder."""
        text = (self.result / f"review.{name}.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def settle(self):
        """Wait until all is in the result's folder."""
        box = self.session.box
        self.wait(lambda: not self.review._carrying.is_waiting(box), "the carrying")

    def test_decisions_reach_the_results_folder_by_themselves(self):
        session = self.open()
        self.assertNotEqual(session.record.folder, self.result)
        self.assertTrue(session.record.path.is_relative_to(self.home))

        self.review.decide("confirmed")
        self.assertIn("saved on this machine", self.review.progress.text)
        self.review.decide("ignored")
        self.settle()

        self.assertEqual([one.get("status") for one in self.there()[1:]], ["confirmed", "ignored"])
        self.assertTrue(self.review.progress.text.endswith("saved"), self.review.progress.text)
        self.review.case_box.give_verdict("accepted")
        self.settle()
        self.assertEqual(self.there()[-1]["verdict"], "accepted")

    def test_a_folder_that_is_away_hinders_nobody_and_gets_all_afterwards(self):
        session = self.open()
        away = self.result.with_name("away")
        self.wait(lambda: self.widget.logic.jobs.is_idle, "the looks at the folder")
        self.result.rename(away)

        self.review.decide("confirmed")
        self.wait(lambda: "kept on this machine" in self.review.message.text, "the message")
        self.review.relabel()
        self.assertEqual(session.record.statuses, {1: "confirmed", 2: "relabelled"})
        self.assertIn("saved on this machine", self.review.progress.text)
        away.rename(self.result)
        # The next trial; a user waits some seconds for it.
        self.review._carrying._start()
        self.settle()

        self.assertEqual(self.there()[-1]["status"], "relabelled")

    def test_a_full_disk_is_told_in_sentences_with_where_decisions_are(self):
        from SemiSupSegUI import carrying

        self.open()
        self.wait(lambda: self.widget.logic.jobs.is_idle, "the looks at the folder")
        is_full = OSError(28, "No space left on device", "/x/jobs/job-1/state.json")
        with unittest.mock.patch.object(carrying, "run_command", side_effect=is_full):
            self.review.decide("confirmed")
            self.wait(lambda: "kept on this machine" in self.review.message.text, "the message")
            told = self.review.message.text

        self.assertNotIn("Errno", told)
        self.assertIn("The disk is full", told)
        self.assertIn(str(self.result), told)
        self.review._carrying._start()
        self.settle()
        self.assertEqual(self.there()[-1]["status"], "confirmed")

    def test_while_a_worker_hangs_decisions_go_on_and_only_one_worker_is_started(self):
        from SemiSupSegUI import carrying

        session = self.open()
        # Each look at the folder carries what waits, too.
        self.wait(lambda: self.widget.logic.jobs.is_idle, "the looks at the folder")
        started = []
        hanging = unittest.mock.Mock(is_ended=False)

        def run_command(_jobs, words, on_end, **_options):
            started.append((words, on_end))
            return hanging

        with unittest.mock.patch.object(carrying, "run_command", run_command):
            self.review.decide("confirmed")
            self.wait(lambda: started, "the worker")
            self.review.decide("ignored")
            self.review.undo()
            self.review._carrying._start()
            self.assertEqual(len(started), 1)
            self.review._carrying._tell_silence()
            self.assertIn("has not answered for 20 s", self.review.message.text)
            self.assertIn(str(self.result), self.review.message.text)
        self.assertEqual(session.record.statuses, {1: "confirmed"})
        self.assertEqual(len(self.there()), 1)

    def test_what_was_left_by_an_earlier_session_is_carried_when_the_module_is_shown(self):
        session = self.open()
        self.wait(lambda: self.widget.logic.jobs.is_idle, "the looks at the folder")
        session.record.decide(1, "confirmed")
        box = session.box
        # No goodbye, as after a crash: nobody was asked to carry it.
        session.let_go()
        self.review.session = None
        self.assertTrue(box.is_waiting)

        self.panel.enter()
        self.wait(lambda: not box.is_waiting, "the carrying")

        self.assertEqual(self.there()[-1]["status"], "confirmed")

    def test_who_was_overtaken_is_told_where_the_own_decisions_are(self):
        from SemiSupSegLib.review.record import ReviewRecord

        self.open()
        self.wait(lambda: self.widget.logic.jobs.is_idle, "the looks at the folder")
        ReviewRecord.open(self.result, "ann").decide(1, "ignored")

        self.review.decide("confirmed")
        self.wait(lambda: self.session is None, "the panel to notice")

        self.assertIn("review.ann.1.jsonl", self.review.message.text)
        self.assertEqual(self.there("ann.1")[-1]["status"], "confirmed")
        self.assertEqual(self.there()[-1]["status"], "ignored")
        self.open()
        self.assertEqual(self.session.record.statuses, {1: "ignored"})
        self.review.decide("confirmed")
        self.settle()
        self.assertEqual(self.there()[-1]["status"], "confirmed")

    def test_closing_the_review_brings_the_last_of_it_there(self):
        self.open()
        self.review.decide("confirmed")
        box = self.session.box

        self.review.close()
        self.wait(lambda: not self.review._carrying.is_waiting(box), "the carrying")

        self.assertIn("confirmed", [one.get("status") for one in self.there()])
        self.assertFalse(box.is_waiting)
