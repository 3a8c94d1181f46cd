"""`predict`: from a folder of files to a folder of results."""

import json

import nibabel
import numpy as np
import pytest
import torch

from SemiSupSegLib.__main__ import main
from SemiSupSegLib.cases.discovery import discover
from SemiSupSegLib.cases.task import Channel, Class, Region, Task
from SemiSupSegLib.inference import predictor as predictor_module
from SemiSupSegLib.models import registry
from SemiSupSegLib.models.package import read_package, write_package
from SemiSupSegLib.networks.catalogue import build_network
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.review.record import ReviewRecord
from SemiSupSegLib.review.results import find_again
from SemiSupSegLib.review.training_label import save_training_label

TASK = Task(
    name="toy",
    title="Toy",
    channels=(Channel(name="t1"), Channel(name="t2")),
    classes=(
        Class(name="shell", values=(2,), color=(0, 255, 0)),
        Class(name="core", values=(4, 3), color=(255, 0, 0)),
    ),
    regions=(Region(name="all", classes=("shell", "core")),),
)
COSINE, SINE = np.cos(0.2), np.sin(0.2)
AFFINE = np.array(
    [
        [-1.0 * COSINE, 1.17 * SINE, 0.0, 12.5],
        [1.0 * SINE, 1.17 * COSINE, 0.0, -7.25],
        [0.0, 0.0, 2.0, 3.0],
        [0.0, 0.0, 0.0, 1.0],
    ],
    np.float32,
)
STANDARD = {"label", "pseudolabel", "uncertainty", "confidence", "agreement", "second", "regions"}
ALL = STANDARD | {"sure", "possible", "comparison"}


def a_model(folder, *, teacher=True, spacing=(1.0, 1.17, 2.0)):
    def weights(seed):
        torch.manual_seed(seed)
        network = build_network(
            "transaspp", {"width": 8, "lite": True}, in_channels=2, num_classes=3
        )
        return {key: value.numpy() for key, value in network.state_dict().items()}

    manifest = {
        "name": "toy",
        "task": TASK.to_json(),
        "network": {
            "name": "transaspp",
            "options": {"width": 8, "lite": True},
            "in_channels": 2,
            "num_classes": 3,
            "patch_size": [16, 16, 16],
        },
        "method": "curriculum",
        # The first axis follows left-right, and so on.
        "preparation": {"spacing": list(spacing), "mask": "nonzero"},
        "library": {"version": "0"},
    }
    made = {"student": weights(0), **({"teacher": weights(1)} if teacher else {})}
    return write_package(folder / "model", manifest=manifest, weights=made, card="toy").folder


def a_case(folder, name, channels=("t1", "t2"), seed=0):
    draw = np.random.default_rng(seed)
    (folder / name).mkdir(parents=True)
    for channel in channels:
        values = np.zeros((20, 18, 22), np.int16)
        values[2:18, 3:16, 2:20] = draw.integers(1, 400, (16, 13, 18))
        image = nibabel.Nifti1Image(values, AFFINE)
        image.set_sform(AFFINE, 1)
        image.set_qform(AFFINE, 1)
        nibabel.save(image, folder / name / f"{channel}.nii.gz")


@pytest.fixture(autouse=True)
def a_home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISUPSEG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SEMISUPSEG_MODELS", raising=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return a_model(tmp_path_factory.mktemp("model"))


def predict(*words):
    return main(["predict", *map(str, words), "--device", "cpu"])


def suffixes(folder):
    name = folder.name
    return {file.name[len(name) + 1 : -len(".nii.gz")] for file in folder.glob("*.nii.gz")}


def test_a_folder_of_cases_becomes_a_folder_of_results(model, tmp_path, capsys):
    a_case(tmp_path / "cases", "one")
    a_case(tmp_path / "cases", "two", seed=1)

    code = predict("--model", model, "--cases", tmp_path / "cases", "--out", tmp_path / "out")

    assert code == 0
    assert "2 predicted, 0 failed" in capsys.readouterr().out
    for name in ("one", "two"):
        assert suffixes(tmp_path / "out" / name) == STANDARD
        assert not list((tmp_path / "out" / name).glob(".*"))


