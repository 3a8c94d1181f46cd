"""Checkpoints survive damage and interrupted writing."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.training.checkpoints import (
    Checkpoint,
    load_checkpoint,
    load_network_tensors,
    load_optimizer_tensors,
    network_tensors,
    optimizer_tensors,
    peek_weights,
    save_checkpoint,
)
from SemiSupSegLib.training.validation import BestOnValidation


def a_checkpoint(value):
    return Checkpoint(
        weights={"student/weight": torch.full((3,), float(value))},
        optimizer={"0/step": torch.tensor(float(value))},
        state={"iteration": value},
    )


def test_the_newest_is_loaded_and_only_two_are_kept(tmp_path):
    for number in (3, 7, 12):
        save_checkpoint(tmp_path, number, a_checkpoint(number))

    loaded = load_checkpoint(tmp_path)

    assert loaded.state == {"iteration": 12}
    torch.testing.assert_close(loaded.weights["student/weight"], torch.full((3,), 12.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000007", "00000012"]


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.safetensors"])
def test_a_flipped_byte_sends_it_back_to_the_one_before(tmp_path, file):
    save_checkpoint(tmp_path, 1, a_checkpoint(1))
    last = save_checkpoint(tmp_path, 2, a_checkpoint(2))
    data = bytearray((last / file).read_bytes())
    data[-1] ^= 1
    (last / file).write_bytes(data)

    assert load_checkpoint(tmp_path).state == {"iteration": 1}


def test_a_folder_that_was_not_finished_does_not_count_and_does_not_stay(tmp_path):
    save_checkpoint(tmp_path, 1, a_checkpoint(1))
    (tmp_path / ".00000002.part").mkdir()

    assert load_checkpoint(tmp_path).state == {"iteration": 1}
    save_checkpoint(tmp_path, 3, a_checkpoint(3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000001", "00000003"]


def test_one_that_was_moved_aside_comes_back(tmp_path):
    path = save_checkpoint(tmp_path, 4, a_checkpoint(4))
    path.rename(tmp_path / ".00000004.former")

    assert load_checkpoint(tmp_path).state == {"iteration": 4}


def test_the_same_number_again_replaces_it(tmp_path):
    save_checkpoint(tmp_path, 4, a_checkpoint(4))
    save_checkpoint(tmp_path, 4, a_checkpoint(5))

    assert load_checkpoint(tmp_path).state == {"iteration": 5}


def test_nothing_readable_is_an_error_and_nothing_at_all_is_none(tmp_path):
    assert load_checkpoint(tmp_path / "missing") is None
    path = save_checkpoint(tmp_path, 1, a_checkpoint(1))
    (path / "checkpoint.json").write_text("{")

    with pytest.raises(SemiSupSegError, match="None of the checkpoints"):
        load_checkpoint(tmp_path)


def test_network_and_optimizer_go_on_as_if_nothing_had_happened():
    torch.manual_seed(0)
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    inputs = torch.randn(4, 3)

    def update(network, optimizer):
        optimizer.zero_grad()
        network(inputs).square().sum().backward()
        optimizer.step()

    one = torch.optim.AdamW(first.parameters(), lr=0.1)
    for _ in range(3):
        update(first, one)
    load_network_tensors({"n": second}, network_tensors({"n": first}))
    other = torch.optim.AdamW(second.parameters(), lr=0.1)
    load_optimizer_tensors(other, optimizer_tensors(one))
    update(first, one)
    update(second, other)

    for value, same in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(value, same)


def test_the_best_weights_that_a_checkpoint_names_outlive_better_ones(tmp_path):
    run, task = RunFolder(tmp_path), load_task("binary")
    best, network = BestOnValidation(run, task), nn.Linear(3, 2)
    weights = network.weight.detach().clone()
    best.offer({"mean": 0.1}, 10, network)
    named = best.state()
    best.checkpoint_written()
    for iteration in (20, 30):
        nn.init.constant_(network.weight, iteration)
        best.offer({"mean": iteration / 100}, iteration, network)

    resumed = BestOnValidation(run, task)
    resumed.load_state(named)

    assert resumed.load_into(network)
    torch.testing.assert_close(network.weight.detach(), weights)
    for _ in range(2):
        best.checkpoint_written()
    assert [file.name for file in (run.checkpoints / "best").iterdir()] == ["00000030.safetensors"]


@pytest.mark.parametrize("step", [1, 0], ids=["new ones", "the same one anew"])
def test_weights_are_read_whole_while_somebody_writes_others(tmp_path, step):
    save_checkpoint(tmp_path, 0, a_checkpoint(0))

    def write():
        for value in range(1, 60):
            save_checkpoint(tmp_path, step * value, a_checkpoint(value))

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        seen = []
        while not writing.done() or not seen:
            seen.append(peek_weights(tmp_path))
        writing.result()

    assert peek_weights(tmp_path).state == {"iteration": 59}
    for one in seen:
        expected = torch.full((3,), float(one.state["iteration"]))
        torch.testing.assert_close(one.weights["student/weight"], expected)
        assert one.optimizer == {}


def test_weights_are_found_when_others_take_their_place_and_their_inode(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, 0, a_checkpoint(0))
    read, reads = Path.read_bytes, []

    def replaced_first(path):
        # Between the hash and the weights; where the folders lie is given again.
        if path.name == "weights.safetensors" and len(reads) < 3:
            reads.append(path)
            save_checkpoint(tmp_path, 0, a_checkpoint(len(reads)))
        return read(path)

    stat = Path.stat
    monkeypatch.setattr(Path, "read_bytes", replaced_first)
    monkeypatch.setattr(
        Path,
        "stat",
        lambda path, **options: os.stat_result(
            (stat(path, **options).st_mode, 7, *stat(path, **options)[2:])
        ),
    )

    assert peek_weights(tmp_path).state == {"iteration": 3}


def test_looking_at_weights_changes_nothing(tmp_path):
    save_checkpoint(tmp_path, 1, a_checkpoint(1)).rename(tmp_path / ".00000001.former")
    damaged = save_checkpoint(tmp_path, 2, a_checkpoint(2))
    (damaged / "weights.safetensors").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))

    assert peek_weights(tmp_path).state == {"iteration": 1}
    assert sorted(tmp_path.rglob("*")) == before


def test_without_readable_weights_there_is_none_or_an_error(tmp_path):
    assert peek_weights(tmp_path / "nowhere") is None
    assert peek_weights(tmp_path) is None
    (save_checkpoint(tmp_path, 2, a_checkpoint(2)) / "checkpoint.json").unlink()

    with pytest.raises(SemiSupSegError, match="None of the checkpoints"):
        peek_weights(tmp_path)
