"""Results of attacks that nobody ran, for tests of what is made of results."""

import numpy as np

from intriguing import attack
from intriguing.attack import AttackStatus


def make_result(norms, status=None):
    norms = np.asarray(norms, np.float32)
    reached = np.isfinite(norms)
    default = np.where(reached, AttackStatus.REACHED, AttackStatus.NOT_REACHED)
    return attack.AttackResult(
        adv_images=np.zeros((len(norms), 2, 2), np.float32), success=reached, distortion=norms / 2,
        l2_norm=norms, penalty_weight=np.zeros(len(norms), np.float32),
        num_evals=np.full(len(norms), 100, np.int32),
        status=(default if status is None else np.asarray(status)).astype(np.int32),
        trace=np.zeros((len(norms), 0), np.float32),
    )  # fmt: skip


RESULT = make_result([0.0, 1.0, 2.0, np.inf], [1, 0, 0, 2])  # the first is wrong from the start
