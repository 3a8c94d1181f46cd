"""What the curriculum plans with the cases it has, and what it refuses."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.losses.supervised import SupervisedLossOptions
from SemiSupSegLib.methods.curriculum import Curriculum, CurriculumOptions
from SemiSupSegLib.methods.protocol import NetworkOptions
from SemiSupSegLib.methods.pseudo_labels import PseudoLabelOptions
from SemiSupSegLib.methods.supervised import class_weights
from SemiSupSegLib.networks.catalogue import build_network

SMALL = NetworkOptions(options={"width": 4, "lite": True})
NO_DROPOUT = NetworkOptions(name="vnet", options={"width": 2, "dropout": False})


def a_method(**options):
    chosen = CurriculumOptions(**{"network": SMALL, **options})
    network = chosen.network
    return Curriculum(
        chosen,
        lambda name: build_network(network.name, network.options, in_channels=1, num_classes=2),
        iterations=100,
    )


def some_data(unlabelled=("b", "c")):
    told = []
    return SimpleNamespace(
        unlabelled=unlabelled, told=told, tell=lambda kind, **values: told.append(values["message"])
    )


def test_without_unlabelled_cases_no_phase_draws_any():
    none, empty = a_method(unlabelled="none"), a_method()

    for method, data in ((none, some_data()), (empty, some_data(unlabelled=()))):
        assert {phase.unlabelled_per_batch for phase in method.phases(data)} == {0}


@pytest.mark.parametrize(("mode", "warns"), [("subtract", True), ("subtract_clipped", False)])
def test_unlearning_without_a_bound_comes_with_a_warning(mode, warns):
    data = some_data()

    a_method(low_mode=mode).phases(data)

    assert any("no lower bound" in message for message in data.told) == warns


def test_class_weights_are_counted_over_the_labelled_cases():
    """Of 10 known voxels 8 are background: frequencies 0.8 and 0.2, their median 0.5."""
    labels = {
        "a": np.array([[[0, 0, 0, 0, 0, 1]]], np.uint8),
        "b": np.array([[[0, 0, 0, 1, 255, 255]]], np.uint8),
    }
    data = SimpleNamespace(
        task=SimpleNamespace(num_classes=3),
        labelled=("a", "b"),
        label=labels.__getitem__,
        each=lambda case_ids, what: case_ids,
    )

    inverse = class_weights(data, SupervisedLossOptions(class_weights="inverse"))
    root = class_weights(data, SupervisedLossOptions(class_weights="sqrt"))

    assert inverse.tolist() == pytest.approx([0.625, 2.5, 0])
    assert root.tolist() == pytest.approx([0.625**0.5, 2.5**0.5, 0])
    assert class_weights(data, SupervisedLossOptions()) is None


def test_comparing_passes_needs_passes_that_differ():
    with pytest.raises(ValueError, match="compares passes, but passes is 1"):
        PseudoLabelOptions(image_confidence="pass_dice", passes=1)
    with pytest.raises(UsageError, match="network without dropout"):
        a_method(network=NO_DROPOUT, pseudo_labels=PseudoLabelOptions(image_confidence="pass_dice"))


def test_a_quantile_that_trusts_no_voxel_is_refused():
    with pytest.raises(ValueError, match="quantile is 1"):
        PseudoLabelOptions(threshold_mode="class_quantile", quantile=1)


def test_a_student_that_goes_on_shares_the_teachers_schedule_and_memory():
    """Of 100 updates 42 are the teacher's, 4 each head's, 8 or 9 each stage's."""
    options = {"teacher_share": 42.0, "head_share": 4.0, "stage_share": 25 / 3}
    phases = a_method(student_init="continue", **options).phases(some_data())
    learning = [phase for phase in phases if "distil" not in phase.name]

    assert [phase.name for phase in learning] == ["teacher", *(f"stage_{n}" for n in range(1, 7))]
    assert {phase.group.schedule_length for phase in learning} == {92}
    starts = [phase.group.schedule_start for phase in learning]
    assert starts == [sum(one.iterations for one in learning[:n]) for n in range(7)]
    assert [phase.continues for phase in learning] == ["", *(one.name for one in learning[:-1])]


def test_a_student_that_goes_on_has_no_schedule_of_its_own():
    with pytest.raises(ValueError, match="restart_schedule is true"):
        CurriculumOptions(student_init="continue", restart_schedule=True)


def test_a_student_that_goes_on_has_the_teachers_last_weights_and_average():
    method = a_method(student_init="continue")
    teacher_phase = method.phases(some_data())[0]
    networks = method.networks()
    with torch.no_grad():
        for parameter in networks["teacher_raw"].parameters():
            parameter.add_(1)
    teacher_phase.epilogue()

    for one, other in (("student_raw", "teacher_raw"), ("student", "teacher")):
        ours, theirs = networks[one].state_dict(), networks[other].state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    first = next(iter(networks["student"].parameters()))
    assert not torch.equal(first, next(iter(networks["student_raw"].parameters())))
