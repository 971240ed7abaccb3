"""Writes augment.json: torchvision's functionals on a small uint8 picture, for given parameters.

    python augment.py > augment.json      (torch, torchvision and pillow)
"""
import json

import torch
from PIL import Image
from torchvision import transforms as T
from torchvision.transforms import functional as F
from torchvision.transforms.autoaugment import _apply_op

W, H = 13, 9
# The same numbers as the test makes: a small linear congruential generator.
state, values = 12345, []
for _ in range(H * W * 3):
    state = (1103515245 * state + 12345) % 2**31
    values.append((state >> 16) % 256)
picture = torch.tensor(values, dtype=torch.uint8).reshape(H, W, 3).permute(2, 0, 1).contiguous()


def flat(tensor):
    return tensor.permute(1, 2, 0).flatten().tolist()


cases = {}
for factor in (0.3, 1.7):
    cases[f"brightness/{factor}"] = flat(F.adjust_brightness(picture, factor))
    cases[f"contrast/{factor}"] = flat(F.adjust_contrast(picture, factor))
    cases[f"saturation/{factor}"] = flat(F.adjust_saturation(picture, factor))
    cases[f"sharpness/{factor}"] = flat(F.adjust_sharpness(picture, factor))
for factor in (-0.4, 0.1):
    cases[f"hue/{factor}"] = flat(F.adjust_hue(picture, factor))
for bits in (2, 5, 8):
    cases[f"posterize/{bits}"] = flat(F.posterize(picture, bits))
cases["solarize/100"] = flat(F.solarize(picture, 100))
cases["autocontrast"] = flat(F.autocontrast(picture // 2 + 30))
cases["equalize"] = flat(F.equalize(picture.repeat(1, 12, 12)[:, :100, :150])[:, :H, :W])
cases["horizontal_flip"] = flat(F.hflip(picture))
cases["vertical_flip"] = flat(F.vflip(picture))
for angle in (-33.3, 20.7):
    for mode in (T.InterpolationMode.NEAREST, T.InterpolationMode.BILINEAR):
        cases[f"rotation/{angle}/{mode.value}"] = flat(F.rotate(picture, angle, mode, fill=[7.0, 7.0, 7.0]))
for size, sigma in ((3, 0.8), (7, 1.9)):
    cases[f"gaussian_blur/{size}/{sigma}"] = flat(F.gaussian_blur(picture, [size, size], [sigma, sigma]))
image = Image.fromarray(picture.permute(1, 2, 0).numpy())
for box, size in (((1, 2, 6, 9), (5, 4)), ((0, 3, 5, 5), (8, 11)), ((2, 1, 4, 6), (6, 4))):
    out = F.resized_crop(image, *box, [size[1], size[0]], T.InterpolationMode.BILINEAR)
    cases[f"resized_crop/{','.join(map(str, box))}/{size[0]},{size[1]}"] = list(out.tobytes())
for change, magnitude in (("ShearX", 0.27), ("ShearY", -0.5), ("TranslateX", 3.6), ("TranslateY", -2.0), ("Rotate", 12.5),
                          ("Color", 0.6), ("Contrast", -0.4)):
    out = _apply_op(picture, change, magnitude, T.InterpolationMode.NEAREST, None)
    cases[f"change/{change}/{magnitude}"] = flat(out)
erased = F.erase(picture.float(), 2, 3, 4, 5, torch.tensor(0.0))
cases["erase"] = [int(value) for value in erased.flatten().tolist()]

spaces = {}
rand, trivial = T.RandAugment(magnitude=9), T.TrivialAugmentWide()
for name, (magnitudes, signed) in rand._augmentation_space(31, (H, W)).items():
    spaces[f"rand/{name}"] = [float(magnitudes[9]) if magnitudes.ndim else 0.0, signed]
for name, (magnitudes, signed) in trivial._augmentation_space(31).items():
    spaces[f"trivial/{name}"] = [float(magnitudes[17]) if magnitudes.ndim else 0.0, signed]
print(json.dumps({"cases": cases, "spaces": spaces}, separators=(",", ":")))
