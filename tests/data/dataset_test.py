"""Every way in, every way it can go wrong: real files where they exist, made ones in tmp_path."""

import csv
import gzip
import importlib.machinery
import io
import json
import os
import shutil
import socket
import struct
import sys
import time
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from prepared import write_tfds

from intriguing import data
from intriguing.data import files
from intriguing.data.files import SPLITS
from intriguing.errors import InputError


@pytest.fixture(scope="module")
def real():
    root = os.environ.get("INTRIGUING_DATA")
    if not root:
        pytest.skip("INTRIGUING_DATA is unset: it must name the folder of the real data sets")
    return Path(root)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"the network was touched: {args}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def error_of(function, *args, **kwargs) -> str:
    """The message of the InputError that must come, which must be one line."""
    with pytest.raises(InputError) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def small_dataset(num=10):
    images = np.linspace(0, 1, num * 4, dtype=np.float32).reshape(num, 2, 2, 1)
    return data.Dataset(images, np.arange(num, dtype=np.int32), tuple(map(str, range(num))))


def write_idx(path: Path, array: np.ndarray, magic: bytes | None = None, cut: int = 0):
    header = magic or bytes((0, 0, 8, array.ndim))
    content = header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    content = content[: len(content) - cut]
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_idx_set(folder: Path, names: list[str], rng):
    for name in names:
        num = 6 if name.startswith("train") else 4
        shape = (num, 5, 7) if "images" in name else (num,)
        write_idx(folder / name, rng.integers(0, 3, shape, dtype=np.uint8))


STANDARD = [
    f"{half}-{kind}-ubyte" for half in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
]


class TestDigits:
    def test_is_what_scikit_learn_holds(self):
        from sklearn.datasets import load_digits

        digits = load_digits()
        train, test = data.load("digits", "train"), data.load("digits", "test")
        assert train.images.shape == (1442, 8, 8, 1) and test.images.shape == (355, 8, 8, 1)
        assert train.images.dtype == np.float32 and train.labels.dtype == np.int32
        assert train.class_names == tuple("0123456789")
        rows = sorted(row.tobytes() for part in (train, test) for row in part.images * 16)
        assert rows == sorted(row.tobytes() for row in np.float32(digits.images))
        for label in range(10):  # every fifth of its class is test, and the order is the file's
            of_class = digits.images[digits.target == label]
            np.testing.assert_array_equal(
                test.images[test.labels == label, ..., 0] * 16, of_class[4::5]
            )
            np.testing.assert_array_equal(
                train.images[train.labels == label, ..., 0] * 16,
                np.delete(of_class, slice(4, None, 5), axis=0),
            )
        np.testing.assert_array_equal(train.labels[:30], digits.target[:30])

    def test_classes_are_even_in_both_splits(self):
        train, test = (np.bincount(data.load("digits", split).labels) for split in SPLITS)
        assert (train.min(), train.max(), test.min(), test.max()) == (140, 147, 34, 36)

    def test_num_examples_and_image_size(self):
        whole = data.load("digits", "test")
        some = data.load("digits", "test", num_examples=7, image_size=16)
        assert some.images.shape == (7, 16, 16, 1)
        np.testing.assert_array_equal(some.labels, whole.labels[:7])
        assert some.images.min() >= 0 and some.images.max() <= 1
        oracle = jax.image.resize(whole.images[:7], (7, 16, 16, 1), "linear")
        np.testing.assert_allclose(some.images, oracle, atol=1e-6)  # float32 rounding

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"split": "validation"}, ["validation", "train, test"]),
            ({"split": "test", "num_examples": 0}, ["num_examples is 0"]),
            ({"split": "test", "num_examples": 356}, ["355", "356"]),
            ({"split": "test", "image_size": -1}, ["image_size is -1"]),
        ],
    )
    def test_bad_arguments(self, arguments, words):
        message = error_of(data.load, "digits", **arguments)
        assert all(word in message for word in words)


