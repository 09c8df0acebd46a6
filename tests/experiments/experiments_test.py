"""Tests for intriguing/experiments: every config, `:quick` and smaller, end to end."""

import csv
import html
import json
import os
import re
import runpy
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from failing import fail_all, interrupted_at

from intriguing import attack, runs, sealed, training
from intriguing.errors import InputError
from intriguing.experiments import EXPERIMENTS, build, keep_compilations, run_experiment
from intriguing.runs import shards
from intriguing.training import epochs

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # configs import configs.default

LARGE = ("imagenet_", "alexnet_", "quocnet_")  # targeted_test.py runs them on small networks
CONFIGS = sorted(
    path
    for path in (ROOT / "configs").glob("[!_]*.py")
    if path.stem != "default" and not path.stem.startswith(LARGE)
)
EMBEDDED = ("digits",)  # data sets that need no files
MODELS = ("FC10(1e-4)", "AE400-10")


def small_config(path: Path, model_names=None):
    """The `:quick` config with fewer of everything: two models, four images, two values of c."""
    config = runpy.run_path(str(path))["get_config"]("quick")
    if config.data.name not in EMBEDDED and not os.environ.get("INTRIGUING_DATA"):
        pytest.skip(f"{path.name}: INTRIGUING_DATA is unset: it must name the folder of the data")
    few = MODELS if config.experiment == "cross_model" else config.model_names[-2:]
    config.model_names = model_names or few
    config.data.num_train = 300
    config.train.num_epochs = 2
    config.train.batch_size = 100
    if "attack" in config:
        config.attack.num_images = 4
        config.shard_size = 2
        with config.unlocked():
            for protocol in config.protocols.values():
                protocol.num_penalties = 2
    if "units" in config:
        config.units.layers = config.units.layers[-2:]
    for name in config.model_names:
        spec = config.models[name]
        if "pools" in spec:
            spec.pools.size = spec.pools.batch_size = 50
        for phase in {"autoencoder", "classifier"} & set(spec):
            spec[phase].num_epochs = 2
    return config


def labels_of(config):
    """What the files of each trained model are called."""
    if config.experiment in ("cross_model", "unit_analysis", "spectral_analysis"):
        return list(config.model_names)
    seeds = range(config.num_seeds)
    return [f"{name}, seed {seed}" for name in config.model_names for seed in seeds]


SLOW = ("mnist_units", "mnist_adversarial_training", "mnist_cross_model")  # digits has its tables
PARAMS = [
    pytest.param(path, marks=pytest.mark.slow if path.stem in SLOW else (), id=path.stem)
    for path in CONFIGS
]


