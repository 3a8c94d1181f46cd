"""The results table tells what the worker found, each figure under its own name."""

from __future__ import annotations

import sys
from pathlib import Path

import slicer

sys.path.insert(0, str(Path(__file__).resolve().parent))
from semisupseg_testing import PanelTest


class ResultsTableTest(PanelTest):
    """Filled with figures that a worker could have found."""

    def fill(self, **more):
        """Return a table of the made-up task's first class, by title."""
        from SemiSupSegUI import demonstration
        from SemiSupSegUI.table import fill_table
        from SemiSupSegUI.tasks import task_of

        content = {
            "volumes_ml": {"necrosis": {"value": 5.92, "low": 0.04, "high": 27.63}},
            "confidence": {"image": 0.55, "necrosis": 0.314},
            "teacher_student_dice": {"necrosis": 0.246},
            "review_regions": [{"class": "edema", "second_class": "necrosis"}],
            **more,
        }
        table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
        fill_table(table, content, task_of(str(demonstration.MODEL)))
        columns = range(table.GetNumberOfColumns())
        return {table.GetColumnName(at): table.GetCellText(0, at) for at in columns}

    def test_volume_range_confidence_and_regions_are_told(self):
        self.assertEqual(
            self.fill(),
            {
                "Name": "necrosis",
                "mL": "5.9",
                "mL range": "0.0-27.6",
                "Confidence": "0.31",
                "Dice T-S": "0.25",
                "Review": "1",
            },
        )

    def test_what_a_quality_network_thinks_is_told_beside_the_confidence(self):
        told = self.fill(estimated_dice={"necrosis": 0.487, "edema": None})

        self.assertEqual(told["Est. Dice"], "0.49")
        self.assertEqual(told["Confidence"], "0.31")
