"""Sections in, one self-contained HTML page out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

import jinja2

from SemiSupSegLib import __version__
from SemiSupSegLib.report.blocks import Section
from SemiSupSegLib.resources import ROOT


def render_page(
    *,
    title: str,
    about: str,
    headline: Sequence[str],
    tiles: Sequence[tuple[str, str, str]],
    sections: Sequence[Section],
    status: str = "",
    closing: str = "",
) -> str:
    """Return a page that needs no network and no other file.

    Args:
        title: Its name.
        about: What it is of, in two or three words above the title.
        headline: The result in a few sentences.
        tiles: Large figures: name, value, remark.
        sections: Chapters; those without blocks are left out.
        status: A warning above everything else.
        closing: A sentence for the end, after who wrote the page and when.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT / "Report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("report.html.jinja").render(
        title=title,
        about=about,
        status=status,
        headline=headline,
        tiles=tiles,
        sections=[section for section in sections if section.blocks],
        closing=closing,
        version=__version__,
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )
