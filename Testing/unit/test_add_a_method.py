"""The example of docs/add-a-method.md is a method that trains, added as it says there."""

import importlib
import json
import re
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


def test_the_example_method_learns_from_unlabelled_cases(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "add-a-method.md").read_text(encoding="utf-8")
    file, entry = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "pi_model.py").write_text(file, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("pi_model")
    added = eval(f"{{{entry}}}", {**vars(catalogue), **vars(module)})
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
