"""The parts of the section Train that need no run: table of cases, options, curves, layout."""

from __future__ import annotations

import sys
import unittest.mock
from pathlib import Path

import qt
import slicer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from semisupseg_testing import PanelTest


def case(number, state="labelled", patient=None, reasons=()):
    """Return a case as `scan --lines` tells it."""
    return {
        "kind": "case",
        "id": f"case {number:04d}",
        "patient": patient or f"p{number:04d}",
        "state": state,
        "channels": ["t1", "flair"],
        "size": [240, 240, 155],
        "spacing": [1.0, 1.0, 1.0],
        "is_checked": True,
        "reasons": list(reasons),
    }


BROKEN = {
    "severity": "error",
    "code": "unreadable",
    "file": "broken/t1.nii.gz",
    "message": "t1.nii.gz cannot be read",
    "remedy": "Copy it again",
}


class WordsTest(PanelTest):
    """What is counted in the panel's sentences."""

    def test_one_update_and_one_region_are_told_in_the_singular(self):
        from SemiSupSegUI.case_box import _many_undecided
        from SemiSupSegUI.training_plan import _estimate_lines

        told = {
            "seconds": 5.0,
            "device_name": "CPU",
            "memory_bytes": 1,
            "free_memory_bytes": 1,
            "disk_bytes": 1,
            "store_bytes": 1,
            "free_disk_bytes": None,
            "device_memory_bytes": None,
        }

        self.assertTrue(_estimate_lines(told, 1)[0].endswith(", 1 update"))
        self.assertTrue(_estimate_lines(told, 2)[0].endswith(", 2 updates"))
        self.assertIn("The only region is not decided", _many_undecided(1, 1))
        self.assertIn("1 of 2 regions", _many_undecided(1, 2))


