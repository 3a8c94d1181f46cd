"""From a prepared case to its maps: one pass of windows feeds student and teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from SemiSupSegLib.cases.label_values import UNKNOWN_CLASS
from SemiSupSegLib.cases.task import Task
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.freed_memory import keep_freed_memory
from SemiSupSegLib.inference.calibration import (
    Calibration,
    calibratable_trust,
    calibration_from_json,
)
from SemiSupSegLib.inference.likeness import LEAST_CASES, likeness
from SemiSupSegLib.inference.maps import (
    MOST_BITS,
    OUTSIDE,
    Decision,
    FigureSums,
    Maps,
    compare,
    set_background,
    with_pseudo_label,
)
from SemiSupSegLib.inference.precision import automatic_autocast
from SemiSupSegLib.inference.sliding_window import Slab, sliding_slabs
from SemiSupSegLib.inference.stochastic import has_dropout, seeded_dropout_logits
from SemiSupSegLib.losses.agreement import js_agreement
from SemiSupSegLib.losses.uncertainty import (
    log_variance_target,
    pass_statistics,
    variance_from_log,
)
from SemiSupSegLib.models.package import ModelPackage
from SemiSupSegLib.networks.base import SegmentationNetwork
from SemiSupSegLib.networks.catalogue import build_network
from SemiSupSegLib.networks.quality import QualityNetwork, quality_network
from SemiSupSegLib.preparation.placement import find_placement
from SemiSupSegLib.preparation.prepare import PreparedCase
from SemiSupSegLib.preparation.restoring import in_steps, restore, restore_labels
from SemiSupSegLib.quality.estimates import judged_label
from SemiSupSegLib.review.fitting import thresholds_from_json
from SemiSupSegLib.review.regions import find_regions

MapSet = Literal["standard", "all"]

DEFAULT_PASSES = 8
"""Stochastic passes of a network without a log-variance head, if none are asked for."""


class Predictor:
    """A student, its teacher if there is one, and how their outputs are read.

    Args:
        package: Where the weights come from.
        device: Where windows are computed.
        overlap: Fraction of a side that neighbouring windows share.
        passes: Stochastic passes of the student. None: one plain pass if the network predicts
            its own variance, else 8.
        batch_size: Windows computed at once. None: 1 on a CPU, 4 elsewhere.

    Raises:
        SemiSupSegError: If the weights do not fit the network that the package names.
    """

    def __init__(
        self,
        package: ModelPackage,
        *,
        device: torch.device,
        overlap: float = 0.5,
        passes: int | None = None,
        batch_size: int | None = None,
    ) -> None:
        keep_freed_memory()
        network = package.manifest["network"]
        self.task: Task = package.task
        self.patch_size: tuple[int, int, int] = tuple(network["patch_size"])
        self._device = device
        self._overlap = overlap
        self._batch_size = batch_size or (1 if device.type == "cpu" else 4)
        self._student = _load(package, "student", device)
        self._teacher = _load(package, "teacher", device) if package.has("teacher") else None
        self._calibration = calibration_from_json(
            package.manifest.get("calibration") or {}, self.task.num_classes
        )
        self._review = thresholds_from_json(package.manifest.get("review"))
        self._reference = package.manifest.get("reference_distribution") or {}
        self._passes, self._warnings = _choose_passes(self._student, passes)
        self._quality = _load_quality(package, device)
        if self._quality is None:
            self._warnings.append("Not given: estimated_dice (no quality network).")
        elif (package.manifest.get("quality") or {}).get("looks_at_image") is False:
            self._warnings.append(
                "The estimated Dice is not to be relied on: on the validation cases its error or "
                "its correlation with the true Dice was hardly worse without the image."
            )
        if self._calibration.num_cases == 0:
            self._warnings.append(
                "The model was not calibrated: confidence is its own trust, not a probability."
            )
        if self._teacher is None:
            self._warnings.append(
                "The model has no teacher: there is no pseudo-label, agreement or comparison."
            )

    @property
    def networks(self) -> tuple[SegmentationNetwork, ...]:
        """The student and, where there is one, the teacher."""
        return (self._student,) if self._teacher is None else (self._student, self._teacher)

    def predict(
        self,
        prepared: PreparedCase,
        *,
        maps: MapSet = "standard",
        probabilities: bool = False,
        pseudo_label: NDArray[np.uint8] | None = None,
        should_stop: Callable[[], bool] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Maps:
        """Return the maps of a case on its original grid.

        Args:
            prepared: The case.
            maps: `all` also makes sure, possible, second and comparison.
            probabilities: Whether the student's class probabilities are kept.
            pseudo_label: Takes the place of the teacher's own: class indices (D, H, W) on the
                prepared grid, 255 where the teacher's stays.
            should_stop: Asked between windows.
            progress: Told windows done and in all.

        Raises:
            StoppedError: When `should_stop` says so.
            SemiSupSegError: If the device has too little memory.
        """
        collect = _collect_in_place if _keeps_voxels(prepared) else _collect_resampled
        warnings = list(self._warnings)
        if maps == "all" and self.task.num_classes - 1 > MOST_BITS:
            warnings.append(
                f"The task has more than {MOST_BITS} classes: there are no maps sure and possible."
            )
        while True:
            slabs = sliding_slabs(
                prepared.image(),
                self.forward,
                patch_size=self.patch_size,
                overlap=self._overlap,
                batch_size=self._batch_size,
                device=self._device,
                should_stop=should_stop,
                progress=progress,
            )
            label = np.zeros(prepared.grid.shape, np.uint8)
            try:
                # Not a decorator: a generator must not leave inference mode switched on.
                with torch.inference_mode():
                    made = collect(
                        self._read(slabs, prepared, label),
                        prepared,
                        self.task,
                        details=maps == "all",
                        probabilities=probabilities,
                        warnings=tuple(warnings),
                    )
                made = self._compared(self._estimated(made, prepared, label), prepared)
                if pseudo_label is not None:
                    made = self._settled(made, pseudo_label, prepared)
                return self._reviewed(made, prepared)
            except torch.cuda.OutOfMemoryError as error:
                if self._batch_size == 1:
                    raise SemiSupSegError(
                        f"{self._device} has too little free memory for a window of "
                        f"{' x '.join(map(str, self.patch_size))} voxels. Close other programs "
                        "that use it, or predict on the CPU."
                    ) from error
            # Outside the handler: the exception holds what is to become free.
            self._batch_size = 1
            torch.cuda.empty_cache()

    def _compared(self, maps: Maps, prepared: PreparedCase) -> Maps:
        """Add whether the case is like the training data."""
        found = likeness(self._reference, prepared, maps.figures, self.task, maps.estimated_dice)
        warnings = maps.warnings
        if not found.is_judged:
            warnings += (
                "Not judged by its scores: whether the case is unlike the training data (fewer "
                f"than {LEAST_CASES} validation cases).",
            )
        return replace(maps, likeness=found, warnings=warnings)

    def _estimated(self, maps: Maps, prepared: PreparedCase, label: NDArray[np.uint8]) -> Maps:
        """Add what the quality network thinks of the student's label on the prepared grid."""
        if self._quality is None:
            return maps
        spacing = prepared.grid.spacing[::-1]
        estimates = judged_label(self._quality, prepared.image(), torch.from_numpy(label), spacing)
        named = {one.name: value for one, value in zip(self.task.classes, estimates, strict=True)}
        return replace(maps, estimated_dice=named)

    def _settled(self, maps: Maps, pseudo_label: NDArray[np.uint8], prepared: PreparedCase) -> Maps:
        """Put a given pseudo-label in the place of the teacher's."""
        none = pseudo_label == UNKNOWN_CLASS
        restored = restore_labels(np.where(none, 0, pseudo_label).astype(np.uint8), prepared)
        if none.any() and maps.pseudo_label is not None:
            stays = restore_labels(none.astype(np.uint8), prepared) > 0
            restored[stays] = maps.pseudo_label[stays]
        return with_pseudo_label(maps, restored, self.task)

    def _reviewed(self, maps: Maps, prepared: PreparedCase) -> Maps:
        """Add the review regions."""
        found = find_regions(
            label=maps.label,
            # As the file will hold it, so that the same regions are found from there.
            confidence=in_steps(maps.confidence),
            agreement=None if maps.agreement is None else in_steps(maps.agreement),
            second=maps.second,
            pseudo_label=maps.pseudo_label,
            geometry=prepared.original,
            class_names=[one.name for one in self.task.classes],
            options=self._review.options,
        )
        return replace(maps, regions=found, review=self._review)

    def forward(self, patches: Tensor) -> Tensor:
        """Return everything the maps need of some windows, (B, R, d, h, w).

        R is the student's K logits (or, with several passes, its mean probabilities), one
        log-variance if there is a head (or the passes' variance), the teacher's K logits.
        """
        if self._device.type == "cpu":
            patches = patches.contiguous(memory_format=torch.channels_last_3d)
        with automatic_autocast(self._device):
            outputs = self._student_outputs(patches)
            if self._teacher is not None:
                outputs.append(self._teacher(patches).float())
        return torch.cat(outputs, 1)

    def _student_outputs(self, patches: Tensor) -> list[Tensor]:
        stem = self._student.stem(patches)
        if self._passes > 1:
            temperature = self._calibration.temperature
            statistics = pass_statistics(
                (logits.float() / temperature).softmax(1)
                for logits in seeded_dropout_logits(self._student, stem, self._passes, seed=0)
            )
            return [statistics.mean, statistics.variance[:, None]]
        features = self._student.body(stem)
        logits = self._student.segment(features)
        outputs = [logits.float()]
        if self._student.has_log_variance:
            outputs.append(self._student.log_variance(features, logits))
        return outputs

    def _read(
        self, slabs: Iterator[Slab], prepared: PreparedCase, label: NDArray[np.uint8]
    ) -> Iterator[_Reading]:
        """Turn stitched outputs into probabilities and scalar maps.

        Writes the student's classes into `label`, on the prepared grid, if they are to be judged.
        """
        num_classes = self.task.num_classes
        mask = np.asarray(prepared.mask())
        calibration = self._calibration
        for slab in slabs:
            values = slab.values
            student = values[:num_classes]
            variance = uncertainty = None
            rest = values[num_classes:]
            if self._passes > 1:
                variance, rest = rest[0], rest[1:]
                uncertainty = _scaled(log_variance_target(variance), calibration)
            else:
                student = (student / calibration.temperature).softmax(0)
                if self._student.has_log_variance:
                    variance = variance_from_log(rest[0], num_classes)
                    uncertainty = _scaled(rest[0], calibration)
                    rest = rest[1:]
            # A map fitted without a variance must be read without one.
            trusted = variance if self._student.has_log_variance else None
            confidence = calibration.confidence(calibratable_trust(student, trusted))
            teacher = agreement = None
            if self._teacher is not None:
                teacher = (rest / calibration.teacher_temperature).softmax(0)
                agreement = js_agreement(teacher, student)
            scalars = {
                name: value
                for name, value in (
                    ("confidence", confidence),
                    ("uncertainty", uncertainty),
                    ("agreement", agreement),
                )
                if value is not None
            }
            rows = slice(slab.start, slab.start + values.shape[1])
            outside = torch.from_numpy(mask[rows] == 0).to(values.device)
            set_background(student, outside)
            if self._quality is not None:
                label[rows] = student.argmax(0).cpu().numpy()
            if teacher is not None:
                set_background(teacher, outside)
            for name, value in scalars.items():
                value.masked_fill_(outside, OUTSIDE[name])
            yield _Reading(rows=rows, student=student, teacher=teacher, scalars=scalars)


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """Some slices of the prepared grid."""

    rows: slice
    student: Tensor
    """Probabilities (K, n, H, W)."""
    teacher: Tensor | None
    scalars: dict[str, Tensor]
    """Maps by name, (n, H, W)."""


