"""How much the fault tests do: all of it in `make faults`, else a share."""

import os

ALL = os.environ.get("INTRIGUING_FAULTS") == "all"


def share(whole: int, part: int) -> int:
    """How many cases."""
    return whole if ALL else part
