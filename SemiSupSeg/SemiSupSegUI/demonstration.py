"""A made-up case and a small model that knows such cases: the first minute with SemiSupSeg."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import slicer

from SemiSupSegLib.resources import ROOT

MODEL = ROOT / "Demonstration" / "model"
_CASE = ROOT / "Demonstration" / "case"
SAMPLE = "SemiSupSegPhantom"


def is_demonstration(model: str) -> bool:
    """Return whether a model is the one for made-up cases."""
    return model == str(MODEL)


def load() -> Iterator[None]:
    """Load the made-up case's volumes that the scene lacks, one at a step, and show one."""
    is_new = False
    for name, file in _files().items():
        if slicer.mrmlScene.GetFirstNodeByName(name) is None:
            slicer.util.loadVolume(str(file), {"name": name, "show": False})
            is_new = True
        yield
    if is_new:
        slicer.util.setSliceViewerLayers(background=_shown(), fit=True)


def volumes() -> list:
    """Return the made-up case's volumes in the scene, and nobody else's."""
    found = [slicer.mrmlScene.GetFirstNodeByName(name) for name in _files()]
    return [volume for volume in found if volume is not None]


def _files() -> dict[str, Path]:
    return {file.name.removesuffix(".nii.gz"): file for file in sorted(_CASE.glob("*.nii.gz"))}


def register_sample() -> None:
    """List the case in Slicer's module Sample Data, if that is there."""
    try:
        from SampleData import SampleDataLogic
    except ImportError:
        return
    files = sorted(_CASE.glob("*.nii.gz"))
    SampleDataLogic.registerCustomSampleDataSource(
        category="SemiSupSeg",
        sampleName=SAMPLE,
        uris=[file.as_uri() for file in files],
        fileNames=[file.name for file in files],
        nodeNames=[file.name.removesuffix(".nii.gz") for file in files],
        loadFileTypes=["VolumeFile"] * len(files),
    )


def _shown():
    # The channel in which the tumour stands out most.
    for file in sorted(_CASE.glob("*flair.nii.gz")):
        return slicer.mrmlScene.GetFirstNodeByName(file.name.removesuffix(".nii.gz"))
    return None
