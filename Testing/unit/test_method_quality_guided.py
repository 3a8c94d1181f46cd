"""Cases weighed by estimated quality, and masks improved by the network that estimates it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from SemiSupSegLib.losses.consistency import squared_difference
from SemiSupSegLib.methods.catalogue import find_method
from SemiSupSegLib.methods.mean_teacher import MeanTeacher, MeanTeacherOptions
from SemiSupSegLib.methods.protocol import Batch, Clock, share_iterations
from SemiSupSegLib.methods.quality_guided import QualityGuided, QualityGuidedOptions
from SemiSupSegLib.methods.quality_options import QualityOptions
from SemiSupSegLib.methods.quality_training import QualityTraining, folds_of
from SemiSupSegLib.methods.reweighting import CaseQuality, Reweighted, reweighted, voxel_weight
from SemiSupSegLib.methods.uamt import UAMT, UAMTOptions
from SemiSupSegLib.networks.catalogue import build_network
from SemiSupSegLib.networks.quality import QualityNetwork, QualityNetworkOptions
from SemiSupSegLib.processes import Part

CASES = ("a", "b", "u", "v")
SIDE = 16


def build(name, network=None):
    torch.manual_seed(sum(name.encode()))
    return build_network("transaspp", {"width": 4, "lite": True}, in_channels=1, num_classes=3)


def a_judge():
    torch.manual_seed(3)
    options = QualityNetworkOptions(width=4, side=16)
    return QualityNetwork(options, in_channels=1, num_classes=3).eval().requires_grad_(False)


def a_batch(seed=0, unlabelled=2):
    draw = torch.Generator().manual_seed(seed)
    count = 2 + unlabelled
    return Batch(
        images=torch.randn(count, 1, SIDE, SIDE, SIDE, generator=draw),
        labels=torch.randint(0, 3, (2, SIDE, SIDE, SIDE), generator=draw),
        valid=torch.ones(count, SIDE, SIDE, SIDE, dtype=torch.bool),
        maps={},
        case_ids=CASES[:count],
    )


class FakeData:
    """Cases by name; patients are the names' first letters."""

    seed = 5
    partial = ()
    reviewed = ()

    def __init__(
        self, labelled=("a1", "a2", "b1", "c1"), validation=("w1",), unlabelled=("u", "v")
    ):
        self.labelled, self.validation, self.unlabelled = labelled, validation, unlabelled
        self.task = SimpleNamespace(num_classes=3)
        self.told = []

    def patient(self, case_id):
        return case_id[0]

    def spacing(self, case_id):
        return (2.0, 1.0, 1.5)

    def image(self, case_id):
        draw = np.random.default_rng(sum(case_id.encode()))
        return draw.normal(size=(1, 20, 24, 18)).astype(np.float16)

    def label(self, case_id):
        label = np.zeros((20, 24, 18), np.uint8)
        label[5:14, 6:18, 4:12] = 1
        label[8:12, 9:15, 6:10] = 2
        return label

    def count_windows(self, case_ids):
        return 3 * len(list(case_ids))

    def tell(self, kind, **values):
        self.told.append((kind, values))

    @property
    def scratch(self):
        return self._scratch

    @scratch.setter
    def scratch(self, path):
        self._scratch = path


def guided(judge, data=None, **changes):
    options = QualityGuidedOptions(warmup_fraction=0, rampup_fraction=0, quality_warmup=0,
                                   quality_rampup=0, **changes)  # fmt: skip
    method = QualityGuided(options, build, 10)
    method._data = data or FakeData()
    method.quality = CaseQuality(judge, weighs=True)
    method.quality.weights = {"u": [0.5, 0.25, 1.0], "v": [1.0, 0.0, 0.5]}
    return method


def random_logits(seed=1, scale=3.0):
    draw = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(2, 3, SIDE, SIDE, SIDE, generator=draw)).requires_grad_()


# Weights of voxels


def test_a_voxels_weight_is_that_of_its_case_and_class():
    quality = CaseQuality(a_judge(), weighs=True)
    quality.weights = {"u": [0.5, 0.25, 1.0]}
    label = torch.zeros(2, SIDE, SIDE, SIDE, dtype=torch.uint8)
    label[:, 0], label[:, 1], label[:, 2] = 1, 2, 255

    weight = voxel_weight(quality, label, a_batch())

    assert weight[0, :2, 0, 0].tolist() == [0.25, 1.0]
    assert float(weight[0, 5, 5, 5]) == 0.5
    # Nobody has judged the other case.
    assert not weight[1].any()


