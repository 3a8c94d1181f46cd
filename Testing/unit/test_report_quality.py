"""The report's chapter on what a quality network's estimates are worth."""

import json
import re

import pytest

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.quality.worth import figures_of
from SemiSupSegLib.report.blocks import Figure, Note, Table
from SemiSupSegLib.report.build import build_report
from SemiSupSegLib.report.quality import quality_section
from SemiSupSegLib.report.record import read_record
from Testing.data.make_run_folder import make_run_folder

ESTIMATED, TRUE = (0.5, 0.6, 0.8, 0.9), (0.4, 0.7, 0.7, 0.95)
CLASSES = ("necrosis", "edema")


def figures(pearson, mae, bias=0.0, n=8):
    return {"n": n, "pearson": pearson, "mae": mae, "bias": bias, "spearman": None, "kendall": None}


def by_class(one):
    # Not in the task's order.
    return {"student": {"edema": one, "necrosis": one, "all": one}}


def quality_json(own=(0.9, 0.1), without=(0.2, 0.3)):
    return {
        "format": "semisupseg-quality",
        "version": 1,
        "networks": by_class(figures_of(ESTIMATED, TRUE)),
        "every_mask": figures(*own),
        "controls": {
            "mean": figures(*without, -0.25),
            "other": figures(0.1, 0.4),
            "noise": figures(None, 0.5),
        },
        "controls_by_class": {
            kind: by_class(figures(0.25, 0.375, -0.125)) for kind in ("mean", "other", "noise")
        },
        "guesses": {
            "mean_dice": by_class(figures(None, 0.222)),
            "shape": by_class(figures(0.3, 0.111)),
        },
        "looks_at_image": True,
        "cases": {
            f"case_{100 + number}": {
                "student": [{one: {"estimated": told, "dice": true} for one in CLASSES}],
                "weak": [{"edema": {"estimated": 0.3, "dice": 0.2}}],
            }
            for number, (told, true) in enumerate(zip(ESTIMATED, TRUE, strict=True))
        },
    }


@pytest.fixture
def a_run(tmp_path):
    return make_run_folder(tmp_path / "run", num_validation=4, num_unlabelled=5, num_stages=0)


def with_quality(run, content):
    (run / "validation" / "quality.json").write_text(json.dumps(content))
    return run


def block_of(run, kind):
    (found,) = (one for one in quality_section(read_record(run)).blocks if isinstance(one, kind))
    return found


def test_a_run_without_a_quality_network_has_no_such_chapter(a_run):
    assert 'id="quality"' not in build_report(a_run).read_text(encoding="utf-8")


def test_a_run_with_one_has_it(a_run):
    page = build_report(with_quality(a_run, quality_json())).read_text(encoding="utf-8")

    assert 'id="quality"' in page
    assert 'href="#quality"' in page


def test_each_class_has_its_figures_with_the_image_and_without_beside_guesses(a_run):
    table = block_of(with_quality(a_run, quality_json()), Table)

    assert [row[0] for row in table.rows] == [*CLASSES, "student, all classes", "every mask"]
    first = dict(zip(table.head, table.rows[0], strict=True))
    # Errors 0.1, 0.1, 0.1 and 0.05, the second and the last too low.
    assert (first["Number"], first["MAE"], first["Bias"]) == ("4", "0.087", "+0.013")
    assert first["r"] == "0.89"
    blank = [first[name] for name in ("r, blank", "MAE, blank", "Bias, blank")]
    assert blank == ["0.25", "0.375", "\u22120.125"]
    assert (first["MAE, mean Dice"], first["MAE, shape"]) == ("0.222", "0.111")
    last = dict(zip(table.head, table.rows[-1], strict=True))
    assert (last["MAE"], last["MAE, blank"], last["Bias, blank"]) == (
        "0.100",
        "0.300",
        "\u22120.250",
    )
    assert last["MAE, shape"] == "\u2013"


@pytest.mark.parametrize(
    ("own", "without", "told"),
    [
        ((0.9, 0.1), (0.2, 0.3), "The estimates judge how a mask fits the image"),
        ((0.9, 0.1), (0.2, 0.11), "Read the estimates as an order, not as a Dice"),
        ((0.9, 0.1), (0.85, 0.3), "The estimates are a shape prior"),
        ((None, 0.1), (0.2, 0.3), "too few masks to tell"),
    ],
    ids=["image", "order", "shape", "unknown"],
)
def test_what_the_estimates_do_with_the_image_is_said_in_a_sentence(a_run, own, without, told):
    note = block_of(with_quality(a_run, quality_json(own, without)), Note)

    assert told in note.text
    sentences = ("The estimates judge", "as an order", "are a shape prior", "too few masks")
    assert sum(one in note.text for one in sentences) == 1


def test_the_sentence_has_the_figures_of_the_kindest_control(a_run):
    note = block_of(with_quality(a_run, quality_json((0.9, 0.1), (0.2, 0.11))), Note)

    assert "correlation with the true Dice 0.90, without the image at most 0.20" in note.text
    assert "mean error 0.100, without it at least 0.110" in note.text
    student = note.text.partition("Of the student's masks alone: ")[2]
    assert student == (
        "correlation with the true Dice 0.89, without the image at most 0.25; mean error 0.087, "
        "without it at least 0.375."
    )


def test_every_mask_of_the_student_has_a_mark_that_tells_its_class(a_run):
    svg = block_of(with_quality(a_run, quality_json()), Figure).svg

    for name in (*CLASSES, "estimate is right", "estimated Dice (0 to 1)", "true Dice (0 to 1)"):
        assert f">{name}<" in svg
    assert ">weak<" not in svg
    marks: dict[tuple[str, str], int] = {}
    for shape, style in re.findall(r'<use xlink:href="#(\w+)"[^>]*style="([^"]*)"', svg):
        color = re.search(r"var\((--\w+)\)", style)
        if color:
            marks[shape, color[1]] = marks.get((shape, color[1]), 0) + 1
    classes = {key: count for key, count in marks.items() if key[1] in ("--student", "--teacher")}
    # One more in the legend.
    assert sorted(classes.values()) == [5, 5]
    assert len({shape for shape, _ in classes}) == 2


def test_figures_of_an_older_run_are_shown_as_far_as_they_go(a_run):
    content = quality_json()
    del content["controls_by_class"], content["guesses"]

    table = block_of(with_quality(a_run, content), Table)

    first = dict(zip(table.head, table.rows[0], strict=True))
    assert (first["MAE"], first["MAE, blank"], first["MAE, shape"]) == ("0.087", "\u2013", "\u2013")


def test_an_unfinished_run_says_when_its_estimates_are_judged(a_run):
    with (a_run / "events.jsonl").open("a") as stream:
        stream.write(json.dumps({"t": 1.0, "kind": "quality_estimated"}) + "\n")
    state = json.loads((a_run / "state.json").read_text())
    (a_run / "state.json").write_text(json.dumps({**state, "status": "running"}))

    note = block_of(a_run, Note)

    assert note.text == "Estimated against true Dice: judged when the run is finished."


def test_a_file_of_another_format_is_refused_with_its_name(a_run):
    with pytest.raises(SemiSupSegError, match=r"quality\.json"):
        build_report(with_quality(a_run, {**quality_json(), "version": 2}))
