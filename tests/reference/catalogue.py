"""Proves catalogue entries: exports each architecture at full size with random weights, builds its engine, compares.

For every entry that is exported from a framework, the framework's model is built with
random weights and exported by the script that `caft engine export` runs. `caft engine build` then cuts it, and the
engine is run by ONNX Runtime on random pictures in a batch of two. Every named output must have the entry's
shape and agree with the framework's own forward pass (cosine >= 0.9999), and a picture must give the same bits
in every batch. The preprocess must be that of the named weights.

    python tests/reference/catalogue.py CAFT [NAME ...]

prints the table's rows and puts them into `configs/backbones/README.md`, in the order of the entries, with the counts above
them; an entry that says less than `exported` is named, to be marked by hand. CAFT is the program; it needs its ONNX Runtime (`caft runtime add cpu`). Python needs torch, torchvision, timm,
transformers, onnx, onnxruntime, numpy and pyyaml; entries of OpenCLIP and Ultralytics need these, and entries of a repository
a checkout of it in the folder CHECKOUTS, and are passed over without.
"""

import glob
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnxruntime
import torch
import yaml

warnings.filterwarnings("ignore")
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


def exporter():
    """The script inside the program."""
    path = os.path.join(ROOT, "src", "cli", "engine", "export.py")
    spec = importlib.util.spec_from_file_location("caft_export", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EXPORT = exporter()


def published(model, weights):
    """The preprocess of the published weights: resize, crop, mean, deviation; None where it is not told."""
    source, name = model.split(":", 1)
    if source == "torchvision":
        from torchvision import models

        transform = models.get_model_weights(name)[weights].transforms()
        crop = getattr(transform, "crop_size", [None])[0]
        resize = getattr(transform, "resize_size", [None])[0]
        return resize, crop, getattr(transform, "mean", None), getattr(transform, "std", None)
    if source == "timm":
        import timm

        config = timm.get_pretrained_cfg(name)
        size = config.input_size[-1]
        # CLIP's own transform brings the shorter side to the input's size.
        resize = size if "clip" in name else math.floor(size / config.crop_pct)
        return resize, size, config.mean, config.std
    return None, None, None, None


def configuration(repo):
    """The configurations of transformers' models, which the hub has beside the weights."""
    import transformers as t

    mit = {
        "b0": ([2, 2, 2, 2], [32, 64, 160, 256]),
        "b1": ([2, 2, 2, 2], [64, 128, 320, 512]),
        "b2": ([3, 4, 6, 3], [64, 128, 320, 512]),
        "b3": ([3, 4, 18, 3], [64, 128, 320, 512]),
        "b4": ([3, 8, 27, 3], [64, 128, 320, 512]),
        "b5": ([3, 6, 40, 3], [64, 128, 320, 512]),
    }
    if repo.startswith("nvidia/mit-"):
        depths, sizes = mit[repo[-2:]]
        return t.SegformerConfig(depths=depths, hidden_sizes=sizes)
    if repo.startswith("facebook/detr-resnet-"):
        depth = repo.rsplit("-", 1)[1]
        return t.DetrConfig(use_timm_backbone=True, backbone=f"resnet{depth}", use_pretrained_backbone=False)
    if repo.startswith("openai/clip-vit-"):
        large = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
        extra = {**large, "projection_dim": 768} if "large" in repo else {"projection_dim": 512}
        return t.CLIPVisionConfig(patch_size=int(repo[-2:]), image_size=224, **extra)
    if repo.startswith("Salesforce/blip-"):
        return t.BlipConfig()
    if repo.startswith("google/vit-base-patch16-224"):
        return t.ViTConfig()
    raise KeyError(repo)


def build(model):
    """The framework's model with random weights."""
    source, name = model.split(":", 1)
    if source == "hf":
        return EXPORT.from_transformers(name, False, configuration(name)).eval()
    return EXPORT.create(model, "random", code=checkout(model))


def checkout(model):
    """The checkout of a repository whose own code makes a network."""
    if not model.startswith(("torchhub:", "github:")):
        return None
    return os.path.join(os.environ.get("CHECKOUTS", "."), model.split(":")[1].rsplit("/", 1)[1])


def can_build(model):
    """Whether what makes the model is here."""
    code = checkout(model)
    needs = EXPORT.NEEDS.get(model.split(":", 1)[0])
    return bool(needs) and not any(EXPORT.missing(module) for module in needs) and (code is None or os.path.isdir(code))


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


def prove(caft, name, entry):
    torch.manual_seed(0)
    export = entry["weights"]["export"]
    resize, crop, mean, std = published(export["model"], export.get("weights"))
    given = entry["preprocess"]
    size = entry["input"]["size"]
    if crop is not None:
        assert given["resize"]["size"] == resize and given["crop"] == crop == size, f"preprocess {given}"
    if mean is not None:
        assert np.allclose(given["mean"], mean) and np.allclose(given["std"], std), f"preprocess {given}"
    net = build(export["model"])
    tensor = next(iter(entry["outputs"].values()))["tensor"]
    request = {**export, "input": entry["input"]["name"], "size": size, "output": tensor}
    whole, names = EXPORT.prepare(net, request)
    # Random running statistics, so that BatchNorm in the wrong mode would show.
    for part in whole.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.uniform_(-0.1, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    image = torch.randn(2, 3, size, size)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        expected = whole(image)
        expected = expected if isinstance(expected, tuple) else (expected,)
        expected = dict(zip(names, (value.numpy() for value in expected)))
        file = os.path.join(folder, "model.onnx")
        EXPORT.export(whole, names, {**request, "out": file})
        engine, manifest = engine_of(caft, name, file, os.path.join(folder, "home"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(engine, options, providers=["CPUExecutionProvider"])
        outputs = list(entry["outputs"])
        got = dict(zip(outputs, session.run(outputs, {session.get_inputs()[0].name: image.numpy()})))
    worst = 1.0
    for key, output in entry["outputs"].items():
        ours, theirs = got[key], select(expected[output["tensor"]], output.get("select"))
        assert list(ours.shape[1:]) == output["shape"], f"{key} has shape {ours.shape[1:]}, not {output['shape']}"
        for one, other in zip(ours.reshape(2, -1).astype(np.float64), theirs.reshape(2, -1).astype(np.float64)):
            worst = min(worst, float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other))))
    assert worst >= 0.9999, f"cosine {worst}"
    same = "yes" if manifest["checks"][-1]["batch_invariant"] else "no"
    parameters = sum(value.numel() for value in whole.parameters())
    first = next(iter(entry["outputs"].values()))["shape"]
    cells = [f"`{name}`", export["model"], f"{parameters / 1e6:.1f} M", f"{manifest['parameters'] / 1e6:.1f} M"]
    cells += [str(size), str(first), str(len(entry["outputs"])), f"{worst:.6f}", same]
    return f"| {' | '.join(cells)} |"


def engine_of(caft, name, file, home):
    """The engine that the program builds of a file: its model and its manifest."""
    words = [caft, "engine", "build", name, "--onnx", file, "--samples", "1", "--json"]
    ran = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "CAFT_HOME": home})
    assert ran.returncode == 0, ran.stderr
    (model,) = glob.glob(os.path.join(home, "engines", "*", "model.onnx"))
    return model, json.loads(ran.stdout)


