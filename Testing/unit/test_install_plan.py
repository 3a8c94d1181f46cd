"""Plans of an installation for machines that are not here, and what pip says in words."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from SemiSupSegLib.workers import wheels as wheels_module
from SemiSupSegLib.workers.packages import PACKAGES, Installed, Probe, is_enough
from SemiSupSegLib.workers.pip_commands import constraints, pip_commands
from SemiSupSegLib.workers.pip_output import failure_in_words, phase_in, progress_in
from SemiSupSegLib.workers.plan import InstallPlan, make_plan
from SemiSupSegLib.workers.probe import gpus_listed

ROOT = Path(__file__).resolve().parents[2]
IN_SLICER = {"numpy": "2.0.2", "scipy": "1.13.1", "SimpleITK": "2.4.1", "pydicom": "2.4.4"}

# --- the list ---------------------------------------------------------------------------------


def test_the_lowest_versions_are_those_of_pyproject():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text.split("dependencies = [")[1].split("]")[0]

    assert dict(re.findall(r'"([\w-]+)>=([\d.]+)"', block)) == {
        one.name: one.lowest for one in PACKAGES
    }


@pytest.mark.parametrize(
    ("here", "needed", "enough"),
    [("2.13.0+cpu", "2.3", True), ("2.2.9", "2.3", False), ("2.3.0rc1", "2.3", True)],
)
def test_versions_are_compared_as_numbers(here, needed, enough):
    assert is_enough(here, needed) is enough


def test_gpus_are_read_from_the_drivers_list():
    answer = "NVIDIA RTX A5000, 24564, 550.54.14\n[Unknown Error]\n"

    assert gpus_listed(answer) == [
        {"name": "NVIDIA RTX A5000", "memory_mb": 25757, "driver": "550.54.14"}
    ]


# --- plans for machines that are not here -----------------------------------------------------


def a_probe(**changes) -> Probe:
    installed = {
        name.lower(): Installed(name=name, version=version, location="/site", is_complete=True)
        for name, version in IN_SLICER.items()
    }
    values = {
        "python": (3, 12, 10),
        "executable": "/slicer/bin/python-real",
        "system": "linux",
        "platform": "linux-x86_64",
        "libc": ("glibc", "2.28"),
        "site_packages": "/site",
        "is_writable": True,
        "free_mb": 100_000,
        "temp_free_mb": 100_000,
        "packages": "/home/me/packages",
        "packages_free_mb": 100_000,
        "pip": "25.0",
        "installed": installed,
        "importable": frozenset(),
        "has_nvidia_driver": False,
        "gpus": (),
        **changes,
    }
    return Probe(**values)


CHOOSER = Installed(name="light_the_torch", version="0.8.1", location="/site", is_complete=True)


def test_a_plan_survives_json():
    plan = make_plan(a_probe(), is_own_python=True, wheels="/usb/wheels")

    assert InstallPlan.from_json(plan.to_json()) == plan


def test_wheels_for_the_cpu_need_no_room_for_the_build_for_gpus(tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "torch-2.13.0+cpu-cp312-cp312-linux_x86_64.whl").touch()
    for_cpu = make_plan(a_probe(), is_own_python=True, wheels=wheels)
    (wheels / "nvidia_cudnn_cu13-9.1-py3-none-manylinux_2_28_x86_64.whl").touch()
    for_gpu = make_plan(a_probe(), is_own_python=True, wheels=wheels)

    assert for_cpu.disk_mb < 2000
    assert for_gpu.disk_mb - for_cpu.disk_mb > 4000


def test_a_plan_says_what_goes_where_and_how_large_it_is():
    words = "\n".join(make_plan(a_probe(), is_own_python=True).in_words())

    assert "torch>=2.4, nibabel>=5.2, safetensors" in words
    assert "Into: /site" in words
    assert re.search(r"About \d\.\d GB to download, \d\.\d GB on the disk, 100\.0 GB free", words)
    assert "No other installed package is changed" in words
    assert "tqdm" not in words


def test_an_installed_version_that_is_too_old_is_left_and_another_python_proposed():
    installed = dict(a_probe().installed)
    installed["numpy"] = replace(installed["numpy"], version="1.24.4")

    plan = make_plan(a_probe(installed=installed), is_own_python=True)

    assert not plan.is_possible
    assert "numpy 1.24.4 is installed in /site, and 1.26 or later is needed" in plan.blockers[0]
    assert "Choose another Python" in plan.blockers[0]
    assert not any(one.startswith("numpy") for one in plan.install)


def test_every_installed_package_is_kept_at_its_version():
    installed = {
        **a_probe().installed,
        "vtk": Installed(name="vtk", version="9.4", location="/site", is_complete=True),
        "odd": Installed(name="odd", version="unknown", location="/site", is_complete=True),
        "torch": Installed(name="torch", version="2.9+cu126", location="/s", is_complete=True),
        "half": Installed(name="half", version="1", location="/site", is_complete=False),
    }

    lines = constraints(a_probe(installed=installed), {"scipy"}).split()

    assert lines == ["numpy==2.0.2", "pydicom==2.4.4", "SimpleITK==2.4.1", "torch==2.9+cu126",
                     "vtk==9.4"]  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "note"),
    [
        ({}, "No NVIDIA driver was found, but pip brings the build for NVIDIA GPUs with several"),
        ({"system": "win32", "platform": "win-amd64", "has_nvidia_driver": True}, "CPU only"),
    ],
)
def test_the_build_that_plain_pip_brings_is_told(facts, note):
    plan = make_plan(a_probe(**facts), is_own_python=True)

    assert note in plan.notes[0]
    assert "PyTorch extension" in plan.notes[0]


def test_the_chooser_is_used_for_torch_alone_and_tells_small_from_large():
    with_chooser = {**a_probe().installed, "light-the-torch": CHOOSER}
    small = make_plan(a_probe(installed=with_chooser), is_own_python=True)
    large = make_plan(a_probe(installed=with_chooser, has_nvidia_driver=True), is_own_python=True)
    first, second = pip_commands(small, "python", Path("keep.txt"))

    assert first[:4] == ("python", "-m", "light_the_torch", "install")
    assert first[-1] == "torch>=2.4"
    assert second[:4] == ("python", "-m", "pip", "install")
    assert "torch>=2.4" not in second
    assert all("torchvision" not in word for word in (*first, *second))
    assert all(one[4:8] == ("--only-binary", ":all:", "--constraint", "keep.txt")
               for one in (first, second))  # fmt: skip
    assert small.notes == ()
    assert small.disk_mb < 2000 < large.disk_mb


def test_the_chooser_is_installed_first_where_the_extension_is():
    plan = make_plan(a_probe(), is_own_python=True, has_pytorch_extension=True)
    commands = pip_commands(plan, "python", Path("keep.txt"))

    assert [one[2] for one in commands] == ["pip", "light_the_torch", "pip"]
    assert commands[0][-1] == "light-the-torch"


def test_a_folder_of_wheels_is_the_only_source():
    with_chooser = {**a_probe().installed, "light-the-torch": CHOOSER}
    plan = make_plan(a_probe(installed=with_chooser), is_own_python=True, wheels="/usb/my wheels")
    commands = pip_commands(plan, "python", Path("keep.txt"))

    assert [one[2] for one in commands] == ["pip", "pip"]
    for one in commands:
        assert one[8:11] == ("--no-index", "--find-links", "/usb/my wheels")


def test_a_long_path_on_windows_leads_to_our_own_folder():
    long = "C:\\Users\\someone\\AppData\\Local\\" + "slicer.org\\" * 6 + "site-packages"
    probe = a_probe(system="win32", platform="win-amd64", site_packages=long, packages="C:\\S\\p")

    plan = make_plan(probe, is_own_python=True)

    assert (plan.is_target, plan.place) == (True, "C:\\S\\p")
    assert "because its path is too long" in plan.notes[0]
    assert pip_commands(plan, "p", Path("k"))[0][8:10] == ("--target", "C:\\S\\p")


def test_into_another_environment_only_its_own_folder_will_do():
    plan = make_plan(a_probe(is_writable=False), is_own_python=False)

    assert not plan.is_target
    assert not plan.is_possible
    assert "/site cannot be written. Ask whoever keeps that environment" in plan.blockers[0]


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"free_mb": 300}, "The disk of /site has 300 MB free, and about 7"),
        ({"temp_free_mb": 300}, "The disk of temporary files has 300 MB free, and about 3"),
        ({"is_writable": False, "packages_free_mb": 8000}, "The disk of /home/me/packages has 8.0"),
        ({"python": (3, 9, 10)}, "is Python 3.9.10; SemiSupSeg needs 3.10 or later"),
    ],
)
def test_what_stands_against_an_installation_is_said(facts, message):
    plan = make_plan(a_probe(**facts), is_own_python=True)

    assert not plan.is_possible
    assert message in plan.blockers[0]


def test_platforms_of_wheels_are_those_that_run_there():
    linux = wheels_module.platforms(a_probe())
    windows = wheels_module.platforms(a_probe(system="win32", platform="win-amd64"))

    assert linux[0] == "manylinux_2_28_x86_64"
    assert "manylinux2014_x86_64" in linux
    assert "manylinux_2_31_x86_64" not in linux
    assert windows == ["win_amd64"]


def test_the_command_for_a_wheel_folder_keeps_versions_and_can_be_copied():
    text = "\n".join(wheels_module.in_words(a_probe()))

    assert "pip download --dest wheels --only-binary :all:" in text
    assert "--python-version 3.12 --abi cp312" in text
    assert '"torch>=2.4"' in text
    assert '"numpy==2.0.2"' in text
    assert "with internet and Python 3.12" in text


# --- what pip says ----------------------------------------------------------------------------


def test_progress_and_phases_are_read_from_pips_lines():
    progress = progress_in("Progress 1500000 of 900000000\n")

    assert (progress.finished, progress.planned) == (1500, 900000)
    assert progress_in("Progress: none\n") is None
    line = "  Downloading https://x/y/torch-2.9.1-cp311-cp311-linux_x86_64.whl (899.8 MB)\n"
    assert phase_in(line) == "downloading torch, 899.8 MB"
    assert (
        phase_in("  Downloading torch-2.9.1-cp311-cp311-linux_x86_64.whl.metadata (3 kB)") is None
    )
    assert phase_in("Installing collected packages: a, torch\n") == "copying the files"
    assert phase_in("Requirement already satisfied: numpy") is None


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("ERROR: Could not install: [Errno 28] No space left on device", "The disk is full"),
        ("ERROR: [WinError 5] Access is denied: 'C:\\x'", "/site cannot be written"),
        ("ERROR: [WinError 206] The filename or extension is too long", "path /site is too long"),
        ("ERROR: [WinError 32] used by another process", "A file in /site is in use"),
        ("python: No module named pip", "has no pip"),
        ("WARNING: Retrying ... NewConnectionError(': Failed') ...\n"
         "ERROR: No matching distribution found for torch>=2.4", "index cannot be reached"),
        ("ERROR: No matching distribution found for torch>=2.4", "no wheel of torch>=2.4 for Py"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES x-1-py3-none-any.whl", "wheel x-1-py3-"),
        ("Collecting a\nERROR: Something new.\n", "The last it said: Something new."),
        ("", "pip failed. The last it said: nothing"),
    ],
)  # fmt: skip
def test_a_failure_of_pip_is_said_in_words(output, sentence):
    said = failure_in_words(output, place="/site", wheels=None, python="Python 3.12 on win-amd64")

    assert sentence in said


def test_wheels_that_do_not_fit_are_to_be_fetched_again_by_our_command():
    output = (
        "    torch 2.13.0 depends on setuptools>=77.0.3\n"
        "    The user requested (constraint) setuptools==65.5.0\n"
        "ERROR: ResolutionImpossible\n"
    )

    said = failure_in_words(output, place="/site", wheels="/usb", python="Python 3.11")

    assert "torch 2.13.0 needs setuptools>=77.0.3, and setuptools 65.5.0 is installed" in said
    assert "fill /usb anew with the command that 'doctor --wheels' prints" in said
