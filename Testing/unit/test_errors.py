"""What the system refuses, in sentences."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from SemiSupSegLib.errors import SemiSupSegError, in_sentences


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/run/.a.part"), "The disk is full"),
        (OSError(errno.ENOSPC, "No space left on device", "/run/.a.x.part"), "(/run: No space"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/a/b.npy"), "/a/b.npy: No such file"),
        (MemoryError(), "too little free memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "The GPU has too little"),
        (ModuleNotFoundError(name="safetensors"), "The package safetensors is missing."),
        (SemiSupSegError("What it says."), "What it says."),
    ],
)
def test_what_happened_is_told_with_the_file(error, sentence):
    assert sentence in in_sentences(error)


def test_errors_of_ours_are_nobody_elses_to_mend():
    assert in_sentences(KeyError("name")) is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_a_disk_that_is_full_while_weights_are_written_is_recognised():
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with pytest.raises(SafetensorError) as caught:
        save_file({"weight": torch.zeros(4)}, "/dev/full")

    assert "The disk is full" in in_sentences(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_memory_that_pytorch_cannot_get_is_recognised():
    program = (
        "import resource, torch\n"
        "from SemiSupSegLib.errors import in_sentences\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "try:\n    torch.zeros(10**10)\n"
        "except RuntimeError as error:\n    print(in_sentences(error))\n"
    )
    root = Path(__file__).resolve().parents[2]

    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=root)

    assert b"too little free memory" in answer.stdout, answer.stderr.decode()
