"""A run folder in, one self-contained HTML page out."""

from __future__ import annotations

from pathlib import Path

from SemiSupSegLib.files import replacing
from SemiSupSegLib.report.doubt import doubt_section
from SemiSupSegLib.report.learning import learning_section
from SemiSupSegLib.report.outcome import error_section, headline, outcome_section, tiles
from SemiSupSegLib.report.page import render_page
from SemiSupSegLib.report.pictures import pictures_section
from SemiSupSegLib.report.quality import quality_section
from SemiSupSegLib.report.record import RunRecord, read_record
from SemiSupSegLib.report.setup import setup_section
from SemiSupSegLib.runs.state import RunStatus

_CLOSING = (
    "Tables and figures are numbered after Liu, Ding and Zhang 2026 (arXiv 2602.08797), whose "
    "content they show with this run's own numbers."
)


def build_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run, finished or not, and return its path.

    The page needs no network and no other file, and holds no path and no name but case ids.

    Args:
        run: The run folder.
        out: Where to write; default `report.html` in the run folder.

    Raises:
        SemiSupSegError: If the folder is no run, or a file in it is damaged.
    """
    record = read_record(run)
    path = record.run.report if out is None else out
    text = render(record)
    with replacing(path, "w") as stream:
        stream.write(text)
    return path


def render(record: RunRecord) -> str:
    """Return the page."""
    sections = (
        outcome_section(record),
        learning_section(record),
        doubt_section(record),
        quality_section(record),
        pictures_section(record),
        error_section(record),
        setup_section(record),
    )
    return render_page(
        title=f"{record.task.title}: {record.config['method']}",
        about=f"run {record.run.path.resolve().name}",
        status=_status(record),
        headline=headline(record),
        tiles=tiles(record),
        sections=sections,
        closing=_CLOSING,
    )


def _status(record: RunRecord) -> str:
    """Return a warning above everything else, empty for a finished run."""
    if record.config["options"].get("allow_oracle"):
        oracle = "This run was allowed to read labels of unlabelled cases (oracle): research only. "
    else:
        oracle = ""
    if record.status is RunStatus.FINISHED:
        return oracle
    words = {
        RunStatus.FAILED: "This run failed; the figures are those up to then.",
        RunStatus.STOPPED: "This run was stopped and can go on; the figures are those up to then.",
    }
    return oracle + words.get(
        record.status, "This run is not finished; the figures are those up to now."
    )
