"""The warm predict worker: takes job folders from its standard input, one a line, one at a time.

The last model stays loaded, so that a second case starts at once. The end of the input is the
life line: whoever started the worker is gone, and so is the worker, after the window it is at.
"""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from SemiSupSegLib.cases.case import Case, CaseState
from SemiSupSegLib.errors import SemiSupSegError, StoppedError, in_sentences
from SemiSupSegLib.files import write_json
from SemiSupSegLib.freed_memory import give_back_freed_memory
from SemiSupSegLib.review.results import review_content
from SemiSupSegLib.runs.events import EventKind
from SemiSupSegLib.runs.state import RunStatus
from SemiSupSegLib.workers.estimates import Kind, remember
from SemiSupSegLib.workers.job import JobFolder, JobRecord, PredictRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from SemiSupSegLib.inference.maps import Maps
    from SemiSupSegLib.inference.predictor import Predictor
    from SemiSupSegLib.models.package import ModelPackage
    from SemiSupSegLib.preparation.prepare import PreparedCase

IDLE_SECONDS = 300.0
"""After so long without a job the weights leave memory."""
STEPS = 200
"""Scalar maps that are shown have so many steps from 0 to 1."""
FAR = 40
"""Distances from the result are handed over up to so many mm."""
_POLL_SECONDS = 0.1
_SCALARS = ("uncertainty", "confidence", "agreement")
_LABELS = ("label", "pseudo_label", "second", "sure", "possible", "comparison")

logger = logging.getLogger(__name__)


def serve(lines: IO[str], idle_seconds: float = IDLE_SECONDS) -> None:
    """Do the jobs whose folders are named on `lines`, until they end."""
    jobs: queue.Queue[Path | None] = queue.Queue()
    closing = threading.Event()

    def listen() -> None:
        for line in lines:
            if line.strip():
                jobs.put(Path(line.strip()))
        closing.set()
        jobs.put(None)

    threading.Thread(target=listen, daemon=True, name="life line").start()
    worker = _PredictWorker(closing)
    while True:
        try:
            folder = jobs.get(timeout=idle_seconds)
        except queue.Empty:
            worker.forget()
            continue
        if folder is None:
            return
        worker.do(JobFolder(folder))


class _PredictWorker:
    def __init__(self, closing: threading.Event) -> None:
        self._closing = closing
        self._loaded: tuple[tuple[object, ...], ModelPackage, Predictor] | None = None

    def forget(self) -> None:
        """Give up the model's memory."""
        if self._loaded is None:
            return
        self._loaded = None
        _give_back_memory()

    def do(self, job: JobFolder) -> None:
        """Do a job; however it ends, its state says so and the worker lives on."""
        record = JobRecord(job)
        handler = logging.FileHandler(job.log_file, encoding="utf-8")
        logging.getLogger().addHandler(handler)
        try:
            self._predict(job, record)
            record.tell(EventKind.FINISHED)
            record.write(RunStatus.FINISHED)
        except StoppedError as stop:
            record.tell(EventKind.STOPPED)
            record.write(RunStatus.STOPPED, error=str(stop))
        except Exception as error:  # The boundary of a job: the next one must not suffer.
            if not isinstance(error, SemiSupSegError | OSError):
                logger.exception("The job %s failed unexpectedly", job.path)
            said = in_sentences(error) or str(error)
            record.tell(EventKind.ERROR, message=said, type=type(error).__name__)
            record.write(RunStatus.FAILED, error=said)
        finally:
            logging.getLogger().removeHandler(handler)
            handler.close()
            _give_back_memory()

    def _predict(self, job: JobFolder, record: JobRecord) -> None:
        record.tell(EventKind.STARTED)
        should_stop = _Polled(lambda: self._closing.is_set() or job.control.is_stop_wanted)
        request = PredictRequest.read(job)
        record.enter("loading the model")
        package, predictor = self._model(request)
        # Loading does not count: the next case finds the model loaded.
        began = time.monotonic()
        _check(request, package, should_stop)
        record.enter("preparing the images")
        case, prepared = _prepared(request, package)
        for warning in prepared.warnings:
            # Told before the network begins, so that a person can still stop it.
            record.tell(EventKind.WARNING, message=warning)
        should_stop.check()
        record.enter("segmenting")
        maps = predictor.predict(
            prepared,
            maps=request.maps,
            probabilities=request.probabilities,
            should_stop=should_stop,
            progress=record.advance,
        )
        record.enter("handing over")
        write_json(job.result_json, _hand_over(job, request, package, prepared, maps))
        record.tell(EventKind.MAPS_READY)
        should_stop.check()
        record.enter("saving")
        from SemiSupSegLib.inference.writing import write_result

        folder = write_result(
            request.results,
            request.case,
            maps,
            package.task,
            original=prepared.original,
            like=prepared.reference,
            model_sha256=package.sha256,
            model_name=package.name,
            inputs=case.channels,
            warnings=prepared.warnings,
            # The images in the job's folder go when it has ended.
            tells_places=False,
        )
        record.tell(EventKind.RESULT_WRITTEN, folder=folder)
        self._remember(request, package, prepared, time.monotonic() - began)

    def _remember(
        self,
        request: PredictRequest,
        package: ModelPackage,
        prepared: PreparedCase,
        seconds: float,
    ) -> None:
        """Note the time for the panel's forecast."""
        kind = Kind(
            model=package.sha256,
            device=request.device,
            overlap=request.overlap,
            passes=request.passes,
            probabilities=request.probabilities,
        )
        with contextlib.suppress(OSError):
            remember(kind, math.prod(prepared.original.size), seconds, _peak_mb())

    def _model(self, request: PredictRequest) -> tuple[ModelPackage, Predictor]:
        from SemiSupSegLib.inference.predictor import Predictor
        from SemiSupSegLib.models.registry import load_model
        from SemiSupSegLib.training.devices import choose_device

        package = load_model(request.model)
        key = (package.sha256, request.device, request.overlap, request.passes)
        if self._loaded is not None and self._loaded[0] == key:
            return self._loaded[1:]
        self.forget()
        device = choose_device(request.device)
        predictor = Predictor(
            package, device=device, overlap=request.overlap, passes=request.passes
        )
        self._loaded = (key, package, predictor)
        return package, predictor


