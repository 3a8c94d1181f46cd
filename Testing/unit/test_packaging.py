"""The extension is packaged whole: what CMake installs is what git has, and works from there.

Testing/packaging stands in for the Slicer that CMake finds.
"""

import collections
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = ROOT / "Testing" / "packaging"
MODULES = Path("lib/Slicer-5.10/qt-scripted-modules")
"""What Slicer puts on Python's path, below the folder of an installation."""
BOTH_RESOURCES = ("SemiSupSeg/Resources", "Resources")

LYING_ABOUT = (
    "Resources/Tasks/.DS_Store",
    "Resources/Tasks/.brats.json",
    "Resources/Tasks/brats.json~",
    "SemiSupSeg/Resources/Icons/.thumbnail.png",
    "SemiSupSeg/SemiSupSegUI/__pycache__/jobs.py",
    "SemiSupSegLib/.hidden.py",
    "SemiSupSegLib/__pycache__/errors.cpython-312.pyc",
    "SemiSupSegLib/cases/.ipynb_checkpoints/case.py",
    "SemiSupSegLib/notes.txt",
)
"""Files of a checkout that no package should have."""


# --- what is installed -----------------------------------------------------------------------


def test_the_installed_files_are_those_in_git(an_installation):
    installed = {
        file.relative_to(an_installation.modules).as_posix()
        for file in an_installation.modules.rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }

    wanted = set(map(installed_name, an_installation.shipped))
    assert {"SemiSupSeg.py", "SemiSupSegLib/resources.py", "Resources/Tasks/brats.json"} <= wanted
    assert sorted(wanted - installed) == [], "in git, not installed: see CMakeLists.txt beside it"
    assert sorted(installed - wanted) == [], "installed, not in git"


def test_installed_files_have_the_content_of_those_in_git(an_installation):
    files = {
        an_installation.source / file: an_installation.modules / installed_name(file)
        for file in an_installation.shipped
    }

    assert [
        source
        for source, installed in files.items()
        if installed.is_file() and installed.read_bytes() != source.read_bytes()
    ] == []


def test_everything_is_in_the_folder_of_modules(an_installation):
    # Testing and utils are names that other extensions use as well; all share one path.
    assert {entry.name for entry in an_installation.modules.iterdir()} == {
        "Resources",
        "SemiSupSeg.py",
        "SemiSupSeg.pyc",
        "SemiSupSegLib",
        "SemiSupSegUI",
    }
    outside = [
        file
        for file in an_installation.prefix.rglob("*")
        if file.is_file() and an_installation.modules not in file.parents
    ]
    assert outside == []


def test_no_name_is_in_both_resource_folders():
    files = files_of_git()
    names = collections.Counter(
        file.removeprefix(f"{folder}/").casefold()  # Windows and macOS take both for one
        for folder in BOTH_RESOURCES
        for file in files
        if file.startswith(f"{folder}/") and not file.endswith("CMakeLists.txt")
    )

    assert [name for name, times in names.items() if times > 1] == []


def test_the_module_has_no_other_script_beside_it():
    # Slicer would load it as a module of its own.
    beside = [file for file in files_of_git() if re.fullmatch(r"SemiSupSeg/[^/]+\.py", file)]

    assert beside == ["SemiSupSeg/SemiSupSeg.py"]


def test_the_package_holds_what_is_installed_and_nothing_else(an_installation):
    with tarfile.open(an_installation.package) as package:
        packed = {file.name: package.extractfile(file).read() for file in package if file.isfile()}

    # CPack puts all into a folder of the package's name, which Slicer takes away again.
    installed = {
        f"SemiSupSeg/{file.relative_to(an_installation.prefix).as_posix()}": file.read_bytes()
        for file in an_installation.prefix.rglob("*")
        if file.is_file()
    }
    assert sorted(packed) == sorted(installed)
    assert [name for name, content in packed.items() if content != installed[name]] == []


# --- that it works from there ----------------------------------------------------------------


def test_the_installed_module_and_its_panel_are_imported(an_installation):
    said = import_everything_of_the_module(an_installation.modules)

    assert said["module"] == str(an_installation.modules / "SemiSupSeg.py")
    assert said["library"] == str(an_installation.modules / "SemiSupSegLib" / "__init__.py")


def test_the_module_is_imported_from_the_source_tree():
    # Only its own folder is an additional module path; the library lies beside that.
    said = import_everything_of_the_module(ROOT / "SemiSupSeg")

    assert said["module"] == str(ROOT / "SemiSupSeg" / "SemiSupSeg.py")
    assert said["library"] == str(ROOT / "SemiSupSegLib" / "__init__.py")


