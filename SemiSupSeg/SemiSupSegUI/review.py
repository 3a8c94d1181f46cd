"""The section Review: the doubtful regions of a result, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.models.registry import user_data_folder
from SemiSupSegLib.review.outbox import Outbox
from SemiSupSegLib.review.record import Entry, check_reviewer
from SemiSupSegLib.review.regions import BACKGROUND, ReviewRegion
from SemiSupSegUI import overlays, scene
from SemiSupSegUI.carrying import Carrying
from SemiSupSegUI.case_box import CaseBox
from SemiSupSegUI.changes import Changes
from SemiSupSegUI.cohort_box import CohortBox
from SemiSupSegUI.jobs import Jobs, new_job_folder
from SemiSupSegUI.learning_box import LearningBox
from SemiSupSegUI.message import Message
from SemiSupSegUI.nodes import remove_node
from SemiSupSegUI.opening import Opening, is_there, remove, result_in_scene
from SemiSupSegUI.pointing import Pointer
from SemiSupSegUI.region_editor import RegionEditor
from SemiSupSegUI.region_table import RegionTable, regions_in_words
from SemiSupSegUI.reviewing import ReviewSession
from SemiSupSegUI.section import Section, enable, push_button
from SemiSupSegUI.segment import SegmentSection
from SemiSupSegUI.state import State

_REVIEWER, _EFFORT = "SemiSupSeg/Reviewer", "SemiSupSeg/LogEffort"
"""Keys of the user's settings."""


