"""Published files, fetched once into the user's cache folder: said, checked, and resumed.

pooch keeps the files and their sums; here is what it leaves open: a transfer that broke off goes on
where it stopped, a file is known by the first digits of its sum, and no network is one clear line.
"""

import contextlib
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import urlsplit

from intriguing.atomic import io_error
from intriguing.errors import InputError, first_line
from intriguing.progress import Progress, logger

CONNECT_SECONDS = 4.0  # for name and connection: without a network the answer must not hang
READ_SECONDS = 30.0  # without a byte
TRIES, PAUSE = 3, 1.0  # transfers of one file; seconds between them
CHUNK = 2**18  # bytes


class Remote(NamedTuple):
    """A file that others publish.

    Fields: `url`; `sha256`, all of it or its first digits; `num_bytes`, about.
    """

    url: str
    sha256: str
    num_bytes: int

    @property
    def name(self) -> str:
        """Its last part."""
        return self.url.rpartition("/")[2]


def cache_dir() -> Path:
    """INTRIGUING_CACHE, or `intriguing` in the user's cache folder (XDG_CACHE_HOME, ~/.cache)."""
    if folder := os.environ.get("INTRIGUING_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "intriguing"


def fetch(remotes: Sequence[Remote], about: str, folder: str, download: bool = True) -> list[Path]:
    """The files of `remotes` in the cache's `folder`; those that are not there are fetched.

    Args:
      remotes: what to have.
      about: what they are, a few words.
      folder: below the cache folder.
      download: if false, what is not there is an error.

    Raises:
      InputError: a file is not there and may not or cannot be fetched, or is not what was
        published: says its name, size, where to put it, and the environment variable.
    """
    place = cache_dir() / folder
    missing = [remote for remote in remotes if not _is_good(place / remote.name, remote.sha256)]
    if missing and not download:
        raise InputError(f"{_needed(missing, about, place)}, and download is off")
    if missing:
        logger.info("%s: fetching %s from %s into %s", about, _sizes(missing),
                    missing[0].url.rpartition("/")[0], place)  # fmt: skip
    for remote in missing:
        _fetch_one(remote, about, place)
    return [place / remote.name for remote in remotes]


def _fetch_one(remote: Remote, about: str, place: Path) -> None:
    import pooch

    pooch.get_logger().setLevel("WARNING")  # it would say what we have said
    try:
        _reach(remote.url)
        with _alone(place / f".{remote.name}.part") as part:

            def downloader(url, output_file, _pooch) -> None:
                _transfer(remote, about, part)
                os.replace(part, output_file)

            pooch.retrieve(
                remote.url, known_hash=remote.sha256 if len(remote.sha256) == 64 else None,
                fname=remote.name, path=place, downloader=downloader,
            )  # fmt: skip
    except OSError as error:  # requests' are OSErrors, too
        if error.errno is not None and error.filename is not None:
            raise io_error("write", place, error) from error
        reason = first_line(error)
        raise InputError(f"{_needed([remote], about, place)}; fetching failed: {reason}") from error


def _needed(remotes: Sequence[Remote], about: str, place: Path) -> str:
    urls = " and ".join(remote.url for remote in remotes)
    return (
        f"{about}: {_sizes(remotes)} needed: {urls}, to be put in {place} (the environment variable"
        " INTRIGUING_CACHE names another cache folder)"
    )


def _sizes(remotes: Sequence[Remote]) -> str:
    return ", ".join(f"{remote.name} ({remote.num_bytes / 1e6:.3g} MB)" for remote in remotes)


def _is_good(path: Path, sha256: str) -> bool:
    """Whether the file is there, and what was published; if it is not that, it is moved away."""
    if not path.is_file():
        return False
    if _sum_of(path).startswith(sha256):
        return True
    aside = path.with_name(f"{path.name}.damaged")
    logger.warning("%s is not what was published: moved to %s", path, aside.name)
    os.replace(path, aside)
    return False


def _sum_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reach(url: str) -> None:
    """Raises OSError if nobody answers within `CONNECT_SECONDS`; looking up a name can take more.

    In a thread of its own, because a lookup cannot be interrupted.
    """
    import requests.utils

    proxies = requests.utils.get_environ_proxies(url)
    parts = urlsplit(proxies.get(urlsplit(url).scheme) or url)
    port = parts.port or {"https": 443}.get(parts.scheme, 80)
    found: list[Exception | None] = []

    def connect() -> None:
        try:
            socket.create_connection((parts.hostname, port), CONNECT_SECONDS).close()
            found.append(None)
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    error = found[0] if found else TimeoutError("no answer")
    if error is not None:
        raise ConnectionError(f"no network? {parts.hostname}: {first_line(error)}") from error


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[Path]:
    """The unfinished file, which no other process fetches at the same time."""
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.with_suffix(".lock").open("w") as lock:
        with contextlib.suppress(ImportError):  # there is none on Windows
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the process ends, however it does
        yield part


def _transfer(remote: Remote, about: str, part: Path) -> None:
    """Fetches to `part`, from where an earlier transfer stopped, and checks what came."""
    for tries_left in reversed(range(TRIES)):
        try:
            _transfer_once(remote, about, part)
            break
        except OSError as error:
            answered = getattr(getattr(error, "response", None), "status_code", None)
            if answered is not None or error.filename is not None or not tries_left:
                raise
            logger.info("%s: broke off (%s), goes on", remote.name, first_line(error))
            time.sleep(PAUSE)
    found = _sum_of(part)
    if not found.startswith(remote.sha256):
        part.unlink()
        raise InputError(
            f"{about}: what {remote.url} gave is not what was published: its SHA-256 is"
            f" {found[:8]}..., not {remote.sha256[:8]}...: try again, or fetch it elsewhere and put"
            f" it in {part.parent}"
        )


def _transfer_once(remote: Remote, about: str, part: Path) -> None:
    import requests

    start = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={start}-"} if start else {}
    timeout = (CONNECT_SECONDS, READ_SECONDS)
    headers["Accept-Encoding"] = "identity"  # else the sizes are of something else
    with requests.get(remote.url, headers=headers, stream=True, timeout=timeout) as answer:
        if answer.status_code == 416:  # there is no more than we have
            return
        answer.raise_for_status()
        start = start if answer.status_code == 206 else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else remote.num_bytes
        with part.open("ab" if start else "wb") as file:
            done = _copy(answer.iter_content(CHUNK), file, start, total, f"fetching {about}")
    if length and done < total:
        raise ConnectionError(f"{done} of {total} bytes came")


def _copy(chunks, file: BinaryIO, start: int, total: int, description: str) -> int:
    """Writes chunks, and shows how far; returns the file's size."""
    with Progress(-(-total // 10**6), description, "MB", start // 10**6) as progress:
        for chunk in chunks:
            file.write(chunk)
            start += len(chunk)
            progress.update(start // 10**6)
    return start