def test_the_installed_library_finds_its_resources(an_installation):
    said = run_python(
        "from SemiSupSegLib import resources\n"
        "from SemiSupSegLib.cases.task import load_task\n"
        "names = [one.name for one in load_task('brats').classes]\n"
        "say(root=str(resources.ROOT), presets=resources.preset_names(), classes=names)",
        an_installation.modules,
    )

    assert said["root"] == str(an_installation.modules / "Resources")
    assert "standard" in said["presets"]
    assert said["classes"] == ["necrosis", "edema", "enhancing"]


def test_slicer_finds_the_icon_by_the_name_of_the_module(an_installation):
    icon = (an_installation.modules / "Resources/Icons/SemiSupSeg.png").read_bytes()

    assert size_of_png(icon) == (128, 128)


def test_each_slicer_test_is_registered_with_its_folder(an_installation):
    registered = {
        name: Path(folder, f"{name}.py")
        for name, folder in an_installation.tests.items()
        if not name.startswith("qSlicer")
    }

    in_git = {Path(file).stem for file in files_of_git() if file.startswith("Testing/slicer/test_")}
    assert set(registered) == in_git
    assert [file for file in registered.values() if not file.is_absolute()] == []
    assert [file for file in registered.values() if not file.is_file()] == []


def test_slicers_own_test_of_a_module_is_registered_for_the_module_only(an_installation):
    generic = [name for name in an_installation.tests if name.startswith("qSlicer")]

    assert generic == ["qSlicerSemiSupSegModuleGenericTest"]


# --- what the extension says of itself -------------------------------------------------------


def test_the_package_carries_our_licence_and_readme(an_installation):
    said = an_installation.description

    assert Path(said["EXTENSION_LICENSE_FILE"]).read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert Path(said["EXTENSION_README_FILE"]).read_bytes() == (ROOT / "README.md").read_bytes()


def test_a_semicolon_would_cut_a_description_off(an_installation):
    # CMake takes it for the end of an element of a list.
    said = an_installation.description

    assert said["EXTENSION_DESCRIPTION"].endswith("For research use only.")
    assert [value for value in said.values() if ";" in value] == []


def test_the_catalogue_entry_fits_the_extension(an_installation):
    entry = catalogue_entry()

    # Slicer's schema of entries, version 1.0.2, which takes no further keys.
    assert {"$schema", "category", "scm_url"} <= set(entry)
    assert set(entry) <= {
        "$schema",
        "build_dependencies",
        "build_subdirectory",
        "category",
        "dicom_support_rule",
        "enabled",
        "scm_revision",
        "scm_type",
        "scm_url",
        "tier",
    }
    assert entry["category"] == "Segmentation"
    depends = an_installation.description["EXTENSION_DEPENDS"]
    assert entry["build_dependencies"] == depends.split() == ["PyTorch"]


def test_the_index_finds_the_name_and_the_pictures_in_the_text():
    # The checker of the Extensions Index does not run CMake: it looks for lines of this form.
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")

    assert re.findall(r"^project\((\S+)\)$", text, re.MULTILINE) == ["SemiSupSeg"]
    files = set(files_of_git())
    for variable in ("EXTENSION_ICONURL", "EXTENSION_SCREENSHOTURLS"):
        (urls,) = re.findall(rf'^set\({variable} "([^"$\n]+)"\)$', text, re.MULTILINE)
        for url in urls.split():
            file = url.removeprefix(f"{raw_address()}/")
            assert file in files, f"{url} is not of this repository and branch"
            assert size_of_png((ROOT / file).read_bytes()) > (0, 0)


def test_there_is_one_address(an_installation):
    address = catalogue_entry()["scm_url"].removesuffix(".git")

    assert address.rpartition("/")[2] == "Slicer" + an_installation.description["EXTENSION_NAME"]
    assert an_installation.description["EXTENSION_HOMEPAGE"] == address
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    of_other_owners = [
        found
        for found in re.findall(r"https://[^/\s]*github[^/\s]*/[^/\s\"]+/[^/\s\"]+", text)
        if found not in (address, raw_address().rpartition("/")[0])
    ]
    assert of_other_owners == []


# --- that the stand-in has the traps of Slicer's own macros ----------------------------------


