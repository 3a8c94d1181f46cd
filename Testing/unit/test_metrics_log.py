"""metrics.csv."""

import math

import pytest

from SemiSupSegLib.errors import SemiSupSegError
from SemiSupSegLib.runs.metrics import MetricRow, MetricsLog, read_metrics

HEADER = "iteration,phase,kind,network,name,value,seconds\n"


@pytest.fixture
def a_log(tmp_path):
    log = MetricsLog(tmp_path / "metrics.csv")
    for iteration in (10, 20, 30):
        log.append(
            {"loss": 1 / iteration, "rate": 0.01},
            iteration=iteration,
            phase="teacher",
            kind="step",
            seconds=iteration / 2,
        )
    return log


def test_each_figure_is_a_row_below_one_header(tmp_path):
    log = MetricsLog(tmp_path / "metrics.csv")
    log.append({"loss": 0.5}, iteration=1, phase="teacher", kind="step", seconds=2)
    log.append(
        {"dice.WT": 0.75},
        iteration=1,
        phase="teacher",
        kind="validation",
        network="student",
        seconds=3,
    )

    assert log.path.read_text() == (
        f"{HEADER}1,teacher,step,,loss,0.5,2.0\n1,teacher,validation,student,dice.WT,0.75,3.0\n"
    )


def test_rows_read_back_exactly(a_log):
    rows = read_metrics(a_log.path)

    assert len(rows) == 6
    assert rows[4] == MetricRow(
        iteration=30,
        phase="teacher",
        kind="step",
        network="",
        name="loss",
        value=1 / 30,
        seconds=15.0,
    )


def test_a_loss_that_is_not_a_number_is_a_row_too(tmp_path):
    log = MetricsLog(tmp_path / "metrics.csv")
    log.append({"loss": math.nan}, iteration=1, phase="teacher", kind="step", seconds=0)

    assert math.isnan(read_metrics(log.path)[0].value)


def test_truncating_keeps_rows_up_to_the_iteration_and_no_later_one(a_log):
    a_log.truncate_after(20)

    assert [row.iteration for row in read_metrics(a_log.path)] == [10, 10, 20, 20]


def test_truncating_all_leaves_a_table_that_can_go_on(a_log):
    a_log.truncate_after(-1)
    a_log.append({"loss": 1.0}, iteration=1, phase="teacher", kind="step", seconds=0)

    assert a_log.path.read_text() == f"{HEADER}1,teacher,step,,loss,1.0,0.0\n"


def test_truncating_or_syncing_a_table_that_is_not_there_does_nothing(tmp_path):
    log = MetricsLog(tmp_path / "metrics.csv")

    log.truncate_after(3)
    log.sync()

    assert not log.path.exists()


def test_a_file_cut_at_any_byte_is_read_without_its_torn_row(a_log):
    whole = a_log.path.read_bytes()
    complete = read_metrics(a_log.path)

    for length in range(len(whole) + 1):
        a_log.path.write_bytes(whole[:length])
        num_rows = max(0, whole[:length].count(b"\n") - 1)
        assert read_metrics(a_log.path) == complete[:num_rows]


def test_going_on_after_a_kill_puts_the_next_row_on_its_own_line(a_log):
    whole = a_log.path.read_bytes()

    for length in (0, 5, len(HEADER), len(HEADER) + 9, len(whole) - 1, len(whole)):
        a_log.path.write_bytes(whole[:length])
        num_rows = max(0, whole[:length].count(b"\n") - 1)
        log = MetricsLog(a_log.path)
        log.append({"loss": 9.0}, iteration=40, phase="teacher", kind="step", seconds=1)
        log.sync()
        rows = read_metrics(a_log.path)
        assert len(rows) == num_rows + 1
        assert rows[-1].value == 9.0


def test_a_table_saved_by_a_spreadsheet_on_windows_is_read(a_log):
    before = read_metrics(a_log.path)
    a_log.path.write_bytes(a_log.path.read_bytes().replace(b"\n", b"\r\n"))

    assert read_metrics(a_log.path) == before


def test_another_table_is_refused(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,loss\n1,0.5\n")

    with pytest.raises(SemiSupSegError, match="is not a table of metrics"):
        read_metrics(tmp_path / "metrics.csv")


@pytest.mark.parametrize(
    "row",
    ["1,teacher,step,,loss", "x,teacher,step,,loss,1,1", "1,a,guess,,loss,1,1", "1,a,step,,b,,1"],
)
def test_a_damaged_row_is_refused_with_its_line(tmp_path, row):
    (tmp_path / "metrics.csv").write_text(f"{HEADER}1,teacher,step,,loss,0.5,2.0\n{row}\n")

    with pytest.raises(SemiSupSegError, match="damaged at line 3"):
        read_metrics(tmp_path / "metrics.csv")


def test_a_missing_table_is_told_with_its_path(tmp_path):
    with pytest.raises(SemiSupSegError, match=r"metrics\.csv cannot be read"):
        read_metrics(tmp_path / "metrics.csv")


def test_a_name_that_would_break_the_table_is_refused(a_log):
    with pytest.raises(ValueError, match="may not hold commas"):
        a_log.append({"a,b": 1.0}, iteration=1, phase="teacher", kind="step", seconds=0)
