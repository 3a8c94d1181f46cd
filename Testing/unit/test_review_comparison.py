"""Two reviewers of one case: where they agree and where they do not."""

import json

import numpy as np
import pytest

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.review.change import Change
from SemiSupSegLib.review.comparison import cohens_kappa, compare, share_equal
from Testing.data.make_review_folder import BOXES, begin, make_result, the_label, the_regions


@pytest.fixture
def a_result(tmp_path):
    return make_result(tmp_path / "out")


def relabelled(box, class_index):
    label = the_label()
    after = label.copy()
    after[tuple(slice(*ends) for ends in box)] = class_index
    return Change.between(label, after)


def test_statuses_stand_side_by_side(a_result):
    ann, bob = begin(a_result, "ann"), begin(a_result, "bob")
    ann.decide(1, "confirmed")
    bob.decide(1, "confirmed")
    ann.decide(2, "confirmed")
    bob.decide(2, "ignored")
    ann.decide(3, "ignored")
    ann.give_verdict("accepted")

    found = compare(a_result)

    assert found.reviewers == ("ann", "bob")
    assert found.verdicts == ("accepted", None)
    assert [one.statuses for one in found.regions] == [
        ("confirmed", "confirmed"),
        ("confirmed", "ignored"),
        ("ignored", "undecided"),
    ]
    assert found.equal_decisions == 0.5
    assert [one.region for one in found.apart] == [2]
    assert found.dice == dict.fromkeys(("necrosis", "edema", "enhancing", "WT", "TC", "ET"), 1.0)
    assert found.voxels_apart == 0


def test_equal_decisions_with_other_voxels_are_apart(a_result):
    ann, bob = begin(a_result, "ann"), begin(a_result, "bob")
    ann.decide(1, "relabelled", relabelled(BOXES[0], 2))
    bob.decide(1, "relabelled", relabelled(BOXES[0], 0))

    found = compare(a_result, "ann", "bob")

    # 2 x 3 x 3 voxels; all were necrosis, of which 48 - 18 are left in both.
    assert found.regions[0].voxels_apart == 18
    assert [one.region for one in found.apart] == [1]
    assert found.equal_decisions == 1.0
    assert found.dice["necrosis"] == 1.0
    edema = int((the_label() == 2).sum())
    assert found.dice["edema"] == pytest.approx(2 * edema / (2 * edema + 18))


def test_decisions_are_compared_without_reading_a_voxel(a_result):
    begin(a_result, "ann").decide(1, "confirmed")
    begin(a_result, "bob").decide(1, "confirmed")
    for file in a_result.glob("*.nii.gz"):
        file.write_bytes(b"")

    found = compare(a_result, labels=False)

    assert found.dice is None
    assert found.regions[0].voxels_apart is None
    assert found.equal_decisions == 1.0


def test_kappa_is_what_is_computed_by_hand():
    pairs = [("a", "a")] * 4 + [("a", "b")] + [("b", "b")] * 3 + [("b", "a")] * 2

    # Observed 0.7; by chance (5 * 6 + 5 * 4) / 100 = 0.5.
    assert share_equal(pairs) == 0.7
    assert cohens_kappa(pairs) == pytest.approx(0.4)


def test_kappa_is_not_defined_where_chance_explains_all():
    assert cohens_kappa([("a", "a")] * 3) is None
    assert cohens_kappa([]) is None
    assert share_equal([]) is None
    assert cohens_kappa([("a", "b"), ("b", "a")]) == -1.0


def test_reviews_of_two_results_are_not_compared(a_result):
    begin(a_result, "ann")
    changed = the_label()
    changed[0] = 2
    make_result(a_result.parent, label=changed)
    begin(a_result, "bob")

    with pytest.raises(UsageError, match="began with different results"):
        compare(a_result)


def test_as_many_regions_in_other_places_are_not_compared(a_result):
    begin(a_result, "ann").decide(1, "confirmed")
    moved = [{**one, "box": [[0, 1], [0, 1], [0, 1]]} for one in the_regions()]
    make_result(a_result.parent, regions=moved)
    begin(a_result, "bob").decide(1, "confirmed")

    with pytest.raises(UsageError, match="began with different lists of regions"):
        compare(a_result)


def test_two_reviewers_must_be_there(a_result):
    with pytest.raises(UsageError, match="was reviewed by nobody"):
        compare(a_result)
    for name in ("ann", "bob", "cid"):
        begin(a_result, name)
    with pytest.raises(UsageError, match=r"by ann, bob, cid\. Say which two"):
        compare(a_result)
    with pytest.raises(UsageError, match="Both reviewers are ann"):
        compare(a_result, "ann", "ann")


def test_a_comparison_is_plain_values(a_result):
    begin(a_result, "ann").decide(1, "confirmed")
    begin(a_result, "bob").decide(1, "ignored")

    content = json.loads(json.dumps(compare(a_result).to_json()))

    assert content["regions"][0] == {
        "region": 1,
        "class": "necrosis",
        "statuses": ["confirmed", "ignored"],
        "voxels_apart": 0,
        "apart": True,
    }
    assert np.isclose(content["dice"]["WT"], 1)
