"""Do images made for one model fool another? (The paper's section 4.2, tables 2 and 4.)"""

from collections.abc import Mapping

import numpy as np

from intriguing.metrics import Average, error_rate
from intriguing.predict import predict


def transfer_table(
    logits_fns: Mapping[str, object], image_sets: Mapping[str, np.ndarray], images, labels
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Error that each set of changed images induces in each victim model.

    Args:
      logits_fns: victims, by name.
      image_sets: changed images by the name of what made them, (batch, ...) each, the changed
        versions of `images`.
      images: (batch, ...) clean.
      labels: (batch,) true classes.

    Returns:
      Two tables, {set: [a number per victim]}: the error rate over all images, and over those whose
      clean version the victim has right (NaN if there are none).
    """
    labels = np.asarray(labels)
    over_all = {name: [] for name in image_sets}
    over_right = {name: [] for name in image_sets}
    for logits_fn in logits_fns.values():
        right = predict(logits_fn, images) == labels
        for name, changed in image_sets.items():
            predictions = predict(logits_fn, changed)
            over_all[name].append(error_rate(predictions, labels))
            over_right[name].append(Average.of(predictions != labels, where=right).mean)
    return over_all, over_right
