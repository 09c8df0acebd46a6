"""Networks that do not exist or do not fit: said before anything is computed."""

import os
from pathlib import Path

from intriguing import models
from intriguing.errors import InputError
from intriguing.experiments import build, specs
from intriguing.models import quocnet


def check_settings(settings) -> None:
    """Raises InputError for networks that do not exist, or do not fit their images."""
    for name in settings.model_names:
        spec = settings.models[name]
        try:
            if isinstance(spec, specs.Large):
                _check_large(settings, spec)
            if isinstance(spec, specs.QuocNet):
                _check_quocnet(settings, spec)
        except InputError as error:
            raise InputError(f"models.{name}: {error}") from error


def _check_large(settings, spec: specs.Large) -> None:
    if spec.architecture not in models.PRETRAINED:
        known = ", ".join(models.PRETRAINED)
        raise InputError(f'architecture is "{spec.architecture}": it must be one of {known}')
    if not spec.weights and models.PRETRAINED[spec.architecture].published is None:
        raise InputError(
            f"{spec.architecture} has no published weights that come by themselves: name a file,"
            " --config.models.NAME.weights=FILE (torchvision's state dict as .pth or .safetensors,"
            " or Caffe's arrays as .npz); or weights=random; or weights=train, which trains it on"
            " the images of --config.data.dir"
        )
    has_data = settings.data.dir or os.environ.get("INTRIGUING_DATA")
    if spec.weights == "train" and settings.data.name == "image_folder" and not has_data:
        raise InputError(
            "weights=train needs a folder of images, --config.data.dir=FOLDER (with"
            " train/CLASS/*.jpg and test/CLASS/*.jpg)"
        )
    is_file = spec.weights not in ("", "train", "random")
    if is_file and not Path(spec.weights).expanduser().is_file():
        raise InputError(
            f"weights={spec.weights}: no such file; name one, or random, train or, for those that"
            " others publish, nothing"
        )


def _check_quocnet(settings, spec: specs.QuocNet) -> None:
    """Sizes that do not fit are said with the stage they are of."""
    per_stage = (*quocnet.Stage._fields, "sparsity_weight")
    lengths = {size: len(getattr(spec, size)) for size in per_stage}
    if len(set(lengths.values())) > 1 or not lengths["field"]:
        raise InputError(f"each of {', '.join(lengths)} needs a number per stage, not {lengths}")
    size = settings.data.image_size
    for i, stage in enumerate(build.quocnet_model(spec, 2).stages, start=1):
        rows = stage.num_rows(size)
        if rows < 1:
            raise InputError(f"stage {i}: field {stage.field} is larger than its input, {size}")
        size = -(-rows // stage.pool_stride)
