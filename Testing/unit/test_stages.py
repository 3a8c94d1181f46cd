"""What a run folder tells of its stages: what is trusted, and who was left out."""

import json

import pytest

from SemiSupSegLib.runs.control import Control
from SemiSupSegLib.runs.run_folder import RunFolder
from SemiSupSegLib.runs.stages import exclusions, exclusions_in_words, why_none_trusted

OPTIONS = {"pseudo_labels": {"threshold": 0.7}}


@pytest.mark.parametrize("share", [0.0, 0.0049])
def test_a_stage_that_trusts_nothing_is_explained(share):
    told = why_none_trusted(2, share, OPTIONS)

    assert told.startswith("Stage 2 trusts 0 % of its voxels")
    assert "reach the least trust of 0.7" in told
    assert "follows the labelled cases alone" in told
    assert "(pseudo_labels.threshold)" in told


def test_a_method_without_that_option_is_explained_without_it():
    told = why_none_trusted(1, 0.0, {})

    assert "reach what is asked for" in told
    assert "pseudo_labels" not in told


def test_a_stage_that_trusts_something_needs_no_words():
    assert why_none_trusted(1, 0.005, OPTIONS) == ""


def a_run(folder, stages, wishes=()):
    """Return a run whose stages have these cases and left these out."""
    run = RunFolder(folder)
    for number, (cases, excluded) in enumerate(stages, start=1):
        run.stage(number).mkdir(parents=True)
        content = {"cases": cases, "ranked": [*cases, *excluded], "excluded": excluded}
        (run.stage(number) / "cases.json").write_text(json.dumps(content))
    (run.stages / "teacher").mkdir(parents=True)
    (run.stages / "teacher" / "cases.json").write_text("[]")
    if wishes:
        Control(run.control).exclude(wishes)
    return run


def test_exclusions_are_told_with_the_first_stage_without_the_case(tmp_path):
    stages = [(["a", "b", "c", "d"], []), (["a", "c", "d"], ["b"]), (["c", "d"], ["a", "b"])]
    run = a_run(tmp_path, stages, wishes=["a", "b", "d", "never scored"])

    found = exclusions(run)

    assert found == {"b": 2, "a": 3, "d": None}
    assert exclusions_in_words(found) == (
        "Left out by hand from stage 2 on: b. Left out by hand from stage 3 on: a. Left out by "
        "hand when no stage followed any more, so learnt from: d. To train without, start a new "
        "run without them."
    )


def test_without_exclusions_nothing_is_said(tmp_path):
    assert exclusions(RunFolder(tmp_path / "nothing yet")) == {}
    run = a_run(tmp_path / "run", [(["a"], [])])
    assert exclusions(run) == {}
    assert exclusions_in_words({}) == ""