def _give_back_memory() -> None:
    """Let others have what is not used any more, on a GPU above all: a run may want it."""
    give_back_freed_memory()
    # Not imported here: where it is missing, the job's error has said so, and the worker lives on.
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


class _Polled:
    """A question that is cheap to ask often: its answer is looked up a few times a second."""

    def __init__(self, question: Any) -> None:
        self._question = question
        self._asked = 0.0

    def __call__(self) -> bool:
        if time.monotonic() - self._asked < _POLL_SECONDS:
            return False
        self._asked = time.monotonic()
        return bool(self._question())

    def check(self) -> None:
        """End the job if that is wanted."""
        if self._question():
            raise StoppedError("Stopped before the segmentation was done.")


def _check(request: PredictRequest, package: ModelPackage, should_stop: _Polled) -> None:
    should_stop.check()
    known = {channel.name: channel for channel in package.task.channels}
    missing = [name for name, one in known.items() if one.required and name not in request.channels]
    if missing:
        raise SemiSupSegError(
            f"The model needs {', '.join(known)}, but {', '.join(missing)} is not given. Choose "
            "an image for it."
        )
    strange = sorted(set(request.channels) - set(known))
    if strange:
        raise SemiSupSegError(
            f"The model has no channel {strange[0]}; it takes {', '.join(known)}. Choose the "
            "images anew."
        )


def _prepared(request: PredictRequest, package: ModelPackage) -> tuple[Case, PreparedCase]:
    from SemiSupSegLib.cases.case import ImageSource
    from SemiSupSegLib.options import from_json
    from SemiSupSegLib.preparation.options import PreparationOptions
    from SemiSupSegLib.preparation.prepare import prepare_case

    case = Case(
        id=request.case,
        patient=request.case,
        state=CaseState.UNLABELLED,
        # In the task's order: the first one's grid is the result's.
        channels={
            channel.name: request.channels[channel.name]
            for channel in package.task.channels
            if channel.name in request.channels
        },
    )
    options = from_json(PreparationOptions, package.manifest["preparation"])
    mask = None if request.mask is None else ImageSource(path=request.mask)
    return case, prepare_case(case, package.task, options, mask=mask)


def _hand_over(
    job: JobFolder,
    request: PredictRequest,
    package: ModelPackage,
    prepared: PreparedCase,
    maps: Maps,
) -> Mapping[str, object]:
    """Write the maps uncompressed, and return what `result.json` says of them."""
    import numpy as np

    job.maps.mkdir(parents=True, exist_ok=True)
    np.save(job.maps / "distance.npy", distance_mm(maps.label, prepared.original.spacing))
    written = {"distance": "maps/distance.npy"}
    for name in (*_LABELS, *_SCALARS):
        values = getattr(maps, name)
        if values is None:
            continue
        if name in _SCALARS:
            # So few values that a scene saved with them stays small.
            values = (np.rint(values * STEPS) / STEPS).astype(np.float32)
        np.save(job.maps / f"{name}.npy", np.ascontiguousarray(values))
        written[name] = f"maps/{name}.npy"
    if maps.regions is not None:
        np.save(job.maps / "regions.npy", maps.regions.map)
        written["regions"] = "maps/regions.npy"
    return {
        "format": "semisupseg-job-result",
        "version": 1,
        "case": request.case,
        "model": {"name": package.name, "sha256": package.sha256},
        "grid": prepared.original.to_json(),
        "maps": written,
        "volumes_ml": maps.figures.volumes_ml,
        "confidence": maps.figures.confidence,
        "teacher_student_dice": maps.figures.teacher_student_dice,
        **({"estimated_dice": dict(maps.estimated_dice)} if maps.estimated_dice else {}),
        "unlike_training": maps.likeness.to_json(),
        **review_content(maps.regions, maps.review),
        "warnings": list(prepared.warnings),
        "notes": list(maps.warnings),
    }


def distance_mm(label: NDArray[np.uint8], spacing: tuple[float, float, float]) -> NDArray[np.uint8]:
    """Return how far each voxel lies from the result, in whole mm; `FAR` and more is `FAR`.

    Args:
        label: Class indices, (D, H, W).
        spacing: x, y, z in mm.
    """
    import numpy as np
    from scipy.ndimage import distance_transform_edt, find_objects

    distance = np.full(label.shape, FAR, np.uint8)
    inside = label > 0
    box = find_objects(inside.astype(np.uint8))
    if not box:
        return distance
    # Only around the result, which is small beside the image.
    margin = [int(np.ceil(FAR / one)) for one in reversed(spacing)]
    around = tuple(
        slice(max(0, part.start - more), part.stop + more)
        for part, more in zip(box[0], margin, strict=True)
    )
    found = distance_transform_edt(~inside[around], sampling=tuple(reversed(spacing)))
    distance[around] = np.minimum(np.ceil(found), FAR).astype(np.uint8)
    return distance


def _peak_mb() -> float:
    """Return the largest memory that this process has had."""
    import psutil

    memory = psutil.Process().memory_info()
    peak = getattr(memory, "peak_wset", None)
    if peak is None:
        import resource

        # Kilobytes on Linux, bytes on macOS.
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return float(peak) / 1e6
