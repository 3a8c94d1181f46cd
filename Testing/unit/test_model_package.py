"""Model packages: what is written comes back, and what is not ours is refused."""

import contextlib
import gc
import hashlib
import json
import os
import pickle
import shutil
import stat
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.models import archive, package
from SemiSupSegLib.models.archive import ArchiveError
from SemiSupSegLib.models.package import (
    PackageError,
    export_package,
    read_manifest,
    read_package,
    write_package,
)

STUDENT = {
    "stem.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "stem.steps": np.array(7, dtype=np.int64),
}
TEACHER = {"stem.weight": np.full((2, 3, 4), 0.5, dtype=np.float32)}


@pytest.fixture
def a_manifest():
    return {
        "name": "brats curriculum student",
        "task": load_task("brats").to_json(),
        "network": {
            "name": "transaspp",
            "options": {"width": 8},
            "in_channels": 4,
            "num_classes": 4,
            "patch_size": (32, 48, 40),
        },
        "method": "curriculum",
        "preparation": {"spacing": [1.0, 1.0, 1.5]},
        "calibration": {
            "temperature": 1.25,
            "map": {"confidence": [0.0, 1.0], "accuracy": [0.1, 0.9]},
        },
        "training": {"labelled": 3, "unlabelled": 9},
        "validation": {"student": {"WT": {"dice": {"mean": 0.75}}}},
        "library": {"SemiSupSeg": "0.1.0"},
        "licence": None,
    }


@pytest.fixture
def a_package(tmp_path, a_manifest):
    return write_package(
        tmp_path / "student",
        manifest=a_manifest,
        weights={"student": STUDENT, "teacher": TEACHER},
        card="# A model\n",
    )


@pytest.fixture
def a_zip(tmp_path, a_package):
    export_package(a_package, tmp_path / "student.zip")
    return tmp_path / "student.zip"


