"""Ctrl-C and SIGTERM: once, the program ends when what it is writing is written; twice, at once."""

import contextlib
import dataclasses
import os
import signal
import threading
from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclasses.dataclass
class _State:
    """Fields: `num_open`, blocks of the main thread that must end; `due`, a signal for after."""

    num_open: int = 0
    due: int = 0


_STATE = _State()


def install() -> None:
    """Makes both signals raise KeyboardInterrupt(number) in the main thread, which must call it.

    The second one is not left to Python, which may be compiling for a minute: a thread reads it.
    """
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read_end,), daemon=True).start()
    for number in SIGNALS:
        signal.signal(number, _raise)


def _watch(read_end: int) -> None:
    numbers = (number for number in _bytes_of(read_end) if number in SIGNALS)
    next(numbers)
    os._exit(128 + next(numbers))


def _bytes_of(read_end: int) -> Iterator[int]:
    while data := os.read(read_end, 1):
        yield data[0]


def _raise(number: int, frame) -> None:
    del frame
    if _STATE.num_open:
        _STATE.due = number
    else:
        raise KeyboardInterrupt(number)


@contextlib.contextmanager
def unbroken() -> Iterator[None]:
    """Within it no first signal is raised, but at its end: a write is finished."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    _STATE.num_open += 1
    try:
        yield
    finally:
        _STATE.num_open -= 1
        due, _STATE.due = (_STATE.due, 0) if not _STATE.num_open else (0, _STATE.due)
        if due:
            raise KeyboardInterrupt(due)
