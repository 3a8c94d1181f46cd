"""Prototypes of classes and the contrast with them: numbers of methods §10.3."""

import math

import pytest
import torch
import torch.nn.functional as F

from SemiSupSegLib.losses.prototypes import PrototypeContrast, block_all, block_label


def directions(*coordinates):
    """Directions (1, 32, 1, 1, N) with these first coordinates; a last one fills them up to 1."""
    found = torch.zeros(1, 32, 1, 1, len(coordinates))
    for place, first in enumerate(coordinates):
        found[0, : len(first), 0, 0, place] = torch.tensor(first)
        found[0, 31, 0, 0, place] = math.sqrt(1 - sum(one**2 for one in first))
    return found


def labels(*values):
    return torch.tensor(values, dtype=torch.uint8).reshape(1, 1, 1, -1)


@pytest.fixture
def two_prototypes():
    """Of three classes, the third of which was never seen."""
    contrast = PrototypeContrast(4, 3)
    contrast.remember(torch.eye(3, 32), torch.tensor([1.0, 1.0, 0.0]), 0.99)
    return contrast


@pytest.mark.parametrize(("temperature", "expected"), [(0.1, 0.002476), (0.5, 0.263282)])
def test_the_contrast_of_worked_cosines_has_the_worked_value(two_prototypes, temperature, expected):
    loss = two_prototypes.contrast(
        directions((0.8, 0.2)), labels(0), temperature=temperature, most=5
    )

    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_the_contrast_is_averaged_over_the_drawn_voxels_of_all_classes(two_prototypes):
    embedded = directions((0.8, 0.2), (0.8, 0.2), (0.8, 0.2))

    loss = two_prototypes.contrast(embedded, labels(0, 1, 255), temperature=0.5, most=5)

    # To the other prototype it is 0.6/0.5 more.
    assert loss.item() == pytest.approx((0.263282 + 0.263282 + 1.2) / 2, abs=1e-6)


def test_a_class_without_prototype_is_drawn_to_nothing(two_prototypes):
    embedded = directions((0.1, 0.2)).requires_grad_()

    loss = two_prototypes.contrast(embedded, labels(2), temperature=0.1, most=5)
    loss.backward()

    assert loss.item() == 0
    assert not embedded.grad.any()


def test_before_any_prototype_the_contrast_is_exactly_zero():
    contrast = PrototypeContrast(4, 2)
    embedded = directions((0.8, 0.2)).requires_grad_()

    loss = contrast.contrast(embedded, labels(1), temperature=0.1, most=5)
    loss.backward()

    assert loss.item() == 0
    assert not embedded.grad.any()


def test_of_each_image_and_class_some_voxels_are_drawn(two_prototypes):
    torch.manual_seed(0)
    embedded = F.normalize(torch.randn(2, 32, 4, 4, 4), dim=1).requires_grad_()
    label = torch.zeros(2, 4, 4, 4, dtype=torch.uint8)
    label[0, 0, 0, :3] = 1
    label[1, 1:] = 1
    label[1, 0] = 255

    two_prototypes.contrast(embedded, label, temperature=0.5, most=7).backward()

    used = embedded.grad.abs().sum(1) > 0
    counts = [[int((used & (label == one))[image].sum()) for one in (0, 1)] for image in (0, 1)]
    assert counts == [[7, 3], [0, 7]]
    assert not (used & (label == 255)).any()


def test_prototypes_are_moving_means_of_length_one():
    contrast = PrototypeContrast(4, 3)
    first = torch.zeros(3, 32)
    first[0, 0], first[1, :2] = 2.0, torch.tensor([3.0, 4.0])
    contrast.remember(first, torch.tensor([2.0, 10.0, 0.0]), 0.9)
    after_first = contrast.prototypes.clone()
    second = torch.zeros(3, 32)
    second[0, 1] = 5.0
    contrast.remember(second, torch.tensor([5.0, 0.0, 0.0]), 0.9)

    assert after_first[0, :2].tolist() == [1, 0]
    assert after_first[1, :2].tolist() == pytest.approx([0.6, 0.8])
    length = math.hypot(0.9, 0.1)
    assert contrast.prototypes[0, :2].tolist() == pytest.approx([0.9 / length, 0.1 / length])
    assert torch.equal(contrast.prototypes[1], after_first[1])
    assert not contrast.prototypes[2].any()
    assert contrast.seen.tolist() == [True, True, False]


def test_sums_are_those_of_a_plain_loop():
    torch.manual_seed(0)
    contrast = PrototypeContrast(4, 3)
    embedded = F.normalize(torch.randn(2, 32, 2, 3, 4), dim=1)
    label = torch.randint(0, 3, (2, 2, 3, 4), dtype=torch.uint8)
    label[0, 0] = 255

    summed, voxels = contrast.sums(embedded, label)

    for index in range(3):
        own = embedded.movedim(1, -1)[label == index]
        torch.testing.assert_close(summed[index], own.sum(0))
        assert voxels[index] == len(own)


def test_what_is_projected_has_half_the_size_and_length_one():
    contrast = PrototypeContrast(4, 2)

    embedded = contrast(torch.randn(2, 4, 4, 6, 8))

    assert embedded.shape == (2, 32, 2, 3, 4)
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(2, 2, 3, 4))


def test_the_memory_is_saved_with_the_weights(two_prototypes):
    other = PrototypeContrast(4, 3)

    other.load_state_dict(two_prototypes.state_dict())

    assert torch.equal(other.prototypes, two_prototypes.prototypes)
    assert other.seen.tolist() == [True, True, False]


def test_a_block_has_its_most_frequent_class_if_all_its_voxels_have_one():
    label = torch.zeros(1, 2, 2, 8, dtype=torch.long)
    label[0, :, :, 2] = 2
    label[0, 0, 0, 3] = 2
    label[0, :, :, 4] = 1
    label[0, 1, 1, 7] = 255

    # Five of eight voxels of class 2; four of each of two classes; an unknown voxel.
    assert block_label(label, 3).flatten().tolist() == [0, 2, 0, 255]


def test_a_block_lies_in_a_mask_with_all_its_voxels():
    mask = torch.ones(1, 2, 2, 4, dtype=torch.bool)
    mask[0, 1, 0, 2] = False

    assert block_all(mask).flatten().tolist() == [True, False]
