"""Which cases are trained on with labels, without, and which only judged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Split:
    """Case ids by use; a patient's cases are all in one list."""

    train_labelled: tuple[str, ...]
    train_unlabelled: tuple[str, ...]
    validation: tuple[str, ...]
