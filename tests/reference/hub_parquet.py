"""Small parquet files laid out as the hub has CIFAR-10 and CIFAR-100: `python hub_parquet.py` writes them into
tests/reference/hub. The pictures are of one colour and a little noise; reddish ones are of class 0, bluish ones of class 1.

Needs pyarrow, Pillow and numpy.
"""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

FOLDER = Path(__file__).parent / "hub"
CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()


def picture(number, label):
    rng = np.random.default_rng(number)
    base = np.array([200, 40, 40] if label == 0 else [40, 40, 200])
    pixels = np.repeat(np.repeat(rng.integers(0, 40, (4, 4, 3)), 8, 0), 8, 1) + base
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, "PNG")
    return {"bytes": out.getvalue(), "path": None}


def write(name, numbers, labels, classes):
    images = [picture(number, number % 2) for number in numbers]
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"img": pa.array(images, image_type)}
    features = {"img": {"_type": "Image"}}
    for column, of in labels.items():
        columns[column] = pa.array([of(number % 2) for number in numbers], pa.int64())
        features[column] = {"names": classes[column], "_type": "ClassLabel"}
    table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, FOLDER / name, compression="snappy")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    ten = {"label": CIFAR10}
    write("cifar10-train-0.parquet", range(0, 10), {"label": lambda c: c}, ten)
    write("cifar10-train-1.parquet", range(10, 16), {"label": lambda c: c}, ten)
    write("cifar10-test.parquet", range(16, 24), {"label": lambda c: c}, ten)
    fine = [f"fine_{i}" for i in range(100)]
    coarse = [f"coarse_{i}" for i in range(20)]
    hundred = {"fine_label": fine, "coarse_label": coarse}
    both = {"fine_label": lambda c: 90 + c, "coarse_label": lambda c: 3 + c}
    write("cifar100-train.parquet", range(0, 4), both, hundred)
