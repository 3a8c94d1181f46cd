"""Several processes train one run: real ones, started by torchrun, on tiny cases."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from SemiSupSegLib.__main__ import main
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.losses.low_confidence import high_confidence_loss, low_confidence_loss
from SemiSupSegLib.losses.reduction import shared_batch
from SemiSupSegLib.losses.supervised import SupervisedLossOptions, supervised_loss
from SemiSupSegLib.losses.uncertainty import log_variance_loss
from SemiSupSegLib.methods.protocol import ParameterGroup, Phase
from SemiSupSegLib.models.package import read_package
from SemiSupSegLib.processes import ALONE, Part, own_part, torchrun_parts
from SemiSupSegLib.runs.events import read_events
from SemiSupSegLib.runs.lock import read_lock
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.runs.state import RunState, RunStatus
from SemiSupSegLib.training.distribution import Distribution
from SemiSupSegLib.training.options import AugmentationOptions
from SemiSupSegLib.training.run import train
from SemiSupSegLib.training.sampling import Sampler, augment
from SemiSupSegLib.workers.run_view import RunView
from SemiSupSegLib.workers.watch import Watcher
from Testing.unit.test_training_run import TINY, request_for, write_case

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this PyTorch has no gloo, so processes cannot train together",
)

SHORT = {
    **TINY,
    "network.options": '{"width": 4, "lite": true, "dropout": 0}',
    "copy_paste": "0",
    # AdamW makes a full step of a gradient that is nothing but rounding.
    "optimizer.optimizer": "sgd",
    "optimizer.rate": "0.001",
    "teacher_share": "4",
    "stage_share": "2",
    "head_share": "1",
    # Few voxels are trusted so far that rounding takes them over this.
    "pseudo_labels.threshold": "0.9",
    "fractions": "[0.5, 1.0]",
    "training.log_every": "1",
    "training.validate_every": "3",
    "training.checkpoint_seconds": "0",
}
ITERATIONS = 10

# Trains as the command does. Each process notes its weights after every update; what further it
# does is named in TROUBLE.
SCRIPT = """
import hashlib, os, sys
from pathlib import Path
import torch
from SemiSupSegLib.__main__ import main
from SemiSupSegLib.runs.control import Control
from SemiSupSegLib.training.trainer import Trainer

rank, notes, trouble = os.environ["RANK"], Path(os.environ["NOTES"]), os.environ.get("TROUBLE")
update, done = Trainer._update, set()

def once(what, iteration, at):
    if trouble and iteration == at and what not in done:
        done.add(what)
        return True
    return False

def update_and_note(self, phase, batch):
    at = self._position.iteration
    if rank == "1" and once("memory", at, 1):
        raise torch.cuda.OutOfMemoryError("out of memory")
    if rank == "0" and once("stop", at, 5):
        Control(self._run.control).want_stop()
    broken = rank == "1" and once("loss", at, 3)
    step = self._method.step
    if broken:
        def broken_step(*words):
            result = step(*words)
            return type(result)(total=result.total * float("nan"), terms=result.terms)
        self._method.step = broken_step
    result = update(self, phase, batch)
    if broken:
        del self._method.step
    digest = hashlib.sha256()
    for name, network in self._networks.items():
        for value in network.state_dict().values():
            digest.update(value.numpy().tobytes())
    with (notes / f"weights{rank}").open("a") as stream:
        stream.write(f"{at} {len(batch.images)} {digest.hexdigest()}\\n")
    return result

# Processes that prepare cases import this file, too.
if __name__ == "__main__":
    (notes / f"pid{rank}").write_text(str(os.getpid()))
    Trainer._update = update_and_note
    sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def a_cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    for number in range(9):
        write_case(folder / "cases", f"case{number}", number, labelled=True)
    split = {
        "train_labelled": ["case0", "case1", "case2"],
        "train_unlabelled": ["case3", "case4", "case5", "case6"],
        "validation": ["case7", "case8"],
    }
    (folder / "split.json").write_text(json.dumps(split))
    words = ["--cases", folder / "cases", "--store", folder / "store", "--task", "binary"]
    words += ["--split", folder / "split.json", "--workers", "1"]
    assert main(["prepare", *map(str, words)]) == 0
    return folder


def words_of(request):
    settings = [f"{key}={value}" for key, value in request.settings.items()]
    return [
        "train", "--cases", str(request.cases), "--out", str(request.out), "--task", "binary",
        "--split", str(request.split), "--iterations", str(request.iterations), "--device", "cpu",
        "--store", str(request.store), "--no-report", "--method", str(request.method),
        "--set", *settings,
    ]  # fmt: skip


