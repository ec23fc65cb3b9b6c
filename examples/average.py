"""The mean of two adapters of the same base and rank, as tiny-grid was made.

python examples/average.py ONE.safetensors OTHER.safetensors OUT.safetensors

What they add to each layer (B @ A) is averaged, and the closest update of their rank is written,
with the header of the first.
"""

from __future__ import annotations

import sys

import torch
from safetensors import safe_open
from safetensors.torch import save_file


def main(one: str, other: str, out: str) -> None:
    """Write the mean of two LoRA files."""
    with safe_open(one, "pt") as first, safe_open(other, "pt") as second:
        header = first.metadata()
        mean = {}
        for down in (name for name in first.keys() if ".lora_A." in name):  # noqa: SIM118  no dict
            up = down.replace(".lora_A.", ".lora_B.")
            pairs = [(file.get_tensor(up), file.get_tensor(down)) for file in (first, second)]
            update = sum(b.double() @ a.double() for b, a in pairs) / 2
            left, scales, right = torch.linalg.svd(update, full_matrices=False)
            rank, dtype = pairs[0][1].shape[0], pairs[0][1].dtype
            roots = scales[:rank].sqrt()
            mean[up] = (left[:, :rank] * roots).to(dtype).contiguous()
            mean[down] = (roots[:, None] * right[:rank]).to(dtype).contiguous()
    save_file(mean, out, metadata=header)


if __name__ == "__main__":
    main(*sys.argv[1:4])
