"""Writes losses.json: PyTorch's losses and gradients on fixed outputs.

Run with PyTorch 2.x: python tests/reference/losses.py
"""

import json
import math
import pathlib

import torch
import torch.nn.functional as F

ROWS, WIDTH = 8, 6


def numbers(n, factor, modulus):
    """Numbers in -1..1 that any language makes exactly, without equal distances between rows."""
    values = [(i * factor + i * i % 97 * 5) % modulus for i in range(n)]
    return torch.tensor(values, dtype=torch.float64) / (modulus // 2) - 1


outputs = numbers(ROWS * WIDTH, 367, 1009).reshape(ROWS, WIDTH)
classes = torch.tensor([0, 1, 2, 0, 1, 2, 0, 5])
labels = torch.tensor([[float((i * 5 + j * 3) % 4 == 0) for j in range(WIDTH)] for i in range(ROWS)], dtype=torch.float64)
values = 3 * numbers(ROWS * WIDTH, 29, 61).reshape(ROWS, WIDTH)
weights = torch.tensor([0.5, 1.0, 2.0, 0.7, 1.5, 3.0], dtype=torch.float64)


def contrastive(x, temperature=0.1):
    """Khosla and others (2020), equation 2, over rows that have others of their class."""
    same = (classes[:, None] == classes) & ~torch.eye(ROWS, dtype=bool)
    scores = (x @ x.T / temperature).masked_fill(torch.eye(ROWS, dtype=bool), -math.inf)
    log_p = (scores - scores.logsumexp(1, keepdim=True)).masked_fill(~same, 0.0)
    has = same.any(1)
    return -(log_p.sum(1)[has] / same.sum(1)[has]).mean()


def distances(x):
    d = (x[:, None] - x[None]).pow(2).sum(2)
    return torch.where(d > 0, d.clamp(min=1e-30).sqrt(), torch.zeros_like(d))


def hard(x, margin=0.5):
    d, found = distances(x), []
    for i in range(ROWS):
        p = [d[i, j] for j in range(ROWS) if j != i and classes[j] == classes[i]]
        n = [d[i, j] for j in range(ROWS) if classes[j] != classes[i]]
        if p and n:
            found.append(F.relu(max(p) - min(n) + margin))
    return torch.stack(found).mean()


def semi_hard(x, margin=0.5):
    d, found = distances(x), []
    for i in range(ROWS):
        n = [d[i, j] for j in range(ROWS) if classes[j] != classes[i]]
        for p in [d[i, j] for j in range(ROWS) if j != i and classes[j] == classes[i]]:
            farther = [x for x in n if x > p]
            found.append(F.relu(p - (min(farther) if farther else max(n)) + margin))
    return torch.stack(found).mean()


def ranking(symmetric):
    """Sentence Transformers' MultipleNegativesRankingLoss of cosines: rows two by two within a class; what is left over
    is a negative of all other classes."""
    pairs, left = [], []
    for c in sorted(set(classes.tolist())):
        rows = [i for i in range(ROWS) if classes[i] == c]
        pairs += zip(rows[0::2], rows[1::2])
        left += rows[len(rows) // 2 * 2 :]
    firsts, seconds = map(list, zip(*pairs))

    def one_way(anchors, candidates, x):
        scores = 20.0 * x[anchors] @ x[candidates].T
        same = classes[anchors][:, None] == classes[candidates]
        own = torch.eye(len(anchors), len(candidates), dtype=bool)
        return F.cross_entropy(scores.masked_fill(same & ~own, -math.inf), torch.arange(len(anchors)))

    def loss(x):
        forward = one_way(firsts, seconds + left, x)
        return (forward + one_way(seconds, firsts, x)) / 2 if symmetric else forward

    return loss


# Three fields of two numbers each; equal numbers are equal samples.
fields = torch.tensor([[0, 10, 20], [0, 11, 21], [1, 12, 10], [2, 13, 22], [3, 13, 23], [4, 14, 24], [5, 15, 12], [6, 16, 26]])


def ranking_of_fields(symmetric):
    """Sentence Transformers' MultipleNegativesRankingLoss (and, symmetric, MultipleNegativesSymmetricRankingLoss) of
    anchors, positives and hard negatives, without negatives that equal what is looked for."""

    def loss(x):
        anchors, positives, negatives = x.reshape(ROWS, 3, 2).unbind(1)
        a, p, n = fields.unbind(1)
        own = torch.eye(ROWS, dtype=bool)
        equal = (a[:, None] == a) | (p[:, None] == p)
        right = torch.cat([equal & ~own, p[:, None] == n], 1)
        scores = 20.0 * anchors @ torch.cat([positives, negatives]).T
        target = torch.arange(ROWS)
        forward = F.cross_entropy(scores.masked_fill(right, -math.inf), target)
        back = F.cross_entropy(scores[:, :ROWS].T.masked_fill(equal & ~own, -math.inf), target)
        return (forward + back) / 2 if symmetric else forward

    return loss


def triplet_of_fields(x):
    anchors, positives, negatives = x.reshape(ROWS, 3, 2).unbind(1)
    euclidean = lambda a, b: (a - b).pow(2).sum(1).sqrt()
    return F.triplet_margin_with_distance_loss(anchors, positives, negatives, distance_function=euclidean, margin=0.5)


def arcface(x, margin=0.5, scale=16.0):
    """Deng and others (2019), on logits that are `scale` times cosines."""
    cosine = x / scale
    sine = (1 - cosine * cosine).sqrt()
    turned = torch.where(
        cosine > math.cos(math.pi - margin),
        cosine * math.cos(margin) - sine * math.sin(margin),
        cosine - margin * math.sin(margin),
    )
    own = F.one_hot(classes, WIDTH).bool()
    return F.cross_entropy(scale * torch.where(own, turned, cosine), classes)


def focal(x, gamma=2.0):
    log_p = F.log_softmax(x, 1)[torch.arange(ROWS), classes]
    return -((1 - log_p.exp()) ** gamma * log_p).mean()


losses = {
    "cross_entropy": lambda x: F.cross_entropy(x, classes, weight=weights, label_smoothing=0.1),
    "focal": focal,
    "binary_cross_entropy": lambda x: F.binary_cross_entropy_with_logits(x, labels, pos_weight=weights),
    "mse": lambda x: F.mse_loss(x, values),
    "huber": lambda x: F.huber_loss(x, values, delta=0.7),
    "supervised_contrastive": contrastive,
    "triplet_hard": hard,
    "triplet_semi_hard": semi_hard,
    "arcface": arcface,
    "multiple_negatives_ranking": ranking(False),
    "multiple_negatives_ranking_symmetric": ranking(True),
    "fields_ranking": ranking_of_fields(False),
    "fields_ranking_symmetric": ranking_of_fields(True),
    "fields_triplet": triplet_of_fields,
}
# Embeddings of length one, and cosines times their scale.
unit = F.normalize(outputs, dim=1)
inputs = {name: unit for name in losses if name == "supervised_contrastive" or name.startswith("multiple")}
of_fields = F.normalize(outputs.reshape(ROWS, 3, 2), dim=2).reshape(ROWS, WIDTH)
inputs |= {name: of_fields for name in losses if name.startswith("fields_ranking")}
inputs["arcface"] = 16 * outputs * 0.999
result = {}
for name, loss in losses.items():
    x = inputs.get(name, outputs).clone().requires_grad_()
    value = loss(x)
    value.backward()
    result[name] = {"outputs": x.detach().flatten().tolist(), "loss": value.item(), "gradient": x.grad.flatten().tolist()}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
