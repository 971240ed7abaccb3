"""Writes necks.json: what PyTorch gives for necks with parameters set to fixed numbers.

Run with PyTorch 2.x: python tests/reference/necks.py
"""

import json
import pathlib

import torch

TOKENS, DIM, HEADS = 5, 6, 2


def numbers(n, factor, modulus):
    """Numbers in -1..1 that any language makes exactly."""
    values = [(i * factor + i * i % 97 * 5) % modulus for i in range(n)]
    return torch.tensor(values, dtype=torch.float32) / (modulus // 2) - 1


def fill(*shape, factor):
    n = int(torch.tensor(shape).prod())
    return 0.5 * numbers(n, factor, 211).reshape(shape)


x = numbers(2 * TOKENS * DIM, 367, 1009).reshape(2, TOKENS, DIM)
layer = torch.nn.TransformerEncoderLayer(DIM, HEADS, 2 * DIM, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
with torch.no_grad():
    q, k, v = (fill(DIM, DIM, factor=f) for f in [17, 19, 23])
    layer.self_attn.in_proj_weight.copy_(torch.cat([q, k, v]))
    layer.self_attn.in_proj_bias.copy_(torch.cat([fill(DIM, factor=f) for f in [29, 31, 37]]))
    for module, factor in [(layer.self_attn.out_proj, 41), (layer.linear1, 43), (layer.linear2, 47)]:
        module.weight.copy_(fill(*module.weight.shape, factor=factor))
        module.bias.copy_(fill(*module.bias.shape, factor=factor + 12))
norm = torch.nn.LayerNorm(DIM)
query = fill(HEADS, DIM, factor=53)
weights = (x @ query.T).transpose(1, 2).softmax(-1)
probe = torch.nn.BatchNorm1d(DIM, affine=False, eps=1e-6)
probe.train()
trained = probe(x[:, 0])
result = {
    "transformer": norm(layer(x)).flatten().tolist(),
    "attention_pool": (weights @ x).flatten().tolist(),
    "batch_norm": trained.flatten().tolist(),
    "running_mean": probe.running_mean.tolist(),
    "running_variance": probe.running_var.tolist(),
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
