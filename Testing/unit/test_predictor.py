"""From a prepared case and a model package to maps on the original grid."""

import dataclasses

import numpy as np
import pytest
import torch

from SemiSupSegLib.cases.case import ImageSource
from SemiSupSegLib.cases.geometry import Geometry
from SemiSupSegLib.cases.task import Channel, Class, Region, Task
from SemiSupSegLib.errors import SemiSupSegError, StoppedError
from SemiSupSegLib.inference import predictor as predictor_module
from SemiSupSegLib.inference.precision import automatic_precision
from SemiSupSegLib.inference.predictor import Predictor
from SemiSupSegLib.models.package import write_package
from SemiSupSegLib.networks.catalogue import build_network
from SemiSupSegLib.preparation.prepare import PreparedCase

CPU = torch.device("cpu")
TASK = Task(
    name="toy",
    title="Toy",
    channels=(Channel(name="t1"), Channel(name="t2")),
    classes=(
        Class(name="shell", values=(2,), color=(0, 255, 0)),
        Class(name="core", values=(4, 3), color=(255, 0, 0)),
    ),
    regions=(Region(name="all", classes=("shell", "core")),),
)
TRANSASPP = {"width": 8, "lite": True}
UNET = {}


def weights(name, options, seed):
    torch.manual_seed(seed)
    network = build_network(name, options, in_channels=2, num_classes=3)
    return {key: value.numpy() for key, value in network.state_dict().items()}


def a_package(folder, *, teacher=True, network="transaspp", options=TRANSASPP, **manifest):
    content = {
        "name": "toy",
        "task": TASK.to_json(),
        "network": {
            "name": network,
            "options": options,
            "in_channels": 2,
            "num_classes": 3,
            "patch_size": [16, 16, 16],
        },
        "method": "curriculum",
        "preparation": {"spacing": [1.0, 1.0, 1.0], "mask": "nonzero"},
        "library": {"version": "0"},
        **manifest,
    }
    made = {"student": weights(network, options, 0)}
    if teacher:
        made["teacher"] = weights(network, options, 1)
    return write_package(folder / "model", manifest=content, weights=made, card="toy")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return a_package(tmp_path_factory.mktemp("package"))


def a_prepared_case(spacing=(1.0, 1.2, 2.0), flipped=True):
    """A box inside an anisotropic, partly flipped original grid; `spacing` is the prepared one."""
    original = Geometry(
        size=(24, 21, 19),
        spacing=(1.0, 1.2, 2.0),
        origin=(10.0, -5.0, 30.0),
        direction=(-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0) if flipped else (1.0, 0, 0, 0, 1, 0, 0, 0, 1),
    )
    # Voxels 2..21, 3..20, 1..17 of x, y, z.
    size = tuple(
        round(number * there / here)
        for number, there, here in zip((20, 18, 17), original.spacing, spacing, strict=True)
    )
    grid = Geometry(
        size=size,
        spacing=spacing,
        origin=(10.0 - 21, -5.0 + 3 * 1.2, 30.0 + 2.0) if flipped else (12.0, -1.4, 32.0),
        direction=(1.0, 0, 0, 0, 1, 0, 0, 0, 1),
    )
    draw = np.random.default_rng(0)
    image = draw.normal(size=(2, *grid.shape)).astype(np.float16)
    return PreparedCase(
        id="case",
        patient="case",
        original=original,
        grid=grid,
        image_hash="",
        reference=ImageSource(path="t1.nii.gz"),
        arrays={"image": image, "mask": np.ones(grid.shape, np.uint8)},
    )


@pytest.fixture(scope="module")
def maps(package):
    return Predictor(package, device=CPU).predict(a_prepared_case(), maps="all", probabilities=True)


SCALARS = ("uncertainty", "confidence", "agreement")
INTEGERS = ("label", "pseudo_label", "second", "sure", "possible", "comparison")


def test_every_map_lies_on_the_original_grid(maps):
    for name in (*SCALARS, *INTEGERS):
        assert getattr(maps, name).shape == (19, 21, 24)
    assert list(maps.probabilities) == ["shell", "core"]


def test_scalar_maps_stay_between_0_and_1(maps):
    for name in SCALARS:
        values = getattr(maps, name)
        assert values.min() >= 0
        assert values.max() <= 1


def test_outside_the_box_all_is_certain_background(maps):
    expected = {"confidence": 1, "agreement": 1}
    for name in (*SCALARS, *INTEGERS):
        assert getattr(maps, name)[0, 0, 0] == expected.get(name, 0)


