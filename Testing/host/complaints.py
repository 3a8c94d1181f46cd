"""What went wrong where nothing raises: Qt and VTK messages, failed connects, slot exceptions."""

import contextlib
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Complaint:
    kind: str
    """qt, connect, slot, observer, vtk, dialog or ui."""
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(frozen=True)
class Call:
    """One slot, timer call or virtual method, and how long it held the event loop."""

    label: str
    seconds: float


complaints: list[Complaint] = []
slow_calls: list[Call] = []
SLOW_S = 0.05
"""Calls longer than this are kept in `slow_calls`."""


def complain(kind: str, text: str) -> None:
    complaints.append(Complaint(kind, text))
    print(f"[{kind}] {text}", file=sys.stderr)


@contextlib.contextmanager
def guarded(label: str) -> Iterator[None]:
    """Print and keep an exception instead of raising it, as PythonQt does, and take the time."""
    start = time.perf_counter()
    try:
        yield
    except Exception:
        complain("slot", f"{label} raised:\n{traceback.format_exc()}")
    finally:
        seconds = time.perf_counter() - start
        if seconds > SLOW_S:
            slow_calls.append(Call(label, seconds))


def listen_to_vtk() -> Callable[[], None]:
    """Complain about VTK errors and warnings from now on; returns what must be kept alive."""
    import vtk

    @vtk.calldata_type(vtk.VTK_STRING)
    def heard(_window: object, event: str, text: str) -> None:
        complain("vtk", f"{event}: {text.strip()}")

    window = vtk.vtkOutputWindow.GetInstance()
    for event in ("ErrorEvent", "WarningEvent"):
        window.AddObserver(event, heard)
    return heard


def listen_to_python() -> None:
    """Complain about exceptions of VTK observers, which VTK prints through sys.excepthook."""
    before = sys.excepthook

    def heard(kind: type, error: BaseException, trace: object) -> None:
        complaints.append(Complaint("observer", "".join(traceback.format_exception(error))))
        before(kind, error, trace)

    sys.excepthook = heard


def listen_to_qt() -> None:
    """Complain about Qt's own warnings from now on."""
    from PySide6 import QtCore

    quiet = (QtCore.QtMsgType.QtDebugMsg, QtCore.QtMsgType.QtInfoMsg)

    def heard(kind: QtCore.QtMsgType, _context: object, text: str) -> None:
        if kind not in quiet and not any(known in text for known in KNOWN_QT_NOISE):
            complain("qt", text)

    QtCore.qInstallMessageHandler(heard)


KNOWN_QT_NOISE = ("This plugin does not support propagateSizeHints()",)
"""Of the offscreen platform, not of our widgets."""
