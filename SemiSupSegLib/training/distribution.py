"""One run by several processes: what they add up, decide together, and hear of each other."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from SemiSupSegLib.counting import counted
from SemiSupSegLib.errors import SemiSupSegError, StoppedError, UsageError
from SemiSupSegLib.processes import ALONE as ONLY
from SemiSupSegLib.processes import Part, torchrun_parts

TIMEOUT = timedelta(minutes=30)
"""For how long a process waits for one that is silent but not known to be dead: longer than any
single case takes to be predicted or checkpoint to be written. A process that ends closes its
connections, which the others notice at once."""
_END_SECONDS = 60.0
"""For how long the others wait for the first process to write down that the run was stopped."""
_READY, _FINISHED, _FAILED, _DONE = "ready", "finished", "failed", "done"


class SharedOutOfMemoryError(torch.cuda.OutOfMemoryError):
    """Another process's device ran out of memory: all make the batch smaller, or none."""


def _nothing() -> None:
    pass


class Distribution:
    """The processes of one run; with one process every method returns what it is given.

    All processes call the same methods in the same order, but for `tell_out_of_memory`. The first
    one sets the run up while the others wait (`announce`, `await_first`), and it alone writes the
    run's records.

    Messages go through gloo on the CPU, so that none waits for a GPU; gradients and sums of losses
    go through NCCL where they are on GPUs.

    Args:
        part: This process among all.
        local: Among those of its host.
    """

    def __init__(self, part: Part = ONLY, local: Part = ONLY) -> None:
        self.part = part
        self.local = local
        self.while_waiting: Callable[[], None] = _nothing
        """Called often while others are waited for, to show that this process lives."""
        self._store: Any = None
        self._former_handler: Any = None

    @property
    def is_alone(self) -> bool:
        """Whether there is no other process."""
        return self.part.size == 1

    @property
    def is_first(self) -> bool:
        """Whether this process decides and writes."""
        return self.part.rank == 0

    def device(self, wanted: torch.device) -> torch.device:
        """Return this process's device of the run's kind.

        Raises:
            SemiSupSegError: If the host has fewer GPUs than processes.
        """
        if self.is_alone or wanted.type != "cuda":
            return wanted
        count = torch.cuda.device_count()
        if self.local.rank >= count:
            raise SemiSupSegError(
                f"torchrun started {counted(self.local.size, 'processes')} on a host with "
                f"{counted(count, 'GPUs')} that "
                f"PyTorch can use. Use --nproc-per-node {count}, or --device cpu."
            )
        return torch.device(f"cuda:{self.local.rank}")

    # Beginning and end

    def __enter__(self) -> Distribution:
        if self.is_alone:
            return self
        if not dist.is_available() or not dist.is_gloo_available():
            raise UsageError(
                "This PyTorch cannot let several processes train one run (it has no gloo). Start "
                "train without torchrun, or install a PyTorch that has it."
            )
        with _other_processes(self):
            # Not joined yet: the first process may take hours to prepare the cases.
            self._store, _, _ = next(iter(rendezvous("env://", timeout=TIMEOUT)))
        if self.is_first and threading.current_thread() is threading.main_thread():
            self._former_handler = signal.signal(signal.SIGTERM, self._end_by_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.is_alone or self._store is None:
            return
        is_orderly = error is None or isinstance(error, StoppedError)
        # The store may be gone with the process that kept it.
        with contextlib.suppress(RuntimeError):
            if not is_orderly:
                self._store.compare_set(
                    _FAILED, "", f"process {self.part.rank}: {error or type(error).__name__}"
                )
            if self.is_first:
                self._store.set(_DONE, "1")
            elif is_orderly:
                # torchrun ends the others as soon as one has ended with an exit code, and hosts
                # leave a job with their last process: not before all is written.
                self._poll(_DONE, None if error is None else _END_SECONDS)
        if is_orderly and dist.is_initialized():
            dist.destroy_process_group()
        if self._former_handler is not None:
            signal.signal(signal.SIGTERM, self._former_handler)

    def announce(self, *, is_finished: bool = False) -> None:
        """Let the others go on: the run is set up, or there is nothing left to do."""
        if not self.is_alone:
            self._store.set("begin", _FINISHED if is_finished else _READY)

    def await_first(self) -> bool:
        """Wait for the first process's announcement, however long; False if nothing is to do.

        Raises:
            SemiSupSegError: If it failed.
        """
        with _other_processes(self):
            self._poll("begin", None)
            return bool(self._store.get("begin").decode() == _READY)

    def connect(self, device: torch.device) -> None:
        """Join the processes, so that they can talk to each other.

        Args:
            device: Of this process.
        """
        if self.is_alone:
            return
        backend = "gloo"
        if device.type == "cuda":
            torch.cuda.set_device(device)
            backend = "cpu:gloo,cuda:nccl"
        with _other_processes(self):
            dist.init_process_group(
                backend,
                store=PrefixStore("run", self._store),
                rank=self.part.rank,
                world_size=self.part.size,
                timeout=TIMEOUT,
            )

    def heed_no_signal(self) -> None:
        """Hear no more that torchrun or SLURM want this process to end: it is about to."""
        if self._former_handler is not None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def failure(self) -> str:
        """Return what another process said of its end, as the end of a sentence; else nothing."""
        with contextlib.suppress(RuntimeError):
            if self._store.check([_FAILED]):
                return f" ({self._store.get(_FAILED).decode()})"
        return ""

    def _poll(self, key: str, seconds: float | None) -> None:
        """Wait until the store has a key; not in the store, where no signal would be heard."""
        began = time.monotonic()
        while not self._store.check([key]):
            if self._store.check([_FAILED]):
                raise RuntimeError("another process has failed")
            if seconds is not None and time.monotonic() - began > seconds:
                return
            time.sleep(0.1)

    def _end_by_signal(self, number: int, frame: FrameType | None) -> None:
        self.heed_no_signal()
        raise SemiSupSegError(
            f"This run was ended from outside (SIGTERM), as torchrun does when another process "
            f"has ended, and SLURM when the time is up{self.failure()}. Nothing in its last "
            "checkpoint is lost: start the same command again."
        )

    # Deciding together

    def first_says(self, number: int) -> int:
        """Return the first process's number."""
        if self.is_alone:
            return number
        told = torch.tensor([number])
        self._wait(lambda: dist.broadcast(told, 0, async_op=True))
        return int(told)

    def any(self, is_so: bool) -> bool:
        """Return whether it is so in any process."""
        return bool(self._greatest(int(is_so)))

    def check_memory(self) -> None:
        """Hear whether all processes' devices had memory enough so far; before anything is shared.

        Raises:
            SharedOutOfMemoryError: If one had not.
        """
        if self._greatest(0):
            raise SharedOutOfMemoryError("another process's device ran out of memory")

    def tell_out_of_memory(self, error: torch.cuda.OutOfMemoryError) -> None:
        """Let the others hear at their next `check_memory` that this process's device is full."""
        if not isinstance(error, SharedOutOfMemoryError):
            self._greatest(1)

    def from_first(self, content: Any) -> Any:
        """Return the first process's content, JSON values; what the others give is not used."""
        if self.is_alone:
            return content
        data = torch.frombuffer(bytearray(json.dumps(content).encode()), dtype=torch.uint8)
        length = self.first_says(len(data))
        if not self.is_first:
            data = torch.empty(length, dtype=torch.uint8)
        self._wait(lambda: dist.broadcast(data, 0, async_op=True))
        return json.loads(bytes(data.numpy()))

    def gather(self, content: Any) -> list[Any]:
        """Return the contents of all processes, JSON values, in their order."""
        if self.is_alone:
            return [content]
        own = torch.frombuffer(bytearray(json.dumps(content).encode()), dtype=torch.uint8)
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.part.size)]
        self._wait(lambda: dist.all_gather(lengths, torch.tensor([len(own)]), async_op=True))
        longest = max(int(length) for length in lengths)
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(own)] = own
        found = [torch.empty_like(padded) for _ in lengths]
        self._wait(lambda: dist.all_gather(found, padded, async_op=True))
        return [
            json.loads(bytes(one[: int(length)].numpy()))
            for one, length in zip(found, lengths, strict=True)
        ]

    def tensors_from_first(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the first process's tensors, on the CPU; what the others give is not used."""
        if self.is_alone:
            return dict(tensors)
        described = self.from_first(
            {
                name: [str(one.dtype).removeprefix("torch."), list(one.shape)]
                for name, one in tensors.items()
            }
        )
        received = {}
        for name, (kind, shape) in described.items():
            one = torch.empty(shape, dtype=getattr(torch, kind))
            if self.is_first:
                one.copy_(tensors[name])
            self._wait(lambda one=one: dist.broadcast(one, 0, async_op=True))
            received[name] = one
        return received

    # Adding up

    def total(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return tensors added up over the processes, for `losses.reduction.shared_batch`."""
        flat = torch.cat([one.reshape(-1).double() for one in tensors])
        self.check_memory()
        added: Tensor = _Sum.apply(flat, self)  # type: ignore[no-untyped-call]
        parts = torch.split(added, [one.numel() for one in tensors])
        return tuple(
            part.reshape(one.shape).to(one.dtype) for part, one in zip(parts, tensors, strict=True)
        )

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, in place, by their averages over the processes: equal to the bit."""
        if self.is_alone or not tensors:
            return
        flat = torch.cat([one.reshape(-1).float() for one in tensors])
        self.check_memory()
        self._add_up(flat)
        flat /= self.part.size
        parts = torch.split(flat, [one.numel() for one in tensors])
        for one, part in zip(tensors, parts, strict=True):
            one.copy_(part.view_as(one))

    def means(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the averages of numbers over the processes."""
        if self.is_alone:
            return dict(values)
        numbers = torch.tensor(list(values.values()), dtype=torch.float64)
        self._wait(lambda: dist.all_reduce(numbers, async_op=True))
        return dict(zip(values, (numbers / self.part.size).tolist(), strict=True))

    def _add_up(self, tensor: Tensor) -> None:
        if tensor.device.type == "cpu":
            self._wait(lambda: dist.all_reduce(tensor, async_op=True))
        else:
            with _other_processes(self):
                dist.all_reduce(tensor)

    def _greatest(self, number: int) -> int:
        if self.is_alone:
            return number
        told = torch.tensor([number])
        self._wait(lambda: dist.all_reduce(told, dist.ReduceOp.MAX, async_op=True))
        return int(told)

    def _wait(self, begin: Any) -> None:
        """Wait for work on the CPU, hearing signals meanwhile."""
        with _other_processes(self):
            work = begin()
            pause = 2e-5
            while not work.is_completed():
                time.sleep(pause)
                pause = min(1.5 * pause, 0.02)
                if pause == 0.02:
                    self.while_waiting()
            work.wait()


class _Sum(torch.autograd.Function):
    """The sum over all processes, and its gradient as `shared_batch` wants it."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, distribution: Distribution) -> Tensor:
        ctx.size = distribution.part.size  # type: ignore[attr-defined]
        total = values.clone()
        distribution._add_up(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        # All have the same gradient of the same sum, so nothing has to be exchanged.
        return gradients[0] * ctx.size, None  # type: ignore[attr-defined]


class NoLog:
    """Takes events or figures that the first process writes."""

    def append(self, *_: object, **__: object) -> None:
        """Do nothing."""

    def sync(self) -> None:
        """Do nothing."""

    def truncate_after(self, _: int) -> None:
        """Do nothing."""


ALONE = Distribution()
"""The usual run, by one process."""


def distribution_of_environment() -> Distribution:
    """Return the processes that torchrun has started, or `ALONE`.

    Raises:
        UsageError: If the environment contradicts itself.
    """
    whole, local = torchrun_parts()
    return Distribution(whole, local) if whole.size > 1 else ALONE


@contextlib.contextmanager
def _other_processes(distribution: Distribution) -> Iterator[None]:
    """Say in a sentence that another process cannot be reached."""
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        distribution.heed_no_signal()
        # Without what gloo guesses.
        detail = f" ({str(error).splitlines()[0].partition('. This is')[0]})"
        raise SemiSupSegError(
            "Another process of this run has ended or cannot be reached"
            f"{distribution.failure() or detail}. This one ends, too. "
            "Nothing in the last checkpoint is lost: start the same command again."
        ) from error
