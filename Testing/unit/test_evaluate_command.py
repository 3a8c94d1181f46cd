import json

import numpy as np
import pytest
import SimpleITK as sitk

from SemiSupSegLib.__main__ import main
from SemiSupSegLib.cases.task import load_task

SIZE = (12, 14, 16)
SPACING = (1.0, 1.5, 2.0)
ORIGIN = (10.0, -20.0, 30.0)
DIRECTION = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
TUMOUR = (slice(4, 10), slice(4, 10), slice(3, 9))
"""D, H, W."""


def write(path, array, spacing=SPACING, origin=ORIGIN):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(DIRECTION)
    sitk.WriteImage(image, str(path))


def a_label():
    label = np.zeros(SIZE[::-1], dtype=np.uint8)
    label[TUMOUR] = 2
    label[5:8, 5:8, 4:7] = 1
    label[5, 5, 4] = 4
    return label


def an_image():
    image = np.zeros(SIZE[::-1], dtype=np.float32)
    image[1:-1, 1:-1, 1:-1] = np.random.default_rng(0).uniform(1, 5, (14, 12, 10))
    return image


def add_case(folder, name, label=None, spacing=SPACING):
    for channel in ("t1", "t1ce", "t2", "flair"):
        write(folder / name / f"{name}_{channel}.nii.gz", an_image())
    if label is not None:
        write(folder / name / f"{name}_seg.nii.gz", label, spacing)


def add_prediction(folder, name, label, pseudo_label=None, confidence=None, task=None, **maps):
    write(folder / name / f"{name}_label.nii.gz", label)
    if pseudo_label is not None:
        write(folder / name / f"{name}_pseudolabel.nii.gz", pseudo_label)
    for kind, values in maps.items():
        write(folder / name / f"{name}_{kind}.nii.gz", values.astype(np.float32))
    if confidence is not None:
        content = {
            "format": "semisupseg-case-result",
            "version": 1,
            "case": name,
            "model_sha256": "0" * 64,
            "inputs": {},
            "volumes_ml": {},
            "confidence": {"image": confidence, "edema": confidence},
            "warnings": [],
            **({} if task is None else {"task": load_task(task).to_json()}),
        }
        (folder / name / "case.json").write_text(json.dumps(content))


@pytest.fixture
def cases(tmp_path):
    folder = tmp_path / "a folder of cases"
    for name in ("one", "two"):
        add_case(folder, name, a_label())
    add_case(folder, "three")
    return folder


def evaluate(tmp_path, cases, *words):
    target = tmp_path / "figures" / "out.json"
    code = main(
        [
            "evaluate",
            *("--predictions", str(tmp_path / "out"), "--cases", str(cases), "--task", "brats"),
            *("--json", str(target), "--workers", "1", *words),
        ]
    )
    content = (
        json.loads(target.read_text(), parse_constant=pytest.fail) if target.exists() else None
    )
    return code, content


def test_values_of_a_prediction_mean_what_they_do_in_its_own_task(tmp_path, cases):
    label = a_label()
    # As the Decathlon writes it: edema 1, necrosis 2, enhancing 3.
    decathlon = np.array([0, 2, 1, 0, 3], np.uint8)[label]
    write(cases / "one" / "one_seg.nii.gz", decathlon)
    add_prediction(tmp_path / "out", "one", label, label, confidence=0.9, task="brats")

    code, found = evaluate(tmp_path, cases, "--task", "brats_msd", "--network", "teacher")

    assert code == 0
    figures = found["cases"]["one"]
    assert [figures[name]["dice"] for name in ("necrosis", "edema", "enhancing")] == [1, 1, 1]
    assert figures["necrosis"]["volume_ml"] == pytest.approx(26 * 3 / 1000)


def test_a_prediction_of_other_classes_is_refused_with_both_tasks(tmp_path, cases, capsys):
    label = (a_label() > 0).astype(np.uint8)
    add_prediction(tmp_path / "out", "one", label, confidence=0.9, task="binary")

    code, _ = evaluate(tmp_path, cases)

    assert code == 1
    assert "object of the task 'binary'" in (told := capsys.readouterr().err)
    assert "the task 'brats', which has necrosis, edema, enhancing" in told
    assert "Say with --task" in told


