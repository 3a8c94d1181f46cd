"""What learning from corrections has brought: the same validation cases before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from SemiSupSegLib.evaluation.intervals import bootstrap_difference, gain_sentence
from SemiSupSegLib.files import read_json, write_json
from SemiSupSegLib.resources import check_format
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.training.data import RunData

FILE = "before_after.json"
MEAN = "mean"
"""Over the task's headline targets."""
NAMES = ("new student", "former student")


def compare_with_before(run: RunFolder, data: RunData) -> list[str]:
    """Write RUN/validation/before_after.json, tell it as an event, and return it in lines.

    By class and region, and their headline mean: Dice before and after, means over the validation
    cases, and the paired bootstrap interval of the difference; a sentence on the mean.

    Args:
        run: With validation/cases.json.
        data: The run's cases.
    """
    file = run.validation / "cases.json"
    if not data.validation or not file.is_file():
        text = "The run has no validation cases: whether it is better now cannot be told."
        data.tell("before_after", sentence=text)
        return [text]
    cases = read_json(file)["cases"]
    targets = {target: _compared(cases, (target,)) for target in data.task.targets}
    targets[MEAN] = _compared(cases, data.task.headline_targets)
    after, before = (
        [_mean_dice(one[network], data.task.headline_targets) for one in cases.values()]
        for network in ("student", "before")
    )
    sentence = gain_sentence(after, before, names=NAMES)
    content = {
        "format": "semisupseg-before-after",
        "version": 1,
        "num_reviewed": len(data.reviewed),
        "num_validation": len(cases),
        "targets": targets,
        "sentence": sentence,
    }
    check_format(content, "before-after", run.validation / FILE)
    write_json(run.validation / FILE, content)
    data.tell("before_after", targets=targets, sentence=sentence)
    return [*_table(targets), sentence]


def _compared(cases: Mapping[str, Any], targets: tuple[str, ...]) -> dict[str, Any]:
    before, after = (
        [_mean_dice(one[network], targets) for one in cases.values()]
        for network in ("before", "student")
    )
    return {
        "before": float(np.mean(before)),
        "after": float(np.mean(after)),
        "difference": bootstrap_difference(after, before).to_json(),
    }


def _mean_dice(figures: Mapping[str, Any], targets: tuple[str, ...]) -> float:
    return float(np.mean([float(figures[target]["dice"]) for target in targets]))


def _table(targets: Mapping[str, Mapping[str, Any]]) -> list[str]:
    width = max(len(name) for name in targets)
    lines = [f"{'Dice':<{width}}  before  after  difference"]
    for name, one in targets.items():
        difference = one["difference"]
        line = f"{name:<{width}}  {one['before']:6.3f}  {one['after']:5.3f}"
        line += f"  {difference['mean']:+.3f}"
        if difference["low"] is not None:
            line += f" ({difference['low']:+.3f} to {difference['high']:+.3f})"
        lines.append(line)
    return lines