class TestMnist:
    @pytest.mark.parametrize(
        ("split", "num"),
        [pytest.param("train", 60_000, marks=pytest.mark.slow), ("test", 10_000)],
    )
    def test_idx_and_tfds_hold_the_same_images(self, real, split, num):
        idx = data.load("mnist", split, data_dir=str(real))
        tfds = data.load("mnist", split, data_dir=str(real / "tfds"))
        assert idx.images.shape == tfds.images.shape == (num, 28, 28, 1)
        assert idx.class_names == tfds.class_names == tuple("0123456789")
        # TFDS shuffled when it prepared: compare as sorted rows of (label, pixels). Two floats that
        # are the same 255th are the same float, and bytes sort four times as fast.
        rows_idx, rows_tfds = (
            sorted(
                bytes([label]) + image.tobytes()
                for image, label in zip(
                    np.rint(255 * part.images).astype(np.uint8), part.labels, strict=True
                )
            )
            for part in (idx, tfds)
        )
        assert rows_idx == rows_tfds
        if split == "train":  # as published: the first training digits
            assert idx.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]

    def test_environment_names_the_folder(self, real, monkeypatch):
        monkeypatch.setenv("INTRIGUING_DATA", str(real))
        assert len(data.load("mnist", "test", num_examples=3).labels) == 3

    def test_idx_files_directly_in_data_dir(self, tmp_path, rng):
        write_idx_set(tmp_path, STANDARD, rng)
        assert data.load("mnist", "train", data_dir=str(tmp_path)).images.shape == (6, 5, 7, 1)

    def test_absent_says_how_to_get_it(self, tmp_path):
        message = error_of(data.load, "mnist", "train", data_dir=str(tmp_path))
        for words in (f"no idx files in {tmp_path}", "INTRIGUING_CACHE", "9.91 MB", "is off"):
            assert words in message
        message = error_of(data.load, "kmnist", "train", data_dir=str(tmp_path))
        for words in ("pip install tensorflow", "tfds.builder('kmnist'", f"{tmp_path}/tfds"):
            assert words in message
        assert "file_format='array_record').download_and_prepare()" in message

    @pytest.mark.parametrize("name", ["mnist", "idx", "npz", "image_folder", "cifar10"])
    def test_no_data_dir(self, monkeypatch, tmp_path, name):
        monkeypatch.delenv("INTRIGUING_DATA", raising=False)
        assert "INTRIGUING_DATA" in error_of(data.load, name, "train")
        gone = str(tmp_path / "gone")
        assert gone in error_of(data.load, name, "train", data_dir=gone)


class TestIdx:
    @pytest.mark.parametrize("old, new", [("", ""), ("-idx", ".idx"), ("t10k", "test")])
    @pytest.mark.parametrize("packed", ["", ".gz"])
    def test_names(self, tmp_path, rng, old, new, packed):
        write_idx_set(tmp_path, [name.replace(old, new) + packed for name in STANDARD], rng)
        train, test = (data.load("idx", half, data_dir=str(tmp_path)) for half in SPLITS)
        assert train.images.shape == (6, 5, 7, 1) and test.images.shape == (4, 5, 7, 1)

    def test_values_and_common_class_count(self, tmp_path):
        write_idx(tmp_path / STANDARD[0], np.array([[[0, 255], [51, 102]]], np.uint8))
        write_idx(tmp_path / STANDARD[1], np.array([1], np.uint8))
        write_idx(tmp_path / STANDARD[3], np.array([0, 4], np.uint8))
        dataset = data.load("idx", "train", data_dir=str(tmp_path))
        np.testing.assert_array_equal(dataset.images.ravel(), np.float32([0, 1, 0.2, 0.4]))
        assert dataset.class_names == tuple("01234")

    def test_damage(self, tmp_path, rng):
        write_idx_set(tmp_path, STANDARD, rng)
        images = tmp_path / STANDARD[0]
        pixels = rng.integers(0, 9, (6, 5, 7), dtype=np.uint8)

        def message():
            return error_of(data.load, "idx", "train", data_dir=str(tmp_path))

        write_idx(images, pixels, cut=1)
        assert "210 values" in message() and "209" in message() and str(images) in message()
        write_idx(images, pixels[:5])
        assert "5 images but 6 labels" in message()
        write_idx(images, pixels, magic=bytes((0, 0, 13, 3)))
        assert "00000d03" in message() and "00000803" in message()
        images.write_bytes(b"")
        assert str(images) in message()
        images.write_bytes(bytes((0, 0, 8, 3, 0)))
        assert str(images) in message()
        images.unlink()
        assert STANDARD[0] in message() and str(tmp_path) in message()
        packed = tmp_path / (STANDARD[0] + ".gz")
        packed.write_bytes(b"not gzip")
        assert str(packed) in message()
        write_idx(packed, pixels)
        packed.write_bytes(packed.read_bytes()[:-20])
        assert str(packed) in message()
        write_idx(packed, pixels)
        (tmp_path / STANDARD[3]).unlink()
        assert STANDARD[3] in message()


