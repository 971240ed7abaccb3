"""Prints what timm makes of a small position embedding, for the tests of src/graph/onnx/size/resample.rs."""

import torch
from timm.layers import resample_abs_pos_embed

values = torch.tensor([i * i / 8 for i in range(9)]).reshape(1, 9, 1)
for size in [(2, 2), (4, 5)]:
    print(size, [round(v, 6) for v in resample_abs_pos_embed(values, size, num_prefix_tokens=0).flatten().tolist()])