def start_two(request, **environment):
    """Start two processes by torchrun; their notes lie beside the run folder."""
    notes = request.out.with_name(f"{request.out.name}_notes")
    notes.mkdir(exist_ok=True)
    (notes / "script.py").write_text(SCRIPT)
    return subprocess.Popen(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            str(notes / "script.py"), *words_of(request),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NOTES": str(notes), **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def a_request(folder, out, per_batch, **changes):
    counts = ("teacher_labelled_per_batch", "labelled_per_batch", "unlabelled_per_batch")
    settings = {**SHORT, **dict.fromkeys(counts, str(per_batch))}
    request = request_for(folder, out, iterations=ITERATIONS, method="curriculum")
    return replace(request, settings={**settings, **changes})


def notes_of(request, rank):
    file = request.out.with_name(f"{request.out.name}_notes") / f"weights{rank}"
    return file.read_text().splitlines()


def figures_of(run):
    with (run / "metrics.csv").open() as stream:
        return {
            (row["iteration"], row["phase"], row["network"], row["name"]): float(row["value"])
            for row in csv.DictReader(stream)
        }


def counted(events, kind):
    return sum(event["kind"] == kind for event in events)


@pytest.fixture(scope="module")
def a_run_of_two(a_cohort):
    request = a_request(a_cohort, "two", 2)
    process = start_two(request)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return request, output


def test_two_processes_have_the_losses_of_one_with_the_doubled_batch(a_cohort, a_run_of_two):
    two, _ = a_run_of_two
    one = a_request(a_cohort, "one", 4)

    train(one)

    expected, found = figures_of(one.out), figures_of(two.out)
    assert expected.keys() == found.keys()
    losses = {key for key in expected if key[-1] not in ("rate", "high_share")}
    assert {key[-1] for key in losses} >= {"cross_entropy", "dice", "high", "low", "log_variance"}
    assert all(0.01 < expected[key] < 0.99 for key in expected if key[-1] == "high_share")
    for key in losses:
        # Dice of a validation moves by steps of a voxel.
        tolerance = 1e-2 if key[-1].startswith("dice.") else 2e-5
        assert found[key] == pytest.approx(expected[key], abs=tolerance), key


def test_two_processes_have_the_same_weights_after_each_update(a_run_of_two):
    request, _ = a_run_of_two

    first, second = notes_of(request, 0), notes_of(request, 1)

    assert len(first) == ITERATIONS
    assert first == second


def test_the_first_of_two_processes_writes_and_speaks_alone(a_run_of_two):
    request, output = a_run_of_two
    run = RunFolder(request.out)

    events = read_events(run.events_file)

    for kind in ("started", "finished"):
        assert counted(events, kind) == 1
    scored = [event["case"] for event in events if event["kind"] == "case_scored"]
    assert sorted(scored) == ["case3", "case4", "case5", "case6"]
    assert counted(events, "stage_ranked") == 2
    assert counted(events, "phase_started") == counted(events, "phase_finished") == 5
    assert output.count("Phase teacher") == 1
    assert output.count("Segment new cases") == 1
    assert run.read_config()["processes"] == 2
    assert RunState.read(run.state_json).status is RunStatus.FINISHED
    assert not run.lock_file.exists()
    assert not run.scratch.exists()
    assert read_package(run.models / "student").has("teacher")


def test_a_killed_process_ends_the_others_and_the_run_goes_on_to_the_same_weights(
    a_cohort, a_run_of_two
):
    undisturbed, _ = a_run_of_two
    request = replace(undisturbed, out=a_cohort / "killed")
    run = RunFolder(request.out)
    process = start_two(request)
    while process.poll() is None and not _has_begun(run, "stage_1"):
        time.sleep(0.02)
    pid = int((a_cohort / "killed_notes" / "pid1").read_text())

    os.kill(pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=60)

    assert process.returncode != 0
    state = RunState.read(run.state_json)
    assert state.status is RunStatus.FAILED, output
    assert "start the same command again" in str(state.error)
    assert read_lock(run.lock_file) is None
    mirror = a_cohort / "mirror"
    Watcher(mirror, run.path).look()
    what_to_do = RunView.read(mirror / "view.json").what_to_do
    assert "with 2 processes (torchrun)" in what_to_do
    assert "Resume" not in what_to_do
    with pytest.raises(UsageError, match="a run of 2 processes, and now there is 1"):
        train(request)

    again = start_two(request)
    output, _ = again.communicate(timeout=240)
    assert again.returncode == 0, output
    assert counted(read_events(run.events_file), "resumed") == 1
    for name in ("student", "teacher"):
        expected = read_package(undisturbed.out / "models" / name).weights("student")
        found = read_package(run.models / name).weights("student")
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value, err_msg=f"{name}/{key}")


