"""What no experiment can run with is said before anything is computed."""

import os

from intriguing import models
from intriguing.attack import inputs, targets
from intriguing.errors import InputError
from intriguing.experiments import build
from intriguing.models import quocnet
from intriguing.training import adversarial
from intriguing.training.epochs import check_training


def check_config(config) -> None:
    """Raises InputError for a config that no experiment can run with."""
    if not config.model_names:
        raise InputError(f"model_names is empty: name some of {', '.join(config.models)}")
    for name in config.model_names:
        if name not in config.models:
            raise InputError(f'model_names: "{name}" is not one of {", ".join(config.models)}')
        try:
            _check_model(config, config.models[name])
        except InputError as error:
            raise InputError(f"models.{name}: {error}") from error
    for protocol in config.protocols:
        _check_attack(build.attack_options(config, protocol))
    if config.shard_size < 1 or config.data.num_train < 0 or config.num_seeds < 1:
        raise InputError("shard_size and num_seeds must be at least 1, data.num_train at least 0")


def _check_model(config, spec) -> None:
    if spec.family == "large":
        return _check_large(config, spec)
    if spec.family == "quocnet":
        return _check_quocnet(config, spec)
    if spec.family not in build.FAMILIES:
        known = ", ".join(build.FAMILIES)
        raise InputError(f'family is "{spec.family}": it must be one of {known}')
    is_plain = spec.family != "autoencoder_classifier"
    for part in [spec] if is_plain else [spec.autoencoder, spec.classifier]:
        settings = {**config.train, **part, **part.get("train", {})}
        wanted = ("num_epochs", "batch_size", "learning_rate", "weight_decay")
        check_training(**{key: settings[key] for key in wanted})
    if "pools" in spec:
        adversarial.check_pools(adversarial.PoolOptions(**spec.pools))
    if "dropout_rates" in spec:
        if any(not 0 <= rate < 1 for rate in spec.dropout_rates):
            raise InputError(f"dropout_rates is {spec.dropout_rates}: from 0 to below 1 each")
        if len(spec.dropout_rates) not in (0, len(spec.hidden_sizes) + 1):
            raise InputError(f"dropout_rates is {spec.dropout_rates}: one per layer is needed")
    weight = spec.get("lipschitz_weight", 0.0)
    if not weight >= 0:
        raise InputError(f"lipschitz_weight is {weight}: it must be 0 or more")


def _check_large(config, spec) -> None:
    if spec.architecture not in models.PRETRAINED:
        known = ", ".join(models.PRETRAINED)
        raise InputError(f'architecture is "{spec.architecture}": it must be one of {known}')
    if not spec.weights and not (config.data.dir or os.environ.get("INTRIGUING_DATA")):
        raise InputError(
            "neither weights nor data. Either fetch weights that others trained (torchvision's"
            " state dict as .pth or .safetensors, or Caffe's arrays as .npz) and name them,"
            " --config.models.NAME.weights=FILE; or name a folder of images to train on,"
            " --config.data.dir=FOLDER (with train/CLASS/*.jpg), or imagenette, which this"
            " prepares: pip install tensorflow, then --config.data.name=imagenette"
            " --config.data.download=True --config.data.dir=FOLDER"
        )


def _check_quocnet(config, spec) -> None:
    """Sizes that do not fit are said with the stage they are of."""
    if config.experiment != "quocnet_attack":
        raise InputError(f"only quocnet_attack has room for it, not {config.experiment}")
    per_stage = (*quocnet.Stage._fields, "sparsity_weight")
    lengths = {field: len(spec[field]) for field in per_stage}
    if len(set(lengths.values())) > 1 or not lengths["field"]:
        raise InputError(f"each of {', '.join(lengths)} needs a number per stage, not {lengths}")
    size, stages = config.data.image_size, build.quocnet_model(spec, 2).stages
    for i, stage in enumerate(stages, start=1):
        if min(stage._replace(pad=1, norm_floor=1)) < 1 or stage.pad < 0:
            raise InputError(f"stage {i}: sizes must be at least 1 (pad: 0), not {stage}")
        rows = stage.num_rows(size)
        if rows < 1:
            raise InputError(f"stage {i}: field {stage.field} is larger than its input, {size}")
        size = -(-rows // stage.pool_stride)
    if spec.input_norm < 0 or not min(spec.sparsity_weight) >= 0:
        raise InputError("input_norm and sparsity_weight must be 0 or more")
    if not min(spec.norm_floor) > 0:
        raise InputError("norm_floor must be positive")
    if config.classifier.num_views < 1 or config.classifier.max_shift < 0:
        raise InputError("classifier.num_views must be at least 1, max_shift at least 0")
    if config.baselines and config.data.image_size % 16:
        raise InputError("baselines: data.image_size must be a multiple of 16")
    if not config.classifier.weight_decay > 0:
        raise InputError("classifier.weight_decay must be positive")


def _check_attack(options: dict) -> None:
    if options["targets"] not in targets.RULES:
        known = ", ".join(targets.RULES)
        raise InputError(f'attack.targets is "{options["targets"]}": it must be one of {known}')
    if options["num_images"] < 0:
        raise InputError(
            f"attack.num_images is {options['num_images']}: it must be 0 (all) or more"
        )
    for key in ("num_images", "targets", "target_class", "refine", "squared_norm"):
        del options[key]
    inputs.check_options(**options)
