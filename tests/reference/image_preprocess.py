"""Network inputs of pictures of many kinds, made with Pillow and numpy.

    python image_preprocess.py frozen              prints tests/reference/images.json
    python image_preprocess.py FOLDER [PICTURE …]  writes pictures and inputs into FOLDER, for the test
                                                   `images` with CAFT_IMAGE_REFERENCE=FOLDER

Needs Pillow 11 or newer and numpy. Given pictures are put through the same steps, in place.
"""

import io
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

FILTERS = {
    "nearest": Image.NEAREST,
    "box": Image.BOX,
    "bilinear": Image.BILINEAR,
    "bicubic": Image.BICUBIC,
    "lanczos": Image.LANCZOS,
}
PLAIN = {"scale": 1 / 255, "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
IMAGENET = {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def resize(size, mode="shortest", filter="bilinear"):
    return {"size": size, "mode": mode, "filter": filter, "antialias": True}


def photograph(width, height, seed):
    """Smooth noise with a gradient and a hard edge: what photographs have."""
    rng = np.random.default_rng(seed)
    noise = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    rgb = np.asarray(noise.filter(ImageFilter.GaussianBlur(2))).astype(np.float32)
    y, x = np.mgrid[0:height, 0:width]
    rgb = (rgb - 128) * 3 + np.stack([x * 255 / width, y * 255 / height, 255 - x * 255 / width], -1)
    rgb[height // 3 : height // 2, width // 4 : width // 2] = [200, 30, 60]
    return Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))


def encoded(image, format, **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif.tobytes()


def kinds(width, height):
    """(name, bytes) of pictures of every kind."""
    rgb = photograph(width, height, 1)
    grey = rgb.convert("L")
    alpha = Image.fromarray((np.arange(width * height).reshape(height, width) % 256).astype(np.uint8))
    rgba, la = rgb.copy(), grey.copy()
    rgba.putalpha(alpha)
    la.putalpha(alpha)
    palette = rgb.quantize(64)
    deep = np.asarray(grey).astype(np.uint16) * 257 - np.asarray(grey).astype(np.uint16) // 3
    for name, image in [("rgb", rgb), ("grey", grey), ("la", la), ("rgba", rgba), ("palette", palette)]:
        yield f"{name}.png", encoded(image, "PNG")
    yield "palette_transparent.png", encoded(palette, "PNG", transparency=3)
    yield "rgb_transparent.png", encoded(rgb, "PNG", transparency=(1, 2, 3))
    yield "palette_4.png", encoded(rgb.quantize(4), "PNG")
    yield "bits.png", encoded(grey.convert("1"), "PNG")
    yield "grey_16.png", encoded(Image.fromarray(deep), "PNG")
    yield "rotated.png", encoded(rgb, "PNG", exif=orientation(6))
    frames = {"save_all": True, "append_images": [photograph(width, height, 2)]}
    yield "animated.png", encoded(rgb, "PNG", **frames)
    yield "animated_apart.png", encoded(rgb, "PNG", default_image=True, **frames)
    for name, sampling in [("444", 0), ("422", 1), ("420", 2)]:
        yield f"{name}.jpg", encoded(rgb, "JPEG", quality=90, subsampling=sampling)
        yield f"{name}_progressive.jpg", encoded(rgb, "JPEG", quality=80, subsampling=sampling, progressive=True)
    yield "grey.jpg", encoded(grey, "JPEG", quality=90)
    yield "cmyk.jpg", encoded(rgb.convert("CMYK"), "JPEG", quality=90)
    yield "restart.jpg", encoded(rgb, "JPEG", quality=90, restart_marker_blocks=2)
    for value in range(1, 9):
        yield f"orientation_{value}.jpg", encoded(rgb, "JPEG", quality=95, subsampling=0, exif=orientation(value))
    yield "palette.gif", encoded(palette, "GIF")
    yield "grey.gif", encoded(grey, "GIF")
    yield "animated.gif", encoded(palette, "GIF", save_all=True, append_images=[photograph(width, height, 2)])
    yield "lossy.webp", encoded(rgb, "WEBP", quality=90)
    yield "lossless.webp", encoded(rgb, "WEBP", lossless=True)
    yield "alpha.webp", encoded(rgba, "WEBP", lossless=True, exact=True)
    yield "animated.webp", encoded(rgb, "WEBP", lossless=True, save_all=True, append_images=[photograph(width, height, 2)])
    yield "rotated.webp", encoded(rgb, "WEBP", lossless=True, exif=orientation(8))
    yield "rgb.tiff", encoded(rgb, "TIFF")
    yield "lzw.tiff", encoded(rgb, "TIFF", compression="tiff_lzw")
    yield "deflate.tiff", encoded(grey, "TIFF", compression="tiff_adobe_deflate")
    yield "grey_16.tiff", encoded(Image.fromarray(deep), "TIFF")
    yield "rgba.tiff", encoded(rgba, "TIFF")
    yield "cmyk.tiff", encoded(rgb.convert("CMYK"), "TIFF")
    yield "rgb.bmp", encoded(rgb, "BMP")
    yield "grey.bmp", encoded(grey, "BMP")
    yield "palette.bmp", encoded(palette, "BMP")
    yield "bits.bmp", encoded(grey.convert("1"), "BMP")
    yield "rgb.ppm", encoded(rgb, "PPM")
    yield "grey.pgm", encoded(grey, "PPM")


def decode(data):
    image = Image.open(io.BytesIO(data) if isinstance(data, bytes) else data)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow would cut at 255.
        deep = np.asarray(image).astype(np.int64)
        image = Image.fromarray(((deep + 128) // 257).astype(np.uint8))
    return image.convert("RGB")


def network_input(data, steps):
    """[3, height, width], float32; torchvision's Resize and CenterCrop."""
    image = decode(data)
    if steps["resize"]:
        r = steps["resize"]
        width, height = image.size
        short, long = min(width, height), max(width, height)
        size = (r["size"], int(r["size"] * long / short))
        if r["mode"] == "exact":
            size = (r["size"], r["size"])
        elif width > height:
            size = size[::-1]
        image = image.resize(size, FILTERS[r["filter"]])
    if steps["crop"]:
        crop = steps["crop"]
        width, height = image.size
        left, top = (max(crop - side, 0) // 2 for side in (width, height))
        padded = Image.new("RGB", (max(width, crop), max(height, crop)))
        padded.paste(image, (left, top))
        width, height = padded.size
        top, left = int(round((height - crop) / 2.0)), int(round((width - crop) / 2.0))
        image = padded.crop((left, top, left + crop, top + crop))
    x = np.asarray(image).astype(np.float32) * np.float32(steps["scale"])
    x = (x - np.float32(steps["mean"])) / np.float32(steps["std"])
    return np.ascontiguousarray(x.transpose(2, 0, 1))


def frozen():
    """One small picture of every kind through one preprocess, and one picture through several."""
    exact = {"resize": resize(6, "exact"), "crop": None, **PLAIN}
    cases = [(name, data, exact) for name, data in kinds(21, 16)]
    picture = encoded(photograph(23, 16, 3), "PNG")
    for filter in FILTERS:
        for size, crop in [(8, 6), (30, 7)]:
            cases.append((f"{filter}_{size}_{crop}", picture, {"resize": resize(size, filter=filter), "crop": crop, **PLAIN}))
    for crop in [5, 6, 7, 8]:
        cases.append((f"crop_{crop}", picture, {"resize": resize(9), "crop": crop, **PLAIN}))
    small = encoded(photograph(4, 7, 4), "PNG")
    cases.append(("padded", small, {"resize": None, "crop": 6, **PLAIN}))
    cases.append(("normalised", picture, {"resize": resize(6), "crop": 5, **IMAGENET}))
    out = []
    for name, data, steps in cases:
        x = network_input(data, steps)
        values = (x * np.float32(steps["std"])[:, None, None] + np.float32(steps["mean"])[:, None, None]) * 255
        pixels = np.round(values).astype(np.uint8).tobytes().hex()
        out.append({"name": name, "bytes": data.hex(), "steps": steps, "pixels": pixels})
    lines = ",\n".join("  " + json.dumps(case) for case in out)
    print(f"[\n{lines}\n]")


def many(folder, pictures):
    """Larger pictures through the usual preprocesses of torchvision and timm."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    presets = {
        "imagenet": {"resize": resize(256), "crop": 224, **IMAGENET},
        "bicubic": {"resize": resize(248, filter="bicubic"), "crop": 224, **IMAGENET},
        "exact": {"resize": resize(224, "exact"), "crop": None, **PLAIN},
    }
    made = []
    for i, (width, height) in enumerate([(500, 375), (333, 420)]):
        for name, data in kinds(width, height):
            path = folder / f"{i}_{name}"
            path.write_bytes(data)
            made.append(path)
    index = []
    for path in made + [Path(p) for p in pictures]:
        for preset, steps in presets.items():
            x = network_input(path, steps)
            name = f"{len(index)}.f32"
            (folder / name).write_bytes(x.astype("<f4").tobytes())
            index.append({"picture": str(path.resolve()), "preset": preset, "steps": steps, "input": name})
    (folder / "index.json").write_text(json.dumps(index, indent=1))
    print(f"{len(made)} pictures made, {len(pictures)} given, {len(index)} inputs", file=sys.stderr)


if __name__ == "__main__":
    if sys.argv[1:] == ["frozen"]:
        frozen()
    elif len(sys.argv) > 1:
        many(sys.argv[1], sys.argv[2:])
    else:
        sys.exit(__doc__)
