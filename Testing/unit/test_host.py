"""The stand-in host is as strict as the recorded API, and real where it draws and saves."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from Testing.host import HostMissingError, make_excerpt, missing_libraries, start_host

try:
    running = start_host()
except HostMissingError as error:
    pytest.skip(str(error), allow_module_level=True)

import ctk
import qt
import slicer
import slicer.util
import vtk

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT.parent / "shared" / "design" / "pythonqt-api.json.gz"


@pytest.fixture(autouse=True)
def host():
    """An empty host that has nothing to complain about afterwards."""
    running.reset()
    yield running
    left = list(map(str, running.complaints))
    running.reset()
    assert not left, "\n".join(left)


@pytest.fixture
def a_button():
    return qt.QPushButton("Apply")


@pytest.fixture
def a_volume():
    """A box of 100 in 0, as floating point."""
    voxels = np.zeros((16, 20, 24), np.float32)
    voxels[4:12, 6:14, 8:16] = 100
    return slicer.util.addVolumeFromArray(voxels, name="T1")


class TestExcerpt:
    @pytest.mark.skipif(not RECORDED.is_file(), reason=f"{RECORDED} is not in a public clone")
    def test_the_excerpt_is_what_was_recorded(self):
        recorded = make_excerpt.read_recorded(RECORDED)

        assert make_excerpt.EXCERPT.read_text() == make_excerpt.dumps(
            make_excerpt.excerpt(recorded)
        )

    def test_a_class_that_was_not_recorded_is_named(self, monkeypatch):
        monkeypatch.setattr(make_excerpt, "wanted_classes", lambda: ["QInvented"])
        empty = {"classes_seen_only_as_instances": {}} | {
            module: {"classes": {}} for module in ("qt", "ctk", "slicer")
        }

        with pytest.raises(KeyError, match="QInvented"):
            make_excerpt.excerpt(empty)

    @pytest.mark.parametrize(
        ("recorded", "short"),
        [
            ("text() -> QString", "->QString"),
            ("setText(QString text) -> void", "QString->"),
            ("static f(QMap<int,QString> m, unsigned int) -> bool  [QBase]", None),
        ],
    )
    def test_an_overload_is_kept_without_names(self, recorded, short):
        expected = short or "static QMap<int,QString>,unsigned int->bool"

        assert make_excerpt.short_overload(recorded) == expected

    def test_every_extra_entry_names_its_source(self):
        extra = json.loads((ROOT / "Testing/host/extra_api.json").read_text())

        assert all(entry["source"] for entry in extra["classes"].values())

    def test_the_record_is_compressed_json(self):
        if not RECORDED.is_file():
            pytest.skip(f"{RECORDED} is not in a public clone")
        with gzip.open(RECORDED) as file:
            assert file.read(1) == b"{"


class TestMembers:
    def test_an_unknown_attribute_cannot_be_read(self, a_button):
        with pytest.raises(AttributeError, match="no attribute 'setTexts'"):
            a_button.setTexts("x")

    def test_an_unknown_attribute_cannot_be_set(self, a_button):
        with pytest.raises(AttributeError, match="no attribute 'txet'"):
            a_button.txet = "x"

    def test_pyside_names_that_pythonqt_lacks_are_unknown(self, a_button):
        assert hasattr(a_button, "isChecked")
        assert not hasattr(a_button, "staticMetaObject")
        assert not hasattr(a_button, "toolTipDuration_")

    def test_an_unknown_class_is_unknown(self):
        with pytest.raises(AttributeError, match="QInvented"):
            qt.QInvented  # noqa: B018

    def test_a_property_is_an_attribute(self, a_button):
        a_button.text = "Go"

        assert a_button.text == "Go"
        with pytest.raises(TypeError, match="not callable"):
            a_button.text()

    @pytest.mark.parametrize(("given", "shown"), [(5, "5"), (None, "None")])
    def test_a_text_property_takes_anything(self, a_button, given, shown):
        a_button.text = given

        assert a_button.text == shown

    def test_a_read_only_property_cannot_be_set(self, a_button):
        with pytest.raises(AttributeError, match="read-only"):
            a_button.width = 3

    def test_a_node_is_not_a_bool(self, a_button, a_volume):
        with pytest.raises(AttributeError, match="does not accept"):
            a_button.enabled = a_volume

    def test_name_is_the_object_name(self, a_button):
        a_button.name = "applyButton"

        assert a_button.objectName == "applyButton"

    def test_keyword_arguments_are_refused(self, a_button):
        with pytest.raises(ValueError, match="no keyword arguments"):
            a_button.setText(text="x")
        with pytest.raises(ValueError, match="no keyword arguments"):
            qt.QPushButton(text="x")

    def test_wrong_arguments_are_refused_with_the_overloads(self, a_button):
        with pytest.raises(ValueError, match=r"no overload for .*'x'.*\(int, int\)"):
            a_button.resize("x")

    def test_enums_are_numbers(self):
        assert qt.QMessageBox.Yes == qt.QMessageBox.StandardButton.Yes == 16384
        assert qt.QMessageBox.Yes | qt.QMessageBox.No == 81920
        assert ctk.ctkPathLineEdit.Dirs == 1
        with pytest.raises(AttributeError, match="Maybe"):
            qt.QMessageBox.StandardButton.Maybe  # noqa: B018

    def test_an_enum_property_is_a_number(self):
        label = qt.QLabel("x")
        label.alignment = qt.Qt.AlignRight

        assert label.alignment & qt.Qt.AlignRight == 2

    def test_lists_come_back_as_tuples(self):
        box = qt.QWidget()
        qt.QVBoxLayout(box)

        assert isinstance(box.children(), tuple)

    def test_single_shot_is_the_static_function(self):
        assert callable(qt.QTimer().singleShot)

    def test_one_object_has_one_proxy(self, a_button):
        box = qt.QWidget()
        qt.QVBoxLayout(box).addWidget(a_button)

        assert box.layout().itemAt(0).widget() is a_button
        assert a_button.parent() is box

    def test_classes_do_not_inherit_in_python(self, a_button):
        assert not issubclass(qt.QPushButton, qt.QWidget)
        assert a_button.inherits("QWidget")
        assert a_button.className() == "QPushButton"

    def test_a_deleted_object_raises(self, a_button):
        a_button.delete()

        with pytest.raises(ValueError, match="destroyed"):
            a_button.text  # noqa: B018

    def test_a_deleted_object_is_like_none_but_not_none(self, a_button):
        assert a_button
        assert a_button != None  # noqa: E711 - that is the question
        a_button.delete()

        assert not a_button
        assert a_button == None  # noqa: E711
        assert a_button is not None

    def test_an_object_that_is_only_used_goes_with_its_last_reference(self):
        view, proxy, group = qt.QTableView(), qt.QSortFilterProxyModel(), qt.QButtonGroup()
        held = qt.QStandardItemModel()
        proxy.setSourceModel(held)
        view.setModel(qt.QStandardItemModel())
        group.addButton(qt.QRadioButton("One"))
        child = qt.QRadioButton("Two", view)
        group.addButton(child)
        del child

        assert view.model() is None
        assert proxy.sourceModel is held
        assert [button.text for button in group.buttons()] == ["Two"]

    def test_a_subclass_keeps_its_own_state_and_its_virtuals_are_called(self, a_button):
        class Watcher(qt.QObject):
            def eventFilter(self, watched, event):  # noqa: N802 - Qt's name
                self.seen = (watched, event.type())
                return False

        watcher = Watcher()
        a_button.installEventFilter(watcher)
        a_button.enabled = False

        assert watcher.seen == (a_button, qt.QEvent.EnabledChange)


class TestSignals:
    def test_connect_to_a_signal_is_true_and_to_another_false(self, host, a_button):
        assert a_button.connect("clicked(bool)", print)
        with host.expected_complaints() as found:
            assert a_button.connect("clickd(bool)", print) is False
        assert "No such signal QPushButton::clickd(bool)" in found[0].text

    def test_a_slot_takes_as_many_arguments_as_it_declares(self, a_button):
        got = []
        a_button.checkable = True
        a_button.connect("toggled(bool)", lambda: got.append("none"))
        a_button.connect("toggled(bool)", got.append)
        a_button.connect("toggled(bool)", lambda on, more=7: got.append((on, more)))

        a_button.checked = True

        assert got == ["none", True, (True, 7)]

    def test_an_exception_in_a_slot_is_kept_and_swallowed(self, host, a_button):
        a_button.connect("clicked()", lambda: 1 / 0)

        with host.expected_complaints() as found:
            a_button.click()

        assert "ZeroDivisionError" in found[0].text

    def test_an_exception_in_an_observer_is_kept(self, host, a_volume):
        a_volume.AddObserver("ModifiedEvent", lambda *_: 1 / 0)

        with host.expected_complaints() as found:
            a_volume.Modified()

        assert found[0].kind == "observer"

    def test_disconnect_needs_the_same_callable(self, a_button):
        got = []
        a_button.connect("clicked(bool)", got.append)

        assert not a_button.disconnect("clicked(bool)", print)
        assert a_button.disconnect("clicked(bool)", got.append)
        a_button.click()
        assert got == []

    def test_a_signal_attribute_connects_and_emits(self, a_button):
        got = []
        assert a_button.clicked.connect(got.append)

        a_button.clicked.emit(True)

        assert got == [True]

    def test_overloads_are_told_apart(self):
        box = ctk.ctkDoubleSpinBox()
        got = []
        box.connect("valueChanged(double)", got.append)
        box.connect("valueChanged(QString)", got.append)

        box.value = 2.5

        assert got == [2.5, "2.50"]

    def test_a_timer_that_holds_the_event_loop_is_noticed(self, host):
        import time

        def slow():
            time.sleep(0.06)

        qt.QTimer.singleShot(0, slow)
        assert host.spin(lambda: host.slow_calls, 2)
        assert "slow" in host.slow_calls[0].label

    def test_a_modal_dialog_answers_at_once(self, host):
        with host.expected_complaints() as found:
            assert qt.QMessageBox.question(None, "Stop?", "Really?") == qt.QMessageBox.No
        assert "Really?" in found[0].text
        host.dialog_answers["QMessageBox.question"] = qt.QMessageBox.Yes
        assert qt.QMessageBox.question(None, "Stop?", "Really?") == qt.QMessageBox.Yes


class TestTables:
    @pytest.fixture
    def a_table(self):
        table = qt.QTableWidget(3, 1)
        for row, number in enumerate((9.5, 100.0, 20.0)):
            item = qt.QTableWidgetItem()
            item.setData(qt.Qt.DisplayRole, number)
            item.setData(qt.Qt.UserRole, row + 1)
            table.setItem(row, 0, item)
        return table

    def test_numbers_are_sorted_as_numbers_and_items_keep_their_data(self, a_table):
        a_table.sortItems(0, qt.Qt.DescendingOrder)

        assert [a_table.item(row, 0).data(qt.Qt.UserRole) for row in range(3)] == [2, 3, 1]

    def test_texts_are_sorted_as_texts(self, a_table):
        for row, text in enumerate(("9.5", "100.0", "20.0")):
            a_table.setItem(row, 0, qt.QTableWidgetItem(text))

        a_table.sortItems(0)

        assert [a_table.item(row, 0).text() for row in range(3)] == ["100.0", "20.0", "9.5"]

    def test_a_row_that_is_chosen_by_program_is_told(self, a_table):
        got = []
        a_table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        a_table.setSelectionMode(qt.QAbstractItemView.SingleSelection)
        assert a_table.connect("currentCellChanged(int,int,int,int)", lambda row: got.append(row))
        assert a_table.connect("itemSelectionChanged()", lambda: got.append("selection"))

        a_table.selectRow(1)

        assert got == [1, "selection"]
        assert a_table.currentRow() == 1

    def test_hidden_rows_stay_hidden_at_their_place_when_sorted(self, a_table):
        a_table.setRowHidden(0, True)

        a_table.sortItems(0, qt.Qt.AscendingOrder)

        assert a_table.isRowHidden(0)
        assert a_table.item(0, 0).data(qt.Qt.UserRole) == 1

    def test_a_header_tells_where_it_was_clicked(self, a_table):
        got = []
        assert a_table.horizontalHeader().connect("sectionClicked(int)", got.append)
        a_table.sortingEnabled = True

        a_table.horizontalHeader().sectionClicked.emit(0)

        assert got == [0]

    def test_a_range_is_cut_to_new_limits(self):
        box = ctk.ctkRangeWidget()
        got = []
        assert box.connect(
            "valuesChanged(double,double)", lambda low, high: got.append((low, high))
        )

        box.setRange(10, 60)

        assert got == [(10, 60)]
        assert (box.minimumValue, box.maximumValue) == (10, 60)


class TestNumbers:
    def test_numpys_whole_numbers_are_taken_and_its_broken_ones_not(self):
        box = qt.QSpinBox()
        box.value = np.int64(3)
        box.setValue(np.int32(4))

        for number in (np.float64(5), np.float32(5)):
            with pytest.raises(AttributeError, match="does not accept"):
                box.value = number
            with pytest.raises(ValueError, match="no overload"):
                box.setValue(number)
        assert box.value == 4

    def test_any_number_is_a_broken_one(self):
        box = qt.QDoubleSpinBox()
        got = []
        for number in (True, 2, np.float64(3), np.float32(4), np.int64(5)):
            box.value = number
            got.append(box.value)

        assert got == [1.0, 2.0, 3.0, 4.0, 5.0]


class TestLists:
    def test_lists_of_model_indices_are_tuples(self):
        model = qt.QStandardItemModel()
        model.setColumnCount(2)
        model.insertRow(0)
        view = qt.QTableView()
        view.setModel(model)
        view.selectRow(0)
        selection = view.selectionModel()

        rows, cells = selection.selectedRows(1), selection.selectedIndexes

        assert [index.column() for index in rows] == [1]
        assert [index.column() for index in cells] == [0, 1]
        assert isinstance(rows, tuple)

    def test_lists_of_texts_and_of_objects_are_tuples(self):
        widget = qt.QWidget()
        button = qt.QPushButton(widget)

        assert widget.findChildren(qt.QPushButton) == (button,)
        assert slicer.app.userSettings().allKeys() == ()


class TestNodeComboBox:
    @pytest.fixture
    def a_selector(self):
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.setMRMLScene(slicer.mrmlScene)
        return selector

    def test_it_follows_nodes_and_names(self, a_selector, a_volume):
        assert a_selector.currentNode() is a_volume
        assert a_selector.nodeCount() == 1
        renamed = []
        a_selector.connect("currentNodeRenamed(QString)", renamed.append)
        a_volume.SetName("FLAIR")
        assert renamed == ["FLAIR"]

        slicer.mrmlScene.RemoveNode(a_volume)

        assert a_selector.currentNode() is None
        assert a_selector.currentNodeID == ""

    def test_it_tells_the_node(self, a_selector):
        got = []
        assert a_selector.connect("currentNodeChanged(vtkMRMLNode*)", got.append)
        assert a_selector.connect("currentNodeChanged(bool)", got.append)

        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "A")

        assert got == [volume, True]

    def test_none_can_be_chosen_where_it_is_offered(self, a_selector, a_volume):
        a_selector.noneEnabled = True
        a_selector.setCurrentNode(None)
        assert a_selector.currentNode() is None

        a_selector.setCurrentNodeID(a_volume.GetID())

        assert a_selector.currentNode() is a_volume

    def test_a_neighbour_is_chosen_when_the_chosen_node_goes(self, a_selector):
        a_selector.noneEnabled = True
        a, b, c = (
            slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in "abc"
        )
        a_selector.setCurrentNode(b)
        got = []
        a_selector.connect(
            "currentNodeChanged(vtkMRMLNode*)",
            lambda node: got.append((node, slicer.mrmlScene.IsNodePresent(b))),
        )

        slicer.mrmlScene.RemoveNode(b)
        slicer.mrmlScene.RemoveNode(c)
        slicer.mrmlScene.RemoveNode(a)

        assert [node for node, _ in got] == [c, a, None]
        assert got[0][1], "the node is in the scene still"

    def test_an_import_takes_the_choice_away_where_none_may_be_chosen(
        self, a_selector, a_volume, tmp_path
    ):
        a_selector.noneEnabled = True
        a_selector.setCurrentNode(a_volume)
        (tmp_path / "empty.mrml").write_text("<MRML></MRML>")
        got = []
        a_selector.connect("currentNodeChanged(vtkMRMLNode*)", got.append)

        slicer.mrmlScene.SetURL(str(tmp_path / "empty.mrml"))
        slicer.mrmlScene.Import()

        assert got == [None]
        assert a_selector.nodeCount() == 1

    def test_hidden_nodes_are_not_offered(self, a_selector, a_volume):
        a_volume.HideFromEditorsOn()
        a_volume.Modified()

        assert a_selector.nodeCount() == 0

    def test_child_types_can_be_left_out(self, a_selector):
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "L")
        assert a_selector.nodeCount() == 1

        a_selector.showChildNodeTypes = False

        assert a_selector.nodeCount() == 0

    def test_an_attribute_can_be_asked_for(self, a_selector, a_volume):
        a_selector.addAttribute("vtkMRMLScalarVolumeNode", "SemiSupSeg.map", "uncertainty")
        assert a_selector.nodeCount() == 0

        a_volume.SetAttribute("SemiSupSeg.map", "uncertainty")

        assert a_selector.nodeCount() == 1

    def test_closing_the_scene_empties_it(self, a_selector, a_volume):
        slicer.mrmlScene.Clear(0)

        assert a_selector.currentNode() is None


UI = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0"><class>Panel</class>
<widget class="qMRMLWidget" name="Panel"><layout class="QVBoxLayout" name="column">
 <item><widget class="ctkCollapsibleButton" name="inputs">
  <property name="text"><string>Inputs</string></property>
  <property name="collapsed"><bool>false</bool></property>
  <layout class="QFormLayout" name="form">
   <item row="0" column="0"><widget class="QLabel" name="label">
     <property name="text"><string>T1:</string></property></widget></item>
   <item row="0" column="1"><widget class="qMRMLNodeComboBox" name="selector">
    <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist>
    </property>
    <property name="noneEnabled"><bool>true</bool></property></widget></item>
   <item row="1" column="0" colspan="2"><widget class="ctkPathLineEdit" name="path">
    <property name="filters"><set>ctkPathLineEdit::Dirs|ctkPathLineEdit::Writable</set></property>
   </widget></item>
  </layout></widget></item></layout></widget>
<customwidgets/><resources/>
<connections><connection>
  <sender>Panel</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
  <receiver>selector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot>
</connection></connections></ui>
"""