class TestNpz:
    def save(self, path, rng, **changes):
        arrays = {
            "x_train": rng.integers(0, 256, (5, 4, 4, 3), dtype=np.uint8),
            "y_train": np.array([[0], [1], [0], [1], [0]]),
            "x_test": rng.random((3, 4, 4)),
            "y_test": np.array([0, 1, 2]),
        }
        arrays = {key: value for key, value in (arrays | changes).items() if value is not None}
        np.savez(path, **arrays)
        return arrays

    def test_a_label_that_would_fill_the_memory(self, tmp_path, rng):
        self.save(tmp_path / "x.npz", rng, y_test=np.array([0, 1, 4294967295]))
        message = error_of(data.load, "npz", "train", data_dir=str(tmp_path))
        assert "label 4294967295 is above 99999" in message

    def test_cars(self, real):
        train = data.load("npz", "train", data_dir=str(real / "cars"))
        test = data.load("npz", "test", data_dir=str(real / "cars" / "cars_64px.npz"))
        assert train.images.shape == (4000, 64, 64, 3) and test.images.shape == (1000, 64, 64, 3)
        assert train.class_names == ("non-vehicle", "vehicle")
        with np.load(real / "cars" / "cars_64px.npz") as stored:
            np.testing.assert_array_equal(test.images, np.float32(stored["x_test"]) / 255)
            np.testing.assert_array_equal(test.labels, stored["y_test"].ravel())

    def test_forms(self, tmp_path, rng):
        arrays = self.save(tmp_path / "a.npz", rng)
        train, test = (data.load("npz", half, data_dir=str(tmp_path)) for half in SPLITS)
        np.testing.assert_array_equal(train.images, np.float32(arrays["x_train"]) / 255)
        np.testing.assert_array_equal(test.images, np.float32(arrays["x_test"][..., None]))
        assert train.labels.tolist() == [0, 1, 0, 1, 0]
        assert train.class_names == test.class_names == ("0", "1", "2")

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"x_train": None}, ["no x_train", "y_train, x_test, y_test"]),
            ({"x_train": np.full((5, 4, 4), 7.5)}, ["7.5", "image 0", "outside [0, 1]"]),
            ({"x_train": np.zeros((5, 4, 4), np.int64)}, ["int64", "uint8"]),
            ({"x_train": np.zeros((5, 3, 4, 4), np.uint8)}, ["(5, 3, 4, 4)", "channels"]),
            ({"x_train": np.zeros((0, 4, 4), np.uint8), "y_train": np.zeros(0, int)}, ["(0, 4"]),
            ({"x_train": np.zeros((4, 4, 4), np.uint8)}, ["4 images but 5 labels"]),
            ({"y_train": np.eye(5, dtype=int)}, ["labels have shape (5, 5)"]),
            ({"y_train": np.array([0.0, 1, 2, 3, 4])}, ["labels are float64"]),
            ({"y_train": np.array(list("abcde"))}, ["labels are <U1"]),
            ({"y_train": np.array([0, 1, 0, 1, -1])}, ["image 4", "label -1", "0..2"]),
            ({"class_names": np.array(["only"])}, ["image 1", "label 1", "0..0"]),
            ({"y_train": np.array([object()] * 5)}, ["unreadable"]),
        ],
    )
    def test_wrong_arrays(self, tmp_path, rng, changes, words):
        self.save(tmp_path / "a.npz", rng, **changes)
        message = error_of(data.load, "npz", "train", data_dir=str(tmp_path))
        assert all(word in message for word in (*words, str(tmp_path / "a.npz")))

    def test_wrong_files(self, tmp_path, rng):
        assert "exactly one" in error_of(data.load, "npz", "train", data_dir=str(tmp_path))
        self.save(tmp_path / "a.npz", rng)
        self.save(tmp_path / "b.npz", rng)
        assert "a.npz, b.npz" in error_of(data.load, "npz", "train", data_dir=str(tmp_path))
        path = tmp_path / "a.npz"
        content = path.read_bytes()
        for damaged in (b"", b"hello", content[:-60], content[:90] + b"XXXX" + content[94:]):
            path.write_bytes(damaged)
            assert str(path) in error_of(data.load, "npz", "train", data_dir=str(path))
        np.save(tmp_path / "c.npy", np.zeros(3))
        (tmp_path / "c.npy").rename(path)
        assert str(path) in error_of(data.load, "npz", "train", data_dir=str(path))


