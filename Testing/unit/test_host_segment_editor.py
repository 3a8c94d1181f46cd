"""The host's Segment Editor edits as Slicer's does, also where that surprises."""

from __future__ import annotations

import numpy as np
import pytest

from Testing.host import HostMissingError, start_host

try:
    running = start_host()
except HostMissingError as error:
    pytest.skip(str(error), allow_module_level=True)

import qt
import slicer
import slicer.util
import vtk

from Testing.host.painting import paint, paint_box

SHAPE = (20, 24, 28)
CENTER = (14, 12, 10)
"""In voxels i, j, k; in RAS the first two are negative: the volume's axes are those of LPS."""
SEGMENTATION = slicer.vtkMRMLSegmentationNode
EDITOR = slicer.vtkMRMLSegmentEditorNode


@pytest.fixture(autouse=True)
def host():
    """An empty host that has nothing to complain about afterwards."""
    running.reset()
    yield running
    left = list(map(str, running.complaints))
    running.reset()
    assert not left, "\n".join(left)


def ras(i: float, j: float, k: float) -> tuple[float, float, float]:
    return (-float(i), -float(j), float(k))


def volume_of(voxels: np.ndarray, name: str):
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 0, -1)
    matrix.SetElement(1, 1, -1)
    return slicer.util.addVolumeFromArray(voxels, ijkToRAS=matrix, name=name)


@pytest.fixture
def a_volume():
    return volume_of(np.zeros(SHAPE, np.float32), "T1")


@pytest.fixture
def a_segmentation(a_volume):
    """Two classes in one layer, as a label map has them: core below k = 10, edema above."""
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(a_volume)
    box = np.zeros(SHAPE, np.uint8)
    box[:, 4:20, 4:24] = 1
    for name, slices in (("core", slice(4, 10)), ("edema", slice(10, 16))):
        segmentation.GetSegmentation().AddEmptySegment(name, name)
        part = np.zeros(SHAPE, np.uint8)
        part[slices] = box[slices]
        slicer.util.updateSegmentBinaryLabelmapFromArray(part, segmentation, name, a_volume)
    segmentation.GetSegmentation().CollapseBinaryLabelmaps(False)
    assert segmentation.GetSegmentation().GetNumberOfLayers() == 1
    return segmentation


@pytest.fixture
def a_node():
    node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
    node.UnRegister(None)
    return slicer.mrmlScene.AddNode(node)


@pytest.fixture
def an_editor(a_node, a_segmentation):
    editor = slicer.qMRMLSegmentEditorWidget()
    editor.setMRMLSegmentEditorNode(a_node)
    editor.setMRMLScene(slicer.mrmlScene)
    editor.autoShowSourceVolumeNode = False
    editor.setSegmentationNode(a_segmentation)
    yield editor
    editor.delete()


def voxels(segmentation, *names: str) -> dict[str, np.ndarray]:
    volume = slicer.util.getNode("T1")
    return {
        name: slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, name, volume).astype(bool)
        for name in names or ("core", "edema")
    }


def ball(center, radius_mm: float) -> np.ndarray:
    k, j, i = np.indices(SHAPE)
    return (i - center[0]) ** 2 + (j - center[1]) ** 2 + (k - center[2]) ** 2 <= radius_mm**2


def use(editor, effect: str, *, sphere: bool = True) -> None:
    editor.setActiveEffectByName(effect)
    editor.activeEffect().setCommonParameter("BrushSphere", int(sphere))


def region_mask(part: np.ndarray):
    return volume_of((part * 100).astype(np.uint8), "region")


