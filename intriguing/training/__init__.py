"""One network after another: whole data sets, streams, pools of adversarial examples."""

from intriguing.training.classifiers import (
    check_fit,
    classification_loss,
    fit,
    fit_autoencoder_classifier,
    init_fn,
    reconstruction_loss,
    weight_decay_penalty,
)

__all__ = [
    "check_fit",
    "classification_loss",
    "fit",
    "fit_autoencoder_classifier",
    "init_fn",
    "reconstruction_loss",
    "weight_decay_penalty",
]
