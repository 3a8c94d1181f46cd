"""The training loop: phases in, checkpoints, events and networks out."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from SemiSupSegLib.counting import counted
from SemiSupSegLib.errors import SemiSupSegError, StoppedError, UsageError
from SemiSupSegLib.freed_memory import give_back_freed_memory
from SemiSupSegLib.inference.precision import automatic_precision
from SemiSupSegLib.losses.reduction import shared_batch
from SemiSupSegLib.methods.protocol import (
    Batch,
    Clock,
    DivergenceError,
    Method,
    ParameterGroup,
    Phase,
    StepResult,
)
from SemiSupSegLib.runs.events import EventKind, EventLog
from SemiSupSegLib.runs.metrics import MetricsLog
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.training.checkpoints import (
    Checkpoint,
    load_checkpoint,
    load_network_tensors,
    load_optimizer_tensors,
    network_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from SemiSupSegLib.training.data import RunData
from SemiSupSegLib.training.distribution import ALONE, Distribution, NoLog
from SemiSupSegLib.training.options import TrainingOptions
from SemiSupSegLib.training.progress import Progress
from SemiSupSegLib.training.randomness import seed_layers
from SemiSupSegLib.training.rates import rate_factor
from SemiSupSegLib.training.sampling import RawPatch, Sampler, augment, moved
from SemiSupSegLib.training.validation import BestOnValidation, validation_dice
from SemiSupSegLib.training.work import Prices, Work

logger = logging.getLogger(__name__)

SMALLEST_SIDE = 32
"""Patches are not made smaller than this when memory runs out, voxels."""


@dataclass
class Position:
    """Where the run stands; all of it is in the checkpoint."""

    patch_size: tuple[int, int, int]
    phase: int = 0
    """Index into the plan."""
    phase_iteration: int = 0
    iteration: int = 0
    prologue_done: bool = False
    is_judging_due: bool = False
    """Whether the networks are still to be judged after the last update."""
    rate_scale: float = 1.0
    """Halved once after a loss that was not finite."""
    batch_scale: float = 1.0
    """Halved when the device runs out of memory."""
    keeps_images: bool = True
    """Whether a GPU may keep the cases' images; not once it ran out of memory."""
    phase_seconds: dict[str, float] = field(default_factory=dict)
    """Working time by phase, of all sessions."""
    seconds: float = 0.0
    """Working time of the run."""


