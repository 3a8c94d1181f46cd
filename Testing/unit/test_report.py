"""The report of a run, finished or not."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from SemiSupSegLib.__main__ import main
from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.report.blocks import Figure, Section, Table, count_of, duration, number, percent
from SemiSupSegLib.report.build import build_report
from SemiSupSegLib.report.doubt import doubt_section
from SemiSupSegLib.report.outcome import error_section, headline, outcome_section, tiles
from SemiSupSegLib.report.pictures import pictures_section
from SemiSupSegLib.report.record import read_record, without_folders
from Testing.data.make_run_folder import make_run_folder

VOID = {"meta", "img", "br", "link", "input", "hr", "path", "use", "rect"}


@pytest.fixture
def a_run_that_has_just_begun(tmp_path) -> Path:
    run = make_run_folder(tmp_path / "run", num_validation=2, num_unlabelled=5)
    for name in ("metrics.csv", "events.jsonl"):
        (run / name).unlink()
    for name in ("stages", "validation"):
        (run / name).rename(tmp_path / name)
    state = json.loads((run / "state.json").read_text())
    (run / "state.json").write_text(json.dumps({**state, "status": "running", "phase": ""}))
    return run


class Page(HTMLParser):
    """Collects text, addresses and unbalanced tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.problems: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag, attrs):
        self.addresses += [value for key, value in attrs if key in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.problems.append(tag)

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def a_finished_run(tmp_path_factory) -> Path:
    """A run with hostile case ids and an event that names a folder."""
    run = make_run_folder(tmp_path_factory.mktemp("runs") / "finished", num_unlabelled=5)
    path = run / "validation" / "cases.json"
    content = json.loads(path.read_text().replace("case_100", "<img src=x onerror=alert(1)>"))
    content["pictures"]["worst"] = "<img src=x onerror=alert(1)>"
    path.write_text(json.dumps(content))
    with (run / "events.jsonl").open("a") as stream:
        message = "/data/clinic/Miller/case_1_t1.nii.gz: a damaged file was left out."
        stream.write(json.dumps({"t": 1.0, "kind": "warning", "message": message}) + "\n")
    return run


@pytest.fixture(scope="module")
def a_page(a_finished_run) -> str:
    return build_report(a_finished_run).read_text(encoding="utf-8")


def text_of(section: Section) -> str:
    """All sentences of a section but those in drawings."""
    words = [section.intro]
    for block in section.blocks:
        words += [getattr(block, name, "") for name in ("text", "title", "caption")]
        words += [cell for row in getattr(block, "rows", ()) for cell in row]
    return " ".join(words)


def test_the_page_needs_nothing_from_elsewhere(a_page):
    page = Page(a_page)

    assert "script" not in page.tags
    assert all(one.startswith(("#", "data:image/png;base64,")) for one in page.addresses)
    # Names of XML vocabularies look like addresses but are never fetched.
    outside = set(re.findall(r"https?://[^\s\"'<)]+", a_page))
    assert outside <= {"http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg"}


def test_all_tags_are_closed(a_page):
    page = Page(a_page)

    assert page.problems == []
    assert page.open == []


def test_every_figure_and_table_of_the_paper_has_its_place(a_page):
    text = Page(a_page).text

    for name in (
        "table I)",
        "table II",
        "figure 4",
        "figure 5",
        "figure 6",
        "figures 7 to 9",
        "figure 8",
        "figure 10",
    ):
        assert name in text, name


def test_the_headline_says_that_the_gain_is_outside_the_noise(a_page):
    text = Page(a_page).text

    assert re.search(r"The student reaches a Dice of 0\.\d{3} \(mean over WT, TC, ET\)", text)
    assert "the gain is outside the noise" in text


def test_the_last_and_the_best_on_validation_are_named_apart(a_page):
    text = Page(a_page).text

    assert "Best on validation" in text
    assert "last moving average" in text


def test_case_ids_cannot_inject_markup(a_page):
    assert "&lt;img src=x onerror" in a_page
    assert "<img src=x" not in a_page


def test_folders_do_not_reach_the_page(a_page, a_finished_run):
    assert "Miller" not in a_page
    assert "case_1_t1.nii.gz: a damaged file was left out." in a_page
    assert str(a_finished_run.parent) not in a_page


def test_a_gain_within_the_noise_is_said_to_be_so(tmp_path):
    run = make_run_folder(tmp_path / "run", gain=0.0, num_unlabelled=5)

    assert "within the noise" in " ".join(headline(read_record(run)))


def test_a_method_without_teacher_is_reported_without_comparison(tmp_path):
    run = make_run_folder(tmp_path / "run", teacher=False)

    text = Page(build_report(run).read_text(encoding="utf-8")).text

    assert "has no teacher" in text
    assert "agreement needs a teacher" in text
    assert "No stages with unlabelled cases" in text
    assert "Teacher (Liu" not in text


def test_one_validation_case_gives_a_sentence_instead_of_an_interval(tmp_path):
    run = make_run_folder(tmp_path / "run", num_validation=1, num_unlabelled=5)
    record = read_record(run)

    assert "fewer than 6 cases cannot tell a gain from noise" in " ".join(headline(record))
    remarks = {name: remark for name, _, remark in tiles(record)}
    assert remarks["Gain"].startswith("under 6 cases: no interval")
    assert "only 1 validation case" in text_of(pictures_section(record))


def test_a_run_that_has_just_begun_has_a_report(a_run_that_has_just_begun):
    text = Page(build_report(a_run_that_has_just_begun).read_text(encoding="utf-8")).text

    assert "This run is not finished" in text
    assert "judged when the run is finished" in text
    assert "No phase has ended yet" in text


def test_a_run_without_validation_cases_says_that_nothing_is_known_of_its_quality(tmp_path):
    run = make_run_folder(tmp_path / "run", num_validation=0, num_unlabelled=5)

    sentences = headline(read_record(run))

    assert sentences == [
        "This run has no validation cases, so nothing can be said about its quality."
    ]


def test_a_map_with_one_value_is_said_to_tell_little(tmp_path):
    run = make_run_folder(tmp_path / "run", num_validation=2, num_unlabelled=5, num_stages=0)
    path = run / "validation" / "cases.json"
    content = json.loads(path.read_text())
    content["histograms"]["uncertainty"]["shares"] = [0.0] * 39 + [1.0]
    path.write_text(json.dumps(content))

    text = text_of(doubt_section(read_record(run)))

    assert "The uncertainty map has nearly the same value in 100 %" in text
    assert "The confidence map has" not in text


def test_the_headline_says_how_long_each_network_was_trained(a_finished_run):
    sentences = headline(read_record(a_finished_run))

    assert sentences[-1] == (
        "Compared are: teacher: 600 updates on labelled cases; student: 600 updates on labelled "
        "and unlabelled cases, starting from random weights."
    )


@pytest.mark.parametrize(
    ("options", "student"),
    [
        (
            {"student_init": "teacher"},
            "600 more on labelled and unlabelled cases, starting from the teacher's weights",
        ),
        (
            {"student_init": "teacher", "unlabelled": "none"},
            "600 more on labelled cases, starting from the teacher's weights",
        ),
        (
            {"warm_start": False},
            "100 updates on labelled and unlabelled cases, starting from random weights",
        ),
    ],
)
def test_what_is_compared_stands_beside_every_gain(tmp_path, options, student):
    run = make_run_folder(tmp_path / "run", num_validation=6, num_unlabelled=5)
    content = json.loads((run / "run.json").read_text())
    content["options"].update(options)
    (run / "run.json").write_text(json.dumps(content))
    record = read_record(run)
    compared = f"teacher: 600 updates on labelled cases; student: {student}."

    assert f"Compared are: {compared}" in headline(record)
    longer = "A part of a gain may come from the longer training alone."
    assert (longer in headline(record)) == (options.get("student_init") == "teacher")
    assert text_of(outcome_section(record)).count(f"Compared: {compared}") == 4
    remarks = {name: remark for name, _, remark in tiles(record)}
    assert remarks["Teacher"] == "Dice, labelled cases only, 600 updates"
    count = student.partition(" on ")[0].removesuffix(" updates")
    assert remarks["Gain"].endswith(f"; with {count} updates")


def test_figures_that_were_not_written_are_named(tmp_path):
    run = make_run_folder(tmp_path / "run", num_validation=3, num_unlabelled=5, num_stages=0)
    path = run / "validation" / "cases.json"
    content = json.loads(path.read_text())
    kept = {key: content[key] for key in ("format", "version", "cases")}
    path.write_text(json.dumps(kept))
    record = read_record(run)

    assert "Reliability of the confidence: not written" in text_of(doubt_section(record))
    assert "Errors by kind: not written by this run" in text_of(error_section(record))
    assert "Pictures of validation cases: not written" in text_of(pictures_section(record))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a/b/c.nii.gz is damaged", "c.nii.gz is damaged"),
        (r"C:\Users\x\run is full", "run is full"),
        ("1/2 of the voxels, t1/t2", "1/2 of the voxels, t1/t2"),
        ("teacher / student / both, 1/2 and t1/t2", "teacher / student / both, 1/2 and t1/t2"),
        ("/data/Doe John/t1.nii.gz and /data/Doe J/t2.nii", "t1.nii.gz and t2.nii"),
        (r"C:\Users\Max Mustermann\data\P1\t1.nii.gz has changed", "t1.nii.gz has changed"),
        (r"'\\server\share\Doe John\x.nii'", "'x.nii'"),
    ],
)
def test_absolute_paths_are_cut_down_to_their_last_part(text, expected):
    assert without_folders(text) == expected


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(SemiSupSegError, match="not a run folder"):
        build_report(tmp_path)


