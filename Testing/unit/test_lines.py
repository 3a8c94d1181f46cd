"""Files of lines: whole lines only, also on a full disk and while others rewrite them."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis.strategies import binary, lists, sampled_from

from SemiSupSegLib.runs.lines import NewLines, append_lines


@pytest.fixture
def a_file(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"one\ntwo\n")
    return path


def test_a_header_comes_once(tmp_path):
    path = tmp_path / "metrics.csv"
    append_lines(path, b"1\n", header=b"a\n")
    append_lines(path, b"2\n", header=b"a\n", sync=True)

    assert path.read_bytes() == b"a\n1\n2\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_a_full_device_is_told():
    with pytest.raises(OSError, match="No space left"):
        append_lines(Path("/dev/full"), b"three\n")


def test_what_a_full_disk_took_of_a_line_is_taken_back(a_file, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match="No space left"):
        append_lines(a_file, b"three\n", sync=True)

    assert a_file.read_bytes() == b"one\ntwo\n"


def test_each_line_is_read_once_and_a_half_written_one_when_it_is_whole(a_file):
    new = NewLines(a_file)
    assert new.read() == ([b"one", b"two"], False)
    assert new.read() == ([], False)
    append_lines(a_file, b"thr")
    assert new.read() == ([], False)
    append_lines(a_file, b"ee\nfour\n")

    assert new.read() == ([b"three", b"four"], False)


def test_a_file_that_is_not_there_yet_has_no_lines(tmp_path):
    new = NewLines(tmp_path / "later")
    assert new.read() == ([], False)
    (tmp_path / "later").write_bytes(b"one\n")

    assert new.read() == ([b"one"], False)


@pytest.mark.parametrize("content", [b"one\n", b"", b"one\nTWO\n", b"one\nother\nmore\n"])
def test_a_file_that_was_rewritten_is_read_anew(a_file, content):
    new = NewLines(a_file)
    new.read()
    other = a_file.with_name("other")
    other.write_bytes(content)
    other.replace(a_file)

    assert new.read() == (content.split(b"\n")[:-1], True)
    append_lines(a_file, b"last\n")
    assert new.read() == ([b"last"], False)


def test_a_file_that_was_removed_has_lost_its_lines_and_is_read_when_it_is_back(a_file):
    new = NewLines(a_file)
    new.read()
    a_file.unlink()
    assert new.read() == ([], True)
    a_file.write_bytes(b"again\n")

    assert new.read() == ([b"again"], False)


@given(parts=lists(sampled_from([b"a", b"bc\n", b"\n", b"de\nf", b"g\n\n"]) | binary(max_size=5)))
def test_however_a_file_grows_its_whole_lines_are_read_in_order(parts, tmp_path_factory):
    path = tmp_path_factory.mktemp("lines") / "file"
    new, found = NewLines(path), []
    for part in parts:
        append_lines(path, part)
        lines, is_other = new.read()
        assert not is_other
        found += lines

    assert found == b"".join(parts).split(b"\n")[:-1]
