"""Threads that wait leave their core to others (docs/adr/0019-threads-wait-asleep.md)."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

_BRIEFLY = {"GOMP_SPINCOUNT": "5000", "KMP_BLOCKTIME": "1"}
"""Of the OpenMP libraries that PyTorch comes with: rounds of a loop, a fraction of a millisecond
(GNU's; its default is some milliseconds); milliseconds (LLVM's and Intel's; default 200)."""


def let_threads_sleep(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let PyTorch's threads wait for their next share of the work asleep instead of spinning.

    It must be called before torch is imported, and holds for processes started later, too. Whoever
    has set how threads wait keeps that.
    """
    if not {"OMP_WAIT_POLICY", *_BRIEFLY} & set(environment):
        environment.update(_BRIEFLY)
