"""Tests for intriguing/experiments/{settings,specs}.py"""

import ast
import dataclasses
import runpy
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from intriguing.attack import feed, targets
from intriguing.errors import InputError
from intriguing.experiments import EXPERIMENTS, settings, specs

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(
    path for path in (ROOT / "configs").glob("[!_]*.py") if path.stem != "default"
)  # fmt: skip


def config_of(path, argument="quick"):
    return runpy.run_path(str(path))["get_config"](argument).to_dict()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_read_and_none_of_another_experiment(path):
    config = config_of(path)
    found = settings.read(config)
    assert type(found) is settings.SETTINGS[config["experiment"]] and found.quick
    for other in set(settings.SETTINGS) - {config["experiment"]}:
        with pytest.raises(InputError) as caught:
            settings.read({**config, "experiment": other})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("experiment", settings.SETTINGS)
def test_what_is_not_read_is_refused(experiment):
    config = settings.defaults(experiment)
    assert config["experiment"] == experiment
    with pytest.raises(InputError, match=f"nonsense: {experiment} reads no such setting"):
        settings.read({**config, "nonsense": 1})
    with pytest.raises(InputError, match=f"data.colour: {experiment} reads no such setting"):
        settings.read({**config, "data": {**config["data"], "colour": "red"}})


def test_seeds_are_taken_by_those_that_have_a_spread():
    takes = {name for name in settings.SETTINGS if "num_seeds" in settings.defaults(name)}
    assert takes == {"cross_training_set", "adversarial_training"}


def attributes_read() -> set[str]:
    """Names that experiments read from anything, as attributes."""
    found = set()
    for path in (ROOT / "intriguing" / "experiments").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
    return found


PASSED_ON = (  # whole, as arguments of what is below: **asdict(record)
    specs.Attack, specs.Sgd, specs.Train, specs.Pools, specs.Autoencoder, specs.Top, specs.QuocNet
)  # fmt: skip


def test_every_setting_is_read_somewhere():
    records = [each for each in vars(specs).values() if dataclasses.is_dataclass(each)]
    records = [each for each in records if each not in PASSED_ON] + [*settings.SETTINGS.values()]
    read = attributes_read()
    for record in records:
        missing = [field.name for field in dataclasses.fields(record) if field.name not in read]
        assert not missing, f"{record.__name__}: nobody reads {missing}"


def test_words_are_those_that_the_attack_knows():
    hints = get_type_hints(specs.Attack)
    assert set(get_args(hints["targets"])) == set(targets.RULES)
    assert set(get_args(hints["solver"])) == set(feed.SOLVERS)
    assert settings.SETTINGS.keys() == EXPERIMENTS.keys()


UNUSABLE = {
    "one image is no neighbourhood": ("mnist_units", {"units.num_top": 1}, r"units\.num_top is 1"),
    "no layers": ("mnist_units", {"units.layers": ()}, r"units\.layers is .*at least 1 item"),
    "two networks where one is looked at": (
        "mnist_units", {"model_names": ("ConvNet", "ConvNet")}, "model_names is .*at most 1 item",
    ),
    "one noise of two": (
        "mnist_cross_training_set", {"noise_stddevs": (0.1,)}, "noise_stddevs is .*at least 2 item",
    ),
    "no curve": ("mnist_cross_training_set", {"curve_stddevs": ()}, "curve_stddevs is"),
    "amplified to nothing": (
        "mnist_cross_training_set", {"amplified_stddev": 0.0}, r"amplified_stddev is 0\.0",
    ),
    "a half that is none": (
        "mnist_cross_training_set", {"trained_on": {"FC100-100-10": "P3"}}, "needs a half",
    ),
    "two protocols": (
        "imagenet_attack", {"protocols": {"a": {}, "b": {}}}, "targeted_attack takes one alone",
    ),
    "nothing shown": ("imagenet_attack", {"num_shown": 0}, "num_shown is 0"),
    "NaN": ("digits", {"attack.tol": float("nan")}, r"attack\.tol is nan"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_no_experiment_can_use_is_refused(case):
    name, changes, message = UNUSABLE[case]
    config = config_of(ROOT / "configs" / f"{name}.py")
    for field, value in changes.items():
        *path, last = field.split(".")
        node = config
        for key in path:
            node = node[key]
        node[last] = value
    with pytest.raises(InputError, match=message) as caught:
        settings.read(config)
    assert "\n" not in str(caught.value)


def test_configs_need_no_jax():
    """A wrong flag fails at once."""
    code = (
        "import sys; from configs import digits; digits.get_config();"
        "sys.exit('jax' in sys.modules or 'flax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