def test_cases_are_counted_in_whole_numbers(tmp_path):
    run = make_run_folder(tmp_path / "run", num_validation=2, num_unlabelled=4)

    figures = {
        one.title: re.findall(r"<text[^>]*>([^<]*)</text>", str(one.svg))
        for one in doubt_section(read_record(run)).blocks
        if isinstance(one, Figure)
    }

    words = figures["Sorted image confidence (Liu, figure 6)"]
    assert words[: words.index("unlabelled cases, most confident first")] == ["1", "2", "3", "4"]


def test_the_ranking_is_compared_with_the_size_of_what_was_found(tmp_path):
    """Of four cases the two smallest change places: 1 - 6 · (1 + 1) / (4 · 15) = 0.8."""
    run = make_run_folder(tmp_path / "run", num_validation=2, num_unlabelled=4, num_stages=1)
    shares = {0.9: 0.4, 0.8: 0.3, 0.7: 0.1, 0.6: 0.2}
    lines = [
        "case,rank,image_confidence,selected,kept_share,averaged_share,low_share,foreground_share"
    ]
    for rank, (confidence, share) in enumerate(shares.items(), start=1):
        lines.append(f"case_{rank},{rank},{confidence},1,1.0,0.0,0.0,{share}")
    lines.append("case_5,5,0.5,0,,,,")
    (run / "stages" / "01" / "ranking.csv").write_text("\n".join(lines) + "\n")

    text = text_of(doubt_section(read_record(run)))

    assert re.search(
        r"share of foreground in the pseudo-label, over 4 selected cases: . = 0\.80", text
    )