def test_a_path_that_leaves_the_module_is_lost_without_a_word(cmake, tmp_path):
    toy = make_toy(tmp_path, "SCRIPTS Toy.py ../ToyLib/__init__.py")
    (tmp_path / "ToyLib").mkdir()
    (tmp_path / "ToyLib" / "__init__.py").touch()

    cmake.configure(tmp_path, tmp_path / "build")
    cmake.build(tmp_path / "build")
    cmake.install(tmp_path / "build", tmp_path / "installed")

    assert toy.is_file()
    assert (tmp_path / "build" / MODULES.parent / "ToyLib" / "__init__.py").is_file()
    installed = [file.name for file in (tmp_path / "installed").rglob("*.py")]
    assert installed == ["Toy.py"]


def test_only_what_belongs_to_the_packaged_component_is_installed(cmake, tmp_path):
    make_toy(
        tmp_path,
        "SCRIPTS Toy.py",
        "install(FILES Toy.py DESTINATION ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}/Lost)",
    )

    cmake.configure(tmp_path, tmp_path / "build")
    cmake.build(tmp_path / "build")
    cmake.install(tmp_path / "build", tmp_path / "installed")

    assert (tmp_path / "installed" / MODULES / "Toy.py").is_file()
    assert not (tmp_path / "installed" / MODULES / "Lost").exists()


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ("SCRIPTS Toy.py missing.py", "nonexistent file: missing.py"),
        ("SCRIPTS Toy.py RESOURCES missing.json", "nonexistent file: missing.json"),
        ("RESOURCES Toy.py WITH_SUBDIR", "SCRIPTS is mandatory"),
        ("SCRIPTS Toy.py RESSOURCES Toy.py", "nonexistent file: RESSOURCES"),
    ],
)
def test_what_slicers_macro_refuses_the_stand_in_refuses(cmake, tmp_path, entries, complaint):
    make_toy(tmp_path, entries)

    with pytest.raises(subprocess.CalledProcessError) as raised:
        cmake.configure(tmp_path, tmp_path / "build")

    assert complaint in raised.value.stderr


# --- making it -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cmake:
    """The programs that build an extension."""

    program: str
    generator: tuple[str, ...]

    def configure(self, source: Path, build: Path) -> None:
        options = {
            "Slicer_DIR": STAND_IN,
            "CMAKE_TOOLCHAIN_FILE": STAND_IN / "no_compiler.cmake",
            "Python3_EXECUTABLE": sys.executable,
        }
        given = [f"-D{name}={Path(value).as_posix()}" for name, value in options.items()]
        self.run("-S", source, "-B", build, *self.generator, *given)

    def build(self, build: Path) -> None:
        self.run("--build", build)

    def install(self, build: Path, prefix: Path) -> None:
        self.run("--install", build, "--prefix", prefix, "--component", "RuntimeLibraries")

    def package(self, build: Path) -> Path:
        """Return the archive that an extension manager would get."""
        run([self._program("cpack")], cwd=build)
        return build / "SemiSupSeg.tar.gz"

    def tests(self, build: Path) -> dict[str, str]:
        """Return the registered tests: module name to folder."""
        answer = run([self._program("ctest"), "--show-only=json-v1"], cwd=build)
        commands = [test["command"] for test in json.loads(answer)["tests"]]
        return {name: folder for *_, folder, name in commands}

    def run(self, *words: object) -> None:
        run([self.program, *words])

    def _program(self, name: str) -> Path:
        """Return the program beside this one."""
        return Path(self.program).with_name(Path(self.program).name.replace("cmake", name))


@dataclass(frozen=True)
class Installation:
    """What building and installing the extension gave."""

    source: Path
    """A copy of what git has, made first, so that nobody edits it meanwhile."""
    shipped: list[str]
    """Files of the copy that make up the extension."""
    prefix: Path
    modules: Path
    package: Path
    tests: dict[str, str]
    description: dict[str, str]


@pytest.fixture(scope="module")
def cmake():
    # Beside Python first: requirements.txt may bring both programs.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which("cmake", path=path)
    ninja = shutil.which("ninja", path=path)
    if program is None:
        pytest.skip("cmake is not installed (pip install cmake ninja)")
    if ninja is not None:
        return Cmake(program, ("-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={Path(ninja).as_posix()}"))
    if sys.platform != "win32" and shutil.which("make", path=path) is None:
        pytest.skip("neither ninja nor make is installed (pip install ninja)")
    return Cmake(program, ())


