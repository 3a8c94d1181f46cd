"""The prepared store: arrays made once, kept by content and settings, shared by all runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import (
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.cases.case import Case, ImageSource
from SemiSupSegLib.cases.geometry import Geometry, geometry_from_json
from SemiSupSegLib.cases.reading import content_hash
from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.counting import counted
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import read_json, replacing, write_json
from SemiSupSegLib.options import to_json
from SemiSupSegLib.preparation.options import PreparationOptions
from SemiSupSegLib.preparation.prepare import (
    PreparedCase,
    hash_images,
    prepare_images,
    prepare_label,
    reference_of,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

FORMAT = "semisupseg-prepared"
VERSION = 3
"""Raised whenever the same files and options give other arrays."""
ABANDONED_AFTER_S = 24 * 3600
"""Unfinished folders older than this belong to no living process."""
_UNFINISHED = ".part-"


@dataclass(frozen=True, kw_only=True)
class PreparationResult:
    """The cases that could be prepared, and why others could not."""

    prepared: tuple[PreparedCase, ...]
    """In the order asked for."""
    failed: tuple[tuple[str, str], ...]
    """Case id and a sentence for each case left out."""


@dataclass(frozen=True, kw_only=True)
class _Order:
    """One case to look up or make."""

    case: Case
    image_hash: str
    folder: Path
    label_name: str | None
    """File name of the label in `folder`; None if it is not wanted."""

    @property
    def is_done(self) -> bool:
        return _is_complete(self.folder) and (
            self.label_name is None or _is_whole(self.folder / self.label_name)
        )


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """What became of an order."""

    error: str | None = None
    warnings: tuple[str, ...] = ()


def default_store() -> Path:
    """Return SEMISUPSEG_STORE, or a folder in the user's cache folder."""
    named = os.environ.get("SEMISUPSEG_STORE")
    if named:
        return Path(named)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "SemiSupSeg" / "prepared"