def test_the_label_is_the_argmax_of_the_plain_network_at_the_mirrored_place(package):
    prepared = a_prepared_case()
    prepared = dataclasses.replace(
        prepared,
        grid=dataclasses.replace(prepared.grid, size=(16, 16, 16)),
        arrays={"image": prepared.image()[:, :16, :16, :16], "mask": np.ones((16, 16, 16))},
    )
    predictor = Predictor(package, device=CPU)

    label = predictor.predict(prepared).label

    image = torch.from_numpy(prepared.image().astype(np.float32))[None]
    with torch.no_grad():
        plain = predictor.networks[0](image)[0].argmax(0).numpy()
    # The prepared x axis runs against the original one: prepared x = 0 is voxel 21.
    assert np.array_equal(label[1:17, 3:19, 6:22][:, :, ::-1], plain)


@pytest.mark.parametrize("spacing", [(1.0, 1.2, 2.0), (2.0, 2.4, 2.0)])
def test_outside_the_mask_all_is_background_without_doubt(package, spacing):
    prepared = a_prepared_case(spacing=spacing)
    mask = prepared.arrays["mask"]
    mask[:, :, : mask.shape[2] // 2] = 0

    maps = Predictor(package, device=CPU).predict(prepared, maps="all", probabilities=True)

    # The prepared x axis runs against the original one; the last of the ten voxels may be mixed.
    outside = np.s_[:, :, 13:]
    for name in ("label", "pseudo_label", "uncertainty", "sure", "possible", "comparison"):
        assert not getattr(maps, name)[outside].any(), name
    assert maps.label[:, :, :11].any()
    for name in ("confidence", "agreement"):
        assert (getattr(maps, name)[outside] == 1).all(), name
    assert not maps.probabilities["core"][outside].any()


def test_label_and_probabilities_agree(maps):
    core, shell = maps.probabilities["core"], maps.probabilities["shell"]
    background = 1 - core - shell

    assert (maps.label[core > np.maximum(shell, background) + 1e-5] == 2).all()
    assert np.array_equal(maps.sure & 2 > 0, core >= 0.9)


def test_figures_count_the_voxels_of_the_label(maps):
    ml = 1.0 * 1.2 * 2.0 / 1000
    volumes = maps.figures.volumes_ml

    assert volumes["core"]["value"] == pytest.approx((maps.label == 2).sum() * ml)
    assert volumes["all"]["value"] == pytest.approx((maps.label > 0).sum() * ml)
    for one in volumes.values():
        assert one["low"] <= one["value"] <= one["high"]


def test_teacher_and_student_agree_fully_if_they_are_one_network(tmp_path):
    same = weights("transaspp", TRANSASPP, 3)
    package = a_package(tmp_path)
    manifest = {key: value for key, value in package.manifest.items() if key != "files"}
    package = write_package(
        tmp_path / "twins", manifest=manifest, weights={"student": same, "teacher": same}, card=""
    )

    maps = Predictor(package, device=CPU).predict(a_prepared_case(), maps="all")

    assert maps.agreement.min() == pytest.approx(1, abs=1e-5)
    assert np.array_equal(maps.label, maps.pseudo_label)
    assert set(np.unique(maps.comparison)) <= {0, 1}
    assert set(maps.figures.teacher_student_dice.values()) <= {1.0, None}


def test_another_spacing_gives_maps_on_the_original_grid_too(package):
    prepared = a_prepared_case(spacing=(1.25, 1.2, 1.7))

    maps = Predictor(package, device=CPU).predict(prepared, maps="all", probabilities=True)

    for name in (*SCALARS, *INTEGERS):
        assert getattr(maps, name).shape == (19, 21, 24)
    assert set(np.unique(maps.label)) <= {0, 1, 2}
    assert (maps.label > 0).any()
    assert maps.confidence.max() <= 1


def test_both_ways_back_give_the_same_where_voxels_are_kept(package, monkeypatch):
    predictor = Predictor(package, device=CPU)
    prepared = a_prepared_case()
    in_place = predictor.predict(prepared, maps="all", probabilities=True)

    monkeypatch.setattr(predictor_module, "_keeps_voxels", lambda prepared: False)
    by_class = predictor.predict(prepared, maps="all", probabilities=True)

    # The second way keeps probabilities in 16 bits, so that near ties may fall otherwise.
    assert (in_place.label == by_class.label).mean() > 0.999
    assert (in_place.pseudo_label == by_class.pseudo_label).mean() > 0.999
    for name in SCALARS:
        np.testing.assert_array_equal(getattr(in_place, name), getattr(by_class, name))
    for name in ("shell", "core"):
        np.testing.assert_allclose(
            in_place.probabilities[name], by_class.probabilities[name], atol=1e-3
        )


def test_a_package_without_a_teacher_gives_no_teacher_maps_and_says_so(tmp_path):
    maps = Predictor(a_package(tmp_path, teacher=False), device=CPU).predict(
        a_prepared_case(), maps="all"
    )

    assert maps.pseudo_label is None
    assert maps.agreement is None
    assert maps.comparison is None
    assert maps.figures.teacher_student_dice == {}
    assert any("no teacher" in warning for warning in maps.warnings)


def test_calibration_changes_confidence_but_not_the_label(tmp_path, maps):
    package = a_package(
        tmp_path,
        calibration={
            "temperature": 1.0,
            "map": {"confidence": [0.0, 1.0], "accuracy": [0.25, 0.75]},
            "num_cases": 3,
        },
    )

    calibrated = Predictor(package, device=CPU).predict(a_prepared_case())

    inside = (slice(1, 18), slice(3, 21), slice(2, 22))
    np.testing.assert_allclose(
        calibrated.confidence[inside], 0.25 + 0.5 * maps.confidence[inside], atol=1e-5
    )
    assert np.array_equal(calibrated.label, maps.label)
    assert not any("not calibrated" in warning for warning in calibrated.warnings)


def test_several_passes_are_the_same_every_time_and_differ_from_one(package):
    prepared = a_prepared_case()
    first = Predictor(package, device=CPU, passes=2).predict(prepared)
    torch.rand(7)
    second = Predictor(package, device=CPU, passes=2).predict(prepared)
    one = Predictor(package, device=CPU).predict(prepared)

    np.testing.assert_array_equal(first.uncertainty, second.uncertainty)
    assert not np.array_equal(first.uncertainty, one.uncertainty)


def test_passes_leave_pytorchs_random_numbers_alone(package):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    Predictor(package, device=CPU, passes=2).predict(a_prepared_case())

    assert torch.equal(torch.rand(3), expected)


def test_a_network_without_variance_head_or_dropout_gives_no_uncertainty(tmp_path):
    package = a_package(tmp_path, network="vnet", options={"dropout": False, "norm": "group"})

    maps = Predictor(package, device=CPU).predict(a_prepared_case())

    assert maps.uncertainty is None
    assert any("no uncertainty map" in warning for warning in maps.warnings)


def test_a_network_without_variance_head_gets_several_passes_unless_told_otherwise(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(predictor_module, "DEFAULT_PASSES", 2)
    package = a_package(tmp_path, teacher=False, network="vnet", options={"norm": "group"})

    assert Predictor(package, device=CPU).predict(a_prepared_case()).uncertainty is not None
    plain = Predictor(package, device=CPU, passes=1).predict(a_prepared_case())
    assert plain.uncertainty is None


def test_prediction_stops_between_windows(package):
    with pytest.raises(StoppedError, match="Stopped after 0 of"):
        Predictor(package, device=CPU).predict(a_prepared_case(), should_stop=lambda: True)


def test_a_device_with_little_memory_gets_one_window_at_a_time(package, monkeypatch):
    case = a_prepared_case()
    expected = Predictor(package, device=CPU).predict(case)
    predictor = Predictor(package, device=CPU, batch_size=4)
    forward, sizes = predictor.forward, []

    def forward_on_a_small_device(patches):
        sizes.append(len(patches))
        if len(patches) > 1:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return forward(patches)

    monkeypatch.setattr(predictor, "forward", forward_on_a_small_device)
    found = predictor.predict(case)

    assert sizes[0] > 1
    assert set(sizes[1:]) == {1}
    np.testing.assert_array_equal(found.label, expected.label)


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), None), ((8, 0), torch.bfloat16)])
def test_bfloat16_is_for_gpus_that_compute_with_it(monkeypatch, capability, expected):
    """PyTorch calls it supported on older ones, too, where convolutions only emulate it."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)

    assert automatic_precision(torch.device("cuda:1")) is expected
    assert automatic_precision(torch.device("cpu")) is None


def test_weights_of_another_network_are_refused(tmp_path):
    package = a_package(tmp_path)
    manifest = {key: value for key, value in package.manifest.items() if key != "files"}
    other = write_package(
        tmp_path / "other",
        manifest=manifest,
        weights={"student": weights("unet3d", UNET, 0)},
        card="",
    )

    with pytest.raises(SemiSupSegError, match=r"student's weights .* do not fit its network"):
        Predictor(other, device=CPU)
