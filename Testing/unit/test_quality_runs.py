"""Whole runs with a quality network, on tiny cases: phases, resuming, figures, predicted Dice."""

import sys
import time

import numpy as np
import pytest
import torch

from SemiSupSegLib.errors import StoppedError
from SemiSupSegLib.files import read_json
from SemiSupSegLib.inference.predictor import Predictor
from SemiSupSegLib.models.package import read_package
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.runs.events import read_events
from SemiSupSegLib.training.data import RunData
from SemiSupSegLib.training.run import TrainRequest, train
from SemiSupSegLib.training.trainer import Trainer
from Testing.tiny_runs import are_equal, write_cases

nib = pytest.importorskip("nibabel")

SPLIT = {
    "train_labelled": ["case0", "case1", "case2"],
    "train_unlabelled": ["case3", "case4"],
    "validation": ["case5", "case6"],
}
SETTINGS = {
    "network.options": '{"width": 4, "lite": true}',
    "training.patch_size": "[16, 16, 16]",
    "training.validate_every": "50",
    "training.log_every": "1",
    "training.threads": "1",
    "quality.reweight": "true",
    "quality.floor": "0",
    "quality.weak_share": "0.4",
    "quality.network_share": "0.2",
    "quality.width": "4",
    "quality.side": "16",
    "quality.batch": "2",
}


def a_request(folder, out="run", method="mean_teacher", **settings):
    return TrainRequest(
        cases=folder / "cases",
        out=folder / out,
        task="binary",
        method=method,
        preset="standard",
        split=folder / "split.json",
        iterations=15,
        device="cpu",
        store=folder / "store",
        settings={**SETTINGS, **settings},
    )


def weights_of(run):
    package = read_package(run / "models" / "student")
    return {name: package.weights(name) for name in ("student", "quality")}


@pytest.fixture(scope="module")
def a_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases of quality")
    write_cases(folder, 7, (18, 17, 16), SPLIT)
    return folder


@pytest.fixture(scope="module")
def a_run(a_folder):
    request = a_request(a_folder)
    train(request)
    return request.out


def events_of(run, kind):
    return [one for one in read_events(run / "events.jsonl") if one["kind"] == kind]


def test_the_quality_networks_phases_come_first_and_take_their_updates(a_run):
    (planned,) = events_of(a_run, "planned")

    assert [(one["name"], one["iterations"]) for one in planned["phases"]] == [
        *(("weak_1", 2), ("weak_2", 2), ("weak_3", 2)),
        *(("quality", 3), ("joint", 6)),
    ]


def test_pseudo_labels_are_judged_before_every_tenth_of_the_method(a_run):
    told = events_of(a_run, "quality_estimated")

    assert [one["phase_iteration"] for one in told] == [0, 1, 2, 3, 4, 5]
    for one in told:
        assert 0 < one["mean_estimate"] < 1
        assert len(one["mean_weights"]) == 2
        assert max(one["mean_weights"]) > 0


def test_estimates_are_compared_with_true_dice_on_validation(a_run):
    content = read_json(a_run / "validation" / "quality.json")

    check_format(content, "quality", a_run / "quality.json")
    assert set(content["networks"]) == {"student", "weak"}
    assert content["networks"]["student"]["object"]["n"] == 2
    # Two snapshots in two updates, one model a case.
    assert content["networks"]["weak"]["object"]["n"] == 4
    assert set(content["controls"]) == {"mean", "other", "noise"}
    for kind, every in content["controls"].items():
        by_class = content["controls_by_class"][kind]
        assert {one: by_class[one]["object"]["n"] for one in by_class} == {"student": 2, "weak": 4}
        sums = [one["all"]["n"] * one["all"]["mae"] for one in by_class.values()]
        assert sum(sums) / 6 == pytest.approx(every["mae"], abs=1e-5)
    (told,) = events_of(a_run, "quality_judged")
    assert told["sentence"].startswith("Estimated Dice of the student on validation: mean error")


def test_estimates_are_compared_with_guesses_of_what_weak_models_reached(a_run):
    content = read_json(a_run / "validation" / "quality.json")

    # Of three labelled cases, two snapshots each: too few for a line through their shapes.
    assert set(content["guesses"]) == {"mean_dice"}
    said = {}
    for network, by_class in content["guesses"]["mean_dice"].items():
        dice = [
            one["object"]["dice"] for case in content["cases"].values() for one in case[network]
        ]
        guess = said[network] = np.mean(dice) + by_class["object"]["bias"]
        errors = np.abs(guess - np.array(dice))
        assert by_class["object"]["mae"] == pytest.approx(errors.mean(), abs=1e-5)
    assert said["student"] == pytest.approx(said["weak"], abs=1e-5)
    assert 0 <= said["weak"] <= 1


def test_the_model_holds_the_network_and_what_it_is_worth(a_run):
    package = read_package(a_run / "models" / "student")
    figures = read_json(a_run / "validation" / "quality.json")["networks"]["student"]["all"]

    told = package.manifest["quality"]
    assert told["options"] == {"width": 4, "side": 16}
    assert (told["mae"], told["n"]) == (figures["mae"], 2)
    assert package.has("quality")
    assert not package.has("teacher")


def test_the_model_holds_what_a_case_is_to_be_compared_with(a_run):
    reference = read_package(a_run / "models" / "student").manifest["reference_distribution"]
    cases = read_json(a_run / "validation" / "quality.json")["cases"].values()
    found = [one["student"][0]["object"] for one in cases]

    scores = reference["scores"].get("estimated_dice", [])
    # Of one class, so their mean; a result without it is not judged.
    assert set(scores) <= {one["estimated"] for one in found}
    assert sum(one["dice"] > 0 for one in found) <= len(scores) <= len(found)


