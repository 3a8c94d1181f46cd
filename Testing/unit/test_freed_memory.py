"""Freed memory is used again instead of asked from the system anew, and can be given back."""

from __future__ import annotations

import subprocess
import sys

import pytest

from SemiSupSegLib.freed_memory import give_back_freed_memory, keep_freed_memory

_PROGRAM = """
import sys
from resource import RUSAGE_SELF, getrusage

import torch

from SemiSupSegLib.freed_memory import give_back_freed_memory, keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()


def pages():
    return int(open("/proc/self/statm").read().split()[1])


def fill():
    torch.ones(16 * 2**20)


# glibc keeps the crumbs beside aligned blocks apart until it has seven of a size.
for _ in range(20):
    fill()
before = getrusage(RUSAGE_SELF).ru_minflt
for _ in range(10):
    fill()
faults = getrusage(RUSAGE_SELF).ru_minflt - before
kept = pages()
give_back_freed_memory()
print(faults, kept - pages())
"""
_BLOCK_PAGES = 64 * 2**20 // 4096

needs_glibc = pytest.mark.skipif(not keep_freed_memory(), reason="the C library is not glibc")


def _faults_and_given_back(how: str) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, how], capture_output=True, text=True, check=True
    )
    faults, given_back = done.stdout.split()
    return int(faults), int(given_back)


@needs_glibc
def test_a_block_of_the_same_size_costs_no_page_faults() -> None:
    faults, given_back = _faults_and_given_back("keep")
    assert faults < _BLOCK_PAGES / 10
    assert given_back > _BLOCK_PAGES / 2


@needs_glibc
def test_without_it_every_block_is_new() -> None:
    faults, given_back = _faults_and_given_back("default")
    # 2 MB a page where the system has such.
    assert faults > 5 * _BLOCK_PAGES / 512
    assert given_back < _BLOCK_PAGES / 2


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert not keep_freed_memory()
    give_back_freed_memory()