class CaseTableTest(PanelTest):
    """The table of a folder's cases."""

    def setUp(self):
        super().setUp()
        from SemiSupSegUI.case_table import CaseTable

        self.num_selected = 0
        self.table = CaseTable(self._selected)

    def _selected(self):
        self.num_selected += 1

    def text(self, row, column):
        """Return what a cell shows."""
        model = self.table.view.model()
        return model.index(row, column).data()

    def choose(self, *ids):
        """Select the rows of these cases."""
        self.table.view.clearSelection()
        model, chosen = self.table.view.model(), self.table.view.selectionModel()
        for row in range(model.rowCount()):
            if model.index(row, 0).data() in ids:
                flags = qt.QItemSelectionModel.Select | qt.QItemSelectionModel.Rows
                chosen.select(model.index(row, 0), flags)

    def test_a_name_that_is_no_utf8_has_a_question_mark_and_still_means_its_case(self):
        file = "caf\udce9/t1.nii.gz"
        odd = case(1, patient="caf\udce9", reasons=[{**BROKEN, "file": file}])
        self.table.put(case(0))
        self.table.put({**odd, "id": "caf\udce9"})

        shown = [self.text(row, 0) for row in range(self.table.num_shown)]
        self.assertEqual(sorted(shown), ["caf?", "case 0000"])
        self.choose("caf?")
        self.assertEqual(self.table.selected, ["caf\udce9"])
        self.table.search_edit.text = "caf?/t1"
        self.assertEqual(self.table.num_shown, 1)
        self.assertIn("caf\udce9", self.table.finding_of("caf\udce9"))

    def test_two_thousand_cases_are_listed_and_found(self):
        for number in range(2000):
            self.table.put(case(number, "unlabelled" if number % 3 else "labelled"))

        self.assertEqual(self.table.num_shown, 2000)
        self.table.state_box.setCurrentIndex(self.table.state_box.findData("|labelled|"))
        self.assertEqual(self.table.num_shown, 667)
        self.table.search_edit.text = "0003"
        self.assertEqual(self.table.num_shown, 1)
        self.assertEqual(self.text(0, 0), "case 0003")

    def test_showing_what_cases_are_used_for_translates_no_word_a_row(self):
        from SemiSupSegUI import case_table

        for number in range(200):
            self.table.put(case(number))
        uses = {f"case {number:04d}": "validation" for number in range(200)}

        with unittest.mock.patch.object(case_table, "_", wraps=case_table._) as translate:
            self.table.set_uses(uses)

        self.assertEqual(translate.call_count, 0)
        self.assertEqual(self.text(199, 2), "validation")

    def test_uses_of_thousands_of_cases_are_known_at_once_and_shown_bit_by_bit(self):
        for number in range(600):
            self.table.put(case(number))

        self.table.set_uses({f"case {number:04d}": "validation" for number in range(600)})

        self.assertEqual(len(self.table.split()["validation"]), 600)
        self.assertEqual(self.text(0, 2), "validation")
        self.assertNotEqual(self.text(599, 2), "validation")
        self.wait(lambda: self.text(599, 2) == "validation", "the last row")
        shown = {self.text(row, 2) for row in range(600)}
        self.assertEqual(shown, {"validation"})

    def test_what_becomes_known_of_a_case_takes_the_place_of_what_was_known(self):
        self.table.put({**case(1), "size": None, "is_checked": False})
        self.table.put(case(1, "unusable", reasons=[BROKEN]))

        self.assertEqual(self.table.num_shown, 1)
        self.assertEqual(self.text(0, 1), "unusable")
        self.assertEqual(self.text(0, 5), "240x240x155")
        self.assertEqual(
            self.text(0, 6), "error: t1.nii.gz cannot be read. (broken/t1.nii.gz) Copy it again."
        )
        self.assertEqual(self.table.finding_of("case 0001"), self.text(0, 6))

    def test_states_and_findings_filter_the_rows(self):
        self.table.put(case(1))
        self.table.put(case(2, "unlabelled", reasons=[{**BROKEN, "severity": "warning"}]))
        self.table.put(case(3, "unusable", reasons=[BROKEN]))

        shown = {}
        for index in range(self.table.state_box.count):
            self.table.state_box.setCurrentIndex(index)
            ids = [self.text(row, 0)[-1] for row in range(self.table.num_shown)]
            shown[self.table.state_box.currentData] = "".join(sorted(ids))

        self.assertEqual(
            shown,
            {
                "": "123",
                "|labelled|": "1",
                "|unlabelled|": "2",
                "|reviewed|": "",
                "|unusable|": "3",
                "|findings|": "23",
            },
        )

    def test_rows_that_a_filter_brings_back_stand_in_the_order_that_the_titles_tell(self):
        for number in range(60):
            reasons = [BROKEN] if number in (7, 11, 40) else []
            self.table.put(case(number, "unlabelled" if number % 3 else "labelled", None, reasons))
        ids = [f"case {number:04d}" for number in range(60)]

        def shown():
            return [self.text(row, 0) for row in range(self.table.num_shown)]

        for key in ("|findings|", "|labelled|", ""):
            self.table.state_box.setCurrentIndex(self.table.state_box.findData(key))
            self.assertEqual(shown(), sorted(shown()))
        self.assertEqual(shown(), ids)
        for text in ("004", ""):
            self.table.search_edit.text = text
            self.assertEqual(shown(), sorted(shown()))
        self.table.view.sortByColumn(0, qt.Qt.DescendingOrder)
        self.table.state_box.setCurrentIndex(self.table.state_box.findData("|findings|"))
        self.table.state_box.setCurrentIndex(0)
        self.assertEqual(shown(), ids[::-1])

    def test_the_ids_of_two_time_points_can_be_told_apart(self):
        metrics = self.table.view.fontMetrics()
        # Beside them the cell has a margin.
        wide = metrics.horizontalAdvance("BraTS-GLI-00012-001") + 8

        self.assertGreaterEqual(self.table.view.columnWidth(0), wide)

    def test_uses_are_shown_and_make_a_split(self):
        for number, state in enumerate(("labelled", "labelled", "unlabelled", "unusable")):
            self.table.put(case(number, state))

        self.table.set_uses({"case 0000": "train_labelled", "case 0001": "validation"})
        self.table.set_uses({"case 0002": "train_unlabelled", "case 0003": "", "unknown": ""})

        self.assertEqual(
            self.table.split(),
            {
                "train_labelled": ["case 0000"],
                "train_unlabelled": ["case 0002"],
                "validation": ["case 0001"],
            },
        )
        words = [self.text(row, 2) for row in range(4)]
        self.assertEqual(
            words, ["training, with label", "validation", "training, without label", "left out"]
        )

    def test_a_use_that_a_case_cannot_have_becomes_one_that_it_can(self):
        for number, state in enumerate(("labelled", "unlabelled", "unusable", "reviewed")):
            self.table.put(case(number, state))

        possible = {
            use: [self.table.possible_use(f"case {number:04d}", use) for number in range(4)]
            for use in ("train_labelled", "validation", "")
        }

        self.assertEqual(
            possible,
            {
                "train_labelled": ["train_labelled", "train_unlabelled", "", "train_labelled"],
                "validation": ["validation", "train_unlabelled", "", "validation"],
                "": ["", "", "", ""],
            },
        )

    def test_selected_rows_and_the_other_cases_of_their_patients(self):
        for number in range(4):
            self.table.put(case(number, patient="same" if number < 2 else None))

        self.choose("case 0001", "case 0003")

        self.assertEqual(sorted(self.table.selected), ["case 0001", "case 0003"])
        self.assertGreater(self.num_selected, 0)
        found = self.table.of_same_patients(self.table.selected)
        self.assertEqual(found, ["case 0000", "case 0001", "case 0003"])


