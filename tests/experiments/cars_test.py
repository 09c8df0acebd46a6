"""Tests for intriguing/experiments/cars.py on stripes, which are its cars."""

import jax
import numpy as np
import pytest
from failing import fail_all

from configs import digits, quocnet_attack
from intriguing import data
from intriguing.errors import InputError
from intriguing.experiments import cars, run_experiment

SIZE = 16


def write_stripes(path):
    """Stripes of any phase, lying or standing, in some noise: no pixel tells the classes apart."""
    rng, arrays = np.random.default_rng(0), {"class_names": np.array(["lying", "standing"])}
    for split, num in {"train": 80, "test": 40}.items():
        labels = np.arange(num) % 2
        stripes = (np.arange(SIZE) + rng.integers(0, 4, (num, 1))) // 2 % 2 * 120
        images = np.broadcast_to(stripes[:, :, None], (num, SIZE, SIZE))
        images = np.where(labels[:, None, None] == 1, images.swapaxes(1, 2), images)
        noise = rng.integers(0, 60, (num, SIZE, SIZE, 3))
        arrays |= {f"x_{split}": (images[..., None] + noise).astype(np.uint8)}
        arrays |= {f"y_{split}": labels}
    np.savez(path, **arrays)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stripes")
    write_stripes(folder / "stripes.npz")
    return folder


def config_of(folder):
    config = quocnet_attack.get_config()
    config.data.dir, config.data.image_size = str(folder), SIZE
    sizes = {"field": (4, 3), "maps": (4, 4), "stride": (1, 1), "pad": (3, 2), "pool": (3, 3),
             "pool_stride": (2, 2), "norm": (5, 3), "norm_floor": (0.5, 0.5), "input_norm": 5,
             "sparsity_weight": (1.0, 0.003), "num_epochs": 3, "batch_size": 20}  # fmt: skip
    for name, value in sizes.items():
        config.models.QuocNet[name] = value
    config.classifier.num_views, config.classifier.max_shift = 2, 1
    config.attack.num_images = 6
    return config


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    return workdir, run_experiment(config_of(folder), workdir, 1)


def test_both_classes_are_turned(run):
    rows = run[1]["tables"]["figure6"]["rows"]
    assert list(rows) == ["lying to standing", "standing to lying"]
    for num, success, distortion, _ in rows.values():
        assert num == 6 and success == 1 and 0 < distortion < 0.5


def test_features_are_compared(run):
    rows = run[1]["tables"]["accuracy"]["rows"]
    assert list(rows) == ["QuocNet, trained", "QuocNet, random filters", "16x16 pixels"]
    assert rows["QuocNet, trained"][0] == 4 * 4 * 4 and rows["16x16 pixels"][0] == 16 * 16 * 3
    assert rows["QuocNet, trained"][2] < 0.2 < 0.3 < rows["16x16 pixels"][2]
    assert all(0 <= error <= 1 for row in rows.values() for error in row[1:])


def test_figures_are_drawn(run):
    workdir, summary = run
    names = [path for path, _ in summary["figures"]]
    assert names == ["figures/figure6.png", "figures/filters.png", "figures/learning.png"]
    assert all((workdir / name).stat().st_size > 1000 for name in names)


def test_trained_filters_are_taken_from_a_folder(run, folder, tmp_path):
    config = config_of(folder)
    config.models.QuocNet.weights = str(run[0] / "checkpoints" / "QuocNet")
    again = run_experiment(config, tmp_path, 1)
    for name, rows in run[1]["tables"].items():
        assert again["tables"][name]["rows"] == rows["rows"]


def test_random_filters_are_called_so(folder, tmp_path):
    config = config_of(folder)
    config.models.QuocNet.weights, config.baselines = "random", False
    summary = run_experiment(config, tmp_path, 1)
    assert list(summary["tables"]["accuracy"]["rows"]) == ["QuocNet, random"]
    assert len(summary["claims"]) == 2


@pytest.mark.slow
def test_one_image_and_no_success(folder, tmp_path, monkeypatch):
    config = config_of(folder)
    config.models.QuocNet.num_epochs, config.attack.num_images = 1, 1
    fail_all(monkeypatch)
    summary = run_experiment(config, tmp_path, 1)
    claims = [claim for claim in summary["claims"] if "can be turned" in claim["text"]]
    assert claims and not any(claim["holds"] for claim in claims)
    assert not any("figure6" in path for path, _ in summary["figures"])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("field", (40, 3), "stage 1: field 40 is larger than its input, 16"),
        ("maps", (4,), "a number per stage"),
        ("pool_stride", (0, 2), r"QuocNet\.pool_stride\.0 is 0: it must be at least 1"),
        ("weights", "nowhere", "no filters of stage1"),
    ],
)
def test_sizes_that_do_not_fit(folder, tmp_path, name, value, message):
    config = config_of(folder)
    config.models.QuocNet[name] = value
    with pytest.raises(InputError, match=message):
        run_experiment(config, tmp_path, 1)


def test_a_network_that_the_experiment_has_no_room_for(folder, tmp_path):
    config = digits.get_config()
    config.models["QuocNet"] = config_of(folder).models.QuocNet
    config.model_names = ("QuocNet",)
    with pytest.raises(InputError, match=r'QuocNet\.family is "quocnet": it must be one of fully_'):
        run_experiment(config, tmp_path, 1)
    config = config_of(folder)
    config.models = digits.get_config().models
    with pytest.raises(InputError, match=r"models\..*\.family is .*: it must be 'quocnet'"):
        run_experiment(config, tmp_path / "other", 1)


@pytest.mark.slow
def test_other_images_to_learn_from(folder, tmp_path):
    config = config_of(folder)
    config.baselines, config.unlabelled.name = False, "digits"  # grey ones
    with pytest.raises(InputError, match=r"unlabelled: images are \(16, 16, 1\), those of data"):
        run_experiment(config, tmp_path / "grey", 1)
    config.unlabelled.name, config.unlabelled.dir = "npz", str(folder)
    summary = run_experiment(config, tmp_path / "same", 1)
    assert summary["tables"]["figure6"]["rows"]


def test_views_are_moved_and_mirrored():
    image = np.zeros((1, 8, 8, 3), np.float32)
    image[0, 3, 2] = 1
    dataset = data.Dataset(image, np.array([1], np.int32), ("a", "b"))
    views = cars.make_views(dataset, 9, 2, jax.random.key(0))
    np.testing.assert_array_equal(views.images[0], image[0])
    assert (views.labels == 1).all() and len(views.images) == 9
    rows, columns = np.array([np.argwhere(view[..., 0])[0] for view in views.images]).T
    assert set(rows) <= set(range(1, 6)) and len(set(rows)) > 1
    assert set(columns[2::2]) <= set(range(5))
    assert set(columns[1::2]) <= set(range(3, 8))  # mirrored: 7 - (0 to 4)


def test_small_pixels_are_means():
    images = np.random.default_rng(0).uniform(size=(2, 32, 32, 3))
    found = cars.small_pixels(images)
    assert found.shape == (2, 16, 16, 3)
    np.testing.assert_allclose(found[1, 3, 5], images[1, 6:8, 10:12].mean(axis=(0, 1)))
