"""Class maps of logits, and their mean intersection over union: numbers of PyTorch and scikit-learn.

Run from this folder: python masks.py > masks.json
"""

import json

import numpy as np
import torch
from sklearn.metrics import accuracy_score, jaccard_score

rng = np.random.default_rng(11)
CLASSES, PLACES, SIZE, VOID = 3, (4, 5), (9, 13), 255

logits = rng.normal(size=(CLASSES, *PLACES)).astype(np.float32).round(3)


def classes(size, mode, **more):
    return torch.nn.functional.interpolate(torch.tensor(logits)[None], size=size, mode=mode, **more)[0].argmax(0).numpy()


# Of an even height no pixel lies between two places, of which PyTorch and ONNX take different ones.
EVEN = (8, 13)
maps = {"bilinear": classes(SIZE, "bilinear", align_corners=False), "nearest": classes(EVEN, "nearest-exact")}
# The truth is the map with some pixels of another class and some of none; the last class is never predicted right.
found = maps["bilinear"]
truth = found.copy()
truth[rng.random(SIZE) < 0.25] = 1
truth[truth == 2] = 0
truth[rng.random(SIZE) < 0.1] = VOID
known = truth != VOID
labels = np.union1d(truth[known], found[known])

print(
    json.dumps(
        {
            "logits": logits.flatten().tolist(),
            "places": [CLASSES, *PLACES],
            "size": SIZE,
            "bilinear": maps["bilinear"].flatten().tolist(),
            "even": EVEN,
            "nearest": maps["nearest"].flatten().tolist(),
            "truth": truth.flatten().tolist(),
            "pixel_accuracy": accuracy_score(truth[known], found[known]),
            "pixel_mean_iou": jaccard_score(truth[known], found[known], labels=labels, average="macro"),
            "iou": jaccard_score(truth[known], found[known], labels=labels, average=None).tolist(),
        }
    )
)
