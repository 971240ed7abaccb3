"""Writes metrics.json: scikit-learn's values of metrics on fixed outputs.

Run with scikit-learn 1.x: python tests/reference/metrics.py
"""

import json
import pathlib

import numpy as np
from sklearn import metrics

ROWS, CLASSES = 60, 7


def outputs(rows=ROWS, width=CLASSES, modulus=1009):
    """Numbers in -1..1 that any language makes exactly."""
    return (np.array([(i * 367 + i * i % 97 * 5) % modulus for i in range(rows * width)], np.float32) / 504 - 1).reshape(rows, width)


scores = outputs()
# Class 5 never occurs; every third row is easy.
truth = np.array([int(scores[i].argmax()) if i % 3 == 0 else (i * 5 + i // 4) % CLASSES for i in range(ROWS)])
truth[truth == 5] = 6
predicted = scores.argmax(1)
labels = np.arange(CLASSES)
probabilities = np.exp(scores.astype(np.float64))
probabilities /= probabilities.sum(1, keepdims=True)


def per_class(score):
    """The mean over classes that occur, each against the rest."""
    return float(np.mean([score(truth == c, probabilities[:, c]) for c in np.unique(truth)]))


def calibration_error(bins=15):
    """Guo and others (2017), by numpy."""
    confidence, right, total = probabilities.max(1), predicted == truth, 0.0
    for low in range(bins):
        inside = (confidence > low / bins) & (confidence <= (low + 1) / bins)
        if inside.any():
            total += inside.sum() * abs(right[inside].mean() - confidence[inside].mean())
    return float(total / len(truth))


result = {
    "truth": truth.tolist(),
    "accuracy": metrics.accuracy_score(truth, predicted),
    "top5_accuracy": metrics.top_k_accuracy_score(truth, scores, k=5, labels=labels),
    "macro_f1": metrics.f1_score(truth, predicted, average="macro"),
    "top3_accuracy": metrics.top_k_accuracy_score(truth, scores, k=3, labels=labels),
    "balanced_accuracy": metrics.balanced_accuracy_score(truth, predicted),
    "macro_precision": metrics.precision_score(truth, predicted, average="macro", zero_division=0),
    "macro_recall": metrics.recall_score(truth, predicted, average="macro", zero_division=0),
    "weighted_f1": metrics.f1_score(truth, predicted, average="weighted"),
    "cohen_kappa": metrics.cohen_kappa_score(truth, predicted),
    "auroc": per_class(metrics.roc_auc_score),
    "average_precision": per_class(metrics.average_precision_score),
    "calibration_error": calibration_error(),
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
