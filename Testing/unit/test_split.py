"""Splits are by patient, complete, and refused when they contradict themselves."""

import json
from pathlib import Path

import pytest

from SemiSupSegLib.cases.case import Case, CaseState, ImageSource
from SemiSupSegLib.cases.split import (
    Split,
    default_split,
    left_out,
    read_lists,
    read_split,
    separated_twins,
    write_split,
)
from SemiSupSegLib.errors import SemiSupSegError, UsageError
from SemiSupSegLib.files import read_json
from SemiSupSegLib.resources import check_format


def a_case(
    case_id: str,
    *,
    patient: str | None = None,
    state: str = "labelled",
    twins: tuple[str, ...] = (),
) -> Case:
    label = None if state == "unlabelled" else ImageSource(path=Path(f"{case_id}_seg.nii.gz"))
    return Case(
        id=case_id,
        patient=patient or case_id,
        state=CaseState(state),
        channels={},
        label=label,
        twins=twins,
    )


@pytest.fixture
def cases() -> list[Case]:
    return [
        a_case("anna-1", patient="anna"),
        a_case("anna-2", patient="anna"),
        a_case("bert"),
        a_case("cleo"),
        a_case("dora", state="unlabelled"),
        a_case("emil", state="unlabelled"),
    ]


def write_lists(path: Path, **lists: object) -> Path:
    path.write_text(json.dumps(lists))
    return path


def test_a_split_file_may_name_cases_and_patients(cases, tmp_path):
    path = write_lists(
        tmp_path / "split.json",
        train_labelled=["anna"],
        train_unlabelled=["dora", "emil"],
        validation=["bert"],
    )

    assert read_split(path, cases) == Split(
        train_labelled=("anna-1", "anna-2"), train_unlabelled=("dora", "emil"), validation=("bert",)
    )


def test_a_labelled_case_may_be_used_without_its_label(cases, tmp_path):
    path = write_lists(tmp_path / "split.json", train_labelled=["bert"], train_unlabelled=["cleo"])

    assert read_split(path, cases).train_unlabelled == ("cleo",)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"validation": ["zora"]}, "validation names zora, which is no case or patient here"),
        ({"train_labelled": ["dora"]}, "train_labelled names dora, which has no label"),
        (
            {"train_labelled": ["bert"], "validation": ["bert"]},
            "patient bert is in train_labelled and validation",
        ),
        (
            {"train_unlabelled": ["anna-1"], "validation": ["anna-2"]},
            "patient anna is in train_unlabelled and validation",
        ),
        (
            {"train_labelled": ["anna"], "train_unlabelled": ["anna-2"]},
            "case anna-2 is in train_labelled and train_unlabelled",
        ),
    ],
)
def test_a_split_that_does_not_fit_is_refused(cases, tmp_path, lists, message):
    path = write_lists(tmp_path / "split.json", **lists)

    with pytest.raises(UsageError, match=message):
        read_split(path, cases)


def test_all_problems_of_a_split_are_named_at_once(cases, tmp_path):
    path = write_lists(tmp_path / "split.json", train_labelled=["dora", "zora"])

    with pytest.raises(UsageError, match=r"zora, which is no case.*dora, which has no label"):
        read_split(path, cases)


@pytest.mark.parametrize("content", [[], {"training": ["bert"]}, {"validation": "bert"}, {}])
def test_what_is_no_split_is_refused(cases, tmp_path, content):
    (tmp_path / "split.json").write_text(json.dumps(content))

    with pytest.raises(UsageError, match=r"is not a split file|must be a list"):
        read_split(tmp_path / "split.json", cases)


@pytest.mark.parametrize(
    ("strange", "missing"),
    [
        ("train_unlabeled", "train_unlabelled"),
        ("train_labeled", "train_labelled"),
        ("val", "validation"),
    ],
)
def test_a_list_of_another_name_in_the_place_of_one_is_refused(tmp_path, strange, missing):
    names = {"train_labelled", "train_unlabelled", "validation"} - {missing} | {strange}
    path = write_lists(tmp_path / "split.json", **{name: [] for name in names})

    with pytest.raises(UsageError, match=f"the list '{strange}'.* no '{missing}'"):
        read_lists(path)


def test_what_else_a_complete_split_file_tells_is_passed_over(tmp_path):
    lists = {"train_labelled": ["anna"], "train_unlabelled": [], "validation": ["bert"]}
    path = write_lists(tmp_path / "split.json", **lists, test=["cleo"], drawn_with="seed 5")

    assert read_lists(path) == lists


def test_a_missing_split_file_is_named(cases, tmp_path):
    with pytest.raises(SemiSupSegError, match=r"split\.json does not exist"):
        read_split(tmp_path / "split.json", cases)