class Trainer:
    """Runs a method's plan in a run folder, from the start or from the newest checkpoint.

    The trainer alone owns precision, backward, clipping, optimizer, schedule, checkpoints,
    validation and what happens when something fails; a method owns networks and loss terms.

    Args:
        method: What is trained.
        data: Cases, predictions and stage folders.
        run: The run folder, locked by the caller.
        progress: Hears how far the work is, and passes on wishes to pause or stop.
        options: How the run is carried out.
        seed: The run's seed.
        device: Where the networks are.
        work_after: Forward passes over one patch that follow the training.
        prices: What a trial has told of the run's work, if there was one; the time left is told
            by it until the run has a pace of its own.
        distribution: The processes that train together. Batch sizes are those of one process;
            an update averages over all, and the first process alone writes.
    """

    def __init__(
        self,
        *,
        method: Method,
        data: RunData,
        run: RunFolder,
        progress: Progress,
        options: TrainingOptions,
        seed: int,
        device: torch.device,
        work_after: int = 0,
        prices: Prices | None = None,
        distribution: Distribution = ALONE,
    ) -> None:
        self._method = method
        self._data = data
        self._run = run
        self._progress = progress
        self._options = options
        self._seed = seed
        self._device = device
        self._distribution = distribution
        self._events: EventLog | NoLog = NoLog()
        self._metrics: MetricsLog | NoLog = NoLog()
        if distribution.is_first:
            self._events = EventLog(run.events_file)
            self._metrics = MetricsLog(run.metrics_file)
        self._networks = method.networks()
        for network in self._networks.values():
            network.to(device)
        self._phases = list(method.phases(data))
        windows = data.count_windows(data.validation, options.validation_overlap)
        plan = (self._phases, options.validate_every, windows)
        self._work = Work(*plan, after=work_after)
        self._seconds: Work | None = None
        if prices is not None and prices.are_of(self._phases):
            self._seconds = Work(*plan, after=work_after, prices=prices)
        self._position = Position(patch_size=data.patch_size)
        self._best = BestOnValidation(run, data.task)
        self._optimizer: torch.optim.Optimizer | None = None
        self._learning: list[list[torch.nn.Parameter]] = []
        """Parameters that the phase changes, by network."""
        self._saved_optimizer: Mapping[str, Tensor] = {}
        self._sampler = self._new_sampler()
        self._last_saved = 0.0
        self._autocast = _autocast_type(options.precision, device)
        self._recent: list[tuple[tuple[str, ...], StepResult, Tensor]] = []
        progress.on_pause = self._leave_device
        progress.on_resume = self._enter_device
        self.waiting_seconds = 0.0
        """Time the loop has waited for patches."""
        self.stepping_seconds = 0.0
        """Time spent in updates, waiting included."""

    @property
    def best(self) -> BestOnValidation:
        """The best student on validation, reported beside the last one."""
        return self._best

    def updates_of(self, predictor: str) -> int:
        """Return the updates of the phases that change a predictor, as far as they judge it."""
        return sum(phase.iterations for phase in self._phases if predictor in phase.judged)

    def uses_unlabelled(self, predictor: str) -> bool:
        """Return whether such a phase uses unlabelled cases."""
        return any(
            predictor in phase.judged and phase.unlabelled_per_batch > 0 for phase in self._phases
        )

    @property
    def phase_seconds(self) -> Mapping[str, float]:
        """Working time by phase."""
        return self._position.phase_seconds

    def train(self) -> None:
        """Go through all phases.

        Raises:
            StoppedError: If somebody asked to stop; the run can be resumed.
            SemiSupSegError: If training cannot go on.
        """
        self._resume()
        self._progress.begin(
            sum(phase.iterations for phase in self._phases),
            int(self._work.planned),
            None if self._seconds is None else self._seconds.planned,
        )
        self._events.append(
            EventKind.PLANNED,
            phases=[
                {
                    "name": phase.name,
                    "stage": phase.stage,
                    "iterations": phase.iterations,
                    "passes_per_update": phase.work_per_update,
                }
                for phase in self._phases
            ],
        )
        self._progress.enter(self._phase_name(), self._position.iteration, *self._work_done())
        # One thread varies patches: a second team of OpenMP threads on the cores that the network
        # computes on doubled the time of a step. The setting is the loader thread's own.
        with ThreadPoolExecutor(
            1, "patches", initializer=torch.set_num_threads, initargs=(1,)
        ) as loader:
            while self._position.phase < len(self._phases):
                phase = self._phases[self._position.phase]
                started = self._progress.seconds
                try:
                    if phase.iterations:
                        self._run_phase(phase, loader, started)
                except (DivergenceError, FloatingPointError) as error:
                    self._rewind(error)
                    continue
                self._finish_phase(phase, started)
                wish = self._progress.wish()
                if wish:
                    self._progress.obey(wish)
        self._progress.enter(self._phase_name(), self._position.iteration, *self._work_done())

    def try_out(self, phase: Phase, most: int, seconds: float) -> list[float]:
        """Do a few updates of a phase and nothing else: no run comes of it.

        Args:
            phase: Of the plan; its prologue is done.
            most: Updates, the first one included.
            seconds: After as many, the first update left out, no further one is begun.

        Returns:
            Seconds of each update; the first one warms up.
        """
        self._optimizer = None
        self._prepare_optimizer(phase)
        self._begin_updates(phase)
        unlabelled = tuple(phase.unlabelled_cases())
        taken: list[float] = []
        with ThreadPoolExecutor(
            1, "patches", initializer=torch.set_num_threads, initargs=(1,)
        ) as loader:
            pending = self._submit(loader, phase, unlabelled, 0)
            while len(taken) < most and (len(taken) < 2 or sum(taken[1:]) < seconds):
                begun = time.monotonic()
                loaded = pending.result()
                pending = self._submit(loader, phase, unlabelled, len(taken) + 1)
                batch = self._on_device(phase, 0, loaded)
                self._update(phase, batch)
                if self._device.type == "cuda":
                    torch.cuda.synchronize(self._device)
                taken.append(time.monotonic() - begun)
        self._recent.clear()
        self._optimizer = None
        return taken

    # A phase

    def _run_phase(self, phase: Phase, loader: ThreadPoolExecutor, started: float) -> None:
        position = self._position
        if position.phase_iteration == 0 and not position.prologue_done:
            self._events.append(
                EventKind.PHASE_STARTED,
                phase=phase.name,
                iterations=phase.iterations,
                iteration=position.iteration,
            )
        self._progress.enter(phase.name, position.iteration, *self._work_done())
        logger.info("Phase %s: %s.", phase.name, counted(phase.iterations, "updates"))
        if phase.prologue is not None and (phase.stage is None or not position.prologue_done):
            # Without a stage it only says what may learn: cheap, and not in the checkpoint.
            phase.prologue()
        self._prepare_optimizer(phase)
        if not position.prologue_done:
            position.prologue_done = True
            if phase.stage is not None:
                self._save(phase, started)
        unlabelled = tuple(phase.unlabelled_cases())
        self._begin_updates(phase)
        if position.is_judging_due:
            self._judge(phase, started)
        pending = self._submit(loader, phase, unlabelled, position.phase_iteration)
        while position.phase_iteration < phase.iterations:
            self._work_between(phase, started)
            begun = time.monotonic()
            result = None
            try:
                loaded = pending.result()
                self.waiting_seconds += time.monotonic() - begun
                if position.phase_iteration + 1 < phase.iterations:
                    pending = self._submit(loader, phase, unlabelled, position.phase_iteration + 1)
                batch = self._on_device(phase, position.phase_iteration, loaded)
                result = self._update(phase, batch)
                self._distribution.check_memory()
            except torch.cuda.OutOfMemoryError as error:
                # Handled below: the exception holds the memory that is to become free.
                self._distribution.tell_out_of_memory(error)
                result = None
            if result is None:
                self._shrink(phase)
                pending = self._submit(loader, phase, unlabelled, position.phase_iteration)
                continue
            self._count(phase, result)
            self.stepping_seconds += time.monotonic() - begun
            self._attend(phase, started)
        self._work_between(phase, started)
        self._sampler.forget_phase(phase.name)

    def _work_between(self, phase: Phase, started: float) -> None:
        """Let the phase do what is due after the updates so far."""
        position = self._position
        if phase.between is None or position.phase_iteration not in phase.between_at:
            return
        self._check_finite(phase)
        try:
            phase.between(position.phase_iteration)
        except StoppedError:
            # The updates are kept, and the work begins anew.
            self._save(phase, started)
            raise
        self._begin_updates(phase)
        # A pause meanwhile gives the optimizer's memory away.
        self._prepare_optimizer(phase)

    def _finish_phase(self, phase: Phase, started: float) -> None:
        position = self._position
        if phase.epilogue is not None:
            phase.epilogue()
        if phase.iterations:
            self._add_seconds(phase, started)
            self._events.append(
                EventKind.PHASE_FINISHED,
                phase=phase.name,
                iteration=position.iteration,
                seconds=round(position.phase_seconds[phase.name], 3),
            )
        position.phase += 1
        position.phase_iteration = 0
        position.prologue_done = False
        following = self._phases[position.phase] if position.phase < len(self._phases) else None
        if following is None or not following.continues:
            self._optimizer = None
            self._saved_optimizer = {}
        self._save(None, 0.0)

    def _submit(
        self,
        loader: ThreadPoolExecutor,
        phase: Phase,
        unlabelled: Sequence[str],
        phase_iteration: int,
    ) -> Future[list[RawPatch] | Batch]:
        scale = self._position.batch_scale
        counts = (
            max(1, int(phase.labelled_per_batch * scale)),
            max(1, int(phase.unlabelled_per_batch * scale)) if phase.unlabelled_per_batch else 0,
        )

        labelled = self._data.labelled if phase.labelled_cases is None else phase.labelled_cases

        def load() -> list[RawPatch] | Batch:
            if phase.make_batch is not None:
                return phase.make_batch(phase_iteration, self._distribution.part)
            patches = self._sampler.raw_batch(phase, phase_iteration, labelled, unlabelled, *counts)
            if self._device.type == "cpu":
                # Beside the network, as it does not need the device that the network is on.
                return self._vary(phase, phase_iteration, patches)
            return patches

        return loader.submit(load)

    def _on_device(
        self, phase: Phase, phase_iteration: int, loaded: Sequence[RawPatch] | Batch
    ) -> Batch:
        if not isinstance(loaded, Batch):
            return self._vary(phase, phase_iteration, loaded)
        return loaded if self._device.type == "cpu" else moved(loaded, self._device)

    def _vary(self, phase: Phase, phase_iteration: int, patches: Sequence[RawPatch]) -> Batch:
        side = self._sampler.patch_size
        return augment(
            patches,
            phase,
            phase_iteration,
            self._seed,
            self._options.augmentation,
            self._device,
            square=self._data.axially_square and side[1] == side[2],
        )

    def _update(self, phase: Phase, batch: Batch) -> StepResult:
        """Do one optimizer update."""
        position = self._position
        optimizer = self._optimizer
        assert optimizer is not None
        # Dropout and noise inside the step draw from the global generator: seeded by the counter,
        # they are the same after a resume. Each further process has draws of its own.
        place = [self._seed, phase.stream, position.phase_iteration, "step"]
        rank = self._distribution.part.rank
        seed_layers(self._device, *place, *([rank] if rank else []))
        clock = Clock(phase_iteration=position.phase_iteration, iteration=position.iteration)
        together = None if self._distribution.is_alone else self._distribution.total
        with (
            torch.autocast(
                self._device.type, dtype=self._autocast, enabled=self._autocast is not None
            ),
            shared_batch(together),
        ):
            result = self._method.step(phase, batch, clock)
        factor = rate_factor(phase.group, phase, position.phase_iteration)
        for group in optimizer.param_groups:
            group["lr"] = phase.group.rate * factor * position.rate_scale
        optimizer.zero_grad(set_to_none=True)
        result.total.backward()  # type: ignore[no-untyped-call]
        if not self._distribution.is_alone:
            self._distribution.average(self._learnt_from(phase))
        norm = self._clip()
        optimizer.step()
        self._method.after_step(phase, clock)
        self._recent.append((batch.case_ids, result, norm.detach()))
        return result

    def _clip(self) -> Tensor:
        """Limit each network's gradient by itself, and return the norm of all before that."""
        norms = [
            torch.nn.utils.clip_grad_norm_(used, self._options.clip_norm or math.inf)
            for own in self._learning
            # Without a gradient (nothing of it was used) the norm would be on another device.
            if (used := [one for one in own if one.grad is not None])
        ]
        return torch.stack(norms).norm()

    def _learnt_from(self, phase: Phase) -> list[Tensor]:
        """Return what this process's patches have changed: gradients, statistics of batch norm."""
        gradients = [one.grad for one in phase.group.parameters if one.grad is not None]
        statistics = [
            one
            for network in self._networks.values()
            if network.training
            for one in network.buffers()
            if one.is_floating_point()
        ]
        return [*gradients, *statistics]

    def _begin_updates(self, phase: Phase) -> None:
        """Go over from work on whole cases to updates."""
        # Its blocks have other sizes.
        give_back_freed_memory()
        learning = {id(parameter) for parameter in phase.group.parameters}
        self._learning = []
        for network in self._networks.values():
            own = [one for one in network.parameters() if id(one) in learning]
            self._learning.append(own)
            network.train(bool(own) and phase.train_mode)

    def _check_finite(self, phase: Phase) -> None:
        """Look at losses and gradients since the last look; each step's look stalls a GPU."""
        found = [one for one in self._distribution.gather(self._not_finite(phase)) if one]
        if found:
            # Of a loss rather than of the gradient, which is that of all processes.
            raise FloatingPointError(min(found, key=lambda one: one.startswith("the gradient")))

    def _not_finite(self, phase: Phase) -> str:
        """Say what was not finite since the last look; nothing if all was."""
        recent, self._recent = self._recent, []
        for case_ids, result, norm in recent:
            if not bool(torch.isfinite(result.total)):
                names = [
                    name for name, value in result.terms.items() if not bool(torch.isfinite(value))
                ]
                what = f"loss ({', '.join(names) or 'total'})"
            elif not bool(torch.isfinite(norm)):
                what = "gradient"
            else:
                continue
            return f"the {what} of cases {', '.join(case_ids)} is not finite in phase {phase.name}"
        return ""

    def _count(self, phase: Phase, result: StepResult) -> None:
        position = self._position
        position.phase_iteration += 1
        position.iteration += 1
        is_last = position.phase_iteration == phase.iterations
        if is_last or position.phase_iteration % self._options.log_every == 0:
            self._check_finite(phase)
            values = {name: float(value) for name, value in result.terms.items()}
            values = self._distribution.means(values)
            values["rate"] = self._optimizer.param_groups[0]["lr"] if self._optimizer else 0.0
            self._metrics.append(
                values,
                iteration=position.iteration,
                phase=phase.name,
                kind="step",
                seconds=self._progress.seconds,
            )
        self._progress.advance(position.iteration, *self._work_done())

    def _work_done(self) -> tuple[int, float | None]:
        """Return how much work is done in passes, and in seconds if those are known."""
        position = self._position

        def done(work: Work) -> float:
            return work.done(
                position.phase, position.phase_iteration, prologue_done=position.prologue_done
            )

        return int(done(self._work)), None if self._seconds is None else done(self._seconds)

    def _attend(self, phase: Phase, started: float) -> None:
        """Validate, save, pause or stop where it is time to."""
        position = self._position
        ended = position.phase_iteration == phase.iterations
        if position.iteration % self._options.validate_every == 0 or ended:
            self._check_finite(phase)
            position.is_judging_due = True
            self._judge(phase, started)
        due = time.monotonic() - self._last_saved > self._options.checkpoint_seconds
        if ended:
            # The phase's end writes a checkpoint; a wish is heard after it.
            return
        wish = self._progress.wish()
        if self._distribution.first_says(due) or wish:
            self._check_finite(phase)
            self._save(phase, started)
        if wish:
            self._progress.obey(wish)
        # A pause, here or while validating, gives the optimizer's memory away.
        self._prepare_optimizer(phase)

    def _judge(self, phase: Phase, started: float) -> None:
        try:
            self._validate(phase)
        except StoppedError:
            # The updates are kept, and the judging begins anew.
            self._save(phase, started)
            raise
        self._position.is_judging_due = False
        self._begin_updates(phase)

    def _validate(self, phase: Phase) -> None:
        position = self._position
        names = phase.judged
        if position.phase_iteration == phase.iterations:
            names = (*names, *phase.judged_at_end)
        known = self._method.predictors()
        figures = validation_dice(
            {name: known[name] for name in names}, self._data, self._options.validation_overlap
        )
        for network, values in figures.items():
            self._metrics.append(
                {f"dice.{name}": value for name, value in values.items()},
                iteration=position.iteration,
                phase=phase.name,
                kind="validation",
                network=network,
                seconds=self._progress.seconds,
            )
        if not figures:
            return
        self._events.append(
            EventKind.VALIDATION,
            phase=phase.name,
            iteration=position.iteration,
            dice={network: round(values["mean"], 6) for network, values in figures.items()},
        )
        for network, values in figures.items():
            logger.info(
                "Update %d: mean Dice of the %s on validation %.3f.",
                position.iteration,
                network.replace("_raw", " before averaging"),
                values["mean"],
            )
        if "student" in figures and self._distribution.is_first:
            self._best.offer(figures["student"], position.iteration, known["student"])

    # Pausing

    def _leave_device(self) -> None:
        """Give the GPU's memory to others while the run is paused."""
        if self._optimizer is not None:
            # What `_prepare_optimizer` makes anew from this is the same to the bit.
            self._saved_optimizer = optimizer_tensors(self._optimizer)
            self._optimizer = None
        for network in self._networks.values():
            network.to("cpu")
        self._sampler.leave_device()
        torch.cuda.empty_cache()
        give_back_freed_memory()

    def _enter_device(self) -> None:
        try:
            for network in self._networks.values():
                network.to(self._device)
        except torch.cuda.OutOfMemoryError as error:
            raise SemiSupSegError(
                f"{self._device} has too little free memory to go on after the pause. Close other "
                "programs that use it, and start the same command again: nothing is lost."
            ) from error

    # Trouble

    def _rewind(self, error: Exception) -> None:
        """Go back to the last checkpoint with half the rate; the second time, give up."""
        if self._position.rate_scale < 1:
            raise SemiSupSegError(
                f"Training diverged again with half the learning rate: {error}. The last good "
                "state is kept. Look at the named cases, or start a new run with a smaller "
                "optimizer.rate."
            ) from error
        iteration = self._position.iteration
        if not self._load():
            raise SemiSupSegError(
                f"Training diverged at once: {error}. Look at the named cases for damaged "
                "intensities, or start a new run with a smaller optimizer.rate."
            ) from error
        self._position.rate_scale = 0.5
        self._save(None, 0.0)
        logger.warning(
            "Training diverged (%s). Going on from update %d with half the learning rate.",
            error,
            self._position.iteration,
        )
        self._events.append(
            EventKind.RATE_HALVED,
            iteration=iteration,
            back_to=self._position.iteration,
            message=str(error),
        )

    def _shrink(self, phase: Phase) -> None:
        """Keep no images, or make batch or patch smaller, after the device ran out of memory."""
        position = self._position
        if phase.make_batch is not None:
            # Neither would make its examples smaller.
            raise SemiSupSegError(
                f"The device has too little memory for phase {phase.name}. Close other programs "
                "that use it, start a new run with a smaller quality.batch or quality.side, or "
                "train with --device cpu."
            )
        if self._optimizer is not None:
            self._optimizer.zero_grad(set_to_none=True)
        kept = self._distribution.any(self._sampler.keeps_images)
        position.keeps_images = False
        self._sampler = self._new_sampler()
        torch.cuda.empty_cache()
        # The memory may have run out in the midst of one process's update.
        self._align()
        if kept:
            message = "The device ran out of memory: going on without keeping the images there."
            logger.warning("%s", message)
            self._events.append(EventKind.WARNING, message=message)
            return
        largest = max(phase.labelled_per_batch, phase.unlabelled_per_batch)
        if largest * position.batch_scale >= 2:
            position.batch_scale /= 2
            what = "batch"
        elif max(position.patch_size) > SMALLEST_SIDE:
            halved = [max(SMALLEST_SIDE, side // 32 * 16) for side in position.patch_size]
            position.patch_size = (
                min(position.patch_size[0], halved[0]),
                min(position.patch_size[1], halved[1]),
                min(position.patch_size[2], halved[2]),
            )
            self._sampler = self._new_sampler()
            what = "patch"
        else:
            raise SemiSupSegError(
                "The device runs out of memory even with one patch of "
                f"{'x'.join(map(str, position.patch_size))} voxels. Close other programs that use "
                "it, choose a smaller network, or train with --device cpu."
            )
        logger.warning(
            "The device ran out of memory: going on with half the %s (%s voxels, %g of the batch).",
            what,
            "x".join(map(str, position.patch_size)),
            position.batch_scale,
        )
        self._events.append(
            EventKind.BATCH_REDUCED,
            iteration=position.iteration,
            what=what,
            batch_scale=position.batch_scale,
            patch_size=list(position.patch_size),
        )

    # Checkpoints

    def _resume(self) -> None:
        if self._load(resumed_process=True):
            self._events.append(
                EventKind.RESUMED,
                phase=self._phase_name(),
                iteration=self._position.iteration,
            )
            logger.info("Going on from update %d.", self._position.iteration)
        else:
            self._metrics.truncate_after(-1)
            self._align()

    def _load(self, *, resumed_process: bool = False) -> bool:
        checkpoint = self._newest_checkpoint()
        if checkpoint is None:
            return False
        load_network_tensors(self._networks, checkpoint.weights)
        content = dict(checkpoint.state)
        position = dict(content["position"])
        position["patch_size"] = tuple(position["patch_size"])
        self._position = Position(**position)
        if resumed_process:
            self._progress.seconds_before = self._position.seconds
        self._method.load_state(content["method"])
        self._best.load_state(content["best"])
        self._metrics.truncate_after(self._position.iteration)
        self._optimizer = None
        self._recent = []
        self._saved_optimizer = checkpoint.optimizer
        self._sampler = self._new_sampler()
        self._last_saved = time.monotonic()
        return True

    def _align(self) -> None:
        """Let all processes go on from what the first one has."""
        together = self._distribution
        if together.is_alone:
            return
        tensors = together.tensors_from_first(network_tensors(self._networks))
        load_network_tensors(self._networks, tensors)
        self._method.load_state(together.from_first(self._method.state()))
        if self._optimizer is not None:
            moments = together.tensors_from_first(optimizer_tensors(self._optimizer))
            load_optimizer_tensors(self._optimizer, moments)

    def _newest_checkpoint(self) -> Checkpoint | None:
        """Return what the first process reads, so that all go on from the same."""
        together = self._distribution
        own = load_checkpoint(self._run.checkpoints) if together.is_first else None
        if together.is_alone or not together.first_says(own is not None):
            return own
        return Checkpoint(
            weights=together.tensors_from_first(own.weights if own else {}),
            optimizer=together.tensors_from_first(own.optimizer if own else {}),
            state=together.from_first(own.state if own else None),
        )

    def _save(self, phase: Phase | None, started: float) -> None:
        if not self._distribution.is_first:
            return
        self._metrics.sync()
        position = asdict(self._position)
        position["seconds"] = self._progress.seconds
        if phase is not None:
            seconds = dict(position["phase_seconds"])
            seconds[phase.name] = seconds.get(phase.name, 0.0) + self._progress.seconds - started
            position["phase_seconds"] = seconds
        optimizer = optimizer_tensors(self._optimizer) if self._optimizer else {}
        if self._optimizer is None and self._saved_optimizer:
            # Loaded, but no step made since (a rewind): it is still the state to go on from.
            optimizer = dict(self._saved_optimizer)
        path = save_checkpoint(
            self._run.checkpoints,
            self._number(),
            Checkpoint(
                weights=network_tensors(self._networks),
                optimizer=optimizer,
                state={
                    "position": position,
                    "method": self._method.state(),
                    "best": self._best.state(),
                },
            ),
        )
        self._best.checkpoint_written()
        self._last_saved = time.monotonic()
        self._events.append(
            EventKind.CHECKPOINT, iteration=self._position.iteration, path=path.name
        )

    def _number(self) -> int:
        """Number checkpoints so that the newest is the largest, phase borders included."""
        position = self._position
        return (position.iteration * (len(self._phases) + 1) + position.phase) * 2 + int(
            position.prologue_done
        )

    def _prepare_optimizer(self, phase: Phase) -> None:
        if self._optimizer is None:
            self._optimizer = build_optimizer(phase.group)
            if self._saved_optimizer:
                load_optimizer_tensors(self._optimizer, self._saved_optimizer)
        self._saved_optimizer = {}

    def _new_sampler(self) -> Sampler:
        return self._data.sampler(
            self._position.patch_size,
            self._options.foreground_fraction,
            resident=self._position.keeps_images,
        )

    def _add_seconds(self, phase: Phase, started: float) -> None:
        seconds = self._position.phase_seconds
        seconds[phase.name] = seconds.get(phase.name, 0.0) + self._progress.seconds - started

    def _phase_name(self) -> str:
        index = self._position.phase
        return self._phases[index].name if index < len(self._phases) else "end"


def build_optimizer(group: ParameterGroup) -> torch.optim.Optimizer:
    """Return the optimizer of a parameter group."""
    if group.optimizer == "adamw":
        # fused takes a third of the time that foreach does, which was 5 % of a small step.
        return torch.optim.AdamW(
            group.parameters, lr=group.rate, weight_decay=group.weight_decay, fused=True
        )
    return torch.optim.SGD(
        group.parameters,
        lr=group.rate,
        momentum=0.9,
        weight_decay=group.weight_decay,
        fused=True,
    )


def _autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    if precision == "bfloat16":
        if device.type == "cpu":
            # Up to twice as fast as float32 on CPUs that have it, but PyTorch 2.13 leaves gradients
            # unwritten where a map is less deep than the kernel: found as NaN, 1e38, and as values
            # that nobody would notice.
            raise UsageError(
                "training.precision is bfloat16, which PyTorch computes wrongly on a CPU. Leave it "
                "at auto, or train on a GPU."
            )
        return torch.bfloat16
    return automatic_precision(device) if precision == "auto" else None
