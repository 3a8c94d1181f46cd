"""`review`: where a result should be looked at, the worst first, and what is made of reviews."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from SemiSupSegLib.commands import review_files, review_open
from SemiSupSegLib.commands.json_answer import add_json, prepare_json, write_answer
from SemiSupSegLib.errors import UsageError
from SemiSupSegLib.review.options import NEUTRAL
from SemiSupSegLib.review.results import (
    ListedRegions,
    find_again,
    read_regions,
    replace_regions,
)

HELP = (
    "List the regions of a result that a person should look at, the worst first; and, once "
    "somebody has reviewed results in Slicer's panel, make something of it."
)
_HOW = """\
in this order:
  review cohort --results OUT                which cases to look at, and what is done
  review --result OUT/CASE                   the regions of one case
  (review it in Slicer: SemiSupSeg, Review, Open results...)
  review status --result OUT/CASE            what was decided
  review label --result OUT/CASE             a label to train on, for `train --reviews OUT`
  review export --results OUT --format html  a page about the whole folder
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    # argparse leaves the lines of all texts alone then.
    parser.description = textwrap.fill(HELP, 80)
    parser.epilog = _HOW
    _add_listing(parser, is_default=True)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions")
    words = "list the regions to look at (what happens without ACTION)"
    listing = actions.add_parser("list", help=words, description=HELP)
    _add_listing(listing, is_default=False)
    review_open.add_action(actions)
    review_files.add_actions(actions)


def run(arguments: argparse.Namespace) -> int:
    """Do one action."""
    if arguments.action in (None, "list"):
        _list(arguments)
        return 0
    review_open.carry_before(arguments)
    return review_files.run_action(arguments)


def _add_listing(parser: argparse.ArgumentParser, *, is_default: bool) -> None:
    # An action's own default would replace what was said before its name.
    unsaid = None if is_default else argparse.SUPPRESS
    parser.add_argument(
        "--result", type=Path, metavar="DIR", default=unsaid, help="result of a case: OUT/<case>"
    )
    add_json(parser, "the list", default=unsaid)
    parser.add_argument(
        "--sensitivity",
        type=float,
        metavar="S",
        default=unsaid,
        help="find them anew: 0 lists the least volume, 1 the most, 0.5 what predict found",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        default=False if is_default else argparse.SUPPRESS,
        help="keep those found at --sensitivity in the result, instead of its former ones",
    )


def _list(arguments: argparse.Namespace) -> None:
    if arguments.result is None:
        raise UsageError(
            "Say which result with --result OUT/<case>; `review cohort --results OUT` lists them."
        )
    sensitivity: float | None = arguments.sensitivity
    if sensitivity is not None and not 0 <= sensitivity <= 1:
        raise UsageError(f"--sensitivity is {sensitivity}, must be from 0 to 1.")
    prepare_json(arguments.json)
    if sensitivity is None and not arguments.write:
        listed = read_regions(arguments.result)
    else:
        found, listed = find_again(
            arguments.result, NEUTRAL if sensitivity is None else sensitivity
        )
        if arguments.write:
            replace_regions(arguments.result, found, listed)
    if not write_answer(arguments.json, listed.to_json()):
        print("\n".join(_report(listed)))


def _report(listed: ListedRegions) -> list[str]:
    inside = sum(one.expected_error_mm3 for one in listed.regions)
    whole = listed.expected_error_mm3
    number = len(listed.regions)
    expected = f"expected error {whole / 1000:.1f} mL"
    if not number:
        # Beyond 1 there is nothing.
        more = ": a higher --sensitivity lists more" if listed.sensitivity < 1 else ""
        return [
            f"{listed.case}: nothing is doubtful enough to be listed; {expected}. That does not "
            f"mean that nothing is wrong{more}."
        ]
    named = f"{number} region{'s' if number > 1 else ''} to look at"
    lines = [f"{listed.case}: {named}; {expected}, {inside / whole:.0%} of it in them"]
    rows = [["", "class", "or", "R A S mm", "slice", "mL", "wrong mL", "doubt", "agreement", "why"]]
    for one in listed.regions:
        rows.append(
            [
                str(one.id),
                one.class_name,
                one.second_class,
                " ".join(f"{value:.0f}" for value in one.peak_ras),
                str(one.peak_voxel[0]),
                f"{one.volume_mm3 / 1000:.2f}",
                f"{one.expected_error_mm3 / 1000:.2f}",
                f"{one.mean_doubt:.2f} (to {one.peak_doubt:.2f})",
                "-" if one.agreement is None else f"{one.agreement:.2f}",
                one.reason,
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    words = {1, 2, 9}
    lines += [
        "  ".join(
            cell.ljust(width) if column in words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    if not listed.thresholds.fitted_on:
        lines.append("The thresholds were not fitted to this model: these are the general ones.")
    return lines
