"""Exports a model of torchvision, timm, transformers, OpenCLIP, Ultralytics or a repository to ONNX, in evaluation mode.

    python export.py '{"model": "timm:vit_small_patch16_224", "weights": "random", "out": "model.onnx", ...}'

`weights` is `default`, `random` or a file; `named` which published ones; `part` a submodule in place of the whole;
`modules` maps names of outputs to submodules, without it the only output is called `output`; `input` is the
input's name and `size` its height and width. `trust` lets what comes with the model run: a repository's code, or
weights that are pickles of whole models; `code` is a checkout of the repository. With `whole` the model's own output is
there too, as `logits`. With `train` nothing is folded: each BatchNorm is a node (in the form for evaluation, of which
both forms are made), weights are as the framework names them, and Dropout drops, as does stochastic depth at the rates
that the framework's model has.

The last line of standard output is JSON: {"done": true}, {"refused": "...", "hint": "..."} for what a user can
mend, or {"failed": "..."}. Weights are read
from safetensors, or by torch's unpickler that builds nothing but tensors; no other pickle is read.
"""

import importlib.util
import json
import os
import sys

# torch, and what loads weights through it, then refuses pickles that would run code.
os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"

NEEDS = {
    "torchvision": ["torch", "torchvision", "onnx"],
    "timm": ["torch", "timm", "onnx"],
    "hf": ["torch", "transformers", "onnx"],
    "optimum": ["torch", "transformers", "onnx", "optimum.exporters.onnx"],
    "open_clip": ["torch", "open_clip", "onnx"],
    "ultralytics": ["torch", "ultralytics", "onnx"],
    "torchhub": ["torch", "onnx"],
    "github": ["torch", "onnx"],
}
# What the model's own output is called.
OWN = "logits"
PACKAGES = {"optimum.exporters.onnx": "optimum-onnx", "open_clip": "open_clip_torch"}


class Refused(Exception):
    """What a user can mend, with how."""

    def __init__(self, what, hint=None):
        super().__init__(what)
        self.hint = hint


def missing(module):
    try:
        return importlib.util.find_spec(module) is None
    except ModuleNotFoundError:
        return True


def check(source):
    lacking = [PACKAGES.get(module, module) for module in NEEDS[source] if missing(module)]
    if lacking:
        word = "package" if len(lacking) == 1 else "packages"
        names = ", ".join(f"`{name}`" for name in lacking)
        raise Refused(
            f"`{sys.executable}` lacks the {word} {names}",
            f"install with: {sys.executable} -m pip install {' '.join(lacking)}",
        )


def state_of(path):
    """The tensors of a weights file, by name."""
    if path.endswith(".safetensors"):
        if missing("safetensors"):
            hint = f"install with: {sys.executable} -m pip install safetensors"
            raise Refused(f"`{sys.executable}` lacks the package `safetensors`", hint)
        from safetensors.torch import load_file

        return load_file(path)
    import pickle

    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        hint = "save its state dict, or better safetensors: a pickle of a whole model runs code when it is read"
        raise Refused(f"`{path}` holds more than tensors, and is not read", hint) from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    return state


def create(model, weights, named=None, trust=False, code=None):
    """The network with published (`default`), random, or a file's weights."""
    source, name = model.split(":", 1)
    published = weights == "default"
    if source == "torchvision":
        from torchvision import models

        if name not in models.list_models():
            raise Refused(f"torchvision has no model `{name}`")
        extra = {}
        if not published:
            # Drawing its usual weights takes minutes.
            extra = {"init_weights": False} if name == "inception_v3" else {}
            if name.startswith(("deeplab", "fcn", "lraspp", "fasterrcnn", "ssd")):
                extra["weights_backbone"] = None
        net = fetched(model, lambda: models.get_model(name, weights=(named or "DEFAULT") if published else None, **extra))
    elif source == "timm":
        import timm

        if not timm.is_model(name):
            raise Refused(f"timm has no model `{name}`")
        net = fetched(model, lambda: timm.create_model(name, pretrained=published))
    elif source == "open_clip":
        net = fetched(model, lambda: from_open_clip(name, named or "openai", published))
    elif source == "ultralytics":
        net = fetched(model, lambda: from_ultralytics(name, published, trust).model.float())
    elif source == "torchhub":
        net = fetched(model, lambda: from_torchhub(name, published, trust, code))
    elif source == "github":
        net = from_github(name, published, code)
    else:
        net = fetched(model, lambda: from_transformers(name, published))
    if weights not in ("default", "random"):
        load(net, model, weights)
    return net.eval()