class TestDesignerFiles:
    def test_a_file_loads_and_its_selectors_get_the_scene(self, tmp_path, a_volume):
        file = tmp_path / "Panel.ui"
        file.write_text(UI)

        panel = slicer.util.loadUI(str(file))
        panel.setMRMLScene(slicer.mrmlScene)
        widgets = slicer.util.childWidgetVariables(panel)

        assert widgets.inputs.text == "Inputs"
        assert widgets.selector.mrmlScene() is slicer.mrmlScene
        assert widgets.selector.nodeCount() == 1
        assert widgets.path.filters == ctk.ctkPathLineEdit.Dirs | ctk.ctkPathLineEdit.Writable

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ('name="collapsed"', 'name="colapsed"', "no property colapsed"),
            ("setMRMLScene(vtk", "setScene(vtk", "cannot be made"),
            ("<receiver>selector", "<receiver>selektor", "selektor"),
            ("ctkPathLineEdit::Dirs", "ctkPathLineEdit::Folders", "Folders"),
        ],
    )
    def test_what_slicer_would_not_know_is_a_complaint(self, host, tmp_path, old, new, said):
        file = tmp_path / "Panel.ui"
        file.write_text(UI.replace(old, new))

        with host.expected_complaints() as found:
            slicer.util.loadUI(str(file))

        assert any(said in each.text for each in found)


