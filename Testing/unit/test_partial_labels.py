"""A label that leaves voxels unknown (255): there nothing is learnt, fitted, judged or drawn."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from SemiSupSegLib.cases.geometry import Geometry
from SemiSupSegLib.cases.split import Split
from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.evaluation.calibration import region_of_interest
from SemiSupSegLib.evaluation.errors import split_errors
from SemiSupSegLib.evaluation.metrics import evaluate_label_maps
from SemiSupSegLib.evaluation.overlap import dice_of_targets
from SemiSupSegLib.inference.calibration import (
    CalibrationSample,
    TemperatureSampler,
    fit_calibration,
)
from SemiSupSegLib.losses.cross_entropy import focal_loss
from SemiSupSegLib.losses.supervised import PROFILES, SupervisedLossOptions, supervised_loss
from SemiSupSegLib.methods.copy_paste import draw_box, exchange_labelled, exchange_with_unlabelled
from SemiSupSegLib.methods.curriculum import Curriculum, CurriculumOptions
from SemiSupSegLib.methods.protocol import Batch, NetworkOptions, ParameterGroup, Phase
from SemiSupSegLib.methods.pseudo_labels import Labeller, PseudoLabelOptions
from SemiSupSegLib.methods.supervised import class_weights
from SemiSupSegLib.networks.catalogue import build_network
from SemiSupSegLib.preparation.prepare import PreparedCase
from SemiSupSegLib.runs.lock import Lock
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.training.data import RunData
from SemiSupSegLib.training.options import AugmentationOptions
from SemiSupSegLib.training.progress import Progress
from SemiSupSegLib.training.sampling import RawPatch, Sampler, augment
from SemiSupSegLib.training.slices import slice_with_most

BINARY = load_task("binary")
SHAPE = (4, 5, 6)
PHASE = Phase(
    name="phase",
    iterations=10,
    group=ParameterGroup(parameters=()),
    labelled_per_batch=2,
)


def logits_and_label(num_classes=3, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, num_classes, *SHAPE, generator=draw, dtype=dtype)
    label = torch.randint(0, num_classes, (2, *SHAPE), generator=draw)
    unknown = torch.rand(label.shape, generator=draw) < 0.4
    return logits.requires_grad_(), label, unknown


def prepared_case(case_id, label, seed=0):
    draw = np.random.default_rng(seed)
    shape = label.shape
    grid = Geometry(
        size=shape[::-1], spacing=(1.5, 1.5, 2.0), origin=(0.0, 0.0, 0.0),
        direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    )  # fmt: skip
    return PreparedCase(
        id=case_id, patient=case_id, original=grid, grid=grid, image_hash=case_id,
        reference=None,
        arrays={
            "image": draw.normal(size=(1, *shape)).astype(np.float16),
            "mask": np.ones(shape, np.uint8),
            "label": label,
        },
    )  # fmt: skip


# Losses


@pytest.mark.parametrize("profile", sorted(PROFILES))
@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("balance", ["none", "inverse"])
def test_the_gradient_at_unknown_voxels_is_exactly_zero(profile, batch, balance):
    logits, label, unknown = logits_and_label()
    label = label.masked_fill(unknown, 255)
    options = SupervisedLossOptions(profile=profile, batch=batch, class_weights=balance)
    weights = torch.tensor([0.5, 1.0, 2.0]) if balance != "none" else None

    supervised_loss(logits, label, options, weights)["total"].backward()

    there = unknown.unsqueeze(1).expand_as(logits)
    assert torch.equal(logits.grad[there].abs(), torch.zeros(int(there.sum())).double())
    assert (logits.grad[~there] != 0).any()


@pytest.mark.parametrize("profile", sorted(PROFILES))
@pytest.mark.parametrize("batch", [True, False])
def test_a_batch_of_unknown_voxels_only_has_loss_0_and_gradient_0(profile, batch):
    logits, label, _ = logits_and_label(dtype=torch.float32)
    label = torch.full_like(label, 255)

    loss = supervised_loss(logits, label, SupervisedLossOptions(profile=profile, batch=batch))
    loss["total"].backward()

    assert {name: float(one.detach()) for name, one in loss.items()} == dict.fromkeys(loss, 0.0)
    assert torch.equal(logits.grad.abs(), torch.zeros_like(logits))


def test_unknown_voxels_of_overlapping_regions_have_no_gradient_either():
    draw = torch.Generator().manual_seed(1)
    logits = torch.randn(1, 2, *SHAPE, generator=draw).requires_grad_()
    label = torch.randint(0, 2, (1, 2, *SHAPE), generator=draw)
    label[:, :, 0] = 255

    supervised_loss(logits, label, SupervisedLossOptions())["total"].backward()

    assert torch.equal(logits.grad[:, :, 0].abs(), torch.zeros_like(logits[:, :, 0]))


def test_loss_over_two_known_voxels_is_that_worked_out_by_hand():
    # P = (3/4, 1/4), background and object; then two voxels that nobody has looked at.
    logits = torch.tensor([[math.log(3.0)] * 4, [0.0] * 4]).view(1, 2, 1, 2, 2).double()
    label = torch.tensor([0, 1, 255, 255]).view(1, 1, 2, 2)

    loss = supervised_loss(logits, label, SupervisedLossOptions(profile="liu"))

    assert float(loss["cross_entropy"]) == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)
    # Object alone, exponent 1: 1 - 2 * 1/4 / (1/4 + 1/4 + 1).
    assert float(loss["dice"]) == pytest.approx(1 - 0.5 / 1.5, abs=1e-5)


def test_focal_loss_counts_known_voxels_only():
    log_probabilities = (
        torch.log(torch.tensor([0.75, 0.25])).view(1, 2, 1, 1, 1).repeat(1, 1, 1, 1, 2)
    )
    label = torch.tensor([1, 255]).view(1, 1, 1, 2)

    loss = focal_loss(log_probabilities, label)

    assert float(loss) == pytest.approx(0.75**2 * math.log(4))


def test_class_weights_are_counted_over_known_voxels():
    label = np.full(SHAPE, 255, np.uint8)
    label[0], label[1, 0] = 0, 1  # 30 and 6 voxels

    class Data:
        task, labelled = BINARY, ["case"]
        each = staticmethod(lambda cases, what: cases)
        label = staticmethod(lambda case_id: label)

    weights = class_weights(Data, SupervisedLossOptions(class_weights="inverse"))

    # Frequencies 5/6 and 1/6, median 1/2.
    torch.testing.assert_close(weights, torch.tensor([0.6, 3.0]))


# Patches


def test_patches_of_a_partial_label_are_centred_on_known_voxels():
    label = np.full((40, 36, 32), 255, np.uint8)
    label[30:34, 5:9, 20:24] = 0
    sampler = Sampler({"a": prepared_case("a", label)}, (16, 16, 16), 0, foreground_fraction=0.5)

    for iteration in range(20):
        for patch in sampler.raw_batch(PHASE, iteration, ["a"], (), 2, 0):
            assert (patch.label != 255).any()


def test_the_foreground_choice_passes_over_unknown_voxels():
    label = np.full((40, 36, 32), 255, np.uint8)
    label[30:34, 5:9, 20:24] = 0
    label[31, 6, 21] = 1
    sampler = Sampler({"a": prepared_case("a", label)}, (16, 16, 16), 0, foreground_fraction=1.0)

    for iteration in range(20):
        for patch in sampler.raw_batch(PHASE, iteration, ["a"], (), 2, 0):
            assert (patch.label == 1).any()


def test_a_label_that_knows_nothing_still_gives_patches():
    label = np.full((40, 36, 32), 255, np.uint8)
    sampler = Sampler({"a": prepared_case("a", label)}, (16, 16, 16), 0, foreground_fraction=0.5)

    (first, _) = sampler.raw_batch(PHASE, 0, ["a"], (), 2, 0)

    assert first.label.shape == (16, 16, 16)


def test_favoured_cases_are_their_share_of_the_patches_in_every_stretch():
    cases = {name: prepared_case(name, np.zeros(SHAPE, np.uint8)) for name in "abcdef"}
    sampler = Sampler(cases, (16, 16, 16), 0, foreground_fraction=0.5)
    phase = replace(PHASE, favoured=("e", "f"), favoured_share=0.5)

    drawn = [sampler.labelled_ids("abcdef", phase, iteration, 4) for iteration in range(8)]

    assert all(sum(one in "ef" for one in batch) == 2 for batch in drawn)
    everything = [one for batch in drawn for one in batch]
    assert {name: everything.count(name) for name in "abcdef"} == {
        "a": 4, "b": 4, "c": 4, "d": 4, "e": 8, "f": 8,
    }  # fmt: skip


def test_an_odd_share_of_favoured_cases_is_kept_over_batches_of_one():
    cases = {name: prepared_case(name, np.zeros(SHAPE, np.uint8)) for name in "ab"}
    sampler = Sampler(cases, (16, 16, 16), 0, foreground_fraction=0.5)
    phase = replace(PHASE, favoured=("b",), favoured_share=0.25)

    drawn = [sampler.labelled_ids("ab", phase, iteration, 1)[0] for iteration in range(12)]

    assert drawn.count("b") == 3


def test_unknown_voxels_turn_with_the_patch_and_stay_unknown():
    draw = np.random.default_rng(0)
    label = draw.integers(0, 2, (16, 16, 16)).astype(np.uint8)
    label[draw.random(label.shape) < 0.3] = 255
    # The image tells where each voxel came from.
    image = torch.where(torch.from_numpy(label) == 255, 7.0, torch.from_numpy(label).float())[None]
    patch = RawPatch(
        case_id="a", slot=0, image=image, label=torch.from_numpy(label),
        valid=torch.ones(label.shape, dtype=torch.bool), maps={},
    )  # fmt: skip

    for iteration in range(6):
        options = AugmentationOptions(labelled_view="classic")
        batch = augment([patch], PHASE, iteration, 0, options, torch.device("cpu"), square=True)
        assert torch.equal(batch.labels[0] == 255, batch.images[0, 0] == 7)


def test_a_pasted_box_brings_its_unknown_voxels_along():
    images = torch.stack([torch.zeros(1, *SHAPE), torch.ones(1, *SHAPE)])
    labels = torch.stack([torch.zeros(SHAPE), torch.full(SHAPE, 255)]).long()
    torch.manual_seed(3)

    mixed_images, mixed = exchange_labelled(images, labels)

    assert torch.equal(mixed == 255, mixed_images[:, 0] == 1)


def test_where_a_pasted_label_is_unknown_neither_label_nor_pseudo_label_counts():
    label = torch.full((1, *SHAPE), 255)
    batch = Batch(
        images=torch.zeros(2, 1, *SHAPE),
        labels=label,
        valid=torch.ones(2, *SHAPE, dtype=torch.bool),
        maps={"pseudo_label": torch.zeros(1, *SHAPE), "weight": torch.full((1, *SHAPE), 255)},
        case_ids=("a", "b"),
    )
    torch.manual_seed(3)
    box = draw_box(SHAPE, torch.device("cpu"))
    torch.manual_seed(3)

    mixed = exchange_with_unlabelled(batch)

    assert (mixed.labels == 255).all()
    assert torch.equal(mixed.pseudo_valid[0], ~box)
    assert torch.equal(mixed.pseudo_valid[1], box)


# Pseudo-labels of a case whose label is partial


@pytest.fixture
def a_run_with_a_partial_case(tmp_path):
    run = RunFolder(tmp_path / "run")
    for folder in (run.path, run.stages, run.checkpoints):
        folder.mkdir()
    whole = np.zeros((16, 16, 16), np.uint8)
    whole[4:8, 4:8, 4:8] = 1
    partial = np.full((16, 16, 16), 255, np.uint8)
    partial[:4] = 0
    partial[2, 2, 2] = 1
    labels = {"whole": whole, "partial": partial, "plain": whole, "judged": whole}
    with Lock(run.lock_file) as lock:
        yield RunData(
            task=BINARY,
            split=Split(
                train_labelled=("whole", "partial"),
                train_unlabelled=("plain",),
                validation=("judged",),
            ),
            prepared={
                name: prepared_case(name, label, seed)
                for seed, (name, label) in enumerate(labels.items())
            },
            run=run,
            progress=Progress(run, lock),
            seed=0,
            patch_size=(16, 16, 16),
            device=torch.device("cpu"),
            overlap=0.25,
            partial=["partial"],
        )


def a_network():
    torch.manual_seed(0)
    options = {"width": 4, "lite": True}
    return build_network("transaspp", options, in_channels=1, num_classes=2).eval()


def test_a_partial_case_is_labelled_and_unlabelled(a_run_with_a_partial_case):
    data = a_run_with_a_partial_case

    assert data.labelled == ("whole", "partial")
    assert data.unlabelled == ("plain", "partial")
    assert data.label("partial")[2, 2, 2] == 1
    with pytest.raises(Exception, match="unlabelled case plain"):
        data.label("plain")


@pytest.mark.parametrize("mode", ["fixed", "class_quantile"])
def test_a_partial_case_is_pseudo_labelled_where_nobody_has_said_what_is_there(
    a_run_with_a_partial_case, mode
):
    data = a_run_with_a_partial_case
    options = PseudoLabelOptions(passes=2, uncertainty="mc", threshold_mode=mode)
    labeller = Labeller(a_network(), data, options)

    labeller.score_cases()
    cases = labeller.stage_cases(1, "stages", 1.0)
    labeller.make_stage_maps(1, 1.0, cases, None)

    assert sorted(cases) == ["partial", "plain"]
    maps = labeller.read_stage_maps(1, "partial", with_probabilities=False)
    known = np.zeros((16, 16, 16), bool)
    known[:4] = True
    np.testing.assert_array_equal(maps["pseudo_label"] == 255, known)
    assert not maps["weight"][known].any()
    plain = labeller.read_stage_maps(1, "plain", with_probabilities=False)
    assert (plain["pseudo_label"] < 2).all()
    summary = json.loads((data.stages / "01" / "summary.json").read_text())
    assert summary["high_share"] + summary["low_share"] == pytest.approx(1)


def test_the_students_loss_pulls_at_each_voxel_from_one_side_only():
    """At known voxels of a partial case the pseudo-label has no part, in any low mode."""
    torch.manual_seed(0)
    logits = torch.randn(1, 3, *SHAPE).requires_grad_()
    pseudo_label = torch.randint(0, 3, (1, *SHAPE))
    pseudo_label[:, 0] = 255
    weight = torch.full((1, *SHAPE), 255)
    weight[:, :2] = 0
    maps = {
        "pseudo_label": pseudo_label,
        "weight": weight,
        "probabilities": torch.rand(1, 3, *SHAPE).softmax(1),
    }
    for mode in ("subtract_clipped", "subtract", "soft", "uniform", "complementary", "negative"):
        options = CurriculumOptions(
            network=NetworkOptions(name="transaspp", options={"width": 4, "lite": True}),
            low_mode=mode,
        )
        method = Curriculum(options, lambda name: a_network(), iterations=1)
        valid = torch.ones(1, *SHAPE, dtype=torch.bool)

        terms = method._pseudo_label_terms(logits, valid, maps)
        (gradient,) = torch.autograd.grad(terms["high"] + terms["low"], logits)

        assert torch.equal(gradient[:, :, 0].abs(), torch.zeros_like(gradient[:, :, 0])), mode
        # Two of the three slices that count have full weight.
        assert float(terms["high_share"]) == pytest.approx(2 / 3)


def test_a_stage_patch_without_any_pseudo_label_has_no_loss():
    logits = torch.randn(1, 2, *SHAPE).requires_grad_()
    options = CurriculumOptions(
        network=NetworkOptions(name="transaspp", options={"width": 4, "lite": True})
    )
    method = Curriculum(options, lambda name: a_network(), iterations=1)
    maps = {
        "pseudo_label": torch.full((1, *SHAPE), 255),
        "weight": torch.zeros(1, *SHAPE),
    }

    terms = method._pseudo_label_terms(logits, torch.ones(1, *SHAPE, dtype=torch.bool), maps)

    assert {name: float(value.detach()) for name, value in terms.items()} == {
        "high": 0.0, "low": 0.0, "high_share": 0.0,
    }  # fmt: skip


def test_what_a_partial_label_lacks_makes_no_class_unusual(a_run_with_a_partial_case):
    from SemiSupSegLib.methods.pseudo_labels import _usual_classes

    data = a_run_with_a_partial_case
    data.prepared("partial").label()[2, 2, 2] = 0

    assert _usual_classes(data) == ((1,), True)


# Calibration


def test_a_temperature_is_fitted_to_known_voxels():
    draw = np.random.default_rng(0)
    label = draw.integers(0, 2, (12, 12, 12)).astype(np.uint8)
    logits = torch.from_numpy(draw.normal(size=(2, *label.shape))).float()
    logits[0] += torch.from_numpy(2.0 * (label == 0))
    logits[1] += torch.from_numpy(2.0 * (label == 1))
    halved = label.copy()
    halved[6:] = 255
    lying = logits.clone()
    lying[:, 6:] *= -50

    fits = []
    for values in (logits, lying):
        sampler = TemperatureSampler(1)
        sampler.add(values, halved)
        fits.append(sampler.fit())

    assert fits[0] == fits[1]


def test_calibration_looks_at_known_voxels_only():
    draw = np.random.default_rng(0)
    label = np.zeros((12, 12, 12), np.uint8)
    label[3:9, 3:9, 3:9] = 1
    logits = torch.from_numpy(draw.normal(size=(2, *label.shape))).float()
    logits[0] += torch.from_numpy(2.0 * (label == 0))
    logits[1] += torch.from_numpy(2.0 * (label == 1))
    partial = label.copy()
    partial[:, :, 8:] = 255
    # Right or wrong there: nobody knows, and nothing may follow from it. The prediction stays.
    sharper = logits.clone()
    sharper[:, :, :, 8:] *= 30

    def fitted(values):
        sample = CalibrationSample(logits=values, label=partial, spacing=(1.0, 1.0, 1.0))
        return fit_calibration([sample], num_cases=1, num_classes=2)

    assert fitted(logits) == fitted(sharper)


# Figures


def test_dice_counts_known_voxels_by_hand():
    prediction = np.array([1, 1, 1, 0, 1, 0], np.uint8).reshape(1, 2, 3)
    reference = np.array([1, 1, 0, 1, 255, 255], np.uint8).reshape(1, 2, 3)

    # Two right, one too many, one missed.
    assert dice_of_targets(prediction, reference, BINARY)["object"] == pytest.approx(4 / 6)


def test_figures_of_a_partial_reference_have_no_distances():
    prediction = np.array([1, 1, 1, 0, 1, 0], np.uint8).reshape(1, 2, 3)
    reference = np.array([1, 1, 0, 1, 255, 255], np.uint8).reshape(1, 2, 3)

    figures = evaluate_label_maps(prediction, reference, (1.0, 2.0, 5.0), BINARY)["object"]
    others = evaluate_label_maps(
        prediction, reference, (1.0, 2.0, 5.0), BINARY, preset="la_voxels"
    )["object"]

    assert figures["dice"] == pytest.approx(4 / 6)
    assert figures["volume_ml"] == pytest.approx(3 * 10 / 1000)
    assert figures["reference_volume_ml"] == pytest.approx(3 * 10 / 1000)
    assert figures["hd95_mm"] is figures["assd_mm"] is None
    assert others["dice_ref"] == pytest.approx(4 / 6)
    assert others["hd95_ref"] is others["asd_ref"] is None


def test_unknown_voxels_are_no_errors_and_in_no_region_of_interest():
    prediction = np.zeros((3, 4, 5), np.uint8)
    prediction[1, 1, 1:4] = 1
    reference = np.zeros((3, 4, 5), np.uint8)
    reference[1, 1, 1] = 1
    reference[1, 1, 2] = 255

    errors = split_errors(prediction, reference, (1.0, 1.0, 1.0))
    region = region_of_interest(prediction, reference, (1.0, 1.0, 1.0), margin_mm=1.0)

    assert errors["total"]["voxels"] == 1
    assert errors["total"]["fraction_of_foreground"] == pytest.approx(1 / 2)
    assert not region[1, 1, 2]
    assert region[1, 1, 3]
    assert region[1, 1, 4]


def test_everything_unknown_is_nothing_to_judge():
    prediction = np.ones((3, 4, 5), np.uint8)
    reference = np.full((3, 4, 5), 255, np.uint8)

    assert dice_of_targets(prediction, reference, BINARY)["object"] == 1
    assert split_errors(prediction, reference, (1.0, 1.0, 1.0))["total"]["voxels"] == 0
    assert not region_of_interest(prediction, reference, (1.0, 1.0, 1.0)).any()


def test_a_telling_slice_is_not_chosen_by_unknown_voxels():
    label = np.zeros((4, 5, 6), np.uint8)
    label[1, 2:4, 2:4] = 1
    label[3] = 255

    assert slice_with_most(label) == 1
