"""The options of a run as a form, built from what the library says of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ctk
import qt
from slicer.i18n import tr as _

from SemiSupSegUI.section import push_button, wrapped_label

PRESET, COMMON, ALL = "preset", "common", "all"
"""How many options are shown."""


class RunOptions:
    """Controls of a method's options; what differs from the preset is remembered by its key.

    Args:
        changed: Told when the user has changed an option.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._options: Sequence[Mapping[str, Any]] = ()
        self._editors: dict[str, Any] = {}
        self._is_filling = False
        self.settings: dict[str, str] = {}
        """Key to text, as `--set` takes it; only what the user has changed."""
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        self.depth_box = qt.QComboBox()
        for title, depth in (
            (_("As the preset has them"), PRESET),
            (_("The common ones"), COMMON),
            (_("All"), ALL),
        ):
            self.depth_box.addItem(title, depth)
        self.depth_box.toolTip = _("How many options are shown below.")
        self.reset_button = push_button(_("As in the preset"), self.reset)
        row = qt.QHBoxLayout()
        row.addWidget(qt.QLabel(_("Options:")))
        row.addWidget(self.depth_box, 1)
        row.addWidget(self.reset_button)
        layout.addLayout(row)
        self.changes = wrapped_label()
        layout.addWidget(self.changes)
        self._form_holder = qt.QVBoxLayout()
        layout.addLayout(self._form_holder)
        self._form: Any = None
        assert self.depth_box.connect("currentIndexChanged(int)", self._rebuild)
        self._show_changes()

    def show(self, options: Sequence[Mapping[str, Any]]) -> None:
        """Offer these options; changes to those that are gone are forgotten."""
        known = {one["key"] for one in options}
        self.settings = {key: text for key, text in self.settings.items() if key in known}
        is_same = [_face(one) for one in options] == [_face(one) for one in self._options]
        self._options = options
        if is_same:
            self._show_values()
            self._show_changes()
        else:
            self._rebuild()

    def editor(self, key: str):
        """Return the control of an option, None if it is not shown."""
        return self._editors.get(key)

    def set(self, key: str, text: str) -> None:
        """Change an option, as `--set key=text` does."""
        option = next((one for one in self._options if one["key"] == key), None)
        if option is not None and text == _text(option["default"]):
            self.settings.pop(key, None)
        else:
            self.settings[key] = text
        self._show_values()
        self._show_changes()
        self._changed()

    def reset(self) -> None:
        """Take the preset's values again."""
        if self.settings:
            self.settings = {}
            self._show_values()
            self._show_changes()
            self._changed()

    def _rebuild(self, _index: int = 0) -> None:
        self._editors = {}
        if self._form is not None:
            self._form_holder.removeWidget(self._form)
            self._form.hide()
            self._form.setParent(None)
            self._form.deleteLater()
            self._form = None
        depth = self.depth_box.currentData
        shown = [one for one in self._options if depth == ALL or one["depth"] == depth]
        if shown and depth != PRESET:
            self._form = qt.QWidget()
            self._form_holder.addWidget(self._form)
            self._fill(self._form, shown)
        self._show_values()
        self._show_changes()

    def _fill(self, widget, shown: Sequence[Mapping[str, Any]]) -> None:
        layout = qt.QVBoxLayout(widget)
        layout.setContentsMargins(0, 0, 0, 0)
        groups: dict[str, list[Mapping[str, Any]]] = {}
        for option in shown:
            groups.setdefault(option["group"], []).append(option)
        for name, members in groups.items():
            box = ctk.ctkCollapsibleGroupBox()
            box.title = name
            # All of them at once would be a page without end.
            box.collapsed = self.depth_box.currentData == ALL
            form = qt.QFormLayout(box)
            for option in members:
                editor = self._new_editor(option)
                editor.toolTip = f"{option['help']}\n({option['key']})"
                label = qt.QLabel(option["title"])
                label.toolTip = editor.toolTip
                form.addRow(label, editor)
                self._editors[option["key"]] = editor
            layout.addWidget(box)

    def _new_editor(self, option: Mapping[str, Any]):
        key = option["key"]
        if option["kind"] == "bool":
            editor = qt.QCheckBox()
            connected = editor.connect(
                "toggled(bool)", lambda on: self._edited(key, _text(bool(on)))
            )
        elif option["kind"] == "choice":
            editor = qt.QComboBox()
            for choice in option["choices"]:
                editor.addItem(_text(choice), _text(choice))
            connected = editor.connect(
                "currentIndexChanged(int)", lambda _at: self._edited(key, editor.currentData)
            )
        else:
            # Numbers, too: a box with a range would say what the library does not.
            editor = qt.QLineEdit()
            connected = editor.connect("editingFinished()", lambda: self._entered(key, editor))
        assert connected
        return editor

    def _entered(self, key: str, editor) -> None:
        editor.modified = False
        self._edited(key, editor.text.strip())

    def _edited(self, key: str, text: str) -> None:
        if self._is_filling or text == self._current(key):
            return
        self.set(key, text)

    def _current(self, key: str) -> str:
        option = next(one for one in self._options if one["key"] == key)
        return self.settings.get(key, _text(option["default"]))

    def _show_values(self) -> None:
        self._is_filling = True
        for key, editor in self._editors.items():
            option = next(one for one in self._options if one["key"] == key)
            text = self._current(key)
            if option["kind"] == "bool":
                editor.checked = text == "true"
            elif option["kind"] == "choice":
                editor.setCurrentIndex(editor.findData(text))
            elif not editor.modified:
                # A plan may be answered while somebody types.
                editor.text = text
                # Of a long list its beginning is seen.
                editor.setCursorPosition(0)
        self._is_filling = False

    def _show_changes(self) -> None:
        changes = [f"{self._name(key)} = {text}" for key, text in sorted(self.settings.items())]
        self.changes.text = _("Changed: {changes}").format(changes="; ".join(changes))
        self.changes.visible = bool(changes)
        self.reset_button.enabled = bool(changes)
        self.reset_button.toolTip = (
            _("Take back all changes.") if changes else _("Nothing was changed.")
        )

    def _name(self, key: str) -> str:
        """Return an option's title, with its heading if others have the same; else its key."""
        own = next((one for one in self._options if one["key"] == key), None)
        if own is None:
            return key
        alike = [one for one in self._options if one["title"] == own["title"]]
        return own["title"] if len(alike) == 1 else f"{own['title']} ({own['group']})"


def _text(value: object) -> str:
    """Return a value as `--set` takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def _face(option: Mapping[str, Any]) -> tuple[object, ...]:
    """Return what an option's control is made of."""
    return (option["key"], option["kind"], option["default"], str(option.get("choices")))