class TestSelection:
    def test_a_segmentation_brings_its_reference_volume_and_first_segment(
        self, an_editor, a_volume, a_segmentation
    ):
        assert an_editor.segmentationNode() is a_segmentation
        assert an_editor.sourceVolumeNode() is a_volume
        assert an_editor.currentSegmentID() == "core"

    def test_another_segmentation_drops_the_effect(self, an_editor):
        use(an_editor, "Paint")

        an_editor.setSegmentationNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode"))

        assert an_editor.activeEffect() is None

    def test_choosing_a_segment_by_program_sends_no_signal_and_by_row_does(
        self, an_editor, a_segmentation
    ):
        got = []
        assert an_editor.connect("currentSegmentIDChanged(QString)", got.append)

        an_editor.setCurrentSegmentID("edema")
        assert got == []
        table = an_editor.findChild("qMRMLSegmentsTableView")
        table.setSelectedSegmentIDs(["core"])

        assert got == ["core"]
        assert an_editor.mrmlSegmentEditorNode().GetSelectedSegmentID() == "core"

    def test_a_new_source_volume_replaces_what_the_views_show(self, an_editor, a_volume):
        other = volume_of(np.ones(SHAPE, np.float32), "T2")
        slicer.util.setSliceViewerLayers(background=a_volume, foreground=a_volume)
        composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()

        an_editor.setSourceVolumeNode(other)
        assert composite.GetBackgroundVolumeID() == a_volume.GetID()
        an_editor.setSourceVolumeNode(a_volume)
        an_editor.autoShowSourceVolumeNode = True
        an_editor.setSourceVolumeNode(other)

        assert composite.GetBackgroundVolumeID() == other.GetID()
        assert composite.GetForegroundVolumeID() is None

    def test_after_a_batch_it_goes_back_to_what_its_selectors_show(self, an_editor, a_node):
        hidden = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScalarVolumeNode")
        hidden.UnRegister(None)
        hidden.SetHideFromEditors(True)
        hidden = slicer.mrmlScene.AddNode(hidden)
        an_editor.setSourceVolumeNode(hidden)
        assert a_node.GetSourceVolumeNode() is hidden

        slicer.mrmlScene.StartState(slicer.mrmlScene.BatchProcessState)
        slicer.mrmlScene.EndState(slicer.mrmlScene.BatchProcessState)

        assert a_node.GetSourceVolumeNode() is None

    def test_closing_the_scene_empties_it(self, an_editor):
        use(an_editor, "Paint")

        slicer.mrmlScene.Clear(0)

        assert an_editor.segmentationNode() is None

    def test_without_a_node_an_effect_is_refused(self, host):
        editor = slicer.qMRMLSegmentEditorWidget()
        editor.setMRMLScene(slicer.mrmlScene)

        with host.expected_complaints() as found:
            editor.setActiveEffectByName("Paint")

        assert "Invalid segment editor parameter set node" in found[0].text
        editor.delete()


class TestEffects:
    def test_what_was_not_recorded_is_unknown(self, an_editor):
        for name in ("canUndo", "paint", "logic", "views_are_observed"):
            assert not hasattr(an_editor, name)
        assert not hasattr(slicer, "qSlicerMarkupsPlaceWidget")

    def test_buttons_follow_the_order(self, an_editor):
        an_editor.setEffectNameOrder(["Erase", "Paint"])
        an_editor.unorderedEffectsVisible = False

        assert an_editor.effectByIndex(0) is None
        assert an_editor.effectByIndex(1).name == "Erase"
        assert an_editor.effectByIndex(2).name == "Paint"
        assert an_editor.effectByIndex(3) is None
        assert "Threshold" in an_editor.availableEffectNames()

    def test_an_unknown_effect_is_none(self, an_editor):
        use(an_editor, "Paint")

        an_editor.setActiveEffectByName("Pain")

        assert an_editor.activeEffect() is None

    def test_parameters_are_common_or_of_an_effect(self, an_editor, a_node):
        effect = an_editor.effectByName("Paint")

        effect.setParameter("ColorSmudge", 1)
        effect.setCommonParameter("BrushAbsoluteDiameter", 7.5)

        assert a_node.GetAttribute("Paint.ColorSmudge") == "1"
        assert an_editor.effectByName("Erase").integerParameter("ColorSmudge") == 0
        assert an_editor.effectByName("Erase").doubleParameter("BrushAbsoluteDiameter") == 7.5

    def test_an_effect_edits_by_program(self, an_editor, a_segmentation):
        effect = an_editor.effectByName("Paint")
        image = effect.defaultModifierLabelmap()
        image.SetScalarComponentFromDouble(*CENTER, 0, 1)

        effect.saveStateForUndo()
        effect.modifySelectedSegmentByLabelmap(image, effect.ModificationModeAdd)

        assert voxels(a_segmentation)["core"][CENTER[::-1]]
        assert not voxels(a_segmentation)["edema"][CENTER[::-1]]

    def test_read_only_drops_the_effect(self, an_editor):
        use(an_editor, "Paint")

        an_editor.readOnly = True

        assert an_editor.activeEffect() is None

    def test_visibility_reads_false_until_it_is_shown(self, host, an_editor):
        an_editor.show3DButtonVisible = True
        assert not an_editor.show3DButtonVisible

        an_editor.show()
        host.process_events()

        assert an_editor.show3DButtonVisible
        an_editor.setShow3DButtonVisible(False)
        assert not an_editor.show3DButtonVisible


