"""How updates are shared out, rates fall, and stages grow."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.methods.catalogue import find_method
from SemiSupSegLib.methods.protocol import ParameterGroup, Phase, share_iterations
from SemiSupSegLib.methods.pseudo_labels import stage_size
from SemiSupSegLib.resources import preset_names
from SemiSupSegLib.training.configuration import config_from_json, configure
from SemiSupSegLib.training.rates import rate_factor

FRACTIONS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


def test_four_updates_go_to_the_largest_shares():
    shares = [3000, 300, 500, 500, 500, 500, 500, 500, 300]

    assert share_iterations(4, shares) == [2, 0, 1, 1, 0, 0, 0, 0, 0]
    assert share_iterations(6600, shares) == shares


@given(total=st.integers(0, 5000), parts=st.lists(st.floats(0.01, 1e4), min_size=1, max_size=10))
def test_shares_add_up_and_are_off_by_less_than_one(total, parts):
    shares = share_iterations(total, parts)

    assert sum(shares) == total
    for share, part in zip(shares, parts, strict=True):
        assert abs(share - total * part / sum(parts)) < 1 + 1e-6


@pytest.mark.parametrize(
    ("cases", "sizes"),
    [(24, [2, 4, 9, 14, 19, 24]), (10, [1, 2, 4, 6, 8, 10]), (7, [1, 1, 2, 4, 5, 7]),
     (1, [1] * 6), (0, [0] * 6)],
)  # fmt: skip
def test_stage_sizes_are_those_of_the_method(cases, sizes):
    assert [stage_size(fraction, cases) for fraction in FRACTIONS] == sizes


def factor(schedule, iteration, iterations=100, **changes):
    group = ParameterGroup(parameters=[], schedule=schedule, **changes)
    phase = Phase(name="p", iterations=iterations, group=group, labelled_per_batch=1)
    return rate_factor(group, phase, iteration)


def test_rates_follow_their_schedules():
    assert factor("poly", 0) == 1
    assert factor("poly", 50) == pytest.approx(0.5**0.9)
    assert factor("poly", 100) == 0
    assert factor("cosine", 50) == pytest.approx(0.5)
    assert factor("constant", 99) == 1
    assert [factor("step", t, 6000) for t in (0, 2499, 2500, 5000)] == pytest.approx(
        [1, 1, 0.1, 0.01]
    )


def test_a_schedule_goes_on_across_phases():
    later = factor("poly", 10, iterations=20, schedule_start=30, schedule_length=100)

    assert later == pytest.approx((1 - 0.4) ** 0.9)
    assert not math.isclose(later, factor("poly", 10, iterations=20))


@pytest.mark.parametrize("variant", ["cpu", "gpu"])
@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid_and_survives_json(name, variant):
    config = configure(preset=name, variant=variant, seed=3)

    assert config_from_json(config.to_json()) == config


def test_settings_find_their_group():
    config = configure(
        variant="cpu",
        settings={
            "low_mode": "ignore", "pseudo_labels.passes": "4", "training.clip_norm": "2",
            "preparation.n4": "true", "network.options.width": "16",
        },
    )  # fmt: skip

    assert config.options.low_mode == "ignore"
    assert config.options.pseudo_labels.passes == 4
    assert config.training.clip_norm == 2.0
    assert config.preparation.n4
    assert config.options.network.options["width"] == 16


@pytest.mark.parametrize(("iterations", "passes"), [(330, 2), (990, 3), (1320, 4), (5000, 4)])
def test_a_shorter_run_freezes_fewer_passes_than_the_preset_has(iterations, passes):
    config = configure(variant="cpu", preset="standard", iterations=iterations)

    assert config.to_json()["options"]["pseudo_labels"]["passes"] == passes


def test_fewer_passes_are_told_and_chosen_ones_are_kept(caplog):
    caplog.set_level("INFO")

    configure(variant="cpu", preset="standard", iterations=330)
    told = caplog.messages
    chosen = configure(
        variant="cpu",
        preset="standard",
        iterations=330,
        settings={"pseudo_labels.passes": "4"},
    )

    assert told == ["The run has 330 updates, the preset standard 1320: pseudo_labels.passes is 2."]
    assert caplog.messages == told
    assert chosen.options.pseudo_labels.passes == 4


def test_another_method_takes_what_it_knows_of_the_preset():
    config = configure(variant="cpu", method="supervised")

    assert config.options.network.options.items() >= {"width": 8, "lite": True}.items()
    assert config.method == "supervised"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "fast"}, "no preset 'fast'. Choose one of"),
        ({"method": "curiculum"}, "Did you mean 'curriculum'"),
        ({"iterations": 0}, "must be at least 1"),
        ({"settings": {"low_mod": "ignore"}}, "Did you mean 'low_mode'"),
        ({"settings": {"training.clip": "1"}}, "training has no 'clip'"),
        ({"settings": {"curriculum": "oracle"}}, "set allow_oracle=true"),
    ],
)
def test_wrong_wishes_are_refused_with_what_there_is(changes, message):
    with pytest.raises(UsageError, match=message):
        configure(variant="cpu", **changes)


def test_methods_are_found_by_name():
    assert find_method("curriculum").paper.endswith("2602.08797")