def _collect_in_place(
    readings: Iterator[_Reading],
    prepared: PreparedCase,
    task: Task,
    *,
    details: bool,
    probabilities: bool,
    warnings: tuple[str, ...],
) -> Maps:
    """Decide slab by slab, for a prepared grid whose voxels are those of the original."""
    shape = prepared.grid.shape
    labels: dict[str, NDArray[Any]] = {}
    scalars: dict[str, NDArray[np.float32]] = {}
    kept: NDArray[np.float32] | None = None
    sums = FigureSums(task)
    for one in readings:
        student = Decision(task, details=details, second=True)
        for probability in one.student:
            student.add(probability)
        made = {"label": student.label, "second": student.second}
        if student.has_bits:
            made.update(sure=student.sure, possible=student.possible)
        if one.teacher is not None:
            made["pseudo_label"] = _most_likely(one.teacher, task)
        sums.add(student, made.get("pseudo_label"))
        for name, value in made.items():
            _put(labels, name, value, one.rows, shape)
        for name, value in one.scalars.items():
            _put(scalars, name, value, one.rows, shape)
        if probabilities:
            if kept is None:
                kept = np.zeros((task.num_classes, *shape), np.float32)
            kept[:, one.rows] = one.student.cpu().numpy()
    restored = {}
    for name in list(labels):
        restored[name] = _restore_integers(labels.pop(name), prepared)
    for name in list(scalars):
        whole = scalars.pop(name)[None]
        restored[name] = restore(whole, prepared, outside=(OUTSIDE[name],))[0]
    return _finish(
        restored,
        _named_probabilities(kept, prepared, task),
        sums,
        prepared,
        details=details,
        warnings=warnings,
    )