class TestFolding:
    def test_children_are_hidden_and_those_hidden_before_stay_hidden(self, host):
        box = ctk.ctkCollapsibleButton()
        column = qt.QVBoxLayout(box)
        shown, hidden = qt.QLabel("shown"), qt.QLabel("hidden")
        column.addWidget(shown)
        column.addWidget(hidden)
        hidden.visible = False
        box.show()
        host.process_events()

        box.collapsed = True
        assert not shown.visible
        box.collapsed = False

        assert shown.visible
        assert not hidden.visible

    def test_a_child_that_comes_while_folded_is_hidden(self, host):
        box = ctk.ctkCollapsibleGroupBox()
        box.collapsed = True
        label = qt.QLabel("late")
        qt.QVBoxLayout(box).addWidget(label)
        box.show()
        host.process_events()

        assert not label.visible


class TestScene:
    def test_a_new_data_node_has_its_hierarchy_item(self, a_volume):
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        item = hierarchy.GetItemByDataNode(a_volume)
        assert item

        slicer.mrmlScene.RemoveNode(a_volume)

        assert hierarchy.GetItemByDataNode(a_volume) == 0

    def test_a_removed_tables_item_goes_as_that_of_an_image(self):
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "figures")
        whole = hierarchy.GetSceneItemID()
        assert hierarchy.GetItemChildWithName(whole, "figures")

        slicer.mrmlScene.RemoveNode(table)

        assert hierarchy.GetItemChildWithName(whole, "figures") == 0

    def test_a_scene_survives_its_file(self, tmp_path, a_volume):
        node = slicer.ScriptedLoadableModule.ScriptedLoadableModuleLogic().getParameterNode()
        node.SetNodeReferenceID("input", a_volume.GetID())
        expected = slicer.util.arrayFromVolume(a_volume).copy()
        assert slicer.util.saveScene(str(tmp_path / "scene.mrb"), {})
        slicer.mrmlScene.Clear(0)

        slicer.util.loadScene(str(tmp_path / "scene.mrb"))

        again = slicer.util.getNode("T1")
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(again), expected)
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        assert hierarchy.GetItemByDataNode(again)

    def test_a_volume_is_exported_and_loaded(self, tmp_path, a_volume):
        path = str(tmp_path / "volume.nrrd")
        assert slicer.util.exportNode(a_volume, path, {"useCompression": 0})
        assert a_volume.GetStorageNode() is None

        loaded = slicer.util.loadVolume(path, {"name": "again"})

        assert loaded.GetName() == "again"
        assert slicer.util.arrayFromVolume(loaded).max() == 100

    def test_a_file_that_is_not_there_raises(self):
        with pytest.raises(RuntimeError, match="does not exist"):
            slicer.util.loadVolume("/nowhere/volume.nrrd", {})

    def test_a_segmentation_is_saved_and_loaded(self, tmp_path, a_volume):
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
        segmentation.CreateDefaultDisplayNodes()
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(a_volume)
        segmentation.GetSegmentation().AddEmptySegment("one", "one")
        mask = (slicer.util.arrayFromVolume(a_volume) > 50).astype(np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, "one", a_volume)
        path = str(tmp_path / "s.seg.nrrd")
        assert slicer.util.saveNode(segmentation, path, {})

        loaded = slicer.util.loadSegmentation(path, {})

        again = slicer.util.arrayFromSegmentBinaryLabelmap(loaded, "one", a_volume)
        np.testing.assert_array_equal(again, mask)

    def test_segments_are_listed_and_selected(self):
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
        table = slicer.qMRMLSegmentsTableView()
        table.setMRMLScene(slicer.mrmlScene)
        table.setSegmentationNode(segmentation)
        for name in ("core", "edema"):
            segmentation.GetSegmentation().AddEmptySegment(name, name)

        table.setSelectedSegmentIDs(["edema"])

        assert table.displayedSegmentIDs() == ("core", "edema")
        assert table.selectedSegmentIDs() == ("edema",)

    def test_colors_that_slicer_reads_from_files_are_there(self):
        for name in ("Viridis", "Inferno", "GenericColors"):
            assert slicer.mrmlScene.GetNodeByID(f"vtkMRMLColorTableNodeFile{name}.txt")


