"""Linear heads by PyTorch and scikit-learn; prints seconds per head as JSON.

Arguments: rows, width, classes, batch size, epochs, heads.
"""

import json
import sys
import time
import warnings

import sklearn
import torch
from sklearn.linear_model import LogisticRegression

rows, width, classes, batch_size, epochs, heads = map(int, sys.argv[1:7])
torch.manual_seed(0)
x = torch.rand(rows, width) * 2 - 1
y = torch.arange(rows) % classes
loss = torch.nn.CrossEntropyLoss()


def slicing():
    head = torch.nn.Linear(width, classes)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    for _ in range(epochs):
        order = torch.randperm(rows)
        for start in range(0, rows, batch_size):
            batch = order[start : start + batch_size]
            optimizer.zero_grad()
            loss(head(x[batch]), y[batch]).backward()
            optimizer.step()


def loader():
    head = torch.nn.Linear(width, classes)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size, shuffle=True)
    for _ in range(epochs):
        for features, targets in data:
            optimizer.zero_grad()
            loss(head(features), targets).backward()
            optimizer.step()


def stacked():
    weight = torch.nn.Parameter((torch.rand(heads * classes, width) * 2 - 1) / width**0.5)
    bias = torch.nn.Parameter(torch.zeros(heads * classes))
    optimizer = torch.optim.AdamW([weight, bias], lr=1e-3)
    for _ in range(epochs):
        order = torch.randperm(rows)
        for start in range(0, rows, batch_size):
            batch = order[start : start + batch_size]
            optimizer.zero_grad()
            logits = torch.nn.functional.linear(x[batch], weight, bias).view(-1, heads, classes)
            targets = y[batch, None].expand(-1, heads)
            # The sum of the heads' own means.
            (loss(logits.reshape(-1, classes), targets.reshape(-1)) * heads).backward()
            optimizer.step()


def logistic():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        LogisticRegression().fit(x.numpy(), y.numpy())


def seconds(body, times):
    start = time.perf_counter()
    for _ in range(times):
        body()
    return (time.perf_counter() - start) / times


few = max(1, heads // 4)
print(
    json.dumps(
        {
            "pytorch": torch.__version__,
            "sklearn": sklearn.__version__,
            "threads": torch.get_num_threads(),
            "slicing": seconds(slicing, few),
            "loader": seconds(loader, max(1, heads // 10)),
            "stacked": seconds(stacked, 1) / heads,
            "logistic": seconds(logistic, few),
        }
    )
)
