"""What a run knows of its cases, and what of it a method may see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SemiSupSegLib.cases.split import Split
from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.errors import SemiSupSegError, StoppedError
from SemiSupSegLib.files import read_json, write_json
from SemiSupSegLib.inference.precision import automatic_autocast
from SemiSupSegLib.inference.sliding_window import count_windows, sliding_window
from SemiSupSegLib.preparation.prepare import PreparedCase
from SemiSupSegLib.runs.control import Control
from SemiSupSegLib.runs.events import EventKind, EventLog, read_events
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.training.distribution import ALONE, Distribution, NoLog
from SemiSupSegLib.training.progress import Progress
from SemiSupSegLib.training.randomness import seed_of
from SemiSupSegLib.training.sampling import Sampler

_RESIDENT_SHARE = 0.4
"""Images stay on a GPU if they take at most this share of its free memory."""


class RunData:
    """The cases of a run by use.

    Args:
        task: Channels and classes.
        split: Case ids by use.
        prepared: All cases of the split, by id.
        run: The run folder.
        progress: Told about work that goes case by case.
        seed: The run's seed.
        patch_size: D, H, W in voxels.
        device: Where predictions are made.
        overlap: Of sliding windows, for pseudo-labels.
        oracle: Label of an unlabelled case by id, if the run allows it; else None.
        partial: Labelled training cases whose label leaves voxels unknown. They are learnt from
            where it is known, and pseudo-labelled elsewhere.
        reviewed: Labelled training cases whose label comes from a review.
        distribution: The processes that train together.
    """

    def __init__(
        self,
        *,
        task: Task,
        split: Split,
        prepared: Mapping[str, PreparedCase],
        run: RunFolder,
        progress: Progress,
        seed: int,
        patch_size: tuple[int, int, int],
        device: torch.device,
        overlap: float,
        oracle: Callable[[str], NDArray[np.uint8]] | None = None,
        partial: Sequence[str] = (),
        reviewed: Sequence[str] = (),
        distribution: Distribution = ALONE,
    ) -> None:
        self.task = task
        self.labelled: Sequence[str] = split.train_labelled
        self.unlabelled: Sequence[str] = (*split.train_unlabelled, *partial)
        self.partial: Sequence[str] = tuple(partial)
        self.reviewed: Sequence[str] = tuple(reviewed)
        self.validation: Sequence[str] = split.validation
        self.seed = seed
        self.stages: Path = run.stages
        self.scratch: Path = run.scratch
        self.patch_size = patch_size
        self._never_opened = frozenset(split.train_unlabelled)
        self._prepared = prepared
        self.distribution = distribution
        """The processes that share the work on cases now."""
        self._events = EventLog(run.events_file) if distribution.is_first else NoLog()
        self._warnings = _warnings(run) if distribution.is_first else set()
        self._is_sharing = False
        self._untold: list[tuple[str, dict[str, Any]]] = []
        self._control = Control(run.control)
        self._progress = progress
        self._device = device
        self._overlap = overlap
        self._oracle = oracle
        self._windows = 2
        """Predicted at a time; one after the device ran out of memory."""

    @cached_property
    def axially_square(self) -> bool:
        """Whether all cases have equal spacing in the axial plane, so that it may be turned."""
        spacings = [case.grid.spacing for case in self._prepared.values()]
        return all(abs(x - y) <= 0.01 * x for x, y, _ in spacings)

    def sampler(
        self, patch_size: tuple[int, int, int], foreground_fraction: float, *, resident: bool
    ) -> Sampler:
        """Return a sampler of the training cases; if `resident`, a GPU may keep the images."""
        training = {
            case_id: self._prepared[case_id] for case_id in (*self.labelled, *self.unlabelled)
        }
        where = self._resident(training) if resident else None
        part = self.distribution.part
        return Sampler(
            training,
            patch_size,
            self.seed,
            foreground_fraction,
            where,
            part,
            partial=self.partial,
        )

    def predict(
        self,
        case_id: str,
        forward: Callable[[Tensor], Tensor],
        seed: str,
        overlap: float | None = None,
    ) -> Tensor:
        """Return `forward`'s outputs averaged over sliding windows, (R, D, H, W), float32, CPU."""
        image = torch.from_numpy(np.asarray(self._prepared[case_id].image(), dtype=np.float32))
        while True:
            torch.manual_seed(seed_of(self.seed, seed, case_id))
            try:
                # As in every result: what is fitted here is applied there.
                with torch.inference_mode(), automatic_autocast(self._device):
                    return sliding_window(
                        image,
                        _in_pairs(forward) if self._device.type == "cpu" else forward,
                        patch_size=self.patch_size,
                        overlap=self._overlap if overlap is None else overlap,
                        batch_size=self._windows,
                        device=self._device,
                        should_stop=self._progress.is_stop_wanted,
                        progress=lambda done, total: self._progress.beat(),
                    )
            except StoppedError:
                self._progress.obey("stop")
            except torch.cuda.OutOfMemoryError as error:
                if self._windows == 1:
                    raise SemiSupSegError(
                        f"The device runs out of memory while predicting {case_id}, even with one "
                        "window at a time. Close other programs that use it, choose a smaller "
                        "patch (training.patch_size), or train with --device cpu."
                    ) from error
                self._windows = 1
            # Outside the handler: the exception holds what it wanted to free.
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def count_windows(self, case_ids: Iterable[str], overlap: float | None = None) -> int:
        """Return over how many windows `predict` goes for these cases together."""
        overlap = self._overlap if overlap is None else overlap
        return sum(
            count_windows(self._prepared[case_id].shape, self.patch_size, overlap)
            for case_id in case_ids
        )

    def outside(self, case_id: str) -> Tensor:
        """Return where the case's mask says that there is nothing to find, boolean (D, H, W)."""
        return torch.from_numpy(np.asarray(self._prepared[case_id].mask()) == 0)

    def label(self, case_id: str) -> NDArray[np.uint8]:
        """Return the label of a labelled training or validation case, (D, H, W)."""
        if case_id in self._never_opened:
            raise SemiSupSegError(
                f"The label of the unlabelled case {case_id} was asked for. Training must not "
                "see it; this is a mistake in the method."
            )
        return np.asarray(self._prepared[case_id].label())

    def true_label(self, case_id: str) -> NDArray[np.uint8]:
        """Return the label of an unlabelled case, for the oracle control only."""
        if case_id not in self._never_opened:
            return self.label(case_id)
        if self._oracle is None:
            raise SemiSupSegError(
                f"The label of the unlabelled case {case_id} was asked for without allow_oracle."
            )
        return self._oracle(case_id)

    def image(self, case_id: str) -> NDArray[np.float16]:
        """Return the prepared channels of a training or validation case, (C, D, H, W)."""
        return self._prepared[case_id].image()

    def patient(self, case_id: str) -> str:
        """Return whose case it is; the case's own id where nobody knows."""
        return self._prepared[case_id].patient or case_id

    def spacing(self, case_id: str) -> tuple[float, float, float]:
        """Return the prepared voxel spacing z, y, x in mm."""
        x, y, z = self._prepared[case_id].grid.spacing
        return z, y, x

    def prepared(self, case_id: str) -> PreparedCase:
        """Return a prepared case."""
        return self._prepared[case_id]

    def excluded(self) -> frozenset[str]:
        """Return the cases that a person took out of the stages to come."""
        return self._control.excluded()

    def tell(self, kind: str, **values: object) -> None:
        """Write an event of the run; a warning that it holds already is not repeated."""
        if not self.distribution.is_first:
            if self._is_sharing:
                self._untold.append((EventKind(kind).value, values))
            # All else, the first process tells itself.
            return
        if kind == EventKind.WARNING:
            message = str(values.get("message"))
            if message in self._warnings:
                return
            self._warnings.add(message)
        self._events.append(EventKind(kind), **values)

    def each(self, case_ids: Iterable[str], what: str) -> Iterable[str]:
        """Go through cases with heartbeat and stop requests."""
        return self._progress.each(case_ids, what)

    @property
    def is_first(self) -> bool:
        """Whether this process writes what is not written by case."""
        return self.distribution.is_first

    def share(self, case_ids: Iterable[str], what: str) -> Iterable[str]:
        """Go through this process's part of cases; when it ends, all parts are done."""
        ids = tuple(case_ids)
        part = self.distribution.part
        for start in range(0, len(ids), part.size):
            self._progress.attend(f"{what}, case {start + 1} of {len(ids)}")
            if start + part.rank < len(ids):
                self._is_sharing = True
                yield ids[start + part.rank]
                self._is_sharing = False
            untold, self._untold = self._untold, []
            for events in self.distribution.gather(untold):
                for kind, values in events:
                    self.tell(kind, **values)

    def gathered(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what all processes have found, by case."""
        if self.distribution.is_alone:
            return dict(values)
        found: dict[str, Any] = {}
        for part in self.distribution.gather(dict(values)):
            found.update(part)
        return found

    def lacks(self, file: Path) -> bool:
        """Return whether a file has still to be made, as the first process sees it."""
        return bool(self.distribution.first_says(self.is_first and not file.is_file()))

    def frozen(self, file: Path, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Return a JSON file's content, made by the first process if it is not there."""
        content = None
        if self.is_first:
            if not file.is_file():
                file.parent.mkdir(parents=True, exist_ok=True)
                write_json(file, make())
            content = read_json(file)
        found: dict[str, Any] = self.distribution.from_first(content)
        return found

    def _resident(self, cases: Mapping[str, PreparedCase]) -> torch.device | None:
        if self._device.type != "cuda":
            return None
        needed = sum(case.image().nbytes for case in cases.values())
        free, _ = torch.cuda.mem_get_info(self._device)
        return self._device if needed <= _RESIDENT_SHARE * free else None


def _warnings(run: RunFolder) -> set[str]:
    """Return the warnings that the run's events hold; none of a file that cannot be read."""
    try:
        events = read_events(run.events_file)
    except SemiSupSegError:
        return set()
    return {str(one.get("message")) for one in events if one["kind"] == EventKind.WARNING}


def _in_pairs(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Double a lonely patch: PyTorch convolves a batch of one on one thread without oneDNN.

    Two patches of 48³ then cost 0.4 of what one does.
    """
    if torch.get_num_threads() > 1:
        return forward

    def paired(patches: Tensor) -> Tensor:
        if len(patches) > 1:
            return forward(patches)
        return forward(patches.expand(2, *patches.shape[1:]))[:1]

    return paired
