"""Writes metrics.json: scikit-learn's values of metrics on fixed outputs.

Run with scikit-learn 1.x and scipy: python tests/reference/metrics.py
"""

import json
import pathlib

import numpy as np
from scipy import stats
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
    "mean_iou": metrics.jaccard_score(truth, predicted, average="macro"),
    "top3_accuracy": metrics.top_k_accuracy_score(truth, scores, k=3, labels=labels),
    "balanced_accuracy": metrics.balanced_accuracy_score(truth, predicted),
    "macro_precision": metrics.precision_score(truth, predicted, average="macro", zero_division=0),
    "macro_recall": metrics.recall_score(truth, predicted, average="macro", zero_division=0),
    "weighted_f1": metrics.f1_score(truth, predicted, average="weighted"),
    "cohen_kappa": metrics.cohen_kappa_score(truth, predicted),
    "auroc": per_class(metrics.roc_auc_score),
    "average_precision": per_class(metrics.average_precision_score),
    "calibration_error": calibration_error(),
    "weighted_precision": metrics.precision_score(truth, predicted, average="weighted", zero_division=0),
    "weighted_recall": metrics.recall_score(truth, predicted, average="weighted", zero_division=0),
    "micro_precision": metrics.precision_score(truth, predicted, average="micro"),
    "micro_recall": metrics.recall_score(truth, predicted, average="micro"),
    "micro_f1": metrics.f1_score(truth, predicted, average="micro"),
}

# Several labels per row; no row has label 6.
labels_of = np.array([[int((i * 5 + j * 3 + i * j) % 4 == 0 and j != 6) for j in range(CLASSES)] for i in range(ROWS)])
said = (scores > 0).astype(int)
averages = {
    f"{average}_{name}": score(labels_of, said, average=average, zero_division=0)
    for average in ["macro", "micro", "weighted"]
    for name, score in [("precision", metrics.precision_score), ("recall", metrics.recall_score), ("f1", metrics.f1_score)]
}
occurring = [j for j in range(CLASSES) if labels_of[:, j].any()]
result["multi_label"] = {
    "labels": labels_of.flatten().tolist(),
    "accuracy": metrics.accuracy_score(labels_of, said),
    "auroc": float(np.mean([metrics.roc_auc_score(labels_of[:, j], scores[:, j]) for j in occurring])),
    "average_precision": float(np.mean([metrics.average_precision_score(labels_of[:, j], scores[:, j]) for j in occurring])),
} | averages

# Numbers, some of them equal.
values = np.round(3 * scores + np.array([[(i * 7 + j) % 5 - 2 for j in range(CLASSES)] for i in range(ROWS)]), 1)
values = values.astype(np.float32)
result["values"] = {
    "targets": values.flatten().tolist(),
    "mae": metrics.mean_absolute_error(values, scores),
    "rmse": metrics.root_mean_squared_error(values.astype(np.float64), scores.astype(np.float64)),
    "r2": metrics.r2_score(values.astype(np.float64), scores.astype(np.float64)),
    "spearman": float(np.mean([stats.spearmanr(scores[:, j], values[:, j]).statistic for j in range(CLASSES)])),
}


def unit(x):
    return x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=-1, keepdims=True)


def measured(queries):
    """Means over queries, each which of the candidates are right and the cosines with them; scikit-learn's NDCG, the
    others by their definitions in numpy."""
    found = {}
    for relevant, cosine in queries:
        relevant = np.asarray(relevant, float)
        wanted = int(relevant.sum())
        if not wanted:
            continue
        hits = relevant[np.argsort(-cosine, kind="stable")]
        precision = hits.cumsum() / np.arange(1, len(hits) + 1)
        rank = int(hits.argmax()) + 1
        one = {f"recall_at_{k}": float(hits[:k].any()) for k in [1, 5, 10]} | {
            "mrr_at_10": 1 / rank if rank <= 10 else 0.0,
            "map_at_r": (precision * hits)[:wanted].sum() / wanted,
            "ndcg_at_10": metrics.ndcg_score([relevant], [cosine], k=10),
        }
        for name, value in one.items():
            found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def leave_one_out():
    cosine = unit(scores) @ unit(scores).T
    for i in range(ROWS):
        others = [j for j in range(ROWS) if j != i]
        yield truth[others] == truth[i], cosine[i, others]


def across_fields():
    """Each different first field looks for the seconds of its rows among all seconds and thirds."""
    looking, candidates, right = {}, {}, {}
    embeddings = scores[:, :6].reshape(ROWS, 3, 2).copy()
    embeddings[::3, 1] = embeddings[::3, 0]
    for row, (first, *others) in zip(embeddings, samples):
        for number, embedding in zip(others, row[1:]):
            candidates.setdefault(number, embedding)
        looking.setdefault(first, row[0])
        right.setdefault(first, set()).add(others[0])
    rows = unit(np.array(list(candidates.values())))
    for first, embedding in looking.items():
        yield [number in right[first] for number in candidates], rows @ unit(embedding)


# Every third row is easy. Some firsts have several seconds, some seconds are the negatives of others.
samples = [[i // 2 if i < 20 else i, 100 + i, 100 + i + 3 if i % 4 == 0 else 200 + i] for i in range(ROWS)]
result["embedding"] = measured(leave_one_out())
result["pairs"] = {"samples": np.array(samples).flatten().tolist()} | measured(across_fields())
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