class TestImageFolder:
    def save(self, path, value, size=(9, 7)):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, value).save(path, "PNG" if path.suffix == ".png" else "JPEG")

    def load(self, folder, split="train", image_size=4, **options):
        return data.load(
            "image_folder", split, data_dir=str(folder), image_size=image_size, **options
        )

    def test_imagenet_sample(self, real):
        folder = real / "imagenet_sample"
        dataset = self.load(folder, image_size=64)
        assert dataset.images.shape == (128, 64, 64, 3) and len(dataset.class_names) == 1000
        with (folder / "labels.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert dataset.labels.tolist() == [int(row["class_index"]) for row in rows]
        assert [dataset.class_names[i] for i in dataset.labels] == [row["name"] for row in rows]
        assert self.load(folder, "test", num_examples=5).labels.tolist() == [
            int(row["class_index"]) for row in rows[:5]
        ]

    def test_classes_take_turns(self, tmp_path):
        for name in ("b/1.png", "b/2.JPEG", "a/1.jpg", "a/2.jpeg", "a/3.png", ".git/1.png"):
            self.save(tmp_path / name, (255, 0, 51))
        (tmp_path / "a" / "notes.txt").write_text("no image")
        dataset = self.load(tmp_path)
        assert dataset.class_names == ("a", "b") and dataset.labels.tolist() == [0, 1, 0, 1, 0]
        np.testing.assert_allclose(dataset.images[0, 0, 0], [1, 0, 0.2], atol=0.01)  # JPEG's loss
        np.testing.assert_array_equal(dataset.images[4, 0, 0], np.float32([1, 0, 0.2]))
        assert self.load(tmp_path, "test").labels.tolist() == [0, 1, 0, 1, 0]

    @pytest.mark.parametrize("half", ["test", "val"])
    def test_split_folders_share_their_classes(self, tmp_path, half):
        for name in ("train/a/1.png", "train/b/1.png", "train/c/1.png"):
            self.save(tmp_path / name, "red")
        message = error_of(self.load, tmp_path, "test")
        assert "test/<class>/ or val/<class>/" in message and str(tmp_path) in message
        self.save(tmp_path / half / "c" / "1.png", "blue")
        train, test = self.load(tmp_path), self.load(tmp_path, "test")
        assert train.class_names == test.class_names == ("a", "b", "c")
        assert train.labels.tolist() == [0, 1, 2] and test.labels.tolist() == [2]
        assert test.images[0, 0, 0].tolist() == [0, 0, 1]

    def test_unreadable_files_are_skipped_and_named_once(self, tmp_path, caplog):
        for name in ("a/1.jpg", "a/2.jpg", "b/1.png", "b/2.png", "b/3.png"):
            self.save(tmp_path / name, "red", (90, 70))
        (tmp_path / "a" / "1.jpg").write_bytes(b"not an image")
        half = (tmp_path / "b" / "2.png").read_bytes()[:-40]
        (tmp_path / "b" / "2.png").write_bytes(half)
        with caplog.at_level("WARNING", logger="intriguing"):
            dataset = self.load(tmp_path)
        assert dataset.labels.tolist() == [1, 0, 1]
        (record,) = caplog.records
        assert "2 unreadable" in record.getMessage()
        assert "a/1.jpg, b/2.png" in record.getMessage()
        caplog.clear()
        assert self.load(tmp_path, num_examples=2).labels.tolist() == [1, 0]
        assert "skipped 1 " in caplog.text  # stopped before b/2.png

    def test_nothing_usable(self, tmp_path):
        assert "image_size" in error_of(data.load, "image_folder", "train", data_dir=str(tmp_path))
        assert "no readable image" in error_of(self.load, tmp_path)
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "1.jpg").write_bytes(b"")
        assert str(tmp_path) in error_of(self.load, tmp_path)

    def test_labels_csv_without_synset_words(self, tmp_path):
        self.save(tmp_path / "images" / "x.png", "red")
        (tmp_path / "labels.csv").write_text("file,class_index,name\nx.png,2,dog\ngone.png,1,cat\n")
        dataset = self.load(tmp_path)
        assert dataset.labels.tolist() == [2] and dataset.class_names == ("0", "cat", "dog")
        (tmp_path / "labels.csv").write_text("path,label\nx.png,2\n")
        assert "path, label" in error_of(self.load, tmp_path)
        (tmp_path / "labels.csv").write_text("class_index,file\n1\n")
        assert "row 1" in error_of(self.load, tmp_path)
        (tmp_path / "labels.csv").write_text("file,class_index\nx.png,dog\n")
        assert "row 1" in error_of(self.load, tmp_path) and "dog" in error_of(self.load, tmp_path)