def test_probabilities_weigh_by_their_likeliest_class():
    quality = CaseQuality(a_judge(), weighs=True)
    quality.weights = {"u": [0.5, 0.25, 1.0], "v": [0.1, 0.2, 0.3]}
    logits = random_logits()

    torch.testing.assert_close(
        voxel_weight(quality, logits, a_batch()), voxel_weight(quality, logits.argmax(1), a_batch())
    )


def test_without_a_judge_or_if_it_is_not_to_weigh_there_are_no_weights():
    logits = random_logits()

    assert voxel_weight(None, logits, a_batch()) is None
    assert voxel_weight(CaseQuality(a_judge(), weighs=False), logits, a_batch()) is None


def test_weights_are_absolute():
    logits, target = random_logits(), random_logits(2).softmax(1)
    mask = torch.ones(2, SIDE, SIDE, SIDE, dtype=torch.bool)

    whole = squared_difference(logits, target, mask)
    half = squared_difference(logits, target, mask, torch.full(mask.shape, 0.5))

    torch.testing.assert_close(half, whole / 2)
    assert squared_difference(logits, target, mask, torch.zeros(mask.shape)).item() == 0


@pytest.mark.parametrize(
    ("method", "options"), [(MeanTeacher, MeanTeacherOptions), (UAMT, UAMTOptions)]
)
def test_methods_count_the_cases_by_their_weights(method, options):
    made = method(options(), build, 10)
    logits, batch, clock = random_logits(), a_batch(), Clock(phase_iteration=9, iteration=9)

    def loss():
        torch.manual_seed(0)
        return made.unlabelled_loss(logits, batch, clock)[0]

    plain = loss()
    made.quality = CaseQuality(a_judge(), weighs=True)
    made.quality.weights = {"u": [1.0] * 3, "v": [1.0] * 3}
    full = loss()
    made.quality.weights = {"u": [1.0] * 3, "v": [0.0] * 3}
    (gradient,) = torch.autograd.grad(loss(), logits)
    made.quality.weights = {}
    nothing = loss()

    assert plain.item() > 0
    torch.testing.assert_close(full, plain)
    assert gradient[0].any()
    assert not gradient[1].any()
    assert nothing.item() == 0


# The method


def test_the_pseudo_label_loss_is_half_cross_entropy_and_half_dice_by_weight():
    method = guided(a_judge())
    batch = a_batch()
    label = torch.zeros(2, SIDE, SIDE, SIDE, dtype=torch.long)
    label[0, :4], label[1, :8] = 1, 2
    logits = random_logits()

    found = method.pseudo_label_loss(logits, label, batch)

    p = logits.detach().double().softmax(1)
    weights = {0: [0.5, 0.25, 1.0], 1: [1.0, 0.0, 0.5]}
    entropy, dice = 0.0, 0.0
    for image in range(2):
        for index in range(3):
            voxels = label[image] == index
            entropy -= weights[image][index] * float(p[image, index][voxels].log().sum())
        index = 1 if image == 0 else 2
        true = (label[image] == index).double()
        shared = (p[image, index] * true).sum()
        own = 1 - (2 * shared + 1e-5) / (p[image, index].sum() + true.sum() + 1e-5)
        dice += weights[image][index] * own.item()
    expected = 0.5 * entropy / label.numel() + 0.5 * dice / 2
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_padding_and_cases_without_weight_teach_nothing():
    method, batch = guided(a_judge()), a_batch()
    logits = random_logits()
    batch.valid[:] = False
    nowhere = method.unlabelled_loss(logits, batch, Clock(phase_iteration=5, iteration=5))[0]
    (gradient,) = torch.autograd.grad(nowhere, logits, allow_unused=True)
    assert nowhere.item() == 0
    assert gradient is None or not gradient.any()

    method.quality.weights = {}
    label = random_logits(4).argmax(1)
    assert method.pseudo_label_loss(logits, label, a_batch()).item() == 0


def test_regularisation_reaches_the_masks_and_not_the_judge_or_the_teacher():
    judge = a_judge()
    method, batch = guided(judge), a_batch()
    logits = method._raw(batch.images)[2:]

    loss = method.regularisation(logits, batch)
    learning = [one for one in method._raw.parameters() if one.requires_grad]
    found = torch.autograd.grad(loss, learning, allow_unused=True)

    assert 0 < loss.item() < 1
    assert any(one is not None and bool(one.abs().sum() > 0) for one in found)
    assert all(one is None or bool(torch.isfinite(one).all()) for one in found)
    assert not any(one.requires_grad for one in judge.parameters())
    assert not any(one.requires_grad for one in method._average.parameters())


