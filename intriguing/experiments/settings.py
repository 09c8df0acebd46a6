"""The settings of every experiment: what each reads, with units and sources, and what it can use.

A config starts from `defaults(experiment)`; `read` makes the record that it is of, or says in one
line what cannot be used. Nothing here needs jax: a wrong value fails at once.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, get_args

from pydantic import Field, TypeAdapter, ValidationError

from intriguing.errors import InputError
from intriguing.experiments import specs
from intriguing.experiments.specs import Count, CountOrAll, NotNegative, Positive, Seed, record

Names = Annotated[tuple[str, ...], Field(min_length=1)]
OneName = Annotated[tuple[str, ...], Field(min_length=1, max_length=1)]
Protocols = dict[str, dict[str, bool | int | float | str]]
_BY_FAMILY, _ANY = Field(discriminator="family"), specs.SMALL | specs.Large


@record
class Experiment:
    """What all experiments read."""

    experiment: str = ""  # a name in SETTINGS
    title: str = ""  # heading of the report; "": that of its first table
    quick: bool = False  # a small version: the report says so
    seed: Seed = 0  # of everything random: weights, batches, targets, noise
    data: specs.Data = specs.Data()
    models: dict[str, Any] = field(default_factory=dict)  # what each network is, by name
    model_names: Names = ()  # which of them, and in what order

    def check(self) -> None:
        """Raises InputError for values that do not go together."""
        for name in self.model_names:
            if name not in self.models:
                known = ", ".join(self.models) or "empty"
                raise InputError(f'model_names: "{name}" is not one of models, {known}')


@record
class _Attacking(Experiment):
    attack: specs.Attack = specs.Attack()
    # Each differs from `attack` in what is named here.
    protocols: Protocols = field(default_factory=lambda: {"refined": {"refine": True}})
    shard_size: Count = 10_000  # images per result file: what an interruption can cost

    def attack_by(self, protocol: str) -> specs.Attack:
        """The attack under one of `protocols`."""
        changes = self.protocols[protocol]
        try:
            return dataclasses.replace(self.attack, **changes)
        except (ValidationError, TypeError) as error:
            what = _first(error) if isinstance(error, ValidationError) else str(error)
            raise InputError(f"protocols.{protocol}: {what}") from error

    def check(self) -> None:
        super().check()
        if not self.protocols:
            raise InputError("protocols is empty: name one at least, {'refined': {'refine': True}}")
        for protocol in self.protocols:
            self.attack_by(protocol)


@record
class _OneProtocol(_Attacking):
    @property
    def protocol(self) -> str:
        """The name of the only one."""
        (name,) = self.protocols
        return name

    def check(self) -> None:
        super().check()
        if len(self.protocols) > 1:
            found = ", ".join(self.protocols)
            raise InputError(f"protocols are {found}: {self.experiment} takes one alone")


@record
class _Training(Experiment):
    models: dict[str, Annotated[specs.SMALL, _BY_FAMILY]] = field(default_factory=dict)
    train: specs.Train = specs.Train()

    def check(self) -> None:
        super().check()
        check_trained(self)


def check_trained(settings) -> None:
    """Raises InputError for a network that cannot be trained by these settings."""
    for name in settings.model_names:
        spec = settings.models[name]
        rates = getattr(spec, "dropout_rates", ())
        if len(rates) not in (0, len(getattr(spec, "hidden_sizes", ())) + 1):
            raise InputError(f"models.{name}: dropout_rates is {rates}: one per layer is needed")
        try:
            train_options(settings, spec)
        except (ValidationError, TypeError) as error:
            what = _first(error) if isinstance(error, ValidationError) else str(error)
            raise InputError(f"models.{name}.train: {what}") from error


def train_options(settings, spec) -> dict[str, int | float]:
    """`train`, less what one network has otherwise."""
    changed = dataclasses.replace(settings.train, **getattr(spec, "train", {}))
    return dataclasses.asdict(changed)


@record
class _BothProtocols(_Training, _Attacking):
    # The paper's own way, and ours.
    protocols: Protocols = field(default_factory=lambda: {
        "paper": {"refine": False, "num_penalties": 8, "maxiter": 100}, "refined": {"refine": True}
    })  # fmt: skip


@record
class CrossModel(_BothProtocols):
    """Tables 1 and 2, figure 7."""

    noise_stddevs: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.1, 0.3)  # of table 2
    figure_noise_stddev: Positive = 1.0  # of figure 7


@record
class CrossTrainingSet(_BothProtocols):
    """Tables 3 and 4."""

    num_seeds: Count = 1  # runs with seed, seed + 1, ...
    # Model name -> P1 or P2, a half of the training set (table 3).
    trained_on: dict[str, str] = field(default_factory=dict)
    amplified_stddev: Positive = 0.1  # table 4
    # Gaussian noise beside the examples, and beside the amplified ones.
    noise_stddevs: Annotated[tuple[Positive, ...], Field(min_length=2, max_length=2)] = (0.06, 0.1)
    # Of the curve of transfer against amplification.
    curve_stddevs: Annotated[tuple[NotNegative, ...], Field(min_length=2)] = (0.0, 0.1, 0.2)

    def check(self) -> None:
        super().check()
        for name in self.model_names:
            if self.trained_on.get(name) not in ("P1", "P2"):
                raise InputError(f"trained_on: {name} needs a half of the training set, P1 or P2")


@record
class AdversarialTraining(_Training, _OneProtocol):
    """Section 4.2, beside other regularisers."""

    num_seeds: Count = 1  # runs with seed, seed + 1, ...


@record
class UnitAnalysis(_Training):
    """Figures 1 and 2."""

    model_names: OneName = ()
    units: specs.Units = specs.Units()


@record
class _Large(Experiment):
    models: dict[str, specs.Large] = field(default_factory=dict)
    sgd: specs.Sgd = specs.Sgd()


@record
class StreamedUnits(_Large):
    """Figures 3 and 4."""

    model_names: OneName = ()
    units: specs.StreamedUnits = specs.StreamedUnits()
    shard_size: Count = 256  # images between two result files


@record
class TargetedAttack(_Large, _OneProtocol):
    """Figure 5."""

    shard_size: Count = 256  # images classified between two result files
    attack_shard_size: Count = 16  # images attacked between two result files
    survive_rounding: bool = True  # lengthen perturbations until 8-bit images work
    num_shown: Count = 6  # images in figure 5
    curve_stddevs: tuple[Positive, ...] = ()  # of amplified examples and their controls


@record
class QuocnetAttack(_OneProtocol):
    """Figure 6."""

    models: dict[str, specs.QuocNet] = field(default_factory=dict)
    model_names: OneName = ()
    model_devices: CountOrAll = 1  # that share the weights by rows; 0: all of them
    unlabelled: specs.Unlabelled = specs.Unlabelled()
    num_evaluated: CountOrAll = 0  # test images that are classified; 0: all of them
    classifier: specs.Classifier = specs.Classifier()
    baselines: bool = True  # the same classifier on pixels, and on random filters
    num_shown: Count = 8  # images of each class in figure 6

    def check(self) -> None:
        super().check()
        if self.baselines and self.data.image_size % 16:
            raise InputError("baselines: data.image_size must be a multiple of 16")


@record
class SpectralAnalysis(_OneProtocol):
    """Table 5; `train` for small networks, `sgd` for large ones without weights."""

    models: dict[str, Annotated[_ANY, _BY_FAMILY]] = field(default_factory=dict)
    train: specs.Train = specs.Train()
    sgd: specs.Sgd = specs.Sgd()

    def check(self) -> None:
        super().check()
        check_trained(self)


SETTINGS: dict[str, type[Experiment]] = {
    "cross_model": CrossModel,
    "cross_training_set": CrossTrainingSet,
    "adversarial_training": AdversarialTraining,
    "unit_analysis": UnitAnalysis,
    "streamed_units": StreamedUnits,
    "targeted_attack": TargetedAttack,
    "quocnet_attack": QuocnetAttack,
    "spectral_analysis": SpectralAnalysis,
}


def defaults(experiment: str) -> dict[str, Any]:
    """Every setting of an experiment, nested, as a config begins."""
    return dataclasses.asdict(SETTINGS[experiment](experiment=experiment))


def read(config: Mapping[str, Any]) -> Experiment:
    """The settings that a config holds, a nested dict.

    Raises:
      InputError: an unknown experiment; a field that it does not read; a value it cannot use.
    """
    experiment = config.get("experiment")
    if experiment not in SETTINGS:
        known = ", ".join(SETTINGS)
        raise InputError(f'config.experiment is "{experiment}": it must be one of {known}')
    try:
        found = TypeAdapter(SETTINGS[experiment]).validate_python(dict(config))
    except ValidationError as error:
        raise InputError(_first(error, experiment)) from error
    found.check()
    return found


def _first(error: ValidationError, experiment: str = "") -> str:
    """The first of pydantic's complaints, in our words."""
    complaints = error.errors()
    # What is not read at all comes first; of a network of another family, that it is one.
    about = min(complaints, key=lambda each: (
        each["loc"][-1:] != ("family",), "unexpected" not in each["type"]
    ))  # fmt: skip
    place = [str(part) for part in about["loc"]]
    if place[:1] == ["models"] and len(place) > 2 and place[2] in _FAMILIES:
        del place[2]  # which record of the union it was read as
    where = ".".join(place)
    if about["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        reads = f": {experiment} reads no such setting" if experiment else ": there is no such"
        return f"{where}{reads}; see intriguing/experiments/settings.py"
    what = about["msg"]
    for theirs, ours in _WORDS.items():
        what = what.replace(theirs, ours)
    if about["type"] == "union_tag_invalid":
        context = about["ctx"]
        known = context["expected_tags"].replace("'", "")
        return f'{where}.family is "{context["tag"]}": it must be one of {known}'
    if isinstance(about["input"], str):
        return f'{where} is "{about["input"]}": {what}'
    return f"{where} is {about['input']!r}: {what}"


_WORDS = {
    "Input should be": "it must be",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "above",
    "less than": "below",
    "Tuple should have": "it must have",
    " after validation": "",
}
_FAMILIES = {kind.family for kind in get_args(_ANY)}