class TestDecodeImage:
    def decode(self, image, image_size=None, channels=3, form="PNG"):
        file = io.BytesIO()
        image.save(file, form)
        return files.decode_image(file, image_size, channels)

    def test_sixteen_bit_grey_keeps_its_range(self):
        values = np.array([[0, 257 * 7, 30_000, 65_535]], np.uint16)
        pixels = self.decode(Image.fromarray(values))
        np.testing.assert_array_equal(pixels[0, :, 0], [0, 7, 117, 255])
        np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])

    def test_transparency_lies_over_white(self):
        rgba = np.array([[[0, 0, 0, 0], [10, 20, 30, 255], [0, 0, 0, 51]]], np.uint8)
        pixels = self.decode(Image.fromarray(rgba))
        assert pixels.tolist() == [[[255] * 3, [10, 20, 30], [204] * 3]]

    def test_grey_palette_and_cmyk(self):
        grey = np.array([[5, 200]], np.uint8)
        assert self.decode(Image.fromarray(grey)).tolist() == [[[5] * 3, [200] * 3]]
        assert self.decode(Image.fromarray(grey), channels=1).tolist() == [[[5], [200]]]
        palette = Image.new("RGB", (3, 2), (10, 200, 30)).convert("P", palette=Image.Palette.WEB)
        expected = np.array(palette.convert("RGB"))
        np.testing.assert_array_equal(self.decode(palette), expected)
        cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # red ink
        assert abs(self.decode(cmyk, form="JPEG")[4, 4].astype(int) - [255, 0, 0]).max() < 4

    def test_short_side_then_centre_crop(self):
        wide = np.zeros((4, 12, 3), np.uint8)
        wide[:, 4:8] = (10, 20, 30)
        wide[:, 8:] = 255
        pixels = self.decode(Image.fromarray(wide), image_size=4)
        np.testing.assert_array_equal(pixels, wide[:, 4:8])
        tall = wide.swapaxes(0, 1)
        whole = jax.image.resize(tall.astype(np.float32), (6, 2, 3), "linear", antialias=True)
        pixels = self.decode(Image.fromarray(tall), image_size=2)
        assert pixels.shape == (2, 2, 3)
        np.testing.assert_allclose(pixels, whole[2:4], atol=1)  # both passes round to 8 bits

    def test_shrinking_is_antialiased(self):
        board = np.indices((64, 64)).sum(0) % 2 * np.uint8(255)
        pixels = self.decode(Image.fromarray(board.astype(np.uint8)), image_size=8)
        assert abs(pixels.astype(int) - 127).max() < 10


