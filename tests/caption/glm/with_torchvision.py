"""Run a module where only a torchvision that does not fit PyTorch is to be had.

    python with_torchvision.py gridctl caption ...

The usual build of torchvision is for CUDA and its compiled operators do not load beside a CPU
build of PyTorch, so importing it fails. The models' processors use its transforms, which
are Python: with the operators declared, though never to be called, it imports. Its decoder of
pictures is compiled as well; Pillow's takes its place.
"""

import io
import re
import runpy
import sys

import numpy as np
import torch
from PIL import Image
from torch import library


def import_torchvision() -> None:
    while True:
        try:
            import torchvision
            import torchvision.io
        except RuntimeError as error:
            missing = re.search(r"operator (torchvision::\w+) does not exist", str(error))
            if missing is None:
                raise
            library.define(missing[1], "() -> ()")  # a second time it raises
        else:
            break
    if not torchvision.extension._has_ops():
        torchvision.io.decode_image = decode_image


def decode_image(data: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
    """The bytes of a picture → (3, H, W), uint8."""
    with Image.open(io.BytesIO(data.numpy().tobytes())) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


if __name__ == "__main__":
    import_torchvision()
    module, *sys.argv[1:] = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