def test_figures_of_cases_and_their_summary_are_written(tmp_path, cases):
    missed = a_label()
    missed[missed == 4] = 1
    add_prediction(tmp_path / "out", "one", a_label())
    add_prediction(tmp_path / "out", "two", missed)

    code, found = evaluate(tmp_path, cases)

    assert code == 0
    assert list(found["cases"]) == ["one", "two"]
    assert list(found["cases"]["one"]) == ["necrosis", "edema", "enhancing", "WT", "TC", "ET"]
    assert found["cases"]["one"]["WT"]["dice"] == 1.0
    assert found["cases"]["one"]["WT"]["volume_ml"] == pytest.approx(216 * 3 / 1000)
    assert found["cases"]["two"]["necrosis"]["dice"] == pytest.approx(2 * 26 / 53)
    assert found["cases"]["two"]["necrosis"]["empty"] is None
    assert found["cases"]["two"]["ET"]["empty"] == "one_empty"
    assert found["cases"]["two"]["ET"]["hd95_mm"] == pytest.approx(np.sqrt(12**2 + 21**2 + 32**2))
    summary = found["summary"]["ET"]
    assert summary["dice"] == {"mean": 0.5, "sd": pytest.approx(0.5**0.5), "median": 0.5, "n": 2}
    assert summary["empty"] == {"both_empty": 0, "one_empty": 1}
    assert found["headline"]["targets"] == ["WT", "TC", "ET"]
    assert found["headline"]["dice"]["mean"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["errors"]["summary"]["total"]["voxels"] == 1
    assert found["skipped"]["without_prediction"] == []
    assert found["failed"] == {}
    assert "calibration" not in found
    assert "teacher" not in found


def test_two_processes_give_the_same_figures_as_one(tmp_path, cases):
    for name in ("one", "two"):
        add_prediction(tmp_path / "out", name, np.roll(a_label(), 1, axis=0))

    _, alone = evaluate(tmp_path, cases)
    code, together = evaluate(tmp_path, cases, "--workers", "2")

    assert code == 0
    assert together == alone


def test_cases_that_cannot_be_judged_are_counted(tmp_path, cases, capsys):
    for name in ("one", "three", "elsewhere"):
        add_prediction(tmp_path / "out", name, a_label())

    code, found = evaluate(tmp_path, cases)

    assert code == 0
    assert found["num_cases"] == 1
    assert found["skipped"] == {
        "without_label": ["three"],
        "without_prediction": ["two"],
        "unknown_predictions": ["elsewhere"],
    }
    printed = capsys.readouterr().out
    assert "1 predicted without a reference label (skipped)" in printed
    assert "1 predicted and not among the cases (skipped)" in printed


def test_a_prediction_on_another_grid_is_told_and_the_others_are_judged(tmp_path, cases, capsys):
    add_prediction(tmp_path / "out", "one", a_label())
    write(tmp_path / "out" / "two" / "two_label.nii.gz", a_label(), origin=(12.0, -20.0, 30.0))

    code, found = evaluate(tmp_path, cases)

    assert code == 1
    assert list(found["cases"]) == ["one"]
    assert "lie on different voxel grids" in found["failed"]["two"]
    told = capsys.readouterr().err
    assert "1 of 2 cases could not be judged" in told
    assert "two_label.nii.gz" in told
    assert "two_seg.nii.gz" in told


def test_a_prediction_of_another_size_is_refused(tmp_path, cases, capsys):
    add_prediction(tmp_path / "out", "one", a_label()[1:])

    code, found = evaluate(tmp_path, cases)

    assert code == 1
    assert found is None
    assert "12 x 14 x 15 voxels" in capsys.readouterr().err


def test_a_label_on_another_grid_than_its_image_is_moved_and_that_is_said(tmp_path, cases):
    coarse = a_label()[:, ::2, :]
    add_case(cases, "four", coarse, (1.0, 3.0, 2.0))
    add_prediction(tmp_path / "out", "four", a_label())

    code, found = evaluate(tmp_path, cases)

    assert code == 0
    assert found["cases"]["four"]["WT"]["dice"] > 0.8
    assert "lies on another grid than the image" in found["warnings"][0]


def test_a_label_value_that_the_task_does_not_know_is_told(tmp_path, cases, capsys):
    wrong = a_label()
    wrong[0, 0, 0] = 9
    add_prediction(tmp_path / "out", "one", wrong)

    code, _ = evaluate(tmp_path, cases)

    assert code == 1
    assert "9" in capsys.readouterr().err


def test_maps_and_case_files_are_judged_where_they_are(tmp_path, cases, capsys):
    shifted = np.roll(a_label(), 1, axis=2)
    wrong = (shifted != a_label()).astype(np.float32)
    for name, label, doubt, confidence in (
        ("one", a_label(), np.zeros_like(wrong), 0.95),
        ("two", shifted, wrong, 0.4),
    ):
        add_prediction(
            tmp_path / "out",
            name,
            label,
            confidence=confidence,
            uncertainty=doubt,
        )
        write(tmp_path / "out" / name / f"{name}_confidence.nii.gz", 1 - doubt)

    code, found = evaluate(tmp_path, cases)

    assert code == 0
    # The confidence is 0 exactly where the label is wrong.
    assert found["calibration"]["cases"]["two"]["ece"] == pytest.approx(0)
    assert found["calibration"]["cases"]["two"]["accuracy"] < 1
    assert sum(one["count"] for one in found["calibration"]["reliability"]) > 0
    assert found["risk_coverage"]["voxels"]["uncertainty"]["cases"]["two"][
        "e_aurc"
    ] == pytest.approx(0, abs=1e-12)
    assert found["risk_coverage"]["cases"]["e_aurc"] == pytest.approx(0)
    # All errors are filtered at once, and only errors.
    qubrats = found["qubrats"]["cases"]["two"]
    assert set(qubrats) == {"WT", "TC", "ET"}
    assert qubrats["WT"]["auc_ftp"] < 0.4
    assert qubrats["WT"]["auc_ftn"] == pytest.approx(0)
    assert qubrats["WT"]["auc_dice"] > 0.98
    assert "uncertainty map" in found["qubrats"]["normalisation"]
    # Two cases are always in perfect order, or in perfect disorder.
    assert found["ranking"]["image_confidence"]["headline"]["spearman"]["value"] is None
    assert found["ranking"]["class_confidence"]["edema"]["n"] == 2
    printed = capsys.readouterr().out
    assert "Calibration error of the confidence" in printed
    assert "QU-BraTS score of WT" in printed
    assert "Spearman of image confidence with Dice: none (n = 2)" in printed


def test_class_probabilities_give_class_wise_calibration_and_entropy(tmp_path, cases):
    label = a_label()
    shares = {
        f"prob_{name}": np.where(label == value, 0.8, 0.0)
        for name, value in (("necrosis", 1), ("edema", 2), ("enhancing", 4))
    }
    doubt = np.full(label.shape, 0.1)
    add_prediction(tmp_path / "out", "one", label, uncertainty=doubt, **shares)
    write(tmp_path / "out" / "one" / "one_confidence.nii.gz", np.full(label.shape, 0.8, "float32"))

    code, found = evaluate(tmp_path, cases)

    assert code == 0
    calibration = found["calibration"]["cases"]["one"]
    assert set(calibration["class_wise_ece"]) == {"necrosis", "edema", "enhancing"}
    assert calibration["ece"] == pytest.approx(0.2, abs=1e-6)
    assert "entropy" not in found["qubrats"]["normalisation"]
    assert "H(p)" in found["qubrats"]["normalisation"]
    # H(0.8) = 72.19: true positives are filtered below that threshold, 29 of 41 points.
    assert found["qubrats"]["cases"]["one"]["WT"]["auc_ftp"] == pytest.approx(28.5 / 40, abs=1e-6)


def test_the_teacher_is_a_second_block_with_the_gain_of_the_student(tmp_path, cases, capsys):
    for name in ("one", "two"):
        add_prediction(tmp_path / "out", name, a_label(), np.roll(a_label(), 1, axis=1))

    code, found = evaluate(tmp_path, cases, "--network", "teacher")

    assert code == 0
    assert found["cases"]["one"]["WT"]["dice"] == 1
    assert found["teacher"]["cases"]["one"]["WT"]["dice"] == pytest.approx(5 / 6)
    assert found["teacher"]["summary"]["WT"]["dice"]["n"] == 2
    assert found["gain"]["targets"]["WT"]["mean"] == pytest.approx(1 / 6)
    assert "fewer than 6 cases cannot tell" in found["gain"]["headline"]["sentence"]
    assert found["gain"]["headline"]["sentence"] in capsys.readouterr().out


def test_a_missing_pseudo_label_is_told_when_the_teacher_is_asked_for(tmp_path, cases, capsys):
    add_prediction(tmp_path / "out", "one", a_label())

    code, _ = evaluate(tmp_path, cases, "--network", "teacher")

    assert code == 1
    assert "one_pseudolabel.nii.gz does not exist" in capsys.readouterr().err


def test_the_left_atrium_preset_adds_voxel_metrics(tmp_path, cases, capsys):
    add_prediction(tmp_path / "out", "one", np.roll(a_label(), 1, axis=0))

    code, found = evaluate(tmp_path, cases, "--preset", "la_voxels")

    assert code == 0
    assert found["cases"]["one"]["WT"]["hd95_ref"] == 1.0
    assert found["cases"]["one"]["WT"]["hd95_mm"] == 2.0
    assert found["summary"]["WT"]["asd_ref"]["n"] == 1
    assert "hd95 voxels" in capsys.readouterr().out


def test_a_map_that_leaves_0_to_1_is_refused(tmp_path, cases, capsys):
    add_prediction(tmp_path / "out", "one", a_label(), uncertainty=a_label() * 100)

    code, _ = evaluate(tmp_path, cases)

    assert code == 1
    assert "a map goes from 0 to 1" in capsys.readouterr().err


def test_a_damaged_case_file_is_a_warning(tmp_path, cases):
    add_prediction(tmp_path / "out", "one", a_label())
    (tmp_path / "out" / "one" / "case.json").write_text("{")

    code, found = evaluate(tmp_path, cases)

    assert code == 0
    assert "cannot be read as JSON" in found["warnings"][0]


def test_a_folder_without_predictions_is_told(tmp_path, cases, capsys):
    (tmp_path / "out").mkdir()

    code, found = evaluate(tmp_path, cases)

    assert code == 1
    assert found is None
    told = capsys.readouterr().err
    assert "Nothing to evaluate" in told
    assert "2 labelled cases have none" in told


def test_a_missing_prediction_folder_is_told(tmp_path, cases, capsys):
    code, _ = evaluate(tmp_path, cases)

    assert code == 1
    assert "is not a folder" in capsys.readouterr().err


def test_figures_that_cannot_be_written_are_told_before_judging(tmp_path, cases, capsys):
    add_prediction(tmp_path / "out", "one", a_label())
    words = ["--predictions", str(tmp_path / "out"), "--cases", str(cases)]

    assert main(["evaluate", *words, "--json", str(tmp_path)]) == 1

    streams = capsys.readouterr()
    assert f"{tmp_path} is a folder. Give the name of a file." in streams.err
    assert "Dice" not in streams.out


def test_targets_in_neither_map_can_be_left_out_of_every_mean(tmp_path, cases):
    """Case one has no enhancing part in any map: its WT and TC alone count, 1 and 0.5 in one."""
    without = a_label()
    without[without == 4] = 2
    add_case(cases, "one", without)
    halved = without.copy()
    halved[5:8, 5:8, 4:7][:, :, 1:] = 2
    add_prediction(tmp_path / "out", "one", halved, pseudo_label=without)

    words = ("--network", "teacher")
    _, counted = evaluate(tmp_path, cases, *words)
    _, left_out = evaluate(tmp_path, cases, "--skip-empty", *words)

    core = counted["cases"]["one"]["TC"]["dice"]
    assert core < 1
    assert counted["headline"]["dice"]["mean"] == pytest.approx((1 + core + 1) / 3)
    assert left_out["headline"]["dice"]["mean"] == pytest.approx((1 + core) / 2)
    assert left_out["gain"]["headline"]["mean"] == pytest.approx((core - 1) / 2)
    assert left_out["gain"]["targets"]["ET"] == {
        "mean": None, "low": None, "high": None, "n": 0,
        "sentence": "No case has a Dice of ET of both, so student and teacher cannot be compared.",
    }  # fmt: skip


def test_a_case_with_two_labels_is_not_judged_by_either(tmp_path, cases, capsys):
    write(cases / "two" / "labels" / "anna_seg.nii.gz", a_label())
    write(cases / "two" / "labels" / "ben_seg.nii.gz", a_label())
    for name in ("one", "two"):
        add_prediction(tmp_path / "out", name, a_label())

    code, found = evaluate(tmp_path, cases)

    assert code == 1
    assert list(found["cases"]) == ["one"]
    assert "may be the label" in found["failed"]["two"]
    assert "two: " in capsys.readouterr().err


def test_reviewed_labels_judge_only_if_asked_and_only_where_there_is_no_other(
    tmp_path, cases, capsys
):
    out = tmp_path / "out"
    for name in ("one", "three"):
        add_prediction(out, name, a_label())
        # Wrong on purpose: the case's own label would not say so.
        write(out / name / f"{name}_reviewed.nii.gz", np.roll(a_label(), 2, axis=0))

    _, without = evaluate(tmp_path, cases)
    code, found = evaluate(tmp_path, cases, "--reviews", str(out))

    assert code == 0
    assert list(without["cases"]) == ["one"]
    assert without["judged_by_review"] == []
    assert list(found["cases"]) == ["one", "three"]
    assert found["judged_by_review"] == ["three"]
    assert found["cases"]["one"]["WT"]["dice"] == 1.0
    assert found["cases"]["three"]["WT"]["dice"] == pytest.approx(2 / 3)
    assert "1 judged by a reviewed label, which favours" in capsys.readouterr().out


def test_a_partial_reviewed_label_judges_what_is_known(tmp_path, cases):
    out = tmp_path / "out"
    add_prediction(out, "three", a_label())
    label = np.full_like(a_label(), 255)
    label[6] = a_label()[6]
    write(out / "three" / "three_reviewed.nii.gz", label)
    provenance = {
        "format": "semisupseg-reviewed-label", "version": 1, "case": "three",
        "saved": "2026-01-02T03:04:05+00:00", "model": {"sha256": "0" * 64, "name": "m"},
        "inputs": {}, "reviewer": "ann",
        "review": {"id": "1", "begun": "", "changed": "", "of_label_sha256": "0" * 64},
        "regions": {
            kind: [] for kind in ("confirmed", "fixed", "relabelled", "ignored", "undecided")
        },
        "verdict": None, "comment": "", "label_sha256": "0" * 64,
        "partial": True, "unknown_value": 255, "min_confidence": None, "share_known": 0.1,
    }  # fmt: skip
    (out / "three" / "three_reviewed.json").write_text(json.dumps(provenance))

    code, found = evaluate(tmp_path, cases, "--reviews", str(out))

    assert code == 0
    assert found["cases"]["three"]["WT"]["dice"] == 1.0
    assert found["cases"]["three"]["WT"]["reference_volume_ml"] == pytest.approx(36 * 3 / 1000)
    assert found["cases"]["three"]["WT"]["hd95_mm"] is None
