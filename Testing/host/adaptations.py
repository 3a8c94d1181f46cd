"""Methods that PySide6 lacks or that act differently there: what PythonQt or Qt 5 does."""

import functools
import sys
import weakref
from collections.abc import Callable

import shiboken6
from PySide6 import QtCore, QtGui, QtWidgets

from Testing.host import signals
from Testing.host.api import api
from Testing.host.complaints import complain, guarded
from Testing.host.conversion import to_python, unwrapped

opened_urls: list[str] = []
"""What QDesktopServices.openUrl() was asked to open."""

dialog_answers: dict[str, object] = {}
"""What a modal dialog returns, by "QMessageBox.question"; without an answer it is a complaint."""

methods: dict[tuple[str, str], Callable] = {}


def adapts(*places: str) -> Callable:
    """Register a function for "Class.method"; it gets the proxy (or the C++ class) first."""

    def register(function: Callable) -> Callable:
        for place in places:
            methods[tuple(place.split("."))] = function
        return function

    return register


@functools.cache
def adapted_method(class_name: str, name: str) -> Callable | None:
    found = (methods.get((owner, name)) for owner in api.lineage(class_name))
    return next(filter(None, found), None)


# Members that PythonQt gives to every object.


def universal_method(name: str) -> Callable:
    return UNIVERSAL[name]


def class_name_of(proxy: object) -> str:
    return type(proxy)._record


def inherits(proxy: object, name: str) -> bool:
    return name in api.lineage(type(proxy)._record)


def parent(proxy: object) -> object:
    return to_python(proxy._alive().parent())


def set_parent(proxy: object, new_parent: object) -> None:
    proxy._alive().setParent(unwrapped(new_parent))


def get_property(proxy: object, name: str) -> object:
    return to_python(proxy._alive().property(name))


def set_property(proxy: object, name: str, value: object) -> bool:
    return proxy._alive().setProperty(name, unwrapped(value))


def matches(child: object, kind: object, name: object) -> bool:
    record = type(child)._record
    kind_name = getattr(kind, "_record", kind)
    if kind_name is not None and not (isinstance(kind_name, str) and inherits(child, kind_name)):
        return record == kind_name
    return not name or child.objectName == name


def find_children(proxy: object, kind: object = None, name: str = "") -> tuple:
    found = map(to_python, proxy._alive().findChildren(QtCore.QObject))
    return tuple(child for child in found if matches(child, kind, name))


def find_child(proxy: object, kind: object = None, name: str = "") -> object:
    return next(iter(find_children(proxy, kind, name)), None)


def delete(proxy: object) -> None:
    shiboken6.delete(proxy._alive())


def translate(_proxy: object, text: str, *_rest: object) -> str:
    return text


def show_help(proxy: object) -> None:
    print(class_name_of(proxy), file=sys.stderr)


UNIVERSAL: dict[str, Callable] = {
    "className": class_name_of,
    "connect": signals.connect,
    "delete": delete,
    "disconnect": signals.disconnect,
    "findChild": find_child,
    "findChildren": find_children,
    "help": show_help,
    "inherits": inherits,
    "metaObject": lambda proxy: proxy._alive().metaObject(),
    "parent": parent,
    "property": get_property,
    "setParent": set_parent,
    "setProperty": set_property,
    "tr": translate,
}


@adapts("QWidget.setParent")
def set_widget_parent(proxy: object, *arguments: object) -> None:
    flags = [QtCore.Qt.WindowType(flag) for flag in arguments[1:]]
    proxy._alive().setParent(unwrapped(arguments[0]), *flags)


# PySide6 keeps what it is given here; with PythonQt it goes with the last reference in Python.

NOT_KEPT = (
    "QAbstractItemView.setItemDelegate",
    "QAbstractItemView.setModel",
    "QAbstractProxyModel.setSourceModel",
    "QButtonGroup.addButton",
    "QLineEdit.setCompleter",
    "QLineEdit.setValidator",
    "QTableView.setModel",
    "QToolButton.setDefaultAction",
)