class ReviewSection(Section):
    """Leads through the review regions of one result after the other.

    Args:
        jobs: Drives workers.
        state: Returns the panel's state; None while the scene closes.
        ask: Puts a question to the user, who says yes or no.
        ask_folder: Asks for a folder, with a title; returns its path, empty if the user gave none.
        hindrance: Returns why no worker can be started, or an empty text.
        segment: Shows the results that are reviewed.
    """

    def __init__(
        self,
        jobs: Jobs,
        state: Callable[[], State | None],
        ask: Callable[[str], bool],
        ask_folder: Callable[[str], str],
        hindrance: Callable[[], str],
        segment: SegmentSection,
    ) -> None:
        super().__init__(_("Review"))
        self._segment = segment
        self._jobs, self._state, self._ask, self._hindrance = jobs, state, ask, hindrance
        self._ask_folder = ask_folder
        self.session: ReviewSession | None = None
        self.opening: Opening | None = None
        self._loaded: list = []
        """Nodes that were loaded for the session, and go with it."""
        self._former_views: _Views | None = None
        """What was shown before a result was loaded from a folder."""
        self._region: int | None = None
        self._is_chosen = False
        """Whether the region that is shown may be decided anew: the user has gone to it."""
        self._offered_for: int | None = None
        """The region whose classes stand beside Relabel."""
        self._changes = Changes()
        self.pointer = Pointer()
        self.message = Message()
        self._carrying = Carrying(jobs, self.update, self.message.mind, self._gone_aside)
        self._build()

    # Building

    def _build(self) -> None:
        form = qt.QFormLayout()
        self.reviewer_box = qt.QLineEdit()
        self.reviewer_box.text = str(slicer.app.userSettings().value(_REVIEWER, "") or "")
        self.reviewer_box.placeholderText = _("a short name: a-z, 0-9, -")
        self.reviewer_box.toolTip = _(
            "Stands in the record of the review; need not tell who you are."
        )
        self.effort_box = qt.QCheckBox(_("Keep time and strokes"))
        self.effort_box.toolTip = _(
            "In the record of the review: how long it took, and how much was drawn. It stays where "
            "the results are."
        )
        self.effort_box.checked = slicer.app.userSettings().value(_EFFORT, "true") in (True, "true")
        row = qt.QHBoxLayout()
        row.addWidget(self.reviewer_box, 1)
        row.addWidget(self.effort_box)
        form.addRow(_("Reviewer:"), row)
        self.layout.addLayout(form)
        row = qt.QHBoxLayout()
        self.begin_button = push_button(_("Review this result"), self.begin)
        self.close_button = push_button(_("Close review"), self.close)
        row.addWidget(self.begin_button, 1)
        row.addWidget(self.close_button)
        self.layout.addLayout(row)
        self.cohort = CohortBox(self._jobs, self.message, self.open_folder)
        self.layout.addWidget(self.cohort.widget)
        self.case_widget = qt.QWidget()
        self.case_widget.visible = False
        column = qt.QVBoxLayout(self.case_widget)
        column.setContentsMargins(0, 0, 0, 0)
        self.progress = qt.QLabel()
        self.progress.wordWrap = True
        column.addWidget(self.progress)
        self.regions = RegionTable(self.go_to, self.update)
        column.addWidget(self.regions.widget)
        column.addLayout(self._slider_row())
        self.sentence = qt.QLabel()
        self.sentence.wordWrap = True
        column.addWidget(self.sentence)
        column.addLayout(self._decision_buttons())
        self.editor = RegionEditor(self.finish_fix)
        column.addWidget(self.editor.widget)
        self.case_box = CaseBox(self._jobs, self.message, self._ask, self._case_changed)
        column.addWidget(self.case_box.widget)
        self.layout.addWidget(self.case_widget)
        self.learning = LearningBox(self._jobs, self.message, self._ask, self._reviews_folder)
        self.layout.addWidget(_folded(_("Learn from my corrections"), self.learning.widget))
        self.layout.addWidget(self.message.widget)
        assert self.reviewer_box.connect("editingFinished()", self._reviewer_named)
        assert self.effort_box.connect("toggled(bool)", self._effort_chosen)
        self.update()

    def _slider_row(self):
        row = qt.QHBoxLayout()
        self.sensitivity_slider = qt.QSlider(qt.Qt.Horizontal)
        self.sensitivity_slider.setRange(0, 100)
        self.sensitivity_slider.value = 50
        row.addWidget(qt.QLabel(_("List less")))
        row.addWidget(self.sensitivity_slider, 1)
        row.addWidget(qt.QLabel(_("more")))
        assert self.sensitivity_slider.connect("sliderReleased()", self._sensitivity_chosen)
        return row

    def _decision_buttons(self):
        grid = qt.QGridLayout()
        self.previous_button = push_button(_("Previous (P)"), lambda: self.step(-1))
        self.next_button = push_button(_("Next (N)"), self.step)
        self.back_button = push_button(_("Back to where I was"), self.go_back)
        self.anew_button = push_button(_("Begin anew..."), self.begin_anew)
        self.anew_button.toolTip = _("Keep the present review aside, and begin another one.")
        self.confirm_button = push_button(_("Confirm (C)"), lambda: self.decide("confirmed"))
        self.fix_button = push_button(_("Fix... (X)"), self.fix)
        self.ignore_button = push_button(_("Ignore (K)"), lambda: self.decide("ignored"))
        self.relabel_button = push_button(_("Relabel (L)"), self.relabel)
        self.relabel_box = qt.QComboBox()
        self.relabel_box.toolTip = _("What the region's voxels become with Relabel.")
        self.undo_button = push_button(_("Undo (Ctrl+Z)"), self.undo)
        for at, widget in enumerate(
            (
                self.previous_button,
                self.next_button,
                self.undo_button,
                self.confirm_button,
                self.fix_button,
                self.ignore_button,
                self.relabel_button,
            )
        ):
            grid.addWidget(widget, at // 3, at % 3)
        grid.addWidget(self.relabel_box, 2, 1, 1, 2)
        grid.addWidget(self.back_button, 3, 0, 1, 2)
        grid.addWidget(self.anew_button, 3, 2)
        return grid

    def keys(self) -> dict[str, Callable[[], None]]:
        """Return what the keys do while the module is shown."""
        return {
            "N": self.step,
            "P": lambda: self.step(-1),
            "C": lambda: self.decide("confirmed"),
            "X": self.fix,
            "L": self.relabel,
            "K": lambda: self.decide("ignored"),
            "Ctrl+Z": self.undo,
        }

    # What the user does

    @property
    def reviewer(self) -> str:
        """The alias that is typed in."""
        return str(self.reviewer_box.text).strip()

    def begin(self) -> None:
        """Review the result that Segment shows."""
        state = self._state()
        folder = self._folder_of_result(state)
        if state is None or folder is None or self._why_not_begin(state):
            return
        if not (folder / "case.json").is_file():
            # A scene from another machine, or results that were moved.
            located = self._ask_folder(
                _("Where is the result folder {name}?").format(name=folder.name)
            )
            if not located:
                return
            folder = Path(located)
        # Without the map that tells its grid it is loaded anew, beside what is left of it.
        self._open(folder, result=state.result if is_there(state.result) else None)

    def open_folder(self, folder: Path) -> None:
        """Review a result from a folder; it is loaded unless it is in the scene."""
        why_not = self.why_not_open()
        if why_not:
            self.message.fail(why_not)
            return
        self._open(folder, result=result_in_scene(folder.name))

    def why_not_open(self) -> str:
        """Return why no result can be opened from a folder, or an empty text."""
        return self._why_no_reviewer() or self._hindrance()

    def close(self) -> bool:
        """End the review; everything is on the disk. Return whether that worked."""
        self._cancel_opening()
        if self.session is None:
            self._unload()
            self.update()
            return True
        is_closed = False
        self.case_box.keep_comment()
        with self.message.errors_shown():
            self.session.close()
            is_closed = True
        self._carrying.soon(self.session.box)
        if not is_closed:
            if not self._ask(
                _(
                    "{what} Leave the review all the same? What was drawn last is lost; what was "
                    "decided before is on the disk."
                ).format(what=self.message.text)
            ):
                return False
            self.session.let_go()
        self._leave()
        return True

    def go_to(self, number: int, is_chosen: bool = True) -> None:
        """Show a region in all views.

        Args:
            number: Of the region.
            is_chosen: Whether the user wants this very one, so that it may be decided anew.
        """
        region = self.session.region(number) if self.session else None
        if region is None:
            return
        if self.editor.is_open and self._region != number:
            self._flush()
            self.editor.stop()
        self._region, self._is_chosen = number, is_chosen
        self.pointer.point(self.session, region)
        self.regions.select(number)
        self.update()

    def step(self, by: int = 1) -> None:
        """Go to the next open region of the table as it is shown, or back to the row before."""
        if self.session is None:
            return
        ids = self.regions.from_row_of(self._region, by)
        # Back is back: what was decided last can be looked at, and decided, again.
        number = self.session.first_open(ids) if by > 0 else next(iter(ids), None)
        if number is None:
            self.message.mind(self._why_none_listed())
        else:
            self.go_to(number, is_chosen=by < 0)

    def go_back(self) -> None:
        """Let the views look where they did before the first region."""
        self.pointer.go_back()
        self.update()

    def decide(self, status: str) -> None:
        """Decide the region that is shown, and go on to the next."""
        if self._may_decide():
            self._decide(status)

    def relabel(self) -> None:
        """Make the region's voxels what is chosen beside the button, and go on."""
        if not self._may_decide():
            return
        self.message.clear()
        with self.message.errors_shown():
            self.session.flush()
            self.editor.stop()
            self.session.relabel(self._region, self.relabel_box.currentData or "")
            self._go_on()

    def fix(self) -> None:
        """Let the user draw in the region."""
        region = self._shown_region()
        if self.editor.why_not or not self._may_decide():
            return
        self.message.clear()
        self.editor.start(self.session, region)
        self.update()

    def finish_fix(self) -> None:
        """The region is drawn as it should be."""
        if self.editor.is_open:
            # Its strokes are on the disk: a filter that was changed meanwhile does not matter.
            self._decide("fixed")

    def undo(self) -> None:
        """Take back the last decision or stroke."""
        if self.session is None:
            return
        self.message.clear()
        with self.message.errors_shown():
            self.editor.remember()
            undone = self.session.undo()
            if undone is None:
                self.message.mind(_("Nothing to take back."))
                return
            words = _undone_words(undone, self.session.record.verdict)
            self.message.say(_("Taken back: {what}.").format(what=words))
            if undone.region is not None:
                self.go_to(undone.region)

    def begin_anew(self, sensitivity: float | None = None) -> None:
        """Move the review aside and begin it again, perhaps with other regions."""
        session = self.session
        if session is None:
            return
        if session.record.undoable is not None and not self._ask(
            _(
                "The review of {case} by {reviewer} is moved aside, and a new one is begun. Go on?"
            ).format(case=session.case, reviewer=session.reviewer)
        ):
            return
        loaded, self._loaded = self._loaded, []
        former = self._former_views
        if self.close():
            self._loaded, self._former_views = loaded, former
            self._open(
                session.folder,
                result=session.result,
                sensitivity=sensitivity,
                # The worker begins anew by itself where nothing is decided, and else refuses.
                is_anew=sensitivity is None,
            )
        else:
            self._loaded = loaded

    # What the panel tells

    def enter(self) -> None:
        """Show what is there."""
        self.cohort.restore()
        self.learning.pick_up()
        self._carrying.restore()
        self.scene_changed()

    def exit(self) -> None:
        """Write what was drawn; the editor gives its keys and cursors back."""
        self._flush()
        self.case_box.keep_comment()
        self.editor.stop()
        self.update()

    def scene_closes(self) -> None:
        """Write what was drawn; all nodes go by themselves."""
        self._flush()
        self._cancel_opening()
        self.case_box.keep_comment()
        self.editor.let_go()
        self.pointer.forget()
        self._changes.forget()
        self._loaded, self._former_views = [], None
        if self.session is not None:
            self.session.let_go()
        self.session, self._region = None, None
        self.regions.show(None)
        self.case_box.show(None)
        self.update()

    def scene_changed(self) -> None:
        """Leave a review whose nodes are gone."""
        session = self.session
        if session is not None and not all(
            slicer.mrmlScene.IsNodePresent(node) for node in (session.node, session.result)
        ):
            self._flush()
            session.let_go()
            self.message.mind(
                _("The segmentation under review was removed. What was decided is on the disk.")
            )
            self._leave()
        elif session is not None and session.result.GetAttribute(scene.RESULT) != session.case:
            self._flush()
            session.let_go()
            self.message.mind(
                _("The result under review was replaced. What was decided is on the disk.")
            )
            self._leave()
        self.update()

    def cleanup(self) -> None:
        """The panel goes."""
        self.close()
        self.editor.let_go()
        self._carrying.close()
        for box in (self.case_box, self.cohort, self.learning):
            box.close()

    def update(self) -> None:
        """Show everything anew."""
        state = self._state()
        session = self.session
        why_not = self._why_not_begin(state)
        enable(self.begin_button, why_not, _("Go through the regions that are doubtful."))
        is_open = session is not None or self.opening is not None
        enable(self.close_button, "" if is_open else _("No review is open."))
        enable(
            self.reviewer_box,
            _("A review is open; close it to go on as somebody else.") if is_open else "",
            _("Stands in the record of the review; need not tell who you are."),
        )
        self.case_widget.visible = session is not None
        if session is None:
            return
        self.progress.text = self._progress_words(session)
        region = self._shown_region()
        none = self._why_none_listed()
        enable(self.previous_button, none, _("P: the region of the row before."))
        enable(self.next_button, none, _("N: the next region of the table that is open."))
        why_not_decide = self._why_not_decide()
        for button, tool_tip in (
            (self.confirm_button, _("C: the result is right here. The next region is shown.")),
            (self.ignore_button, _("K: not worth deciding; neither right nor wrong is said.")),
            (self.relabel_button, _("L: the region's voxels become what is chosen beside.")),
        ):
            enable(button, why_not_decide, tool_tip)
        enable(
            self.fix_button,
            why_not_decide or self.editor.why_not,
            _("X: draw in this region with the Segment Editor."),
        )
        undoable = session.record.undoable
        enable(
            self.undo_button,
            "" if undoable else _("Nothing was decided yet."),
            _("Ctrl+Z: take back the last decision or stroke."),
        )
        enable(
            self.back_button,
            "" if self.pointer.can_go_back else _("The views were not sent anywhere."),
        )
        decided = _("Something is decided already: begin anew to list other regions.")
        enable(
            self.sensitivity_slider,
            decided if undoable else "",
            _("More: smaller and less doubtful regions are listed, too."),
        )
        self.sentence.text = "" if region is None else f"{region.id}: {region.reason}"
        self._offer_classes(region)

    # Inside

    def _why_no_reviewer(self) -> str:
        if not self.reviewer:
            return _("Type a short name for yourself first: a-z, 0-9, -.")
        try:
            check_reviewer(self.reviewer)
        except SemiSupSegError as error:
            return str(error)
        return ""

    def _why_not_decide(self) -> str:
        """Return why the region that is shown cannot be decided, or an empty text."""
        region = self._shown_region()
        if self.session is None or region is None:
            return _("Choose a region in the table.")
        if not self.regions.lists(region.id):
            return _(
                "Region {number} is not listed, so it is not decided. Choose one in the table, or "
                "list all classes and statuses."
            ).format(number=region.id)
        status = self.session.status(region.id)
        if status and not self._is_chosen:
            return _(
                "Region {number} is decided already: {status}. Click on its row to decide it anew, "
                "or take the last decision back (Ctrl+Z)."
            ).format(number=region.id, status=status)
        return ""

    def _why_none_listed(self) -> str:
        """Return why there is no region to go to, or an empty text."""
        if self.session is None or not self.session.regions:
            return _("No region is listed at this setting.")
        if not self.regions.from_row_of(None):
            return _("No region is of this class and status. List all classes and statuses.")
        return ""

    def _may_decide(self) -> bool:
        """Return whether the region that is shown can be decided; tell why not."""
        if self.session is None:
            return False
        why_not = self._why_not_decide()
        if why_not:
            self.message.mind(why_not)
        return not why_not

    def _decide(self, status: str) -> None:
        self.message.clear()
        with self.message.errors_shown():
            # First what was drawn: it belongs to this region.
            self.session.flush()
            self.editor.stop()
            self.session.decide(self._region, status)
            self._go_on()

    def _why_not_begin(self, state: State | None) -> str:
        if self.opening is not None:
            return _("A result is being opened.")
        if self._segment.is_running:
            return _("A case is being segmented. Wait until it is saved.")
        if state is None or state.result is None:
            return _("Segment a case first, or open a folder of results.")
        if self._folder_of_result(state) is None:
            return _("The result in this scene is not known to be on the disk.")
        return self.why_not_open()

    def _folder_of_result(self, state: State | None) -> Path | None:
        result = state.result if state is not None else None
        case = result.GetAttribute(scene.RESULT) if result is not None else None
        if not case:
            return None
        session = self.session
        if session is not None and session.result is result and session.case == case:
            return session.folder
        return user_data_folder() / "results" / case

    def _reviews_folder(self) -> Path | None:
        return self.session.folder.parent if self.session is not None else self.cohort.folder

    def _open(
        self,
        folder: Path,
        *,
        result=None,
        sensitivity: float | None = None,
        is_anew: bool = False,
    ) -> None:
        if self.opening is not None:
            self._cancel_opening()
            remove(self._loaded)
            self._loaded = []
        if self.session is not None and not self.close():
            return
        if result is not None and not slicer.mrmlScene.IsNodePresent(result):
            # It was loaded for the review that is closed now.
            result = None
        if result is None and self._former_views is None:
            self._former_views = _Views.now(self._state())
        self.message.mind(_("Opening {name} ...").format(name=folder.name))
        with self.message.errors_shown():
            self.opening = Opening(
                self._jobs,
                folder,
                self.reviewer,
                new_job_folder(),
                result=result,
                sensitivity=sensitivity,
                is_anew=is_anew,
                on_opened=self._opened,
                on_error=self._not_opened,
            )
        self.update()

    def _opened(self, session: ReviewSession, loaded: list) -> None:
        self.opening = None
        self.session = session
        session.on_change = self._session_changed
        session.on_error = self._not_written
        session.on_drawn = self.update
        session.on_told = self.message.mind
        self.sensitivity_slider.value = round(100 * session.sensitivity)
        session.logs_effort = self.effort_box.checked
        self._loaded += loaded
        state = self._state()
        if state is not None:
            state.result = session.result
            self._segment.update()
        # The copy takes the result's place in the views.
        self._changes.set(scene.display_of(session.result), "Visibility", False, usual=True)
        # Lines only: the image under them is what is judged.
        self._segment.results.show(overlays.OFF)
        display = scene.display_of(session.node)
        display.SetVisibility(True)
        display.SetVisibility2DFill(False)
        display.SetVisibility2DOutline(True)
        self.regions.show(session)
        self.case_box.show(session)
        if self.cohort.folder == session.folder.parent:
            self.cohort.mark(session.folder)
        self.cohort.refresh()
        self.learning.refresh()
        self.message.clear()
        notes = _notes(session)
        first = session.first_open([one.id for one in session.regions])
        if first is None:
            nothing = _(
                "No region is doubtful enough to be listed at this setting. That does not mean "
                "that nothing is wrong"
            )
            more = _('move the slider to "more"')
            notes.append(f"{nothing}: {more}." if session.sensitivity < 1 else f"{nothing}.")
        if notes:
            self.message.mind(" ".join(notes))
        if first is None:
            self.update()
        else:
            self.go_to(first, is_chosen=False)

    def _not_written(self, error: Exception) -> None:
        self.message.fail(str(error))
        self.update()

    def _not_opened(self, error: str, log: str) -> None:
        self.opening = None
        self._unload()
        self.message.fail(error, log)
        self.update()

    def _leave(self) -> None:
        """Take away what the review has put into scene and views."""
        self.editor.stop()
        self.pointer.clear()
        self.pointer.go_back(only_where_sent=True)
        self._changes.undo()
        session, self.session, self._region = self.session, None, None
        if session is not None:
            kept = session.leave_own_segments()
            if kept is not None:
                self.message.mind(
                    _("What you drew beside the classes is kept in {node}.").format(
                        node=kept.GetName()
                    )
                )
            remove_node(session.node)
        self._unload()
        self.regions.show(None)
        self.case_box.show(None)
        self.learning.refresh()
        self.update()

    def _cancel_opening(self) -> None:
        if self.opening is not None:
            self.opening.cancel()
            self.opening = None
            self.message.clear()

    def _unload(self) -> None:
        """Take away what was loaded from a folder; the views show again what they did before."""
        remove(self._loaded)
        self._loaded = []
        if self._former_views is not None:
            self._former_views.restore(self._state())
            self._former_views = None
            self._segment.update()

    def _go_on(self) -> None:
        """Show the next open region that is listed; without one the view stays where it is."""
        ids = self.regions.from_row_of(self._region)
        number = self.session.first_open(ids)
        if number is not None and not self.session.status(number):
            self.go_to(number, is_chosen=False)
            return
        # The same key once more would replace what was decided just now.
        self._is_chosen = False
        if not self.session.record.progress().is_complete:
            self.message.say(_("All that is listed is decided. Other regions are open still."))
        self.update()

    def _progress_words(self, session: ReviewSession) -> str:
        progress = session.record.progress()
        words = _("{done} of {regions} decided, {share} % of the listed error").format(
            done=progress.decided,
            regions=regions_in_words(progress.regions),
            share=progress.percent_of_error,
        )
        if not progress.regions:
            words = _("No region is listed")
        if progress.is_complete and session.record.verdict is None:
            words += _(". What is left is your verdict")
        if session.has_unsaved_strokes:
            return words
        is_on_the_way = self._carrying.is_waiting(session.box)
        return words + (_("; saved on this machine") if is_on_the_way else _("; saved"))

    def _flush(self) -> None:
        if self.session is not None:
            with self.message.errors_shown():
                self.session.flush()

    def _session_changed(self) -> None:
        if self.session is not None:
            self._carrying.soon(self.session.box)
        self.regions.update()
        self.case_box.update()
        self.update()

    def _gone_aside(self, box: Outbox, target: Path) -> None:
        """Leave a review with which somebody else has gone on: here it shows a former state."""
        session = self.session
        if session is not None and session.box.path == box.path:
            self._flush()
            session.let_go()
            self._leave()
        self.message.fail(_aside_words(box.folder, (target.name,)))

    def _case_changed(self) -> None:
        if self.session is not None:
            self._carrying.soon(self.session.box)
        self.cohort.refresh()
        self.learning.refresh()
        self.update()

    def _shown_region(self) -> ReviewRegion | None:
        if self.session is None or self._region is None:
            return None
        return self.session.region(self._region)

    def _offer_classes(self, region: ReviewRegion | None) -> None:
        names = (BACKGROUND, *self.session.record.classes)
        # What was chosen for one place is not meant for the next.
        number = None if region is None else region.id
        kept = self.relabel_box.currentData if number == self._offered_for else ""
        self._offered_for = number
        self.relabel_box.clear()
        other = region.second_class if region is not None else _("second most likely class")
        self.relabel_box.addItem(_("{name} (next most likely)").format(name=other), "")
        for name in names:
            self.relabel_box.addItem(name, name)
        self.relabel_box.setCurrentIndex(max(0, self.relabel_box.findData(kept)))

    def _reviewer_named(self) -> None:
        if not self._why_no_reviewer():
            slicer.app.userSettings().setValue(_REVIEWER, self.reviewer)
        self.update()

    def _effort_chosen(self, is_on: bool) -> None:
        slicer.app.userSettings().setValue(_EFFORT, "true" if is_on else "false")
        if self.session is not None:
            self.session.logs_effort = is_on

    def _sensitivity_chosen(self) -> None:
        if self.session is not None and self.session.record.undoable is None:
            self.begin_anew(self.sensitivity_slider.value / 100)


@dataclass
class _Views:
    """What was shown before a result from a folder took its place."""

    result: object | None
    """The result that Segment showed."""
    backgrounds: dict[str, str | None]
    """Background volume by slice composite node."""

    @classmethod
    def now(cls, state: State | None) -> _Views:
        """Return what is shown now."""
        return cls(
            result=state.result if state is not None else None,
            backgrounds={
                node.GetID(): node.GetBackgroundVolumeID()
                for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
            },
        )

    def restore(self, state: State | None) -> None:
        """Show it again, as far as it is still there."""
        for identity, volume in self.backgrounds.items():
            node = slicer.mrmlScene.GetNodeByID(identity)
            # A view that shows something is the user's choice by now.
            if node is None or not volume:
                continue
            if slicer.mrmlScene.GetNodeByID(node.GetBackgroundVolumeID() or "") is None:
                node.SetBackgroundVolumeID(volume)
        is_there = self.result is not None and slicer.mrmlScene.IsNodePresent(self.result)
        if state is not None and is_there:
            state.result = self.result


def _notes(session: ReviewSession) -> list[str]:
    """Return what is to be known of a result that was opened, in sentences."""
    notes = []
    if session.missing_images:
        notes.append(
            _(
                "Without these images, which are not where they were when the case was predicted, "
                "or have changed: {names}. Put them back where they were, and open the case again."
            ).format(names=", ".join(session.missing_images))
        )
    if session.is_of_other_result:
        notes.append(
            _(
                "This case was predicted anew since the review began. The review goes on with "
                "the former result."
            )
        )
    if session.aside:
        notes.append(_aside_words(session.folder, session.aside))
    return notes


def _aside_words(folder: Path, names: tuple[str, ...]) -> str:
    return _(
        "Another program has gone on with this review in {folder} meanwhile. What was decided here "
        "is kept in {names}; open the case again to see what is there, and repeat what is missing."
    ).format(folder=folder, names=", ".join(names))


def _undone_words(undone: Entry, verdict: str | None) -> str:
    """Return in words what was taken back; `verdict` is the one in force now."""
    if undone.verdict is not None:
        # A comment that is changed stands in a line of its own, with the same verdict.
        return _("the comment") if undone.verdict == verdict else _("the verdict")
    if undone.region is None:
        return _("a stroke")
    if undone.status is None:
        return _("a stroke in region {number}").format(number=undone.region)
    return _("{status}, region {number}").format(status=undone.status, number=undone.region)


def _folded(title: str, widget):
    """Return a box, folded away, that holds a widget."""
    box = ctk.ctkCollapsibleGroupBox()
    box.title = title
    box.collapsed = True
    layout = qt.QVBoxLayout(box)
    layout.addWidget(widget)
    return box
