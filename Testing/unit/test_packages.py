"""Installing into a real Python from wheels made here: constraints, remnants, failures."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.files import read_json
from SemiSupSegLib.runs.state import RunStatus
from SemiSupSegLib.workers import runner as runner_module
from SemiSupSegLib.workers import wheels as wheels_module
from SemiSupSegLib.workers.environment import packages_folder
from SemiSupSegLib.workers.packages import PACKAGES, PackageStatus, Probe, package_states
from SemiSupSegLib.workers.plan import make_plan
from SemiSupSegLib.workers.removal import remove_package
from SemiSupSegLib.workers.runner import JobRunner

PATIENCE = 120.0
NEEDED = [one for one in PACKAGES if not one.terminal_only]
IN_SLICER = {"numpy": "2.0.2", "scipy": "1.13.1", "SimpleITK": "2.4.1", "pydicom": "2.4.4"}


def a_wheel(folder: Path, name: str, version: str, requires=(), module: str | None = None) -> Path:
    """Make a wheel with one package in it."""
    folder.mkdir(parents=True, exist_ok=True)
    module, info = module or name, f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {one}" for one in requires]
    tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {
        f"{module}/__init__.py": f"__version__ = '{version}'\n",
        f"{module}/part.py": "",
        f"{info}/METADATA": "\n".join(lines) + "\n",
        f"{info}/WHEEL": tag,
    }
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        record = ""
        for file, text in files.items():
            archive.writestr(file, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
            record += f"{file},sha256={digest.rstrip('=')},{len(text)}\n"
        archive.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return path


def unpack(wheel: Path, site: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)


def site_of(environment: Path) -> Path:
    return next(environment.glob("[Ll]ib/**/site-packages"))


@pytest.fixture(scope="module")
def an_empty_environment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("python") / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    return folder


@pytest.fixture
def python(an_empty_environment, tmp_path, monkeypatch):
    """A Python like Slicer's: with the packages that come with it."""
    monkeypatch.setenv("SEMISUPSEG_HOME", str(tmp_path / "home of Ünal"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    folder = tmp_path / "a python"
    shutil.copytree(
        an_empty_environment, folder, symlinks=True, ignore=shutil.ignore_patterns("pip")
    )
    if not (site_of(folder) / "pip").exists():
        # Nothing changes it, and it has a thousand files.
        copy = shutil.copytree if os.name == "nt" else os.symlink
        copy(site_of(an_empty_environment) / "pip", site_of(folder) / "pip")
    made = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    for name, version in IN_SLICER.items():
        unpack(a_wheel(tmp_path / "bundled", name, version), site_of(folder))
    return made


@pytest.fixture
def wheels(tmp_path):
    """A folder with wheels of all that Slicer's Python lacks, and of a newer numpy."""
    folder = tmp_path / "a folder of wheels"
    a_wheel(folder, "torch", "2.9.0", ["jinja2"])
    a_wheel(folder, "matplotlib", "3.9", ["numpy>=1.23", "pillow"])
    a_wheel(folder, "nibabel", "5.3", ["numpy>=1.22"])
    for name in ("safetensors", "psutil", "fastjsonschema", "jinja2", "pillow"):
        a_wheel(folder, name, "30.0")
    a_wheel(folder, "numpy", "2.0.2")
    a_wheel(folder, "numpy", "3.0")
    return folder


@pytest.fixture
def site(python, tmp_path):
    """The folder where the Python keeps its packages."""
    return site_of(tmp_path / "a python")


@pytest.fixture
def a_complete_python(site, wheels):
    """What is needed is there, without having run pip."""
    for wheel in wheels.iterdir():
        if not wheel.name.startswith("numpy"):
            unpack(wheel, site)
    for info in site.glob("*.dist-info"):
        (info / "INSTALLER").write_text("pip\n")


@pytest.fixture
def runner(python, tmp_path):
    made = JobRunner(python, tmp_path / "logs")
    yield made
    made.close()


@pytest.fixture
def look(runner, tmp_path):
    def look() -> Probe:
        folder = tmp_path / "probes" / str(time.monotonic_ns())
        job = ended(runner, runner.probe(folder))
        assert job.state.status is RunStatus.FINISHED, job.state.error
        return Probe.from_json(read_json(job.folder.result_json))

    return look


@pytest.fixture
def install(runner, look, tmp_path):
    def install(wheels, **changes):
        plan = make_plan(replace(look(), **changes), is_own_python=True, wheels=wheels)
        job = runner.install(tmp_path / "jobs" / str(time.monotonic_ns()), plan)
        return ended(runner, job)

    return install


def ended(runner, job, *questions):
    """Poll until the job has ended, or all questions are answered by yes."""
    end = time.monotonic() + PATIENCE
    questions = questions or [lambda: job.is_ended]
    while time.monotonic() < end:
        runner.poll()
        if all(question() for question in questions):
            return job
        time.sleep(0.01)
    raise AssertionError("it took too long")


def states_of(probe):
    return {one.package.name: one.status for one in package_states(probe)}


# --- looking ----------------------------------------------------------------------------------


def test_what_a_python_lacks_is_found_without_importing(python, look):
    probe = look()

    missing = [name for name, one in states_of(probe).items() if one is PackageStatus.MISSING]
    assert missing == [one.name for one in NEEDED if not one.comes_with_slicer]
    assert probe.installed["simpleitk"].version == "2.4.1"
    assert probe.python == sys.version_info[:3]
    assert probe.is_writable
    assert probe.free_mb > 0
    assert probe.pip
    assert not probe.has_chooser


def test_looking_leaves_the_python_as_it_was(site, look):
    before = sorted(site.rglob("*"))
    look()

    assert sorted(site.rglob("*")) == before


def test_a_package_of_slicer_without_metadata_is_there(site, look):
    shutil.rmtree(site / "SimpleITK-2.4.1.dist-info")

    state = next(one for one in package_states(look()) if one.package.name == "SimpleITK")

    assert (state.status, str(state)) == (
        PackageStatus.PRESENT,
        "SimpleITK (version not recorded)",
    )


# --- installing for real ----------------------------------------------------------------------


def test_what_is_missing_is_installed_and_what_is_there_stays(look, install, wheels):
    job = install(wheels)

    assert job.state.status is RunStatus.FINISHED, job.state.error
    result = read_json(job.folder.result_json)
    assert result["installed"]["torch"] == "2.9.0"
    assert result["changed"] == {}
    assert "jinja2-30.0 torch-2.9.0\n" in job.folder.log_file.read_text(encoding="utf-8")
    after = look()
    assert set(states_of(after).values()) == {PackageStatus.PRESENT}
    # The folder has a newer one, which nothing here needs.
    assert after.installed["numpy"].version == "2.0.2"
    plan = make_plan(after, is_own_python=True)
    assert not plan.is_needed
    assert plan.in_words() == ["Everything that is needed is installed."]


def test_a_package_that_needs_another_version_of_an_installed_one_is_not_installed(
    look, install, wheels
):
    (wheels / "matplotlib-3.9-py3-none-any.whl").unlink()
    a_wheel(wheels, "matplotlib", "4.0", ["numpy>=3"])

    job = install(wheels)

    assert job.state.status is RunStatus.FAILED
    assert "matplotlib 4.0 needs numpy>=3" in job.state.error
    assert "and numpy 2.0.2 is installed. It stays as it is" in job.state.error
    assert "Choose another Python" in job.state.error
    assert look().installed["numpy"].version == "2.0.2"


def test_where_nothing_can_be_written_packages_go_to_a_folder_that_workers_see(
    python, site, look, install, wheels
):
    job = install(wheels, is_writable=False)

    assert job.state.status is RunStatus.FINISHED, job.state.error
    after = look()
    assert set(states_of(after).values()) == {PackageStatus.PRESENT}
    assert Path(after.installed["torch"].location) == packages_folder()
    assert not (site / "torch").exists()
    # pip brings what the packages need along; the worker takes Slicer's.
    assert Path(after.installed["numpy"].location) == site.resolve()
    assert not list(packages_folder().glob("numpy*"))
    assert not list(packages_folder().parent.glob("*.part"))
    bare = subprocess.run([python, "-c", "import torch"], capture_output=True)
    assert b"No module named 'torch'" in bare.stderr


@pytest.mark.usefixtures("a_complete_python")
@pytest.mark.parametrize("remnant", ["no files", "no record", "no start"])
def test_a_half_installed_package_is_recognised_and_mended(site, look, install, wheels, remnant):
    if remnant == "no files":
        shutil.rmtree(site / "torch")
    elif remnant == "no start":
        (site / "torch" / "__init__.py").unlink()
    else:
        # pip writes them last.
        (site / "torch-2.9.0.dist-info" / "RECORD").unlink()
        (site / "torch-2.9.0.dist-info" / "INSTALLER").unlink()
        (site / "~orch").mkdir()

    probe = look()
    plan = make_plan(probe, is_own_python=True, wheels=wheels)
    assert states_of(probe)["torch"] is PackageStatus.BROKEN
    assert (plan.install, plan.remove) == (("torch>=2.4",), ("torch",))
    job = install(wheels)

    assert job.state.status is RunStatus.FINISHED, job.state.error
    assert states_of(look())["torch"] is PackageStatus.PRESENT
    assert (site / "torch" / "part.py").exists()
    assert not (site / "~orch").exists()


@pytest.mark.usefixtures("a_complete_python")
def test_torch_is_replaced_on_request_only(runner, look, wheels, tmp_path):
    a_wheel(wheels, "torch", "2.10.0")
    assert not make_plan(look(), is_own_python=True, wheels=wheels).is_needed
    plan = make_plan(look(), is_own_python=True, wheels=wheels, replace_torch=True)

    job = ended(runner, runner.install(tmp_path / "again", plan))

    assert job.state.status is RunStatus.FINISHED, job.state.error
    assert read_json(job.folder.result_json)["changed"] == {"torch": ["2.9.0", "2.10.0"]}


def test_a_folder_without_a_needed_wheel_is_named(install, wheels):
    (wheels / "torch-2.9.0-py3-none-any.whl").unlink()

    job = install(wheels)

    assert job.state.status is RunStatus.FAILED
    assert f"The folder {wheels} has no wheel of torch>=2.4 for Python 3." in job.state.error
    assert "doctor --wheels" in job.state.error


def test_a_folder_without_any_wheel_is_named(install, tmp_path):
    job = install(tmp_path / "empty")

    assert "empty holds no wheels" in job.state.error


def test_a_damaged_wheel_is_named(look, install, wheels):
    wheel = wheels / "safetensors-30.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes()[:100])

    job = install(wheels)

    assert job.state.status is RunStatus.FAILED
    assert "The wheel safetensors-30.0-py3-none-any.whl is damaged" in job.state.error


@pytest.mark.skipif(os.name == "nt", reason="needs a named pipe")
@pytest.mark.parametrize("how", ["cancelled", "its owner leaves"])
def test_an_installation_that_is_stopped_leaves_no_process(
    runner, look, wheels, tmp_path, monkeypatch, how
):
    monkeypatch.setattr(runner_module, "KILL_AFTER_SECONDS", PATIENCE)
    torch = wheels / "torch-2.9.0-py3-none-any.whl"
    torch.unlink()
    # Whoever opens it waits.
    os.mkfifo(torch)
    plan = make_plan(look(), is_own_python=True, wheels=wheels)
    job = runner.install(tmp_path / "job", plan)
    ended(runner, job, lambda: job.state.phase.startswith("installing torch (1 of 2)"))
    worker = psutil.Process(job.state.pid)
    ended(runner, job, lambda: worker.children())
    children = worker.children(recursive=True)

    if how == "cancelled":
        runner.cancel(job)
        ended(runner, job)
    else:
        runner.close()

    assert job.state.status is RunStatus.STOPPED
    assert "mended by the next Install" in job.state.error
    assert [one for one in children if one.is_running()] == []


def test_no_installation_begins_that_its_plan_speaks_against(runner, look, tmp_path):
    blocked = make_plan(replace(look(), pip=None), is_own_python=True)

    with pytest.raises(SemiSupSegError, match="has no pip"):
        runner.install(tmp_path / "job", blocked)


def test_the_command_for_a_wheel_folder_fills_one(python, look, wheels, install, tmp_path):
    filled, probe = tmp_path / "filled", look()
    words = wheels_module.fill_command(probe, str(filled))
    if "setuptools" in probe.installed:
        a_wheel(wheels, "setuptools", probe.installed["setuptools"].version)
    source = ["--no-index", "--find-links", str(wheels)]
    clean = {name: one for name, one in os.environ.items() if not name.startswith("PIP_")}

    answer = subprocess.run(
        [str(python), *words[1:], *source],
        env={**clean, "PIP_CONFIG_FILE": os.devnull},
        capture_output=True,
        text=True,
    )
    job = install(filled)

    assert answer.returncode == 0, answer.stderr
    assert "numpy-2.0.2-py3-none-any.whl" in {one.name for one in filled.iterdir()}
    assert job.state.status is RunStatus.FINISHED, job.state.error


# --- removing ---------------------------------------------------------------------------------


def test_removing_a_package_touches_nothing_else(tmp_path):
    site = tmp_path / "site"
    for name in ("torch", "torchio"):
        with zipfile.ZipFile(a_wheel(tmp_path / "wheels", name, "2.9")) as archive:
            archive.extractall(site)
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    with (site / "torch-2.9.dist-info" / "RECORD").open("a") as record:
        record.write(f"../outside.txt,,\n{outside},,\n")

    remove_package("torch", site)

    assert sorted(one.name for one in site.iterdir()) == ["torchio", "torchio-2.9.dist-info"]
    assert outside.read_text() == "mine"