XML = """<layout type="horizontal"><item><view class="vtkMRMLSliceNode" singletontag="Host1">
<property name="orientation" action="default">Axial</property>
<property name="viewgroup" action="default">7</property></view></item></layout>"""


class TestViews:
    def test_a_slice_view_shows_the_foreground(self, host, tmp_path, a_volume):
        overlay = slicer.util.arrayFromVolume(a_volume) > 50
        foreground = slicer.util.addVolumeFromArray(overlay.astype(np.uint8), name="U")
        foreground.GetDisplayNode().SetAndObserveColorNodeID("vtkMRMLColorTableNodeRed")
        slicer.util.setSliceViewerLayers(
            background=a_volume, foreground=foreground, foregroundOpacity=0.5, fit=True
        )

        pixels = host.slice_view("Red").array().astype(int)

        red = (pixels[..., 0] > 200) & (pixels[..., 1] < 160)
        assert 0.05 < red.mean() < 0.4
        assert pixels[0, 0].tolist() == [0, 0, 0]
        assert host.slice_view("Red").png(tmp_path / "red.png").stat().st_size > 300

    def test_a_segment_is_drawn_as_an_outline(self, host, a_volume):
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "region")
        segmentation.CreateDefaultDisplayNodes()
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(a_volume)
        segmentation.GetSegmentation().AddEmptySegment("region", "region", (1, 1, 0))
        inside = (slicer.util.arrayFromVolume(a_volume) > 50).astype(np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(inside, segmentation, "region", a_volume)
        slicer.util.setSliceViewerLayers(background=a_volume, fit=True)
        display = segmentation.GetDisplayNode()
        display.SetVisibility2DFill(False)
        display.SetSliceIntersectionThickness(3)
        slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, -12, -10, 8)

        pixels = host.slice_view("Red").array().astype(int)

        yellow = (pixels[..., 0] > 180) & (pixels[..., 1] > 180) & (pixels[..., 2] < 80)
        rows, columns = np.nonzero(yellow)
        assert 0.001 < yellow.mean() < 0.05
        assert not yellow[int(rows.mean()), int(columns.mean())]

    def test_a_marker_is_drawn_in_the_slices_near_it(self, host, a_volume):
        slicer.util.setSliceViewerLayers(background=a_volume, fit=True)
        markups = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "peak")
        markups.CreateDefaultDisplayNodes()
        markups.AddControlPoint(vtk.vtkVector3d(12, 10, 8), "")
        display = markups.GetDisplayNode()
        display.SetTextScale(0)
        display.SetSelectedColor(0, 1, 1)

        def cyan() -> int:
            pixels = host.slice_view("Red").array().astype(int)
            return int(((pixels[..., 0] < 80) & (pixels[..., 1:].min(-1) > 180)).sum())

        slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, 12, 10, 8)
        assert cyan() > 20
        slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, 12, 10, 2)

        assert cyan() == 0

    @pytest.mark.parametrize("by_module", [False, True])
    def test_all_views_go_to_a_place(self, by_module):
        if by_module:
            slicer.modules.markups.logic().JumpSlicesToLocation(5, 6, 7, True)
        else:
            center = slicer.vtkMRMLSliceNode.CenteredJumpSlice
            slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, 5, 6, 7, center)

        for name in ("Red", "Green", "Yellow"):
            node = slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode()
            place = [node.GetSliceToRAS().GetElement(row, 3) for row in range(3)]
            assert place == [5, 6, 7]

    def test_an_own_layout_gets_its_view(self, a_volume):
        manager = slicer.app.layoutManager()
        before = manager.layout
        changed = []
        manager.connect("layoutChanged(int)", changed.append)
        manager.layoutLogic().GetLayoutNode().AddLayoutDescription(7341, XML)

        manager.setLayout(7341)

        assert changed == [7341]
        assert "Host1" in manager.sliceViewNames()
        view = manager.sliceWidget("Host1")
        assert view.mrmlSliceNode().GetViewGroup() == 7
        assert view.mrmlSliceNode().IsMappedInLayout()
        view.sliceLogic().GetSliceCompositeNode().SetBackgroundVolumeID(a_volume.GetID())
        view.fitSliceToBackground()
        manager.setLayout(before)
        assert not view.mrmlSliceNode().IsMappedInLayout()

    def test_a_layout_that_nobody_has_described_is_the_conventional_one(self):
        manager = slicer.app.layoutManager()
        before = manager.layout

        manager.setLayout(7342)

        assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView
        manager.setLayout(before)

    def test_a_panel_is_pictured_in_two_sizes_and_themes(self, host, tmp_path):
        box = qt.QWidget()
        qt.QVBoxLayout(box).addWidget(qt.QPushButton("Apply"))
        box.resize(200, 60)
        box.show()

        plain = qt.QPixmap(str(host.grab(box, tmp_path / "1.png")))
        large = qt.QPixmap(str(host.grab(box, tmp_path / "2.png", scale=2.0, dark=True)))

        assert plain.size() == qt.QSize(200, 60)
        assert large.size() == qt.QSize(400, 120)


