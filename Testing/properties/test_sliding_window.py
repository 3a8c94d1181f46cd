"""Laws of the sliding window."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from SemiSupSegLib.errors import StoppedError
from SemiSupSegLib.inference.sliding_window import count_windows, sliding_slabs, sliding_window

CPU = torch.device("cpu")
volume_sizes = st.tuples(st.integers(1, 9), st.integers(1, 11), st.integers(1, 8))
patch_sizes = st.tuples(st.integers(2, 8), st.integers(2, 8), st.integers(2, 8))
overlaps = st.sampled_from([0.0, 0.25, 0.5, 0.7])
weightings = st.sampled_from(["gaussian", "uniform"])
quick = settings(deadline=None, derandomize=True, max_examples=30)


def a_volume(size, channels=1):
    return torch.arange(float(channels * math.prod(size))).reshape(channels, *size) / 100 - 3


@quick
@given(
    size=volume_sizes,
    patch_size=patch_sizes,
    overlap=overlaps,
    batch_size=st.integers(1, 3),
    weighting=weightings,
)
def test_stitching_untouched_patches_gives_back_the_image(
    size, patch_size, overlap, batch_size, weighting
):
    image = a_volume(size, channels=2)

    stitched = sliding_window(
        image,
        lambda patches: patches,
        patch_size=patch_size,
        overlap=overlap,
        batch_size=batch_size,
        device=CPU,
        weighting=weighting,
    )

    torch.testing.assert_close(stitched, image)


@quick
@given(size=volume_sizes, patch_size=patch_sizes, overlap=overlaps)
def test_every_window_is_computed_and_counted_once(size, patch_size, overlap):
    seen = []

    sliding_window(
        a_volume(size),
        lambda patches: patches,
        patch_size=patch_size,
        overlap=overlap,
        device=CPU,
        progress=lambda done, total: seen.append((done, total)),
    )

    total = count_windows(size, patch_size, overlap)
    assert seen == [(number, total) for number in range(1, total + 1)]


@quick
@given(size=volume_sizes, patch_size=patch_sizes, overlap=overlaps, weighting=weightings)
def test_slabs_come_in_order_and_cover_every_slice_once(size, patch_size, overlap, weighting):
    image = a_volume(size)

    slabs = list(
        sliding_slabs(
            image,
            lambda patches: patches,
            patch_size=patch_size,
            overlap=overlap,
            device=CPU,
            weighting=weighting,
        )
    )

    torch.testing.assert_close(torch.cat([slab.values for slab in slabs], dim=1), image)
    ends = [slab.start + slab.values.shape[1] for slab in slabs]
    assert [slab.start for slab in slabs] == [0, *ends[:-1]]


@quick
@given(size=volume_sizes, patch_size=patch_sizes, overlap=overlaps)
def test_a_mean_of_windows_stays_between_their_values(size, patch_size, overlap):
    draw = np.random.default_rng(0)

    stitched = sliding_window(
        a_volume(size),
        lambda patches: torch.full_like(patches, draw.uniform(2, 5)),
        patch_size=patch_size,
        overlap=overlap,
        device=CPU,
    )

    assert float(stitched.min()) >= 2 - 1e-5
    assert float(stitched.max()) <= 5 + 1e-5


@quick
@given(
    size=st.tuples(st.integers(6, 12), st.integers(6, 12), st.integers(6, 12)),
    low=st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)),
)
def test_a_box_is_computed_as_if_it_were_the_whole_image(size, low):
    image = a_volume(size)
    box = tuple(slice(start, length - 1) for start, length in zip(low, size, strict=True))

    stitched = sliding_window(
        image, lambda patches: patches + 1, patch_size=(4, 3, 5), device=CPU, box=box
    )

    torch.testing.assert_close(stitched[(slice(None), *box)], image[(slice(None), *box)] + 1)
    outside = torch.ones_like(image, dtype=torch.bool)
    outside[(slice(None), *box)] = False
    assert torch.all(stitched[outside] == 0)


def test_the_mean_of_two_windows_is_weighted_as_calculated_by_hand():
    # Side 3, patch 2, overlap 0.5: starts 0 and 1; windows say 1 and 5; the middle is shared.
    answers = iter([1.0, 5.0])

    stitched = sliding_window(
        np.zeros((1, 1, 1, 3), np.float16),
        lambda patches: torch.full_like(patches, next(answers)),
        patch_size=(1, 1, 2),
        overlap=0.5,
        device=CPU,
    )

    assert stitched.flatten().tolist() == pytest.approx([1, 3, 5])


def test_gaussian_weights_trust_the_centre_of_a_window():
    # Side 4, patch 3, starts 0 and 1. At index 1, window 0 is centred, window 1 at its border:
    # weights 1 and exp(-0.5 * (1 / 0.375)^2) = 0.028566.
    answers = iter([0.0, 1.0])

    stitched = sliding_window(
        np.zeros((1, 1, 1, 4), np.float32),
        lambda patches: torch.full_like(patches, next(answers)),
        patch_size=(1, 1, 3),
        overlap=0.5,
        device=CPU,
    )

    assert float(stitched[0, 0, 0, 1]) == pytest.approx(0.028566 / 1.028566, abs=1e-5)


def test_a_float16_array_reaches_the_network_as_float32():
    kinds = []

    def forward(patches):
        kinds.append(patches.dtype)
        return patches

    sliding_window(np.ones((2, 5, 6, 7), np.float16), forward, patch_size=(4, 4, 4), device=CPU)

    assert set(kinds) == {torch.float32}


def test_stopping_ends_between_windows_and_says_how_far_it_came():
    asked = iter([False, False, True])

    with pytest.raises(StoppedError, match=r"Stopped after 2 of \d+ windows"):
        sliding_window(
            a_volume((9, 9, 9)),
            lambda patches: patches,
            patch_size=(4, 4, 4),
            device=CPU,
            should_stop=lambda: next(asked),
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"overlap": 1.0}, "overlap is 1.0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"image": torch.zeros(4, 4, 4)}, r"shape \(4, 4, 4\), expected \(C, D, H, W\)"),
        ({"forward": lambda patches: patches[..., 1:]}, "forward gave the shape"),
    ],
)
def test_nonsense_is_refused_with_its_value(change, message):
    arguments = {"image": a_volume((4, 5, 6)), "forward": lambda patches: patches, "overlap": 0.5}
    arguments.update(change)

    with pytest.raises(ValueError, match=message):
        sliding_window(
            arguments.pop("image"),
            arguments.pop("forward"),
            patch_size=(4, 4, 4),
            device=CPU,
            **arguments,
        )
