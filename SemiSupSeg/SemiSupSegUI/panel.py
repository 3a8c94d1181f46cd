"""The panel: its header, its sections in the order of the loop, and what they share."""

from __future__ import annotations

import qt
import slicer
from slicer.i18n import tr as _

from SemiSupSegUI.models import ModelsSection
from SemiSupSegUI.review import ReviewSection
from SemiSupSegUI.section import Section, offer_gpus
from SemiSupSegUI.segment import SegmentSection
from SemiSupSegUI.setup import SetupSection
from SemiSupSegUI.state import State
from SemiSupSegUI.train import TrainSection


class Panel:
    """All sections, and the one state that they share.

    Args:
        logic: Of the module; owns the workers and the parameter node.
    """

    def __init__(self, logic) -> None:
        self._logic = logic
        self._is_closing = False
        self._shortcuts: list = []
        # Tests put their own answers here.
        self.ask = slicer.util.confirmYesNoDisplay
        self.ask_text = _ask_text
        self.ask_folder = _ask_folder
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        self.header = qt.QLabel()
        self.header.wordWrap = True
        layout.addWidget(self.header)
        self.setup = SetupSection(
            logic.jobs, lambda question: self.ask(question), self._setup_changed
        )
        self.segment = SegmentSection(
            logic.jobs,
            self.state,
            lambda question: self.ask(question),
            lambda: self.setup.hindrance,
        )
        self.review = ReviewSection(
            logic.jobs,
            self.state,
            lambda question: self.ask(question),
            lambda title: self.ask_folder(title),
            lambda: self.setup.hindrance,
            self.segment,
        )
        self.segment.on_result = self.review.scene_changed
        self.train = TrainSection(
            logic.jobs,
            lambda question: self.ask(question),
            lambda title: self.ask_folder(title),
            lambda: self.setup.hindrance,
            self._models_changed,
            self.review,
        )
        self.models = ModelsSection(
            logic.jobs,
            lambda question: self.ask(question),
            lambda question, text: self.ask_text(question, text),
            self._model_in_use,
            lambda: self.setup.hindrance,
            self.segment.read_models,
        )
        self.review.learning.on_registered = self._models_changed
        self.sections: list[Section] = [
            self.setup,
            self.segment,
            self.review,
            self.train,
            self.models,
        ]
        for section in self.sections:
            layout.addWidget(section.box)
        layout.addStretch(1)
        self.segment.box.collapsed = False
        self.header.text = _("Device: {device}").format(device=self.setup.device)

    def state(self) -> State | None:
        """Return the panel's state in the scene; None while the scene closes."""
        if self._is_closing:
            return None
        return State(self._logic.getParameterNode())

    def enter(self) -> None:
        """The module is shown: read the scene, and take the keys."""
        self._release_keys()
        for section in self.sections:
            section.enter()
        if slicer.util.mainWindow() is not None:
            keys = {"O": self.segment.results.next_overlay, **self.review.keys()}
            self._shortcuts = [_shortcut(key, action) for key, action in keys.items()]

    def exit(self) -> None:
        """Another module is shown: give the keys back."""
        self._release_keys()
        for section in self.sections:
            section.exit()

    def scene_closes(self) -> None:
        """Let go of all nodes."""
        self._is_closing = True
        for section in self.sections:
            section.scene_closes()

    def scene_is_there(self) -> None:
        """The scene was closed or loaded: nodes may be used again."""
        self._is_closing = False

    def nodes_move(self) -> None:
        """Nodes are about to go or to be loaded; `scene_changed` is called when they have."""
        self.segment.nodes_move()

    def scene_changed(self) -> None:
        """Read the scene anew."""
        for section in self.sections:
            section.scene_changed()

    def cleanup(self) -> None:
        """Put everything back that is not ours."""
        self.exit()
        for section in self.sections:
            section.cleanup()

    def _release_keys(self) -> None:
        for shortcut in self._shortcuts:
            shortcut.setEnabled(False)
            shortcut.setParent(None)
        self._shortcuts = []

    def _setup_changed(self) -> None:
        self.header.text = _("Device: {device}").format(device=self.setup.device)
        self.segment.update()
        self.review.update()
        probe = self.setup.probe
        gpus = [] if probe is None else [one.name for one in probe.gpus]
        offer_gpus(self.segment.options.device_box, gpus)
        self.train.setup_changed(gpus)
        self.models.update()

    def _models_changed(self) -> None:
        self.models.read()
        self.segment.read_models()

    def _model_in_use(self) -> str:
        state = self.state()
        return state.model if state is not None else ""


def _shortcut(key: str, action):
    shortcut = qt.QShortcut(qt.QKeySequence(key), slicer.util.mainWindow())
    assert shortcut.connect("activated()", action)
    return shortcut


def _ask_folder(title: str) -> str:
    return qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title) or ""


def _ask_text(question: str, text: str) -> str:
    given = qt.QInputDialog.getText(
        slicer.util.mainWindow(), "SemiSupSeg", question, qt.QLineEdit.Normal, text
    )
    return given or ""