def prepare_cases(
    cases: Sequence[Case],
    task: Task,
    options: PreparationOptions,
    store: Path,
    *,
    with_label: Collection[str],
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PreparationResult:
    """Return the prepared cases, making in parallel what the store does not have yet.

    Each folder of the store appears complete or not at all, so the work may be interrupted and
    several processes may share a store.

    Args:
        cases: Usable cases.
        task: Names channels and classes.
        options: Frozen options (`freeze_spacing`).
        store: Folder, made if need be.
        with_label: Ids of the cases whose label is opened; all others stay closed.
        workers: Processes; None: one for each processor this process may use.
        progress: Called with the number of cases done and of all.

    Raises:
        SemiSupSegError: If the store cannot be made.
    """
    if not options.is_frozen:
        raise ValueError("options are not frozen; call freeze_spacing first")
    _make_store(store)
    workers = workers or usable_processors()
    failed: dict[str, str] = {}
    orders: list[_Order] = []
    with ThreadPoolExecutor(workers) as threads:
        wanted = set(with_label)
        looked_up = [
            threads.submit(_order, case, task, options, store, case.id in wanted) for case in cases
        ]
        for case, future in zip(cases, looked_up, strict=True):
            try:
                orders.append(future.result())
            except SemiSupSegError as error:
                failed[case.id] = str(error)
    missing = [order for order in orders if not order.is_done]
    done = len(cases) - len(missing)
    if progress is not None:
        progress(done, len(cases))
    for order, outcome in _make_all(missing, task, options, workers):
        done += 1
        for warning in outcome.warnings:
            logger.warning("Case %s: %s", order.case.id, warning)
        if outcome.error is not None:
            failed[order.case.id] = outcome.error
        if progress is not None:
            progress(done, len(cases))
    prepared = tuple(_load(order, task) for order in orders if order.case.id not in failed)
    reasons = tuple((case.id, failed[case.id]) for case in cases if case.id in failed)
    return PreparationResult(prepared=prepared, failed=reasons)


def stored_grid(image_hash: str, options: PreparationOptions, store: Path) -> Geometry | None:
    """Return the grid on which a case's images are prepared in the store; None if they are not.

    Args:
        image_hash: From `hash_images`.
        options: Frozen options.
        store: The folder, which need not be there.
    """
    folder = _folder(image_hash, options, store)
    return geometry_from_json(_read_meta(folder)["grid"]) if _is_complete(folder) else None


def prepared_to_json(case: PreparedCase) -> dict[str, Any]:
    """Return where a stored case is and what is known of it, for another process."""
    reference = case.reference
    return {
        "id": case.id,
        "patient": case.patient,
        "original": case.original.to_json(),
        "grid": case.grid.to_json(),
        "image_hash": case.image_hash,
        "reference": {
            "path": str(reference.path),
            "component": reference.component,
            "series": reference.series,
        },
        "warnings": list(case.warnings),
        "folder": str(case.folder),
        "label": None if case.label_file is None else case.label_file.name,
    }


def prepared_from_json(content: Mapping[str, Any]) -> PreparedCase:
    """Return the case that `prepared_to_json` told of; nothing is opened."""
    folder, reference = Path(content["folder"]), content["reference"]
    return PreparedCase(
        id=content["id"],
        patient=content["patient"],
        original=geometry_from_json(content["original"]),
        grid=geometry_from_json(content["grid"]),
        image_hash=content["image_hash"],
        reference=ImageSource(**{**reference, "path": Path(reference["path"])}),
        warnings=tuple(content["warnings"]),
        folder=folder,
        image_file=folder / "image.npy",
        mask_file=folder / "mask.npy",
        label_file=None if content["label"] is None else folder / content["label"],
    )


def usable_processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _order(
    case: Case, task: Task, options: PreparationOptions, store: Path, with_label: bool
) -> _Order:
    image_hash = hash_images(case, task)
    label_name = None
    if with_label and case.label is not None:
        values = [one.values for one in task.classes]
        content = content_hash(case.label)
        told: list[object] = [content, case.label.component, values]
        if case.label_unknown is not None:
            told.append(case.label_unknown)
        label_name = f"label-{_digest(told)}.npy"
    folder = _folder(image_hash, options, store)
    return _Order(case=case, image_hash=image_hash, folder=folder, label_name=label_name)


def _folder(image_hash: str, options: PreparationOptions, store: Path) -> Path:
    return store / _digest([image_hash, to_json(options), FORMAT, VERSION])


def _make_all(
    orders: Sequence[_Order], task: Task, options: PreparationOptions, workers: int
) -> Iterator[tuple[_Order, _Outcome]]:
    """Make what is missing; yield each order as it is done."""
    waiting = list(orders)
    if min(workers, len(waiting)) > 1:
        try:
            for order, outcome in _make_in_processes(orders, task, options, workers):
                waiting.remove(order)
                yield order, outcome
        except BrokenProcessPool:
            logger.warning(
                "A process that prepared cases was ended, mostly for want of memory. "
                "What remains, %s, is prepared one after the other.",
                counted(len(waiting), "cases"),
            )
    for order in waiting:
        yield order, _make(order, task, options)


def _make_in_processes(
    orders: Sequence[_Order], task: Task, options: PreparationOptions, workers: int
) -> Iterator[tuple[_Order, _Outcome]]:
    import multiprocessing

    # A forked child of a process that has threads or a GPU context may hang; spawned ones do not.
    context = multiprocessing.get_context("spawn")
    workers = min(workers, len(orders))
    with ProcessPoolExecutor(workers, context, initializer=_begin_process) as pool:
        try:
            # Ctrl-C on a terminal goes to all processes; the first one ends the work.
            with _blocked_interrupts():
                futures = {pool.submit(_make, order, task, options): order for order in orders}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _blocked_interrupts() -> Iterator[None]:
    """Let processes that are started here not hear Ctrl-C; this one hears it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):  # On Windows they hear it until they have begun.
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _begin_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _make(order: _Order, task: Task, options: PreparationOptions) -> _Outcome:
    """Write what an order lacks."""
    warnings: list[str] = []
    try:
        if not _is_complete(order.folder):
            warnings += _make_images(order, task, options)
        if order.label_name is not None and not _is_whole(order.folder / order.label_name):
            warnings += _make_label(order.folder / order.label_name, order.case, task)
    except SemiSupSegError as error:
        return _Outcome(error=str(error))
    except OSError as error:
        return _Outcome(
            error=f"Case {order.case.id} could not be stored ({error}). Check the disk's space "
            "and the folder's rights."
        )
    except Exception as error:  # The boundary of a process: one case must not end the others.
        logger.exception("Case %s could not be prepared", order.case.id)
        return _Outcome(
            error=f"Case {order.case.id} could not be prepared ({type(error).__name__}: {error})."
        )
    return _Outcome(warnings=tuple(warnings))


def _make_images(order: _Order, task: Task, options: PreparationOptions) -> tuple[str, ...]:
    made = prepare_images(order.case, task, options)
    temporary = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=order.folder.parent))
    try:
        _write_array(temporary / "image.npy", made.image)
        _write_array(temporary / "mask.npy", made.mask)
        meta = {
            "format": FORMAT,
            "version": VERSION,
            "image_hash": order.image_hash,
            "channels": [channel.name for channel in task.channels],
            "options": to_json(options),
            "original": made.original.to_json(),
            "grid": made.grid.to_json(),
            "warnings": list(made.warnings),
        }
        write_json(temporary / "meta.json", meta)
        # mkdtemp makes the folder private, but a store may be shared.
        temporary.chmod(0o755)
        if order.folder.exists() and not _is_complete(order.folder):
            shutil.rmtree(order.folder, ignore_errors=True)
        try:
            temporary.rename(order.folder)
        except OSError:
            # Another process may have been faster; its folder is as good.
            if not _is_complete(order.folder):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return made.warnings


def _make_label(path: Path, case: Case, task: Task) -> tuple[str, ...]:
    meta = _read_meta(path.parent)
    original, grid = (geometry_from_json(meta[name]) for name in ("original", "grid"))
    label, warnings = prepare_label(case, task, original, grid)
    _write_array(path, label)
    return warnings


def _write_array(path: Path, array: NDArray[np.generic]) -> None:
    import numpy as np

    with replacing(path) as stream:
        np.save(stream, array, allow_pickle=False)


def _load(order: _Order, task: Task) -> PreparedCase:
    meta = _read_meta(order.folder)
    return PreparedCase(
        id=order.case.id,
        patient=order.case.patient,
        original=geometry_from_json(meta["original"]),
        grid=geometry_from_json(meta["grid"]),
        image_hash=order.image_hash,
        reference=reference_of(order.case, task),
        warnings=tuple(meta["warnings"]),
        folder=order.folder,
        image_file=order.folder / "image.npy",
        mask_file=order.folder / "mask.npy",
        label_file=None if order.label_name is None else order.folder / order.label_name,
    )


def _is_complete(folder: Path) -> bool:
    """Return whether images, mask and what is told of them are there, and not cut short."""
    if not all(_is_whole(folder / name) for name in ("image.npy", "mask.npy")):
        return False
    try:
        _read_meta(folder)
    except SemiSupSegError:
        return False
    return True


def _is_whole(file: Path) -> bool:
    """Return whether an array's file is as long as its header says: a disk or a copy may fail."""
    import numpy as np

    try:
        # Maps the file, without reading it.
        np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return True


def _read_meta(folder: Path) -> dict[str, Any]:
    meta: dict[str, Any] = read_json(folder / "meta.json")
    return meta


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _make_store(store: Path) -> None:
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SemiSupSegError(
            f"The folder for prepared cases, {store}, cannot be made ({error}). Choose another "
            "with --store or SEMISUPSEG_STORE."
        ) from error
    for path in store.glob(f"{_UNFINISHED}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED_AFTER_S:
                shutil.rmtree(path, ignore_errors=True)
