"""Which file of a review a run takes as a case's label: frozen, though reviewing goes on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from SemiSupSegLib.cases.case import Case, CaseState, ImageSource


def frozen_reviews(cases: Iterable[Case], reviews: Path) -> dict[str, dict[str, Any]]:
    """Return the `reviewed` of run.json: by case, the label's `file` and its `unknown` value.

    Args:
        cases: Those of a run; only reviewed ones have an entry.
        reviews: The folder of results. Files in it are named from there, so that it may move.
    """
    root = os.path.abspath(reviews)  # noqa: PTH100 - resolve() would follow the user's links
    found = {}
    for case in cases:
        if case.state is CaseState.REVIEWED and case.label is not None:
            path = case.label.path
            if path.is_relative_to(root):
                path = path.relative_to(root)
            found[case.id] = {"file": path.as_posix(), "unknown": case.label_unknown}
    return found


def with_frozen_reviews(
    cases: Iterable[Case], reviewed: Mapping[str, Mapping[str, Any]], reviews: Path
) -> list[Case]:
    """Return the cases with the labels that `frozen_reviews` noted.

    Args:
        cases: As they are without any review.
        reviewed: Of run.json.
        reviews: The folder of results, where it is now.
    """
    return [
        replace(
            case,
            state=CaseState.REVIEWED,
            # A file that is not below the folder is named in full.
            label=ImageSource(path=Path(reviews, reviewed[case.id]["file"]).absolute()),
            label_unknown=reviewed[case.id]["unknown"],
        )
        if case.id in reviewed
        else case
        for case in cases
    ]