def test_regularisation_is_one_minus_the_mean_estimate_of_what_is_shown():
    class Told(nn.Module):
        """Estimates .8 of the first class, .2 of the second, whatever it sees."""

        options = QualityNetworkOptions(width=4, side=16)

        def forward(self, seen):
            return torch.tensor([[0.8, 0.2]]) + 0 * seen.mean()

    method, batch = guided(Told()), a_batch()
    logits = torch.full((2, 3, SIDE, SIDE, SIDE), -9.0)
    logits[:, 0] = 9
    logits[0, 1, 4:9, 4:9, 4:9], logits[0, 0, 4:9, 4:9, 4:9] = 9, -9

    only_first = method.regularisation(logits, batch).item()
    logits[1, 2, 4:9, 4:9, 4:9], logits[1, 0, 4:9, 4:9, 4:9] = 9, -9
    both = method.regularisation(logits, batch).item()

    assert only_first == pytest.approx(0.2)
    assert both == pytest.approx((0.2 + 0.8) / 2)


def test_patches_with_little_foreground_are_left_alone():
    method, batch = guided(a_judge()), a_batch()
    logits = torch.zeros(2, 3, SIDE, SIDE, SIDE)
    logits[:, 0] = 9
    logits[:, 1, :7, :7, 0] = 20
    logits.requires_grad_()

    loss = method.regularisation(logits, batch)
    (gradient,) = torch.autograd.grad(loss, logits)

    assert loss.item() == 0
    assert not gradient.any()


def test_regularisation_rests_while_estimates_are_too_good_to_be_true():
    method, clock = guided(a_judge(), stop_gap=0.1), Clock(phase_iteration=9, iteration=9)

    def terms():
        return method.unlabelled_loss(random_logits(), a_batch(), clock)[1]

    assert "quality" in terms()
    method.quality.mean_estimate, method.quality.validation_dice = 0.85, 0.7
    assert "quality" not in terms()
    method.quality.validation_dice = 0.76
    assert "quality" in terms()


def test_weights_of_the_terms_climb_after_their_warm_ups():
    options = QualityGuidedOptions(warmup_fraction=0.1, rampup_fraction=0.2,
                                   quality_warmup=0.5, quality_rampup=0.25)  # fmt: skip
    method = QualityGuided(options, build, 20)
    method._data, method.quality = FakeData(), CaseQuality(a_judge(), weighs=False)
    parts = []
    for iteration in (1, 4, 6, 9, 12):
        clock = Clock(phase_iteration=iteration, iteration=iteration)
        total, terms = method.unlabelled_loss(random_logits(), a_batch(), clock)
        rest = total.item()
        quality = terms.get("quality", torch.zeros(()))
        share = {1: 0.0, 4: 0.125, 6: 0.25, 9: 0.25, 12: 0.25}[iteration]
        rest -= share * terms["pseudo_label"].item()
        parts.append((rest, quality.item()))

    assert [round(rest, 6) for rest, _ in parts[:4]] == [0, 0, 0, 0]
    assert [quality for _, quality in parts[:4]] == [0, 0, 0, 0]
    # (12/20 − .5)/.25 of .01.
    assert parts[4][0] == pytest.approx(0.4 * 0.01 * parts[4][1], abs=1e-6)


def test_without_weights_the_step_is_that_of_supervised_training():
    from SemiSupSegLib.methods.supervised import Supervised, SupervisedOptions

    options = QualityGuidedOptions(unlabelled_weight=0, quality_weight=0)
    method = QualityGuided(options, build, 10)
    method._data, method.quality = FakeData(), CaseQuality(a_judge(), weighs=True)
    plain = Supervised(SupervisedOptions(loss=options.loss), build, 10)
    batch = a_batch()
    alone = Batch(images=batch.images[:2], labels=batch.labels, valid=batch.valid[:2], maps={},
                  case_ids=CASES[:2])  # fmt: skip
    for one in (method._raw, plain._raw):
        one.eval()  # dropout would draw for two patches more

    clock = Clock(phase_iteration=5, iteration=5)
    total, other = method.step(None, batch, clock).total, plain.step(None, alone, clock).total

    torch.testing.assert_close(total, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quality_weight": -0.1}, "quality_weight is -0.1"),
        ({"quality_warmup": 1.5}, "quality_warmup is 1.5"),
        ({"least_voxels": 0}, "least_voxels is 0"),
        ({"stop_gap": -1.0}, "stop_gap is -1.0"),
        ({"unlabelled_per_batch": 0}, "unlabelled_per_batch is 0"),
    ],
)
def test_options_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        QualityGuidedOptions(**changes)


# The quality network's own phases


def test_folds_divide_the_patients_and_not_their_cases():
    folds = folds_of(FakeData(), 4)

    assert sorted(case for fold in folds for case in fold) == ["a1", "a2", "b1", "c1"]
    assert len(folds) == 3
    assert {"a1", "a2"} in [set(fold) for fold in folds]
    assert folds == folds_of(FakeData(), 4)
    assert len(folds_of(FakeData(), 2)) == 2