class TestTfds:
    def images(self, rng, sizes):
        return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]

    @pytest.mark.parametrize("below", ["", "tfds"])
    @pytest.mark.parametrize("split", ["test", "validation"])
    def test_prepared(self, tmp_path, rng, below, split):
        images = self.images(rng, [(6, 5)] * 3)
        write_tfds(tmp_path / below / "some_name" / "1.0.0", images, [2, 0, 1], split)
        dataset = data.load("some_name", "test", data_dir=str(tmp_path))
        np.testing.assert_array_equal(dataset.images, np.stack(images) / np.float32(255))
        assert dataset.labels.tolist() == [2, 0, 1] and dataset.class_names == ("0", "1", "2")
        some = data.load("some_name:1.0.0", "test", data_dir=str(tmp_path), num_examples=2)
        assert some.labels.tolist() == [2, 0]
        assert "train" in error_of(data.load, "some_name", "train", data_dir=str(tmp_path))

    def test_sizes_differ(self, tmp_path, rng):
        images = self.images(rng, [(6, 5), (6, 7)])
        write_tfds(tmp_path / "some_name" / "1.0.0", images, [0, 1])
        assert "image_size" in error_of(data.load, "some_name", "test", data_dir=str(tmp_path))
        dataset = data.load("some_name", "test", data_dir=str(tmp_path), image_size=4)
        assert dataset.images.shape == (2, 4, 4, 3)

    def test_a_test_split_without_labels_is_none(self, tmp_path, rng):
        folder = tmp_path / "some_name" / "1.0.0"
        write_tfds(folder, self.images(rng, [(4, 4)] * 2), [-1, -1])
        message = error_of(data.load, "some_name", "test", data_dir=str(tmp_path))
        assert "label -1" in message
        write_tfds(folder, self.images(rng, [(4, 4)] * 3), [2, 0, 1], "validation")
        dataset = data.load("some_name", "test", data_dir=str(tmp_path))
        assert dataset.labels.tolist() == [2, 0, 1]

    def test_configs_and_versions_must_be_told_apart(self, tmp_path, rng):
        for label, folder in enumerate(("big/1.0.0", "small/1.0.0")):
            images = self.images(rng, [(4, 4)])
            write_tfds(tmp_path / "some_name" / folder, images, [label])
            # The files carry the name of the data set, not that of its config.
            for path in (tmp_path / "some_name" / folder).glob("*.array_record*"):
                path.rename(path.with_name(path.name.replace(path.parts[-3], "some_name")))
            info = tmp_path / "some_name" / folder / "dataset_info.json"
            info.write_text(
                json.dumps(
                    json.loads(info.read_text())
                    | {"name": "some_name", "configName": folder.split("/")[0]}
                )
            )
        message = error_of(data.load, "some_name", "test", data_dir=str(tmp_path))
        assert "some_name/big:1.0.0, some_name/small:1.0.0" in message
        dataset = data.load("some_name/small:1.0.0", "test", data_dir=str(tmp_path))
        assert dataset.labels.tolist() == [1]

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"label": "target"}, "its features are"),
            ({"file_format": "tfrecord"}, "file_format='array_record'"),
        ],
    )
    def test_unsuitable(self, tmp_path, rng, changes, words):
        write_tfds(tmp_path / "n" / "1.0.0", self.images(rng, [(4, 4)]), [0], **changes)
        assert words in error_of(data.load, "n", "test", data_dir=str(tmp_path))

    @pytest.mark.parametrize("damaged", ["features.json", "dataset_info.json", "records"])
    def test_damaged(self, tmp_path, rng, damaged):
        folder = tmp_path / "n" / "1.0.0"
        write_tfds(folder, self.images(rng, [(40, 40)] * 5), [0] * 5)
        path = next(folder.glob("*array_record*")) if damaged == "records" else folder / damaged
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert str(folder) in error_of(data.load, "n", "test", data_dir=str(tmp_path))

    def test_damaged_in_the_middle(self, tmp_path, rng):
        folder = tmp_path / "n" / "1.0.0"
        write_tfds(folder, self.images(rng, [(99, 99)] * 9), [0] * 9)
        path = next(folder.glob("*array_record*"))
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 500] = b"x" * 500
        path.write_bytes(content)
        message = error_of(data.load, "n", "test", data_dir=str(tmp_path))
        assert str(folder) in message and "unreadable" in message

    def test_absent_fails_at_once(self, tmp_path):
        import tensorflow_datasets as tfds

        tfds.list_builders(with_community_datasets=False)  # the slow imports, not to be timed
        (tmp_path / "cifar10").mkdir()  # a folder of that name is not yet a prepared data set
        start = time.monotonic()
        message = error_of(data.load, "cifar10", "train", data_dir=str(tmp_path))
        assert time.monotonic() - start < 2  # TFDS itself would retry for minutes
        assert "tfds.builder('cifar10'" in message and "--config.data.download=True" in message

    @pytest.mark.parametrize(
        ("name", "nearest"),
        [("cifr10", "cifar10"), ("digit", "digits"), ("imagefolder", "image_folder")],
    )
    def test_misspelt(self, tmp_path, name, nearest):
        message = error_of(data.load, name, "train", data_dir=str(tmp_path))
        assert f"did you mean {nearest}" in message

    @pytest.mark.parametrize("name", ["", "../x", "/", "xyzxyzxyz", "a b"])
    def test_no_name_at_all(self, tmp_path, rng, name):
        write_tfds(tmp_path / "1.0.0", self.images(rng, [(4, 4)]), [0])
        assert "image_folder" in error_of(data.load, name, "train", data_dir=str(tmp_path))

    def test_download_without_tensorflow(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorflow", None)  # makes the import fail
        message = error_of(data.load, "cifar10", "test", data_dir=str(tmp_path), download=True)
        assert "pip install tensorflow" in message

    def test_download_prepares_then_reads(self, tmp_path, rng, monkeypatch):
        import tensorflow_datasets as tfds

        write_tfds(tmp_path / "made" / "cifar10" / "3.0.2", self.images(rng, [(4, 4)]), [1])
        asked = []

        def builder(name, data_dir, file_format):
            asked.append((name, file_format))
            target = Path(data_dir) / "cifar10"
            return types.SimpleNamespace(
                data_dir=str(target / "3.0.2"),
                download_and_prepare=lambda: shutil.copytree(tmp_path / "made" / "cifar10", target),
            )

        pretended = types.ModuleType("tensorflow")
        pretended.__spec__ = importlib.machinery.ModuleSpec("tensorflow", None)  # etils asks
        monkeypatch.setitem(sys.modules, "tensorflow", pretended)
        monkeypatch.setattr(tfds, "builder", builder)
        root = tmp_path / "root"
        root.mkdir()
        for _ in range(2):  # the second finds it prepared
            dataset = data.load("cifar10", "test", data_dir=str(root), download=True)
            assert dataset.labels.tolist() == [1]
        assert asked == [("cifar10", "array_record")]


class TestTake:
    def test_take(self):
        dataset = small_dataset()
        for indices in (slice(2, 6, 2), [2, 4], np.array([2, 4]), np.isin(np.arange(10), [2, 4])):
            part = data.take(dataset, indices)
            assert part.labels.tolist() == [2, 4] and part.class_names == dataset.class_names
            np.testing.assert_array_equal(part.images, dataset.images[[2, 4]])
        assert data.take(dataset, 3).images.shape == (1, 2, 2, 1)
        assert "10" in error_of(data.take, dataset, [10])


class TestCheck:
    @pytest.mark.parametrize(
        ("pixel", "words"),
        [
            (np.nan, ["image 7", "NaN"]),
            (np.inf, ["image 7", "infinite"]),
            (-np.inf, ["image 7", "infinite"]),
            (1.5, ["image 7", "from 0 to 1.5"]),
            (-0.25, ["image 7", "from -0.25 to 1"]),
        ],
    )
    def test_pixels(self, pixel, words):
        dataset = small_dataset()
        assert data.check(dataset, "here") is dataset
        dataset.images[7, 1, 1, 0] = pixel
        dataset.images[9, 0, 0, 0] = pixel
        message = error_of(data.check, dataset, "here")
        assert message.startswith("here: ") and all(word in message for word in words)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"images": np.zeros((10, 2, 2, 1))}, "float64"),
            ({"labels": np.zeros(10, np.int64)}, "int64"),
            ({"images": np.zeros((10, 2, 2), np.float32)}, "(10, 2, 2)"),
            ({"images": np.zeros((10, 2, 2, 4), np.float32)}, "(10, 2, 2, 4)"),
            ({"labels": np.zeros((10, 1), np.int32)}, "(10, 1)"),
            ({"labels": np.zeros(9, np.int32)}, "10 images but 9 labels"),
            ({"images": np.zeros((10, 0, 2, 1), np.float32)}, "no pixels"),
            ({"class_names": tuple("012345678")}, "image 9 has label 9, outside 0..8"),
        ],
    )
    def test_the_rest(self, changes, words):
        message = error_of(data.check, small_dataset()._replace(**changes), "here")
        assert message.startswith("here: ") and words in message
