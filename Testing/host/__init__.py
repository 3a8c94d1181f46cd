"""A stand-in for Slicer: test code that makes our module run unchanged outside Slicer."""

import ctypes
import os
import sys

LIBRARIES = (
    "libEGL.so.1 libEGL_mesa.so.0 libGL.so.1 libxkbcommon.so.0 libfontconfig.so.1"
    " libglib-2.0.so.0 libdbus-1.so.3 libX11.so.6"
)
"""Without one of them Qt or VTK ends the process instead of raising."""
APT_LINE = (
    "apt-get install -y libegl1 libgl1 libxkbcommon0 libfontconfig1 libglib2.0-0 libdbus-1-3"
    " libx11-6 libegl-mesa0 libgl1-mesa-dri fonts-dejavu-core"
)

_started: list = []


class HostMissingError(RuntimeError):
    """This machine cannot run the host; the text says what to install."""


def missing_libraries() -> list[str]:
    """Return the system libraries for off-screen drawing that this machine lacks."""
    missing = []
    for name in LIBRARIES.split() if sys.platform == "linux" else ():
        try:
            ctypes.CDLL(name)
        except OSError:
            missing.append(name)
    return missing


def start_host():
    """Return the host of this process; started by the first call.

    Raises:
        HostMissingError: If a package or a system library is missing.
    """
    if not _started:
        missing = missing_libraries()
        if missing:
            raise HostMissingError(f"{', '.join(missing)} missing. Install with: {APT_LINE}")
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        if sys.platform == "linux":
            os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
        try:
            import PySide6.QtWidgets  # noqa: F401
            import slicer  # noqa: F401
            import vtk  # noqa: F401
        except ImportError as error:
            raise HostMissingError(
                f"{error}. pip install slicer-core PySide6-Essentials, then {APT_LINE}"
            ) from error
        from Testing.host.host import Host

        _started.append(Host())
    return _started[0]
