"""Attacks that reach nothing, and work that is interrupted, for what must stand that."""

import numpy as np

from intriguing import attack


def interrupted_at(number, function):
    """The function, whose call of that number (from 1 on; None: none) is interrupted.

    Its `calls` are what it was called with, (args, options) each.
    """

    def counted(*args, **options):
        counted.calls.append((args, options))
        if len(counted.calls) == number:
            raise KeyboardInterrupt
        return function(*args, **options)

    counted.calls = []
    return counted


def fail_all(monkeypatch) -> None:
    """Every attack from now on ends without a success; it still says what its targets were."""
    real = attack.attack_batch

    def failing(logits_fn, images, labels, **options):
        result, targets = real(logits_fn, images, labels, **options)
        none = np.zeros(len(images), np.float32)
        return attack.AttackResult(
            adv_images=np.asarray(images), success=none.astype(bool), distortion=none + np.inf,
            l2_norm=none + np.inf, penalty_weight=none, num_evals=result.num_evals,
            status=np.full(len(images), attack.AttackStatus.NOT_REACHED),
            trace=np.zeros((len(images), 0), np.float32),
        ), targets  # fmt: skip

    monkeypatch.setattr(attack, "attack_batch", failing)
