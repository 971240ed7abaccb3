"""Seconds of scikit-learn's logistic regression and nearest neighbours; one JSON object on standard output."""

import json
import sys
import time

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

rows, width, classes, queries, repeats = map(int, sys.argv[1:6])
random = np.random.default_rng(0)
y = np.arange(rows) % classes
centres = random.standard_normal((classes, width), dtype=np.float32)
x = (0.2 * centres[y] + random.standard_normal((rows, width), dtype=np.float32)).astype(np.float32)


def measure(body):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        body()
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]


knn = KNeighborsClassifier(10, algorithm="brute").fit(x, y)
print(json.dumps({
    "version": sklearn.__version__,
    "logistic": measure(lambda: LogisticRegression(C=1.0, tol=1e-4, max_iter=500).fit(x, y)),
    "knn": measure(lambda: knn.predict_proba(x[:queries])),
}))
