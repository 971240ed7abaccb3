"""Writes train.json: 20 steps of training by PyTorch, to which caft's trainers are held.

Run with PyTorch 2.x, timm and scikit-learn: python tests/reference/train.py
"""

import json
import pathlib

import timm.optim
import torch
from sklearn.linear_model import LogisticRegression

ROWS, WIDTH, CLASSES, BATCH, STEPS = 40, 6, 3, 8, 20


def numbers(n, factor, modulus):
    """Numbers in -1..1 that any language makes exactly."""
    return torch.tensor([(i * factor) % modulus for i in range(n)], dtype=torch.float32) / (modulus // 2) - 1


def batches():
    """Rows of step s: (8 s + 3 k) mod 40 for k in 0..8."""
    return [[(BATCH * s + 3 * k) % ROWS for k in range(BATCH)] for s in range(STEPS)]


def linear():
    model = torch.nn.Linear(WIDTH, CLASSES)
    with torch.no_grad():
        model.weight.copy_(0.3 * numbers(CLASSES * WIDTH, 29, 61).reshape(CLASSES, WIDTH))
        model.bias.copy_(0.1 * numbers(CLASSES, 17, 31))
    return model


def run(make_optimizer, make_scheduler=None, loss=None, clip_norm=None, accumulate=1, ema=None):
    x = numbers(ROWS * WIDTH, 37, 101).reshape(ROWS, WIDTH)
    y = torch.tensor([(i * 7 + i // 3) % CLASSES for i in range(ROWS)])
    model = linear()
    groups = [{"params": [model.weight]}, {"params": [model.bias], "weight_decay": 0.0}]
    optimizer = make_optimizer(groups)
    scheduler = make_scheduler(optimizer) if make_scheduler else None
    loss = loss or torch.nn.CrossEntropyLoss()
    average = ema and torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(ema))
    losses = []
    for i, rows in enumerate(batches()):
        value = loss(model(x[rows]), y[rows])
        if i % accumulate == 0:
            optimizer.zero_grad()
        (value / accumulate).backward()
        losses.append(value.item())
        if (i + 1) % accumulate:
            continue
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        if scheduler:
            scheduler.step()
        if ema:
            average.update_parameters(model)
    model = average.module if ema else model
    return {"losses": losses, "weight": model.weight.flatten().tolist(), "bias": model.bias.tolist()}


optim = torch.optim
cosine = lambda o: optim.lr_scheduler.CosineAnnealingLR(o, T_max=STEPS, eta_min=0.01)
smooth = torch.nn.CrossEntropyLoss(label_smoothing=0.1, weight=torch.tensor([0.5, 1.0, 2.0]))
result = {
    "adamw": run(lambda g: optim.AdamW(g, lr=0.05, weight_decay=0.1)),
    "sgd_cosine": run(lambda g: optim.SGD(g, lr=0.2, momentum=0.9, weight_decay=0.01), cosine),
    "sgd_nesterov": run(lambda g: optim.SGD(g, lr=0.1, momentum=0.8, nesterov=True)),
    "sgd_clipped": run(lambda g: optim.SGD(g, lr=0.5, momentum=0.9), clip_norm=0.2),
    "sgd_plain": run(lambda g: optim.SGD(g, lr=0.1)),
    "adam": run(lambda g: optim.Adam(g, lr=0.05, weight_decay=0.1)),
    "lamb": run(lambda g: timm.optim.Lamb(g, lr=0.05, weight_decay=0.1, max_grad_norm=None, always_adapt=True)),
    "sgd_accumulated": run(lambda g: optim.SGD(g, lr=0.1, momentum=0.9), accumulate=4),
    "adamw_averaged": run(lambda g: optim.AdamW(g, lr=0.05), ema=0.8),
    "adamw_smooth_weighted": run(lambda g: optim.AdamW(g, lr=0.05), loss=smooth),
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")

# The exact minimum of the mean loss plus 0.01 / 2 · |weight|².
x = numbers(ROWS * WIDTH, 37, 101).reshape(ROWS, WIDTH).numpy()
y = [(i * 7 + i // 3) % CLASSES for i in range(ROWS)]
exact = LogisticRegression(C=1 / (0.01 * ROWS), tol=1e-10, max_iter=10000).fit(x, y)
result = {"weight": exact.coef_.flatten().tolist(), "bias": exact.intercept_.tolist()}
pathlib.Path(__file__).with_name("logistic.json").write_text(json.dumps(result, indent=1) + "\n")