MODULE = """
import slicer
from slicer.ScriptedLoadableModule import *
from slicer.i18n import tr as _

class HostSample(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Sample")
        slicer.app.connect("startupCompleted()", self.started)
        self.events = []
    def started(self):
        self.events.append("started")

class HostSampleWidget(ScriptedLoadableModuleWidget):
    events = []
    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        import qt
        self.layout.addWidget(qt.QLabel("hello"))
        self.events.append("setup")
    def enter(self):
        self.events.append(("enter", self.parent.isEntered))
    def exit(self):
        self.events.append("exit")
    def cleanup(self):
        self.events.append("cleanup")
"""


class TestModules:
    @pytest.fixture
    def a_module(self, tmp_path):
        path = tmp_path / "HostSample.py"
        path.write_text(MODULE)
        return path

    def test_a_module_is_opened_as_in_slicer(self, host, a_module):
        widget = host.open_module("HostSample", a_module)
        host.start_up()

        assert slicer.modules.hostsample.title == "Sample"
        assert slicer.modules.HostSampleInstance.events == ["started"]
        assert slicer.modules.HostSampleWidget is widget
        assert slicer.util.getModuleWidget("HostSample") is widget
        assert widget.events == ["setup", ("enter", True)]
        assert Path(widget.resourcePath("UI")).parent.name == "Resources"

        slicer.app.disconnect("startupCompleted()", slicer.modules.HostSampleInstance.started)

    def test_reload_cleans_up_and_sets_up_again(self, host, a_module):
        widget = host.open_module("HostSample", a_module)
        events = widget.events

        again = host.reload_module("HostSample")

        assert events == ["setup", ("enter", True), "cleanup"]
        assert again is not widget
        assert again.events == ["setup"]

    def test_closing_cleans_up(self, host, a_module):
        events = host.open_module("HostSample", a_module).events

        host.close_module("HostSample")

        assert events[-2:] == ["exit", "cleanup"]
        assert not hasattr(slicer.modules, "hostsample")

    def test_an_exception_in_setup_is_a_complaint(self, host, a_module):
        a_module.write_text(MODULE.replace("import qt", "import qt; 1 / 0"))

        with host.expected_complaints() as found:
            host.open_module("HostSample", a_module)

        assert "ZeroDivisionError" in found[0].text

    def test_the_parameter_node_is_a_singleton(self):
        logic = slicer.ScriptedLoadableModule.ScriptedLoadableModuleLogic()

        assert logic.getParameterNode() is logic.getParameterNode()
        assert logic.getParameterNode().GetAttribute("ModuleName") == "ScriptedLoadableModule"


