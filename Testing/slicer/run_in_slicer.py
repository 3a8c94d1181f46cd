"""Runs all tests of this folder in a real Slicer; the exit code says the result.

    Slicer --testing --no-splash --additional-module-paths SemiSupSeg \\
        --python-script Testing/slicer/run_in_slicer.py

With `--testing` Slicer itself ends with 1, whatever is said here, if an exception in a slot was
printed last (`qSlicerCoreApplication::onAboutToQuit`).
"""

from __future__ import annotations

import faulthandler
import sys
import unittest
from pathlib import Path

import slicer

HERE = Path(__file__).resolve().parent
STDERR = 2
"""Of the process: Slicer's `sys.stderr` is no file."""
TELL_SECONDS = 900.0
"""So often it is told where Python is: a dialog that nobody answers would wait for ever."""


def main() -> int:
    """Run the tests; return 0 if all passed or were skipped with a reason."""
    faulthandler.enable(STDERR)
    faulthandler.dump_traceback_later(TELL_SECONDS, repeat=True, file=STDERR)
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    tests = unittest.TestLoader().discover(str(HERE), pattern="test_*.py", top_level_dir=str(HERE))
    result = unittest.TextTestRunner(verbosity=2, stream=sys.stdout).run(tests)
    faulthandler.cancel_dump_traceback_later()
    for test, reason in result.skipped:
        print(f"skipped: {test.id()}: {reason}")
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    slicer.util.exit(main())
