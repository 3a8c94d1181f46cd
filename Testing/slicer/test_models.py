"""The section Models: import, list, rename, choose, export, delete."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import slicer

sys.path.insert(0, str(Path(__file__).resolve().parent))
from semisupseg_testing import PanelTest, run_in_workers_python

# Another model that has the name of the first: nothing but its manifest differs.
ANOTHER_MODEL = """
from pathlib import Path
from SemiSupSegLib.models import registry
from SemiSupSegLib.models.package import read_package, write_package
source, folder, name = sys.argv[1:]
package = read_package(Path(source))
write_package(
    Path(folder),
    manifest={**package.manifest, "name": "another"},
    weights={role: package.weights(role) for role in ("student", "teacher")},
    card="# Another",
)
registry.register(Path(folder), name)
"""


class ModelsTest(PanelTest):
    """With the package that is shipped for made-up cases, registered as a user's own."""

    def setUp(self):
        super().setUp()
        from SemiSupSegUI import demonstration

        self.package = demonstration.MODEL
        self.models = self.panel.models

    def import_package(self, source):
        """Import as a user does, and wait."""
        self.need_worker()
        self.models.import_model(str(source))
        self.wait(lambda: self.models._job.is_ended, "the import")

    def rows(self):
        """Return the names in the table."""
        table = self.models.table
        return [table.item(row, 0).text() for row in range(table.rowCount)]

    def test_an_imported_model_is_listed_and_chosen(self):
        self.import_package(self.package)

        self.assertIn("imported", self.models.message.text)
        self.assertEqual(self.rows(), ["Demonstration only (default)"])
        self.assertEqual(self.segment.model_box.currentText, "Demonstration only")
        self.assertIn("validation Dice", self.segment.model_line.text)
        self.models.select("Demonstration only")
        self.models.details_button.checked = True
        self.models.show_details()
        self.assertIn("Segments: necrosis, edema, enhancing", self.models.details.plainText)
        self.assertIn("Trained on: 4 labelled and 18 unlabelled", self.models.details.plainText)

    def test_a_scene_knows_its_model_whatever_its_name_is_here(self):
        from SemiSupSegLib.models import registry

        self.import_package(self.package)
        file = str(self.folder / "scene.mrml")
        self.assertTrue(slicer.util.saveScene(file))
        slicer.mrmlScene.Clear(0)
        registry.rename("Demonstration only", "Tumours")
        other = str(self.folder / "other")
        run_in_workers_python(ANOTHER_MODEL, str(self.package), other, "Demonstration only")
        self.panel.enter()

        slicer.util.loadScene(file)

        self.wait(lambda: self.segment.model_box.currentText == "Tumours", "the panel to notice")

    def test_a_scene_whose_model_is_not_here_says_so(self):
        from SemiSupSegLib.models import registry

        self.import_package(self.package)
        file = str(self.folder / "scene.mrml")
        self.assertTrue(slicer.util.saveScene(file))
        slicer.mrmlScene.Clear(0)
        registry.delete("Demonstration only")
        self.panel.enter()

        slicer.util.loadScene(file)

        self.wait(lambda: "not registered" in self.segment.model_line.text, "the panel to notice")
        self.panel.enter()
        self.assertEqual(
            self.segment.model_line.text,
            "The model of this scene (Demonstration only) is not registered here.\n"
            "No model is registered.",
        )
        other = str(self.folder / "other")
        run_in_workers_python(ANOTHER_MODEL, str(self.package), other, "Another")
        slicer.mrmlScene.Clear(0)
        slicer.util.loadScene(file)
        self.wait(
            lambda: "What is chosen now is another one." in self.segment.model_line.text,
            "the panel to notice",
        )

    def test_a_changed_package_is_refused_with_its_reason(self):
        copy = self.folder / "changed"
        shutil.copytree(self.package, copy)
        manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
        manifest["training"]["labelled"] = 400
        (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")

        self.import_package(copy)

        self.assertIn("manifest.json", self.models.message.text)
        self.assertEqual(self.rows(), [])

    def test_a_pickle_in_a_package_is_refused(self):
        copy = self.folder / "pickled"
        shutil.copytree(self.package, copy)
        (copy / "weights.pt").write_bytes(b"\x80\x04K\x01.")

        self.import_package(copy)

        self.assertIn("weights.pt", self.models.message.text)
        self.assertEqual(self.rows(), [])

    def test_an_exported_model_can_be_imported_under_another_name(self):
        self.import_package(self.package)
        self.models.select("Demonstration only")
        file = self.folder / "model.zip"
        self.models.export_model(str(file))
        self.wait(lambda: self.models._job.is_ended, "the export")
        self.assertTrue(file.is_file())
        self.state.model = ""
        self.segment.read_models()
        self.state.model = ""
        self.panel.ask_text = lambda question, text: "Other"
        self.models.select("Demonstration only")
        self.models.rename()
        self.assertEqual(self.rows(), ["Other (default)"])

        self.import_package(file)

        self.assertEqual(self.rows(), ["Demonstration only", "Other (default)"])

    def test_the_model_in_use_is_not_deleted_and_others_only_when_asked(self):
        self.import_package(self.package)
        self.models.select("Demonstration only")
        self.assertFalse(self.models.delete_button.enabled)
        self.assertIn("chosen in Segment", self.models.delete_button.toolTip)
        self.state.model = "something else"
        self.models.update()
        self.answer = False
        self.models.delete()
        self.assertEqual(len(self.rows()), 1)
        self.answer = True

        self.models.delete()

        self.assertEqual(self.rows(), [])
        self.assertIn("Delete the model Demonstration only", self.asked[0])
