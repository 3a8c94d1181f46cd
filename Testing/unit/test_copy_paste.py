"""Copy-paste: what is exchanged, and that labels and intensities move together."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from SemiSupSegLib.methods.copy_paste import (
    draw_box,
    exchange_labelled,
    exchange_with_unlabelled,
    is_drawn,
    mix_into_unlabelled,
)
from SemiSupSegLib.methods.protocol import Batch


def a_batch(labelled, unlabelled, size=6):
    """Return patches whose intensity tells where they are from: 1, 2, ...; their labels too."""
    count = labelled + unlabelled
    numbers = torch.arange(1, count + 1).view(-1, 1, 1, 1).expand(count, size, size, size)
    valid = torch.ones_like(numbers, dtype=torch.bool)
    valid[:, 0] = False
    return Batch(
        images=numbers[:, None].float(),
        labels=numbers[:labelled].long(),
        valid=valid,
        maps={"pseudo_label": numbers[labelled:].to(torch.uint8)},
        case_ids=tuple("abcdefgh"[:count]),
    )


def test_the_box_has_two_thirds_of_each_side_and_lies_inside():
    torch.manual_seed(0)
    corners = set()
    for _ in range(50):
        box = draw_box((6, 9, 3), torch.device("cpu"))
        assert int(box.sum()) == 4 * 6 * 2
        corners.add(tuple(box.nonzero()[0].tolist()))

    assert len(corners) > 10
    assert {corner[0] for corner in corners} == {0, 1, 2}


def test_labelled_patches_take_a_box_of_their_neighbour_with_its_label():
    batch = a_batch(3, 0)
    torch.manual_seed(1)

    images, labels = exchange_labelled(batch.images, batch.labels)

    assert torch.equal(images[:, 0].long(), labels)
    box = draw_box_again(1, (6, 6, 6))
    assert set(labels[0][box].tolist()) == {3}
    assert set(labels[0][~box].tolist()) == {1}
    assert set(labels[1][box].tolist()) == {1}


def draw_box_again(seed, shape):
    torch.manual_seed(seed)
    return draw_box(shape, torch.device("cpu"))


def assert_labels_have_moved_along(mixed, source, is_labelled):
    assert torch.equal(mixed.labels[is_labelled], source[is_labelled])
    assert bool((mixed.labels[~is_labelled] == 255).all())
    pseudo = mixed.maps["pseudo_label"].long()
    assert torch.equal(pseudo[mixed.pseudo_valid], source[mixed.pseudo_valid])
    assert not bool((mixed.pseudo_valid & is_labelled).any())
    # Padding, the first slice, is never learnt from.
    assert not bool(mixed.pseudo_valid[:, 0].any())
    assert bool(mixed.pseudo_valid[:, 1:].eq(~is_labelled[:, 1:]).all())


@given(labelled=st.integers(1, 4), unlabelled=st.integers(1, 4), seed=st.integers(0, 99))
def test_every_voxel_keeps_the_label_of_the_patch_that_it_came_from(labelled, unlabelled, seed):
    batch = a_batch(labelled, unlabelled)
    torch.manual_seed(seed)

    mixed = exchange_with_unlabelled(batch)

    source = mixed.images[:, 0].long()
    is_labelled = source <= labelled
    assert len(mixed.images) == labelled + unlabelled
    assert_labels_have_moved_along(mixed, source, is_labelled)
    # Both directions: labelled boxes first, then labelled surroundings.
    share = is_labelled.float().mean((1, 2, 3))
    assert share[:labelled].tolist() == pytest.approx([8 / 27] * labelled)
    assert share[labelled:].tolist() == pytest.approx([19 / 27] * unlabelled)


def test_nothing_is_drawn_for_share_0_and_always_for_share_1():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()

    assert not is_drawn(0.0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(is_drawn(1.0) for _ in range(50))
    assert 60 < sum(is_drawn(0.5) for _ in range(200)) < 140


@given(labelled=st.integers(1, 4), unlabelled=st.integers(1, 4), seed=st.integers(0, 99))
def test_each_unlabelled_patch_meets_a_labelled_one(labelled, unlabelled, seed):
    batch = a_batch(labelled, unlabelled)
    torch.manual_seed(seed)

    mixed = mix_into_unlabelled(batch)

    source = mixed.images[:, 0].long()
    is_labelled = source <= labelled
    assert len(mixed.images) == unlabelled
    for place in range(unlabelled):
        partners = {place % labelled + 1, labelled + place + 1}
        assert set(source[place].unique().tolist()) == partners
    assert torch.equal(mixed.labels[is_labelled], source[is_labelled])
    assert bool((mixed.labels[~is_labelled] == 255).all())
    pseudo = mixed.maps["pseudo_label"].long()
    assert torch.equal(pseudo[mixed.pseudo_valid], source[mixed.pseudo_valid])
    # Padding, the first slice, is never learnt from.
    assert not bool(mixed.pseudo_valid[:, 0].any())
    assert bool(mixed.pseudo_valid[:, 1:].eq(~is_labelled[:, 1:]).all())


def test_labelled_boxes_and_labelled_surroundings_take_turns_by_lot():
    batch = a_batch(2, 2)
    shares = set()
    for seed in range(20):
        torch.manual_seed(seed)
        labelled = mix_into_unlabelled(batch).images[:, 0] <= 2
        shares.add(round(float(labelled.float().mean()) * 27))

    assert shares == {8, 19}