class TestPainting:
    def test_a_ball_goes_to_the_segment_and_is_taken_from_the_others(
        self, an_editor, a_segmentation
    ):
        before, covered = voxels(a_segmentation), ball(CENTER, 3)
        use(an_editor, "Paint")

        assert paint(an_editor, [ras(*CENTER)], diameter_mm=6)

        after = voxels(a_segmentation)
        np.testing.assert_array_equal(after["core"], before["core"] | covered)
        np.testing.assert_array_equal(after["edema"], before["edema"] & ~covered)

    def test_a_disc_stays_in_its_slice(self, an_editor, a_segmentation):
        before = voxels(a_segmentation)["core"]
        use(an_editor, "Paint", sphere=False)

        paint(an_editor, [ras(*CENTER)], diameter_mm=6, view="Red")

        changed = np.argwhere(voxels(a_segmentation)["core"] != before)
        assert set(changed[:, 0]) == {CENTER[2]}
        # A disc of radius 3 has 29 voxels.
        assert len(changed) == 29

    def test_a_stroke_covers_what_lies_between_its_points(self, an_editor, a_segmentation):
        use(an_editor, "Paint")

        paint(an_editor, [ras(6, 12, 12), ras(20, 12, 12)], diameter_mm=2)

        assert voxels(a_segmentation)["core"][12, 12, 6:21].all()

    def test_a_box_is_painted(self, an_editor, a_segmentation):
        before = voxels(a_segmentation)["core"]
        use(an_editor, "Paint")

        paint_box(an_editor, ras(*CENTER), (1, 2, 0))

        changed = np.argwhere(voxels(a_segmentation)["core"] != before)
        assert changed.min(0).tolist() == [10, 10, 13]
        assert changed.max(0).tolist() == [10, 14, 15]

    def test_erasing_leaves_background(self, an_editor, a_segmentation):
        before, covered = voxels(a_segmentation), ball((14, 12, 8), 3)
        use(an_editor, "Erase")

        paint(an_editor, [ras(14, 12, 8)], diameter_mm=6)

        after = voxels(a_segmentation)
        np.testing.assert_array_equal(after["core"], before["core"] & ~covered)
        np.testing.assert_array_equal(after["edema"], before["edema"])

    def test_segments_may_overlap(self, an_editor, a_node, a_segmentation):
        before = voxels(a_segmentation)
        a_node.SetOverwriteMode(EDITOR.OverwriteNone)
        use(an_editor, "Paint")

        paint(an_editor, [ras(*CENTER)], diameter_mm=6)

        np.testing.assert_array_equal(voxels(a_segmentation)["edema"], before["edema"])
        assert a_segmentation.GetSegmentation().GetNumberOfLayers() == 2

    def test_places_are_of_the_world(self, an_editor, a_volume, a_segmentation):
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        matrix = vtk.vtkMatrix4x4()
        matrix.SetElement(0, 3, 30)
        transform.SetMatrixTransformToParent(matrix)
        for node in (a_volume, a_segmentation):
            node.SetAndObserveTransformNodeID(transform.GetID())
        before = voxels(a_segmentation)["core"]
        use(an_editor, "Paint")

        right, anterior, superior = ras(*CENTER)
        paint(an_editor, [(right + 30, anterior, superior)], diameter_mm=6)

        changed = voxels(a_segmentation)["core"] != before
        np.testing.assert_array_equal(changed, ball(CENTER, 3) & ~before)

    def test_an_edit_is_told_as_a_change_of_the_source_representation(
        self, an_editor, a_segmentation
    ):
        use(an_editor, "Paint")
        got = []
        for name in ("SourceRepresentationModified", "SegmentModified"):
            event = getattr(slicer.vtkSegmentation, name)
            a_segmentation.AddObserver(event, lambda *_, name=name: got.append(name))

        paint(an_editor, [ras(*CENTER)])
        assert "SourceRepresentationModified" in got
        got.clear()
        an_editor.undo()

        assert got == ["SegmentModified"]

    def test_only_brushes_paint(self, an_editor):
        an_editor.setActiveEffectByName("Scissors")

        with pytest.raises(ValueError, match="Scissors is active"):
            paint(an_editor, [ras(*CENTER)])

    def test_an_editor_that_left_the_views_does_not_paint(self, an_editor, a_segmentation):
        before = voxels(a_segmentation)["core"]
        use(an_editor, "Paint")
        an_editor.removeViewObservations()

        assert not paint(an_editor, [ras(*CENTER)])

        np.testing.assert_array_equal(voxels(a_segmentation)["core"], before)

    def test_painting_on_a_hidden_segment_is_asked_about(self, host, an_editor, a_segmentation):
        use(an_editor, "Paint")
        a_segmentation.GetDisplayNode().SetSegmentVisibility("core", False)

        with host.expected_complaints() as found:
            assert not paint(an_editor, [ras(*CENTER)])
        assert "segment is hidden" in found[0].text
        host.dialog_answers["QDialog.exec"] = qt.QMessageBox.Yes
        assert not paint(an_editor, [ras(*CENTER)])

        assert paint(an_editor, [ras(*CENTER)])

    def test_the_segmentation_moves_to_the_source_volumes_folder(
        self, host, an_editor, a_volume, a_segmentation
    ):
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        item = hierarchy.GetItemByDataNode(a_segmentation)
        folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "results")
        hierarchy.SetItemParent(item, folder)
        use(an_editor, "Paint")

        paint(an_editor, [ras(*CENTER)])
        assert hierarchy.GetItemParent(item) == hierarchy.GetSceneItemID()
        hierarchy.RemoveItem(hierarchy.GetItemByDataNode(a_volume), False, False)

        with host.expected_complaints() as found:
            paint(an_editor, [ras(*CENTER)])
        assert "Subject hierarchy items not found" in found[0].text


