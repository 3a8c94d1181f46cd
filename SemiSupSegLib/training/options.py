"""Options of the trainer, the same for every method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal


@dataclass(frozen=True, kw_only=True)
class AugmentationOptions:
    """How patches are varied."""

    COMMON: ClassVar = frozenset({"flip_axes"})
    """What a person may want to change first."""

    flip_axes: tuple[int, ...] = (0, 1, 2)
    """Array axes (0 = slice, 1 = row, 2 = column) that may be flipped, each with p = 0.5.

    Leave out an axis along which classes would be exchanged (left and right organs).
    """
    rotate_axial: bool = True
    """Quarter turns in the axial plane, where its spacing and patch sides are equal."""
    labelled_view: Literal["classic", "strong"] = "strong"
    """Whether labelled patches also get the intensity changes of the strong view."""
    gamma: tuple[float, float] = (0.7, 1.5)
    """Smallest and largest exponent of a gamma curve over the patch's intensities."""
    brightness: float = 0.3
    """Shift by up to this, in standard deviations of the prepared image."""
    contrast: float = 0.3
    """Scale by 1 ± up to this."""
    blur_sigma: float = 1.0
    """Largest Gaussian blur, voxels."""
    noise: float = 0.1
    """Largest standard deviation of added noise."""
    low_resolution: float = 0.25
    """Probability of a detour over half the resolution."""
    intensity_probability: float = 0.5
    """Probability of each single intensity change."""

    def __post_init__(self) -> None:
        if not set(self.flip_axes) <= {0, 1, 2}:
            raise ValueError(f"flip_axes is {self.flip_axes}, must be some of 0, 1, 2")
        for name in ("low_resolution", "intensity_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a run is carried out."""

    COMMON: ClassVar = frozenset({"patch_size", "patch_limit", "validate_every"})
    """What a person may want to change first."""

    patch_size: tuple[int, int, int] | None = None
    """Voxels D, H, W; None: the median prepared size, rounded up, at most `patch_limit`."""
    patch_limit: int = 48
    """Longest side of an automatic patch, voxels."""
    foreground_fraction: float = 0.5
    """Share of patches centred on a voxel of a random class (if the case is larger)."""
    clip_norm: float = 1.0
    """Largest gradient norm; 0: not clipped."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the networks; losses are always float32. auto: bfloat16 on CUDA devices that have it."""
    validate_every: int = 200
    """Updates between validations; also at each phase's end."""
    validation_overlap: float = 0.25
    """Overlap of the sliding windows in validations during the run."""
    prediction_overlap: float = 0.5
    """Overlap of the sliding windows for pseudo-labels and final figures."""
    judge_ensemble: bool = False
    """Whether the mean of student and teacher is judged at the end, too, where both exist; it is
    not exported."""
    log_every: int = 10
    """Updates between logged steps."""
    checkpoint_seconds: float = 45.0
    """A checkpoint is written at least this often."""
    threads: int = 0
    """CPU threads of PyTorch; 0: as many as there are cores. Frozen in run.json. Several processes
    of one host share them."""
    augmentation: AugmentationOptions = field(default_factory=AugmentationOptions)

    def __post_init__(self) -> None:
        if self.patch_size is not None and min(self.patch_size) < 16:
            raise ValueError(f"patch_size is {self.patch_size}, sides must be 16 or more")
        if self.patch_limit < 16:
            raise ValueError(f"patch_limit is {self.patch_limit}, must be 16 or more")
        if not 0 <= self.foreground_fraction <= 1:
            raise ValueError(
                f"foreground_fraction is {self.foreground_fraction}, must be in [0, 1]"
            )
        for name in ("validation_overlap", "prediction_overlap"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be in [0, 1)")
        for name in ("clip_norm", "checkpoint_seconds", "threads"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be 0 or more")
        for name in ("validate_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be 1 or more")
