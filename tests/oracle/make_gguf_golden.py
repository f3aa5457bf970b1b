"""Writes goldens/tiny_llama.gguf with PyPI's gguf, and prints the logits that llama.cpp finds for a few tokens, for
tests/imported_models_test.cc.

    venv/bin/pip install gguf llama-cpp-python safetensors
    venv/bin/python tests/oracle/make_gguf_golden.py

One layer of width 16, heads of 8 whose rotation is stretched, no tokenizer, and keys of every type.
"""

import pathlib

import check_gguf
import llama_cpp
import numpy as np

TOKENS = [3, 7, 1, 10, 3]


def add_more(writer):
    writer.add_tokenizer_model("none")
    writer.add_uint8("test.u8", 200)
    writer.add_int8("test.i8", -100)
    writer.add_uint16("test.u16", 60000)
    writer.add_int16("test.i16", -30000)
    writer.add_int32("test.i32", -(2**31))
    writer.add_uint64("test.u64", 2**64 - 1)
    writer.add_int64("test.i64", -(2**63))
    writer.add_float32("test.f32", 0.1)
    writer.add_float64("test.f64", 0.1)
    writer.add_bool("test.bool", True)
    writer.add_array("test.texts", ["a", "", "ßc"])
    writer.add_array("test.numbers", [1, -2, 3])


def main():
    check_gguf.V, check_gguf.C, check_gguf.L, check_gguf.H, check_gguf.K = 12, 16, 1, 2, 1
    options = {"ffn": 16, "stretched": True}
    path = pathlib.Path(__file__).parent / "goldens/tiny_llama.gguf"
    tensors = check_gguf.tensors_of("llama", options, np.random.default_rng(3))
    check_gguf.write_model(path, "llama", options, tensors, add_more)
    model = check_gguf.LlamaCpp(path).model
    model.eval(TOKENS)
    for row in model.scores[: len(TOKENS)]:
        print("{" + ", ".join(f"{value:.7g}F" for value in row) + "},")
    print("llama-cpp-python", llama_cpp.__version__)


if __name__ == "__main__":
    main()
