"""Files that nobody trusts: whatever they hold, what comes out is a value or an InputError."""

import gzip
import io
import json
import resource
import struct
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from amount import share
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import RESULT
from PIL import Image

from intriguing import archive, attack, data, sealed
from intriguing.data import tfds
from intriguing.errors import InputError
from intriguing.models import import_weights
from intriguing.runs import load_results, read_metrics, shards

NUM = share(7_200, 60)  # cases per reader, of which there are 14


def npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def idx(array) -> bytes:
    return (
        bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + bytes(array)
    )


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def zipped_tensors() -> bytes:
    torch = pytest.importorskip("torch", reason="PyTorch writes what is read here")
    buffer = io.BytesIO()
    torch.save({"features.0.weight": torch.ones(2, 3), "features.0.bias": torch.ones(2)}, buffer)
    return buffer.getvalue()


IMAGES, LABELS = np.arange(32, dtype=np.uint8).reshape(2, 4, 4), np.array([0, 1], np.uint8)
FEATURES = {
    "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
    "featuresDict": {"features": {"label": {
        "pythonClassName": "tensorflow_datasets.core.features.class_label_feature.ClassLabel",
        "classLabel": {"numClasses": "2"},
    }}},
}  # fmt: skip


def read_idx(folder, content: bytes):
    for split in ("train", "t10k"):
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(idx(LABELS))
        (folder / f"{split}-images-idx3-ubyte").write_bytes(content)
    data.load("idx", "test", data_dir=str(folder))


def read_gz(folder, content: bytes):
    for split in ("train", "t10k"):
        (folder / f"{split}-labels-idx1-ubyte.gz").write_bytes(content)
        (folder / f"{split}-images-idx3-ubyte").write_bytes(idx(IMAGES))
    data.load("idx", "test", data_dir=str(folder))


def read_npz(folder, content: bytes):
    (folder / "data.npz").write_bytes(content)
    data.load("npz", "test", data_dir=str(folder / "data.npz"))


def read_image(folder, content: bytes):
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / "a.jpg").write_bytes(encoded("PNG"))
    (folder / "images" / "b.jpg").write_bytes(content)
    (folder / "labels.csv").write_text("file,class_index\na.jpg,0\nb.jpg,1\n")
    data.load("image_folder", "test", data_dir=str(folder), image_size=4)


def read_csv(folder, content: bytes):
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / "a.jpg").write_bytes(encoded("PNG"))
    (folder / "labels.csv").write_bytes(content)
    data.load("image_folder", "test", data_dir=str(folder), image_size=4)


def read_features(folder, content: bytes):
    (folder / "features.json").write_bytes(content)
    tfds.check_features(folder)


def read_weights(folder, content: bytes, ending: str):
    path = folder / f"weights.{ending}"
    path.write_bytes(content)
    import_weights.load(path, "squeezenet")


def read_result(folder, content: bytes):
    path = folder / "result.npz"
    path.write_bytes(content)
    attack.load(path)


def read_run(folder, content: bytes):
    """Whatever a run reads of its own: a shard, a sealed file, lines of metrics."""
    path = folder / "000000-000004.npz"
    path.write_bytes(content)
    shards.load_arrays(path)
    read_metrics(path)
    sealed.read(path)


def of_result() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **RESULT._asdict())
    return buffer.getvalue()


CSV = b"file,class_index,name\na.jpg,0,tench\n"
READERS = {
    "idx": (read_idx, lambda: idx(IMAGES)),
    "idx.gz": (read_gz, lambda: gzip.compress(idx(LABELS))),
    "npz": (read_npz, lambda: npz(x_test=IMAGES, y_train=LABELS, y_test=LABELS)),
    "JPEG": (read_image, lambda: encoded("JPEG")),
    "PNG": (read_image, lambda: encoded("PNG")),
    "GIF": (read_image, lambda: encoded("GIF")),
    "TIFF": (read_image, lambda: encoded("TIFF")),
    "labels.csv": (read_csv, lambda: CSV),
    "features.json": (read_features, lambda: json.dumps(FEATURES).encode()),
    "weights.pth": (lambda *a: read_weights(*a, "pth"), zipped_tensors),
    "weights.npz": (
        lambda *a: read_weights(*a, "npz"), lambda: npz(**{"conv1/weight": np.ones((2, 2))}),
    ),
    "weights.safetensors": (
        lambda *a: read_weights(*a, "safetensors"),
        lambda: safetensors.numpy.save({"conv1/weight": np.ones((2, 2), np.float32)}),
    ),
    "result": (read_result, of_result),
    "run": (read_run, lambda: json.dumps({"step": 1}).encode()),
}  # fmt: skip
EDIT = st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=0, max_size=9),
                 st.integers(0, 12))  # fmt: skip