def _collect_resampled(
    readings: Iterator[_Reading],
    prepared: PreparedCase,
    task: Task,
    *,
    details: bool,
    probabilities: bool,
    warnings: tuple[str, ...],
) -> Maps:
    """Bring probabilities back class by class, and decide on the original grid."""
    shape = prepared.grid.shape
    scalars: dict[str, NDArray[np.float32]] = {}
    halves: dict[str, NDArray[np.float16]] = {}
    for one in readings:
        for name, value in one.scalars.items():
            _put(scalars, name, value, one.rows, shape)
        for name, values in (("student", one.student), ("teacher", one.teacher)):
            if values is not None:
                whole = halves.setdefault(name, np.zeros((len(values), *shape), np.float16))
                whole[:, one.rows] = values.cpu().numpy()
    restored: dict[str, NDArray[Any]] = {}
    kept = {}
    student = Decision(task, details=details, second=True)
    teacher_label = None
    # Interpolation reaches half a voxel over the mask's border: what lies outside is said again.
    mask = prepared.original_mask()
    beyond = None if mask is None else mask == 0
    for name, decision in (("student", student), ("teacher", Decision(task, intervals=False))):
        if name not in halves:
            continue
        for index, values in enumerate(halves.pop(name)):
            outside = (1.0 if index == 0 else 0.0,)
            back = restore(values[None].astype(np.float32), prepared, outside=outside)
            if beyond is not None:
                back[0][beyond] = outside[0]
            decision.add(torch.from_numpy(back[0]))
            if probabilities and name == "student" and index > 0:
                kept[task.classes[index - 1].name] = back[0]
        if name == "teacher":
            teacher_label = decision.label
            restored["pseudo_label"] = teacher_label.numpy()
    restored["label"] = student.label.numpy()
    restored["second"] = student.second.numpy()
    if student.has_bits:
        restored["sure"] = _bits(student.sure.numpy())
        restored["possible"] = _bits(student.possible.numpy())
    for name in list(scalars):
        scalar = scalars.pop(name)[None]
        back = restore(scalar, prepared, outside=(OUTSIDE[name],))[0].clip(0, 1)
        if beyond is not None:
            back[beyond] = OUTSIDE[name]
        restored[name] = back
    sums = FigureSums(task)
    sums.add(student, teacher_label)
    return _finish(restored, kept, sums, prepared, details=details, warnings=warnings)