def option(key, kind="float", default=1.0, depth="all", **more):
    """Return an option as `plan` tells it."""
    return {
        "key": key,
        "group": key.partition(".")[0],
        "title": key.title(),
        "help": f"What {key} is.",
        "kind": kind,
        "default": default,
        "value": default,
        "depth": depth,
        "choices": None,
        **more,
    }


OPTIONS = [
    option("optimizer.rate", default=0.003, depth="common"),
    option("training.threads", kind="int", default=0),
    option("trust", kind="choice", default="prob_var", choices=["prob_var", "prob"]),
    option("warm_start", kind="bool", default=True, depth="common"),
    option("fractions", kind="list", default=[0.5, 1.0]),
]


class RunOptionsTest(PanelTest):
    """The form that is built from what the library says of its options."""

    def setUp(self):
        super().setUp()
        from SemiSupSegUI.run_options import RunOptions

        self.num_changes = 0
        self.options = RunOptions(self._changed)
        self.options.show(OPTIONS)

    def _changed(self):
        self.num_changes += 1

    def depth(self, name):
        """Choose how many options are shown, and return which are."""
        self.options.depth_box.setCurrentIndex(self.options.depth_box.findData(name))
        return [one["key"] for one in OPTIONS if self.options.editor(one["key"]) is not None]

    def test_three_depths(self):
        self.assertEqual(self.depth("preset"), [])
        self.assertEqual(self.depth("common"), ["optimizer.rate", "warm_start"])
        self.assertEqual(self.depth("all"), [one["key"] for one in OPTIONS])
        self.assertIn("What trust is.", self.options.editor("trust").toolTip)
        self.assertIn("(trust)", self.options.editor("trust").toolTip)

    def test_what_is_changed_becomes_a_setting_and_what_is_put_back_does_not(self):
        self.depth("all")
        rate = self.options.editor("optimizer.rate")
        self.assertEqual(rate.text, "0.003")

        rate.text = "0.01"
        # What the line's signal calls when the user presses Enter.
        self.options._edited("optimizer.rate", rate.text)
        self.options.editor("warm_start").checked = False
        trust = self.options.editor("trust")
        trust.setCurrentIndex(trust.findData("prob"))

        self.assertEqual(
            self.options.settings,
            {"optimizer.rate": "0.01", "warm_start": "false", "trust": "prob"},
        )
        self.assertEqual(self.num_changes, 3)
        self.assertIn("Trust = prob", self.options.changes.text)
        trust.setCurrentIndex(trust.findData("prob_var"))
        self.assertNotIn("trust", self.options.settings)
        self.options.reset()
        self.assertEqual(self.options.settings, {})
        self.assertEqual(rate.text, "0.003")
        self.assertTrue(self.options.editor("warm_start").checked)

    def test_changes_are_told_by_the_titles_of_the_form(self):
        options = [
            option("lambda_high", title="Weight of trusted voxels"),
            option("rate", title="Learning rate", group="Method"),
            option("quality.rate", title="Learning rate", group="Quality"),
        ]
        self.options.show(options)
        for one in options:
            self.options.set(one["key"], "2.0")

        self.assertEqual(
            self.options.changes.text,
            "Changed: Weight of trusted voxels = 2.0; Learning rate (Quality) = 2.0; "
            "Learning rate (Method) = 2.0",
        )

    def test_a_change_stays_when_fewer_options_are_shown(self):
        self.depth("all")
        self.options.set("fractions", "[1.0]")
        self.depth("preset")

        self.assertEqual(self.options.settings, {"fractions": "[1.0]"})
        self.depth("all")
        self.assertEqual(self.options.editor("fractions").text, "[1.0]")

    def test_what_is_being_typed_stays_when_an_answer_comes(self):
        self.depth("all")
        rate = self.options.editor("optimizer.rate")
        rate.text = "0.0"
        # As it is while somebody types.
        rate.modified = True

        self.options.show([dict(one) for one in OPTIONS])
        self.assertEqual(rate.text, "0.0")
        rate.text = "0.05"
        self.options._entered("optimizer.rate", rate)

        self.assertEqual(self.options.settings, {"optimizer.rate": "0.05"})
        self.options.reset()
        self.assertEqual(rate.text, "0.003")

    def test_another_method_has_other_options_and_keeps_the_changes_that_it_knows(self):
        self.options.set("fractions", "[1.0]")
        self.options.set("training.threads", "2")

        self.options.show(OPTIONS[:2])

        self.assertEqual(self.options.settings, {"training.threads": "2"})


