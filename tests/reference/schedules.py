"""Writes schedules.json: PyTorch's learning rates over 5 epochs of 4 steps, from 0.1.

Run with PyTorch 2.x: python tests/reference/schedules.py
"""

import json
import pathlib

import torch

EPOCHS, STEPS = 5, 4
S = torch.optim.lr_scheduler


def rates(make, per_epoch=False):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))], lr=0.1)
    scheduler, found = make(optimizer), []
    for step in range(EPOCHS * STEPS):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if step + 1 < EPOCHS * STEPS and (not per_epoch or (step + 1) % STEPS == 0):
            scheduler.step()
    return found


N = EPOCHS * STEPS
result = {
    "cosine": rates(lambda o: S.CosineAnnealingLR(o, T_max=N, eta_min=0.01)),
    "linear": rates(lambda o: S.LinearLR(o, start_factor=1.0, end_factor=0.1, total_iters=N)),
    "step": rates(lambda o: S.StepLR(o, step_size=2, gamma=0.5), per_epoch=True),
    "multi_step": rates(lambda o: S.MultiStepLR(o, milestones=[1, 3], gamma=0.5), per_epoch=True),
    "exponential": rates(lambda o: S.ExponentialLR(o, gamma=0.5), per_epoch=True),
    "polynomial": rates(lambda o: S.PolynomialLR(o, total_iters=N, power=2.0)),
    "one_cycle": rates(lambda o: S.OneCycleLR(o, max_lr=0.1, total_steps=N)),
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")

values = [0.5, 0.6, 0.602, 0.58, 0.61, 0.61, 0.4, 0.39, 0.7, 0.69, 0.68, 0.66, 0.65, 0.64]


def plateau(mode):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))], lr=0.1)
    scheduler = S.ReduceLROnPlateau(optimizer, mode=mode, factor=0.5, patience=1, threshold=0.01, min_lr=0.02)
    found = [0.1]
    for value in values:
        scheduler.step(value)
        found.append(float(optimizer.param_groups[0]["lr"]))
    return found


result = {"values": values, "max": plateau("max"), "min": plateau("min")}
pathlib.Path(__file__).with_name("plateau.json").write_text(json.dumps(result, indent=1) + "\n")
