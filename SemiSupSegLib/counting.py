"""Things with their number, as people write them."""

from __future__ import annotations


def counted(amount: int | str, things: str) -> str:
    """Return `1 case` for 1 and `cases`, `1 case is` for `cases are`, else `1,200 cases`.

    Args:
        amount: How many; a text stays as it is.
        things: In the plural, which may follow other words (`labelled cases`).
    """
    shown = amount if isinstance(amount, str) else f"{amount:,}"
    if shown != "1":
        return f"{shown} {things}"
    if things.endswith(" are"):
        return f"{counted(1, things.removesuffix(' are'))} is"
    return f"1 {things[:-2] if things.endswith(_LONG_PLURALS) else things[:-1]}"


_LONG_PLURALS = ("sses", "xes", "ches")