def view(**changes):
    """Return what a watcher tells of a run."""
    from SemiSupSegLib.workers.run_view import RunView

    told = {
        "losses": {"ce": [[10, 1.0], [20, 0.5]], "dice": [[10, 0.9], [20, 0.8]]},
        "dice": {
            "student": {"WT": [[30, 0.5], [40, 0.6]], "TC": [[30, 0.3], [40, 0.4]]},
            "teacher": {"WT": [[10, 0.4], [20, 0.5]]},
        },
        "stage_marks": [
            {"stage": None, "iteration": 0},
            {"stage": 1, "iteration": 20},
            {"stage": 2, "iteration": 30},
        ],
        "stages": [
            {
                "stage": 1,
                "cases": 2,
                "shares": {"accepted": 0.75, "ignored": 0.0, "unlearned": 0.25},
                "by_class": {"edema": {"accepted": 0.7}, "necrosis": {"accepted": None}},
                "histogram": {"all": [3, 1], "stage": [0, 1]},
            },
            {
                "stage": 2,
                "cases": 4,
                "shares": {"accepted": 0.5, "ignored": 0.5, "unlearned": 0.0},
                "by_class": {"edema": {"accepted": 0.8}, "necrosis": {"accepted": 0.2}},
                "histogram": {"all": [3, 1], "stage": [1, 1]},
            },
        ],
    }
    return RunView(**{**told, **changes})


class WrappedLabelTest(PanelTest):
    """Texts of several lines."""

    def test_a_long_text_makes_the_panel_no_wider(self):
        from SemiSupSegUI.section import wrapped_label

        box = qt.QWidget()
        layout = qt.QVBoxLayout(box)
        label = wrapped_label()
        layout.addWidget(label)
        label.text = "The student follows the labelled cases alone. " * 12

        self.assertLess(box.sizeHint.width(), 100)
        self.assertGreater(label.heightForWidth(400), 4 * label.heightForWidth(100_000))


