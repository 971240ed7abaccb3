"""Rows per second of a PyTorch loop over a tail of a network; one JSON object on standard output."""

import json
import sys
import time

import torch
from torch import nn

name = sys.argv[1]
rows, classes, batch, epochs = map(int, sys.argv[2:6])


class Basic(nn.Module):
    def __init__(self, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(width, 512, 3, stride, 1)
        self.conv2 = nn.Conv2d(512, 512, 3, 1, 1)
        self.downsample = nn.Conv2d(width, 512, 1, 2) if stride == 2 else nn.Identity()

    def forward(self, x):
        y = self.conv2(torch.relu(self.conv1(x)))
        return torch.relu(y + self.downsample(x))


class Resnet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stage = nn.Sequential(Basic(256, 2), Basic(512, 1))
        self.head = nn.Linear(512, classes)

    def forward(self, x):
        return self.head(self.stage(x).mean((2, 3)))


class Vit(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2, self.norm = (nn.LayerNorm(768, eps=1e-6) for _ in range(3))
        self.qkv, self.proj = nn.Linear(768, 3 * 768), nn.Linear(768, 768)
        self.mlp = nn.Sequential(nn.Linear(768, 3072), nn.GELU(), nn.Linear(3072, 768))
        self.head = nn.Linear(768, classes)

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, t, 3, 12, 64).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(y.transpose(1, 2).reshape(n, t, d))
        x = x + self.mlp(self.norm2(x))
        return self.head(self.norm(x)[:, 0])


net, shape = (Resnet(), (256, 14, 14)) if name.startswith("resnet") else (Vit(), (197, 768))
x, y = torch.rand(rows, *shape) * 2 - 1, torch.randint(0, classes, (rows,))
loss = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
times = []
for _ in range(epochs + 1):
    start = time.perf_counter()
    order = torch.randperm(rows)
    for first in range(0, rows, batch):
        chosen = order[first : first + batch]
        value = loss(net(x[chosen]), y[chosen])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    times.append(time.perf_counter() - start)
print(json.dumps({
    "version": torch.__version__,
    "threads": torch.get_num_threads(),
    # The first epoch warms up.
    "indexing": rows / sorted(times[1:])[epochs // 2],
}))
