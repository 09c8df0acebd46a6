"""The fields of an experiment with their defaults; the other configs: these and what differs.

Every field is in intriguing/experiments/settings.py and specs.py, with its unit and source.
"""

from ml_collections import ConfigDict

from intriguing.experiments import settings, specs

PAPER_ORDER = (
    "FC10(1e-4)", "FC10(1e-2)", "FC10(1)", "FC100-100-10", "FC200-200-10", "AE400-10",
)  # fmt: skip
ARGUMENTS = ("", "quick")


def get_config(argument: str = "", experiment: str = "cross_model") -> ConfigDict:
    """An experiment's fields. `argument` is what follows the colon of --config=FILE:ARGUMENT."""
    if argument not in ARGUMENTS:
        raise ValueError(f"unknown argument :{argument}; there is :quick (a minute on a CPU)")
    config = ConfigDict(settings.defaults(experiment))
    config.quick = argument == "quick"
    return config


def set_models(config: ConfigDict, models: dict, names: tuple[str, ...] = ()) -> None:
    """The networks of a config, records of `specs` by name; `names`: which of them (all)."""
    config.models = ConfigDict({name: spec_of(spec) for name, spec in models.items()})
    config.model_names = names or tuple(models)


def spec_of(spec) -> ConfigDict:
    """A record of `specs` as fields that can be changed."""
    return ConfigDict(specs.fields_of(spec))


def fully_connected(
    hidden_sizes: tuple[int, ...], *weight_decay: float, **differences
) -> specs.FullyConnected:
    """A sigmoid net; `weight_decay` gives lambda per layer from bottom to top (table 1)."""
    by_layer = {f"fc{i}": decay for i, decay in enumerate(weight_decay, start=1)}
    return specs.FullyConnected(hidden_sizes=hidden_sizes, weight_decay=by_layer, **differences)


def paper_models() -> dict:
    """The six models of table 1."""
    models = {
        "FC10(1e-4)": fully_connected((), 1e-4),
        "FC10(1e-2)": fully_connected((), 1e-2),
        "FC10(1)": fully_connected((), 1.0),
        "FC100-100-10": fully_connected((100, 100), 1e-5, 1e-5, 1e-6),
        "FC200-200-10": fully_connected((200, 200), 1e-5, 1e-5, 1e-6),
        "AE400-10": specs.AutoencoderClassifier(),
    }
    return {name: models[name] for name in PAPER_ORDER}