def sign(folder, **values):
    """Rewrite the manifest with right hashes, as somebody who knows the format could."""
    file = folder / "manifest.json"
    content = {**json.loads(file.read_text()), **values}
    for name in content["files"]:
        if name != "manifest.json" and (folder / name).exists():
            content["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    content["files"]["manifest.json"] = package._manifest_sha256(content)
    file.write_bytes(package._as_written(content))


def entries_of(path):
    with zipfile.ZipFile(path) as content:
        return [(entry, content.read(entry)) for entry in content.infolist()]


def write_zip(path, entries):
    with zipfile.ZipFile(path, "w") as content:
        for entry, data in entries:
            content.writestr(entry, data)


def refusal_of(path):
    with pytest.raises(SemiSupSegError, match="student") as refusal:
        read_package(path)
    text = str(refusal.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


# What is written comes back.


def test_a_package_reads_back_what_was_written(a_package, a_manifest):
    found = read_package(a_package.folder)

    assert found.task == load_task("brats")
    assert found.manifest["network"]["patch_size"] == [32, 48, 40]
    assert found.manifest["calibration"] == a_manifest["calibration"]
    assert found.name == "brats curriculum student"
    assert found.card() == "# A model\n"
    assert (found.has("student"), found.has("teacher"), found.has("quality")) == (True, True, False)
    weights = found.weights()
    assert weights["stem.steps"].shape == ()
    assert weights["stem.steps"] == 7
    np.testing.assert_array_equal(weights["stem.weight"], STUDENT["stem.weight"])
    assert weights["stem.weight"].dtype == np.float32
    np.testing.assert_array_equal(found.weights("teacher")["stem.weight"], TEACHER["stem.weight"])


def test_the_folder_holds_the_files_of_the_architecture_and_nothing_else(a_package):
    assert sorted(entry.name for entry in a_package.folder.iterdir()) == [
        "card.md",
        "manifest.json",
        "teacher.safetensors",
        "weights.safetensors",
    ]
    assert [entry.name for entry in a_package.folder.parent.iterdir()] == ["student"]


def test_the_same_content_gives_the_same_hash_and_other_weights_another(
    tmp_path, a_package, a_manifest
):
    def sha256_of(name, weights):
        return write_package(
            tmp_path / name, manifest=a_manifest, weights=weights, card="# A model\n"
        ).sha256

    assert sha256_of("again", {"teacher": TEACHER, "student": STUDENT}) == a_package.sha256
    assert sha256_of("other", {"student": TEACHER, "teacher": TEACHER}) != a_package.sha256


def test_writing_takes_the_place_of_a_former_package(a_package, a_manifest):
    write_package(
        a_package.folder, manifest=a_manifest, weights={"student": TEACHER}, card="# Anew\n"
    )

    found = read_package(a_package.folder)
    assert found.card() == "# Anew\n"
    assert not found.has("teacher")
    assert [entry.name for entry in a_package.folder.parent.iterdir()] == ["student"]


def test_arrays_that_are_not_in_one_piece_keep_their_order(tmp_path, a_manifest):
    turned = STUDENT["stem.weight"].transpose(2, 0, 1)

    found = write_package(
        tmp_path / "student", manifest=a_manifest, weights={"student": {"a": turned}}, card=""
    )

    np.testing.assert_array_equal(found.weights()["a"], turned)


def test_a_manifest_against_the_schema_is_not_written(tmp_path, a_manifest):
    del a_manifest["preparation"]

    with pytest.raises(SemiSupSegError, match="preparation"):
        write_package(
            tmp_path / "student", manifest=a_manifest, weights={"student": STUDENT}, card=""
        )

    assert list(tmp_path.iterdir()) == []


def test_a_package_needs_a_student(tmp_path, a_manifest):
    with pytest.raises(ValueError, match="must be of student"):
        write_package(tmp_path / "p", manifest=a_manifest, weights={"teacher": TEACHER}, card="")


def test_a_run_folder_stands_for_its_student(tmp_path, a_package):
    run = tmp_path / "run"
    shutil.copytree(a_package.folder, run / "models" / "student")
    (run / "run.json").write_text("{}")

    assert read_package(run).sha256 == a_package.sha256


def test_a_run_without_student_yet_is_told(tmp_path):
    (tmp_path / "run.json").write_text("{}")

    with pytest.raises(PackageError, match="no finished student yet"):
        read_package(tmp_path)


def test_a_zip_reads_like_the_folder_and_is_the_same_bytes_each_time(tmp_path, a_package, a_zip):
    export_package(a_package, tmp_path / "again.zip")

    found = read_package(a_zip)

    assert found.sha256 == a_package.sha256
    np.testing.assert_array_equal(found.weights()["stem.weight"], STUDENT["stem.weight"])
    assert (tmp_path / "again.zip").read_bytes() == a_zip.read_bytes()


def test_the_unpacked_zip_is_removed_with_the_package(a_zip):
    found = read_package(a_zip)
    folder = found.folder
    assert folder.is_dir()

    del found
    gc.collect()

    assert not folder.exists()


def test_what_a_refused_zip_unpacked_is_removed(a_zip, monkeypatch, tmp_path):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(package.tempfile, "tempdir", str(tmp_path / "temporary"))
    a_zip.write_bytes(a_zip.read_bytes()[:-40])

    refusal_of(a_zip)

    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_network_that_is_not_in_the_package_is_told(a_package):
    with pytest.raises(PackageError, match="holds no quality"):
        a_package.weights("quality")


def test_files_left_by_file_browsers_are_no_obstacle(a_package):
    (a_package.folder / ".DS_Store").write_bytes(b"\0")

    assert read_package(a_package.folder).sha256 == a_package.sha256


# What is not ours is refused.


@pytest.mark.parametrize(
    "name", ["manifest.json", "weights.safetensors", "teacher.safetensors", "card.md"]
)
def test_one_flipped_bit_anywhere_is_refused(a_package, name):
    file = a_package.folder / name
    whole = file.read_bytes()

    for place in range(0, len(whole), max(1, len(whole) // 25)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        file.write_bytes(damaged)
        refusal_of(a_package.folder)


@pytest.mark.parametrize(
    "name", ["manifest.json", "weights.safetensors", "teacher.safetensors", "card.md"]
)
def test_a_file_cut_anywhere_is_refused(a_package, name):
    file = a_package.folder / name
    whole = file.read_bytes()

    for length in {0, 1, 8, len(whole) // 2, len(whole) - 1} - {len(whole)}:
        file.write_bytes(whole[:length])
        refusal_of(a_package.folder)


@pytest.mark.parametrize("name", ["weights.safetensors", "teacher.safetensors", "card.md"])
def test_a_missing_file_is_named(a_package, name):
    (a_package.folder / name).unlink()

    assert f"{name} is missing" in refusal_of(a_package.folder)


def test_a_folder_without_manifest_is_no_package(a_package):
    (a_package.folder / "manifest.json").unlink()

    assert "neither a model package" in refusal_of(a_package.folder)


def test_a_path_where_nothing_is_is_told(tmp_path):
    with pytest.raises(PackageError, match="There is no model at"):
        read_package(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("old", "new"),
    [('"temperature": 1.25', '"temperature": 1.26'), ("\n", "\r\n"), ('"name"', ' "name"')],
)
def test_an_edited_manifest_is_refused(a_package, old, new):
    file = a_package.folder / "manifest.json"
    file.write_bytes(file.read_bytes().replace(old.encode(), new.encode()))

    assert "was changed after the model was written" in refusal_of(a_package.folder)


def test_a_key_given_twice_in_the_manifest_is_refused(a_package):
    file = a_package.folder / "manifest.json"
    file.write_text(file.read_text().replace("{", '{\n  "format": "semisupseg-model",', 1))

    assert "was changed" in refusal_of(a_package.folder)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", "[" * 100_000, "1" * 5_000, '{"a": NaN}', '{"a": "\\ud800"}'],
    ids=["empty", "list", "number", "deep", "long number", "NaN", "half a character"],
)
def test_a_manifest_that_is_something_else_is_refused(a_package, text):
    (a_package.folder / "manifest.json").write_text(text)

    refusal_of(a_package.folder)


def test_a_newer_package_is_refused_with_the_remedy(a_package):
    sign(a_package.folder, version=2)

    text = refusal_of(a_package.folder)
    assert "written by a newer SemiSupSeg" in text
    assert "Update SemiSupSeg" in text


def test_a_package_whose_task_is_newer_is_refused(a_package):
    sign(a_package.folder, task={**load_task("brats").to_json(), "version": 2})

    assert "semisupseg-task version 2" in refusal_of(a_package.folder)


def test_a_file_of_another_format_is_refused(a_package):
    sign(a_package.folder, format="semisupseg-run")

    assert "is not a SemiSupSeg model file" in refusal_of(a_package.folder)


def test_a_network_that_does_not_fit_the_task_is_refused(a_package):
    network = a_package.manifest["network"]
    sign(a_package.folder, network={**network, "in_channels": 3})

    assert "contradicts itself" in refusal_of(a_package.folder)


class Harmful:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pickle_beside_the_weights_is_refused_and_not_run(a_package, tmp_path):
    (a_package.folder / "optimizer.pt").write_bytes(pickle.dumps(Harmful(tmp_path / "harm")))

    assert "holds optimizer.pt, which does not belong" in refusal_of(a_package.folder)
    assert not (tmp_path / "harm").exists()


def test_a_pickle_in_place_of_the_weights_is_refused_and_not_run(a_package, tmp_path):
    data = pickle.dumps(Harmful(tmp_path / "harm"))
    (a_package.folder / "weights.safetensors").write_bytes(data)
    sign(a_package.folder)

    assert "is not a readable safetensors file" in refusal_of(a_package.folder)
    assert not (tmp_path / "harm").exists()


def test_weights_without_arrays_are_refused(a_package):
    (a_package.folder / "weights.safetensors").write_bytes(safetensors.numpy.save({}))
    sign(a_package.folder)

    assert "no arrays" in refusal_of(a_package.folder)


def test_weights_of_a_network_that_the_manifest_does_not_list_are_refused(a_package):
    shutil.copy(a_package.folder / "teacher.safetensors", a_package.folder / "quality.safetensors")

    assert "which its manifest does not list" in refusal_of(a_package.folder)


def test_weights_exchanged_after_the_check_are_noticed(a_package):
    shutil.copy(a_package.folder / "teacher.safetensors", a_package.folder / "weights.safetensors")

    with pytest.raises(PackageError, match="was changed"):
        a_package.weights()


@pytest.mark.parametrize("name", ["weights.safetensors", "manifest.json"])
def test_a_link_in_place_of_a_file_is_refused(a_package, tmp_path, name):
    file = a_package.folder / name
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")

    assert "is a link" in refusal_of(a_package.folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes exist on POSIX systems")
def test_a_pipe_in_place_of_a_file_is_refused_without_waiting_for_it(a_package):
    (a_package.folder / "card.md").unlink()
    os.mkfifo(a_package.folder / "card.md")

    assert "not a plain file" in refusal_of(a_package.folder)


def test_a_folder_in_the_package_is_refused(a_package):
    (a_package.folder / "code").mkdir()

    assert "holds code" in refusal_of(a_package.folder)


def test_a_file_beyond_its_bound_is_refused_before_it_is_read(a_package):
    with (a_package.folder / "weights.safetensors").open("r+b") as stream:
        stream.truncate(2**33)  # Sparse: takes no room.

    assert "more than the 4,294,967,296 allowed" in refusal_of(a_package.folder)


def test_the_manifest_can_be_read_alone(a_package):
    (a_package.folder / "weights.safetensors").unlink()

    assert read_manifest(a_package.folder) == a_package.manifest


# Zip files.


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "../manifest.json",
        "/etc/x",
        "..\\x",
        "C:\\x",
        "a/manifest.json",
        "./card.md",
        "Card.md",
        "card.md\0.pt",
        "code.py",
        "code/",
    ],
)
def test_a_name_that_leads_elsewhere_or_is_not_ours_is_refused(a_zip, tmp_path, name):
    entries = entries_of(a_zip)
    write_zip(a_zip, [*entries, (zipfile.ZipInfo("placeholder"), b"harm")])
    raw = a_zip.read_bytes()
    wanted = name.encode().ljust(len("placeholder"), b"_")[: len("placeholder")]
    # The exact bytes: zipfile itself would tidy up some of these names on writing.
    a_zip.write_bytes(raw.replace(b"placeholder", wanted))
    before = sorted(tmp_path.rglob("*"))

    assert "does not belong into a model package" in refusal_of(a_zip)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_in_a_zip_is_refused(a_zip):
    entries = entries_of(a_zip)
    entries[0][0].external_attr = (stat.S_IFLNK | 0o777) << 16
    write_zip(a_zip, entries)

    assert "is a link" in refusal_of(a_zip)


def test_a_name_that_is_twice_in_a_zip_is_refused(a_zip):
    entries = entries_of(a_zip)
    with pytest.warns(UserWarning, match="Duplicate name"):
        write_zip(a_zip, [*entries, (zipfile.ZipInfo(entries[0][0].filename), b"other")])

    assert "is in it twice" in refusal_of(a_zip)


def test_an_encrypted_zip_is_refused(a_zip):
    raw = bytearray(a_zip.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    a_zip.write_bytes(raw)

    assert "is encrypted" in refusal_of(a_zip)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(a_zip):
    entries = [one for one in entries_of(a_zip) if one[0].filename != "weights.safetensors"]
    bomb = zipfile.ZipInfo("weights.safetensors")
    bomb.compress_type = zipfile.ZIP_DEFLATED
    write_zip(a_zip, [*entries, (bomb, bytes(2**24))])

    assert "grows beyond all measure" in refusal_of(a_zip)


def test_a_zip_entry_beyond_its_bound_is_refused(a_zip):
    entries = [one for one in entries_of(a_zip) if one[0].filename != "card.md"]
    write_zip(a_zip, [*entries, (zipfile.ZipInfo("card.md"), bytes(2**20 + 1))])

    assert "more than 1,048,576" in refusal_of(a_zip)


def test_a_zip_that_lies_about_a_size_is_refused(a_zip):
    entries = [one for one in entries_of(a_zip) if one[0].filename != "card.md"]
    longer = zipfile.ZipInfo("card.md")
    longer.compress_type = zipfile.ZIP_DEFLATED
    write_zip(a_zip, [*entries, (longer, b"x" * 5000)])
    raw = a_zip.read_bytes()
    assert raw.count((5000).to_bytes(4, "little")) == 2
    a_zip.write_bytes(raw.replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little")))

    refusal_of(a_zip)


def test_more_data_than_announced_is_not_written(tmp_path):
    import io

    target = io.BytesIO()

    with pytest.raises(ValueError, match="more data than announced"):
        archive._copy_bounded(io.BytesIO(b"x" * 11), target, 10)

    assert target.getvalue() == b""


def test_a_zip_cut_anywhere_is_refused(a_zip):
    whole = a_zip.read_bytes()

    for length in range(0, len(whole), 97):
        a_zip.write_bytes(whole[:length])
        refusal_of(a_zip)


def test_a_zip_with_a_flipped_byte_is_refused_or_holds_the_same_model(a_zip, a_package):
    whole = a_zip.read_bytes()

    for place in range(0, len(whole), 53):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        a_zip.write_bytes(damaged)
        # Times and comments of a zip mean nothing; whatever means something is refused.
        with contextlib.suppress(SemiSupSegError):
            assert read_package(a_zip).sha256 == a_package.sha256


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x04\x95", b"PK\x05\x06", b"\x1f\x8b\x08\0", b"\0" * 99]
)
def test_a_file_that_is_no_zip_is_refused(tmp_path, data):
    (tmp_path / "student.pt").write_bytes(data)

    with pytest.raises(ArchiveError, match="is not a model package"):
        read_package(tmp_path / "student.pt")


def test_an_empty_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "student.zip", "w"):
        pass

    refusal_of(tmp_path / "student.zip")


def test_a_zip_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "student.zip", "w") as content:
        content.writestr("archive/data.pkl", pickle.dumps([1]))

    assert "does not belong into a model package" in refusal_of(tmp_path / "student.zip")
