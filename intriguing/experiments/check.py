"""Networks that do not exist or do not fit: said before anything is computed."""

import os

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
    if not spec.weights and not (settings.data.dir or os.environ.get("INTRIGUING_DATA")):
        raise InputError(
            "neither weights nor data. Either fetch weights that others trained (torchvision's"
            " state dict as .pth or .safetensors, or Caffe's arrays as .npz) and name them,"
            " --config.models.NAME.weights=FILE; or name a folder of images to train on,"
            " --config.data.dir=FOLDER (with train/CLASS/*.jpg), or imagenette, which this"
            " prepares: pip install tensorflow, then --config.data.name=imagenette"
            " --config.data.download=True --config.data.dir=FOLDER"
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