def gives_nothing_a_home(place: str) -> None:
    name = place.partition(".")[2]

    def call(proxy: object, given: object, *rest: object) -> object:
        result = getattr(proxy._alive(), name)(unwrapped(given), *rest)
        if given is not None:
            weakref.finalize(given, delete_homeless, unwrapped(given)).atexit = False
        return result

    methods[tuple(place.split("."))] = call


def delete_homeless(cpp: object) -> None:
    """Delete an object that is no other's child."""
    if shiboken6.isValid(cpp) and cpp.parent() is None:
        shiboken6.delete(cpp)


for place in NOT_KEPT:
    gives_nothing_a_home(place)


# Timers


@adapts("QTimer.singleShot")
def single_shot(_timer: object, duration_ms: int, *target: object) -> None:
    slot = signals.slot_of(target)
    if slot is None:
        raise ValueError(f"QTimer.singleShot() cannot call {target!r}")
    label = signals.label_of(slot, f"singleShot({duration_ms})")

    def fire() -> None:
        with guarded(label):
            slot()

    QtCore.QTimer.singleShot(int(duration_ms), fire)


# Modal dialogs would stop a test for ever. They answer at once, by `dialog_answers`.

CANCELLED = {
    "QMessageBox.information": QtWidgets.QMessageBox.StandardButton.Ok.value,
    "QMessageBox.warning": QtWidgets.QMessageBox.StandardButton.Ok.value,
    "QMessageBox.critical": QtWidgets.QMessageBox.StandardButton.Ok.value,
    "QMessageBox.question": QtWidgets.QMessageBox.StandardButton.No.value,
    "QMessageBox.about": None,
    "QFileDialog.getOpenFileName": "",
    "QFileDialog.getOpenFileNames": (),
    "QFileDialog.getSaveFileName": "",
    "QFileDialog.getExistingDirectory": "",
    "QInputDialog.getText": "",
    "QInputDialog.getItem": "",
    "QInputDialog.getInt": 0,
    "QInputDialog.getDouble": 0.0,
    "QDialog.exec": 0,
    "QDialog.exec_": 0,
    "QMenu.exec": None,
    "QMenu.exec_": None,
}


def answers_at_once(place: str) -> None:
    def answer(*arguments: object) -> object:
        if place not in dialog_answers:
            said = [each for each in arguments if isinstance(each, str)]
            complain("dialog", f"{place} was not answered: {said}. Inject the prompt.")
            return CANCELLED[place]
        found = dialog_answers[place]
        return found(*arguments) if callable(found) else found

    methods[tuple(place.split("."))] = answer


for place in CANCELLED:
    answers_at_once(place)


@adapts("QDesktopServices.openUrl")
def open_url(_services: object, url: object) -> bool:
    opened_urls.append(unwrapped(url).toString())
    return True


# Qt 5


@adapts("QLayout.setMargin")
def set_margin(proxy: object, margin: int) -> None:
    proxy._alive().setContentsMargins(margin, margin, margin, margin)


@adapts("QFontMetrics.width")
def text_width(proxy: object, text: str) -> int:
    return proxy._alive().horizontalAdvance(text)


@adapts("QAction.parentWidget", "QShortcut.parentWidget")
def parent_widget(proxy: object) -> object:
    return to_python(proxy._alive().parent())


@adapts("QAction.setMenu")
def set_menu(proxy: object, menu: object) -> None:
    proxy._alive().setMenu(unwrapped(menu))


@adapts("QProcess.error")
def process_error(proxy: object) -> int:
    return proxy._alive().error().value


@adapts("QApplication.topLevelWidgets")
def top_level_widgets(_app: object) -> tuple:
    return tuple(map(to_python, QtWidgets.QApplication.topLevelWidgets()))


@adapts("QColor.name")
def color_name(proxy: object, *form: int) -> str:
    return proxy._alive().name(*(QtGui.QColor.NameFormat(each) for each in form))


def py_to_string(proxy: object) -> str:
    return repr(proxy._alive())


for each in [
    name for name, entry in api.classes.items() if "py_toString" in entry.get("methods", {})
]:
    methods[(each, "py_toString")] = py_to_string
