"""The examples of docs/your-own-data.md can be used as they stand."""

import json
import re
from dataclasses import fields
from pathlib import Path

from SemiSupSegLib.cases.case import Case, CaseState, ImageSource
from SemiSupSegLib.cases.split import read_split
from SemiSupSegLib.cases.task import task_from_json
from SemiSupSegLib.preparation.options import PreparationOptions

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "your-own-data.md").read_text(encoding="utf-8")
TASK, SPLIT = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)


def test_the_task_reads_all_tumour_values_as_one_class():
    task = task_from_json(json.loads(TASK))

    assert [one.name for one in task.channels] == ["flair"]
    assert [one.values for one in task.classes] == [(1, 2, 3, 4)]
    assert task.mask == "nonzero"


def test_the_split_divides_the_cases_it_names(tmp_path):
    file = tmp_path / "split.json"
    file.write_text(SPLIT)
    label = ImageSource(path="seg.nii.gz")
    cases = [
        Case(
            id=f"patient_{number:02d}",
            patient=f"patient_{number:02d}",
            state=CaseState.LABELLED,
            channels={"flair": ImageSource(path="flair.nii.gz")},
            label=label,
        )
        for number in range(1, 6)
    ]

    split = read_split(file, cases)

    assert split.train_labelled == ("patient_01", "patient_02")
    assert split.train_unlabelled == ("patient_03", "patient_04")
    assert split.validation == ("patient_05",)


def test_every_option_of_the_preparation_is_in_the_table():
    table = TEXT.split("## What happens to an image")[1].split("## Learning rates")[0]
    named = {word for row in table.splitlines() for word in re.findall(r"`(\w+)`", row)}

    assert {field.name for field in fields(PreparationOptions)} <= named


def test_every_preset_that_is_not_for_a_comparison_is_in_the_table():
    files = (ROOT / "Resources" / "Presets").glob("*.json")
    presets = {file.stem for file in files if not json.loads(file.read_text()).get("comparison")}
    named = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))

    assert presets == named