def _finish(
    restored: dict[str, NDArray[Any]],
    probabilities: dict[str, NDArray[np.float32]],
    sums: FigureSums,
    prepared: PreparedCase,
    *,
    details: bool,
    warnings: tuple[str, ...],
) -> Maps:
    if details and "pseudo_label" in restored:
        restored["comparison"] = compare(restored["label"], restored["pseudo_label"])
    return Maps(
        **restored,  # type: ignore[arg-type]
        probabilities=probabilities,
        figures=sums.result(prepared.original.voxel_volume_mm3),
        warnings=warnings,
    )


def _put(
    arrays: dict[str, NDArray[Any]],
    name: str,
    value: Tensor,
    rows: slice,
    shape: tuple[int, int, int],
) -> None:
    part = value.cpu().numpy()
    if name not in arrays:
        arrays[name] = np.zeros(shape, part.dtype)
    arrays[name][rows] = part


def _restore_integers(values: NDArray[Any], prepared: PreparedCase) -> NDArray[Any]:
    if values.dtype == np.uint8:
        return restore_labels(values, prepared)
    # More than eight classes: byte by byte.
    parts = values.astype("<u4").view(np.uint8).reshape(*values.shape, 4)
    whole = np.zeros(prepared.original.shape, np.uint32)
    for byte in range(4):
        part = restore_labels(np.ascontiguousarray(parts[..., byte]), prepared)
        whole |= part.astype(np.uint32) << np.uint32(8 * byte)
    return _bits(whole)


