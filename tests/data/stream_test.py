"""Tests for intriguing/data/stream.py: what is streamed is what `data.load` reads at once."""

import logging

import numpy as np
import PIL.Image
import pytest
from prepared import png, write_tfds

from intriguing import data
from intriguing.data import stream, tfds
from intriguing.errors import InputError

SIZE = 6


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def warnings(caplog):
    """`caplog` that hears our logger, which does not propagate once `launch` has set it up."""
    logger = logging.getLogger("intriguing")
    logger.propagate, before = True, logger.propagate
    yield caplog
    logger.propagate = before


def noise(rng, *sizes, channels=3):
    return [rng.integers(0, 256, (*size, channels), dtype=np.uint8) for size in sizes]


def opened(root, name="photos", split="test", image_size=None):
    return stream.open_source(name, split, image_size=image_size, data_dir=str(root))


def assert_equals_load(source, root, **options):
    """Whatever the order in which it is read."""
    whole = data.load("photos", "test", data_dir=str(root), **options)
    np.testing.assert_array_equal(source.labels, whole.labels)
    assert source.labels.dtype == np.int32 and source.class_names == whole.class_names
    order = np.random.default_rng(1).permutation(len(whole.labels))
    images, readable = source.read(order)
    assert images.dtype == np.float32 and readable.all()
    np.testing.assert_array_equal(images, whole.images[order])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image_size", [None, SIZE])
def test_tfds_is_what_load_reads(tmp_path, rng, monkeypatch, channels, image_size):
    monkeypatch.setattr(tfds, "_READ_SIZE", 2)
    images = noise(rng, *[(9, 7)] * 5, channels=channels)
    write_tfds(tmp_path / "photos" / "1.0.0", images, [2, 0, 1, 1, 0])
    source = opened(tmp_path, image_size=image_size)
    assert source.names == tuple("01234")
    assert_equals_load(source, tmp_path, image_size=image_size)
    assert source.read([])[0].shape == (0, *source.read([0])[0].shape[1:])


def test_tfds_of_several_sizes(tmp_path, rng):
    write_tfds(tmp_path / "photos" / "1.0.0", noise(rng, (9, 7), (12, 20)), [2, 0])
    assert_equals_load(opened(tmp_path, image_size=SIZE), tmp_path, image_size=SIZE)
    with pytest.raises(InputError, match=r"1\.0\.0: .*give one image_size .* to all"):
        opened(tmp_path)


def test_a_size_that_was_not_promised(tmp_path, rng):
    (large,) = noise(rng, (9, 8))
    write_tfds(tmp_path / "photos" / "1.0.0", [*noise(rng, (9, 7)), png(large)], [2, 0])
    source = opened(tmp_path)
    assert source.read([0])[1].all()
    message = r"image 1 is \(9, 8, 3\), not \(9, 7, 3\) as promised: give one image_size"
    with pytest.raises(InputError, match=message):
        source.read([1])


def test_opening_tfds_decodes_nothing(tmp_path, rng, monkeypatch):
    write_tfds(tmp_path / "photos" / "1.0.0", noise(rng, (9, 7)) * 3, [2, 0, 1])
    with monkeypatch.context() as patch:
        patch.setattr(PIL.Image, "open", lambda *_: pytest.fail("an image was decoded"))
        source = opened(tmp_path)
    decode, num = stream.decode_image, []
    monkeypatch.setattr(stream, "decode_image", lambda *args: num.append(1) or decode(*args))
    source.read([2, 1])
    assert len(num) == 2


def test_a_damaged_image_of_tfds_is_named_once(tmp_path, rng, warnings):
    images = noise(rng, *[(9, 7)] * 4)
    images[1:3] = b"no image", png(images[2])[:60]
    write_tfds(tmp_path / "photos" / "1.0.0", images, [2, 0, 1, 1])
    source = opened(tmp_path)
    for indices in ([3, 1], [0, 1, 2, 3]):
        found, readable = source.read(indices)
        bad = np.isin(indices, [1, 2])
        np.testing.assert_array_equal(readable, ~bad)
        assert not found[bad].any() and found[~bad].all(axis=-1).any()
    where = str(tmp_path / "photos" / "1.0.0")
    assert [record.getMessage() for record in warnings.records] == [
        f"{where}: 1 unreadable images are left out: {i}" for i in (1, 2)
    ]


def test_damaged_records_of_tfds(tmp_path, rng):
    folder = tmp_path / "photos" / "1.0.0"
    write_tfds(folder, noise(rng, *[(99, 99)] * 9), [0] * 9)
    path = next(folder.glob("*array_record*"))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 500] = b"x" * 500
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"unreadable .*: prepare it again"):
        opened(tmp_path)


def test_labels_of_tfds_that_have_no_name(tmp_path, rng):
    write_tfds(tmp_path / "photos" / "1.0.0", noise(rng, (9, 7)) * 3, [2, 0, -1])
    with pytest.raises(InputError, match=r"label -1 of 2 has no class name: there are 3"):
        opened(tmp_path)


