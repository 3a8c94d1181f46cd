"""Writing and reading files that other programs and other systems made."""

import errno
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from SemiSupSegLib import files
from SemiSupSegLib.errors import FolderRefusesError, SemiSupSegError, in_sentences
from SemiSupSegLib.files import read_json, replacing, replacing_path, write_json


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_does_not_matter(tmp_path, encoding):
    (tmp_path / "one.json").write_text('{"a": 1}', encoding=encoding)

    assert read_json(tmp_path / "one.json") == {"a": 1}


def test_a_name_that_is_no_utf_8_is_written_and_read_back(tmp_path):
    name = os.fsdecode(b"M\xfcller")

    write_json(tmp_path / "one.json", {"case": name, "town": "Zürich"})

    assert read_json(tmp_path / "one.json") == {"case": name, "town": "Zürich"}
    assert "Zürich" in (tmp_path / "one.json").read_text(encoding="utf-8")


def test_what_is_no_json_is_refused_with_its_name(tmp_path):
    (tmp_path / "one.json").write_text("{")

    with pytest.raises(SemiSupSegError, match=r"one\.json cannot be read as JSON"):
        read_json(tmp_path / "one.json")


@pytest.mark.parametrize("writing", [replacing, replacing_path])
def test_no_error_names_the_temporary_file(tmp_path, monkeypatch, writing):
    def refuse(number):
        def refused(prefix, suffix, dir):
            raise OSError(number, os.strerror(number), f"{dir}/{prefix}w_9p{suffix}")

        monkeypatch.setattr(tempfile, "mkstemp", refused)

    def told():
        with pytest.raises(OSError) as error, writing(tmp_path / "a.nii.gz"):  # noqa: PT011 (below)
            raise AssertionError("nothing can be written")
        assert "w_9p" not in str(error.value)
        return error.value

    for number in (errno.EACCES, errno.EROFS):
        refuse(number)
        error = told()
        assert isinstance(error, FolderRefusesError)
        said = f"Nothing can be written to the folder {tmp_path} ({os.strerror(number)}). Ask for"
        assert in_sentences(error).startswith(said)
    refuse(errno.EIO)
    assert told().filename == str(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("writing", [replacing, replacing_path])
def test_a_full_disk_is_told_with_the_file_and_other_errors_as_they_are(tmp_path, writing):
    with pytest.raises(OSError, match=r"No space.*/a\.nii'"), writing(tmp_path / "a.nii"):
        raise OSError(errno.ENOSPC, "No space left on device")
    other = FileNotFoundError(errno.ENOENT, "No such file", "other.nii")
    with pytest.raises(FileNotFoundError) as error, writing(tmp_path / "a.nii"):
        raise other

    assert error.value is other
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights")
def test_a_new_file_has_the_rights_of_any_new_file(tmp_path):
    (tmp_path / "usual").touch()

    with replacing(tmp_path / "ours") as stream:
        stream.write(b"x")

    rights = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "ours")}
    assert len(rights) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_that_the_output_cannot_show_does_not_end_a_scan(tmp_path):
    for name in ("Иванов", os.fsdecode(b"M\xfcller")):
        (tmp_path / "cases" / name).mkdir(parents=True)
        (tmp_path / "cases" / name / "mri.nii.gz").write_bytes(b"")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    words = [sys.executable, "-m", "SemiSupSegLib", "scan", str(tmp_path / "cases")]

    done = subprocess.run(words, env=environment, capture_output=True, check=False)

    assert b"Traceback" not in done.stderr
    assert b"2 unusable" in done.stdout


@pytest.mark.parametrize("locks", [True, False])
def test_a_file_that_is_being_read_is_replaced_a_moment_later(tmp_path, monkeypatch, locks):
    """As Windows has it; elsewhere the refusal has another cause, and is told at once."""
    monkeypatch.setattr(files, "_READERS_LOCK", locks)
    monkeypatch.setattr(files, "_WAIT_SECONDS", 0)
    replace, refusals = Path.replace, [PermissionError(13, "in use")] * 3

    def replace_later(self, target):
        if refusals:
            raise refusals.pop()
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_later)
    if locks:
        write_json(tmp_path / "one.json", {"a": 1})
        assert read_json(tmp_path / "one.json") == {"a": 1}
    else:
        with pytest.raises(PermissionError):
            write_json(tmp_path / "one.json", {"a": 1})
    assert [file.name for file in tmp_path.iterdir()] == ["one.json"] * locks