def _bits(values: NDArray[Any]) -> NDArray[Any]:
    """Return a bit field in the smallest unsigned type that holds it."""
    highest = int(values.max(initial=0))
    smallest = np.uint8 if highest < 2**8 else np.uint16 if highest < 2**16 else np.uint32
    return values.astype(smallest)


def _most_likely(probabilities: Tensor, task: Task) -> Tensor:
    decision = Decision(task, intervals=False)
    for probability in probabilities:
        decision.add(probability)
    return decision.label


def _named_probabilities(
    values: NDArray[np.float32] | None, prepared: PreparedCase, task: Task
) -> dict[str, NDArray[np.float32]]:
    if values is None:
        return {}
    return {
        one.name: restore(values[index : index + 1], prepared, outside=(0.0,))[0]
        for index, one in enumerate(task.classes, start=1)
    }


def _scaled(log_variance: Tensor, calibration: Calibration) -> Tensor:
    low, high = calibration.log_variance
    return ((log_variance - low) / (high - low)).clamp_(0, 1)


def _keeps_voxels(prepared: PreparedCase) -> bool:
    return find_placement(prepared.grid, prepared.original) is not None


def _choose_passes(student: SegmentationNetwork, passes: int | None) -> tuple[int, list[str]]:
    """Return the number of passes, and what has to be said about it."""
    if passes is not None and passes < 1:
        raise ValueError(f"passes is {passes}, must be at least 1")
    if not has_dropout(student) and (passes or 0) > 1:
        return 1, ["The network has no dropout, so several passes would be equal: one was made."]
    if student.has_log_variance or passes is not None:
        chosen = passes or 1
        if chosen == 1 and not student.has_log_variance:
            return 1, ["The network predicts no variance: there is no uncertainty map."]
        return chosen, []
    if not has_dropout(student):
        return 1, ["The network has neither variance head nor dropout: no uncertainty map."]
    return DEFAULT_PASSES, [
        f"The network predicts no variance: uncertainty comes from {DEFAULT_PASSES} passes."
    ]


def _load_quality(package: ModelPackage, device: torch.device) -> QualityNetwork | None:
    if not package.has("quality"):
        return None
    told = package.manifest.get("quality") or {}
    network = package.manifest["network"]
    with torch.device("meta"):
        built = quality_network(
            told.get("options") or {},
            in_channels=network["in_channels"],
            num_classes=network["num_classes"],
        )
    _fill(built, package, "quality", device)
    return built.eval().requires_grad_(False)


def _load(package: ModelPackage, name: str, device: torch.device) -> SegmentationNetwork:
    network = package.network(name)
    # Weights are loaded anyway: drawing random ones first would cost time and disturb a seed.
    with torch.device("meta"):
        built = build_network(
            network["name"],
            network["options"],
            in_channels=network["in_channels"],
            num_classes=network["num_classes"],
        )
    _fill(built, package, name, device)
    if device.type == "cpu":
        # Measured: 15 to 30 % less time for windows of 96 voxels, none lost for smaller ones.
        # PyTorch's type stubs lack this form of `to`.
        built.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return built.eval().requires_grad_(False)


def _fill(built: nn.Module, package: ModelPackage, name: str, device: torch.device) -> None:
    """Put a package's weights into a network without any."""
    kind = "" if name == "quality" else f" '{package.manifest['network']['name']}'"
    tensors = {
        key: torch.from_numpy(np.array(value)).to(device)
        for key, value in package.weights(name).items()
    }
    tensors = {
        key: value.float() if value.is_floating_point() else value for key, value in tensors.items()
    }
    try:
        built.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise SemiSupSegError(
            f"The {name}'s weights in {package.source} do not fit its network{kind}. "
            f"Get the model again. ({str(error).splitlines()[-1].strip()})"
        ) from error
