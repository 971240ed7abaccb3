"""Writes tests/reference/live/: exports of whole networks to be trained from their inputs on, and PyTorch's losses.

`net.onnx` is a convolutional network of torchvision's blocks as `caft engine export --train` makes it, whose BatchNorm
trains on each batch; `bert.onnx` and `distilbert.onnx` are text classifiers of transformers as its exports are, with
attention written out (`eager`) and as PyTorch's operator (`sdpa`). `losses.json` has for each the loss of every step of
gradient descent on all rows, and the loss of the evaluation mode behind them.

Needs torch, torchvision, transformers and onnx: `python tests/reference/live.py`.
"""

import copy
import json
import pathlib
import sys
import warnings

import onnx
import torch
from torch import nn

warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).parent
FOLDER = HERE / "live"
sys.path.insert(0, str(HERE.parent.parent / "src/cli/engine"))
STEPS, LR = 10, 0.1
SIZE = 16


def picture(number):
    """The picture of a number, of whole values from 0 to 255, as the test draws it."""
    at = torch.arange(3 * SIZE * SIZE).reshape(3, SIZE, SIZE)
    channel, y, x = at // (SIZE * SIZE), at // SIZE % SIZE, at % SIZE
    warm = number % 2
    value = (x * (3 + number) + y * (5 + 2 * number) + channel * 29) % 97
    value = value + torch.where(channel == (0 if warm else 2), 120, 20)
    return value.float() / 255


# Words behind the four special tokens, and texts of one to five of them.
WORDS = ["good", "fine", "great", "bad", "poor", "dull", "film", "plot"]
TEXTS = [[WORDS[(number * 5 + place * 3) % 8] for place in range(1 + number % 5)] for number in range(10)]
LABELS = [number % 2 for number in range(10)]
TOKENS = 8


def randomise(net):
    for i, (name, parameter) in enumerate(net.named_parameters()):
        noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
        scale = parameter.dim() == 1 and name.endswith("weight")
        with torch.no_grad():
            parameter.copy_(1 + 0.2 * noise if scale else 0.5 * noise)


def losses(net, inputs, targets):
    net.train()
    steps, optimizer = [], torch.optim.SGD(net.parameters(), LR, momentum=0.9)
    for _ in range(STEPS):
        loss = nn.functional.cross_entropy(net(*inputs), targets)
        steps.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        after = nn.functional.cross_entropy(net(*inputs), targets).item()
    return {"steps": [float(f"{loss:.7g}") for loss in steps], "after": float(f"{after:.7g}")}


def plain(path):
    """Without what an exporter says of itself."""
    model = onnx.load(path)
    del model.graph.value_info[:]
    model.producer_name = model.producer_version = ""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.save(model, path)
    print(path.name, path.stat().st_size)


def net():
    import export
    from torchvision.models.mobilenetv2 import InvertedResidual
    from torchvision.ops import Conv2dNormActivation

    blocks = [InvertedResidual(4, 6, 2, 2), InvertedResidual(6, 6, 1, 2)]
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)]
    net = nn.Sequential(Conv2dNormActivation(3, 4, 3, 2), *blocks, *last)
    randomise(net)
    path = FOLDER / "net.onnx"
    request = {"size": SIZE, "input": "image", "out": str(path), "train": True}
    export.export(copy.deepcopy(net).eval(), ["logits"], request)
    plain(path)
    pictures = torch.stack([picture(number) for number in range(10)])
    return losses(net, [(pictures - 0.5) / 0.25], torch.tensor([number % 2 for number in range(10)]))


class Logits(nn.Module):
    def __init__(self, net, names):
        super().__init__()
        self.net, self.names = net, names

    def forward(self, *inputs):
        return self.net(**dict(zip(self.names, inputs))).logits


def text(name, attention):
    import transformers

    sizes = {"vocab_size": 12, "num_labels": 2, "max_position_embeddings": 10}
    if name == "bert":
        config = transformers.BertConfig(
            **sizes, hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=12,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )
        kind, names = transformers.BertForSequenceClassification, ["input_ids", "attention_mask", "token_type_ids"]
    else:
        config = transformers.DistilBertConfig(
            **sizes, dim=8, n_heads=2, n_layers=1, hidden_dim=12, dropout=0.0, attention_dropout=0.0,
            seq_classif_dropout=0.0,
        )
        kind, names = transformers.DistilBertForSequenceClassification, ["input_ids", "attention_mask"]
    net = kind._from_config(config, attn_implementation=attention)
    randomise(net)
    net = Logits(net, names)
    ids = torch.zeros(len(TEXTS), TOKENS, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, words in enumerate(TEXTS):
        tokens = [2, *(4 + WORDS.index(word) for word in words), 3]
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    inputs = [ids, mask, torch.zeros_like(ids)][: len(names)]
    path = FOLDER / f"{name}.onnx"
    axes = {key: {0: "batch", 1: "tokens"} for key in names} | {"logits": {0: "batch"}}
    torch.onnx.export(
        copy.deepcopy(net).eval(), tuple(inputs), str(path), input_names=names, output_names=["logits"],
        opset_version=17, dynamic_axes=axes, dynamo=False,
    )
    plain(path)
    return losses(net, inputs, torch.tensor(LABELS))


def main():
    FOLDER.mkdir(exist_ok=True)
    results = {"net": net(), "bert": text("bert", "eager"), "distilbert": text("distilbert", "sdpa")}
    text_of = ",\n".join(f' "{name}": {json.dumps(result)}' for name, result in results.items())
    (FOLDER / "losses.json").write_text("{\n" + text_of + "\n}\n")


main()