def test_updates_are_taken_from_the_runs_own():
    options = MeanTeacherOptions(quality=QualityOptions(reweight=True))
    method = Reweighted(MeanTeacher, options, build, 100)

    phases = method.phases(FakeData())

    assert share_iterations(18, [1] * 3) == [6, 6, 6]
    assert [(one.name, one.iterations) for one in phases] == [
        *(("weak_1", 6), ("weak_2", 6), ("weak_3", 6)),
        *(("quality", 22), ("joint", 60)),
    ]
    assert [one.judged for one in phases[:4]] == [()] * 4


def test_a_weak_model_never_learns_from_what_it_predicts():
    data = FakeData(validation=("w1", "x1", "y1", "z1"))
    training = QualityTraining(MeanTeacherOptions(), build, 100)
    predicted = []
    for number, fold in enumerate(folds_of(data, 4)):
        phase = training.phases(data)[number]
        patients = {data.patient(one) for one in phase.labelled_cases}
        assert not patients & {data.patient(one) for one in fold}
        assert set(phase.labelled_cases) | set(fold) == set(data.labelled)
        assert phase.between_at[0] == 0
        assert phase.between_at[-1] == phase.iterations
        predicted.append(phase.between_work // 3 - len(fold))
    # Validation cases are divided between them.
    assert sorted(predicted) == [1, 1, 2]


def test_one_patient_gives_no_weak_models_and_the_same_number_of_updates():
    training = QualityTraining(MeanTeacherOptions(), build, 100)

    phases = training.phases(FakeData(labelled=("a1", "a2")))

    assert [(one.name, one.iterations) for one in phases] == [("quality", 40)]


def test_examples_follow_from_iteration_and_process_alone(tmp_path):
    def batch(iteration, part):
        training = QualityTraining(MeanTeacherOptions(quality=QualityOptions(batch=2)), build, 100)
        data = FakeData()
        data.scratch = tmp_path
        (*_, phase) = training.phases(data)
        return phase.make_batch(iteration, part)

    first, again = batch(3, Part(0, 1)), batch(3, Part(0, 1))
    second_of_two = batch(1, Part(1, 2))

    assert first.images.shape == (2, 3, 32, 32, 32)
    assert first.num_labelled == 0
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.maps["dice"], again.maps["dice"])
    # The fourth part of two processes is what one has in its fourth update.
    assert torch.equal(second_of_two.images, first.images)


def test_the_judge_learns_in_its_own_phase_only():
    options = MeanTeacherOptions(quality=QualityOptions(reweight=True))
    method = Reweighted(MeanTeacher, options, build, 100)
    phases = {one.name: one for one in method.phases(FakeData())}
    network = method.training.network
    own = Batch(images=torch.randn(2, 3, 32, 32, 32), labels=torch.empty((0, 32, 32, 32)),
                valid=torch.ones(2, 32, 32, 32, dtype=torch.bool), case_ids=("x", "x"),
                maps={"dice": torch.rand(2, 2), "weight": torch.ones(2, 2)})  # fmt: skip

    clock = Clock(phase_iteration=0, iteration=50)
    loss = method.step(phases["quality"], own, clock).total
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    method.step(phases["joint"], a_batch(), clock)

    assert all(bool(torch.isfinite(one).all()) for one in gradients)
    assert not any(one.requires_grad for one in network.parameters())


def test_the_state_holds_the_weights_and_the_methods_own_state():
    options = MeanTeacherOptions(quality=QualityOptions(reweight=True))
    method, other = (Reweighted(MeanTeacher, options, build, 100) for _ in range(2))
    method.quality.weights = {"u": [0.1, 0.2, 0.3]}
    method.quality.mean_estimate, method.quality.validation_dice = 0.4, 0.5

    other.load_state(method.state())

    assert other.state() == method.state()
    assert other.quality.weights == {"u": [0.1, 0.2, 0.3]}


def test_methods_are_weighed_if_asked_and_guided_ones_always_have_a_judge():
    plain = find_method("mean_teacher").make(MeanTeacherOptions(), build, 50)
    asked = MeanTeacherOptions(quality=QualityOptions(reweight=True))
    off = QualityGuidedOptions(quality=QualityOptions(reweight=False))

    assert isinstance(plain, MeanTeacher)
    assert isinstance(find_method("mean_teacher").make(asked, build, 50), Reweighted)
    judged = find_method("quality_guided").make(off, build, 50)
    assert isinstance(judged, Reweighted)
    assert not judged.quality.weighs
    assert isinstance(reweighted(MeanTeacher)(MeanTeacherOptions(), build, 50), MeanTeacher)
