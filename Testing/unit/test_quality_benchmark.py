"""What the benchmark of the quality network keeps of a run, and the page makes of it."""

import importlib
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def benchmark_of(monkeypatch):
    """Import a program of Testing/benchmarks, which is no package."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def figures(pearson, mae, bias, n=3):
    return {"n": n, "pearson": pearson, "mae": mae, "bias": bias, "spearman": None, "kendall": None}


@pytest.fixture
def a_quality_json():
    def by_class(one):
        return {"student": {"a": one, "b": one, "all": one}}

    dice = {"a": (0.2, 0.4, 0.9), "b": (0.5, 0.5, 0.8)}
    return {
        "networks": by_class(figures(0.7, 0.1, 0.05)),
        "every_mask": figures(0.7, 0.1, 0.05, 6),
        "controls": {"mean": figures(0.3, 0.2, -0.1, 6)},
        "controls_by_class": {"mean": by_class(figures(0.25, 0.3, -0.2))},
        "guesses": {"mean_dice": by_class(figures(None, 0.4, 0.0))},
        "looks_at_image": True,
        "cases": {
            str(number): {
                "student": [{name: {"estimated": 0.5, "dice": dice[name][number]} for name in dice}]
            }
            for number in range(3)
        },
    }


def test_errors_are_kept_beside_those_of_guesses_and_without_the_image(
    benchmark_of, a_quality_json
):
    found = benchmark_of("quality_network").measured(a_quality_json)

    own = found["figures"]["student"]["a"]
    assert (own["n"], own["pearson"], own["mae"], own["bias"]) == (3, 0.7, 0.1, 0.05)
    assert own["without_image"] == {"mean": {"pearson": 0.25, "mae": 0.3, "bias": -0.2}}
    # The mean 0.5 is 0.3, 0.1 and 0.4 off; of the other class 0.6 is 0.1, 0.1 and 0.2 off.
    assert own["guesses"] == {"mean_dice": 0.4, "own_mean": pytest.approx(0.8 / 3, abs=1e-6)}
    all_classes = found["figures"]["student"]["all"]["guesses"]["own_mean"]
    assert all_classes == pytest.approx(1.2 / 6, abs=1e-6)
    assert found["figures"]["every"]["all"]["without_image"]["mean"]["mae"] == 0.2
    assert found["use"] == "image"


def test_a_new_measurement_replaces_that_of_the_same_run_only(benchmark_of):
    known = [
        {"dataset": "x", "row": "q", "seed": seed, "iterations": 600, "use": "shape"}
        for seed in (1, 0)
    ]

    found = benchmark_of("quality_network").together(known, [{**known[0], "use": "image"}])

    assert [(one["seed"], one["use"]) for one in found] == [(0, "shape"), (1, "image")]


def test_the_page_shows_means_over_seeds(benchmark_of, a_quality_json, tmp_path):
    measured = benchmark_of("quality_network").measured
    runs = []
    for seed, mae in ((0, 0.1), (1, 0.3)):
        a_quality_json["networks"]["student"]["a"] = figures(None if seed else 0.7, mae, 0.05)
        keys = {"dataset": "x", "row": "q", "seed": seed, "iterations": 600}
        runs.append({**keys, "cases": 3, "network": "n", **measured(a_quality_json)})
    file = tmp_path / "quality_network.json"
    file.write_text(json.dumps({"runs": runs}))

    lines = benchmark_of("methods_page").quality_tables(file)

    row = next(one for one in lines if one.startswith("| student | a |"))
    assert row.startswith("| student | a | 6 | 0.70 | **0.200 ± 0.141** | +0.050 ± 0.000 | 0.25 ± ")
    (head,) = (one for one in lines if one.startswith("| masks of |"))
    for one in lines:
        if one.startswith("| student"):
            assert one.count("|") == head.count("|")
    # No run had these.
    assert row.split(" | ")[8:10] == ["", ""]


def test_lines_go_between_the_comments_of_their_name_only(benchmark_of):
    page = "a\n<!-- x -->\nold\n<!-- /x -->\n<!-- xy -->\nkept\n<!-- /xy -->\n"

    assert benchmark_of("methods_page").filled(page, "x", ["new \\1", "lines"]) == (
        "a\n<!-- x -->\nnew \\1\nlines\n<!-- /x -->\n<!-- xy -->\nkept\n<!-- /xy -->\n"
    )
