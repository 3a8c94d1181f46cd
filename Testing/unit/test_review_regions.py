import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk

from SemiSupSegLib.cases.geometry import Geometry, geometry_of
from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.review.doubt import doubt_of
from SemiSupSegLib.review.fitting import (
    ReviewSample,
    chosen_cases,
    fit_thresholds,
    thresholds_from_json,
    top_regions,
)
from SemiSupSegLib.review.regions import (
    RegionOptions,
    find_regions,
    options_from_json,
    region_from_json,
)
from SemiSupSegLib.review.surroundings import share_words

NAMES = ("edema", "enhancing")
SHAPE = (20, 20, 20)


def a_grid(shape=SHAPE, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0), direction=None):
    """A geometry; spacing and origin are x, y, z."""
    return Geometry(
        size=shape[::-1],
        spacing=spacing,
        origin=origin,
        direction=direction or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    )


def maps(doubts, *, shape=SHAPE, label=1, second=0, **others):
    """Maps of one class everywhere, sure but for some blocks of doubt."""
    confidence = np.ones(shape, np.float32)
    for block, doubt in doubts:
        confidence[block] = 1 - doubt
    made = {
        "label": np.full(shape, label, np.uint8),
        "second": np.full(shape, second, np.uint8),
        "confidence": confidence,
        "geometry": a_grid(shape),
        "class_names": NAMES,
    }
    return {**made, **others}


def block(z, y, x):
    return (slice(*z), slice(*y), slice(*x))


def test_a_block_of_doubt_is_a_region_with_hand_computed_figures():
    given = maps([(block((2, 5), (4, 7), (6, 11)), 0.5)], geometry=a_grid(spacing=(2.0, 1.5, 1.0)))

    found = find_regions(**given)

    (region,) = found.regions
    # 3 x 3 x 5 voxels of 3 mm3, each wrong with a probability of one half.
    assert region.volume_mm3 == pytest.approx(135)
    assert region.expected_error_mm3 == pytest.approx(67.5)
    assert found.expected_error_mm3 == pytest.approx(67.5)
    assert region.box == ((2, 5), (4, 7), (6, 11))
    assert (region.mean_doubt, region.peak_doubt) == (pytest.approx(0.5), pytest.approx(0.5))
    # The middle of equals: column 8, row 5, slice 3; RAS turns the first two axes of LPS.
    assert region.peak_voxel == (3, 5, 8)
    assert region.peak_ras == pytest.approx((-16.0, -7.5, 3.0))
    assert (found.map == 1).sum() == 45
    assert found.map.dtype == np.uint16


def test_the_peak_is_right_on_an_oblique_grid():
    image = sitk.Image([20, 20, 20], sitk.sitkUInt8)
    image.SetSpacing((0.8, 1.3, 2.5))
    image.SetOrigin((-31.0, 12.0, 7.5))
    image.SetDirection((0.8, -0.6, 0.0, 0.0, 0.0, -1.0, 0.6, 0.8, 0.0))
    given = maps([(block((8, 12), (3, 8), (9, 15)), 0.6)], geometry=geometry_of(image))
    given["confidence"][10, 4, 13] = 0.1

    (region,) = find_regions(**given).regions

    assert region.peak_voxel == (10, 4, 13)
    x, y, z = image.TransformIndexToPhysicalPoint((13, 4, 10))
    assert region.peak_ras == pytest.approx((-x, -y, z))
    assert region.peak_doubt == pytest.approx(0.9)


def test_the_classes_and_the_reason_are_the_students_where_the_teacher_agrees():
    given = maps([(block((2, 6), (2, 6), (2, 6)), 0.5)], label=1, second=0)

    (region,) = find_regions(**given, pseudo_label=given["label"]).regions

    assert (region.class_name, region.second_class) == ("edema", "background")
    assert region.reason == (
        "Unsure between edema and background, away from any border; 32 of 64 mm³ probably wrong."
    )


