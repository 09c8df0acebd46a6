"""Tests for intriguing/attack/targets.py"""

import jax
import numpy as np
import pytest

from intriguing.attack.targets import RULES, choose_targets, random_targets
from intriguing.errors import InputError


@pytest.fixture(scope="module")
def labelled():
    rng = np.random.default_rng(0)
    return rng.normal(size=(200, 7)).astype(np.float32), rng.integers(7, size=200)


def test_random_is_uniform_over_the_wrong_classes():
    num, classes = 9000, 10
    labels = np.arange(num) % classes
    targets = np.asarray(random_targets(jax.random.key(0), labels, np.arange(num), classes))
    assert targets.dtype == np.int32
    assert (targets != labels).all()
    assert targets.min() == 0 and targets.max() == classes - 1
    for counted in ((targets - labels) % classes, targets):
        counts = np.bincount(counted, minlength=classes)
        counts = counts[counts > 0]
        chi_square = np.sum((counts - counts.mean()) ** 2 / counts.mean())
        assert chi_square < 27.9  # P < 0.001 with 9 degrees of freedom (and fewer with 8)
    assert len(np.unique((targets - labels) % classes)) == classes - 1


def test_random_does_not_depend_on_the_split(labelled):
    logits, labels = labelled
    key = jax.random.key(5)
    whole = np.asarray(choose_targets("random", logits, labels, key=key))
    for step in (200, 64, 1):
        indices = np.arange(0, 200, step) if step == 1 else np.arange(200)
        parts = [indices[i : i + step] for i in range(0, 10 if step == 1 else 200, step)]
        found = [
            choose_targets("random", logits[part], labels[part], key=key, indices=part)
            for part in parts
        ]
        found = np.concatenate(found)
        np.testing.assert_array_equal(found, whole[: len(found)])
    order = np.random.default_rng(1).permutation(200)
    shuffled = choose_targets("random", logits[order], labels[order], key=key, indices=order)
    np.testing.assert_array_equal(shuffled, whole[order])


def test_random_is_seeded(labelled):
    logits, labels = labelled
    first, same, other = (
        np.asarray(choose_targets("random", logits, labels, key=jax.random.key(seed)))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, same)
    assert (first != other).mean() > 0.5


def test_random_with_two_classes():
    labels = np.array([0, 1, 1])
    targets = choose_targets("random", np.zeros((3, 2)), labels, key=jax.random.key(0))
    np.testing.assert_array_equal(targets, 1 - labels)


def test_runner_up_and_least_likely_by_hand():
    logits = np.array([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [-5.0, -9.0, -7.0]])
    labels = np.array([0, 2, 1, 0])
    np.testing.assert_array_equal(choose_targets("runner_up", logits, labels), [2, 0, 0, 2])
    np.testing.assert_array_equal(choose_targets("least_likely", logits, labels), [1, 1, 2, 1])


@pytest.mark.parametrize("rule", ["runner_up", "least_likely"])
def test_ranked_rules_never_choose_the_label(labelled, rule):
    logits, labels = labelled
    targets = np.asarray(choose_targets(rule, logits, labels))
    assert targets.dtype == np.int32
    assert (targets != labels).all()
    sign = 1 if rule == "runner_up" else -1
    for row, label, target in zip(logits, labels, targets, strict=True):
        assert sign * row[target] == max(sign * np.delete(row, label))


def test_fixed(labelled):
    logits, labels = labelled
    targets = choose_targets("fixed", logits, labels, target_class=6)
    assert targets.shape == (200,) and targets.dtype == np.int32
    assert (np.asarray(targets) == 6).all()


@pytest.mark.parametrize("target_class", [7, -1, None])
def test_fixed_out_of_range(labelled, target_class):
    with pytest.raises(InputError, match=f"target_class is {target_class}: .*0 to 6"):
        choose_targets("fixed", *labelled, target_class=target_class)


def test_bad_input(labelled):
    with pytest.raises(InputError, match='targets is "nearest".*' + ", ".join(RULES)):
        choose_targets("nearest", *labelled)
    with pytest.raises(InputError, match="needs a key"):
        choose_targets("random", *labelled)
    with pytest.raises(InputError, match="at least 2"):
        choose_targets("runner_up", np.zeros((3, 1)), np.zeros(3, int))
