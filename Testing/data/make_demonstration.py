"""Writes Resources/Demonstration, which *Try it on a made-up case* shows, from a run of the demo.

    python3 run.py demo --out DEMO
    .venv/bin/python Testing/data/make_demonstration.py DEMO

The model is the demo's student, trained on made-up brains only; the case is one of the demo's new
cases, which the model has never seen: neither its best nor its worst.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from SemiSupSegLib.files import replacing_path
from SemiSupSegLib.models.package import read_package, write_package
from SemiSupSegLib.resources import ROOT

CASE = "Phantom_0032"
CARD = """# Demonstration only

A small model trained by SemiSupSeg's own demo, on brains that a program has made up. It knows no
real patient and must not be used on one. `Testing/data/make_demonstration.py` made this package.
"""


def main(demo: Path) -> None:
    """Write the model package and the case."""
    package = read_package(demo / "run" / "models" / "student")
    networks = [name for name in ("student", "teacher") if package.has(name)]
    write_package(
        ROOT / "Demonstration" / "model",
        manifest={
            **package.manifest,
            "name": "Demonstration only",
            "licence": "Apache-2.0, as the rest of SemiSupSeg",
        },
        weights={name: package.weights(name) for name in networks},
        card=CARD,
    )
    case = ROOT / "Demonstration" / "case"
    case.mkdir(parents=True, exist_ok=True)
    for file in sorted((demo / "new" / "cases" / CASE).glob("*.nii.gz")):
        with replacing_path(case / file.name) as temporary:
            shutil.copyfile(file, temporary)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
