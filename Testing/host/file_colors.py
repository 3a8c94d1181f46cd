"""The colour nodes that Slicer reads from files, which the wheel lacks: names and IDs as there.

The colours are near those of the files, not equal.
"""

import colorsys

import slicer

RAMPS = {
    "Viridis": ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"),
    "Inferno": ("#000004", "#57106e", "#bc3754", "#f98e09", "#fcffa4"),
    "Magma": ("#000004", "#51127c", "#b73779", "#fc8961", "#fcfdbf"),
    "Plasma": ("#0d0887", "#7e03a8", "#cc4778", "#f89540", "#f0f921"),
    "Cividis": ("#00224e", "#434e6c", "#7d7c78", "#bcae6c", "#fee838"),
}
DISCRETE = ("GenericColors", "GenericAnatomyColors")
COUNT = 256


def add_file_colors(scene: object) -> None:
    """Add the nodes; they stay when the scene is closed."""
    for name in DISCRETE:
        hues = (colorsys.hsv_to_rgb(i * 0.618034 % 1, 0.6, 0.9) for i in range(COUNT))
        add_table(scene, name, list(hues), "Discrete")
    for name, stops in RAMPS.items():
        add_table(scene, name, ramp([rgb(stop) for stop in stops]), "Continuous")


def rgb(text: str) -> tuple[float, ...]:
    return tuple(int(text[i : i + 2], 16) / 255 for i in (1, 3, 5))


def ramp(stops: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Return COUNT colours between the stops, linearly."""
    colors = []
    for index in range(COUNT):
        place = index / (COUNT - 1) * (len(stops) - 1)
        low = min(int(place), len(stops) - 2)
        part = place - low
        pairs = zip(stops[low], stops[low + 1], strict=True)
        colors.append(tuple(a + (b - a) * part for a, b in pairs))
    return colors


def add_table(scene: object, name: str, colors: list, category: str) -> None:
    node = slicer.vtkMRMLColorTableNode()
    node.SetTypeToUser()
    node.SetName(name)
    node.SetNumberOfColors(len(colors))
    for index, color in enumerate(colors):
        node.SetColor(index, f"{name}_{index}", *color, 1.0 if index else 0.0)
    node.SetNamesInitialised(True)
    node.SetAttribute("Category", category)
    node.SetSaveWithScene(False)
    node.SetSingletonTag(f"File{name}.txt")
    scene.AddNode(node)