class TestMasks:
    @pytest.fixture
    def a_part(self):
        part = np.zeros(SHAPE, bool)
        part[8:13, 10:15, 12:17] = True
        return part

    @pytest.fixture
    def a_mask_segment(self, an_editor, a_node, a_segmentation, a_volume, a_part):
        a_segmentation.GetSegmentation().AddEmptySegment("region", "region")
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            a_part.astype(np.uint8), a_segmentation, "region", a_volume
        )
        a_node.SetMaskSegmentID("region")
        a_node.SetMaskMode(SEGMENTATION.EditAllowedInsideSingleSegment)
        return a_part

    def test_inside_one_segment_limits_paint_and_eats_the_mask(
        self, an_editor, a_segmentation, a_mask_segment
    ):
        before = voxels(a_segmentation)
        use(an_editor, "Paint")

        paint(an_editor, [ras(*CENTER)], diameter_mm=10)

        after = voxels(a_segmentation, "core", "edema", "region")
        assert (after["core"] & ~before["core"]).any()
        assert not ((after["core"] != before["core"]) & ~a_mask_segment).any()
        assert not (after["region"] & after["core"]).any()

    def test_a_hidden_mask_is_kept_when_visible_segments_are_overwritten(
        self, an_editor, a_node, a_segmentation, a_mask_segment
    ):
        a_segmentation.GetDisplayNode().SetSegmentVisibility("region", False)
        a_node.SetOverwriteMode(EDITOR.OverwriteVisibleSegments)
        use(an_editor, "Paint")

        paint(an_editor, [ras(*CENTER)], diameter_mm=10)

        np.testing.assert_array_equal(voxels(a_segmentation, "region")["region"], a_mask_segment)

    def test_inside_one_segment_does_not_limit_erase(
        self, an_editor, a_node, a_segmentation, a_mask_segment
    ):
        a_node.SetOverwriteMode(EDITOR.OverwriteNone)
        before = voxels(a_segmentation)["core"]
        use(an_editor, "Erase")

        paint(an_editor, [ras(7, 7, 6)], diameter_mm=4)

        erased = before & ~voxels(a_segmentation)["core"]
        assert erased.any()
        assert not (erased & a_mask_segment).any()
        region = voxels(a_segmentation, "region")["region"]
        np.testing.assert_array_equal(region, a_mask_segment | erased)

    def test_when_the_mask_segment_goes_editing_is_allowed_everywhere(
        self, an_editor, a_node, a_segmentation, a_mask_segment
    ):
        a_segmentation.GetSegmentation().RemoveSegment("region")

        assert a_node.GetMaskMode() == SEGMENTATION.EditAllowedEverywhere

    @pytest.mark.parametrize("effect", ["Paint", "Erase"])
    def test_an_intensity_mask_limits_every_edit(
        self, an_editor, a_node, a_segmentation, a_part, effect
    ):
        an_editor.setSourceVolumeNode(region_mask(a_part))
        a_node.SetSourceVolumeIntensityMask(True)
        a_node.SetSourceVolumeIntensityMaskRange(50, 100)
        before = voxels(a_segmentation)
        use(an_editor, effect)

        paint(an_editor, [ras(14, 12, 9)], diameter_mm=12)

        after = voxels(a_segmentation)
        for name in before:
            assert not ((after[name] != before[name]) & ~a_part).any()
        assert (after["core"] != before["core"]).any()

    def test_equal_ends_of_the_intensity_range_are_taken_for_unset(self, an_editor, a_node, a_part):
        an_editor.setSourceVolumeNode(region_mask(a_part))
        a_node.SetSourceVolumeIntensityMask(True)

        a_node.SetSourceVolumeIntensityMaskRange(100, 100)

        assert a_node.GetSourceVolumeIntensityMaskRange() == (25, 75)

    def test_another_source_volume_changes_the_intensity_range(self, an_editor, a_node, a_part):
        an_editor.setSourceVolumeNode(region_mask(a_part))
        a_node.SetSourceVolumeIntensityMask(True)
        a_node.SetSourceVolumeIntensityMaskRange(50, 100)

        an_editor.setSourceVolumeNode(volume_of(a_part.astype(np.uint8), "small"))

        # Cut to 1 - 1, which then counts as unset.
        assert a_node.GetSourceVolumeIntensityMaskRange() == (0.25, 0.75)


