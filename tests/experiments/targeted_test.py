"""Tests for intriguing/experiments/{targeted,spectral}.py and eight_bit.py"""

import json
import shutil

import jax
import numpy as np
import pytest
from failing import fail_all
from PIL import Image

from configs import (
    alexnet_attack,
    alexnet_lipschitz,
    alexnet_units,
    default,
    imagenet_attack,
    imagenet_units,
)
from intriguing import attack, models
from intriguing.analysis import units
from intriguing.attack import eight_bit
from intriguing.data import stream
from intriguing.data.files import decode_image
from intriguing.errors import InputError
from intriguing.experiments import run_experiment, specs, targeted_views
from intriguing.experiments.targeted import png_name
from intriguing.models import import_weights
from intriguing.models.layer_graph import LayerGraph, chain, conv_relu
from intriguing.models.layers import CAFFE, TORCH, Conv, Dense
from intriguing.models.pretrained import Architecture
from intriguing.predict import predict

SIZE, TARGET, NUM_CLASSES = 12, 1, 3
NETS = ("first", "second")


def tiny(num_classes=NUM_CLASSES, normalise=CAFFE):
    nodes = []
    chain(nodes, ("data", normalise))
    conv_relu(nodes, "conv1", Conv(6, 3, 2, 1))
    chain(nodes, ("fc", Dense(num_classes)))
    return LayerGraph(tuple(nodes))


TINY = Architecture(
    tiny, (SIZE, SIZE, 3), {"caffe": {"normalise": CAFFE}, "torchvision": {"normalise": TORCH}}
)


