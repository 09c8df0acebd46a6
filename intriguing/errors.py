"""The one exception for a user's mistake."""


class InputError(ValueError):
    """Bad input: the message is one line that says what was wrong, where, and how to mend it.

    `launch.py` prints it without a traceback and exits with status 2; library users catch it as a
    `ValueError`. Anything else that escapes is a bug, and keeps its traceback.
    """


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
