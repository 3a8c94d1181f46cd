"""Which region a key decides, and which it leaves as it is."""

from __future__ import annotations

import sys
import unittest.mock
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from test_review_scene import ReviewSceneTest as _ReviewSceneTest


class KeysTest(_ReviewSceneTest):
    """Three regions, and what C, K, L and X do with the one that is shown."""

    def setUp(self):
        super().setUp()
        self.open()
        self.keys = self.review.keys()
        self.buttons = (
            self.review.confirm_button,
            self.review.ignore_button,
            self.review.relabel_button,
            self.review.fix_button,
        )

    def filter(self, box, data):
        """Choose in one of the boxes above the table."""
        box.setCurrentIndex(box.findData(data))

    def confirm_all(self):
        """Confirm one region after the other; the last one stays."""
        for number in (1, 2, 3):
            self.assertEqual(self.review._region, number)
            self.keys["C"]()

    def assert_keys_are_refused(self, words):
        """Press each key: the record stays, and the reason is told, on the buttons too."""
        before = self.session.record.path.read_text(encoding="utf-8")
        for key in "CKLX":
            self.review.message.clear()
            self.keys[key]()
            self.assertIn(words, self.review.message.text, key)
        self.assertEqual(self.session.record.path.read_text(encoding="utf-8"), before)
        self.assertFalse(self.review.editor.is_open)
        for button in self.buttons:
            self.assertFalse(button.enabled, button.text)
            self.assertIn(words, button.toolTip)

    def test_a_region_that_the_filter_does_not_list_is_not_decided(self):
        self.filter(self.review.regions.class_box, "edema")
        self.assertEqual(self.review._region, 1)

        self.assert_keys_are_refused("Region 1 is not listed")

        self.keys["N"]()
        self.assertEqual(self.review._region, 2)
        self.keys["C"]()
        self.assertEqual(self.session.record.statuses, {2: "confirmed"})

    def test_a_filter_that_leaves_no_row_leaves_nothing_to_decide(self):
        self.filter(self.review.regions.status_box, "ignored")

        self.assert_keys_are_refused("Region 1 is not listed")
        for key in "NP":
            self.review.message.clear()
            self.keys[key]()
            self.assertEqual(self.review._region, 1)
            self.assertIn("No region is of this class and status", self.review.message.text)

    def test_the_filters_of_one_case_hide_nothing_of_the_next(self):
        self.filter(self.review.regions.class_box, "edema")
        self.filter(self.review.regions.status_box, "ignored")
        self.review.close()

        self.open()

        self.assertEqual(self.review.regions.from_row_of(None), [1, 2, 3])
        self.assertTrue(self.review.confirm_button.enabled)

    def test_the_buttons_come_back_with_the_filter(self):
        self.filter(self.review.regions.status_box, "ignored")
        self.filter(self.review.regions.status_box, None)

        for button in self.buttons[:3]:
            self.assertTrue(button.enabled, button.text)

    def test_the_last_open_region_is_not_decided_twice_by_a_key(self):
        self.confirm_all()

        self.assertEqual(self.review._region, 3)
        self.assert_keys_are_refused("Region 3 is decided already: confirmed")

    def test_the_last_region_of_a_class_is_not_decided_twice_by_a_key(self):
        self.filter(self.review.regions.class_box, "edema")
        self.keys["N"]()
        self.keys["C"]()

        self.assertIn("Other regions are open still", self.review.message.text)
        self.assert_keys_are_refused("Region 2 is decided already: confirmed")

    def test_a_click_on_its_row_lets_a_decided_region_be_decided_anew(self):
        self.confirm_all()

        self.review.regions._clicked(2, 0)
        self.keys["K"]()

        self.assertEqual(self.session.status(3), "ignored")

    def test_going_back_lets_a_decided_region_be_decided_anew(self):
        self.keys["C"]()
        self.keys["P"]()
        self.keys["K"]()

        self.assertEqual(self.session.record.statuses, {1: "ignored"})
        self.assertEqual(self.review._region, 2)

    def test_what_was_taken_back_can_be_decided(self):
        self.confirm_all()

        self.keys["Ctrl+Z"]()
        self.keys["K"]()

        self.assertEqual(self.session.status(3), "ignored")

    def test_next_shows_decided_regions_and_leaves_them_decided(self):
        self.confirm_all()

        self.keys["N"]()

        self.assertEqual(self.review._region, 1)
        self.assert_keys_are_refused("Region 1 is decided already: confirmed")

    def test_a_finished_review_that_is_opened_again_stays_as_it_is(self):
        self.confirm_all()
        self.review.close()
        self.open()

        self.assert_keys_are_refused("Region 1 is decided already: confirmed")

    def test_a_fix_ends_well_although_the_filter_was_changed_meanwhile(self):
        if self.review.editor.why_not:
            self.skipTest(self.review.editor.why_not)
        self.keys["X"]()
        self.filter(self.review.regions.class_box, "edema")

        self.review.finish_fix()

        self.assertEqual(self.session.status(1), "fixed")
        self.assertEqual(self.review._region, 2)

    def test_each_button_tells_its_key_and_next_says_why_there_is_none(self):
        self.keys["C"]()

        for button, key in (
            (self.review.previous_button, "P"),
            (self.review.next_button, "N"),
            (self.review.confirm_button, "C"),
            (self.review.ignore_button, "K"),
            (self.review.relabel_button, "L"),
            (self.review.undo_button, "Ctrl+Z"),
        ):
            self.assertTrue(button.toolTip.startswith(f"{key}: "), button.toolTip)
        if not self.review.editor.why_not:
            self.assertTrue(self.review.fix_button.toolTip.startswith("X: "))
        self.filter(self.review.regions.status_box, "ignored")
        for button in (self.review.previous_button, self.review.next_button):
            self.assertFalse(button.enabled)
            self.assertIn("No region is of this class and status", button.toolTip)

    def test_progress_in_a_single_region_is_told_as_one(self):
        progress = self.session.record.progress(self.session.regions[:1])
        with unittest.mock.patch.object(self.session.record, "progress", return_value=progress):
            self.review.update()

        self.assertTrue(self.review.progress.text.startswith("0 of 1 region decided, 0 %"))
