"""One place of the panel that says what went well, what to mind, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import qt
from slicer.i18n import tr as _

from SemiSupSegLib.errors import SemiSupSegError, in_sentences
from SemiSupSegUI.section import readable, wrapped_label


class Message:
    """A line or two of text with a sign, and details one click away.

    Colour is not used: the sign and the words tell what it is.
    """

    def __init__(self) -> None:
        self.widget = qt.QFrame()
        self.widget.frameShape = qt.QFrame.StyledPanel
        layout = qt.QVBoxLayout(self.widget)
        self._text = wrapped_label()
        self._text.textInteractionFlags = qt.Qt.TextSelectableByMouse
        self._details = qt.QPlainTextEdit()
        self._details.readOnly = True
        self._details.setMaximumHeight(160)
        self._more = qt.QToolButton()
        self._more.text = _("Details")
        self._more.checkable = True
        self._more.connect("toggled(bool)", self._details.setVisible)
        layout.addWidget(self._text)
        layout.addWidget(self._more)
        layout.addWidget(self._details)
        self.clear()

    @property
    def text(self) -> str:
        """What is said now."""
        return self._text.text

    def clear(self) -> None:
        """Say nothing."""
        self._set("", "", "")

    def say(self, text: str, details: str = "") -> None:
        """Tell how it went."""
        self._set("\u2713", text, details)

    def mind(self, text: str, details: str = "") -> None:
        """Tell what to mind."""
        self._set("\u26a0", text, details)

    def fail(self, text: str, details: str = "") -> None:
        """Tell what went wrong: what, to which file or node, what to do next."""
        self._set("\u2716", text, details)

    @contextmanager
    def errors_shown(self) -> Iterator[None]:
        """Tell of an error that a person can do something about, and go on after the block."""
        try:
            yield
        except (SemiSupSegError, OSError) as error:
            self.fail(str(in_sentences(error)))

    def _set(self, sign: str, text: str, details: str) -> None:
        self._text.text = f"{sign} {readable(text)}" if text else ""
        self._details.plainText = readable(details)
        self._more.checked = False
        self._more.visible = bool(details)
        self._details.visible = False
        self.widget.visible = bool(text)
