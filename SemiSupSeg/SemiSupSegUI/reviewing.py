"""One case under review: the record on the disk, the label map in memory, the copy in the scene.

Every decision is on this machine's disk when its method returns; what is drawn follows a moment
after the last stroke. Workers carry it to the result's folder. The result itself is never changed:
all drawing happens in a copy of it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.review.change import Change, slices_of
from SemiSupSegLib.review.options import NEUTRAL
from SemiSupSegLib.review.outbox import Outbox
from SemiSupSegLib.review.record import Entry, ReviewRecord
from SemiSupSegLib.review.regions import BACKGROUND, ReviewRegion
from SemiSupSegUI import scene
from SemiSupSegUI.drawing import Drawing
from SemiSupSegUI.own_segments import OwnSegments

_AFTER_STROKE_MS = 400
_RETRY_MS = 5000
_LOG_AFTER_SECONDS = 60.0
"""Of activity; what is spent since then is lost if Slicer is killed."""
_IDLE_SECONDS = 60.0
"""Longer pauses between two actions are not counted as work."""
_EVENTS = ("SourceRepresentationModified", "SegmentModified", "SegmentAdded", "SegmentRemoved")
"""Strokes fire the first, undo and redo of the Segment Editor the second only."""


class ReviewSession:
    """What a reviewer does with one case; needs no widget.

    Args:
        folder: The result, OUT/<case>; the window does not touch it.
        box: This machine's copy of the record, which was begun.
        result: Segmentation node of the result.
        drawing: The copy that is edited, and the label map as the review leaves it so far.
        regions_map: Ids of the regions, (D, H, W).
    """

    def __init__(
        self,
        folder: Path,
        box: Outbox,
        *,
        result,
        drawing: Drawing,
        regions_map,
    ) -> None:
        self.folder, self.box, self.reviewer = folder, box, box.reviewer
        self.record = ReviewRecord.open(box.path, box.reviewer)
        self.regions: tuple[ReviewRegion, ...] = self.record.regions
        self.result, self.node, self._drawing = result, drawing.node, drawing
        self.regions_map = regions_map
        self.on_change: Callable[[], None] = lambda: None
        """Told after every change of record or label map."""
        self.on_error: Callable[[Exception], None] = lambda error: None
        """Told what could not be written."""
        self.on_drawn: Callable[[], None] = lambda: None
        """Told when something is drawn that is not on the disk yet."""
        self.on_told: Callable[[str], None] = lambda text: None
        """Told what the user should know of a segment that came or went."""
        self.logs_effort = True
        """Whether time and strokes are kept."""
        self.missing_images: tuple[str, ...] = ()
        """Channels whose images are not where they were when the case was predicted."""
        self.is_of_other_result = False
        """Whether the case was predicted anew since the review began."""
        self.aside: tuple[str, ...] = ()
        """Files to which decisions went because somebody else had gone on with the review."""
        self.editing: int | None = None
        """The region that is being fixed."""
        self.ijk_to_ras = drawing.ijk_to_ras
        """Of the label map; kept, since maps may be removed or moved meanwhile."""
        self.spacing = scene.overlay_node(result, "confidence").GetSpacing()
        self.sensitivity = NEUTRAL
        """Position of the slider at which the regions were listed."""
        self._is_writing = False
        self._is_drawn_on = False
        self._strokes, self._active, self._last_action = 0, 0.0, time.monotonic()
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_AFTER_STROKE_MS)
        assert self._timer.connect("timeout()", self._drawn)
        names = self.record.classes
        title = _("{case} drawn beside the review").format(case=self.case)
        self._own = OwnSegments(self.node, names, title, scene.folder_of(result))
        self._missing: set[str] = set()
        """Classes whose segments the user has removed."""
        self._observers = [
            self.node.AddObserver(getattr(slicer.vtkSegmentation, event), self._edited)
            for event in _EVENTS
        ]

    @property
    def label(self):
        """Class indices as the review leaves them so far, (D, H, W)."""
        return self._drawing.label

    @property
    def case(self) -> str:
        """The case's id."""
        return self.record.case

    @property
    def reference(self):
        """The volume on whose grid the result lies, or None."""
        return scene.reference_node(self.result)

    @property
    def has_unsaved_strokes(self) -> bool:
        """Whether something was drawn that is not on the disk yet."""
        return self._is_drawn_on

    def region(self, number: int) -> ReviewRegion | None:
        """Return a region by its id."""
        return next((one for one in self.regions if one.id == number), None)

    def status(self, number: int) -> str:
        """Return what was decided about a region; empty: nothing yet."""
        return self.record.statuses.get(number, "")

    def first_open(self, ids: Sequence[int]) -> int | None:
        """Return the first of some regions that is not decided, else the first; None if none."""
        return next((one for one in ids if not self.status(one)), next(iter(ids), None))

    # Deciding

    def decide(self, number: int, status: str) -> None:
        """Decide a region: `confirmed`, `fixed` or `ignored`.

        Raises:
            SemiSupSegError: If it cannot be written.
        """
        self.flush()
        self.record.decide(number, status)
        self._acted()

    def relabel(self, number: int, class_name: str = "") -> None:
        """Make a region's voxels another class.

        Args:
            number: Of the region.
            class_name: A class, or `background`; empty: the region's second most likely class.

        Raises:
            SemiSupSegError: If it cannot be written; then nothing has changed.
        """
        import numpy as np

        self.flush()
        region = self.region(number)
        if region is None:
            return
        box = tuple(slice(*side) for side in region.box)
        before = self.label[box]
        inside = self.regions_map[box] == number
        after = before.copy()
        # One class for all of it. A region lies on both sides of a border, and each voxel's own
        # second most likely class would only exchange the two sides.
        names = (BACKGROUND, *self.record.classes)
        after[inside] = np.uint8(names.index(class_name or region.second_class))
        change = Change.between(before, after, region.box)
        self.record.decide(number, "relabelled", change)
        if change is not None:
            change.apply(self.label)
            self._write(slices_of(change.box))
        self._acted()

    def undo(self) -> Entry | None:
        """Take back the last decision or stroke; return what it was, None if there is nothing.

        Raises:
            SemiSupSegError: If it cannot be written.
        """
        self.flush()
        entry = self.record.undo()
        if entry is None:
            return None
        if entry.change is not None:
            entry.change.revert(self.label)
            self._write(slices_of(entry.change.box))
        self._acted()
        return entry

    def flush(self) -> None:
        """Write what was drawn since the last time.

        Raises:
            SemiSupSegError: If it cannot be written.
        """
        self._timer.stop()
        if not self._is_drawn_on:
            return
        self._look_at_segments()
        found = self._drawing.changed()
        if found is not None:
            box, values = found
            ends = tuple((one.start, one.stop) for one in box)
            change = Change.between(self.label[box], values, ends)
            assert change is not None
            self.record.edit(self.editing, change)
            self._drawing.take(box, values)
            self._strokes += 1
        self._is_drawn_on = False
        if found is not None:
            self._acted()

    def close(self) -> None:
        """Write what is left and let go of the scene.

        Raises:
            SemiSupSegError: If it cannot be written.
        """
        self.flush()
        self.let_go()

    def leave_own_segments(self):
        """Let what the user has drawn beside the classes stay; return its node, or None."""
        return self._own.show()

    def let_go(self) -> None:
        """Keep the effort, and hear nothing of the scene any more."""
        self._log_effort()
        self._timer.stop()
        for observer in self._observers:
            self.node.RemoveObserver(observer)
        self._observers = []

    # Inside

    def _acted(self) -> None:
        now = time.monotonic()
        if now - self._last_action < _IDLE_SECONDS:
            self._active += now - self._last_action
        self._last_action = now
        if self._active >= _LOG_AFTER_SECONDS:
            # Slicer may be killed at any time.
            self._log_effort()
        self.on_change()

    def _log_effort(self) -> None:
        if self.logs_effort and (self._strokes or self._active >= 1.0):
            # Not worth keeping a review open for.
            with contextlib.suppress(SemiSupSegError, OSError):
                self.record.log_effort(self._active, self._strokes)
                self._strokes, self._active = 0, 0.0

    def _edited(self, _caller, _event) -> None:
        if not self._is_writing:
            is_first, self._is_drawn_on = not self._is_drawn_on, True
            self._timer.start(_AFTER_STROKE_MS)
            if is_first:
                self.on_drawn()

    def _drawn(self) -> None:
        try:
            self.flush()
        except (SemiSupSegError, OSError) as error:
            # A slot: what it raises would be lost. It is drawn still, and is tried again.
            self._timer.start(_RETRY_MS)
            self.on_error(error)

    def _write(self, box: tuple[slice, slice, slice]) -> None:
        """Show a part of the label map in the copy."""
        self._is_writing = True
        try:
            self._drawing.show(box)
        finally:
            self._is_writing = False
        self._missing.clear()

    def _look_at_segments(self) -> None:
        """Keep segments that were added, and tell of those and of removed ones."""
        new = self._own.update()
        if new:
            self.on_told(
                _(
                    "{names} is no class of the model, so it is no part of the review. It is kept "
                    "in the segmentation {node}, which stays when the review is closed."
                ).format(names=", ".join(new), node=self._own.node.GetName())
            )
        segmentation = self.node.GetSegmentation()
        missing = {one for one in self.record.classes if segmentation.GetSegment(one) is None}
        gone = sorted(missing - self._missing)
        self._missing = missing
        if gone:
            self.on_told(
                _(
                    "{names} was removed: its voxels are background now. Undo (Ctrl+Z) brings it "
                    "back."
                ).format(names=", ".join(gone))
            )
