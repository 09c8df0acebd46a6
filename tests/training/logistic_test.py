"""Tests for intriguing/training/logistic.py, against scikit-learn's minimum of the same problem."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from intriguing.training import logistic

RNG = np.random.default_rng(0)


def problem(num_classes: int):
    features = RNG.normal(size=(200, 3, 4)) * 7 + 3
    scores = features.reshape(200, -1) @ RNG.normal(size=(12, num_classes))
    labels = (scores + 5 * RNG.normal(size=scores.shape)).argmax(axis=1)
    return features.astype(np.float32), labels


def test_it_finds_the_minimum_of_scikit_learn():
    for num_classes in (2, 4):
        features, labels = problem(num_classes)
        decay = 0.03
        found = logistic.fit(features, labels, num_classes, weight_decay=decay, tol=1e-6)
        flat = features.reshape(200, -1).astype(np.float64)
        centred = flat - flat.mean(axis=0)
        scale = np.sqrt((centred**2).mean())
        # Two classes have one weight vector there; ours splits it in two halves, so that the
        # squares sum to half of its own.
        part = 0.5 if num_classes == 2 else 1.0
        oracle = LogisticRegression(C=1 / (decay * 200 * part), tol=1e-8, max_iter=5000)
        oracle.fit(centred / scale, labels)
        wanted = oracle.predict_log_proba(centred / scale)
        logits = flat @ found["kernel"] + found["bias"]
        log_proba = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(log_proba, wanted, atol=2e-3)


def test_features_without_variance_give_the_classes_frequencies():
    labels = np.array([0, 0, 0, 1])
    found = logistic.fit(np.ones((4, 2), np.float32), labels, 2, weight_decay=0.1)
    logits = np.ones(2) @ found["kernel"] + found["bias"]
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(np.exp(logits[0] - logits[1]), 3, rtol=1e-3)
