"""Writes tests/reference/tails/: tiny networks as ONNX files, and what PyTorch makes of them.

Each network is `stem` and `tail`; what is trained is `tail`. For its input, numbers by a formula, the JSON file
holds the tail's output and, for each weight, numbers of its gradient that do not depend on the order of its
elements: sums of g·g, g·w, g·w² and |g|, for the objective Σ output · numbers.

Needs torch, torchvision, timm, transformers and onnx: `python tests/reference/tails.py`.
"""

import copy
import json
import pathlib
import warnings

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

warnings.filterwarnings("ignore")
FOLDER = pathlib.Path(__file__).parent / "tails"
ROWS = 3


def numbers(n, factor, modulus):
    return torch.tensor([(i * factor % modulus) / (modulus // 2) - 1.0 for i in range(n)], dtype=torch.float32)


def fold(module):
    """Batch norms become part of the convolutions before them, wherever they follow each other by name."""
    for parent in list(module.modules()):
        names = list(parent._modules)
        for a, b in zip(names, names[1:]):
            conv, norm = parent._modules[a], parent._modules[b]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                parent._modules[a] = fuse_conv_bn_eval(conv, norm)
                parent._modules[b] = nn.Identity()
    return module


def resnet():
    from torchvision.models.resnet import BasicBlock

    down = nn.Sequential(nn.Conv2d(4, 6, 1, 2, bias=False), nn.BatchNorm2d(6))
    return nn.Sequential(BasicBlock(4, 6, 2, down), BasicBlock(6, 6), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def bottleneck():
    from torchvision.models.resnet import Bottleneck

    down = nn.Sequential(nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8))
    return nn.Sequential(Bottleneck(4, 2, 1, down, groups=1, dilation=2), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def vgg():
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 10), nn.ReLU(), nn.Linear(10, 5),
    )


def densenet():
    from torchvision.models.densenet import _DenseBlock, _Transition

    block = _DenseBlock(2, 4, 2, 3, 0.0)
    return nn.Sequential(block, _Transition(10, 5), nn.BatchNorm2d(5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def mobilenet_v2():
    from torchvision.models.mobilenetv2 import InvertedResidual

    blocks = [InvertedResidual(4, 6, 2, 2), InvertedResidual(6, 6, 1, 2)]
    return nn.Sequential(*blocks, nn.Conv2d(6, 8, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def mobilenet_v3():
    from functools import partial
    from torchvision.models.mobilenetv3 import InvertedResidual, InvertedResidualConfig

    config = InvertedResidualConfig(8, 5, 8, 8, True, "HS", 1, 1, 1.0)
    block = InvertedResidual(config, partial(nn.BatchNorm2d, eps=0.001))
    return nn.Sequential(nn.Conv2d(4, 8, 1), block, nn.Conv2d(8, 6, 1), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def efficientnet():
    from functools import partial
    from torchvision.models.efficientnet import MBConv, MBConvConfig

    config = MBConvConfig(2, 3, 1, 8, 8, 1, 1.0, 1.0)
    block = MBConv(config, 0.0, partial(nn.BatchNorm2d, eps=0.001))
    return nn.Sequential(nn.Conv2d(4, 8, 1), block, nn.Conv2d(8, 6, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def convnext():
    from functools import partial
    from torchvision.models.convnext import CNBlock, LayerNorm2d

    norm = partial(nn.LayerNorm, eps=1e-6)
    return nn.Sequential(
        LayerNorm2d(4, eps=1e-6), nn.Conv2d(4, 6, 2, 2), CNBlock(6, 0.5, 0.0, norm), nn.AdaptiveAvgPool2d(1),
        LayerNorm2d(6, eps=1e-6), nn.Flatten(),
    )


def vit():
    from timm.models.vision_transformer import Block

    return nn.Sequential(Block(8, 2, mlp_ratio=2.0, qkv_bias=True, init_values=0.3), nn.LayerNorm(8))


def vit_torchvision():
    from functools import partial
    from torchvision.models.vision_transformer import EncoderBlock

    block = EncoderBlock(2, 8, 16, 0.0, 0.0, partial(nn.LayerNorm, eps=1e-6))
    return nn.Sequential(block, nn.LayerNorm(8))


class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        from transformers import BertConfig
        from transformers.models.bert.modeling_bert import BertLayer

        config = BertConfig(
            hidden_size=8, num_attention_heads=2, intermediate_size=12, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0, attn_implementation="eager",
        )
        self.layer = BertLayer(config)

    def forward(self, x, mask):
        y = self.layer(x, mask)
        return y[0] if isinstance(y, tuple) else y


class Whole(nn.Module):
    def __init__(self, stem, tail):
        super().__init__()
        self.stem, self.tail = stem, tail

    def forward(self, x, *more):
        return self.tail(self.stem(x), *more)


CASES = {
    "resnet": (resnet, [4, 6, 6], True),
    "resnet_norms": (resnet, [4, 6, 6], False),
    "bottleneck": (bottleneck, [4, 5, 5], True),
    "vgg": (vgg, [4, 4, 4], True),
    "densenet": (densenet, [4, 4, 4], True),
    "mobilenet_v2": (mobilenet_v2, [4, 5, 5], True),
    "mobilenet_v3": (mobilenet_v3, [4, 5, 5], True),
    "efficientnet": (efficientnet, [4, 4, 4], True),
    "convnext": (convnext, [4, 4, 4], True),
    "vit": (vit, [5, 8], True),
    "vit_torchvision": (vit_torchvision, [5, 8], True),
    "bert": (Bert, [5, 8], True),
}


def randomise(module):
    for i, (name, parameter) in enumerate(module.named_parameters()):
        generator = torch.Generator().manual_seed(i)
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            scale = parameter.dim() == 1 and name.endswith("weight")
            parameter.copy_(1.0 + 0.2 * noise if scale else 0.4 * noise)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(0.1 * numbers(len(buffer), 3, 7))
        if name.endswith("running_var"):
            buffer.copy_(1.0 + 0.5 * numbers(len(buffer), 5, 11))


def stored(weights, name, parameter):
    """The initialiser that is this parameter: by its name, or by its values as they are or transposed."""
    value = parameter.detach().numpy()
    for candidate, array in weights.items():
        for form in [value] + ([value.T] if value.ndim == 2 else []):
            if array.shape == form.shape and np.array_equal(array, form):
                return candidate
    raise SystemExit(f"{name} is not in the file")


def case(name, make, shape, folded):
    torch.manual_seed(0)
    tail = make()
    randomise(tail)
    tail.eval()
    if folded:
        tail = fold(tail).requires_grad_(True)
    stem = nn.Conv2d(4, 4, 1) if len(shape) == 3 else nn.Linear(8, 8)
    whole = Whole(stem, tail).eval()
    if name == "resnet_norms":
        tail.train()
    x = numbers(ROWS * int(np.prod(shape)), 37, 101).reshape(ROWS, *shape)
    inputs, names = [x], ["x"]
    if name == "bert":
        keep = torch.ones(ROWS, 1, 1, shape[0])
        keep[1, ..., 3:] = 0
        inputs, names = [x, (1.0 - keep) * -10000.0], ["x", "mask"]
    path = FOLDER / f"{name}.onnx"
    torch.onnx.export(
        copy.deepcopy(whole), tuple(inputs), str(path), input_names=names, output_names=["y"], opset_version=17,
        dynamic_axes={n: {0: "batch"} for n in [*names, "y"]}, dynamo=False, do_constant_folding=True,
        training=torch.onnx.TrainingMode.PRESERVE if name == "resnet_norms" else torch.onnx.TrainingMode.EVAL,
    )
    model = onnx.load(path)
    del model.graph.value_info[:]
    model.producer_name = model.producer_version = ""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.save(model, path)
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}

    y = tail(*inputs)
    (y * numbers(y.numel(), 29, 61).reshape(y.shape)).sum().backward()
    grads = {}
    for parameter_name, parameter in tail.named_parameters():
        g, w = parameter.grad.double().flatten(), parameter.detach().double().flatten()
        sums = [(g * g).sum(), (g * w).sum(), (g * w * w).sum(), g.abs().sum()]
        grads[stored(weights, parameter_name, parameter)] = [float(f"{s.item():.9g}") for s in sums]
    result = {
        "shapes": [list(i.shape[1:]) for i in inputs],
        "training": name == "resnet_norms",
        "output": [float(f"{v:.7g}") for v in y.detach().flatten().tolist()],
        "grads": grads,
    }
    print(name, path.stat().st_size, len(grads), y.shape)
    return result


def main():
    FOLDER.mkdir(exist_ok=True)
    results = {name: case(name, *spec) for name, spec in CASES.items()}
    text = ",\n".join(f' "{name}": {json.dumps(result)}' for name, result in results.items())
    (FOLDER / "gradients.json").write_text("{\n" + text + "\n}\n")


main()
