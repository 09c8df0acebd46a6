"""docs/ostrich.png, the README's first picture: python -m docs.picture [WEIGHTS [ARCHITECTURE]]

A photograph in the public domain (Grace Hopper, US Navy) that matplotlib ships, and the
least change that makes a network of ImageNet call it an ostrich. Without a file, torchvision's
SqueezeNet is fetched.
"""

import sys
from pathlib import Path

import matplotlib.cbook
import numpy as np

import intriguing
from intriguing import models, plots
from intriguing.data.files import decode_image
from intriguing.models import import_weights

OSTRICH = 9
NAMES = {9: "ostrich", 457: "bow tie", 652: "military uniform", 834: "suit"}


def main(path: str = "", architecture: str = "squeezenet") -> None:
    """Attacks the one image, and draws it."""
    net = import_weights.load(path or import_weights.published(architecture), architecture)
    logits_fn = models.logits_fn(net.model, {"params": net.params})
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        image = decode_image(file, net.image_shape[0])[None].astype(np.float32) / 255
    result = intriguing.minimal_perturbation(logits_fn, image, [OSTRICH], progress=True)
    names = [NAMES.get(number, f"class {number}") for number in range(1000)]
    figure = plots.show(image, result, logits_fn=logits_fn, class_names=names)
    figure.savefig(Path(__file__).parent / "ostrich.png", dpi=110)
    print(f"L2 {result.l2_norm[0]:.4f}, root mean square {255 * result.distortion[0]:.2f} of 255,"
          f" {result.num_evals[0]} evaluations")  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