def _has_begun(run, phase):
    """Return whether a phase has begun that a checkpoint was written in."""
    if not run.events_file.exists():
        return False
    kinds = [(event["kind"], event.get("phase")) for event in read_events(run.events_file)]
    begun = ("phase_started", phase)
    return begun in kinds and ("checkpoint", None) in kinds[kinds.index(begun) :]


def test_memory_loss_and_stop_of_one_process_are_those_of_both(a_cohort):
    """With dropout and copy-paste, which each process draws for itself."""
    options = {
        "network.options": '{"width": 4, "lite": true, "dropout": 1}',
        "copy_paste": "0.5",
        "optimizer.optimizer": "adamw",
    }
    request = a_request(a_cohort, "troubled", 2, **options)
    run = RunFolder(request.out)

    process = start_two(request, TROUBLE="yes")
    output, _ = process.communicate(timeout=240)

    assert process.returncode != 0
    assert RunState.read(run.state_json).status is RunStatus.STOPPED, output
    events = read_events(run.events_file)
    assert [e["what"] for e in events if e["kind"] == "batch_reduced"] == ["batch"]
    assert counted(events, "rate_halved") == 1
    assert counted(events, "stopped") == 1
    first, second = notes_of(request, 0), notes_of(request, 1)
    # One had no memory for the second update, and of both is one patch from then on.
    assert first == second
    assert [line.split()[1] for line in first][:2] == ["2", "1"]
    figures = figures_of(request.out)
    assert all(np.isfinite(value) for value in figures.values())
    # All was written before the first process to end let torchrun end the other.
    assert read_lock(run.lock_file) is None
    assert not run.lock_file.exists()


# Without further processes


def test_the_parts_of_several_processes_draw_the_batch_of_one():
    class A_Case:  # noqa: N801
        def __init__(self, seed):
            draw = np.random.default_rng(seed)
            self._image = draw.normal(size=(2, 18, 20, 22)).astype(np.float16)
            self._label = (self._image[0] > 1).astype(np.uint8)

        def image(self):
            return self._image

        def label(self):
            return self._label

    cases = {name: A_Case(number) for number, name in enumerate("abcdefg")}
    phase = Phase(
        name="p",
        iterations=9,
        group=ParameterGroup(parameters=[]),
        labelled_per_batch=2,
        unlabelled_per_batch=1,
        strong_views=1,
        favoured=("a",),
        favoured_share=0.4,
    )

    def batch_of(iteration, part, factor):
        sampler = Sampler(cases, (16, 16, 16), 5, 0.5, None, part)
        counts = (2 * factor, factor)
        patches = sampler.raw_batch(phase, iteration, list("abcd"), list("efg"), *counts)
        options, device = AugmentationOptions(), torch.device("cpu")
        return augment(patches, phase, iteration, 5, options, device, square=True)

    for iteration in range(4):
        whole = batch_of(iteration, ALONE, 3)
        parts = [batch_of(iteration, Part(rank, 3), 1) for rank in range(3)]
        labelled = [name for part in parts for name in part.case_ids[:2]]
        unlabelled = [name for part in parts for name in part.case_ids[2:]]
        assert (*labelled, *unlabelled) == whole.case_ids
        images = [part.images[:2] for part in parts] + [part.images[2:] for part in parts]
        assert torch.equal(torch.cat(images), whole.images)
        assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)


