"""Which patch of which case comes when; nothing is drawn from a state that would need saving."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SemiSupSegLib.methods.protocol import Batch, Phase
from SemiSupSegLib.preparation.prepare import PreparedCase
from SemiSupSegLib.processes import ALONE, Part
from SemiSupSegLib.training.augmentation import draw_turn, turn, vary_intensity
from SemiSupSegLib.training.options import AugmentationOptions
from SemiSupSegLib.training.randomness import numpy_generator, torch_generator

IGNORED = 255
_MOST_CANDIDATES = 4_000


@dataclass(frozen=True, kw_only=True)
class RawPatch:
    """One patch as it was cut, before augmentation."""

    case_id: str
    slot: int
    """Place in the batch, of all processes; what is drawn for the patch follows from it."""
    image: Tensor
    label: Tensor | None
    valid: Tensor
    maps: Mapping[str, Tensor]


class Sampler:
    """Cuts the patches of any iteration of any phase, from the counters alone.

    Args:
        cases: Prepared cases by id.
        patch_size: D, H, W in voxels.
        seed: The run's seed.
        foreground_fraction: Share of patches centred on a voxel of a random class. Of a label that
            leaves voxels unknown, the others are centred on any known voxel.
        resident: Device on which whole images are kept, if they fit there; else patches are cut
            from the memory-mapped files, which are opened for each patch: a map that stays open
            holds one of the thousand files that a process may have open.
        part: Of several processes, which one this is: each cuts its slots of a batch that is as
            many times larger, and they have the patches that one process would have.
        partial: Cases whose label leaves voxels unknown. As unlabelled patches, they are valid
            only there: what a person has said is not to be learnt from a prediction.
    """

    def __init__(
        self,
        cases: Mapping[str, PreparedCase],
        patch_size: tuple[int, int, int],
        seed: int,
        foreground_fraction: float,
        resident: torch.device | None = None,
        part: Part = ALONE,
        partial: Collection[str] = (),
    ) -> None:
        self.patch_size = patch_size
        self._partial = frozenset(partial)
        self._cases = cases
        self._seed = seed
        self._foreground_fraction = foreground_fraction
        self._resident = resident
        self._part = part
        self._images: dict[str, Tensor] = {}
        self._candidates: dict[str, list[NDArray[np.int64]]] = {}
        self._known_voxels: dict[str, NDArray[np.int64] | None] = {}

    def ids(
        self, pool: Sequence[str], phase: str, kind: str, iteration: int, count: int
    ) -> list[str]:
        """Return the next `count` ids of an endless stream of reshuffled pools."""
        positions = self._positions(iteration, count)
        return [self._id_at(pool, phase, kind, position) for position in positions]

    def labelled_ids(
        self, labelled: Sequence[str], phase: Phase, iteration: int, count: int
    ) -> list[str]:
        """Return the labelled cases of one iteration, a share of them of the favoured ones."""
        wanted = set(phase.favoured)
        favoured = [case_id for case_id in labelled if case_id in wanted]
        others = [case_id for case_id in labelled if case_id not in wanted]
        if not favoured or not others or not phase.favoured_share:
            return self.ids(labelled, phase.stream, "labelled", iteration, count)
        chosen = []
        for position in self._positions(iteration, count):
            # Favoured ones among all patches before this one, and with it.
            before, after = (math.floor(n * phase.favoured_share) for n in (position, position + 1))
            if after > before:
                chosen.append(self._id_at(favoured, phase.stream, "favoured", before))
            else:
                chosen.append(self._id_at(others, phase.stream, "labelled", position - before))
        return chosen

    def _positions(self, iteration: int, count: int) -> range:
        first = (iteration * self._part.size + self._part.rank) * count
        return range(first, first + count)

    def _id_at(self, pool: Sequence[str], phase: str, kind: str, position: int) -> str:
        turn_number, place = divmod(position, len(pool))
        order = numpy_generator(self._seed, phase, kind, turn_number).permutation(len(pool))
        return pool[int(order[place])]

    def raw_batch(
        self,
        phase: Phase,
        iteration: int,
        labelled: Sequence[str],
        unlabelled: Sequence[str],
        labelled_count: int,
        unlabelled_count: int,
    ) -> list[RawPatch]:
        """Cut this process's patches of one iteration, labelled ones first."""
        patches = []
        rank, size = self._part.rank, self._part.size
        known = self.labelled_ids(labelled, phase, iteration, labelled_count)
        for slot, case_id in enumerate(known, start=rank * labelled_count):
            label = _mapped(self._cases[case_id].label())
            patches.append(self._cut(phase, iteration, slot, case_id, label, {}))
        if unlabelled_count and unlabelled:
            chosen = self.ids(unlabelled, phase.stream, "unlabelled", iteration, unlabelled_count)
            first = size * labelled_count + rank * unlabelled_count
            for slot, case_id in enumerate(chosen, start=first):
                maps = phase.maps(case_id) if phase.maps else {}
                tensors = {name: torch.from_numpy(values) for name, values in maps.items()}
                patches.append(self._cut(phase, iteration, slot, case_id, None, tensors))
        return patches

    def _cut(
        self,
        phase: Phase,
        iteration: int,
        slot: int,
        case_id: str,
        label: Tensor | None,
        maps: Mapping[str, Tensor],
    ) -> RawPatch:
        image = self._image(case_id)
        size = tuple(image.shape[1:])
        generator = numpy_generator(self._seed, phase.stream, iteration, "crop", slot)
        start = self._start(generator, size, case_id, label, maps.get("pseudo_label"), phase)
        inner = tuple(
            slice(max(0, first), min(first + side, length))
            for first, side, length in zip(start, self.patch_size, size, strict=True)
        )
        pad: list[int] = []
        for first, side, length in reversed(list(zip(start, self.patch_size, size, strict=True))):
            pad += [max(0, -first), max(0, first + side - length)]

        def cut(tensor: Tensor, outside: float) -> Tensor:
            piece = tensor[..., inner[0], inner[1], inner[2]]
            if any(pad):
                return torch.nn.functional.pad(piece, pad, value=outside)
            return piece.clone()

        valid = torch.ones([piece.stop - piece.start for piece in inner], dtype=torch.bool)
        if label is None and case_id in self._partial:
            # Where a person has said what is there, nothing else is learnt.
            known = _mapped(self._cases[case_id].label()) != IGNORED
            valid &= ~known[inner[0], inner[1], inner[2]]
        if any(pad):
            valid = torch.nn.functional.pad(valid, pad, value=False)
        return RawPatch(
            case_id=case_id,
            slot=slot,
            image=cut(image, 0),
            label=None if label is None else cut(label, IGNORED),
            valid=valid,
            maps={name: cut(values, 0) for name, values in maps.items()},
        )

    def _start(
        self,
        generator: np.random.Generator,
        size: Sequence[int],
        case_id: str,
        label: Tensor | None,
        pseudo_label: Tensor | None,
        phase: Phase,
    ) -> tuple[int, ...]:
        room = [length - side for length, side in zip(size, self.patch_size, strict=True)]
        anywhere = [
            int(generator.integers(0, spare + 1)) if spare >= 0 else -((-spare) // 2)
            for spare in room
        ]
        centred = generator.random() < self._foreground_fraction
        if max(room) <= 0:
            return tuple(anywhere)
        candidates: list[NDArray[np.int64]] = []
        if label is not None:
            known = self._known(case_id, label)
            if centred:
                candidates = self._voxels(case_id, label)
            if known is not None and len(known) and not candidates:
                # Elsewhere there may be nothing to learn from.
                candidates = [known]
        elif centred and pseudo_label is not None:
            candidates = self._voxels(f"{phase.name}/{case_id}", pseudo_label)
        if not candidates:
            return tuple(anywhere)
        of_class = candidates[int(generator.integers(len(candidates)))]
        voxel = np.unravel_index(int(of_class[generator.integers(len(of_class))]), tuple(size))
        return tuple(
            int(np.clip(centre - side // 2, 0, spare)) if spare >= 0 else first
            for centre, side, spare, first in zip(
                voxel, self.patch_size, room, anywhere, strict=True
            )
        )

    def _voxels(self, key: str, label: Tensor) -> list[NDArray[np.int64]]:
        """Return flat indices of some voxels of each class present."""
        if key not in self._candidates:
            flat = label.cpu().numpy().ravel()
            found = []
            for value in np.unique(flat):
                if value in (0, IGNORED):
                    continue
                voxels = np.flatnonzero(flat == value)
                step = max(1, len(voxels) // _MOST_CANDIDATES)
                found.append(voxels[::step].astype(np.int64))
            self._candidates[key] = found
        return self._candidates[key]

    def _known(self, case_id: str, label: Tensor) -> NDArray[np.int64] | None:
        """Return flat indices of some voxels that a partial label knows; None if it knows all."""
        if case_id not in self._known_voxels:
            flat = label.cpu().numpy().ravel()
            found = None
            if (flat == IGNORED).any():
                voxels = np.flatnonzero(flat != IGNORED)
                found = voxels[:: max(1, len(voxels) // _MOST_CANDIDATES)].astype(np.int64)
            self._known_voxels[case_id] = found
        return self._known_voxels[case_id]

    @property
    def keeps_images(self) -> bool:
        """Whether images stay on a device."""
        return self._resident is not None

    def leave_device(self) -> None:
        """Drop the images that are kept on the device; they come back when they are needed."""
        self._images.clear()

    def forget_phase(self, phase: str) -> None:
        """Drop what is remembered of a phase's pseudo-labels."""
        for key in [key for key in self._candidates if key.startswith(f"{phase}/")]:
            del self._candidates[key]

    def _image(self, case_id: str) -> Tensor:
        if self._resident is None:
            return _mapped(self._cases[case_id].image())
        # They may be dropped meanwhile, in the trainer's thread.
        image = self._images.get(case_id)
        if image is None:
            image = torch.from_numpy(np.array(self._cases[case_id].image())).to(self._resident)
            self._images[case_id] = image
        return image


def augment(
    patches: Sequence[RawPatch],
    phase: Phase,
    iteration: int,
    seed: int,
    options: AugmentationOptions,
    device: torch.device,
    *,
    square: bool,
) -> Batch:
    """Move patches to the device, vary them, and stack them into a batch.

    Args:
        patches: As `Sampler.raw_batch` gave them.
        phase: The phase, which says how many strong views unlabelled patches get.
        iteration: Iteration within the phase.
        seed: The run's seed.
        options: Kinds and strengths.
        device: Where the networks are.
        square: Whether the axial plane has equal spacing and sides, so that it may be turned.
    """
    images, labels, valid = [], [], []
    weak, second = [], []
    maps: dict[str, list[Tensor]] = {}
    for patch in patches:
        generator = torch_generator(seed, phase.stream, iteration, "augment", patch.slot)
        turns = draw_turn(options, generator, square=square)
        image = patch.image.to(device, torch.float32, non_blocking=True)
        names = list(patch.maps)
        tensors = [image, patch.valid.to(device)] + [patch.maps[name].to(device) for name in names]
        if patch.label is not None:
            tensors.append(patch.label.to(device))
        turned = turn(tensors, turns)
        image = turned[0]
        if patch.label is not None:
            strong = options.labelled_view == "strong"
        else:
            strong = phase.strong_views > 0
            weak.append(image)
        images.append(vary_intensity(image, options, generator) if strong else image)
        if patch.label is None and phase.strong_views == 2:
            second.append(vary_intensity(image, options, generator))
        valid.append(turned[1])
        for name, values in zip(names, turned[2:], strict=False):
            maps.setdefault(name, []).append(values)
        if patch.label is not None:
            labels.append(turned[-1].long())
    size = images[0].shape[1:]
    return Batch(
        images=torch.stack(images),
        labels=torch.stack(labels) if labels else torch.empty((0, *size), dtype=torch.long),
        valid=torch.stack(valid),
        maps={name: torch.stack(values) for name, values in maps.items()},
        case_ids=tuple(patch.case_id for patch in patches),
        weak=torch.stack(weak) if weak and phase.strong_views else None,
        second=torch.stack(second) if second else None,
    )


def moved(batch: Batch, device: torch.device) -> Batch:
    """Return a batch on another device."""
    return replace(
        batch,
        images=batch.images.to(device),
        labels=batch.labels.to(device),
        valid=batch.valid.to(device),
        maps={name: values.to(device) for name, values in batch.maps.items()},
    )


def _mapped(array: NDArray[np.generic]) -> Tensor:
    # The memory-mapped file is read-only; nothing here writes into it.
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.from_numpy(array)