class LivePlotsTest(PanelTest):
    """The curves in Slicer's own plots."""

    def setUp(self):
        super().setUp()
        from SemiSupSegUI.live_plots import LivePlots

        self.plots = LivePlots()
        self.addCleanup(self.plots.leave)

    def chart(self, name):
        """Return the series of a chart as name to points."""
        node = slicer.mrmlScene.GetSingletonNode(
            f"SemiSupSegTraining.chart.{name}", "vtkMRMLPlotChartNode"
        )
        found = {}
        for index in range(node.GetNumberOfPlotSeriesNodes()):
            series = node.GetNthPlotSeriesNode(index)
            table = series.GetTableNode().GetTable()
            columns = [table.GetColumnByName(one) for one in ("x", "y")]
            found[series.GetName()] = [
                (columns[0].GetValue(row), columns[1].GetValue(row))
                for row in range(table.GetNumberOfRows())
            ]
        return found

    def test_curves_hold_the_points_that_the_run_tells(self):
        self.plots.show(view())

        self.assertEqual(self.chart("losses")["ce"], [(10.0, 1.0), (20.0, 0.5)])
        dice = self.chart("dice")
        self.assertEqual(set(dice), {"WT", "TC", "WT (teacher)", "stages"})
        # On to where the student is now.
        self.assertEqual(dice["WT (teacher)"], [(10.0, 0.4), (20.0, 0.5), (40.0, 0.5)])
        # Up at the first mark, down at the second.
        self.assertEqual(dice["stages"], [(20.0, 0.0), (20.0, 0.7), (30.0, 0.7), (30.0, 0.0)])
        voxels = self.chart("voxels")
        self.assertEqual(voxels["edema"], [(1.0, 0.7), (2.0, 0.8)])
        # A line of a single point is an error to VTK.
        self.assertEqual(voxels["necrosis"], [(2.0, 0.2), (2.0, 0.2)])
        cases = self.chart("cases")["all unlabelled cases"]
        self.assertEqual(
            cases, [(0.0, 0.0), (0.0, 3.0), (0.5, 3.0), (0.5, 1.0), (1.0, 1.0), (1.0, 0.0)]
        )

    def test_the_stages_stand_in_a_table_of_the_scene(self):
        self.need_layout()
        self.plots.show(view())
        self.plots.enter()

        tag = "SemiSupSegStages"
        shown = slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLTableViewNode")
        table = shown.GetTableNode()
        names = [table.GetColumnName(at) for at in range(table.GetNumberOfColumns())]
        rows = [
            [table.GetCellText(row, at) for at in range(len(names))]
            for row in range(table.GetNumberOfRows())
        ]
        self.assertEqual(
            names,
            [
                *("Stage", "Cases", "Trusted", "Ignored", "Unlearned"),
                *("edema trusted", "necrosis trusted"),
            ],
        )
        self.assertEqual(rows[0], ["1", "2", "75%", "0%", "25%", "70%", "-"])
        self.assertEqual(rows[1], ["2", "4", "50%", "50%", "0%", "80%", "20%"])

    def test_a_class_has_one_colour_and_the_teacher_is_dashed(self):
        self.plots.show(view())

        by_name = {
            one.GetName(): one for one in slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode")
        }
        student, teacher = by_name["WT"], by_name["WT (teacher)"]
        self.assertEqual(student.GetColor(), teacher.GetColor())
        self.assertNotEqual(student.GetColor(), by_name["TC"].GetColor())
        self.assertEqual(student.GetLineStyle(), student.LineStyleSolid)
        self.assertEqual(teacher.GetLineStyle(), teacher.LineStyleDash)
        self.assertEqual(student.GetPlotType(), student.PlotTypeScatter)

    def test_the_teacher_is_one_line_if_it_has_a_mean(self):
        dice = {
            "student": {"WT": [[30, 0.5]], "mean": [[30, 0.4]]},
            "teacher": {"WT": [[10, 0.4]], "mean": [[10, 0.3]]},
        }

        self.plots.show(view(dice=dice, stage_marks=[]))

        self.assertEqual(set(self.chart("dice")), {"WT", "mean", "mean (teacher)"})

    def test_losses_are_named_by_what_is_learnt_from(self):
        losses = {name: [[10, 1.0]] for name in ("ce", "dice", "supervised", "high", "loss")}

        self.plots.show(view(losses=losses))

        self.assertEqual(set(self.chart("losses")), {"labels", "trusted pseudo-labels"})

    def test_only_what_has_changed_is_touched_and_nothing_is_made_twice(self):
        self.plots.show(view())
        count = slicer.mrmlScene.GetNumberOfNodes()
        nodes = [
            one
            for one in slicer.util.getNodesByClass("vtkMRMLTableNode")
            if one.GetName() in ("ce", "WT")
        ]
        times = {one.GetName(): one.GetTable().GetMTime() for one in nodes}

        losses = {"ce": [[10, 1.0], [20, 0.5], [30, 0.4]], "dice": [[10, 0.9], [20, 0.8]]}
        self.plots.show(view(losses=losses))

        self.assertEqual(slicer.mrmlScene.GetNumberOfNodes(), count)
        after = {one.GetName(): one.GetTable().GetMTime() for one in nodes}
        self.assertEqual(after["WT"], times["WT"])
        self.assertNotEqual(after["ce"], times["ce"])
        self.assertEqual(len(self.chart("losses")["ce"]), 3)

    def test_a_curve_that_is_gone_leaves_no_nodes(self):
        self.plots.show(view())
        count = slicer.mrmlScene.GetNumberOfNodes()

        self.plots.show(view(losses={"ce": [[10, 1.0]]}))

        self.assertEqual(set(self.chart("losses")), {"ce"})
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodes(), count - 2)
        self.plots.clear()
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode"), [])
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLPlotChartNode"), [])

    def test_the_legend_covers_no_point_in_a_view_of_480_pixels(self):
        """A legend is as wide as its longest name; the view has 400 pixels between its axes."""
        points = [[10, 0.5], [1000, 0.6]]
        for name in ("WT", "mean (teacher)"):
            dice = {"student": {name: points}}
            self.plots.show(view(dice=dice, losses={name: points}, stage_marks=[]))

            for shown in ("dice", "losses"):
                chart = slicer.mrmlScene.GetSingletonNode(
                    f"SemiSupSegTraining.chart.{shown}", "vtkMRMLPlotChartNode"
                )
                _low, high = chart.GetXAxisRange()
                legend = 45 + 7 * len(name)
                self.assertLessEqual(400 * 1000 / high, 400 - legend)
                self.assertGreaterEqual(1000 / high, 0.5)

    def test_the_layout_is_entered_and_left_again(self):
        manager = self.need_layout()
        manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)
        self.plots.show(view())

        self.plots.enter()

        self.assertTrue(self.plots.is_visible)
        shown = [
            (one.GetSingletonTag(), one.GetPlotChartNode().GetSingletonTag())
            for one in slicer.util.getNodesByClass("vtkMRMLPlotViewNode")
            if one.IsMappedInLayout()
        ]
        self.assertEqual(
            sorted(shown),
            [
                (f"SemiSupSeg{name.capitalize()}", f"SemiSupSegTraining.chart.{name}")
                for name in sorted(("losses", "dice", "cases", "voxels"))
            ],
        )
        self.plots.leave()
        self.assertFalse(self.plots.is_visible)
        self.assertEqual(manager.layout, slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)

    def test_another_layout_that_the_user_has_chosen_stays(self):
        self.plots.show(view())
        self.plots.enter()
        manager = self.need_layout()
        manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)

        self.plots.leave()

        self.assertEqual(manager.layout, slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)

    def test_no_curve_goes_into_a_saved_scene(self):
        self.plots.show(view())

        for name in ("Chart", "Series"):
            for node in slicer.util.getNodesByClass(f"vtkMRMLPlot{name}Node"):
                self.assertFalse(node.GetSaveWithScene())

    def test_a_run_that_has_not_begun_has_empty_charts(self):
        self.plots.show(view(losses={}, dice={}, stage_marks=[], stages=[]))

        self.assertEqual(self.chart("losses"), {})
        self.assertEqual(self.chart("cases"), {})
