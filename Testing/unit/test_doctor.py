"""doctor: what it finds and how it says it."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import pytest

from SemiSupSegLib.commands import doctor
from SemiSupSegLib.workers.diagnosis import diagnostics, findings, is_built_for, without_user
from SemiSupSegLib.workers.packages import Package


@pytest.fixture
def private_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISUPSEG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SEMISUPSEG_STORE", str(tmp_path / "store"))
    return tmp_path


def _run(json_wanted, capsys):
    wanted = argparse.Namespace(json="-" if json_wanted else None, wheels=False)
    code = doctor.run(wanted)
    return code, capsys.readouterr().out


def test_json_has_everything_a_program_asks_for(private_folders, capsys):
    code, text = _run(True, capsys)
    found = json.loads(text)

    assert code == 0
    assert (found["format"], found["version"], found["ok"]) == ("semisupseg-doctor", 1, True)
    assert set(found["packages"]) == {one.name for one in doctor.PACKAGES}
    assert set(found["packages"]["numpy"]) == {"version", "needed", "ok", "terminal_only"}
    assert set(found["torch"]) == {"version", "cuda", "arch_list"}
    assert found["torch_error"] is None
    cpu = found["devices"][0]
    assert (cpu["name"], cpu["ok"]) == ("cpu", True)
    assert cpu["milliseconds"] > 0
    assert set(found["folders"]) == {"prepared_store", "user_data", "resources"}
    assert found["memory"]["total_bytes"] > found["memory"]["available_bytes"] > 0


def test_words_name_the_device_and_its_time(private_folders, capsys):
    _, text = _run(False, capsys)

    assert re.search(r"cpu: .*ran a 3-D convolution in \d+\.\d ms, result right", text)
    assert text.rstrip().endswith("All is well.")


def test_folder_sizes_are_added_up(private_folders):
    folder = private_folders / "store" / "inner"
    folder.mkdir(parents=True)
    (folder / "a").write_bytes(b"1234")
    (folder.parent / "b").write_bytes(b"56")

    found = doctor.examine()["folders"]["prepared_store"]

    assert (found["size_bytes"], found["exists"]) == (6, True)
    assert found["free_bytes"] > 0


def test_a_folder_that_is_not_there_yet_has_size_zero_and_a_disk(private_folders):
    found = doctor.examine()["folders"]["user_data"]

    assert (found["size_bytes"], found["exists"]) == (0, False)
    assert found["free_bytes"] > 0


def test_the_convolution_is_checked_against_another_way_to_calculate_it():
    _, error = doctor.convolution("cpu")

    assert error < 1e-5


def test_a_device_that_calculates_wrongly_is_a_problem(private_folders, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "convolution", lambda device: (1.0, 0.5))

    code, text = _run(False, capsys)

    assert code == 1
    assert "gave a wrong result (relative error 5.0e-01)" in text


def test_a_missing_package_is_named_with_the_remedy(private_folders, monkeypatch, capsys):
    missing = Package(
        name="no-such-package", lowest="1.0", purpose="", download_mb=1, disk_mb=1, folders=()
    )
    monkeypatch.setattr(doctor, "PACKAGES", (*doctor.PACKAGES, missing))

    code, text = _run(False, capsys)

    assert code == 1
    assert "no-such-package 1.0 or later (here: none)" in text
    assert "run.py setup" in text


def test_a_torch_that_cannot_be_loaded_is_a_problem_and_not_a_crash(
    private_folders, monkeypatch, capsys
):
    broken = private_folders / "broken" / "torch.py"
    broken.parent.mkdir()
    broken.write_text("raise OSError('[WinError 126] c10.dll')")
    monkeypatch.syspath_prepend(broken.parent)
    monkeypatch.delitem(sys.modules, "torch")

    code, text = _run(True, capsys)
    found = json.loads(text)

    assert code == 1
    assert found["torch"] is None
    assert "cannot be loaded (OSError: [WinError 126] c10.dll)" in found["problems"][0]
    first = findings(found)[0]
    assert first.level == "problem"
    assert "c10.dll" in first.text


def test_json_can_go_to_a_file_beside_the_words(private_folders, capsys):
    file = private_folders / "new" / "doctor.json"

    doctor.run(argparse.Namespace(json=str(file), wheels=False))

    assert capsys.readouterr().out.strip()
    assert json.loads(file.read_text(encoding="utf-8"))["ok"]


def test_the_command_that_fills_a_folder_of_wheels_is_printed(private_folders, capsys):
    code = doctor.run(argparse.Namespace(json=None, wheels=True))
    text = capsys.readouterr().out

    assert code == 0
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert "-m pip download --dest wheels --only-binary :all: --implementation cp " in text
    assert f"--python-version {python} --abi cp{python.replace('.', '')}" in text
    assert '"torch>=2.4"' in text


# --- in words, for the panel ------------------------------------------------------------------

A_GPU = {
    "name": "cuda:0",
    "title": "NVIDIA RTX A5000",
    "memory_bytes": 25_300_000_000,
    "ok": True,
    "milliseconds": 3.2,
    "message": "ran a 3-D convolution in 3.2 ms, result right",
    "capability": [8, 6],
}


@pytest.fixture(scope="module")
def examined(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMISUPSEG_HOME", str(tmp_path_factory.mktemp("home")))
        found = doctor.examine()
    torch = {"version": "2.9.0+cu126", "cuda": "12.6", "arch_list": ["sm_80", "sm_86", "sm_90"]}
    cpu = found["devices"][0]
    return {**found, "devices": [cpu, A_GPU], "torch": torch, "nvidia_driver": True}


def _texts(found):
    return [f"{one.level}: {one.text}" for one in findings(found)]


def test_a_gpu_that_works_is_the_first_sentence(examined):
    assert _texts(examined)[:2] == [
        "good: GPU 0: NVIDIA RTX A5000, 24 GB, ran a convolution in 3 ms.",
        "good: All packages are there; PyTorch 2.9.0+cu126.",
    ]


def test_without_a_gpu_it_is_said_what_that_means(examined):
    found = {**examined, "devices": examined["devices"][:1], "nvidia_driver": False}

    assert _texts(found)[0] == (
        "note: No NVIDIA GPU was found: segmenting works, training is possible but slow."
    )
    assert _texts(found)[1].startswith("good: CPU: ran a convolution")


def test_a_cpu_build_beside_a_driver_is_a_problem_with_a_remedy(examined):
    torch = {"version": "2.9.0+cpu", "cuda": None, "arch_list": []}
    found = {**examined, "devices": examined["devices"][:1], "torch": torch}

    first = _texts(found)[0]
    assert first.startswith("problem: There is an NVIDIA driver, but the installed PyTorch 2.9.0")
    assert "a build for the CPU only" in first
    assert "Slicer's PyTorch extension" in first


def test_a_driver_that_is_too_old_for_the_build_is_told(examined):
    first = _texts({**examined, "devices": examined["devices"][:1]})[0]

    assert "for CUDA 12.6 cannot use it: the driver is too old" in first
    assert "Update the driver" in first


def test_a_gpu_that_the_build_was_not_made_for_is_told(examined):
    failed = {**A_GPU, "ok": False, "capability": [12, 0], "milliseconds": None}
    found = {**examined, "devices": [examined["devices"][0], failed]}

    first = _texts(found)[0]
    assert "compute capability 12.0, for which PyTorch 2.9.0+cu126 was not built" in first
    assert first.startswith("problem")


def test_a_gpu_that_calculates_wrongly_is_told(examined):
    failed = {**A_GPU, "ok": False, "message": "a 3-D convolution gave a wrong result"}
    found = {**examined, "devices": [examined["devices"][0], failed]}

    assert "24 GB: a 3-D convolution gave a wrong result. Update the driver" in _texts(found)[0]


def test_missing_packages_are_told_with_the_button(examined):
    packages = {**examined["packages"]}
    packages["nibabel"] = {**packages["nibabel"], "version": None, "ok": False}
    packages["tqdm"] = {**packages["tqdm"], "version": None, "ok": False}
    texts = _texts({**examined, "packages": packages})

    wanted = "problem: Missing or too old: nibabel 5.2 or later (here: none). Press Install"
    assert any(one.startswith(wanted) for one in texts)


@pytest.mark.parametrize(
    ("capability", "arch_list", "fits"),
    [
        ([8, 6], ["sm_80"], True),
        ([8, 0], ["sm_86"], False),
        ([12, 0], ["sm_80", "sm_90"], False),
        ([12, 0], ["sm_80", "compute_90"], True),
        ([12, 0], ["sm_120"], True),
        ([9, 0], ["sm_90a"], True),
        ([7, 5], [], True),
    ],
)
def test_a_gpu_is_compared_with_what_torch_was_built_for(capability, arch_list, fits):
    assert is_built_for(capability, arch_list) is fits


def test_diagnostics_name_neither_user_nor_folders_of_patients(examined):
    home = Path("/home/mueller")
    found = {
        **examined,
        "python": {"version": "3.12.10", "executable": "/home/mueller/Slicer/bin/python"},
        "notes": ["C:\\Users\\mueller\\x", "/scratch/mueller/torch", "/home/muellerin/y"],
        "folders": {"prepared_store": {**examined["folders"]["user_data"], "path": "/data/Meyer"}},
    }

    text = diagnostics(found, extra={"Slicer": "5.12.1"}, home=home, user="mueller")

    assert text.startswith("Slicer: 5.12.1\ngood: GPU 0")
    assert '"executable": "~/Slicer/bin/python"' in text
    assert "/scratch/<user>/torch" in text
    assert "/home/muellerin/y" in text
    assert "mueller/" not in text
    assert "mueller\\" not in text
    assert "Meyer" not in text
    assert '"torch": "' in text.split('"packages"')[1]


def test_diagnostics_can_be_had_without_a_worker():
    text = diagnostics(None, extra={"Error": "it ended without a word"})

    assert (
        text == "Error: it ended without a word\nThe worker could not examine the installation.\n"
    )


def test_a_home_folder_in_json_on_windows_is_shortened():
    home = Path("C:\\Users\\Ünal")

    text = json.dumps({"path": "C:\\Users\\Ünal\\a"}, ensure_ascii=False)

    assert without_user(text, home=home, user="Ünal") == '{"path": "~\\\\a"}'