class TestUndo:
    def test_strokes_are_undone_and_redone(self, an_editor, a_segmentation):
        use(an_editor, "Paint")
        states = [voxels(a_segmentation)["core"]]
        for i in (8, 14):
            paint(an_editor, [ras(i, 12, 12)])
            states.append(voxels(a_segmentation)["core"])

        for expected in (states[1], states[0]):
            an_editor.undo()
            np.testing.assert_array_equal(voxels(a_segmentation)["core"], expected)
        an_editor.redo()
        np.testing.assert_array_equal(voxels(a_segmentation)["core"], states[1])

    def test_the_oldest_states_are_forgotten(self, host, an_editor, a_segmentation):
        an_editor.setMaximumNumberOfUndoStates(2)
        use(an_editor, "Paint")
        for i in (8, 14, 20):
            paint(an_editor, [ras(i, 12, 12)])

        an_editor.undo()
        with host.expected_complaints() as found:
            an_editor.undo()

        assert "no previous state" in found[0].text

    def test_a_program_saves_the_state_before_its_own_edit(
        self, an_editor, a_segmentation, a_volume
    ):
        before = voxels(a_segmentation)["core"]
        an_editor.saveStateForUndo()
        empty = np.zeros(SHAPE, np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(empty, a_segmentation, "core", a_volume)

        an_editor.undo()

        np.testing.assert_array_equal(voxels(a_segmentation)["core"], before)

    def test_undo_removes_segments_that_came_later(self, an_editor, a_segmentation):
        use(an_editor, "Paint")
        paint(an_editor, [ras(*CENTER)])
        a_segmentation.GetSegmentation().AddEmptySegment("region", "region")

        an_editor.undo()

        assert a_segmentation.GetSegmentation().GetSegmentIDs() == ("core", "edema")

    def test_undo_enabled_forgets_all_states(self, host, an_editor):
        use(an_editor, "Paint")
        paint(an_editor, [ras(*CENTER)])
        an_editor.undoEnabled = True

        with host.expected_complaints() as found:
            an_editor.undo()

        assert "no previous state" in found[0].text


class TestKeys:
    @pytest.fixture
    def a_window(self, host):
        window = qt.QWidget()
        window.show()
        window.activateWindow()
        host.process_events()
        return window

    def press(self, window, key: str) -> None:
        from PySide6 import QtCore, QtTest

        QtTest.QTest.keyClick(window._alive(), getattr(QtCore.Qt.Key, f"Key_{key}"))

    def test_the_editor_takes_and_returns_keys(self, a_window, an_editor):
        an_editor.setEffectNameOrder(["Paint", "Erase"])
        an_editor.installKeyboardShortcuts(a_window)

        self.press(a_window, "2")
        # Effect 1 is the first: the arrow that stands for none has no key.
        assert an_editor.activeEffect().name == "Erase"
        self.press(a_window, "Escape")
        assert an_editor.activeEffect() is None
        an_editor.uninstallKeyboardShortcuts()
        self.press(a_window, "1")

        assert an_editor.activeEffect() is None

    def test_two_shortcuts_with_one_key_do_nothing(self, a_window, an_editor):
        an_editor.installKeyboardShortcuts(a_window)
        got = []
        shortcut = qt.QShortcut(qt.QKeySequence("Q"), a_window)
        assert shortcut.connect("activated()", lambda: got.append("mine"))
        assert shortcut.connect("activatedAmbiguously()", lambda: got.append("ambiguous"))

        self.press(a_window, "Q")
        assert "mine" not in got
        an_editor.uninstallKeyboardShortcuts()
        got.clear()
        self.press(a_window, "Q")

        assert got == ["mine"]