def test_a_written_split_is_read_back_and_follows_the_schema(cases, tmp_path):
    split = default_split(cases, seed=3)

    write_split(tmp_path / "split.json", split)

    assert read_split(tmp_path / "split.json", cases) == split
    check_format(read_json(tmp_path / "split.json"), "split", "split.json")


def test_the_default_split_uses_each_case_once_and_no_patient_twice(cases):
    split = default_split(cases, seed=0)

    members = [*split.train_labelled, *split.train_unlabelled, *split.validation]
    assert sorted(members) == sorted(case.id for case in cases)
    assert split.train_unlabelled == ("dora", "emil")
    assert len({case_id.partition("-")[0] for case_id in split.validation}) == 1


def test_the_default_split_depends_on_the_seed_and_not_on_the_order(cases):
    assert default_split(cases, seed=5) == default_split(cases[::-1], seed=5)
    assert len({default_split(cases, seed=seed) for seed in range(20)}) > 1


@pytest.mark.parametrize(
    ("count", "fraction", "expected"), [(1, 0.2, 0), (2, 0.2, 1), (2, 1.0, 1), (10, 0.2, 2)]
)
def test_the_validation_set_has_its_share_but_leaves_one_to_train_on(count, fraction, expected):
    cases = [a_case(f"p{number}") for number in range(count)]

    split = default_split(cases, seed=1, validation_fraction=fraction)

    assert (len(split.validation), len(split.train_labelled)) == (expected, count - expected)


def test_reviewed_cases_are_trained_on_and_unusable_ones_are_not():
    cases = [a_case("p1", state="reviewed"), a_case("p2", state="unusable")]

    split = default_split(cases, seed=0)

    assert split == Split(train_labelled=("p1",), train_unlabelled=(), validation=())


@pytest.fixture
def visits() -> list[Case]:
    """Two patients, each with a labelled baseline and an unlabelled follow-up."""
    return [
        a_case("anna-1", patient="anna"),
        a_case("anna-2", patient="anna", state="unlabelled"),
        a_case("bert-1", patient="bert"),
        a_case("bert-2", patient="bert", state="unlabelled"),
    ]


@pytest.mark.parametrize("seed", range(4))
def test_unlabelled_visits_are_trained_on_unless_their_patient_is_validated_on(visits, seed):
    split = default_split(visits, seed)

    (trained,) = split.train_labelled
    assert split.train_unlabelled == (trained.replace("1", "2"),)
    assert split.validation == ({"anna-1": "bert-1", "bert-1": "anna-1"}[trained],)


def test_unlabelled_visits_that_are_left_out_are_counted_and_named(visits, cases):
    split = default_split(visits, seed=0)
    unused = split.validation[0].replace("1", "2")

    assert left_out(split, visits) == (
        f"1 unlabelled case is left out, since its patient is validated on: {unused}."
    )
    assert left_out(default_split(cases, seed=0), cases) == ""


def test_a_split_with_labelled_and_unlabelled_visits_of_one_patient_is_read_back(visits, tmp_path):
    split = default_split(visits, seed=1)
    write_split(tmp_path / "split.json", split)

    assert read_split(tmp_path / "split.json", visits) == split


@pytest.fixture
def twins() -> list[Case]:
    """Six patients; p5 is a copy of p0, and p2 shares an image with p5's second visit."""
    return [
        a_case("p0", twins=("p5",)),
        a_case("p1"),
        a_case("p2", twins=("p5b",)),
        a_case("p3"),
        a_case("p5", twins=("p0",)),
        a_case("p5b", patient="p5", state="unlabelled", twins=("p2",)),
    ]


@pytest.mark.parametrize("seed", range(8))
def test_cases_that_share_an_image_are_on_one_side_of_the_default_split(twins, seed):
    split = default_split(twins, seed, validation_fraction=0.5)

    judged = {"p0", "p2", "p5"} & set(split.validation)
    assert len(judged) in (0, 3)
    assert ("p5b" in split.train_unlabelled) == (not judged)
    assert separated_twins(split, twins) == ""


def test_a_given_split_that_separates_twins_is_warned_of(twins, tmp_path):
    path = write_lists(
        tmp_path / "split.json", train_labelled=["p1", "p5"], validation=["p0", "p3"]
    )

    split = read_split(path, twins)

    assert separated_twins(split, twins).startswith(
        "1 case in training holds the same image as a validation case"
    )
    assert "p5 (p0)" in separated_twins(split, twins)


def test_a_share_outside_0_and_1_is_refused(cases):
    with pytest.raises(ValueError, match=r"validation_fraction is 1\.5, must be in \[0, 1\]"):
        default_split(cases, seed=0, validation_fraction=1.5)
