"""What a run tells of its device."""

import pytest
import torch

from SemiSupSegLib.training import device_use as device_use_module
from SemiSupSegLib.training.device_use import DeviceUse, utilisation_of

TWO = "GPU-aaaa, 30\nGPU-bbbb, 95\n"


def test_on_a_cpu_it_is_this_process_that_is_looked_at():
    found = DeviceUse(torch.device("cpu")).look()

    assert found["name"].startswith("CPU")
    assert not found["is_gpu"]
    assert 1e6 < found["memory_bytes"] < found["memory_total_bytes"]
    assert 0 <= found["utilisation"] <= 1


def test_it_looks_every_five_seconds_at_most(monkeypatch):
    now = 100.0
    monkeypatch.setattr(device_use_module.time, "monotonic", lambda: now)
    use = DeviceUse(torch.device("cpu"))
    first = use.look()
    now += 4.9
    assert use.look() is first
    now += 0.2

    assert use.look() is not first


@pytest.mark.parametrize(
    ("answer", "uuid", "share"),
    [
        (TWO, "bbbb", 0.95),
        (TWO, "cccc", None),
        (TWO, "", None),
        ("GPU-aaaa, 30\n", "", 0.3),
        ("GPU-aaaa, [N/A]\n", "aaaa", None),
        ("No devices were found\n", "aaaa", None),
        ("", "", None),
    ],
)
def test_utilisation_is_that_of_the_runs_gpu(answer, uuid, share):
    assert utilisation_of(answer, uuid) == share