def test_the_review_regions_of_list_and_map_are_found_again_from_the_files(model, tmp_path):
    a_case(tmp_path / "cases", "one")

    predict("--model", model, "--case", tmp_path / "cases" / "one", "--out", tmp_path)

    content = json.loads((tmp_path / "one" / "case.json").read_text())
    check_format(content, "case-result", "case.json")
    assert content["review"]["fitted"] is False
    assert content["review_regions"]
    regions = np.asanyarray(nibabel.load(tmp_path / "one" / "one_regions.nii.gz").dataobj)
    ids = [one["id"] for one in content["review_regions"]]
    assert sorted(set(np.unique(regions)) - {0}) == ids
    found, listed = find_again(tmp_path / "one", 0.5)
    # NIfTI's axes are those of the array in reverse.
    np.testing.assert_array_equal(found.map.transpose(2, 1, 0), regions)
    assert listed.to_json()["regions"] == content["review_regions"]
    assert listed.to_json()["review"] == content["review"]


def test_results_lie_on_the_inputs_grid_with_its_affine(model, tmp_path):
    a_case(tmp_path / "cases", "one")

    predict(
        "--model", model, "--case", tmp_path / "cases" / "one", "--out", tmp_path, "--maps", "all"
    )

    assert suffixes(tmp_path / "one") == ALL
    given = nibabel.load(tmp_path / "cases" / "one" / "t1.nii.gz")
    for file in (tmp_path / "one").glob("*.nii.gz"):
        made = nibabel.load(file)
        assert made.shape == given.shape
        assert np.array_equal(made.affine, given.affine)
    label = np.asanyarray(nibabel.load(tmp_path / "one" / "one_label.nii.gz").dataobj)
    assert set(np.unique(label)) <= {0, 2, 4}
    confidence = nibabel.load(tmp_path / "one" / "one_confidence.nii.gz")
    assert confidence.get_data_dtype() == np.uint8
    assert confidence.get_fdata().max() == pytest.approx(1)


def test_case_json_follows_its_schema_and_names_the_model(model, tmp_path):
    a_case(tmp_path / "cases", "one")

    predict("--model", model, "--cases", tmp_path / "cases", "--out", tmp_path / "out")

    content = json.loads((tmp_path / "out" / "one" / "case.json").read_text())
    check_format(content, "case-result", "case.json")
    assert content["case"] == "one"
    assert content["model_name"] == read_package(model).name
    assert set(content["volumes_ml"]) == {"shell", "core", "all"}
    assert set(content["confidence"]) == {"image", "shell", "core"}
    assert content["unlike_training"] == {"judged": False, "reasons": []}
    assert set(content["teacher_student_dice"]) == {"shell", "core", "all"}
    label = np.asanyarray(nibabel.load(tmp_path / "out" / "one" / "one_label.nii.gz").dataobj)
    voxel_ml = abs(np.linalg.det(AFFINE[:3, :3])) / 1000
    assert content["volumes_ml"]["core"]["value"] == pytest.approx(
        (label == 4).sum() * voxel_ml, rel=1e-4
    )