def test_where_most_of_the_doubt_is_the_teachers_the_reason_names_both():
    given = maps([(block((2, 6), (2, 6), (2, 10)), 0.5)], label=2, second=0)
    teacher = np.full(SHAPE, 2, np.uint8)
    teacher[2:6, 2:6, 2:7] = 1

    regions = find_regions(**given, pseudo_label=teacher).regions

    assert [region.reason.partition(", away from")[0] for region in regions] == [
        "Teacher: edema, student: enhancing",
        "Unsure between enhancing and background",
    ]
    assert [region.second_class for region in regions] == ["edema", "background"]


def test_agreement_is_the_mean_over_the_region_and_absent_without_a_teacher():
    given = maps([(block((2, 4), (2, 6), (2, 6)), 0.5)])
    agreement = np.ones(SHAPE, np.float32)
    agreement[2] = 0.4

    (with_teacher,) = find_regions(**given, agreement=agreement).regions
    (without,) = find_regions(**given).regions

    assert with_teacher.agreement == pytest.approx(0.7)
    assert without.agreement is None


def test_without_a_second_class_the_one_across_the_nearest_border_is_named():
    given = maps([(block((4, 16), (4, 16), (8, 12)), 0.5)])
    given["label"][:, :, 10:] = 2
    given["second"] = None

    (region,) = find_regions(**given).regions

    assert {region.class_name, region.second_class} == {"edema", "enhancing"}


def test_the_nearest_border_may_lie_outside_of_all_doubt():
    given = maps([(block((4, 16), (4, 16), (4, 8)), 0.5)])
    given["label"][:, :, 10:] = 2
    given["second"] = None

    (region,) = find_regions(**given).regions

    assert (region.class_name, region.second_class) == ("edema", "enhancing")


def test_a_component_is_divided_where_other_classes_are_in_question():
    given = maps([(block((4, 10), (4, 10), (2, 18)), 0.5)])
    given["second"][:, :, 12:] = 2

    regions = find_regions(**given).regions

    assert [region.second_class for region in regions] == ["background", "enhancing"]
    assert [region.box[2] for region in regions] == [(2, 12), (12, 18)]


def test_both_sides_of_a_border_are_one_region():
    given = maps([(block((4, 10), (4, 10), (6, 14)), 0.5)])
    given["label"][:, :, 10:] = 0
    given["second"][:, :, 10:] = 1

    (region,) = find_regions(**given).regions

    assert region.volume_mm3 == pytest.approx(6 * 6 * 8)


@pytest.mark.parametrize(("spacing", "number"), [(0.6, 1), (1.5, 2)])
def test_parts_are_merged_by_their_distance_in_mm(spacing, number):
    # Two columns of voxels between them, so that centres are three steps apart.
    given = maps(
        [(block((2, 10), (2, 10), (2, 8)), 0.5), (block((2, 10), (2, 10), (10, 16)), 0.5)],
        geometry=a_grid(spacing=(spacing,) * 3),
    )

    assert len(find_regions(**given).regions) == number


def test_doubt_without_a_seed_is_no_region():
    given = maps([(block((2, 8), (2, 8), (2, 8)), 0.35)])

    assert find_regions(**given).regions == ()
    given["confidence"][5, 5, 5] = 0.55
    (region,) = find_regions(**given).regions
    assert region.volume_mm3 == pytest.approx(216)


def test_dust_is_left_out_and_dust_that_touches_a_region_joins_it():
    given = maps([(block((2, 8), (2, 8), (2, 8)), 0.5), (block((15, 17), (15, 17), (15, 17)), 0.9)])
    given["second"][7, 7, 5:8] = 2

    found = find_regions(**given)

    (region,) = found.regions
    assert region.volume_mm3 == pytest.approx(216)
    assert found.map[7, 7, 6] == 1
    assert found.map[15:17].max() == 0
    # Left out of the list, not of the sum.
    assert found.expected_error_mm3 == pytest.approx(108 + 7.2)


