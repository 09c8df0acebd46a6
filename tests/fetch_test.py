"""Tests for intriguing/fetch.py, against a server on this machine."""

import contextlib
import hashlib
import http.server
import socket
import threading
import time

import numpy as np
import pytest

from intriguing import fetch
from intriguing.errors import InputError
from intriguing.fetch import Remote

CONTENT = np.random.default_rng(0).bytes(3_000_000)
BREAK = 2 * fetch.CHUNK  # bytes, after which a transfer breaks off
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `CONTENT` under any name; `behaviour` says how badly, `asked` what came in."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.behaviour, self.breaks = [], "good", 0

    def remote(self, name="file.bin", sha256=SHA256):
        return Remote(f"http://127.0.0.1:{self.server_port}/{name}", sha256, len(CONTENT))


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        given = self.headers.get("Range")
        server.asked.append(given)
        if server.behaviour == "missing":
            return self.send_error(404)
        content = CONTENT[::-1] if server.behaviour == "wrong" else CONTENT
        start = int(given.removeprefix("bytes=").rstrip("-")) if given else 0
        start = 0 if server.behaviour == "no ranges" else start
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = len(content)
        if server.breaks:
            server.breaks -= 1
            stop = start + BREAK
        with contextlib.suppress(OSError):  # the other side may have left
            for place in range(start, stop, 50_000):
                self.wfile.write(content[place : min(stop, place + 50_000)])
                if server.behaviour == "slow":
                    time.sleep(0.01)
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("INTRIGUING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "PAUSE", 0.01)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def get(server, **options):
    (path,) = fetch.fetch([server.remote(**options)], "a network's weights", "weights")
    return path


@pytest.mark.parametrize("digits", [64, 8])
def test_fetches_once_and_says_so_before(server, said, tmp_path, digits):
    path = get(server, sha256=SHA256[:digits])
    assert path == tmp_path / "cache" / "weights" / "file.bin" and path.read_bytes() == CONTENT
    for part in ("a network's weights", "file.bin (3 MB)", "http://127.0.0.1", str(path.parent)):
        assert part in said.getvalue().splitlines()[0]
    assert get(server, sha256=SHA256[:digits]) == path and len(server.asked) == 1
    assert sorted(p.name for p in path.parent.iterdir() if not p.name.endswith(".lock")) == [
        "file.bin"
    ]


def test_a_transfer_that_breaks_off_goes_on(server):
    server.breaks = 2
    assert get(server).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={BREAK}-", f"bytes={2 * BREAK}-"]


def test_the_next_run_goes_on_too(server, tmp_path):
    server.breaks = 3
    with pytest.raises(InputError, match="fetching failed") as caught:
        get(server)
    for part in ("file.bin (3 MB)", "http://127.0.0.1", str(tmp_path / "cache"),
                 "INTRIGUING_CACHE"):  # fmt: skip
        assert part in str(caught.value)
    assert get(server).read_bytes() == CONTENT and server.asked[-1] == f"bytes={3 * BREAK}-"


def test_a_server_that_cannot_go_on_begins_anew(server):
    server.breaks, server.behaviour = 1, "no ranges"
    assert get(server).read_bytes() == CONTENT


def test_slow_is_not_broken(server):
    server.behaviour = "slow"
    assert get(server).read_bytes() == CONTENT


@pytest.mark.parametrize("digits", [64, 8])
def test_wrong_bytes_are_never_kept(server, digits):
    server.behaviour = "wrong"
    with pytest.raises(InputError, match="not what was published"):
        get(server, sha256=SHA256[:digits])
    assert not [p for p in (fetch.cache_dir() / "weights").iterdir() if p.suffix != ".lock"]
    server.behaviour = "good"
    assert get(server).read_bytes() == CONTENT


def test_a_file_that_was_damaged_later_is_fetched_again(server, said):
    path = get(server)
    path.write_bytes(CONTENT[:-1])
    assert get(server).read_bytes() == CONTENT
    assert "not what was published: moved to file.bin.damaged" in said.getvalue()


def test_not_there(server):
    server.behaviour = "missing"
    with pytest.raises(InputError, match="404"):
        get(server)
    assert len(server.asked) == 1  # asking again would not help


def test_download_forbidden(server):
    with pytest.raises(InputError, match="download is off"):
        fetch.fetch([server.remote()], "weights", "weights", download=False)
    assert not server.asked
    get(server)
    (path,) = fetch.fetch([server.remote()], "weights", "weights", download=False)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["nobody listens", "no answer", "no such name", "slow name"])
def test_no_network_is_one_line_within_five_seconds(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("INTRIGUING_CACHE", str(tmp_path))
    host = "127.0.0.1:9"

    def later():
        time.sleep(6)
        raise OSError("too late")

    if kind == "no answer":
        monkeypatch.setattr(socket, "create_connection", lambda *_: later())
    if kind == "slow name":
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: later())
    if kind == "no such name":
        host = "there-is-no-such-host.invalid"
    start = time.monotonic()
    with pytest.raises(InputError, match="no network") as caught:
        fetch.fetch([Remote(f"http://{host}/net.pth", SHA256, 10**8)], "weights", "weights")
    assert time.monotonic() - start < 5 and "\n" not in str(caught.value)
    for part in ("net.pth (100 MB)", str(tmp_path / "weights"), "INTRIGUING_CACHE"):
        assert part in str(caught.value)


def test_two_at_once_fetch_it_once(server):
    server.behaviour, paths = "slow", []
    threads = [threading.Thread(target=lambda: paths.append(get(server))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 2 and paths[0].read_bytes() == CONTENT
    assert server.asked == [None]  # the other waited


def test_a_cache_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("INTRIGUING_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="cannot write"):
        get(server)
