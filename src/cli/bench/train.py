"""Rows per second of PyTorch loops over features in memory; one JSON object on standard output."""

import json
import sys
import time

import torch

rows, width, hidden, classes, batch, epochs = map(int, sys.argv[1:7])
x, y = torch.randn(rows, width), torch.randint(0, classes, (rows,))


def model():
    if not hidden:
        return torch.nn.Linear(width, classes)
    return torch.nn.Sequential(torch.nn.Linear(width, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, classes))


def indexing():
    order = torch.randperm(rows)
    for start in range(0, rows, batch):
        chosen = order[start : start + batch]
        yield x[chosen], y[chosen]


def measure(batches, epochs):
    net, loss = model(), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    times = []
    for _ in range(epochs + 1):
        start = time.perf_counter()
        for inputs, targets in batches():
            value = loss(net(inputs), targets)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        times.append(time.perf_counter() - start)
    # The first epoch warms up.
    return rows / sorted(times[1:])[epochs // 2]


loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=batch, shuffle=True)
print(json.dumps({
    "version": torch.__version__,
    "threads": torch.get_num_threads(),
    "indexing": measure(indexing, epochs),
    "loader": measure(lambda: loader, max(1, epochs // 3)),
}))