def test_a_run_stopped_anywhere_ends_with_the_same_weights_to_the_bit(a_folder, a_run, monkeypatch):
    request = a_request(a_folder, "stopped", **{"training.checkpoint_seconds": "0"})
    predict, attend = RunData.predict, Trainer._attend
    calls = {"predict": 0, "attend": 0}

    def stopping_predict(self, *arguments, **named):
        calls["predict"] += 1
        if calls["predict"] % 9 == 4:
            raise StoppedError("stopped while cases are predicted")
        return predict(self, *arguments, **named)

    def stopping_attend(self, phase, started):
        attend(self, phase, started)
        calls["attend"] += 1
        if calls["attend"] % 5 == 2 and self._position.phase_iteration < phase.iterations:
            raise StoppedError("stopped between updates")

    monkeypatch.setattr(RunData, "predict", stopping_predict)
    monkeypatch.setattr(Trainer, "_attend", stopping_attend)
    stops = 0
    while True:
        try:
            train(request)
            break
        except StoppedError:
            stops += 1
            assert stops < 40

    assert stops > 5
    assert are_equal(weights_of(a_run), weights_of(request.out))
    former, own = (events_of(run, "quality_estimated")[-1] for run in (a_run, request.out))
    assert own["mean_weights"] == former["mean_weights"]


def test_weights_of_the_cases_change_what_is_learnt(a_folder, a_run):
    request = a_request(a_folder, "strict", **{"quality.floor": "0.99"})

    train(request)

    strict, own = weights_of(request.out), weights_of(a_run)
    assert are_equal({"quality": strict["quality"]}, {"quality": own["quality"]})
    assert not are_equal(strict, own)
    assert events_of(request.out, "quality_estimated")[-1]["cases_without_weight"] == 2


def test_a_prediction_tells_the_estimated_dice(a_run, a_folder):
    from SemiSupSegLib.cases.discovery import discover
    from SemiSupSegLib.options import from_json
    from SemiSupSegLib.preparation.options import PreparationOptions
    from SemiSupSegLib.preparation.prepare import prepare_case

    package = read_package(a_run / "models" / "student")
    case = next(
        one for one in discover(a_folder / "cases", package.task).cases if one.id == "case5"
    )
    prepared = prepare_case(
        case, package.task, from_json(PreparationOptions, package.manifest["preparation"])
    )

    predictor = Predictor(package, device=torch.device("cpu"))
    maps = predictor.predict(prepared)

    assert not any("estimated_dice" in one for one in maps.warnings)
    (name, value) = next(iter(maps.estimated_dice.items()))
    assert name == "object"
    if (maps.label == 1).any():
        # What the run found of the same case with the same masks, up to patches' overlap.
        told = read_json(a_run / "validation" / "quality.json")["cases"]["case5"]
        assert value == pytest.approx(told["student"][0]["object"]["estimated"], abs=0.02)
    else:
        assert value is None


def test_the_panel_is_told_the_estimated_dice_as_case_json_tells_it(a_run, a_folder, tmp_path):
    from SemiSupSegLib.cases.discovery import discover
    from SemiSupSegLib.workers.job import JobFolder, PredictRequest
    from SemiSupSegLib.workers.runner import JobRunner

    model = a_run / "models" / "student"
    cases = discover(a_folder / "cases", read_package(model).task).cases
    (channels,) = [one.channels for one in cases if one.id == "case5"]
    PredictRequest(
        case="case5", model=str(model), channels=channels, results=tmp_path, device="cpu"
    ).write(JobFolder(tmp_path / "job"))
    runner = JobRunner(sys.executable, tmp_path / "logs")
    try:
        job = runner.predict(tmp_path / "job")
        end = time.monotonic() + 300
        while not job.is_ended and time.monotonic() < end:
            runner.poll()
            time.sleep(0.02)
    finally:
        runner.close()

    told = read_json(job.folder.result_json)
    check_format(told, "job-result", job.folder.result_json)
    saved = read_json(tmp_path / "case5" / "case.json")["estimated_dice"]
    assert list(told["estimated_dice"]) == list(saved) == ["object"]
    assert told["estimated_dice"]["object"] == pytest.approx(saved["object"], abs=1e-6)


@pytest.mark.parametrize(
    "settings",
    [{"quality.reweight": "true"}, {"pseudo_labels.image_confidence": "quality",
                                    "quality.reweight": "false"}],
    ids=["weighs", "ranks"],
)  # fmt: skip
def test_the_curriculum_weighs_or_ranks_its_cases_by_estimated_dice(a_folder, settings, request):
    name = request.node.callspec.id
    short = {"teacher_share": "4", "stage_share": "1", "head_share": "1", "fractions": "[0.5, 1.0]",
             "pseudo_labels.passes": "1", "copy_paste": "0.5"}  # fmt: skip
    run = a_request(a_folder, f"curriculum {name}", "curriculum", **{**short, **settings})

    train(run)

    scores = read_json(run.out / "stages" / "teacher" / "scores.json")
    told = events_of(run.out, "quality_estimated")
    assert {one["phase"] for one in told} == {"stage_1", "stage_2"}
    for case_id in SPLIT["train_unlabelled"]:
        (estimated,) = scores["estimated_dice"][case_id]
        ranked_by = scores["image_confidence"][case_id]
        if name == "ranks":
            assert ranked_by == (estimated or 0.0)
        else:
            assert ranked_by != estimated
    if name == "weighs":
        by_case = [one[0] or 0.0 for one in scores["estimated_dice"].values()]
        assert told[0]["mean_weights"][1] == pytest.approx(np.mean(np.square(by_case)), abs=1e-5)
