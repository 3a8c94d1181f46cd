"""Arrays from a worker are read in pieces."""

from __future__ import annotations

import sys
import unittest.mock
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from semisupseg_testing import PanelTest


class LoadingTest(PanelTest):
    """Files as workers write them."""

    def read(self, path):
        """Return the array, and in how many steps it was read."""
        from SemiSupSegUI import loading

        steps, number = loading.load_in_pieces(path), 0
        with unittest.mock.patch.object(loading, "_PIECE_BYTES", 100):
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    return end.value, number
                number += 1

    def test_all_of_an_array_is_read_a_piece_at_a_step(self):
        for values in (
            np.arange(7 * 5 * 3, dtype=np.float32).reshape(7, 5, 3),
            np.zeros((2, 3, 4), np.uint8),
            np.arange(6, dtype=np.int32).reshape(1, 2, 3),
        ):
            file = self.folder / "array.npy"
            np.save(file, values)

            found, number = self.read(file)

            self.assertEqual(found.dtype, values.dtype)
            np.testing.assert_array_equal(found, values)
            self.assertEqual(number, -(-values.nbytes // 100))

    def test_a_file_that_ends_too_early_is_refused(self):
        file = self.folder / "array.npy"
        np.save(file, np.zeros((4, 5, 6), np.float32))
        file.write_bytes(file.read_bytes()[:-1])

        with self.assertRaisesRegex(ValueError, "ends too early"):
            self.read(file)

    def test_objects_are_refused(self):
        file = self.folder / "array.npy"
        np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)

        with self.assertRaisesRegex(ValueError, "no plain array"):
            self.read(file)
