"""Writes goldens/ggml_blocks.safetensors: quantized blocks and the numbers that they stand for, by PyPI's gguf.

    venv/bin/pip install gguf
    venv/bin/python tests/oracle/make_ggml_blocks.py

For each type "<type>.blocks" are random bytes (scales are small fp16 numbers, negative ones and zero among them) and
"<type>.numbers" what gguf.quants makes of them. "q8_0.from" are numbers, and "q8_0.made" their blocks.
"""

import pathlib

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

import safetensors_file

# Where fp16 scales lie in a block.
SCALES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2],
          "Q6_K": [208]}  # fmt: skip


def main():
    rng = np.random.default_rng(20)
    tensors = {}
    for name, scales in SCALES.items():
        kind = GGMLQuantizationType[name]
        elements, size = GGML_QUANT_SIZES[kind]
        count = 1 if elements == 256 else 3
        blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
        for i, at in enumerate(scales):
            values = rng.normal(0, 0.1, count).astype(np.float16)
            if count > 1:
                values[i] = 0
            blocks[:, at : at + 2] = values.view(np.uint8).reshape(count, 2)
        tensors[f"{name}.blocks"] = blocks
        tensors[f"{name}.numbers"] = quants.dequantize(blocks, kind).reshape(-1)
    numbers = rng.normal(0, 3, 128).astype(np.float32)
    numbers[32:64] = 0
    numbers[64:96] = np.arange(-16, 16) / 2 * (127 / 8)  # halves, which round away from zero
    numbers[96:] *= 1e-6
    tensors["q8_0.from"] = numbers
    tensors["q8_0.made"] = quants.quantize(numbers, GGMLQuantizationType.Q8_0)
    safetensors_file.write(pathlib.Path(__file__).parent / "goldens/ggml_blocks.safetensors", tensors, {})


if __name__ == "__main__":
    main()