def save_weights(path, seed):
    model = tiny()
    params = model.init(jax.random.key(seed), np.zeros((1, SIZE, SIZE, 3), np.float32))["params"]
    params = jax.tree.map(lambda x: np.asarray(x) / 10, params)
    weights = import_weights.Pretrained(model, params, TINY.image_shape, "caffe")
    import_weights.save(path, "tiny", weights)
    return models.logits_fn(model, {"params": params})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """20 images, labelled by the first net; one is broken, others grey, CMYK, 16-bit, or large."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    (folder / "images").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.PRETRAINED, "tiny", TINY)
        first, _ = (save_weights(folder / f"{name}.safetensors", i) for i, name in enumerate(NETS))
    rows = ["file,class_index"]
    for i in range(20):
        pixels = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        name, image = f"photo{i:02d}.png", Image.fromarray(pixels)
        if i == 3:
            image = image.convert("L")
        elif i == 4:
            name, image = "photo04.jpg", image.convert("CMYK")
        elif i == 5:
            image = Image.fromarray(257 * pixels[..., 0].astype(np.uint16))
        elif i == 6:
            image = image.resize((40, 30))
        image.save(folder / "images" / name)
        decoded = decode_image(folder / "images" / name, SIZE)
        rows.append(f"{name},{predict(first, (decoded / 255).astype(np.float32)[None])[0]}")
    (folder / "images" / "photo02.png").write_bytes(b"no image")
    (folder / "labels.csv").write_text("\n".join([*rows, ""]))
    return folder


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(models.PRETRAINED, "tiny", TINY)


def config_of(folder, names=NETS, module=imagenet_attack):
    config = module.get_config("squeezenet")
    config.data.dir, config.data.image_size = str(folder), SIZE
    nets = {
        name: specs.Large(architecture="tiny", weights=str(folder / f"{name}.safetensors"))
        for name in NETS
    }
    default.set_models(config, nets, tuple(names))
    if "attack" in config:
        config.attack.target_class, config.attack.num_images = TARGET, 6
    if config.experiment == "targeted_attack":
        config.attack_shard_size = 4
        config.curve_stddevs = (0.3,)
    return config


@pytest.fixture(scope="module")
def attacked(folder, tmp_path_factory):
    """(config, workdir, summary) of an attack on both nets."""
    workdir, config = tmp_path_factory.mktemp("run"), config_of(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.PRETRAINED, "tiny", TINY)
        summary = run_experiment(config, workdir, 1)
    return config, workdir, summary


def test_every_image_is_turned(attacked):
    _, workdir, summary = attacked
    for name in NETS:
        row = summary["tables"]["targeted"]["rows"][name]
        error, num, success, distortion, _, png_success, png_distortion, _ = row
        assert error == 0 if name == "first" else error > 0  # the first net gave the labels
        assert num <= 6 and success == png_success == 1
        assert 0 < distortion <= png_distortion
    assert summary["tables"]["targeted"]["rows"]["first"][1] == 6
    assert all(claim["holds"] for claim in summary["claims"][:2])
    assert (workdir / "report.html").is_file()


def test_files_are_what_the_network_takes_for_the_target(attacked, folder):
    _, workdir, _ = attacked
    logits_fn = import_weights.load(folder / "first.safetensors", "tiny")
    logits_fn = models.logits_fn(logits_fn.model, {"params": logits_fn.params})
    paths = sorted((workdir / "adversarial" / "first").glob("*.png"))
    assert len(paths) == 6 and "00002_photo02" not in {path.stem for path in paths}
    images = np.stack([np.asarray(Image.open(path)) for path in paths])
    assert images.shape == (6, SIZE, SIZE, 3) and images.dtype == np.uint8
    assert (predict(logits_fn, eight_bit.from_uint8(images)) == TARGET).all()


def test_files_of_one_name_keep_apart(folder, tmp_path):
    rows = (folder / "labels.csv").read_text().splitlines()
    for i, row in enumerate(rows[1:]):
        name, label = row.split(",")
        path = tmp_path / "images" / str(i) / "photo.png"
        path.parent.mkdir(parents=True)
        path.write_bytes((folder / "images" / name).read_bytes())
        rows[i + 1] = f"{i}/photo.png,{label}"
    (tmp_path / "labels.csv").write_text("\n".join([*rows, ""]))
    config = config_of(folder, NETS[:1])
    config.data.dir = str(tmp_path)
    run_experiment(config, tmp_path / "run", 1)
    assert len(list((tmp_path / "run" / "adversarial" / "first").glob("*_photo.png"))) == 6


def test_names_of_pngs():
    assert png_name(7, "7") == "00007"  # of a data set whose images have only numbers
    assert png_name(7, "test/cat/1.jpg") == "00007_1"


@pytest.fixture
def photos(folder, tmp_path):
    """A copy of the folder, to be spoilt."""
    shutil.copytree(folder, tmp_path / "photos")
    return tmp_path / "photos"


def measured(config, workdir):
    """The tables, and the files of adversarial images."""
    summary = run_experiment(config, workdir, 1)
    files = {path.name: path.read_bytes() for path in workdir.glob("adversarial/*/*.png")}
    return json.dumps(summary["tables"]), files


def delete_photos(photos):
    rows = (photos / "labels.csv").read_text().splitlines()
    (photos / "labels.csv").write_text("\n".join([*rows[:2], *rows[3:7], *rows[8:], ""]))


def replace_a_photo(photos):
    (photos / "images" / "photo08.png").write_bytes(
        (photos / "images" / "photo09.png").read_bytes()
    )


def relabel_a_photo(photos):
    rows = (photos / "labels.csv").read_text().splitlines()
    name, label = rows[10].split(",")
    rows[10] = f"{name},{(int(label) + 1) % NUM_CLASSES}"
    (photos / "labels.csv").write_text("\n".join([*rows, ""]))


def change_weights(photos):
    save_weights(photos / "first.safetensors", 7)


CHANGES = (delete_photos, replace_a_photo, relabel_a_photo, change_weights)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_the_same_command_on_other_data_or_weights(photos, tmp_path, change):
    """Its numbers are those of a fresh workdir, and so are they when the change is undone."""
    config = config_of(photos, NETS[:1])
    before = measured(config, tmp_path / "kept")
    shutil.copytree(photos, tmp_path / "original")
    change(photos)
    after = measured(config, tmp_path / "kept")
    assert after == measured(config, tmp_path / "fresh") != before
    shutil.rmtree(photos)
    shutil.copytree(tmp_path / "original", photos)
    assert measured(config, tmp_path / "kept") == before


def test_what_changes_only_speed_is_the_same_run(attacked, tmp_path, monkeypatch):
    config, workdir, summary = attacked
    shutil.copytree(workdir, tmp_path / "run")
    config = config.copy_and_resolve_references()
    config.attack.num_lanes = 2
    monkeypatch.setattr(attack, "attack_batch", None)
    again = run_experiment(config, tmp_path / "run", 1)
    assert json.dumps(again["tables"]) == json.dumps(summary["tables"])
    assert json.loads((tmp_path / "run" / "config.json").read_text())["attack"]["num_lanes"] == 2


def test_transfer_has_controls(attacked):
    table = attacked[2]["tables"]["transfer"]
    assert table["columns"] == list(NETS)
    kinds = ("as found", "random directions, same norm", "amplified to 0.3",
             "random directions of 0.3")  # fmt: skip
    assert list(table["rows"]) == [f"{name}: {kind}" for name in NETS for kind in kinds]
    for i, name in enumerate(NETS):
        assert table["rows"][f"{name}: as found"][i] == 1


def test_a_second_run_attacks_nothing(attacked, monkeypatch, capsys):
    config, workdir, summary = attacked
    monkeypatch.setattr(attack, "minimal_perturbation", None)
    again = run_experiment(config, workdir, 1)
    assert json.dumps(again["tables"]) == json.dumps(summary["tables"])


def test_no_image_that_the_net_has_right(folder, tmp_path):
    wrong = tmp_path / "photos"
    wrong.mkdir()
    (wrong / "images").symlink_to(folder / "images")
    lines = (folder / "labels.csv").read_text().splitlines()
    swapped = [f"{line.split(',')[0]},{(int(line.split(',')[1]) + 1) % 3}" for line in lines[1:]]
    (wrong / "labels.csv").write_text("\n".join([lines[0], *swapped, ""]))
    config = config_of(folder, ["first"])
    config.data.dir = str(wrong)
    with pytest.raises(InputError, match="first has none of the 20 images right"):
        run_experiment(config, tmp_path / "run", 1)


BAD = {
    "no file": ({"weights": "/nowhere.npz"}, "/nowhere.npz: no such file"),
    "unknown": ({"architecture": "resnet"}, 'architecture is "resnet"'),
    "another": ({"architecture": "googlenet"}, "weights of tiny, not of googlenet"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_models(folder, tmp_path, case):
    changes, message = BAD[case]
    config = config_of(folder, ["first"])
    config.models.first.update(changes)
    with pytest.raises(InputError, match=message):
        run_experiment(config, tmp_path, 1)


def test_class_out_of_range(folder, tmp_path):
    config = config_of(folder, ["first"])
    config.attack.target_class = 3
    with pytest.raises(InputError, match="target_class is 3"):
        run_experiment(config, tmp_path, 1)


def test_spectral(folder, tmp_path):
    config = config_of(folder, ["first"], alexnet_lipschitz)
    summary = run_experiment(config, tmp_path, 1)
    rows = summary["tables"]["table_5"]["rows"]
    assert list(rows) == ["first: data", "first: conv1", "first: fc"]
    bound, norm, printed, total = rows["first: conv1"]
    assert bound >= norm * (1 - 1e-5) and printed == pytest.approx(bound / 2)
    assert total == pytest.approx(255 * bound)
    row = summary["tables"]["certified"]["rows"]["first"]
    assert 0 < row[2] < row[3] <= row[4] and row[6] >= 1
    assert all(claim["holds"] for claim in summary["claims"])


@pytest.mark.slow
@pytest.mark.parametrize("module", [imagenet_attack, alexnet_lipschitz])
@pytest.mark.parametrize("names", [NETS[:1], NETS])
def test_one_image_and_no_success(folder, tmp_path, monkeypatch, module, names):
    config = config_of(folder, names, module)
    config.attack.num_images = 1
    fail_all(monkeypatch)
    summary = run_experiment(config, tmp_path, 1)
    held = [claim["text"] for claim in summary["claims"] if claim["holds"]]
    assert all(text.startswith("Every layer's exact norm") for text in held)
    assert not list((tmp_path).glob("adversarial/*/*.png"))


@pytest.mark.parametrize("rule", ["random", "runner_up", "least_likely", "best"])
def test_words_are_of_what_was_aimed_at(folder, tmp_path, rule):
    config = config_of(folder, NETS[:1])
    config.attack.targets = rule
    summary = run_experiment(config, tmp_path, 1)
    name = imagenet_attack.get_config().attack.target_class
    assert name == 9  # an ostrich, of which nothing is said here
    page = (tmp_path / "report.html").read_text()
    assert "strich" not in page and "class 1" not in summary["title"]
    assert summary["title"] == f"Figure 5: images {targeted_views.AIMS[rule]}"
    assert summary["claims"][0]["text"] == f"first: every image can be {targeted_views.AIMS[rule]}."


def test_streamed_units(folder, tmp_path):
    config = config_of(folder, ["first"], imagenet_units)
    config.units.layers = ("conv1", "fc")
    config.units.num_top = 4
    summary = run_experiment(config, tmp_path, 1)
    # The same from all activations at once: projections on units are exact.
    weights = import_weights.load(folder / "first.safetensors", "tiny")
    source = stream.open_source("image_folder", "test", image_size=SIZE, data_dir=str(folder))
    images, readable = source.read(range(20))
    values = np.asarray(weights.model.apply({"params": weights.params}, images)[1]["fc"])[readable]
    top = units.top_images(values, None, 4)
    found = units.coherence(
        top, source.labels[readable], images[readable].reshape(19, -1), values, 3
    )
    row = summary["tables"]["units"]["rows"]["fc: units"]
    assert row[0] == pytest.approx(found.purity.mean()) and row[4] == NUM_CLASSES
    assert row[1] == pytest.approx(found.entropy.mean())
    # Distances are estimates, from 400 random projections of 432 pixels.
    assert row[2] == pytest.approx(found.pixel_distance.mean(), rel=0.1)
    assert summary["tables"]["units"]["rows"]["conv1: units"][4] > 50
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "figure3.png",
        "figure4.png",
    }
    config.units.layers = ("fc9",)
    with pytest.raises(
        InputError, match=r"units\.layers: there is no fc9, but data, conv1, conv1_relu, fc"
    ):
        run_experiment(config, tmp_path / "other", 1)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [(alexnet_attack, ("", "quick", "single_tower", "two_towers", "imagenet2012", "imagenette")),
     (imagenet_attack, ("", "quick", "googlenet")),
     (alexnet_lipschitz, ("", "quick", "two_towers", "squeezenet")),
     (alexnet_units, ("", "quick", "single_tower")),
     (imagenet_units, ("quick", "squeezenet", "googlenet"))],
)  # fmt: skip
def test_configs_say_what_is_missing(module, arguments, tmp_path, monkeypatch):
    monkeypatch.delenv("INTRIGUING_DATA", raising=False)
    monkeypatch.setenv("INTRIGUING_CACHE", str(tmp_path / "cache"))
    for argument in arguments:
        config = module.get_config(argument)
        assert set(config.model_names) <= set(config.models)
        for name in config.model_names:
            assert config.models[name].architecture in models.PRETRAINED
            config.models[name].weights = ""
        config.data.dir, config.data.download = "", False
        wanted = (
            r"no published weights.*random.*train|needed: http.*INTRIGUING_CACHE|INTRIGUING_DATA"
        )
        with pytest.raises(InputError, match=wanted):
            run_experiment(config, tmp_path / "run", 1)
    with pytest.raises(ValueError, match="unknown argument :none; there are"):
        module.get_config("none")


# ---- 8 bits


def linear(images):
    """Class 1 where the mean pixel is above 0.5."""
    mean = images.reshape(len(images), -1).mean(axis=1)
    return jax.numpy.stack([0.5 - mean, mean - 0.5], axis=1)


def test_rounding_throws_back_and_lengthening_survives():
    images = np.full((3, 4, 4, 1), 100 / 255, np.float32)
    adv = images.copy()
    adv[:2] = 0.5 + 1e-4  # between 127 and 128, of which the nearer is 128 = 0.502
    adv[1, :2] = 0.5 - 1e-3
    adv[1, 2:] = 0.5 + 1.1e-3
    targets = np.ones(3, int)
    plain = eight_bit.round_images(linear, images, adv, targets, survive=False)
    assert plain.success.tolist() == [True, False, False] and (plain.scale == 1).all()
    assert np.isinf(plain.distortion[1:]).all()
    kept = eight_bit.round_images(linear, images, adv, targets, survive=True)
    assert kept.success.tolist() == [True, True, False]  # the last was not moved at all
    assert kept.scale[0] == 1 < kept.scale[1] < 1.1
    assert (predict(linear, eight_bit.from_uint8(kept.images))[:2] == 1).all()
    change = eight_bit.from_uint8(kept.images)[:2] - images[:2]
    np.testing.assert_allclose(kept.distortion[:2], np.sqrt((change**2).mean(axis=(1, 2, 3))),
                               rtol=1e-5)  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
def test_png_keeps_every_pixel(tmp_path, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    path = tmp_path / "image.png"
    path.write_bytes(eight_bit.png_bytes(pixels))
    np.testing.assert_array_equal(decode_image(path, channels=channels), pixels)


def test_every_level_survives_its_own_rounding():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    np.testing.assert_array_equal(eight_bit.to_uint8(eight_bit.from_uint8(levels)), levels)
    assert eight_bit.to_uint8(np.array([-0.1, 1.1])).tolist() == [0, 255]