def test_the_region_with_the_most_expected_error_comes_first():
    given = maps(
        [
            (block((1, 5), (1, 5), (1, 5)), 0.8),
            (block((8, 18), (8, 18), (8, 11)), 0.45),
            (block((1, 5), (12, 16), (12, 16)), 0.6),
        ]
    )

    regions = find_regions(**given).regions

    errors = [64 * 0.8, 300 * 0.45, 64 * 0.6]
    assert [region.expected_error_mm3 for region in regions] == pytest.approx(
        sorted(errors, reverse=True)
    )
    assert [region.id for region in regions] == [1, 2, 3]


def test_equal_regions_come_in_the_order_of_their_position():
    blocks = [block((z, z + 4), (2, 6), (2, 6)) for z in (13, 1, 7)]
    given = maps([(one, 0.5) for one in blocks])

    regions = find_regions(**given).regions

    assert [region.box[0] for region in regions] == [(1, 5), (7, 11), (13, 17)]


def test_what_is_large_is_cut_across_its_length_into_parts_of_equal_error():
    shape = (20, 20, 60)
    given = maps([(block((4, 14), (4, 14), (0, 60)), 0.5)], shape=shape)
    options = RegionOptions(max_share=0.25, max_volume_mm3=1000.0)

    regions = find_regions(**given, options=options).regions

    assert [region.volume_mm3 for region in regions] == pytest.approx([1500] * 4)
    sides = sorted(region.box[2] for region in regions)
    assert sides == [(0, 15), (15, 30), (30, 45), (45, 60)]


def test_what_is_small_stays_whole_however_much_of_the_error_it_holds():
    given = maps([(block((2, 10), (2, 10), (2, 10)), 0.5)])

    assert len(find_regions(**given).regions) == 1


def test_only_so_many_regions_are_listed_and_mapped():
    corners = [block((z, z + 4), (y, y + 4), (2, 6)) for z in (1, 7, 13) for y in (1, 7, 13)]
    given = maps([(one, 0.5) for one in corners])

    found = find_regions(**given, options=RegionOptions(max_regions=4))

    assert [region.id for region in found.regions] == [1, 2, 3, 4]
    assert sorted(np.unique(found.map)) == [0, 1, 2, 3, 4]


def test_doubt_fades_with_the_distance_from_what_was_found():
    found = np.zeros((1, 1, 60), bool)
    found[..., 0] = True
    options = RegionOptions(near_mm=5, reach_mm=15, far=0.2)

    doubt = doubt_of(np.full((1, 1, 60), 0.5, np.float32), found, (1, 1, 1), options)

    # All of it to 5 mm, a fifth from 15 mm on, 0.6 half way.
    assert doubt[0, 0, [0, 5, 10, 15, 40]] == pytest.approx([0.5, 0.5, 0.3, 0.1, 0.1])


def test_where_nothing_was_found_all_doubt_is_far():
    nothing = np.zeros((2, 3, 4), bool)

    doubt = doubt_of(
        np.full((2, 3, 4), 0.5, np.float32), nothing, (1, 1, 1), RegionOptions(far=0.2)
    )

    assert doubt == pytest.approx(0.1)


def test_what_only_the_teacher_found_is_near():
    given = maps([(block((5, 10), (5, 10), (5, 10)), 0.5)], label=0, second=1)
    teacher = np.zeros(SHAPE, np.uint8)
    teacher[6:9, 6:9, 6:9] = 1

    assert find_regions(**given, options=RegionOptions(far=0.1)).regions == ()
    regions = find_regions(**given, pseudo_label=teacher).regions
    assert regions[0].reason == (
        "Unsure between background and edema, at the outside of the result; 0.059 of 0.12 mL "
        "probably wrong."
    )


def test_a_sure_case_has_no_regions():
    found = find_regions(**maps([]))

    assert (found.regions, found.expected_error_mm3, found.map.max()) == ((), 0.0, 0)


