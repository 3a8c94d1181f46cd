"""Runs all tests of this folder in a real Slicer; the exit code says the result.

    Slicer --testing --no-splash --additional-module-paths SemiSupSeg \\
        --python-script Testing/slicer/run_in_slicer.py
"""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

import slicer

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Run the tests; return 0 if all passed or were skipped with a reason."""
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    tests = unittest.TestLoader().discover(str(HERE), pattern="test_*.py", top_level_dir=str(HERE))
    result = unittest.TextTestRunner(verbosity=2, stream=sys.stdout).run(tests)
    for test, reason in result.skipped:
        print(f"skipped: {test.id()}: {reason}")
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    slicer.util.exit(main())
