"""Which patch comes when, and that image, label and maps are cut and turned alike."""

import dataclasses
import math
import weakref

import numpy as np
import pytest
import torch
from scipy import ndimage

from SemiSupSegLib.methods.protocol import ParameterGroup, Phase
from SemiSupSegLib.training.augmentation import _blur, draw_turn, turn, vary_intensity
from SemiSupSegLib.training.options import AugmentationOptions
from SemiSupSegLib.training.randomness import seed_of, torch_generator
from SemiSupSegLib.training.sampling import IGNORED, Sampler, augment


class ACase:
    """Voxel values tell where they lie, so that cuts and turns can be followed."""

    def __init__(self, size):
        self.size = size

    def image(self):
        return np.arange(np.prod(self.size), dtype=np.float16).reshape(1, *self.size)

    def label(self):
        label = np.zeros(self.size, dtype=np.uint8)
        label[-1, -1, -1] = 1
        return label


def a_phase(maps=None, **changes):
    group = ParameterGroup(parameters=[])
    return Phase(name="p", iterations=9, group=group, labelled_per_batch=1, maps=maps, **changes)


def a_sampler(size=(6, 5, 4), patch=(4, 4, 4), foreground=0.0, number=3):
    cases = {name: ACase(size) for name in "abcdef"[:number]}
    return Sampler(cases, patch, 7, foreground)


def test_every_case_comes_once_before_any_comes_again():
    sampler = a_sampler(number=5)
    pool = ["a", "b", "c", "d", "e"]

    stream = [one for step in range(10) for one in sampler.ids(pool, "p", "labelled", step, 2)]

    for start in range(0, 20, 5):
        assert sorted(stream[start : start + 5]) == pool
    assert stream[:5] != stream[5:10] or stream[5:10] != stream[10:15]


def test_a_batch_depends_on_its_counter_alone():
    first, second = a_sampler(), a_sampler()
    for earlier in range(3):
        first.raw_batch(a_phase(), earlier, ["a", "b"], [], 2, 0)

    one = first.raw_batch(a_phase(), 3, ["a", "b"], [], 2, 0)
    other = second.raw_batch(a_phase(), 3, ["a", "b"], [], 2, 0)

    for patch, same in zip(one, other, strict=True):
        assert patch.case_id == same.case_id
        torch.testing.assert_close(patch.image, same.image)


def test_files_do_not_stay_open(monkeypatch):
    opened = []

    def remembered(method):
        def read(case):
            array = method(case)
            opened.append(weakref.ref(array))
            return array

        return read

    for name in ("image", "label"):
        monkeypatch.setattr(ACase, name, remembered(getattr(ACase, name)))
    a_sampler().raw_batch(a_phase(), 0, ["a"], ["b"], 1, 1)

    assert len(opened) == 3
    assert [one() for one in opened] == [None] * 3


def test_every_start_up_to_the_last_is_drawn():
    sampler = a_sampler(size=(6, 4, 4))
    starts = {
        int(sampler.raw_batch(a_phase(), step, ["a"], [], 1, 0)[0].image[0, 0, 0, 0]) // 16
        for step in range(60)
    }

    assert starts == {0, 1, 2}


def test_a_small_case_is_padded_on_both_sides_and_the_padding_does_not_count():
    sampler = a_sampler(size=(1, 4, 4), patch=(4, 4, 4))

    patch = sampler.raw_batch(a_phase(), 0, ["a"], [], 1, 0)[0]

    assert patch.image.shape == (1, 4, 4, 4)
    assert patch.valid.sum() == 16
    inside = patch.valid.any(-1).any(-1)
    assert inside.tolist() in ([False, True, False, False], [False, False, True, False])
    assert (patch.label[~patch.valid] == IGNORED).all()
    assert (patch.image[0][~patch.valid] == 0).all()


def test_a_foreground_patch_holds_a_voxel_of_the_class():
    sampler = a_sampler(size=(12, 12, 12), patch=(4, 4, 4), foreground=1.0)

    for step in range(5):
        patch = sampler.raw_batch(a_phase(), step, ["a"], [], 1, 0)[0]
        assert (patch.label == 1).any()


