"""What the curriculum plans with the cases it has, and what it refuses."""

from types import SimpleNamespace

import numpy as np
import pytest

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
        unlabelled=unlabelled,
        validation=("d",),
        told=told,
        tell=lambda kind, **values: told.append(values["message"]),
        count_windows=lambda case_ids: 10 * len(case_ids),
    )


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        ({}, [190, 10, 10, 10, 10, 20]),
        ({"refinement": "off", "uncertainty": "mc", "temperature": "none"}, [160, 0, 0, 0, 0, 0]),
        ({"refinement": "repredict", "passes": 3}, [90, 150, 150, 150, 150, 300]),
    ],
)
def test_predictions_before_the_stages_are_planned_work(options, stages):
    """20 windows: 8 passes and the head's one to score, one to refine (6 + 8 more to repredict);
    10 windows of a validation case to fit the temperature. A stage has whole cases, one at least:
    0.2, 0.4, 0.6 and 0.8 of two are one."""
    phases = a_method(pseudo_labels=PseudoLabelOptions(**options)).phases(some_data())
    distil = (max(2, options.get("passes", 8)) + 1) * 4

    assert [phase.prologue_work for phase in phases if phase.stage] == stages
    assert phases[0].work_per_update == 6
    assert phases[1].work_per_update == distil
    assert phases[2].work_per_update == 12


def test_without_unlabelled_cases_no_phase_draws_any():
    none, empty = a_method(unlabelled="none"), a_method()

    for method, data in ((none, some_data()), (empty, some_data(unlabelled=()))):
        assert {phase.unlabelled_per_batch for phase in method.phases(data)} == {0}


def test_a_finish_on_labelled_cases_alone_goes_on_with_the_stages_schedule():
    """Shares 10, 0, 6 x 10, 30, 0 of 100 updates; the schedule spans stages and finish."""
    method = a_method(teacher_share=10, stage_share=10, finish_share=30, head_share=0)

    phases = {phase.name: phase for phase in method.phases(some_data())}

    finish = phases["finish"]
    assert finish.iterations == 30
    assert (finish.labelled_per_batch, finish.unlabelled_per_batch) == (2, 0)
    assert finish.continues
    assert phases["stage_1"].group.schedule_length == finish.group.schedule_length == 90
    assert finish.group.schedule_start == 60
    assert "finish" not in {phase.name for phase in a_method().phases(some_data())}


@pytest.mark.parametrize(
    ("spans", "teacher", "last_stage"),
    [("run", (0, 100), (90, 100)), ("network", (0, 40), (50, 60)), ("stage", (0, 40), (0, 10))],
)
def test_a_schedule_spans_the_run_a_network_or_a_stage(spans, teacher, last_stage):
    """Shares 40, 0, 6 x 10, 0, 0 of 100 updates."""
    method = a_method(teacher_share=40, stage_share=10, head_share=0, schedule_spans=spans)

    phases = {phase.name: phase.group for phase in method.phases(some_data())}

    for name, expected in (("teacher", teacher), ("stage_6", last_stage)):
        group = phases[name]
        assert (group.schedule_start, group.schedule_length) == expected


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
