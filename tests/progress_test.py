"""Tests for intriguing/progress.py"""

import io
import logging
import re
import threading

import pytest

from intriguing import progress
from intriguing.progress import Progress


def test_stopped_work_ends_at_its_next_update():
    with Progress(5, "counting") as work:
        work.update(1)
        with progress.stoppable() as stop:
            work.update(2)
            stop()
            for _ in range(2):
                with pytest.raises(KeyboardInterrupt):
                    work.update(3)
        work.update(4)


def test_an_error_lets_later_work_go_on():
    with pytest.raises(ZeroDivisionError), progress.stoppable() as stop:
        stop()
        raise ZeroDivisionError
    with Progress(1, "counting") as work:
        work.update(1)


def test_work_in_other_threads_stops():
    ended, started = [], threading.Barrier(3)

    def count(name):
        try:
            with Progress(1, name) as work:
                work.update(0)
                started.wait(60)
                while True:
                    work.update(0)
        except KeyboardInterrupt:
            ended.append(name)

    with progress.stoppable() as stop:
        threads = [threading.Thread(target=count, args=(name,), daemon=True) for name in "ab"]
        for thread in threads:
            thread.start()
        started.wait(60)
        stop()
        for thread in threads:
            thread.join(60)
    assert sorted(ended) == ["a", "b"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch, caplog, terminal):
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level(logging.INFO, logger="intriguing"), Progress(40, "baking", "pie") as work:
        work.update(0)
        work.update(30)
        work.update(40)
    if terminal:
        assert not caplog.messages
        assert "baking" in stream.getvalue() and "40/40" in stream.getvalue()
    else:
        assert not stream.getvalue()
        assert len(caplog.messages) == 3
        assert re.fullmatch(
            r"baking: 30 of 40 pies, \S+ a second, about 0 s left", caplog.messages[1]
        )
        assert re.fullmatch(
            r"baking: 40 of 40 pies, \S+ a second, about 0 s left", caplog.messages[2]
        )


def test_the_time_left_counts_only_what_was_done_here(monkeypatch, caplog):
    """90 of 100 were there: one more took 10 s, so that 9 more take 90 s, not 1 s."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with (
        caplog.at_level(logging.INFO, logger="intriguing"),
        Progress(100, "baking", "pie", num_done=90) as work,
    ):
        now[0] = 10.0
        work.update(91)
    assert caplog.messages == ["baking: 91 of 100 pies, 0.1 a second, about 90 s left"]


def test_what_is_restored_on_the_way_says_nothing_of_the_time_left(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with (
        caplog.at_level(logging.INFO, logger="intriguing"),
        Progress(100, "baking", "pie") as work,
    ):
        work.restore(40)
        work.restore(90)
        now[0] = 10.0
        work.update(91)
    assert caplog.messages == ["baking: 91 of 100 pies, 0.1 a second, about 90 s left"]


def test_lines_are_seldom(caplog):
    with caplog.at_level(logging.INFO, logger="intriguing"), Progress(40, "baking") as work:
        for done in range(41):
            work.update(done)
    assert not caplog.messages  # it took less than SECONDS_BETWEEN_LINES