@pytest.fixture(scope="module")
def an_installation(cmake, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packaging")
    source, build, prefix = folder / "a checkout", folder / "build", folder / "installed"
    files = files_of_git()
    for file in files:
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, source / file)
    for file in LYING_ABOUT:
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        (source / file).write_text("not to be shipped", encoding="utf-8")
    cmake.configure(source, build)
    cmake.build(build)
    cmake.install(build, prefix)
    lines = (build / "description.txt").read_text(encoding="utf-8").splitlines()
    description = dict(line.split("=", 1) for line in lines)
    return Installation(
        source=source,
        shipped=list(filter(is_shipped, files)),
        prefix=prefix,
        modules=prefix / MODULES,
        package=cmake.package(build),
        tests=cmake.tests(build),
        description=description,
    )


def make_toy(folder: Path, entries: str, more: str = "") -> Path:
    """Write an extension with the module Toy, which lists `entries`, and return its script."""
    (folder / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16.3...3.28.0)\n"
        "project(Toy)\n"
        "find_package(Slicer REQUIRED)\n"
        "include(${Slicer_USE_FILE})\n"
        "add_subdirectory(Toy)\n"
    )
    script = folder / "Toy" / "Toy.py"
    script.parent.mkdir()
    script.touch()
    listed = f"slicerMacroBuildScriptedModule(NAME Toy {entries})\n{more}\n"
    (folder / "Toy" / "CMakeLists.txt").write_text(listed)
    return script


def is_shipped(file: str) -> bool:
    """Return whether a file in git is a part of the extension."""
    folders = ("SemiSupSeg/", "SemiSupSegLib/", "Resources/")
    return file.startswith(folders) and not file.endswith("CMakeLists.txt")


def installed_name(file: str) -> str:
    """Return where a file in git lies below the folder of modules."""
    return file.removeprefix("SemiSupSeg/")


def files_of_git() -> list[str]:
    """Return what git has, and what it would take in: it ignores what is never to be shipped."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("this is no git checkout, so there is nothing to compare with")
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = run(asked, cwd=ROOT).split("\0")
    return sorted({name for name in names if name and (ROOT / name).is_file()})


def import_everything_of_the_module(folder: Path) -> dict[str, str]:
    """Load the module as Slicer does at its start, then import all of its panel."""
    return run_python(
        "import pkgutil, importlib\n"
        f"exec(open({str(STAND_IN / 'slicer_of_air.py')!r}).read())\n"
        "import SemiSupSeg\n"
        "SemiSupSeg.SemiSupSeg(None)\n"
        "import SemiSupSegUI\n"
        "for part in pkgutil.walk_packages(SemiSupSegUI.__path__, 'SemiSupSegUI.'):\n"
        "    importlib.import_module(part.name)\n"
        "import SemiSupSegLib\n"
        "say(library=SemiSupSegLib.__file__, module=SemiSupSeg.__file__)",
        folder,
        "-S",
    )


def run_python(program: str, folder: Path, *options: str) -> dict:
    """Run a program with only the folder, and what Python itself has, to import from.

    Args:
        program: Tells what it found by `say(name=value)`.
        folder: Added to the path.
        options: Of the interpreter; `-S`: without installed packages.
    """
    head = (
        "import json, sys\n"
        f"sys.path.append({str(folder)!r})\n"
        "say = lambda **found: print(json.dumps(found))\n"
    )
    answer = run([sys.executable, "-I", "-B", *options, "-c", head + program])
    return json.loads(answer.splitlines()[-1])


def run(words: list, cwd: Path | None = None) -> str:
    """Run a program and return what it says; what it complains of goes into pytest's output."""
    command = [str(word) for word in words]
    answer = subprocess.run(command, cwd=cwd, capture_output=True, encoding="utf-8", timeout=300)
    if answer.returncode != 0:
        print(answer.stdout, answer.stderr, sep="\n")
    answer.check_returncode()
    return answer.stdout


def catalogue_entry() -> dict:
    return json.loads((ROOT / "SemiSupSeg.json").read_text(encoding="utf-8"))


def raw_address() -> str:
    """Return the folder on the web that holds the files of the branch which is published."""
    entry = catalogue_entry()
    repository = entry["scm_url"].removesuffix(".git").removeprefix("https://github.com/")
    return f"https://raw.githubusercontent.com/{repository}/{entry['scm_revision']}"


def size_of_png(content: bytes) -> tuple[int, int]:
    """Return width and height in pixels."""
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", content[16:24])
