"""What opens outside of Slicer, by whatever the system has for it."""

from __future__ import annotations

from pathlib import Path

import qt


def show(path: Path) -> None:
    """Show a page in the browser, or a folder."""
    qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path)))