def test_an_empty_result_has_no_regions():
    found = find_regions(**maps([], label=0, second=1))

    assert found.regions == ()


def test_maps_that_do_not_lie_on_the_grid_are_refused():
    given = maps([])
    given["geometry"] = a_grid((20, 20, 21))

    with pytest.raises(ValueError, match=r"\(20, 20, 20\), its grid \(20, 20, 21\)"):
        find_regions(**given)


def test_the_slider_lists_more_to_one_side_and_less_to_the_other():
    given = maps(
        [
            (block((1, 6), (1, 6), (1, 6)), 0.45),
            (block((8, 13), (8, 13), (8, 13)), 0.25),
            (block((15, 20), (15, 20), (15, 20)), 0.9),
        ]
    )
    options = RegionOptions()

    numbers = [
        len(find_regions(**given, options=options.with_sensitivity(place)).regions)
        for place in (0.2, 0.5, 0.8)
    ]

    assert numbers == [1, 2, 3]
    assert options.with_sensitivity(0.5) == options


def test_the_slider_shifts_the_odds_of_a_threshold():
    shifted = RegionOptions(seed=0.5, grow=0.3).with_sensitivity(1.0)

    # Half of four logits: 1 / (1 + e^2).
    assert shifted.seed == pytest.approx(0.119203)
    assert RegionOptions().with_sensitivity(0).grow > RegionOptions().grow
    with pytest.raises(ValueError, match=r"1\.5"):
        RegionOptions().with_sensitivity(1.5)


def test_options_and_regions_survive_json():
    options = RegionOptions(grow=0.15, seed=0.25, far=0.02)
    given = maps([(block((2, 6), (2, 6), (2, 6)), 0.5)])
    (region,) = find_regions(**given).regions

    assert options_from_json(options.to_json()) == options
    assert region_from_json(region.to_json()).to_json() == region.to_json()
    with pytest.raises(UsageError, match="sead"):
        options_from_json({"sead": 0.3})


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": 0.2, "grow": 0.3},
        {"grow": 0.0},
        {"far": 1.1},
        {"max_share": 0.0},
        {"near_mm": 20.0},
        {"merge_mm": -1.0},
        {"max_regions": 0},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RegionOptions(**wrong)


WRONG = block((5, 11), (5, 11), (5, 11))


def a_sample(doubt, *, wrong=WRONG, beside=0.2):
    """A case whose wrong voxels have one doubt, in a wider block of less doubt that is right."""
    given = maps([(block((2, 18), (2, 18), (2, 18)), beside), (wrong, doubt)])
    reference = given["label"].copy()
    reference[wrong] = 0
    names = {field.name for field in dataclasses.fields(ReviewSample)} - {"pseudo_label"}
    given["reference"] = reference
    return ReviewSample(**{name: given[name] for name in names}, pseudo_label=None)


def test_the_threshold_is_the_highest_that_still_holds_the_errors():
    fitted = fit_thresholds([a_sample(0.36), a_sample(0.36), a_sample(0.36)])

    # A seed lies a tenth above the threshold: 0.25 and 0.35 find them, 0.3 and 0.4 do not.
    assert (fitted.options.grow, fitted.options.seed) == (0.25, 0.35)
    assert fitted.fitted_on == 3
    assert fitted.top.error_share == pytest.approx(1)
    assert fitted.top.volume_to_error == pytest.approx(1)


def test_each_case_is_told_of_as_seen_by_thresholds_fitted_on_the_others():
    samples = [a_sample(0.5), a_sample(0.5), a_sample(0.5, beside=0.02), a_sample(0.24)]

    fitted = fit_thresholds(samples)

    # The others ask for 0.4, which finds nothing in the last.
    assert fitted.top.error_share == pytest.approx(0.75)


def test_unknown_voxels_are_neither_right_nor_wrong():
    sample = a_sample(0.5)
    sample.reference[5:8, 5:11, 5:11] = 255

    assert sample.wrong.sum() == 108
    assert top_regions(sample, RegionOptions()).error_share == pytest.approx(1)


