"""Write the colour tables in Resources/ColorMaps.

    python Testing/data/make_color_maps.py

Own design: lightness runs evenly from dark to bright, hue goes through the anchors below, all in
the OKLab colour space (Ottosson 2020, published for free use); colours outside sRGB lose chroma
until they fit. In every map bright means "look here", so the three read alike; they differ in hue,
and hue alone never carries the meaning, which keeps the order for colour-blind readers and in grey.
No colour is grey: on a scan, which is, it would vanish.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from SemiSupSegLib.files import replacing

FOLDER = Path(__file__).resolve().parents[2] / "Resources" / "ColorMaps"
NUM_COLORS = 256
TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
MAPS = {
    "uncertainty": {
        "title": "Uncertainty",
        "look_at": "high",
        "low": "sure",
        "high": "as unsure as can be",
        # position, chroma, hue in degrees; position 0 is dark, 1 is bright
        "anchors": [
            (0.0, 0.09, 300),
            (0.3, 0.17, 330),
            (0.5, 0.19, 10),
            (0.72, 0.15, 50),
            (0.88, 0.12, 80),
            (1.0, 0.09, 100),
        ],
    },
    "confidence": {
        "title": "Confidence",
        "look_at": "low",
        "low": "a guess",
        "high": "sure to be right",
        "anchors": [
            (0.0, 0.11, 275),
            (0.3, 0.11, 240),
            (0.5, 0.12, 190),
            (0.7, 0.16, 150),
            (0.85, 0.17, 125),
            (1.0, 0.13, 104),
        ],
    },
    "agreement": {
        "title": "Agreement",
        "look_at": "low",
        "low": "teacher and student differ",
        "high": "teacher and student say the same",
        "anchors": [
            (0.0, 0.07, 150),
            (0.25, 0.09, 190),
            (0.5, 0.12, 240),
            (0.7, 0.14, 290),
            (0.87, 0.12, 330),
            (1.0, 0.10, 350),
        ],
    },
    "trust": {
        "title": "Trust",
        "look_at": "low",
        "low": "not learnt as it is",
        "high": "learnt with full weight",
        "anchors": [
            (0.0, 0.09, 20),
            (0.3, 0.12, 45),
            (0.5, 0.12, 75),
            (0.7, 0.15, 115),
            (0.87, 0.14, 150),
            (1.0, 0.09, 175),
        ],
    },
}
DARKEST, BRIGHTEST = 0.24, 0.94
COMPARISON = [
    (0, "neither", [0, 0, 0]),
    (1, "same class", [0, 158, 115]),
    (2, "teacher only", [230, 159, 0]),
    (3, "student only", [0, 114, 178]),
    (4, "different classes", [204, 121, 167]),
]
LICENCE = "Apache-2.0, as the rest of SemiSupSeg"


def main() -> None:
    for name, design in MAPS.items():
        dark_to_bright = colors_of(design["anchors"])
        table = dark_to_bright if design["look_at"] == "high" else dark_to_bright[::-1]
        content = {
            "format": "semisupseg-color-map",
            "version": 1,
            "name": name,
            "title": design["title"],
            "range": [0, 1],
            "look_at": design["look_at"],
            "meaning": {"0": design["low"], "1": design["high"]},
            "source": "Own design in OKLab; Testing/data/make_color_maps.py writes this file.",
            "licence": LICENCE,
            "colors": table.tolist(),
        }
        write(FOLDER / f"{name}.json", content)
    content = {
        "format": "semisupseg-color-list",
        "version": 1,
        "name": "comparison",
        "title": "Teacher and student",
        "source": "Green, orange, blue and purple of Okabe and Ito's published palette.",
        "licence": LICENCE,
        "entries": [
            {"value": value, "name": name, "color": color} for value, name, color in COMPARISON
        ],
    }
    write(FOLDER / "comparison.json", content)


def colors_of(anchors: list[tuple[float, float, float]]) -> NDArray[np.uint8]:
    """Return NUM_COLORS sRGB colours from dark to bright, (n, 3) uint8."""
    position = np.linspace(0, 1, NUM_COLORS)
    where, chroma, hue = np.array(anchors).T
    a = np.interp(position, where, chroma * np.cos(np.radians(hue)))
    b = np.interp(position, where, chroma * np.sin(np.radians(hue)))
    lightness = DARKEST + (BRIGHTEST - DARKEST) * position
    scale = np.ones(NUM_COLORS)
    for _ in range(400):
        linear = linear_rgb(lightness, scale * a, scale * b)
        outside = ((linear < 0) | (linear > 1)).any(axis=0)
        if not outside.any():
            break
        scale[outside] *= 0.99
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * encoded.clip(0, 1)).astype(np.uint8).T


def linear_rgb(
    lightness: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]
) -> NDArray[np.float64]:
    roots = np.linalg.solve(TO_LAB, np.stack([lightness, a, b]))
    return np.linalg.solve(TO_LMS, roots**3)


def write(path: Path, content: dict[str, object]) -> None:
    """Write JSON with one line for each entry of the colour table."""
    rows = content.pop("colors", None)
    text = json.dumps(content, indent=2, ensure_ascii=False)
    if rows is not None:
        lines = ",\n".join(f"    {json.dumps(row)}" for row in rows)
        text = text[:-2] + ',\n  "colors": [\n' + lines + "\n  ]\n}"
    with replacing(path, "w") as stream:
        stream.write(text + "\n")


if __name__ == "__main__":
    main()
