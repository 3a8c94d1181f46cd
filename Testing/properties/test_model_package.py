"""Laws of model packages: any arrays survive, any damage is refused."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from SemiSupSegLib.cases.task import load_task
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.models.package import export_package, read_package, write_package

laws = settings(deadline=None, derandomize=True, max_examples=30)
names = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)
weights = st.dictionaries(
    names.filter(lambda name: name != "__metadata__"),
    arrays.arrays(
        st.sampled_from([np.float32, np.float16, np.int64]),
        arrays.array_shapes(min_dims=0, max_dims=4, max_side=3),
    ),
    min_size=1,
    max_size=4,
)


def a_package(folder, student):
    return write_package(
        Path(folder) / "model",
        manifest={
            "name": "model",
            "task": load_task("binary").to_json(),
            "network": {
                "name": "vnet",
                "options": {},
                "in_channels": 1,
                "num_classes": 2,
                "patch_size": [32, 32, 32],
            },
            "method": "supervised",
            "preparation": {},
            "library": {},
        },
        weights={"student": student},
        card="",
    )


@laws
@given(student=weights)
def test_any_arrays_survive_folder_and_zip(student):
    with tempfile.TemporaryDirectory() as folder:
        written = a_package(folder, student)
        export_package(written, Path(folder) / "model.zip")
        read = read_package(Path(folder) / "model.zip")

        found = read.weights()

        assert read.sha256 == written.sha256
        assert found.keys() == student.keys()
        for name, values in student.items():
            assert found[name].dtype == values.dtype
            assert found[name].shape == values.shape
            assert found[name].tobytes() == values.tobytes()


@laws
@given(
    name=st.sampled_from(["manifest.json", "weights.safetensors"]),
    place=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_any_flipped_bit_is_refused(name, place, bit):
    with tempfile.TemporaryDirectory() as folder:
        package = a_package(folder, {"a": np.arange(6, dtype=np.float32)})
        file = package.folder / name
        data = bytearray(file.read_bytes())
        data[int(place * len(data))] ^= 1 << bit
        file.write_bytes(data)

        with pytest.raises(SemiSupSegError, match=r"model"):
            read_package(package.folder)


@laws
@given(place=st.floats(0, 1, exclude_max=True), data=st.binary(min_size=1, max_size=8))
def test_a_zip_with_any_bytes_written_over_it_is_the_same_model_or_refused(place, data):
    with tempfile.TemporaryDirectory() as folder:
        package = a_package(folder, {"a": np.arange(6, dtype=np.float32)})
        file = Path(folder) / "model.zip"
        export_package(package, file)
        whole = bytearray(file.read_bytes())
        start = int(place * len(whole))
        whole[start : start + len(data)] = data
        file.write_bytes(whole)

        try:
            sha256 = read_package(file).sha256
        except SemiSupSegError:
            return
        assert sha256 == package.sha256