def test_a_case_that_cannot_be_read_is_reported_and_the_others_go_on(model, tmp_path, capsys):
    a_case(tmp_path / "cases", "one")
    a_case(tmp_path / "cases", "two")
    whole = (tmp_path / "cases" / "two" / "t2.nii.gz").read_bytes()
    (tmp_path / "cases" / "two" / "t2.nii.gz").write_bytes(whole[: len(whole) // 2])
    a_case(tmp_path / "cases", "three", channels=("t1",))
    a_case(tmp_path / "cases", "zebra")

    code = predict("--model", model, "--cases", tmp_path / "cases", "--out", tmp_path / "out")

    streams = capsys.readouterr()
    assert code == 1
    assert sorted(path.name for path in (tmp_path / "out").glob("*/case.json")) == ["case.json"] * 2
    assert "2 predicted, 2 failed" in streams.out
    assert "[1 of 3] one:" in streams.out
    assert "[3 of 3] zebra:" in streams.out
    assert "two: not predicted" in streams.err
    assert "three: not predicted" in streams.err
    assert not (tmp_path / "out" / "two" / "case.json").exists()


@pytest.mark.parametrize(
    ("value", "message"), [(0, "is empty: every voxel is 0"), (9, "has 9 in every voxel")]
)
def test_an_image_without_content_is_reported_and_the_others_go_on(
    model, tmp_path, capsys, value, message
):
    a_case(tmp_path / "cases", "one")
    a_case(tmp_path / "cases", "two")
    file = tmp_path / "cases" / "one" / "t1.nii.gz"
    shape = nibabel.load(file).shape
    nibabel.save(nibabel.Nifti1Image(np.full(shape, value, np.int16), AFFINE), file)

    code = predict("--model", model, "--cases", tmp_path / "cases", "--out", tmp_path / "out")

    streams = capsys.readouterr()
    assert code == 1
    assert "1 predicted, 1 failed" in streams.out
    assert f"one: not predicted. Case one: t1.nii.gz (channel t1) {message}" in streams.err
    assert not (tmp_path / "out" / "one").exists()
    assert (tmp_path / "out" / "two" / "case.json").is_file()


def test_warnings_about_the_images_are_told_once_a_kind_and_kept_with_each_case(
    model, tmp_path, capsys
):
    for name in ("one", "two"):
        a_case(tmp_path / "made", name)
        for index, channel in enumerate(("t1", "t2")):
            file = tmp_path / "cases" / f"{name}_{index:04}.nii.gz"
            file.parent.mkdir(exist_ok=True)
            (tmp_path / "made" / name / f"{channel}.nii.gz").rename(file)

    code = predict("--model", model, "--cases", tmp_path / "cases", "--out", tmp_path / "out")

    finding = (
        "channels are numbered without names; the task's order was assumed (t1, t2). "
        "Check it, or name them in a dataset.json ('channel_names')."
    )
    told = [line for line in capsys.readouterr().err.splitlines() if "assumed" in line]
    assert code == 0
    assert told == [f"Warning, 2 cases, such as one: {finding}"]
    for name in ("one", "two"):
        content = json.loads((tmp_path / "out" / name / "case.json").read_text())
        assert content["warnings"].count(finding) == 1


def test_a_repaired_grid_is_told_once(model, tmp_path, capsys, caplog):
    a_case(tmp_path / "cases", "one")
    file = tmp_path / "cases" / "one" / "t2.nii.gz"
    image = nibabel.load(file)
    nibabel.save(nibabel.Nifti1Image(image.get_fdata()[:-2], image.affine), file)

    code = predict("--model", model, "--cases", tmp_path / "cases", "--out", tmp_path / "out")

    content = json.loads((tmp_path / "out" / "one" / "case.json").read_text())
    assert code == 0
    assert [one for one in content["warnings"] if "another grid" in one] == [
        "t2.nii.gz lies on another grid than the first channel (other size) and was resampled."
    ]
    assert (caplog.text + capsys.readouterr().err).count("another grid") == 1


def test_findings_about_labels_do_not_keep_a_case_from_being_predicted(model, tmp_path, capsys):
    a_case(tmp_path / "cases", "one")
    image = tmp_path / "cases" / "one" / "t1.nii.gz"
    for name in ("one_seg", "one_label"):
        (tmp_path / "cases" / "one" / f"{name}.nii.gz").write_bytes(image.read_bytes())

    (case,) = discover(tmp_path / "cases", TASK).cases
    code = predict("--model", model, "--cases", tmp_path / "cases", "--out", tmp_path / "out")

    assert case.state.value == "unusable"
    assert case.reasons[0].code == "doubled_label"
    assert code == 0
    assert "label" not in capsys.readouterr().err
    content = json.loads((tmp_path / "out" / "one" / "case.json").read_text())
    assert not any("label" in warning for warning in content["warnings"])


def test_why_a_case_is_not_predicted_is_said_in_whole_sentences(model, tmp_path, capsys):
    a_case(tmp_path / "cases", "one")
    a_case(tmp_path / "cases", "two", channels=("t1",))

    predict("--model", model, "--cases", tmp_path / "cases", "--out", tmp_path / "out")

    assert (
        "two: not predicted. no file is named as channel t2. Add a file whose name ends with t2.\n"
        in capsys.readouterr().err
    )


def test_on_another_spacing_no_voxel_outside_the_mask_is_touched(tmp_path):
    model = a_model(tmp_path, spacing=[1.6, 1.6, 1.6])
    a_case(tmp_path / "cases", "one")

    out = tmp_path / "out"
    assert predict("--model", model, "--case", tmp_path / "cases" / "one", "--out", out) == 0

    image = nibabel.load(tmp_path / "cases" / "one" / "t1.nii.gz").get_fdata()
    other = nibabel.load(tmp_path / "cases" / "one" / "t2.nii.gz").get_fdata()
    outside = (image == 0) & (other == 0)
    maps = {name: nibabel.load(out / "one" / f"one_{name}.nii.gz").get_fdata() for name in STANDARD}
    assert maps["uncertainty"][~outside].any()
    for name in ("label", "pseudolabel", "uncertainty"):
        assert not maps[name][outside].any(), name
    for name in ("confidence", "agreement"):
        assert maps[name][outside] == pytest.approx(1), name


def test_a_case_of_one_file_is_called_by_its_folder(tmp_path):
    model = a_model(tmp_path)
    a_case(tmp_path, "twin")
    channels = [nibabel.load(tmp_path / "twin" / f"{name}.nii.gz") for name in ("t1", "t2")]
    (tmp_path / "four").mkdir()
    nibabel.save(
        nibabel.Nifti1Image(np.stack([one.dataobj for one in channels], -1), AFFINE),
        tmp_path / "four" / "image.nii.gz",
    )

    assert predict("--model", model, "--case", tmp_path / "four", "--out", tmp_path / "out") == 0
    assert suffixes(tmp_path / "out" / "four") == STANDARD


def test_a_registered_model_is_found_by_its_name_and_as_the_default(model, tmp_path, capsys):
    a_case(tmp_path / "cases", "one")
    registry.register(model, "first")
    registry.register(model, "ward")
    words = ["--cases", tmp_path / "cases", "--out", tmp_path / "out"]

    assert predict("--model", "ward", *words) == 0
    assert predict(*words) == 0
    assert predict("--model", "wart", *words) == 2
    assert "There is no model 'wart'. Registered: first, ward." in capsys.readouterr().err


def test_without_any_model_the_option_is_asked_for(tmp_path, capsys):
    assert predict("--cases", tmp_path, "--out", tmp_path / "out") == 2
    assert "Say which one with --model" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_told_before_anything_is_predicted(
    model, tmp_path, capsys
):
    a_case(tmp_path / "cases", "one")
    (tmp_path / "file").write_text("no folder")

    code = predict(
        "--model", model, "--cases", tmp_path / "cases", "--out", tmp_path / "file" / "out"
    )

    streams = capsys.readouterr()
    assert code == 1
    assert f"Nothing can be written to the folder {tmp_path / 'file' / 'out'}" in streams.err
    assert "Traceback" not in streams.err
    assert "Model toy" not in streams.out


def test_results_are_not_written_among_the_images(model, tmp_path, capsys):
    a_case(tmp_path / "cases", "one")
    a_case(tmp_path / "cases", "two", seed=1)
    cases = tmp_path / "cases"

    for words in (("--cases", cases), ("--case", cases / "two")):
        assert predict("--model", model, *words, "--out", cases) == 2
        assert "among its images" in capsys.readouterr().err

    assert len(discover(cases, TASK).cases) == 2
    assert not list(cases.rglob("case.json"))


def test_a_folder_of_one_case_with_other_channels_is_told_what_it_lacks(model, tmp_path, capsys):
    a_case(tmp_path, "one", channels=("mri", "seg"))

    code = predict("--model", model, "--case", tmp_path / "one", "--out", tmp_path / "out")

    told = capsys.readouterr().err
    assert code == 1
    assert "one: not predicted. no file is named as channel t1." in told
    assert "holds 2 cases" not in told


def test_a_second_run_replaces_the_maps_and_leaves_reviews_alone(model, tmp_path):
    a_case(tmp_path / "cases", "one")
    words = ["--model", model, "--cases", tmp_path / "cases", "--out", tmp_path / "out"]
    predict(*words, "--maps", "all", "--probabilities")
    review = tmp_path / "out" / "one" / "review.jo.jsonl"
    review.write_text("{}\n")
    assert suffixes(tmp_path / "out" / "one") == ALL | {"prob_shell", "prob_core"}

    predict(*words)

    assert suffixes(tmp_path / "out" / "one") == STANDARD
    assert review.read_text() == "{}\n"


def test_visits_of_two_patients_become_two_results(model, tmp_path):
    for patient in ("P1", "P2"):
        a_case(tmp_path / patient, "2020-01-01")
        case = tmp_path / patient / "2020-01-01"
        assert predict("--model", model, "--case", case, "--out", tmp_path / "out") == 0

    results = {folder.name for folder in (tmp_path / "out").iterdir()}
    assert results == {"P1_2020-01-01", "P2_2020-01-01"}


def test_the_result_of_other_images_is_not_replaced(model, tmp_path, capsys):
    words = ["--model", model, "--out", tmp_path / "out", "--case"]
    a_case(tmp_path / "first", "same")
    a_case(tmp_path / "second", "same", seed=1)
    predict(*words, tmp_path / "first" / "same")
    before = {file: file.read_bytes() for file in (tmp_path / "out" / "same").iterdir()}

    code = predict(*words, tmp_path / "second" / "same")

    assert code == 1
    assert "holds the result of other images" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in (tmp_path / "out" / "same").iterdir()} == before


def test_a_review_of_a_result_finds_its_images_under_another_name(model, tmp_path):
    a_case(tmp_path / "cases", "one")
    a_case(tmp_path / "cases", "two", seed=1)
    out = tmp_path / "out"
    predict("--model", model, "--cases", tmp_path / "cases", "--out", out)
    label = out / "one" / "one_label.nii.gz"
    label.rename(out / "one" / "one_reviewed.nii.gz")
    (tmp_path / "cases" / "one").rename(tmp_path / "cases" / "renamed")

    cases = discover(tmp_path / "cases", read_package(model).task, reviews=out).cases

    assert {case.id: case.state.value for case in cases} == {
        "renamed": "reviewed",
        "two": "unlabelled",
    }


def test_a_new_prediction_leaves_reviews_and_reviewed_labels_alone(model, tmp_path):
    a_case(tmp_path / "cases", "one")
    words = ("--model", model, "--cases", tmp_path / "cases", "--out", tmp_path / "out")
    predict(*words)
    folder = tmp_path / "out" / "one"
    content = json.loads((folder / "case.json").read_text())
    record = ReviewRecord.begin(
        folder,
        "ann",
        case="one",
        task=TASK,
        shape=(22, 18, 20),
        label_file=folder / "one_label.nii.gz",
        regions=content["review_regions"],
        regions_file=folder / "one_regions.nii.gz",
        model_sha256=content["model_sha256"],
    )
    record.give_verdict("accepted")
    save_training_label(record)
    kept = [*folder.glob("review.*"), *folder.glob("one_reviewed*")]
    before = {file.name: file.read_bytes() for file in kept}

    predict(*words)

    assert len(before) == 6
    assert {file.name: file.read_bytes() for file in kept} == before
    assert not ReviewRecord.open(folder, "ann").is_of_other_result


def test_a_result_that_fails_half_way_leaves_the_former_one(model, tmp_path, monkeypatch):
    a_case(tmp_path / "cases", "one")
    words = ["--model", model, "--cases", tmp_path / "cases", "--out", tmp_path / "out"]
    predict(*words)
    before = {path: path.read_bytes() for path in (tmp_path / "out" / "one").iterdir()}

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("SemiSupSegLib.inference.writing.write_volume", fail)
    code = predict(*words)

    assert code == 1
    assert {path: path.read_bytes() for path in (tmp_path / "out" / "one").iterdir()} == before


def test_a_model_without_a_teacher_writes_no_teacher_maps_and_says_so(tmp_path):
    a_case(tmp_path / "cases", "one")
    model = a_model(tmp_path, teacher=False)

    predict(
        "--model", model, "--cases", tmp_path / "cases", "--out", tmp_path / "out", "--maps", "all"
    )

    content = json.loads((tmp_path / "out" / "one" / "case.json").read_text())
    assert suffixes(tmp_path / "out" / "one") == ALL - {"pseudolabel", "agreement", "comparison"}
    assert "teacher_student_dice" not in content
    assert any("no teacher" in warning for warning in content["warnings"])


def test_a_programming_error_in_one_case_does_not_end_the_others(
    model, tmp_path, monkeypatch, capsys
):
    a_case(tmp_path / "cases", "one")
    a_case(tmp_path / "cases", "two", seed=1)
    plain = predictor_module.Predictor.predict

    def fails_on_one(self, prepared, **options):
        if prepared.id == "one":
            raise RuntimeError("surprise")
        return plain(self, prepared, **options)

    monkeypatch.setattr(predictor_module.Predictor, "predict", fails_on_one)
    code = predict("--model", model, "--cases", tmp_path / "cases", "--out", tmp_path / "out")

    assert code == 1
    assert "1 predicted, 1 failed" in capsys.readouterr().out
    assert (tmp_path / "out" / "two" / "case.json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--overlap", "1"], "--overlap is 1.0"),
        (["--passes", "0"], "--passes is 0"),
        (["--cases", "nowhere"], "nowhere is not a folder"),
        (["--task", "binary"], "other channels than the model"),
    ],
)
def test_wrong_options_are_refused_with_their_value(model, tmp_path, words, message, capsys):
    a_case(tmp_path / "cases", "one")
    given = {"--model": model, "--cases": tmp_path / "cases", "--out": tmp_path / "out"}
    given.update({words[0]: words[1]})

    code = predict(*[word for pair in given.items() for word in pair])

    assert code == 2
    assert message in capsys.readouterr().err


def test_a_device_that_is_not_there_is_refused(model, tmp_path, capsys):
    a_case(tmp_path / "cases", "one")

    words = {"--model": model, "--cases": tmp_path / "cases", "--out": tmp_path / "out"}
    given = [str(word) for pair in words.items() for word in pair]
    code = main(["predict", *given, "--device", "cuda:99"])

    assert code == 2
    assert "cuda:99" in capsys.readouterr().err