def fetched(model, make):
    """What `make` gives, which may fetch published weights or a configuration."""
    try:
        return make()
    except OSError as error:  # of networks, too
        first = next(iter(str(error).splitlines()), type(error).__name__)
        hint = "check the network, or give `--weights FILE` or `--weights random`"
        raise Refused(f"what is published of `{model}` cannot be fetched: {first}", hint) from error


def load(net, model, path):
    """Loads a weights file that must have exactly the tensors of the network."""
    own, given = net.state_dict(), state_of(path)
    if not isinstance(given, dict):
        raise Refused(f"`{path}` is no state dict")
    for prefix in ("module.", "model."):
        if all(prefix + name in given for name in own):
            # A network that was trained inside another, whose loss may have tensors of its own.
            given = {name: given[prefix + name] for name in own}
    wrong = [
        ("lacks", [name for name in own if name not in given]),
        ("has besides", [name for name in given if name not in own]),
        ("has in another shape", [name for name in own if name in given and own[name].shape != given[name].shape]),
    ]
    told = [f"it {what} {len(names)}, such as `{names[0]}`" for what, names in wrong if names]
    if told:
        raise Refused(f"the tensors of `{path}` are not those of `{model}`: {'; '.join(told)}")
    net.load_state_dict(given)


def from_open_clip(name, tag, published):
    """The image tower of a pair."""
    import open_clip

    config = open_clip.get_model_config(name)
    if config is None:
        raise Refused(f"open_clip has no model `{name}`")
    if published:
        return open_clip.create_model(name, pretrained=tag).visual
    # Without the text tower, whose configuration the hub may have.
    quick = config.get("quick_gelu", False)
    return open_clip.model._build_vision_tower(config["embed_dim"], config["vision_cfg"], quick)


def from_ultralytics(name, published, trust):
    """A model by its checkpoint, or with random weights by the configuration of its name."""
    from ultralytics import YOLO

    if published:
        if not trust:
            raise Refused(
                f"the weights of `{name}` are published as a pickle of a whole model, which runs code when it is read",
                "give `--trust` to let Ultralytics read it, or `--weights FILE` with its tensors alone",
            )
        os.environ.pop("TORCH_FORCE_WEIGHTS_ONLY_LOAD", None)
        return YOLO(name)
    stem = name.removesuffix(".pt")
    if stem.startswith("yolov5"):
        # The checkpoints of its newer head have another name than their configuration.
        stem = stem.removesuffix("u")
    return YOLO(stem + ".yaml")


def from_torchhub(name, published, trust, code):
    """What a function of a repository's `hubconf.py` makes."""
    import torch

    repo, function = name.rsplit(":", 1)
    if not (trust or code):
        raise Refused(
            f"`{repo}` is a repository whose own code makes the network",
            "give `--trust` to let torch.hub fetch and run it, or `--code FOLDER` with a checkout",
        )
    place = {"repo_or_dir": code, "source": "local"} if code else {"repo_or_dir": repo, "trust_repo": True}
    return torch.hub.load(model=function, pretrained=published, **place)


