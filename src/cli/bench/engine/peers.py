# Says what it has, then runs one of them for a while whenever it reads its number. Random numbers go in: no speed depends on them.
import copy, json, sys, time

try:
    import numpy
except ImportError as error:
    print(json.dumps({"names": [], "absent": [f"anything in Python: {error}"]}), flush=True)
    sys.exit()

model, int8_model, shape, threads, seconds, torch_model = json.loads(sys.argv[1])
values = numpy.random.default_rng(0).standard_normal(shape).astype(numpy.float32)
peers, absent = [], []


def onnxruntime_peers():
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    peers.append((f"onnxruntime {onnxruntime.__version__} fp32", shape[0], lambda: session.run(None, {name: values})))


def openvino_peers():
    import openvino

    batch = min(8, shape[0])
    version = openvino.__version__.split("-")[0]
    cases = [
        (model, "f32", "fp32", "THROUGHPUT"),
        (model, "bf16", "bf16", "LATENCY"),
        (model, "bf16", "bf16", "THROUGHPUT"),
    ]
    if int8_model:
        cases.append((int8_model, "f32", "int8 (caft's file)", "THROUGHPUT"))
    for path, precision, title, hint in cases:
        core = openvino.Core()
        read = core.read_model(path)
        read.reshape({read.inputs[0]: [batch] + shape[1:]})
        options = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
        compiled = core.compile_model(read, "CPU", options)
        queue = openvino.AsyncInferQueue(compiled)
        rounds = max(1, shape[0] // batch) * len(queue)

        def run(queue=queue, rounds=rounds):
            for _ in range(rounds):
                queue.start_async({0: values[:batch]})
            queue.wait_all()

        streams = compiled.get_property("NUM_STREAMS")
        plural = "" if streams == 1 else "s"
        peers.append((f"openvino {version} {title}, {streams} stream{plural}", rounds * batch, run))


def torch_peers():
    import torch

    library, _, name = torch_model.partition(":")
    if library == "torchvision":
        import torchvision

        net = torchvision.models.get_model(name, weights=None)
    elif library == "timm":
        import timm

        net = timm.create_model(name, pretrained=False)
    else:
        raise ValueError(f"`{torch_model}` is neither `torchvision:NAME` nor `timm:NAME`")
    torch.set_num_threads(threads)
    for dtype, title in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        other = copy.deepcopy(net).eval().to(dtype).to(memory_format=torch.channels_last)
        inputs = torch.from_numpy(values).to(dtype).to(memory_format=torch.channels_last)

        def run(other=other, inputs=inputs):
            with torch.inference_mode():
                other(inputs)

        peers.append((f"torch {torch.__version__} {title}", shape[0], run))


for title, make in (("onnxruntime", onnxruntime_peers), ("openvino", openvino_peers), ("torch", torch_peers)):
    if title == "torch" and not torch_model:
        absent.append("torch: no network is named; add `--torch torchvision:NAME` or `--torch timm:NAME`")
        continue
    try:
        make()
    except Exception as error:
        lines = str(error).splitlines()
        absent.append(f"{title}: {lines[0] if lines else type(error).__name__}")
for _, _, run in peers:
    run()
print(json.dumps({"names": [name for name, _, _ in peers], "absent": absent}), flush=True)
for line in sys.stdin:
    _, count, run = peers[int(line)]
    begin, samples = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        run()
        samples += count
    print(json.dumps(samples / (time.perf_counter() - begin)), flush=True)
