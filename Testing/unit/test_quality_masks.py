"""Mistakes made on purpose, and what the quality network sees of them; balls and boxes."""

import numpy as np
import pytest
import torch

from SemiSupSegLib.quality import corruptions
from SemiSupSegLib.quality.crops import box_around, foreground_of, on_cube, view_of
from SemiSupSegLib.quality.examples import (
    LearningCase,
    balance,
    bins_of,
    decided,
    make_example,
    read_prediction,
    sharpened,
    soft_dice,
    write_prediction,
)

SPACING = (2.0, 1.0, 1.5)


def a_ball(shape=(24, 40, 32), radius_mm=12.0, centre=None) -> np.ndarray:
    centre = [length // 2 for length in shape] if centre is None else centre
    squares = sum(
        ((np.arange(length) - middle) * step).reshape([-1 if a == axis else 1 for a in range(3)])
        ** 2
        for axis, (length, middle, step) in enumerate(zip(shape, centre, SPACING, strict=True))
    )
    return squares <= radius_mm**2


def spoilt(name, mask, severity, seed=0):
    draw = np.random.default_rng(seed)
    return corruptions.SHAPE_CORRUPTIONS[name](mask, SPACING, draw, severity)


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def extent_mm(mask):
    return [(np.ptp(places) + 1) * step for places, step in zip(np.nonzero(mask), SPACING)]  # noqa: B905


@pytest.mark.parametrize("name", sorted(corruptions.SHAPE_CORRUPTIONS))
def test_a_corruption_leaves_its_input_and_follows_its_generator(name):
    mask = a_ball()
    before = mask.copy()

    first, again = spoilt(name, mask, 0.6, seed=3), spoilt(name, mask, 0.6, seed=3)

    assert (mask == before).all()
    assert first.dtype == bool
    assert first.shape == mask.shape
    assert (first == again).all()
    assert np.shares_memory(first, mask) is False


@pytest.mark.parametrize("name", sorted(corruptions.SHAPE_CORRUPTIONS))
def test_an_empty_mask_stays_empty(name):
    assert not spoilt(name, np.zeros((12, 14, 10), bool), 1.0).any()


def test_erosion_and_dilation_move_the_surface_by_their_millimetres_on_every_axis():
    mask = a_ball()

    smaller, larger = spoilt("erosion", mask, 0.75), spoilt("dilation", mask, 0.75)

    # 1 + 0.75 * 4 = 4 mm: two slices of 2 mm, four rows of 1 mm.
    assert np.allclose(extent_mm(smaller)[:2], np.subtract(extent_mm(mask)[:2], 8))
    assert np.allclose(extent_mm(larger)[:2], np.add(extent_mm(mask)[:2], 8))
    assert not (smaller & ~mask).any()
    assert not (mask & ~larger).any()


def test_opening_takes_a_thread_away_and_closing_fills_a_gap():
    mask = a_ball()
    mask[12, 20, :] = True
    split = a_ball()
    split[:, 20, :] = False

    assert not spoilt("opening", mask, 0.5)[12, 20, 1]
    assert spoilt("closing", split, 0.5)[12, 20, 16]


@pytest.mark.parametrize("name", ["boundary_noise", "elastic", "shift", "smoothing", "scaling"])
def test_a_stronger_corruption_leaves_less_overlap(name):
    mask = a_ball()
    mild, strong = (
        np.mean([dice(mask, spoilt(name, mask, severity, seed)) for seed in range(5)])
        for severity in (0.0, 1.0)
    )

    assert 0.8 < mild < 1
    assert 0.2 < strong < mild - 0.02


def test_a_shift_moves_the_centre_by_its_millimetres():
    mask = a_ball(radius_mm=8)

    moved = spoilt("shift", mask, 1.0, seed=4)

    centres = [np.argwhere(one).mean(0) * SPACING for one in (mask, moved)]
    assert np.linalg.norm(centres[1] - centres[0]) == pytest.approx(10, abs=1)


def test_a_rotation_turns_a_bar_and_keeps_its_volume():
    bar = np.zeros((24, 40, 32), bool)
    bar[10:14, 4:36, 14:18] = True

    turned = spoilt("rotation", bar, 1.0, seed=1)

    assert 0.8 * bar.sum() < turned.sum() < 1.2 * bar.sum()
    assert dice(bar, turned) < 0.95


def test_box_ellipsoid_and_hull_enclose_what_they_should():
    cross = np.zeros((24, 40, 32), bool)
    cross[12, 8:33, 16] = cross[12, 20, 6:27] = cross[6:19, 20, 16] = True

    box, round_one = spoilt("bounding_box", cross, 0.5), spoilt("ellipsoid", cross, 0.5)
    hull = spoilt("convex_hull", cross, 0.5)

    assert box.sum() == 13 * 25 * 21
    assert round_one.sum() == pytest.approx(4 / 3 * np.pi * 6.5 * 12.5 * 10.5, rel=0.1)
    assert (hull & cross).sum() == cross.sum()
    # An octahedron's volume is a sixth of its box.
    assert box.sum() / 8 < hull.sum() < box.sum() / 2


def test_components_are_dropped_and_holes_are_cut_inside():
    two = a_ball(radius_mm=6, centre=(8, 12, 10)) | a_ball(radius_mm=4, centre=(18, 30, 24))
    sizes = {int(two.sum())}
    for seed in range(12):
        left = spoilt("component_drop", two, 0.5, seed)
        assert not (left & ~two).any()
        sizes.add(int(left.sum()))
    large, small = int(a_ball(radius_mm=6, centre=(8, 12, 10)).sum()), 0
    small = int(two.sum()) - large

    holed = spoilt("holes", a_ball(), 1.0)

    assert sizes == {large + small, large, small}
    assert not (holed & ~a_ball()).any()
    assert 0 < a_ball().sum() - holed.sum() <= 3 * 4 / 3 * np.pi * 5**3 / np.prod(SPACING) * 1.3


def test_slices_are_emptied_or_repeat_the_one_before():
    mask = a_ball()
    kinds = set()
    for seed in range(10):
        changed = np.argwhere(spoilt("slice_drop", mask, 1.0, seed) != mask)
        thin = [axis for axis in range(3) if len(changed) and np.ptp(changed[:, axis]) < 5]
        kinds.add(bool(thin))
    assert kinds == {True}


def test_blobs_lie_on_bright_or_dark_tissue_only():
    image = np.zeros((24, 40, 32), np.float32)
    image[4:20, 5:35, 5:27] = np.random.default_rng(0).normal(size=(16, 30, 22))
    image[4:20, 5:35, 5:27][image[4:20, 5:35, 5:27] == 0] = 0.1

    found = corruptions.blobs(image, SPACING, np.random.default_rng(1), 0.0)

    low, high = np.quantile(image[image != 0], [0.2, 0.8])
    # The smallest balls have a radius of 1.5 mm: their centre and what is within it.
    assert found.any()
    centres = found & ((image >= high) | (image <= low)) & (image != 0)
    assert centres.any()
    assert not corruptions.blobs(np.zeros_like(image), SPACING, np.random.default_rng(1), 0).any()


def test_a_class_or_a_part_of_it_becomes_another():
    label = a_ball(radius_mm=5).astype(np.uint8)

    swapped = corruptions.class_swap(label, 3, np.random.default_rng(0))

    assert set(np.unique(swapped)) == {0, 2}
    assert ((swapped > 0) == (label > 0)).all()
    assert (corruptions.class_swap(label, 2, np.random.default_rng(0)) == label).all()


def test_another_cases_mask_is_put_where_the_own_one_is():
    own = a_ball(radius_mm=6, centre=(5, 9, 26)).astype(np.uint8)
    other = 2 * a_ball((40, 30, 50), radius_mm=5).astype(np.uint8)

    placed = corruptions.placed(other, own)

    assert placed.shape == own.shape
    assert set(np.unique(placed)) == {0, 2}
    assert np.abs(np.argwhere(placed).mean(0) - np.argwhere(own).mean(0)).max() < 1.1


def test_a_changed_class_leaves_background_and_covers_others():
    label = np.array([[[1, 1, 2, 0]]], np.uint8)

    changed = corruptions.with_changed(label, 1, np.array([[[True, False, True, False]]]))

    assert changed.tolist() == [[[1, 0, 1, 0]]]


def test_the_box_has_a_margin_in_millimetres_within_the_grid():
    mask = torch.zeros((20, 30, 40), dtype=torch.bool)
    mask[5, 10:12, 38] = True

    # 8 mm are four slices of 2 mm, eight rows of 1 mm, and six columns of 1.5 mm.
    assert box_around(mask, SPACING) == (slice(1, 10), slice(2, 20), slice(32, 40))
    assert box_around(torch.zeros_like(mask), SPACING) == (
        slice(0, 20),
        slice(0, 30),
        slice(0, 40),
    )


def test_hard_masks_stay_hard_on_the_cube_and_soft_ones_have_a_gradient():
    image = torch.rand(2, 9, 11, 13)
    hard = torch.rand(1, 9, 11, 13) > 0.5
    soft = torch.rand(1, 9, 11, 13, requires_grad=True)

    shown = on_cube(image, hard, 16)
    differentiable = on_cube(image, soft, 16)

    assert shown.shape == (3, 16, 16, 16)
    assert set(shown[2].unique().tolist()) == {0.0, 1.0}
    (gradient,) = torch.autograd.grad(differentiable[2].sum(), soft)
    # What is averaged is shared out among all voxels: 16³ in all.
    assert float(gradient.sum()) == pytest.approx(16**3, rel=1e-4)


def test_a_view_depends_on_the_surroundings_of_its_masks_only():
    masks = torch.zeros((2, 20, 30, 40))
    masks[0, 10, 15, 20] = masks[1, 11, 15, 20] = 0.9
    image = torch.rand(1, 20, 30, 40)
    changed = image.clone()
    changed[:, :3] = 7

    views = [view_of(one, masks, SPACING, 16) for one in (image, changed)]

    torch.testing.assert_close(views[0], views[1], rtol=0, atol=0)
    assert int(foreground_of(masks).sum()) == 2


def test_soft_dice_is_that_of_hard_masks_and_of_probabilities():
    label = np.array([[[1, 1, 2, 0]]], np.uint8)
    masks = np.array([[[[1, 0, 0, 1]]], [[[0, 0, 0.5, 0]]], [[[0, 0, 0, 0]]]], np.float32)

    found, judged = soft_dice(masks, label)

    # 2·1/(2 + 2); 2·0.5/(0.5 + 1); neither mask nor label has the third.
    assert found.tolist() == pytest.approx([0.5, 2 / 3, 1.0])
    assert judged.tolist() == [True, True, False]


def test_a_prediction_survives_its_file_to_a_255th(tmp_path):
    logits = torch.randn(3, 12, 14, 10) * 2
    logits[0, :4] = 30
    probabilities = logits.softmax(0)

    write_prediction(tmp_path / "case.npz", probabilities)
    back = read_prediction(tmp_path / "case.npz", (12, 14, 10))

    assert np.abs(back - probabilities[1:].numpy()).max() <= 0.5 / 255 + 1e-6
    assert np.load(tmp_path / "case.npz")["probabilities"].shape[1] <= 8
    assert (decided(back) == probabilities.argmax(0).numpy()).mean() > 0.98


def test_probabilities_are_sharpened_with_their_background():
    foreground = np.array([[[[0.6]]], [[[0.1]]]], np.float32)

    # Squares of .3, .6, .1: .09, .36, .01.
    assert sharpened(foreground, 0.5).ravel().tolist() == pytest.approx([0.36 / 0.46, 0.01 / 0.46])
    assert sharpened(foreground, 1).ravel().tolist() == pytest.approx([0.6, 0.1])


def test_a_threshold_shifts_the_decision():
    foreground = np.array([[[[0.2, 0.6, 0.45]]], [[[0.1, 0.1, 0.5]]]], np.float32)

    assert decided(foreground).tolist() == [[[0, 1, 2]]]
    assert decided(foreground, 0.1).tolist() == [[[1, 1, 2]]]
    assert decided(foreground, 0.55).tolist() == [[[0, 1, 0]]]


def test_rare_qualities_weigh_more_and_the_mean_weight_is_one():
    seen = np.array([0.95] * 9 + [0.15])

    weights = balance(seen)

    assert weights[1] / weights[9] == pytest.approx(3)
    assert weights[bins_of(seen)].mean() == pytest.approx(1)
    assert bins_of(np.array([0, 0.0999, 0.1, 1.0])).tolist() == [0, 0, 1, 9]


def a_case(name="one", weak=()):
    label = a_ball(radius_mm=9).astype(np.uint8) + a_ball(radius_mm=5)
    noise = np.random.default_rng(len(name)).normal(0, 0.3, label.shape)
    image = (label + noise)[None].astype(np.float16)
    return LearningCase(
        id=name,
        image=lambda: image,
        label=lambda: label,
        spacing=SPACING,
        volume_mm3=float((label > 0).sum() * 3),
        weak=weak,
    )


def examples(case, count, **shares):
    chosen = {"weak_share": 0.4, "soft_share": 0.3, **shares}
    others = [case, a_case("another")]
    return [
        make_example(
            case,
            others,
            np.random.Generator(np.random.PCG64([5, number])),
            num_classes=3,
            side=16,
            **chosen,
        )
        for number in range(count)
    ]


def test_examples_are_of_all_qualities_and_follow_their_generator():
    first, again = examples(a_case(), 60), examples(a_case(), 60)

    values = np.concatenate([one.dice[one.judged] for one in first])
    assert len(set(bins_of(values))) >= 7
    assert any((one.dice == 1).all() for one in first)
    for one, same in zip(first, again, strict=True):
        assert torch.equal(one.seen, same.seen)
        assert (one.dice == same.dice).all()


def test_an_example_shows_masks_or_probabilities_as_it_was_told():
    hard, soft = (examples(a_case(), 12, soft_share=share) for share in (0.0, 1.0))

    for one in hard:
        assert set(one.seen[1:].unique().tolist()) <= {0.0, 1.0}
    assert any(len(one.seen[1:].unique()) > 50 for one in soft)
    # Of a mask of a tenth of the truth or more something is seen.
    for one in hard:
        shown = one.seen[1:].flatten(1).any(1).numpy()
        assert (shown | (one.dice < 0.1) | ~one.judged).all()


def test_masks_of_weak_models_are_judged_on_the_whole_case(tmp_path):
    case = a_case()
    truth = torch.from_numpy(case.label()).long()
    wrong = torch.nn.functional.one_hot(truth, 3).movedim(-1, 0).float()
    wrong[0, :2], wrong[1, :2] = 0, 1  # two slices far from the object are called class 1
    write_prediction(tmp_path / "weak.npz", wrong)

    found = examples(a_case(weak=(tmp_path / "weak.npz",)), 4, weak_share=1.0, soft_share=0.0)

    true = int((truth == 1).sum())
    expected = 2 * true / (2 * true + 2 * 40 * 32)
    for one in found:
        assert one.dice.tolist() == pytest.approx([expected, 1.0])