def test_a_folder_is_what_load_reads_and_its_broken_file_is_named_once(tmp_path, rng, warnings):
    pixels = noise(rng, *[(SIZE, SIZE)] * 4, (40, 30))
    images = [PIL.Image.fromarray(each) for each in pixels]
    images[1] = images[1].convert("L")
    images[2] = PIL.Image.fromarray(257 * pixels[2][..., 0].astype(np.uint16))
    (tmp_path / "images").mkdir()
    for i, image in enumerate(images):
        image.save(tmp_path / "images" / f"photo{i}.png")
    images[0].convert("CMYK").save(tmp_path / "images" / "photo5.jpg")
    (tmp_path / "images" / "photo3.png").write_bytes(b"no image")
    names = [*(f"photo{i}.png" for i in range(5)), "photo5.jpg"]
    rows = ["file,class_index", *(f"{name},{i % 3}" for i, name in enumerate(names))]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    source = opened(tmp_path, "image_folder", image_size=SIZE)
    for _ in range(2):
        found, readable = source.read(range(6))
    assert [record.getMessage().count("photo3.png") for record in warnings.records] == [1]
    assert np.flatnonzero(~readable).tolist() == [3] and not found[3].any()
    assert source.names == tuple(names) and found.shape == (6, SIZE, SIZE, 3)
    whole = data.load("image_folder", "test", image_size=SIZE, data_dir=str(tmp_path))
    np.testing.assert_array_equal(found[readable], whole.images)
    np.testing.assert_array_equal(source.labels[readable], whole.labels)


def test_files_of_one_name_in_two_classes(tmp_path, rng, warnings):
    for name, pixels in zip(("cat", "dog", "eel"), noise(rng, *[(SIZE, SIZE)] * 3), strict=True):
        (tmp_path / "test" / name).mkdir(parents=True)
        PIL.Image.fromarray(pixels).save(tmp_path / "test" / name / "1.png")
    for name in ("cat", "eel"):
        (tmp_path / "test" / name / "1.png").write_bytes(b"no image")
    source = opened(tmp_path, "image_folder", image_size=SIZE)
    assert source.names == ("test/cat/1.png", "test/dog/1.png", "test/eel/1.png")
    source.read(range(3))
    (record,) = warnings.records
    assert "2 unreadable images" in record.getMessage()


def test_labels_of_a_folder_that_have_no_name(tmp_path):
    (tmp_path / "labels.csv").write_text("file,class_index\nphoto0.png,1\nphoto1.png,7\n")
    (tmp_path / "synset_words.txt").write_text("n1 one\nn2 two\n")
    with pytest.raises(InputError, match=r"label 7 of photo1\.png has no class name"):
        opened(tmp_path, "image_folder", image_size=SIZE)


def test_a_data_set_in_memory_is_a_source():
    images = np.random.default_rng(0).uniform(size=(5, 4, 4, 1)).astype(np.float32)
    whole = data.Dataset(images, np.arange(5, dtype=np.int32), tuple("abcde"))
    source = stream.of_dataset(whole)
    found, readable = source.read([4, 1])
    np.testing.assert_array_equal(found, images[[4, 1]])
    assert readable.all() and source.names[4] == "4"


def test_what_is_small_stays_in_memory():
    source = stream.open_source("digits", "test", image_size=None)
    found, _ = source.read([7, 3])
    np.testing.assert_array_equal(found, data.load("digits", "test").images[[7, 3]])


@pytest.mark.parametrize(("changes", "message"), [
    ({"name": "photoz"}, "no data set 'photoz'"),
    ({"split": "other"}, "split 'other'"),
    ({"image_size": 0}, "image_size is 0"),
])  # fmt: skip
def test_bad_requests(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        opened(tmp_path, **changes)


# ---- what images are, without decoding them


def photos(root, rng):
    """A folder of four images of two classes; their paths."""
    paths = [root / "photos" / name for name in ("a/0.png", "a/1.png", "b/2.png", "b/3.png")]
    for path, pixels in zip(paths, noise(rng, *[(9, 7)] * 4), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(pixels))
    return paths


def open_folder(root, size=SIZE):
    return stream.open_source(
        "image_folder", "test", image_size=size, data_dir=str(root / "photos")
    )


def test_a_digest_is_of_its_own_images(tmp_path, rng):
    paths = photos(tmp_path, rng)
    source = open_folder(tmp_path)
    first, second = source.digest([0, 1]), source.digest([2, 3])
    again = open_folder(tmp_path)
    assert (again.digest([0, 1]), again.digest([2, 3])) == (first, second)
    assert again.listing == source.listing and first != second != source.digest([3, 2])
    paths[3].write_bytes(paths[2].read_bytes())  # replaced
    changed = open_folder(tmp_path)
    assert changed.digest([0, 1]) == first and changed.digest([2, 3]) != second
    assert open_folder(tmp_path, SIZE + 1).digest([0, 1]) != first
    paths[0].unlink()  # the others move up
    fewer = open_folder(tmp_path)
    assert fewer.digest([0, 1]) != first and fewer.listing != source.listing


def test_another_label_is_another_digest(tmp_path, rng):
    paths = photos(tmp_path, rng)
    before = open_folder(tmp_path)
    paths[1].rename(paths[2].with_name("1.png"))  # a/1.png is of the class b now
    after = open_folder(tmp_path)
    assert before.digest([0, 1]) != after.digest([0, 1]) and before.listing != after.listing


def test_digests_of_arrays_and_of_tfds(tmp_path, rng):
    images = noise(rng, *[(9, 7)] * 3)
    write_tfds(tmp_path / "photos" / "1.0.0", images, [2, 0, 1])
    write_tfds(tmp_path / "other" / "1.0.0", images, [2, 1, 1])
    for one, other in (
        (opened(tmp_path), opened(tmp_path, "other")),
        tuple(stream.of_dataset(data.load(name, "test", data_dir=str(tmp_path)))
              for name in ("photos", "other")),
    ):  # fmt: skip
        assert one.digest([0, 2]) == other.digest([0, 2])
        assert one.digest([0, 1]) != other.digest([0, 1]) and one.listing != other.listing