def test_every_way_to_rank_cases_is_compared_with_their_dice(tmp_path):
    run = make_run_folder(tmp_path / "run", num_validation=8)
    file = run / "validation" / "cases.json"
    content = json.loads(file.read_text())
    dice = {
        case: np.mean([figures["student"][name]["dice"] for name in ("WT", "TC", "ET")])
        for case, figures in content["cases"].items()
    }
    for case, detail in content["details"].items():
        detail["student"]["image_confidence"]["self_dice"] = float(dice[case])
        detail["student"]["image_confidence"]["mean_all"] = float(1 - dice[case])
    file.write_text(json.dumps(content))

    section = doubt_section(read_record(run))

    (table,) = (block for block in section.blocks if isinstance(block, Table))
    told = {row[0]: row[2] for row in table.rows}
    assert table.head == ("Told by", "Teacher", "Student")
    assert told["Expected Dice (self_dice)"].startswith("\u03c1 = 1.00")
    assert told["Mean trust of all voxels (mean_all, the paper's)"].startswith(
        "\u03c1 = \u22121.00"
    )
    assert "Share of foreground alone" in told


def test_a_damaged_ranking_is_refused_with_its_name(tmp_path):
    run = make_run_folder(tmp_path / "run", num_validation=2, num_unlabelled=5)
    (run / "stages" / "01" / "ranking.csv").write_text("case,rank\nx,1\n")

    with pytest.raises(SemiSupSegError, match=r"ranking\.csv is damaged"):
        build_report(run)


