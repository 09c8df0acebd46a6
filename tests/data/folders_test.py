"""Tests for intriguing/data/folders.py"""

import io

import numpy as np
import pytest
from PIL import Image

from intriguing import data
from intriguing.data import stream
from intriguing.data.files import decode_image
from intriguing.errors import InputError


def write(root, *names, kind="PNG"):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name, kind)


def labels_of(root, split="test"):
    source = stream.open_source("image_folder", split, image_size=8, data_dir=str(root))
    return dict(zip(source.names, source.labels.tolist(), strict=True)), source


@pytest.mark.parametrize("numbers", [range(12), (3, 20, 101), (0, 7)])
def test_folders_that_are_numbers_are_classes_by_them(tmp_path, numbers):
    write(tmp_path, *(f"{number}/a.png" for number in numbers))
    labels, source = labels_of(tmp_path)
    assert labels == {f"{number}/a.png": number for number in numbers}
    assert source.class_names[max(numbers)] == str(max(numbers)) and source.is_indexed


def test_folders_counted_from_one(tmp_path, said):
    write(tmp_path, *(f"{number:02}/a.png" for number in range(1, 13)))
    labels, source = labels_of(tmp_path)
    assert labels == {f"{number:02}/a.png": number - 1 for number in range(1, 13)}
    assert source.class_names[9] == "10" and "classes 0 to 11" in said.getvalue()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("train/cat.0.png", "train/dog.0.png", "test1/1.png"), "test1 is no class"),
        (("val/ILSVRC2012_val_1.png",), "val is no class"),
        (("train/n01/images/a.png", "val/images/b.png"), "images is no class"),
        (("cat/a.png", "cat/b.png"), "cat is its only class"),
        (("0/a.png", "4294967295/a.png"), "above 99999"),
        (("1/a.png", "01/a.png", "7/a.png"), "same number"),
    ],
)
def test_layouts_that_are_not_ours_are_refused(tmp_path, files, message):
    write(tmp_path, *files)
    with pytest.raises(InputError, match=message):
        labels_of(tmp_path)


def test_what_is_left_out_is_counted_and_classes_keep_their_numbers(tmp_path, said):
    write(tmp_path, "bee/1.png", "dog/1.png")
    for kind, name in (("GIF", "ant/1.gif"), ("JPEG", "ant/2.jfif"), ("TIFF", "bee/2.tif")):
        write(tmp_path, name, kind=kind)
    for name in ("cat/1.avif", "cat/2.avif", "dog/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"?")
    labels, source = labels_of(tmp_path)
    assert labels == {"ant/1.gif": 0, "ant/2.jfif": 0, "bee/1.png": 1, "bee/2.tif": 1,
                      "dog/1.png": 3}  # fmt: skip
    assert source.class_names == ("ant", "bee", "cat", "dog")
    for part in ("3 files are left out (2 of .avif, 1 of .txt)", "no image in cat",
                 "5 images of 3 classes, from ant to dog"):  # fmt: skip
        assert part in said.getvalue()
    assert source.read(range(5))[1].all()  # all of them can be read


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('a.png,0,"6"" nail\nb.png,1,dog\n', "not closed"),
        ('a.png,0,"6"" nail\n' + "b.png,1,dog\n" * 15_000, "not closed"),
        ('a.png,0,"one\ntwo"\n', "goes over several lines"),
        ("a.png,4294967295,dog\n", "above 99999"),
    ],
)
def test_a_labels_csv_that_is_damaged(tmp_path, rows, message):
    write(tmp_path, "images/a.png", "images/b.png")
    (tmp_path / "labels.csv").write_text("file,class_index,name\n" + rows)
    with pytest.raises(InputError, match=message):
        labels_of(tmp_path)


@pytest.mark.parametrize(("tag", "turn"), [(1, 0), (3, 180), (6, 90), (8, 270)])
def test_photographs_are_turned_upright(tag, turn):
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[:10] = 255  # white above
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = tag
    Image.fromarray(pixels).rotate(turn).save(file, "PNG", exif=exif)
    np.testing.assert_array_equal(decode_image(io.BytesIO(file.getvalue())), pixels)


def test_formats_that_nobody_meant_are_not_opened(tmp_path):
    write(tmp_path, "ant/1.png", "bee/1.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "bee/2.jpg", "EPS")
    dataset = data.load("image_folder", "test", data_dir=str(tmp_path), image_size=8)
    assert dataset.labels.tolist() == [0, 1]
