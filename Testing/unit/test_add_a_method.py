"""The example of docs/add-a-method.md is a method that trains, added as it says there."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

from SemiSupSegLib.methods import catalogue
from SemiSupSegLib.models.package import read_package
from SemiSupSegLib.runs.events import read_events
from SemiSupSegLib.training.run import TrainRequest, train

ROOT = Path(__file__).resolve().parents[2]


def write_case(folder, seed):
    draw = np.random.default_rng(seed)
    label = np.zeros((20, 18, 16), np.uint8)
    label[6:14, 5:12, 4:11] = 1
    image = 100 + 60 * label + draw.normal(0, 20, label.shape)
    folder.mkdir(parents=True)
    nib.save(nib.Nifti1Image(image.astype(np.float32), np.eye(4)), folder / "mri.nii.gz")
    nib.save(nib.Nifti1Image(label, np.eye(4)), folder / "seg.nii.gz")


def write_example(folder):
    """Write the page's method and return what it adds to the catalogue, as Python."""
    text = (ROOT / "docs" / "add-a-method.md").read_text(encoding="utf-8")
    file, entry = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (folder / "pi_model.py").write_text(file, encoding="utf-8")
    return f"{{{entry}}}"


def test_the_example_method_passes_the_tests_that_every_method_has(tmp_path):
    entry = write_example(tmp_path)
    (tmp_path / "adds_pi_model.py").write_text(
        "import pi_model\n"
        "from SemiSupSegLib.methods import catalogue\n"
        f"added = eval({entry!r}, {{**vars(catalogue), **vars(pi_model)}})\n"
        "catalogue.METHODS.update(added)\n",
        encoding="utf-8",
    )
    tests = [f"Testing/unit/test_method_{name}.py" for name in ("invariants", "precision", "cost")]
    paths = [str(ROOT), str(tmp_path)]

    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-p", "adds_pi_model", *tests, "-k", "pi_model"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) >= 9


def test_the_example_method_learns_from_unlabelled_cases(tmp_path, monkeypatch):
    entry = write_example(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("pi_model")
    added = eval(entry, {**vars(catalogue), **vars(module)})
    monkeypatch.setitem(catalogue.METHODS, "pi_model", added["pi_model"])
    for number in range(4):
        write_case(tmp_path / "cases" / f"case{number}", number)
    split = {
        "train_labelled": ["case0"],
        "train_unlabelled": ["case1", "case2"],
        "validation": ["case3"],
    }
    (tmp_path / "split.json").write_text(json.dumps(split))

    train(
        TrainRequest(
            cases=tmp_path / "cases",
            out=tmp_path / "run",
            task="binary",
            method="pi_model",
            preset="fast_check",
            split=tmp_path / "split.json",
            iterations=4,
            device="cpu",
            store=tmp_path / "store",
            settings={
                "network.options": '{"width": 4, "lite": true}',
                "noise": "0.2",
                "training.patch_size": "[16, 16, 16]",
                "training.log_every": "1",
            },
        )
    )

    assert read_package(tmp_path / "run" / "models" / "student").manifest["method"] == "pi_model"
    assert "unlabelled" in (tmp_path / "run" / "metrics.csv").read_text()
    assert read_events(tmp_path / "run" / "events.jsonl")[-1]["kind"] == "finished"