LOSSES = {
    "liu": lambda x, y, w: supervised_loss(x, y, SupervisedLossOptions(profile="liu"))["total"],
    "samples": lambda x, y, w: supervised_loss(
        x, y, SupervisedLossOptions(profile="pymic", batch=False, class_weights="sqrt"),
        torch.tensor([0.5, 2.0, 3.0]),
    )["total"],
    "high": lambda x, y, w: high_confidence_loss(x, y, w, w > 0.5),
    "low": lambda x, y, w: low_confidence_loss(x, y, w < 0.5, "subtract_clipped"),
    "log variance": lambda x, y, w: log_variance_loss(x[:, :1], w.pow(8), y != 255),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_the_average_of_the_parts_gradients_is_that_of_the_whole_batch(name):
    loss = LOSSES[name]
    torch.manual_seed(1)
    logits = torch.randn(4, 3, 5, 6, 7, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 3, (4, 5, 6, 7))
    # The halves know unequally many voxels, and one patch lacks a class.
    labels[0, :4] = 255
    labels[3][labels[3] == 2] = 1
    weights = torch.rand(4, 5, 6, 7, dtype=torch.float64)
    halves = [slice(0, 2), slice(2, 4)]
    recorded = [[], []]

    for half, sums in zip(halves, recorded, strict=True):

        def record(values, sums=sums):
            sums.append([value.detach() for value in values])
            return values

        with shared_batch(record):
            loss(logits[half], labels[half], weights[half])
    found = []
    for half, others in zip(halves, reversed(recorded), strict=True):
        waiting = list(others)

        def added(values, waiting=waiting):
            pairs = zip(values, waiting.pop(0), strict=True)
            # Of two processes: the gradient of a sum is doubled, to be averaged afterwards.
            return tuple(
                value + other + (value - value.detach() if value.requires_grad else 0)
                for value, other in pairs
            )

        with shared_batch(added):
            found.append(loss(logits[half], labels[half], weights[half]))

    whole = loss(logits, labels, weights)
    (expected,) = torch.autograd.grad(whole, logits)
    (gradient,) = torch.autograd.grad(sum(found) / 2, logits)
    torch.testing.assert_close(sum(found) / 2, whole, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(gradient, expected, atol=1e-12, rtol=1e-9)


def test_one_process_alone_gets_back_what_it_gives():
    alone = Distribution()
    gradient = torch.tensor([1.0, 2.0])

    alone.average([gradient])
    alone.check_memory()

    assert gradient.tolist() == [1.0, 2.0]
    assert alone.first_says(3) == 3
    assert alone.gather({"a": 1}) == [{"a": 1}]
    assert alone.is_first
    assert not torch.distributed.is_initialized()


def test_one_gpu_for_several_processes_is_refused(a_cohort, monkeypatch):
    monkeypatch.setattr(Distribution, "__enter__", lambda self: self)
    monkeypatch.setattr(Distribution, "__exit__", lambda *_: None)
    two = Distribution(Part(0, 2), Part(0, 2))
    monkeypatch.setattr("SemiSupSegLib.training.run.distribution_of_environment", lambda: two)

    with pytest.raises(UsageError, match="cuda:1 is one GPU, but torchrun started 2 processes"):
        train(replace(a_request(a_cohort, "never", 2), device="cuda:1"))

    assert not (a_cohort / "never").exists()


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    devices = [Distribution(Part(rank, 4), Part(rank % 2, 2)) for rank in range(4)]

    chosen = [str(one.device(torch.device("cuda:0"))) for one in devices]

    assert chosen == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    with pytest.raises(SemiSupSegError, match="3 processes on a host with 2 GPUs"):
        Distribution(Part(2, 3), Part(2, 3)).device(torch.device("cuda:0"))


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        ({}, ALONE),
        ({"RANK": "1", "WORLD_SIZE": "3"}, Part(1, 3)),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "2", "SLURM_NTASKS": "4"}, Part(2, 4)),
        # A batch script runs once, whatever number of tasks the job has.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, ALONE),
        (
            {
                "SLURM_STEP_ID": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "8",
                "SLURM_STEP_NUM_TASKS": "2",
            },
            Part(0, 2),
        ),
        (
            {
                "RANK": "1", "WORLD_SIZE": "2",
                "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "9",
            },
            Part(1, 2),
        ),
    ],
)  # fmt: skip
def test_torchrun_and_slurm_tell_the_part_of_a_process(environment, part):
    assert own_part(environment) == part


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("-1", "2"), ("x", "2"), ("0", "0")])
def test_a_rank_that_cannot_be_is_refused(rank, size):
    with pytest.raises(UsageError, match=f"RANK={rank} and WORLD_SIZE={size}"):
        own_part({"RANK": rank, "WORLD_SIZE": size})


def test_a_training_needs_to_know_where_the_others_are():
    assert torchrun_parts({"RANK": "1", "WORLD_SIZE": "2"}) == (ALONE, ALONE)
    told = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    assert torchrun_parts(told) == (Part(1, 2), ALONE)


def test_cases_are_predicted_and_prepared_in_parts(a_cohort, a_run_of_two, capsys, monkeypatch):
    request, _ = a_run_of_two
    cases, out, store = a_cohort / "cases", a_cohort / "results", a_cohort / "parts"
    monkeypatch.setenv("WORLD_SIZE", "4")

    written = []
    for rank in (3, 1):
        monkeypatch.setenv("RANK", str(rank))
        before = set(out.iterdir()) if out.exists() else set()
        words = ["--cases", str(cases), "--out", str(out), "--device", "cpu", "--overlap", "0"]
        assert main(["predict", "--model", str(request.out), *words]) == 0
        written.append(sorted(one.name for one in set(out.iterdir()) - before))
        store_words = ["--store", str(store), "--task", "binary", "--workers", "1"]
        assert main(["prepare", "--cases", str(cases), *store_words]) == 0

    assert written == [["case3", "case7"], ["case1", "case5"]]
    assert nib.load(out / "case3" / "case3_label.nii.gz").shape == (20, 18, 16)
    assert len(list(store.glob("*/image.npy"))) == 4
    printed = capsys.readouterr().out
    assert printed.count("Process 3 of 4: 2 of 9 cases.") == 2
    assert "2 of 2 cases are prepared" in printed
