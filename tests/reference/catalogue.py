"""Proves catalogue entries: exports each architecture at full size with random weights, and compares.

For every entry whose weights are exported from torchvision or timm, the framework's model is built with
random weights, exported as the entry says (its `modules` become named outputs), and run by ONNX Runtime
on random pictures in a batch of two. Every named output, after its `select`, must have the entry's shape
and agree with the framework's own forward pass (cosine >= 0.9999). The preprocess must be that of the
named weights.

    python tests/reference/catalogue.py [NAME ...] > table.md

Needs torch, torchvision, timm, onnx, onnxruntime, numpy and pyyaml.
"""

import glob
import math
import os
import sys
import tempfile
import warnings

import numpy as np
import onnxruntime
import torch
import yaml

warnings.filterwarnings("ignore")
torch.manual_seed(0)
torch.set_num_threads(int(os.environ.get("THREADS", "1")))
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def merge(base, over):
    """Maps merge, a changed kind replaces its map; as src/backbone/catalogue.rs does."""
    if isinstance(base, dict) and isinstance(over, dict) and over.get("kind") in (None, base.get("kind")):
        return {key: merge(base.get(key), over[key]) if key in over else base[key] for key in {**base, **over}}
    return over


def entries():
    for path in sorted(glob.glob(os.path.join(ROOT, "configs", "backbones", "*.yaml"))):
        family = yaml.safe_load(open(path))
        variants = family.pop("variants")
        for name, own in variants.items():
            yield name, merge(family, own or {})


def build(model, weights):
    """The model with random weights, and the preprocess of its published ones."""
    source, name = model.split(":", 1)
    if source == "torchvision":
        from torchvision import models

        extra = {"init_weights": False} if name == "inception_v3" else {}
        if name.startswith(("deeplab", "fcn", "lraspp", "fasterrcnn", "ssd")):
            extra["weights_backbone"] = None
        transform = models.get_model_weights(name)[weights].transforms()
        net = models.get_model(name, weights=None, **extra)
        crop = getattr(transform, "crop_size", [None])[0]
        resize = getattr(transform, "resize_size", [None])[0]
        published = (resize, crop, getattr(transform, "mean", None), getattr(transform, "std", None))
    else:
        import timm

        config = timm.get_pretrained_cfg(name)
        net = timm.create_model(name, pretrained=False)
        size = config.input_size[-1]
        # CLIP's own transform brings the shorter side to the input's size.
        resize = size if "clip" in name else math.floor(size / config.crop_pct)
        published = (resize, size, config.mean, config.std)
    return net.eval(), published


def module(net, path):
    for part in path.split("."):
        net = getattr(net, part)
    return net


class Named(torch.nn.Module):
    """The model with some modules' outputs (or inputs) as its own outputs."""

    def __init__(self, net, modules):
        super().__init__()
        self.net, self.modules_by_name, self.taken = net, modules, {}
        for name, path in modules.items():
            if path.endswith(":input"):
                inner = module(net, path[: -len(":input")])
                inner.register_forward_pre_hook(lambda _, given, name=name: self.keep(name, given[0]))
            else:
                module(net, path).register_forward_hook(lambda _, given, out, name=name: self.keep(name, out))

    def keep(self, name, value):
        # A copy, for a later layer may work in place.
        self.taken[name] = value * 1.0

    def forward(self, image):
        self.net(image)
        return tuple(self.taken[name] for name in self.modules_by_name)


def select(value, how):
    how = how or {"kind": "all"}
    start = how.get("from", 0)
    return {
        "all": lambda: value,
        "token": lambda: value[:, how["index"]],
        "tokens": lambda: value[:, start:],
        "mean_tokens": lambda: value[:, start : how.get("to")].mean(1),
        "gap": lambda: value.mean((2, 3)),
        "gap_last": lambda: value.mean((1, 2)),
        "flatten": lambda: value.reshape(len(value), -1),
    }[how["kind"]]()


def prove(name, entry):
    export = entry["weights"]["export"]
    net, (resize, crop, mean, std) = build(export["model"], export.get("weights"))
    given = entry["preprocess"]
    size = entry["input"]["size"]
    if crop is not None:
        assert given["resize"]["size"] == resize and given["crop"] == crop == size, f"preprocess {given}"
    if mean is not None:
        assert np.allclose(given["mean"], mean) and np.allclose(given["std"], std), f"preprocess {given}"
    if "part" in export:
        net = module(net, export["part"])
    # Random running statistics, so that BatchNorm in the wrong mode would show.
    for part in net.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.uniform_(-0.1, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    named = Named(net, export["modules"]).eval()
    image = torch.randn(2, 3, size, size)
    names = list(export["modules"])
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        expected = dict(zip(names, (value.numpy() for value in named(image))))
        path = os.path.join(folder, "model.onnx")
        axes = {key: {0: "batch"} for key in [entry["input"]["name"], *names]}
        torch.onnx.export(
            named, image, path, input_names=[entry["input"]["name"]], output_names=names, dynamic_axes=axes,
            opset_version=17, dynamo=False,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        got = dict(zip(names, session.run(names, {entry["input"]["name"]: image.numpy()})))
    worst = 1.0
    for key, output in entry["outputs"].items():
        ours, theirs = (select(values[output["tensor"]], output.get("select")) for values in (got, expected))
        assert list(ours.shape[1:]) == output["shape"], f"{key} has shape {ours.shape[1:]}, not {output['shape']}"
        for one, other in zip(ours.reshape(2, -1).astype(np.float64), theirs.reshape(2, -1).astype(np.float64)):
            worst = min(worst, float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other))))
    assert worst >= 0.9999, f"cosine {worst}"
    parameters = sum(value.numel() for value in net.parameters())
    first = next(iter(entry["outputs"].values()))["shape"]
    return f"| `{name}` | {export['model']} | {parameters / 1e6:.1f} M | {size} | {first} | {len(entry['outputs'])} | {worst:.6f} |"


def main():
    print("| entry | exported from | parameters | input | first output | outputs | worst cosine |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    failed = []
    for name, entry in entries():
        export = entry["weights"].get("export", {})
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        if not export.get("model", "").startswith(("torchvision:", "timm:")) or not export.get("modules"):
            continue
        try:
            print(prove(name, entry), flush=True)
        except Exception as error:  # every entry is tried
            failed.append(name)
            print(f"{name}: {type(error).__name__}: {error}".splitlines()[0][:300], file=sys.stderr, flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