def test_maps_are_cut_where_the_image_is():
    size = (6, 5, 4)
    everywhere = np.arange(np.prod(size)).reshape(size).astype(np.uint8)
    phase = a_phase(maps=lambda case_id: {"pseudo_label": everywhere})

    labelled, unlabelled = a_sampler(size).raw_batch(phase, 0, ["a"], ["b"], 1, 1)

    assert labelled.maps == {}
    assert unlabelled.label is None
    torch.testing.assert_close(unlabelled.maps["pseudo_label"].float(), unlabelled.image[0].float())


def test_image_label_and_maps_are_turned_alike():
    size = (4, 4, 4)
    values = np.arange(64).reshape(size).astype(np.uint8)
    phase = a_phase(maps=lambda case_id: {"weight": values})
    options = AugmentationOptions(labelled_view="classic")
    sampler = a_sampler(size)

    for step in range(6):
        patches = sampler.raw_batch(phase, step, ["a"], ["b"], 1, 1)
        batch = augment(patches, phase, step, 7, options, torch.device("cpu"), square=True)
        torch.testing.assert_close(batch.maps["weight"][0].float(), batch.images[1, 0])
        corner = batch.images[0, 0].argmax()
        assert int(batch.labels[0].argmax()) == int(corner)


def test_all_eight_flips_and_four_turns_occur_and_axes_can_be_forbidden():
    options = AugmentationOptions(flip_axes=(0, 2))
    drawn = {draw_turn(options, torch_generator(seed), square=True) for seed in range(300)}
    straight = {draw_turn(options, torch_generator(seed), square=False) for seed in range(300)}

    assert {turns for turns, _ in drawn} == {0, 1, 2, 3}
    assert {flips for _, flips in drawn} == {(), (0,), (2,), (0, 2)}
    assert {turns for turns, _ in straight} == {0}


def test_turning_back_gives_the_patch():
    patch = torch.arange(24.0).reshape(1, 2, 3, 4)

    (turned,) = turn([patch], (3, (0, 2)))
    (unflipped,) = turn([turned], (0, (0, 2)))
    (back,) = turn([unflipped], (1, ()))

    torch.testing.assert_close(back, patch)


def test_intensity_changes_leave_the_outside_at_zero_and_are_repeatable():
    image = torch.rand((2, 6, 7, 8), generator=torch_generator(1)) + 0.5
    image[:, :, :, :3] = 0
    options = AugmentationOptions(intensity_probability=1.0, low_resolution=0.0)

    one = vary_intensity(image, options, torch_generator(5))
    same = vary_intensity(image, options, torch_generator(5))

    torch.testing.assert_close(one, same)
    assert (one[:, :, :, :3] == 0).all()
    assert not torch.allclose(one[:, :, :, 3:], image[:, :, :, 3:])
    off = dataclasses.replace(options, intensity_probability=0.0)
    torch.testing.assert_close(vary_intensity(image, off, torch_generator(5)), image)


@pytest.mark.parametrize("sigma", [0.3, 0.8, 1.4])
def test_blurring_is_a_gaussian_with_replicated_edges(sigma):
    image = torch.from_numpy(np.random.default_rng(5).normal(size=(2, 7, 9, 11)).astype(np.float32))

    blurred = _blur(image, sigma)

    expected = [
        ndimage.gaussian_filter(
            one.astype(np.float64), sigma, mode="nearest", radius=math.ceil(2 * sigma)
        )
        for one in image.numpy()
    ]
    np.testing.assert_allclose(blurred.numpy(), expected, atol=1e-5)


def test_blurring_keeps_a_constant_image():
    image = torch.full((1, 8, 8, 8), 2.0)
    options = AugmentationOptions(
        gamma=(1.0, 1.0), brightness=0.0, contrast=0.0, noise=0.0, low_resolution=0.0,
        intensity_probability=1.0,
    )  # fmt: skip

    torch.testing.assert_close(vary_intensity(image, options, torch_generator(3)), image)


def test_seeds_tell_places_apart():
    places = [(0, "p", 1), (0, "p", 2), (1, "p", 1), (0, "q", 1), (0, "p", 1, "crop")]

    assert len({seed_of(*place) for place in places}) == 5
    assert all(0 <= seed_of(*place) < 2**63 for place in places)


@pytest.mark.parametrize("axes", [(3,), (-1,)])
def test_an_axis_that_does_not_exist_is_refused(axes):
    with pytest.raises(ValueError, match="must be some of 0, 1, 2"):
        AugmentationOptions(flip_axes=axes)
