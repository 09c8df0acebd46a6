"""Progress of long work: a tqdm bar on a terminal, plain lines elsewhere."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

logger = logging.getLogger("intriguing")  # not absl's: orbax and jax fill that one with their own
SECONDS_BETWEEN_LINES = 10.0
_stopped = threading.Event()


@contextlib.contextmanager
def stoppable() -> Iterator[Callable[[], None]]:
    """Within it, work in other threads ends at its next `Progress.update` once what it gives is
    called: only the main thread gets the user's interrupt.
    """
    try:
        yield _stopped.set
    finally:
        _stopped.clear()


class Progress:
    """Counts work that is done. Use as a context manager; call `update(n)` when n items are done.

    Args:
      total: number of items.
      description: what is being done, a few words.
      unit: what one item is.
      num_done: items that an earlier run has done; they say nothing of the time left.
    """

    def __init__(self, total: int, description: str, unit: str = "image", num_done: int = 0):
        self._total, self._description, self._unit = total, description, unit
        self._first = self._done = num_done
        self._start = self._last = time.monotonic()
        self._bar = tqdm(
            total=total, desc=description, unit=unit, initial=num_done,
            disable=not sys.stderr.isatty(),
        )  # fmt: skip

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the bar as it is, on a line of its own."""
        self._bar.close()

    def restore(self, num_done: int) -> None:
        """As `update`, for items that an earlier run has done."""
        more = num_done - self._done
        self._first += more
        if not self._bar.disable:
            self._bar.initial += more
        self.update(num_done)

    def update(self, num_done: int) -> None:
        """Says how many items are done. Raises KeyboardInterrupt if all work is to stop."""
        if _stopped.is_set():
            raise KeyboardInterrupt
        self._bar.update(num_done - self._done)
        self._done = num_done
        now = time.monotonic()
        if self._bar.disable and now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            rate = max(self._done - self._first, 1) / (now - self._start)  # per second
            left = (self._total - self._done) / rate
            rate = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
            line = "%s: %d of %d %ss, %s a second, about %.0f s left"
            logger.info(line, self._description, self._done, self._total, self._unit, rate, left)