def from_github(name, published, code):
    """What a function in a checkout of a repository makes: `owner/repo:module:function(arguments)`."""
    import ast
    import importlib

    repo, inside, call = name.split(":", 2)
    if published:
        raise Refused(
            f"the weights of `{repo}` are not at an address that can be fetched",
            f"get them from https://github.com/{repo} and give `--weights FILE`, or `--weights random`",
        )
    if not code:
        raise Refused(
            f"`{repo}` is a repository whose own code makes the network",
            f"get it with `git clone https://github.com/{repo}` and give `--code FOLDER`",
        )
    sys.path.insert(0, code)
    function, arguments = call.rstrip(")").split("(", 1)
    try:
        make = getattr(importlib.import_module(inside), function)
    except (ImportError, AttributeError) as error:
        raise Refused(f"`{code}` is no checkout of `{repo}`: {error}") from error
    return make(*ast.literal_eval(f"[{arguments}]"))


def from_transformers(name, published, whole=False):
    """A model by its repository, or with random weights by a configuration; `whole` with its own classifier."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(name)
    # The image tower of a pair stands alone.
    kind = transformers.CLIPVisionModelWithProjection if config.model_type.startswith("clip") else transformers.AutoModel
    if whole:
        made = (getattr(config, "architectures", None) or [""])[0]
        kinds = {
            "ForSequenceClassification": transformers.AutoModelForSequenceClassification,
            "ForImageClassification": transformers.AutoModelForImageClassification,
        }
        known = [of for end, of in kinds.items() if made.endswith(end)]
        if not known:
            raise Refused(f"`{name}` has no classifier of its own", "leave `--whole` out; a recipe's head stands on it")
        kind = known[0]
    if published:
        return kind.from_pretrained(name, config=config, attn_implementation="eager")
    make = kind.from_config if kind.__name__.startswith("AutoModel") else kind._from_config
    return make(config, attn_implementation="eager")


def module(net, paths):
    """A submodule, and whether its input is meant. Of several paths, parted by `|`, the first that exists counts."""
    for path in paths.split("|"):
        path, _, end = path.strip().partition(":")
        inner = net
        for part in path.split("."):
            inner = getattr(inner, part, None)
        if inner is not None:
            return inner, end == "input"
    raise Refused(f"the model has no module `{paths}`", "another version of the framework may have it")


def named(net, modules, whole=False):
    """The network with some modules' outputs (or, `path:input`, what enters them), and its own, as its outputs."""
    import torch

    class Named(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.taken = net, {}
            for name, path in modules.items():
                inner, entering = module(net, path)
                if entering:
                    inner.register_forward_pre_hook(lambda _, given, name=name: self.keep(name, given[0]))
                else:
                    inner.register_forward_hook(lambda _, given, out, name=name: self.keep(name, out))

        def keep(self, name, value):
            value = value[0] if isinstance(value, (tuple, list)) else value
            # A copy, for a later layer may work in place.
            self.taken[name] = value * 1.0

        def forward(self, image):
            out = self.net(image)
            taken = tuple(self.taken[name] for name in modules)
            return taken + (alone(out),) if whole else taken

    return Named().eval()


def alone(out):
    """The first of several outputs."""
    import torch

    return out if isinstance(out, torch.Tensor) else out[0]


def first(net):
    """The network with its first output alone."""
    import torch

    class First(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, image):
            return alone(self.net(image))

    return First().eval()


def prepare(net, request):
    """The part that is exported, and the names of its outputs."""
    if request.get("part"):
        net, _ = module(net, request["part"])
    modules = request.get("modules") or {}
    whole = request.get("whole", False)
    if not modules:
        return first(net), [OWN if whole else request["output"]]
    return named(net, modules, whole), [*modules, OWN] if whole else list(modules)


def dropping(net):
    """The network with its Dropout as in training, and all else as in evaluation."""
    import torch

    for inner in list(net.modules()):
        if isinstance(inner, torch.nn.modules.dropout._DropoutNd) and inner.p > 0:
            inner.train()
        for name, path in list(inner.named_children()):
            rate = depth_rate(path)
            if rate > 0:
                setattr(inner, name, drop_path(rate))
    # Of the outermost alone: else weights that are equal before training would become one.
    net.training = True
    return net


def depth_rate(module):
    """With which probability a module drops all of a sample: that of timm's, torchvision's and transformers'."""
    kind = type(module).__name__
    if kind == "StochasticDepth" and module.mode == "row":
        return module.p
    return (getattr(module, "drop_prob", None) or 0.0) if kind.endswith("DropPath") else 0.0


def drop_path(rate):
    """Stochastic depth (Huang et al., 2016) as Dropout of one number for each sample."""
    import torch

    class DropPath(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = torch.nn.Dropout(rate)

        def forward(self, x):
            return x * self.drop(torch.ones([1] * x.dim()).expand(x.shape[0], *[1] * (x.dim() - 1)))

    return DropPath().train()


def export(net, names, request):
    import torch

    size = request["size"]
    image = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    axes = {key: {0: "batch"} for key in [request["input"], *names]}
    if hasattr(getattr(torch, "backends", None), "mha"):
        # Its attention in one operator is none of ONNX.
        torch.backends.mha.set_fastpath_enabled(False)
    arguments = {"input_names": [request["input"]], "output_names": names, "dynamic_axes": axes}
    if request.get("train"):
        net = dropping(net)
        # In every other mode the exporter folds norms into convolutions, and transposes into weights.
        arguments |= {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    traced(net, image, request["out"], arguments)
    without_copies(request["out"], names)


def traced(net, inputs, out, arguments):
    import torch

    with torch.no_grad():
        try:
            torch.onnx.export(net, inputs, out, opset_version=17, dynamo=False, **arguments)
        except TypeError:  # before the second exporter there was no choice
            torch.onnx.export(net, inputs, out, opset_version=17, **arguments)


def export_texts(net, request):
    """A network of transformers that takes texts, with as many tokens as one likes."""
    import inspect

    import torch

    takes = inspect.signature(net.forward).parameters
    kinds = getattr(net.config, "type_vocab_size", 0)
    names = ["input_ids", "attention_mask"] + (["token_type_ids"] if kinds > 1 and "token_type_ids" in takes else [])

    class Texts(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, *inputs):
            cache = {"use_cache": False} if "use_cache" in takes else {}
            return alone(self.net(**dict(zip(names, inputs)), **cache, return_dict=False))

    ids = torch.full((2, 7), 5, dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    whole = request.get("whole", False)
    output = OWN if whole else "last_hidden_state"
    axes = {name: {0: "batch", 1: "tokens"} for name in names}
    axes[output] = {0: "batch"} if whole else {0: "batch", 1: "tokens"}
    arguments = {"input_names": names, "output_names": [output], "dynamic_axes": axes}
    made = Texts().eval()
    if request.get("train"):
        made = dropping(made)
        arguments |= {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    traced(made, (ids, mask, torch.zeros_like(ids))[: len(names)], request["out"], arguments)


def without_copies(path, names):
    """Gives tensors that are outputs their names also where later nodes read them, in place of copies."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    makers = {output: node for node in graph.node for output in node.output}
    ones = {node.output[0] for node in graph.node if is_one(node)}
    renamed = {}
    for name in names:
        copy = makers.get(name)
        if copy is None or copy.op_type != "Mul" or copy.input[1] not in ones:
            continue
        source = copy.input[0]
        if source in makers and source not in renamed and source not in names:
            renamed[source] = name
            graph.node.remove(copy)
    for node in graph.node:
        for side in (node.input, node.output):
            for place, tensor in enumerate(side):
                side[place] = renamed.get(tensor, tensor)
    used = {tensor for node in graph.node for tensor in node.input}
    for node in [node for node in graph.node if is_one(node) and node.output[0] not in used]:
        graph.node.remove(node)
    del graph.value_info[:]
    onnx.save(model, path)


def is_one(node):
    """Whether a node is the scalar constant 1."""
    from onnx import numpy_helper

    if node.op_type != "Constant" or not node.attribute[0].HasField("t"):
        return False
    tensor = node.attribute[0].t
    return not tensor.dims and float(numpy_helper.to_array(tensor)) == 1.0


def with_optimum(request):
    """The standard export of transformers' models: `model.onnx`, moved to where it is asked for."""
    import pathlib
    import shutil
    import tempfile

    import transformers

    try:
        from optimum.exporters.onnx import main_export
    except ImportError as error:
        raise Refused(
            f"the package `optimum-onnx` does not go with transformers {transformers.__version__}: {error}",
            "an environment of its own gets what goes together: "
            "python -m venv ENV && ENV/bin/pip install optimum-onnx, then `--python ENV/bin/python`",
        ) from error
    out = pathlib.Path(request["out"])
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        model = request["model"].split(":", 1)[1]
        if request["weights"] != "default":
            import torch

            torch.manual_seed(request.get("seed", 0))
            net = fetched(request["model"], lambda: plain_transformer(model))
            if request["weights"] != "random":
                load(net, request["model"], request["weights"])
            model = os.path.join(folder, "weights")
            net.save_pretrained(model)
        make = {"task": "feature-extraction", "do_validation": False, "library_name": "transformers"}
        fetched(request["model"], lambda: main_export(model, folder, **make))
        made = sorted(pathlib.Path(folder).glob("*.onnx"))
        if len(made) != 1:
            files = ", ".join(path.name for path in made)
            raise Refused(f"the exporter made {len(made)} models ({files})", "export one of its parts by hand")
        data = made[0].with_name(made[0].name + "_data")
        if data.exists():
            shutil.move(data, out.with_name(data.name))
        shutil.move(made[0], out)


def plain_transformer(name):
    """A model of transformers with random weights, by the configuration at `name`: a repository or a folder."""
    import transformers

    return transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(name))


def with_ultralytics(request):
    """Ultralytics' own export, which writes beside the checkpoint; moved to where it is asked for."""
    import shutil

    name = request["model"].split(":", 1)[1]
    model = fetched(request["model"], lambda: from_ultralytics(name, request["weights"] == "default", request.get("trust")))
    if request["weights"] not in ("default", "random"):
        load(model.model, request["model"], request["weights"])
    os.chdir(os.path.dirname(request["out"]))
    shutil.move(model.export(format="onnx", imgsz=request["size"], dynamic=True, opset=17), request["out"])


def run(request):
    source = request["model"].split(":", 1)[0]
    whole = not request.get("modules") and not request.get("part")
    # What no entry of the catalogue names the inner tensors of goes through the exporter of its own project.
    own = {"hf": ("optimum", with_optimum), "ultralytics": ("ultralytics", with_ultralytics)}
    # In training, and with what it classifies by, it is traced here.
    plain = not (request.get("train") or request.get("whole"))
    if plain and whole and source in own and (request["weights"] == "default" or not request.get("entry")):
        needs, export_whole = own[source]
        check(needs)
        return export_whole(request)
    check(source)
    import torch

    torch.manual_seed(request.get("seed", 0))
    if whole and source == "hf":
        name = request["model"].split(":", 1)[1]
        published = request["weights"] == "default"
        net = fetched(request["model"], lambda: from_transformers(name, published, request.get("whole")))
        if request["weights"] not in ("default", "random"):
            load(net, request["model"], request["weights"])
        if net.main_input_name == "input_ids":
            return export_texts(net.eval(), request)
        return export(*prepare(net.eval(), request), request)
    made = [request.get(key) for key in ("named", "trust", "code")]
    net, names = prepare(create(request["model"], request["weights"], *made), request)
    export(net, names, request)


def main():
    import traceback
    import warnings

    warnings.filterwarnings("ignore")
    try:
        run(json.loads(sys.argv[1]))
        answer = {"done": True}
    except Refused as error:
        answer = {"refused": str(error), "hint": error.hint}
    except Exception as error:  # whatever the exporter could not do
        traceback.print_exc()
        first = next(iter(str(error).splitlines()), "")
        answer = {"failed": f"{type(error).__name__}: {first}"}
    print("\n" + json.dumps(answer))


if __name__ == "__main__":
    main()
