"""scikit-learn's numbers for the heads that are solved at once: `python exact.py > exact.json`."""

import json

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestCentroid


def numbers(n, factor, modulus):
    i = np.arange(n)
    return (i * factor % modulus / (modulus // 2) - 1).astype(np.float32).astype(np.float64)


def data(rows, width, classes):
    """Overlapping clusters off the origin; the test makes the same."""
    y = np.array([(i * 7 + i // 3) % classes for i in range(rows)])
    x = 2 * numbers(rows * width, 37, 101).reshape(rows, width) + 0.5
    for row, label in enumerate(y):
        x[row, label % width] += 1
    return x, y


def generalised_cross_validation(x, y, alpha):
    """n‖(I − H)y‖² / tr(I − H)², with the hat matrix H of ridge regression with an intercept."""
    n = len(x)
    xc = x - x.mean(0)
    hat = xc @ np.linalg.solve(xc.T @ xc + alpha * np.eye(x.shape[1]), xc.T) + 1 / n
    left = np.eye(n) - hat
    return n * ((left @ y) ** 2).sum() / np.trace(left) ** 2


def linear(model):
    return {"weight": np.atleast_2d(model.coef_).ravel().tolist(), "bias": np.atleast_1d(model.intercept_).tolist()}


result = {}
for name, rows, width, classes in [("tall", 60, 5, 3), ("wide", 14, 20, 3), ("two", 50, 4, 2)]:
    x, y = data(rows, width, classes)
    case = result[name] = {}
    one_hot = np.where(y[:, None] == np.arange(classes), 1.0, -1.0)
    case["ridge"] = linear(Ridge(alpha=2.0, solver="svd").fit(x, one_hot))
    case["ridge_predicts"] = RidgeClassifier(alpha=2.0).fit(x, y).predict(x).tolist()
    case["gcv"] = {str(a): generalised_cross_validation(x, one_hot, a) for a in (0.5, 2.0, 30.0)}
    logistic = LogisticRegression(C=0.7, tol=1e-10, max_iter=100_000, solver="newton-cg").fit(x, y)
    case["logistic"] = linear(logistic)
    case["logistic_probabilities"] = logistic.predict_proba(x[:6]).ravel().tolist()
    queries = data(rows + 9, width, classes)[0][rows - 1 :] * 0.9
    for metric in ("euclidean", "cosine"):
        for weights in ("uniform", "distance"):
            knn = KNeighborsClassifier(5, metric=metric, weights=weights, algorithm="brute").fit(x, y)
            case[f"knn_{metric}_{weights}"] = knn.predict_proba(queries).ravel().tolist()
            values = numbers(rows * 2, 29, 61).reshape(rows, 2)
            knn = KNeighborsRegressor(5, metric=metric, weights=weights, algorithm="brute").fit(x, values)
            case[f"knn_values_{metric}_{weights}"] = knn.predict(queries).ravel().tolist()
    case["knn_same"] = KNeighborsClassifier(5, weights="distance").fit(x, y).predict_proba(x[:6]).ravel().tolist()
    case["nearest_mean_l2"] = NearestCentroid().fit(x, y).predict(queries).tolist()
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    means = np.stack([unit[y == c].mean(0) for c in range(classes)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    case["nearest_mean_cosine"] = (queries / np.linalg.norm(queries, axis=1, keepdims=True) @ means.T).ravel().tolist()
print(json.dumps(result, indent=1))
