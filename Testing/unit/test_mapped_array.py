"""Stored arrays are the same as NumPy reads them, and a damaged file is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from SemiSupSegLib.preparation.mapped_array import mapped_array


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_it_is_the_array_that_was_saved_and_cannot_be_written(tmp_path: Path, dtype: str) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    np.save(tmp_path / "image.npy", array)

    for _ in range(2):  # The second time the header is known.
        found = mapped_array(tmp_path / "image.npy")

        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
        with pytest.raises(ValueError, match="read-only"):
            found[0, 0, 0] = 1


def test_it_stays_when_its_file_is_gone(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", np.ones((4, 4)))
    found = mapped_array(tmp_path / "image.npy")
    (tmp_path / "image.npy").unlink()

    assert found.sum() == 16
    with pytest.raises(FileNotFoundError):
        mapped_array(tmp_path / "image.npy")


def test_a_file_that_was_cut_off_later_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "image.npy"
    np.save(file, np.ones((4, 4)))
    mapped_array(file)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])

    with pytest.raises(ValueError, match=f"it has {len(whole) - 1} bytes, which is too short"):
        mapped_array(file)


def test_no_file_stays_open(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = [tmp_path / f"{number}.npy" for number in range(40)]
    for file in files:
        np.save(file, np.ones(3))
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())) + 20, most[1]))
    try:
        for file in files:
            assert mapped_array(file).sum() == 3
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_what_is_no_array_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "image.npy").write_bytes(content)

    with pytest.raises(ValueError, match=r"empty|pickled|header|magic"):
        mapped_array(tmp_path / "image.npy")
