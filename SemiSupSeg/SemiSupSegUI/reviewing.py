"""One case under review: the record on the disk, the label map in memory, the copy in the scene.

Every decision is on the disk when its method returns; what is drawn follows a moment after the
last stroke. The result itself is never changed: all drawing happens in a copy of it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import qt
import slicer

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.review.change import Change
from SemiSupSegLib.review.options import NEUTRAL
from SemiSupSegLib.review.record import Entry, ReviewRecord
from SemiSupSegLib.review.regions import BACKGROUND, ReviewRegion
from SemiSupSegUI import scene
from SemiSupSegUI.segments import entries, fill, label_of

_AFTER_STROKE_MS = 400
_RETRY_MS = 5000
_IDLE_SECONDS = 60.0
"""Longer pauses between two actions are not counted as work."""
_EVENTS = ("SourceRepresentationModified", "SegmentModified")
"""Strokes fire the first, undo and redo of the Segment Editor the second only."""


class ReviewSession:
    """What a reviewer does with one case; needs no widget.

    Args:
        folder: The result, OUT/<case>.
        reviewer: Alias; the record was begun.
        result: Segmentation node of the result.
        node: Segmentation node of the copy that is edited; it holds the label map.
        label: Class indices as the review leaves them so far, (D, H, W).
        regions_map: Ids of the regions, (D, H, W).
        second: The second most likely class indices, or None.
    """

    def __init__(
        self,
        folder: Path,
        reviewer: str,
        *,
        result,
        node,
        label,
        regions_map,
        second,
    ) -> None:
        self.folder, self.reviewer = folder, reviewer
        self.record = ReviewRecord.open(folder, reviewer)
        self.regions: tuple[ReviewRegion, ...] = self.record.regions
        self.result, self.node = result, node
        self.label, self.regions_map, self.second = label, regions_map, second
        self.on_change: Callable[[], None] = lambda: None
        """Told after every change of record or label map."""
        self.on_error: Callable[[Exception], None] = lambda error: None
        """Told what could not be written."""
        self.on_drawn: Callable[[], None] = lambda: None
        """Told when something is drawn that is not on the disk yet."""
        self.logs_effort = True
        """Whether time and strokes are kept."""
        self.is_of_other_result = False
        """Whether the case was predicted anew since the review began."""
        self.editing: int | None = None
        """The region that is being fixed."""
        self.ijk_to_ras = scene.ijk_to_ras(result)
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
        self._observers = [
            node.AddObserver(getattr(slicer.vtkSegmentation, event), self._edited)
            for event in _EVENTS
        ]

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

    def following(self, number: int | None, step: int = 1) -> int | None:
        """Return the next undecided region in order of the list, round its end; None if none."""
        ids = [one.id for one in self.regions]
        if not ids:
            return None
        at = ids.index(number) if number in ids else (-1 if step > 0 else 0)
        order = [ids[(at + step * count) % len(ids)] for count in range(1, len(ids) + 1)]
        undecided = [one for one in order if not self.status(one)]
        return (undecided or order)[0]

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
            class_name: A class, or `background`; empty: each voxel's second most likely class.

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
        if not class_name and self.second is not None:
            after[inside] = self.second[box][inside]
        else:
            names = (BACKGROUND, *self.record.classes)
            after[inside] = np.uint8(names.index(class_name or region.second_class))
        change = Change.between(before, after, region.box)
        self.record.decide(number, "relabelled", change)
        if change is not None:
            change.apply(self.label)
            self._write()
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
            self._write()
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
        label = label_of(self.node, self.record.task.classes, self.label.shape, self.ijk_to_ras)
        change = Change.between(self.label, label)
        if change is not None:
            self.record.edit(self.editing, change)
            self.label = label
            self._strokes += 1
        self._is_drawn_on = False
        if change is not None:
            self._acted()

    def close(self) -> None:
        """Write what is left and let go of the scene.

        Raises:
            SemiSupSegError: If it cannot be written.
        """
        self.flush()
        if self.logs_effort and (self._strokes or self._active >= 1.0):
            # Not worth keeping a review open for.
            with contextlib.suppress(SemiSupSegError, OSError):
                self.record.log_effort(self._active, self._strokes)
        self._strokes, self._active = 0, 0.0
        self.let_go()

    def let_go(self) -> None:
        """Hear nothing of the scene any more."""
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
        self.on_change()

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

    def _write(self) -> None:
        """Show the label map in the copy."""
        self._is_writing = True
        try:
            fill(self.node, [(self.label, entries(self.record.task.classes))], self.ijk_to_ras)
        finally:
            self._is_writing = False