@pytest.fixture(scope="module", params=PARAMS)
def finished(request, tmp_path_factory):
    """(config, workdir, summary) of one whole run of each config."""
    config = small_config(request.param)
    workdir = tmp_path_factory.mktemp(request.param.stem)
    # One device: a second one would compile everything again.
    return config, workdir, run_experiment(config, workdir, num_devices=1)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The same on digits with models that one compilation serves, for the tests of resuming."""
    config = small_config(ROOT / "configs" / "digits.py", ("FC10(1e-4)", "FC10(1)"))
    config.train.num_epochs = 10  # so that some images are right, and the tables hold numbers
    workdir = tmp_path_factory.mktemp("resuming")
    return config, workdir, run_experiment(config, workdir)


def check_tables(summary, config):
    for table in summary["tables"].values():
        assert table["rows"]
        # What is said of a column names it as its heading does.
        raw = [name for name in re.findall(r"\w+_\w+", table["note"]) if name in table["columns"]]
        assert not raw, f"{table['name']}: {raw}"
        assert all(len(row) == len(table["columns"]) for row in table["rows"].values())
    if config.experiment != "cross_model":
        return
    names = list(config.model_names)
    table1 = summary["tables"]["table1"]
    assert list(table1["rows"]) == names
    assert {"train_error", "test_error", "av_min_distortion"} <= set(table1["columns"])
    table2 = summary["tables"]["table2"]
    assert list(table2["columns"])[: len(names)] == names
    assert list(table2["rows"])[: len(names)] == names
    assert len(table2["rows"]) == len(names) + len(config.noise_stddevs)


def held_by_nothing(summary, words) -> list:
    """Claims with these words that are said to hold."""
    return [claim for claim in summary["claims"] if words in claim["text"] and claim["holds"]]


ATTACKING = [path for path in CONFIGS if path.stem not in ("mnist_units", "mnist_cross_model")]


@pytest.mark.slow
@pytest.mark.parametrize("path", ATTACKING, ids=lambda path: path.stem)
def test_one_model_one_image_and_no_success(path, tmp_path, monkeypatch):
    config = small_config(path)
    config.model_names, config.attack.num_images = config.model_names[:1], 1
    if "num_seeds" in config:
        config.num_seeds = 1
    fail_all(monkeypatch)
    summary = run_experiment(config, tmp_path, num_devices=1)
    check_tables(summary, config)
    assert not held_by_nothing(summary, "adversarial examples (success 100%")
    assert not held_by_nothing(summary, "no attack ends inside")
    assert not held_by_nothing(summary, "fool another more")


def test_every_experiment_has_a_config():
    paths = sorted((ROOT / "configs").glob("[!_]*.py"))
    used = {runpy.run_path(str(path))["get_config"]().experiment for path in paths}
    assert used == set(EXPERIMENTS)


def test_writes_what_it_promises(finished):
    config, workdir, summary = finished
    assert sealed.read(workdir / "config.json") == json.loads(config.to_json())
    for name in config.model_names:
        folders = [path for path in (workdir / "checkpoints").iterdir() if name in path.name]
        assert folders and all(any(path.iterdir()) for path in folders)
    lines = runs.read_metrics(workdir / "metrics.jsonl")
    for label in labels_of(config):
        assert any(key.startswith(f"train/{label}/") for line in lines for key in line), label
        for protocol in config.protocols if config.experiment != "unit_analysis" else ():
            shards = sorted(
                path.name for path in (workdir / "results" / label / protocol).glob("*.npz")
            )
            if config.experiment == "spectral_analysis":  # attacks those that the net has right
                assert shards and shards[0].startswith("000000-00000")
            else:
                assert shards == ["000000-000002.npz", "000002-000004.npz"]
    for table in summary["tables"]:
        with open(workdir / "tables" / f"{table}.csv") as file:
            header, *rows = csv.reader(file)
        assert len(header) > 1 and rows
        assert all(len(row) == len(header) for row in rows)
        assert (workdir / "tables" / f"{table}.md").read_text().count("|") > 10
    pictures = list((workdir / "figures").glob("*.png"))
    assert pictures
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    page = (workdir / "report.html").read_text()
    assert all(html.escape(name) in page for name in config.model_names)
    num_tiles, num_galleries = page.count('class="tile"'), page.count('class="gallery"')
    assert page.count("data:image/png") == len(pictures) - num_galleries + 3 * num_tiles
    assert (num_galleries > 0) == (config.experiment == "cross_model")
    assert not list(workdir.rglob("*.tmp"))


def test_summary_is_what_was_returned(finished):
    config, workdir, summary = finished
    written = json.loads((workdir / "summary.json").read_text(), parse_constant=pytest.fail)
    assert written["experiment"] == config.experiment
    assert written["quick"] is True
    assert all((workdir / path).is_file() for path, _ in written["figures"])
    check_tables(written, config)
    check_tables(summary, config)
    for name, table in summary["tables"].items():
        for row, numbers in table["rows"].items():
            there = [np.nan if x is None else x for x in written["tables"][name]["rows"][row]]
            np.testing.assert_allclose(np.array(numbers, float), there)


def test_numbers_are_those_of_the_shards(digits):
    config, workdir, summary = digits
    table1, (train_set, _) = summary["tables"]["table1"], build.load_data(config)
    for name in config.model_names:
        for protocol, column in (
            ("paper", "av_min_distortion"),
            ("refined", "av_min_distortion, refined"),
        ):
            files = [
                shards.load_arrays(workdir / "results" / name / protocol / shard)
                for shard in ("000000-000002.npz", "000002-000004.npz")
            ]
            made_from, parts = ([getattr(f, key) for f in files] for key in ("about", "arrays"))
            assert {*made_from[0]} == {"weights", "network", "jax", "images", "settings", "seed",
                                       "numerics"}  # fmt: skip
            assert made_from[0] | {"images": ""} == made_from[1] | {"images": ""} != made_from[0]
            arrays = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
            np.testing.assert_array_equal(arrays["labels"], train_set.labels[:4])
            assert arrays["indices"].tolist() == [0, 1, 2, 3]
            assert arrays["adv_images"].shape[0] == 4 and arrays["success"].dtype == bool
            success = arrays["success"]
            expected = arrays["distortion"][success].mean() if success.any() else np.nan
            found = table1["rows"][name][table1["columns"].index(column)]
            np.testing.assert_allclose(found, expected, rtol=1e-5)
            change = (arrays["adv_images"] - train_set.images[:4]).reshape(4, -1)
            moved = np.sqrt(np.mean(change**2, axis=1))
            np.testing.assert_allclose(arrays["distortion"][success], moved[success], rtol=1e-4)
            # Examples are judged against the true label by the model for which they were made:
            # where the target is not the label, a success is an error.
            table2 = summary["tables"]["table2" if protocol == "paper" else "table2_refined"]
            own = table2["rows"][name][table2["columns"].index(name)]
            assert own >= success.mean() - 1e-6


def tables_of(summary):
    """The tables as text, in which NaN equals NaN and every digit counts."""
    return json.dumps(summary["tables"])


def fail(*_, **__):
    raise AssertionError("computed again what was finished")


def test_a_second_run_computes_nothing(digits, monkeypatch):
    config, workdir, summary = digits
    for module, name in (
        (attack, "attack_batch"), (attack, "minimal_perturbation"), (epochs, "_epoch_runner"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, fail)
    again = run_experiment(config, workdir)
    assert tables_of(again) == tables_of(summary)


def copied(digits, tmp_path):
    config, workdir, summary = digits
    shutil.copytree(workdir, tmp_path / "run")
    return config, tmp_path / "run", summary


def count_calls(monkeypatch, stop_at=None):
    """What attacks are called with; the one numbered `stop_at` is interrupted."""
    counted = interrupted_at(stop_at, attack.attack_batch)
    monkeypatch.setattr(attack, "attack_batch", counted)
    return counted.calls


@pytest.mark.parametrize("how", ["deleted", "truncated", "flipped", "emptied"])
def test_a_damaged_shard_is_computed_again(digits, tmp_path, monkeypatch, how):
    config, workdir, summary = copied(digits, tmp_path)
    shard = workdir / "results" / "FC10(1)" / "paper" / "000002-000004.npz"
    before = {name: np.array(a) for name, a in shards.load_arrays(shard).arrays.items()}
    content = shard.read_bytes()
    middle = len(content) // 2
    if how == "deleted":
        shard.unlink()
    else:
        shard.write_bytes({
            "truncated": content[:middle],
            "flipped": content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :],
            "emptied": b"",
        }[how])  # fmt: skip
    calls = count_calls(monkeypatch)
    again = run_experiment(config, workdir)
    assert [options["indices"].tolist() for _, options in calls] == [[2, 3]]
    assert tables_of(again) == tables_of(summary)
    after = shards.load_arrays(shard)
    assert after.arrays.keys() == before.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(after.arrays[name], array, err_msg=name)


@pytest.mark.parametrize("stop_at", [1, 2, 4, 7])
def test_interrupted_and_resumed_is_uninterrupted(digits, tmp_path, monkeypatch, stop_at):
    config, workdir, summary = digits
    with monkeypatch.context() as context:
        count_calls(context, stop_at)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(config, tmp_path)
    assert not (tmp_path / "summary.json").exists()
    calls = count_calls(monkeypatch)
    resumed = run_experiment(config, tmp_path)
    assert len(calls) == 8 - (stop_at - 1)  # two protocols, two models, two shards each
    assert tables_of(resumed) == tables_of(summary)
    for table in summary["tables"]:
        for suffix in ("csv", "md"):
            path = f"tables/{table}.{suffix}"
            assert (tmp_path / path).read_bytes() == (workdir / path).read_bytes()


def test_interrupted_in_training(digits, tmp_path, monkeypatch):
    config, _, summary = digits
    with monkeypatch.context() as context:
        context.setattr(training, "fit", interrupted_at(2, training.fit))
        with pytest.raises(KeyboardInterrupt):
            run_experiment(config, tmp_path)
    assert tables_of(run_experiment(config, tmp_path)) == tables_of(summary)


def test_another_config_in_the_same_workdir(digits):
    config, workdir, _ = digits
    other = config.copy_and_resolve_references()
    other.attack.maxiter = 7
    with pytest.raises(InputError, match=r"attack\.maxiter is .* there and 7 here"):
        run_experiment(other, workdir)


BAD_CONFIGS = {
    "experiment": (("experiment", "table9"), 'experiment is "table9".*cross_model'),
    "model": (("model_names", ("FC11",)), 'model_names: "FC11" is not one of'),
    "no models": (("model_names", ()), "model_names"),
    "data": (("data.name", "no_such_data"), "no_such_data"),
    "too many images": (("data.num_train", 10**6), "asked for"),
    "batch": (("train.batch_size", 1000), "batch_size is 1000"),
    "epochs": (("train.num_epochs", 0), "num_epochs is 0"),
    "shard size": (("shard_size", 0), "shard_size is 0: it must be at least 1"),
    "no protocol": (("protocols", {}), "protocols is empty"),
    "protocol": (("protocols.paper.num_penalty", 3), r"protocols\.paper: num_penalty"),
    "no noise": (("noise_stddevs", ()), "noise_stddevs is .*at least 1 item"),
    "noise of nothing": (
        ("noise_stddevs", (0.0,)),
        r"noise_stddevs\.0 is 0\.0: it must be above 0",
    ),
    "trained otherwise": (
        ("models.FC10(1e-4).train", {"epochs": 3}),
        r"FC10\(1e-4\)\.train: epochs",
    ),
    "penalties": (("protocols.paper.num_penalties", -1), "num_penalties is -1"),
    "family": (
        ("models.FC10(1e-4).family", "forest"),
        r'FC10\(1e-4\)\.family is "forest": it must be one of fully_connected, conv_net, autoenc',
    ),
    "dropout": (("models.FC10(1e-4).dropout_rates", (0.5, 0.5)), "one per layer"),
    "lipschitz": (("models.FC10(1e-4).lipschitz_weight", -1.0), "lipschitz_weight is -1.0"),
    "pool": (("models.FC10(1e-4).pools.replaced", 2.0), r"pools\.replaced is 2\.0"),
    "targets": (("attack.targets", "nearest"), 'targets is "nearest"'),
    "solver": (("attack.solver", "newton"), 'solver is "newton"'),
    "negative images": (("attack.num_images", -1), "num_images is -1"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_bad_config(tmp_path, monkeypatch, case):
    (field, value), message = BAD_CONFIGS[case]
    monkeypatch.delenv("INTRIGUING_DATA", raising=False)
    config = small_config(ROOT / "configs" / "digits.py", ("FC10(1e-4)",))
    with config.ignore_type(), config.unlocked():
        config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=message) as caught:
        run_experiment(config, tmp_path)
    assert "\n" not in str(caught.value)


def test_compiled_programs_are_kept_where_the_user_caches(tmp_path, monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        keep_compilations()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "intriguing" / "xla")
        jax.config.update("jax_compilation_cache_dir", "elsewhere")
        keep_compilations()
        assert jax.config.jax_compilation_cache_dir == "elsewhere"
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
