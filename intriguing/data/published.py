"""Data sets that come by themselves: MNIST, Fashion-MNIST, and Imagenette's photographs.

Addresses and sums are those of tensorflow-datasets' checksum lists.
"""

import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from intriguing import fetch
from intriguing.errors import InputError, first_line
from intriguing.fetch import Remote
from intriguing.progress import logger

_MNIST = "https://storage.googleapis.com/cvdf-datasets/mnist"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
IDX = {
    "mnist": tuple(Remote(f"{_MNIST}/{name}-ubyte.gz", sha256, size) for name, sha256, size in (
        ("train-images-idx3", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
         9_912_422),
        ("train-labels-idx1", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
         28_881),
        ("t10k-images-idx3", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
         1_648_877),
        ("t10k-labels-idx1", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
         4_542),
    )),
    "fashion_mnist": tuple(
        Remote(f"{_FASHION}/{name}-ubyte.gz", sha256, size) for name, sha256, size in (
        ("train-images-idx3", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
         26_421_880),
        ("train-labels-idx1", "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
         29_515),
        ("t10k-images-idx3", "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
         4_422_102),
        ("t10k-labels-idx1", "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
         5_148),
    )),
}  # fmt: skip
IMAGENETTE = Remote(
    "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz",
    "64d0c4859f35a461889e0147755a999a48b49bf38a7e0f9bd27003f10db02fe5", 99_003_388,
)  # fmt: skip
MAX_PHOTOGRAPH = 10**7  # bytes: those of 160 pixels have some thousands


def idx(name: str, download: bool) -> Path:
    """The folder of the four idx files of "mnist" or "fashion_mnist"."""
    return fetch.fetch(IDX[name], name, name, download)[0].parent


def imagenette(download: bool) -> Path:
    """The folder of Imagenette's 3,925 validation photographs, 160 pixels: <WordNet id>/*.JPEG."""
    (archive,) = fetch.fetch([IMAGENETTE], "Imagenette, photographs", "imagenette2-160", download)
    folder = archive.parent / "val"
    if not folder.is_dir():
        logger.info("unpacking %s", archive)
        try:
            _unpack(archive, "imagenette2-160/val", folder)
        except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
            raise InputError(f"{archive}: unreadable ({first_line(error)}): remove it") from error
    return folder


def _unpack(archive: Path, below: str, folder: Path) -> None:
    """The regular files <class>/<file> `below` a path of the archive, into `folder`: all, or none.

    Names come from the archive, and are not trusted: only two plain parts are taken.
    """
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    with tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            parts = path.parts[-2:]
            if not member.isreg() or str(path.parent.parent) != below or ".." in parts:
                continue
            if member.size > MAX_PHOTOGRAPH:
                raise ValueError(f"{member.name} has {member.size} bytes")
            target = new.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(tar.extractfile(member).read())
    if not new.is_dir():
        raise ValueError(f"nothing below {below}")
    new.rename(folder)