def test_without_wrong_voxels_the_thresholds_are_the_general_ones():
    sample = a_sample(0.5)
    sample.reference[:] = sample.label

    fitted = fit_thresholds([sample])

    assert (fitted.options, fitted.fitted_on, fitted.to_json()) == (RegionOptions(), 0, {})
    assert thresholds_from_json({}) == fitted
    assert thresholds_from_json(None) == fitted


def test_one_case_is_fitted_on_but_not_told_of():
    fitted = fit_thresholds([a_sample(0.5)])

    assert (fitted.fitted_on, fitted.top) == (1, None)
    assert thresholds_from_json(fitted.to_json()) == fitted


def test_doubt_far_from_everything_counts_as_much_as_it_was_borne_out():
    shape = (4, 4, 60)
    confidence = np.full(shape, 0.5, np.float32)
    label = np.zeros(shape, np.uint8)
    label[..., :2] = 1
    reference = label.copy()
    reference[..., 50:54] = 1
    sample = ReviewSample(
        label=label,
        reference=reference,
        confidence=confidence,
        second=1 - label,
        pseudo_label=None,
        geometry=a_grid(shape),
        class_names=("edema",),
    )

    options = fit_thresholds([sample]).options

    # Column 1 is the last one with anything; four of those beyond the reach are wrong.
    beyond = 58 - options.reach_mm
    assert options.far == pytest.approx(4 / (beyond * 0.5), abs=1e-4)


def test_of_many_cases_some_at_even_distances_are_chosen():
    names = [str(number) for number in range(50)]

    assert chosen_cases(names[:7]) == names[:7]
    assert chosen_cases(names, 5) == ["0", "10", "20", "30", "40"]


def a_result_with_an_island():
    """A block of edema with enhancing in it, and a small block of edema 15 mm apart along x."""
    label = np.zeros((12, 16, 40), np.uint8)
    label[2:10, 2:14, 2:18] = 1
    label[2:10, 2:14, 10:18] = 2
    label[4:7, 4:7, 25:28] = 1
    return label


@pytest.mark.parametrize(
    ("where", "words"),
    [
        # 27 voxels of 3 mm3; from column 17 to 25 are 8 steps of 2 mm.
        (block((4, 7), (4, 7), (25, 28)), "an island of 81 mm³, 16 mm from the rest"),
        (block((3, 9), (3, 13), (9, 11)), "a thin rim along the border"),
        (block((4, 8), (5, 11), (13, 16)), "away from any border"),
        (block((3, 9), (3, 13), (8, 12)), "from the border inwards"),
        (block((3, 9), (3, 13), (18, 20)), "at the outside of the result"),
        (block((3, 9), (3, 13), (20, 22)), "6 mm beside the result"),
    ],
)
def test_the_reason_says_where_the_place_lies(where, words):
    label = a_result_with_an_island()
    grid = a_grid(label.shape, spacing=(2.0, 1.0, 1.5))
    given = maps([(where, 0.5)], shape=label.shape, geometry=grid)
    given["label"], given["second"] = label, np.full_like(label, 3)
    given["class_names"] = (*NAMES, "necrosis")
    options = RegionOptions(far=1.0, merge_mm=20.0, max_share=1.0)

    regions = find_regions(**given, options=options).regions
    silent = find_regions(**given, options=options, tells_why=False).regions

    assert all(f", {words}; " in one.reason for one in regions), [one.reason for one in regions]
    assert [dataclasses.replace(one, reason="") for one in regions] == list(silent)
    assert regions


def test_what_is_probably_wrong_is_said_in_one_unit():
    assert share_words(3.2, 80.0) == "3.2 of 80 mm³"
    assert share_words(12.0, 340.0) == "0.012 of 0.34 mL"
    assert share_words(5_200.0, 14_000.0) == "5.2 of 14 mL"
