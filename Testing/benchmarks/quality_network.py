"""How near do a quality network's estimates come to the true Dice of real networks' masks?

    python Testing/benchmarks/quality_network.py --seeds 0 1 2

Trains runs with a quality network (interrupted ones go on, finished ones are not repeated, those of
compare_methods.py in the same --work are taken) and keeps what they find on the validation cases,
which neither the segmentation nor the quality network has learnt from, in
results/quality_network.json. Beside each error stand those of whoever has no quality network:

* without the image: it is replaced by its mean, by another case's, by noise;
* `mean_dice` always says what weak models reached on labelled cases, `shape` reads it off a line
  through volume, components and surface of these masks: both known before;
* `own_mean` always says the mean Dice of the very masks that are judged, which nobody knows before:
  what is no better tells the masks of a class not apart.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from compare_methods import ITERATIONS, rows
from training_rows import (
    DATASETS,
    RESULTS,
    ROOT,
    Place,
    machine_of,
    run_folder,
    run_row,
    versions,
)

from SemiSupSegLib.files import read_json, write_json
from SemiSupSegLib.quality.worth import use_of_image

FILE = RESULTS / "quality_network.json"
KEYS = ("dataset", "row", "seed", "iterations")
ROWS = {
    name: row
    for name, row in rows().items()
    if row.method == "quality_guided" or "quality.reweight=true" in row.settings
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", choices=sorted(ITERATIONS), default="brats_cubes")
    parser.add_argument("--row", choices=sorted(ROWS), default="quality_guided")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--iterations", type=int, help="default: that of compare_methods.py")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "benchmarks")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    name = arguments.dataset
    if not (arguments.data / DATASETS[name].folder).is_dir():
        print(f"The data set is not here: {arguments.data / DATASETS[name].folder}")
        return 1
    place = Place(
        data=arguments.data,
        work=arguments.work,
        threads=arguments.threads,
        device=arguments.device,
    )
    iterations = arguments.iterations or ITERATIONS[name]
    row, folder_name = ROWS[arguments.row], f"compare_{arguments.row}"
    found = []
    for seed in arguments.seeds:
        outcome = run_row(place, name, folder_name, row, seed, iterations, keep=False)
        if not outcome.lines:
            return 1
        run = run_folder(place, name, folder_name, seed, iterations)
        content = read_json(run / "validation" / "quality.json")
        if "guesses" not in content:
            print(
                f"{run} was made before guesses and controls were kept by class: its figures have "
                "no proportion. Give another --work, or remove the run."
            )
            return 1
        found.append(
            {
                "dataset": name,
                "row": arguments.row,
                "seed": seed,
                "iterations": iterations,
                "cases": len(content["cases"]),
                **measured(content),
                "network": outcome.lines[0]["backbone"],
                "machine": machine_of(place),
                "versions": versions(),
                "date": date.today().isoformat(),
            }
        )
    known = read_json(FILE)["runs"] if FILE.is_file() else []
    write_json(FILE, {"runs": together(known, found)})
    for one in found:
        print_figures(one)
    return 0


def measured(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run's quality.json tells: figures by network and class, and their proportion.

    Args:
        content: Of validation/quality.json.

    Returns:
        `figures.<network>.<class>`, those of all masks together under network `every`: `n`,
        `pearson`, `mae` and `bias`, the latter three also `without_image` by kind, and in `guesses`
        the mean error of each kind of guess. `use` is what the estimates do with the image.
    """
    own_means = _own_means(content["cases"])
    keys = ("pearson", "mae", "bias")
    figures: dict[str, Any] = {}
    for network, by_class in content["networks"].items():
        figures[network] = {}
        for name, own in by_class.items():
            figures[network][name] = {
                **{key: own[key] for key in ("n", *keys)},
                "without_image": {
                    kind: {key: one[network][name][key] for key in keys}
                    for kind, one in content["controls_by_class"].items()
                },
                "guesses": {
                    **{
                        kind: one[network][name]["mae"]
                        for kind, one in content["guesses"].items()
                        if name in one.get(network, {})
                    },
                    "own_mean": own_means[network][name],
                },
            }
    figures["every"] = {
        "all": {
            **{key: content["every_mask"][key] for key in ("n", *keys)},
            "without_image": {
                kind: {key: one[key] for key in keys} for kind, one in content["controls"].items()
            },
            "guesses": {},
        }
    }
    use = use_of_image(content["every_mask"], list(content["controls"].values()))
    return {"use": use.value, "looks_at_image": content["looks_at_image"], "figures": figures}


def _own_means(cases: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> dict[str, Any]:
    """Return by network and class how far the masks' Dice lie from their class's mean."""
    dice: dict[str, dict[str, list[float]]] = {}
    for by_network in cases.values():
        for network, masks in by_network.items():
            for one in masks:
                for name, pair in one.items():
                    dice.setdefault(network, {}).setdefault(name, []).append(pair["dice"])
    found = {}
    for network, by_class in dice.items():
        apart = {name: np.abs(np.array(one) - np.mean(one)) for name, one in by_class.items()}
        apart["all"] = np.concatenate(list(apart.values()))
        found[network] = {name: round(float(one.mean()), 6) for name, one in apart.items()}
    return found


def together(
    known: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return all measurements in order; a new one replaces that of the same run."""
    runs = {tuple(one[key] for key in KEYS): one for one in (*known, *new)}
    return [runs[key] for key in sorted(runs)]


def print_figures(one: Mapping[str, Any]) -> None:
    """Print a run's figures by network and class."""
    print(f"\n{one['dataset']} {one['row']} seed {one['seed']}: {one['cases']} cases, {one['use']}")
    for network, by_class in one["figures"].items():
        for name, own in by_class.items():
            guesses = (f"{kind} {value:.3f}" for kind, value in own["guesses"].items())
            told = f"MAE of guesses: {' '.join(guesses)}" if own["guesses"] else ""
            blind = own["without_image"].get("mean")
            without = f"blank: r {_r(blind)} MAE {blind['mae']:.3f}" if blind else ""
            print(
                f"{network:<9}{name:<12} n {own['n']:<5} r {_r(own)}  MAE {own['mae']:.3f}  "
                f"bias {own['bias']:+.3f}  {without}  {told}"
            )


def _r(figures: Mapping[str, Any]) -> str:
    return "none " if figures["pearson"] is None else f"{figures['pearson']:+.2f}"


if __name__ == "__main__":
    sys.exit(main())