class TestApplication:
    def test_it_is_slicer_in_testing_without_main_window(self):
        assert slicer.app.applicationName == "Slicer"
        assert (slicer.app.majorVersion, slicer.app.minorVersion) == (5, 13)
        assert slicer.app.testingEnabled()
        assert slicer.util.mainWindow() is None
        assert not hasattr(slicer.app, "invented")
        assert not hasattr(slicer, "packaging")

    def test_confirmations_are_answered_no(self):
        assert slicer.util.confirmYesNoDisplay("Really?") is False

    def test_errors_are_raised_on(self):
        with (
            pytest.raises(ZeroDivisionError, match="division"),
            slicer.util.tryWithErrorDisplay("no", waitCursor=True),
        ):
            1 / 0  # noqa: B018

    def test_settings_are_of_this_process_only(self):
        qt.QSettings().setValue("SemiSupSeg/reviewer", "anna")

        assert slicer.util.settingsValue("SemiSupSeg/reviewer", "") == "anna"
        assert "host-slicer-" in slicer.app.userSettings().fileName()

    def test_a_temporary_folder_is_made(self):
        assert Path(slicer.util.tempDirectory()).is_dir()

    def test_the_environment_of_a_worker_is_a_dict(self):
        assert "PATH" in slicer.util.startupEnvironment()

    def test_a_machine_without_libraries_is_told_the_line(self, monkeypatch):
        monkeypatch.setattr("Testing.host.LIBRARIES", "libNotThere.so.1")

        assert missing_libraries() == ["libNotThere.so.1"]