def edited(content: bytes, edits) -> bytes:
    """Bytes taken out and others put in, at some places."""
    for place, new, num_out in edits:
        at = int(place * (len(content) + 1))
        content = content[:at] + new + content[at + num_out :]
    return content


def outcome(read, folder, content: bytes) -> bool:
    """Whether it ends in a value or one line."""
    try:
        read(folder, content)
    except InputError as error:
        return "\n" not in str(error) and len(str(error)) < 2000
    return True


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.filterwarnings("ignore")
def test_bytes_that_nobody_trusts(kind, tmp_path, tally):
    """A file that is read with some of its bytes changed, taken out or put in."""
    read, make = READERS[kind]
    valid = make()

    @settings(max_examples=NUM, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.one_of(st.lists(EDIT, max_size=4).map(lambda edits: edited(valid, edits)),
                     st.binary(max_size=200)))  # fmt: skip
    def try_one(content):
        survived = outcome(read, tmp_path, content)
        tally(survived)
        assert survived

    try_one()


def zip_of(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)
    return buffer.getvalue()


def npy_of(shape) -> bytes:
    """The header of an array, with nothing behind it."""
    buffer = io.BytesIO()
    about = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, about)
    return buffer.getvalue()


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header announces that size."""
    content = bytearray(encoded("PNG"))
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zipfile.crc32(content[12:29]))
    return bytes(content)


HUGE = {
    "an idx header of 10^12 bytes": ("idx", lambda: bytes((0, 0, 8, 3)) + struct.pack(
        ">3I", 10**4, 10**4, 10**4)),
    "an npz header of 10^12 bytes": ("npz", lambda: zip_of("x_test.npy", npy_of((10**6, 10**6)))),
    "an npz array of 10^30 bytes": ("npz", lambda: zip_of("x_test.npy", npy_of((10**15, 10**15)))),
    "an npz bomb": ("npz", lambda: zip_of("x_test.npy", npy_of((2**29,)) + bytes(2**29))),
    "a gzip bomb": ("idx.gz", lambda: gzip.compress(bytes(2**29), 1)),
    "an image of 10^5 x 10^5 pixels": ("PNG", lambda: png_of(10**5, 10**5)),
    "a safetensors header of a gigabyte": (
        "weights.safetensors", lambda: struct.pack("<Q", 2**30) + b"{" + bytes(1000)),
    "a tensor of 10^12 numbers": ("weights.safetensors", lambda: (
        lambda head: struct.pack("<Q", len(head)) + head)(json.dumps({"a": {
            "dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode())),
    "a state dict bomb": ("weights.pth", lambda: zip_of("a/data.pkl", b"\x80\x02" + bytes(2**28))),
    "a pickle": ("weights.pth", lambda: b"cos\nsystem\n(S'touch /tmp/owned'\ntR."),
    "a features.json of 100 MB": ("features.json", lambda: b'{"a": "' + b"x" * 10**8),
    "a features.json of any module": ("features.json", lambda: json.dumps(
        {"pythonClassName": "antigravity.Anything"}).encode()),
    "a label file that leads elsewhere": ("labels.csv", lambda: b"file,class_index\n../../x,0\n"),
    "an absolute path in a label file": ("labels.csv", lambda: CSV.replace(b"a.jpg", b"/etc/x")),
    "an array of Python objects": ("npz", lambda: npz(x_test=np.array([{}], object))),
}  # fmt: skip


@pytest.mark.parametrize("what", HUGE)
@pytest.mark.filterwarnings("ignore")
def test_sizes_and_names_that_nobody_trusts(what, tmp_path, tally):
    """A file that announces what it cannot hold, names what it must not, or is a bomb."""
    kind, make = HUGE[what]
    content, read = make(), READERS[kind][0]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    survived = False
    try:
        read(tmp_path, content)
        survived = kind == "PNG"  # left out, and named
    except InputError as error:
        survived = "\n" not in str(error)
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024  # megabytes
    survived &= taken < 700
    tally(survived)
    assert survived, f"{taken:.0f} MB more"


def test_a_manifest_that_leads_elsewhere(tmp_path, tally):
    """A manifest that names a file outside its folder: not read."""
    folder = tmp_path / "results" / "net"
    archive.write(tmp_path / "secret.npz", {"x": np.ones(3)})
    archive.write(folder / "a.npz", {"x": np.ones(3)})
    for name in ("config", "summary"):
        sealed.write(tmp_path / f"{name}.json", {})
    sealed.write(folder / shards.FOLDER_MANIFEST, {"files": {"../../secret.npz": "0" * 32}})
    with pytest.raises(InputError, match=r"net/secret\.npz is gone"):
        load_results(tmp_path)
    tally(True)