def test_the_command_writes_where_it_is_told(a_run_that_has_just_begun, tmp_path, capsys):
    out = tmp_path / "not" / "yet" / "page.html"

    code = main(["report", str(a_run_that_has_just_begun), "--out", str(out)])

    assert code == 0
    assert str(out) in capsys.readouterr().out
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_command_says_where_it_cannot_write(a_run_that_has_just_begun, tmp_path, capsys):
    (tmp_path / "file").write_text("no folder")
    out = tmp_path / "file" / "page.html"

    assert main(["report", str(a_run_that_has_just_begun), "--out", str(out)]) == 1
    assert f"Nothing can be written to the folder {out.parent}" in capsys.readouterr().err


def test_phases_are_read_in_their_order_with_their_updates(a_finished_run):
    record = read_record(a_finished_run)

    spans = [(span.name, span.start, span.end) for span in record.phases()]

    assert spans[:3] == [("teacher", 0, 600), ("distil", 600, 660), ("stage_1", 660, 760)]
    assert spans[-1] == ("student_distil", 1260, 1320)


def test_a_later_row_replaces_an_earlier_one_of_the_same_update(tmp_path):
    run = make_run_folder(tmp_path / "run", num_validation=2, num_unlabelled=5)
    with (run / "metrics.csv").open("a") as stream:
        stream.write("1320,student_distil,validation,student,dice.mean,0.25,1.0\n")
        stream.write("1320,student_distil,validation,student,dice.mean,0.75,1.0\n")

    assert read_record(run).series("dice.mean", network="student")[-1] == (1320, 0.75)


def test_mean_dice_is_taken_over_the_headline_targets(tmp_path):
    run = make_run_folder(tmp_path / "run", num_validation=2, num_unlabelled=5)
    path = run / "validation" / "cases.json"
    content = json.loads(path.read_text())
    for name, dice in (("WT", 0.9), ("TC", 0.6), ("ET", 0.3), ("edema", 0.0)):
        content["cases"]["case_100"]["student"][name]["dice"] = dice
    path.write_text(json.dumps(content))

    assert read_record(run).mean_dice("student")["case_100"] == pytest.approx(0.6)


def test_numbers_are_written_with_a_true_minus_and_without_negative_zero():
    assert number(-0.1234, 2) == "\u22120.12"
    assert number(0.5, 1, sign=True) == "+0.5"
    assert number(-0.0001, 2, sign=True) == "±0.00"
    assert number(-0.0001, 2) == "0.00"
    assert number(None) == number(float("nan")) == "\u2013"


def test_shares_times_and_counts_are_written_for_people():
    assert percent(0.256) == "26 %"
    assert [duration(seconds) for seconds in (3.25, 42, 600, 7200)] == [
        "3.2 s",
        "42 s",
        "10 min",
        "2.0 h",
    ]
    assert count_of(1, "cases") == "1 case"
    assert count_of(1200, "cases") == "1\u202f200 cases"