def keep(rows):
    """Puts rows into the catalogue's README."""
    path = os.path.join(ROOT, "configs", "backbones", "README.md")
    text = open(path).read()
    table = {match[1]: match[0] for match in re.finditer(r"^\| `(\w+)` \|.*\n", text, re.M)}
    table.update(rows)
    every = list(entries())
    exported = [name for name, entry in every if entry.get("proof") == "exported" or name in rows]
    ordered = [table[name] for name, _ in every if name in table]
    text = re.sub(r"(\| --- .*\n)(\| `.*\n)+", lambda match: match[1] + "".join(ordered), text, count=1)
    counts = f"{len(exported)} of {len(every)} entries are `exported`; {len(ordered)} by the engines of this table"
    text = re.sub(r"\d+ of \d+ entries are `exported`; \d+ by the engines of this table", counts, text)
    others = ", ".join(f"`{name}`" for name in exported if name not in table)
    text = re.sub(r"Compared without the engine: .*\.", f"Compared without the engine: {others or 'none'}.", text)
    open(path, "w").write(text)
    for name, entry in every:
        if name in rows and entry.get("proof") != "exported":
            print(f"{name} is proven now: give its entry `proof: exported`", file=sys.stderr)


def main():
    caft, wanted = os.path.abspath(sys.argv[1]), sys.argv[2:]
    print("| entry | exported from | parameters | below the cut | input | first output | outputs | worst cosine | same bits |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    failed = []
    for name, entry in entries():
        source = entry["weights"].get("export", {}).get("model", "")
        if wanted and name not in wanted:
            continue
        if not source or not can_build(source):
            if wanted or source:
                print(f"{name}: what makes `{source}` is not here", file=sys.stderr)
            continue
        try:
            row = prove(caft, name, entry)
            print(row, flush=True)
            keep({name: row + "\n"})
        except Exception as error:  # every entry is tried
            failed.append(name)
            print(f"{name}: {type(error).__name__}: {error}".replace("\n", " ")[:600], file=sys.stderr, flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
