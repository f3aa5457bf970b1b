#!/usr/bin/env python3
"""Writes the kept corpus of the fuzz targets (docs/fuzzing.md): tests/fuzz/corpus/<target>/<kind>-<what it is>.

valid-*: must be read; bad-*: must be refused; odd-*: may be either, and must do no harm. Files found-*, which fuzzing
found, are not touched. Everything is made here, of nothing but this text; needs no packages.
"""

import base64
import gzip
import json
import os
import struct

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")


def put(target, name, data):
    os.makedirs(os.path.join(ROOT, target), exist_ok=True)
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogateescape")
    assert len(data) <= 8192, (target, name, len(data))
    with open(os.path.join(ROOT, target, name), "wb") as file:
        file.write(data)


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


# ---------------------------------------------------------------- tokenizer.json
def byte_chars():
    """The character that stands for each byte (GPT-2's alphabet)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    chars, extra = {}, 0
    for byte in range(256):
        chars[byte] = chr(byte) if byte in plain else chr(256 + extra)
        extra += byte not in plain
    return chars


CHARS = byte_chars()


def tokenizer(model=None, **parts):
    whole = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None, "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                                            "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4}, "merges": [["a", "b"], ["ab", "c"]]},
    }
    whole.update(parts)
    if model:
        whole["model"] = {**whole["model"], **model}
    return whole


def split(pattern):
    return {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}


def tokenizers():
    all_bytes = {CHARS[b]: b for b in range(256)}
    all_bytes["he"] = 256
    put("tokenizer_json", "valid-all-bytes", compact(tokenizer({"vocab": all_bytes, "merges": ["h e"]})))
    put("tokenizer_json", "valid-few-letters", compact(tokenizer()) + "\0abcabcab")
    special = [{"id": 5, "content": "<|end|>", "single_word": False, "lstrip": True, "rstrip": True,
                "normalized": False, "special": True}]
    put("tokenizer_json", "valid-special-that-strips", compact(tokenizer(added_tokens=special)) + "\0 <|end|> ab")
    sentence = tokenizer(
        {"unk_token": "<unk>", "byte_fallback": True, "fuse_unk": True,
         "vocab": {"<unk>": 0, "\u2581": 1, "a": 2, "\u2581a": 3}, "merges": [["\u2581", "a"]]},
        normalizer={"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
        pre_tokenizer=None,
        decoder={"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})
    put("tokenizer_json", "valid-normalizer-and-decoder", compact(sentence) + "\0a a b")
    put("tokenizer_json", "valid-unigram", compact(tokenizer(
        normalizer=None, pre_tokenizer={"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always",
                                        "split": True},
        decoder={"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}) | {
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0], ["\u2581", -1], ["a", -2], ["\u2581a", -1.5]],
                  "byte_fallback": False}}))
    put("tokenizer_json", "valid-split-by-expression", compact(tokenizer(pre_tokenizer=split(r"\p{L}+|\p{N}{1,3}|."))))
    put("tokenizer_json", "valid-catastrophic-expression",
        compact(tokenizer(pre_tokenizer=split("(?:a|aa)+b|."))) + "\0" + "a" * 100)
    put("tokenizer_json", "bad-deep-nesting", "[" * 2000)
    put("tokenizer_json", "bad-deep-nesting-in-a-field", '{"model":' + '{"a":' * 300 + "1" + "}" * 301)
    put("tokenizer_json", "bad-key-twice", '{"model":{"type":"BPE","vocab":{"a":0,"a":1},"merges":[]}}')
    put("tokenizer_json", "bad-huge-id", compact(tokenizer({"vocab": {"a": 2147483647}, "merges": []})))
    put("tokenizer_json", "bad-negative-id", compact(tokenizer({"vocab": {"a": -1}, "merges": []})))
    put("tokenizer_json", "bad-empty-lists", "{\"added_tokens\":[" + "[]," * 1200 + "[]]}")
    put("tokenizer_json", "bad-expression-that-matches-nothing", compact(tokenizer(pre_tokenizer=split("(a*)*"))))
    put("tokenizer_json", "bad-merge-of-nothing", compact(tokenizer({"merges": [["a", "x"]]})))

    put("regex", "valid-words", "\\p{L}+|\\p{N}{1,3}|\\s+(?!\\S)|.\nabc 123  x\u00e9\xff")
    put("regex", "valid-catastrophic-alternatives", "(?:a|a)+b\n" + "a" * 100)
    put("regex", "valid-catastrophic-nesting", "(?:(?:x+)+)+y\n" + "x" * 100)
    put("regex", "valid-look-ahead-in-a-loop", "(?:(?!b)a)+|(?=.*c)a\n" + "a" * 100)
    put("regex", "valid-classes", "[\\p{Lo}&&[^\\p{Han}]]+|(?i:'s|'t)|[^\\r\\n]\nit's")
    put("regex", "bad-deep-groups", "(" * 3000)
    put("regex", "bad-deep-classes", "[" * 3000)
    put("regex", "bad-counts-that-multiply", "(?:(?:(?:(?:a{999}){999}){999}){999}){999}")
    put("regex", "bad-back-reference", "(a)\\1\naa")

    ranks = "".join(f"{base64.b64encode(bytes([b])).decode()} {b}\n" for b in range(256))
    put("tiktoken", "valid-all-bytes", "\x02" + ranks + base64.b64encode(b"he").decode() + " 256\n")
    put("tiktoken", "valid-a-run-made-many-ways", "\0IA== 0\nICA= 1\nICAg 2\nICAgIA== 3\n")
    put("tiktoken", "bad-rank-beyond-31-bits", "\0IQ== 0\nIg== 2147483648\n")
    put("tiktoken", "bad-rank-beyond-32-bits", "\0IQ== 0\nIg== 4294967297\n")
    put("tiktoken", "bad-rank-below-zero", "\0IQ== 0\nIg== -1\n")
    put("tiktoken", "bad-rank-twice", "\0IQ== 0\nIg== 0\n")
    put("tiktoken", "bad-base64", "\0I!== 0\n")
    put("tiktoken", "bad-base64-bits-behind-the-end", "\0IR== 0\n")
    put("tiktoken", "bad-empty-token", "\0 0\n")

    vocab = compact({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3})
    put("vocab_merges", "valid-two-letters", vocab + "\0#version: 0.2\na b\n")
    put("vocab_merges", "bad-three-parts", vocab + "\0a b c\n")
    put("vocab_merges", "bad-merge-without-token", vocab + "\0a x\n")
    put("vocab_merges", "bad-merge-not-utf-8", vocab.encode() + b"\0a \xff\n")
    put("vocab_merges", "bad-id-of-text", '{"a":"0"}\0')
    put("vocab_merges", "bad-deep-nesting", "[" * 1000 + "\0")


# ---------------------------------------------------------------- protocol buffers
def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def number(key, value):
    return varint(key << 3) + varint(value)


def piece(text, score, kind=1):
    content = field(1, text.encode()) + varint(2 << 3 | 5) + struct.pack("<f", score)
    return field(1, content + (number(3, kind) if kind != 1 else b""))


def sentencepiece():
    pieces = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3)
    words = b"".join(piece(t, -i) for i, t in enumerate(["\u2581a", "ab", "\u2581", "a", "b", "c"]))
    trainer = lambda kind: field(2, number(3, kind))
    normalizer = field(3, field(1, b"identity") + number(3, 1) + number(4, 1) + number(5, 1))
    put("sentencepiece", "valid-merging", pieces + words + trainer(2) + normalizer)
    put("sentencepiece", "valid-unigram", pieces + words + trainer(1) + normalizer)
    all_bytes = b"".join(piece(f"<0x{b:02X}>", 0, 6) for b in range(256))
    put("sentencepiece", "odd-byte-pieces", (pieces + words + all_bytes)[:4000])
    put("sentencepiece", "bad-length-of-64-bits", b"\x0a" + b"\xff" * 9 + b"\x01")
    put("sentencepiece", "bad-number-of-70-bits", b"\x0a" + b"\xff" * 10 + b"\x01")
    put("sentencepiece", "bad-length-past-the-end", b"\x0a\xff\xff\xff\xff\x07abc")
    put("sentencepiece", "bad-field-zero", b"\x02\x01a")
    put("sentencepiece", "bad-groups", b"\x0b" * 1000)
    put("sentencepiece", "bad-no-pieces", trainer(2))
    # A trie that says it is longer than its blob; and one whose units point at themselves.
    nowhere = struct.pack("<5I", 16, 0xFFFFFFFF, 0x7FFFFFFF, 0, 1) + b"x\0"
    for name, blob in {"bad-charsmap-length": b"\xff\xff\xff\x7f" + b"\0" * 8,
                       "odd-charsmap-that-points-nowhere": nowhere}.items():
        put("sentencepiece", name, pieces + words + trainer(2) + field(3, field(2, blob)))
    put("sentencepiece", "odd-score-nan", pieces + words + field(1, field(1, b"q") + varint(21) + b"\0\0\xc0\x7f") +
        trainer(1))
    put("sentencepiece", "bad-model-of-words", pieces + words + trainer(3))

    tokens = "2\0<unk>\n3\0<s>\n3\0</s>\n" + "".join(f"1{chr(i)}{t}\n" for i, t in
                                                     enumerate(["\u2581a", "ab", "\u2581", "a", "b", "c"], 1))
    put("gguf_vocabulary", "valid-llama", "\0llama\ndefault\n" + tokens)
    put("gguf_vocabulary", "valid-t5", "\0t5\ndefault\n" + tokens)
    put("gguf_vocabulary", "valid-gpt2", "\0gpt2\ngpt-2\n1\0a\n1\0b\n1\0ab\n+a b\n")
    put("gguf_vocabulary", "bad-begin-beyond-the-vocabulary", "\x11\x7fllama\ndefault\n" + tokens)
    put("gguf_vocabulary", "bad-kind", "\0klingon\n\n" + tokens)
    put("gguf_vocabulary", "bad-merge", "\0gpt2\ngpt-2\n1\0a\n+a x\n")


# ---------------------------------------------------------------- tensors
def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, (str, bytes)) else compact(header)
    if isinstance(text, str):
        text = text.encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(begin, end, shape, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def tensors():
    name = "safetensors"
    good = {"__metadata__": {"format": "pt"}, "a": entry(0, 8, [2]), "b": entry(8, 20, [3, 1]), "c": entry(20, 20, [0])}
    put(name, "valid-three-tensors", safetensors(good, bytes(range(20))))
    put(name, "valid-no-tensors", safetensors({}))
    put(name, "valid-scalar", safetensors({"s": entry(0, 2, [], "BF16")}, b"ab"))
    put(name, "bad-header-beyond-100-mb", safetensors({}, length=100_000_001))
    put(name, "bad-header-of-64-bits", safetensors({}, length=2**64 - 1))
    put(name, "bad-header-past-the-end", safetensors({}, length=1000))
    put(name, "bad-shorter-than-its-length", b"\1\0\0")
    put(name, "bad-overlap", safetensors({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, bytes(12)))
    put(name, "bad-hole", safetensors({"a": entry(0, 8, [2]), "b": entry(12, 20, [2])}, bytes(20)))
    put(name, "bad-bytes-of-no-tensor", safetensors({"a": entry(0, 8, [2])}, bytes(12)))
    put(name, "bad-shape-that-overflows", safetensors({"a": entry(0, 0, [2**32, 2**32])}))
    put(name, "bad-shape-that-overflows-to-what-fits", safetensors({"a": entry(0, 8, [2**62 + 2])}, bytes(8)))
    put(name, "bad-negative-offset", safetensors({"a": entry(-8, 0, [2])}, bytes(8)))
    put(name, "bad-negative-size", safetensors({"a": entry(0, 8, [-2])}, bytes(8)))
    put(name, "bad-end-before-begin", safetensors({"a": entry(8, 0, [2])}, bytes(8)))
    put(name, "bad-name-twice", safetensors('{"a":%s,"a":%s}' % (compact(entry(0, 8, [2])), compact(entry(8, 16, [2]))),
                                            bytes(16)))
    put(name, "bad-field-twice", safetensors(
        '{"a":{"dtype":"F32","dtype":"U8","shape":[2],"data_offsets":[0,8]}}', bytes(8)))
    put(name, "bad-offset-of-a-fraction", safetensors(
        '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2.0]}}', bytes(2)))
    put(name, "bad-deep-nesting", safetensors('{"a":' * 1 + "[" * 2000))
    put(name, "bad-too-many-dimensions", safetensors({"a": entry(0, 0, [1] * 500 + [0])}))
    put(name, "bad-dtype", safetensors({"a": entry(0, 8, [2], "F31")}, bytes(8)))
    put(name, "bad-not-json", safetensors(b"\xff\xfe{}"))

    index = lambda files: compact({"metadata": {"total_size": 16}, "weight_map": files})
    put("tensor_index", "valid-two-files", index({"a": "a.safetensors", "b": "b.safetensors"}))
    for kind, file in {"parent": "../secret.safetensors", "absolute": "/in/secret.safetensors",
                       "through-itself": "./a.safetensors", "backslash": "..\\secret.safetensors",
                       "nul": "a.safetensors\0.safetensors", "empty": "", "not-a-tensor-file": "/etc/passwd"}.items():
        put("tensor_index", "bad-file-" + kind, index({"a": file, "b": "b.safetensors"}))
    put("tensor_index", "bad-tensor-in-another-file", index({"a": "b.safetensors", "b": "a.safetensors"}))
    put("tensor_index", "bad-key-twice", '{"weight_map":{"a":"a.safetensors","a":"b.safetensors"}}')
    put("tensor_index", "bad-deep-nesting", '{"weight_map":' * 250)
    put("tensor_index", "bad-no-map", "{}")

    # dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len
    header = lambda *n: struct.pack("<7i", *n)
    small = (4, 6, 1, 2, 1, 5, 3)
    floats = 5 * 4 + 4 + (4 * 4 + 2 * 4 + 2 * 4 + 4 * 4) + 4 + 3 * 4 * 6 + 4 + 3 * 2
    texts = [b"<unk>", b"<s>", b"</s>", b"a", b"aa"]
    pieces = b"".join(struct.pack("<fi", -i, len(t)) + t for i, t in enumerate(texts))
    model = header(*small) + bytes(4 * floats)
    put("llama2c", "valid-without-tokenizer", model)
    put("llama2c", "valid-with-tokenizer", model + b"|tokenizer|" + struct.pack("<i", 5) + pieces)
    put("llama2c", "bad-negative-counts", header(-4, -6, -1, -2, -1, -5, -3) + bytes(400))
    put("llama2c", "bad-huge-counts", header(*[2**31 - 1] * 7) + bytes(400))
    put("llama2c", "bad-counts-that-overflow", header(1 << 24, 1 << 24, 1 << 24, 1, 1, 1 << 24, 1 << 24) + bytes(400))
    put("llama2c", "bad-no-heads", header(4, 6, 1, 0, 0, 5, 3) + bytes(400))
    put("llama2c", "bad-smallest-number-for-a-size", header(4, 6, 1, 2, 1, -2**31, 3) + bytes(400))
    put("llama2c", "bad-many-layers-of-nothing", header(2, 1, 1 << 24, 1, 1, 1, 1) + bytes(400))
    put("llama2c", "bad-version", struct.pack("<Ii", 0x616B3432, 7) + bytes(300))
    put("llama2c", "bad-cut", model[:-1])
    for kind, length in {"beyond-the-end": 1000, "negative": -1, "largest": 2**31 - 1}.items():
        put("llama2c", "bad-piece-length-" + kind, model + b"|tokenizer|" + struct.pack("<i", 5) + pieces[:-10] +
            struct.pack("<fi", 1, length) + b"ab")

# ---------------------------------------------------------------- GGUF
U32, I32, F32, BOOL, TEXT, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10


def gguf_text(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_value(kind, value):
    if kind == TEXT:
        return gguf_text(value)
    if kind == ARRAY:
        element, items = value
        return struct.pack("<IQ", element, len(items)) + b"".join(gguf_value(element, item) for item in items)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?", U64: "<Q"}[kind], value)


def gguf_key(name, kind, value):
    return gguf_text(name) + struct.pack("<I", kind) + gguf_value(kind, value)


def gguf_tensor(name, shape, kind, offset):
    return gguf_text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in shape) + struct.pack(
        "<IQ", kind, offset)


def gguf_file(keys, tensors, num_bytes, version=3, num_keys=None, num_tensors=None, alignment=32):
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors) if num_tensors is None else num_tensors,
                                 len(keys) if num_keys is None else num_keys) + b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + bytes(i % 251 for i in range(num_bytes))


def gguf_model(kinds=(0, 0), more=()):
    """One layer of a small llama; `kinds`: of the matrices and of the norms."""
    keys = [gguf_key("general.architecture", TEXT, "llama")]
    for name, kind, value in [("context_length", U32, 8), ("embedding_length", U32, 32), ("block_count", U32, 1),
                              ("feed_forward_length", U32, 32), ("attention.head_count", U32, 2),
                              ("attention.head_count_kv", U32, 1), ("attention.layer_norm_rms_epsilon", F32, 1e-5)]:
        keys.append(gguf_key("llama." + name, kind, value))
    keys += more
    tensors, offset = [], 0
    for name, shape in [("token_embd", (32, 3)), ("blk.0.attn_norm", (32,)), ("blk.0.attn_q", (32, 32)),
                        ("blk.0.attn_k", (32, 16)), ("blk.0.attn_v", (32, 16)), ("blk.0.attn_output", (32, 32)),
                        ("blk.0.ffn_norm", (32,)), ("blk.0.ffn_gate", (32, 32)), ("blk.0.ffn_up", (32, 32)),
                        ("blk.0.ffn_down", (32, 32)), ("output_norm", (32,))]:
        kind = kinds[len(shape) == 1]
        elements = shape[0] * (shape[1] if len(shape) > 1 else 1)
        tensors.append(gguf_tensor(name + ".weight", shape, kind, offset))
        size = {0: 4 * elements, 1: 2 * elements, 2: elements // 32 * 18, 8: elements // 32 * 34}[kind]
        offset += size + -size % 32
    return gguf_file(keys, tensors, offset)


def gguf():
    tokens = [gguf_key("tokenizer.ggml.model", TEXT, "llama"),
              gguf_key("tokenizer.ggml.tokens", ARRAY, (TEXT, ["<unk>", "<s>", "a"])),
              gguf_key("tokenizer.ggml.scores", ARRAY, (F32, [0.0, 0.0, -1.0])),
              gguf_key("tokenizer.ggml.token_type", ARRAY, (I32, [2, 3, 1])),
              gguf_key("tokenizer.ggml.bos_token_id", U32, 1), gguf_key("tokenizer.ggml.unknown_token_id", U32, 0)]
    put("gguf", "valid-model-of-q4-0", gguf_model((2, 1)))
    put("gguf", "valid-model-with-tokenizer", gguf_model((2, 0), tokens))
    one = [gguf_key("general.alignment", U32, 32)]
    a = gguf_tensor("a", (8,), 0, 0)
    put("gguf", "valid-one-tensor", gguf_file(one, [a], 32))
    put("gguf", "valid-version-2", gguf_file([], [a], 32, version=2))
    put("gguf", "valid-nothing", gguf_file([], [], 0))
    put("gguf", "valid-nested-arrays", gguf_file([gguf_key("k", ARRAY, (ARRAY, [(U32, [1, 2]), (TEXT, ["x"])]))], [], 0))
    put("gguf", "bad-magic", b"GGML" + gguf_file([], [], 0)[4:])
    put("gguf", "bad-version", gguf_file([], [], 0, version=77))
    put("gguf", "bad-number-of-keys", gguf_file([], [], 0, num_keys=2**64 - 1))
    put("gguf", "bad-number-of-tensors", gguf_file([], [], 0, num_tensors=2**63))
    put("gguf", "bad-text-past-the-end", gguf_file([struct.pack("<Q", 2**64 - 8) + b"key"], [], 0))
    put("gguf", "bad-array-past-the-end", gguf_file([gguf_text("k") + struct.pack("<IIQ", ARRAY, U64, 2**61)], [], 0))
    put("gguf", "bad-type-of-value", gguf_file([gguf_text("k") + struct.pack("<IQ", 99, 0)], [], 0))
    put("gguf", "bad-arrays-without-end", gguf_file(
        [gguf_text("k") + struct.pack("<I", ARRAY) + struct.pack("<IQ", ARRAY, 1) * 200 + struct.pack("<IQ", U32, 0)], [],
        0))
    put("gguf", "bad-key-twice", gguf_file(one * 2, [a], 32))
    put("gguf", "bad-tensor-twice", gguf_file([], [a, gguf_tensor("a", (8,), 0, 32)], 64))
    for kind, value in {"zero": 0, "three": 3, "largest": 2**32 - 1}.items():
        put("gguf", "bad-alignment-" + kind, gguf_file([gguf_key("general.alignment", U32, value)], [a], 32))
    put("gguf", "bad-dimensions-that-overflow", gguf_file([], [gguf_tensor("a", (2**32, 2**32), 0, 0)], 32))
    put("gguf", "bad-dimensions-that-overflow-to-what-fits", gguf_file([], [gguf_tensor("a", (2**62 + 8,), 0, 0)], 32))
    put("gguf", "bad-many-dimensions", gguf_file([], [gguf_tensor("a", (1,) * 40, 0, 0)], 32))
    put("gguf", "bad-row-of-half-a-block", gguf_file([], [gguf_tensor("a", (8,), 8, 0)], 34))
    put("gguf", "bad-type-of-tensor", gguf_file([], [gguf_tensor("a", (8,), 250, 0)], 32))
    put("gguf", "bad-overlap", gguf_file([], [a, gguf_tensor("b", (8,), 0, 0)], 32))
    put("gguf", "bad-hole", gguf_file([], [a, gguf_tensor("b", (8,), 0, 64)], 96))
    put("gguf", "bad-offset-out-of-range", gguf_file([], [gguf_tensor("a", (8,), 0, 2**64 - 32)], 32))
    put("gguf", "bad-cut", gguf_file([], [a], 32)[:-1])
    put("gguf", "odd-token-id-out-of-range", gguf_model((2, 0), tokens[:-1] +
                                                         [gguf_key("tokenizer.ggml.unknown_token_id", U32, 2**31)]))
    put("gguf", "odd-more-scores-than-tokens", gguf_model((2, 0), tokens[:2] +
                                                           [gguf_key("tokenizer.ggml.scores", ARRAY, (F32, [0.0] * 9))]))


def configs():
    llama = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
             "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100,
             "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "hidden_act": "silu", "rope_theta": 10000.0,
             "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
    put("hf_config", "valid-llama", compact(llama))
    put("hf_config", "valid-llama-3-rope", compact({**llama, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}}))
    put("hf_config", "valid-mixtral", compact({
        **llama, "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_local_experts": 4,
        "num_experts_per_tok": 2}))
    put("hf_config", "valid-gpt2", compact({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 48,
                                            "n_head": 4, "n_layer": 2, "n_positions": 64, "n_ctx": 64,
                                            "vocab_size": 100, "layer_norm_epsilon": 1e-5,
                                            "activation_function": "gelu_new"}))
    for name, change in {"huge-size": {"hidden_size": 2**62}, "negative-size": {"num_hidden_layers": -1},
                         "no-heads": {"num_attention_heads": 0}, "fraction": {"vocab_size": 0.5},
                         "number-as-text": {"vocab_size": "100"},
                         "heads-that-do-not-divide": {"num_attention_heads": 7},
                         "endless-number": {"rms_norm_eps": 1e308 * 10},
                         "rope-of-a-list": {"rope_scaling": [1]}}.items():
        put("hf_config", "bad-" + name, compact({**llama, **change}).replace("Infinity", "1e999"))
    put("hf_config", "bad-key-twice", '{"model_type":"llama","model_type":"gpt2"}')
    put("hf_config", "bad-deep-nesting", '{"model_type":"llama","quantization_config":' + "[" * 500 + "]" * 500 + "}")
    put("hf_config", "bad-not-an-object", "[1]")


# ---------------------------------------------------------------- shards, checkpoints
def shards():
    def shard(tokens, ends, vocab=100, num_tokens=None, num_documents=None, source=0, token_bytes=2, block=1 << 20,
              magic=b"CLSTOKEN", end=b"CLSTKEND", version=1):
        form = "<%d%s" % (len(tokens), "H" if token_bytes == 2 else "I")
        payload = struct.pack(form, *tokens) + struct.pack("<%dI" % len(ends), *ends)
        return (b"\0" + magic + struct.pack("<IIQQQQQQ", version, token_bytes, vocab, 7, block, 0, 0, 0) + payload +
                (b"\0" * 8 if payload else b"") +
                struct.pack("<QQQQQQQ", len(tokens) if num_tokens is None else num_tokens,
                            len(ends) if num_documents is None else num_documents, source, 0, 0, 0, 0) + end)

    put("shard", "valid-two-documents", shard([1, 2, 3, 4, 99], [2, 5], source=11))
    put("shard", "valid-wide-ids", shard([1, 70000, 3], [3], vocab=100000, token_bytes=4))
    put("shard", "valid-empty", shard([], []))
    put("shard", "bad-checksums", b"\1" + shard([1, 2, 3], [3])[1:])
    put("shard", "bad-id-beyond-the-vocabulary", shard([1, 2, 100], [3]))
    put("shard", "bad-id-with-the-sign-bit", shard([1, 0x80000000, 3], [3], vocab=100000, token_bytes=4))
    put("shard", "bad-ends-that-fall", shard([1, 2, 3], [2, 1, 3]))
    put("shard", "bad-end-beyond-the-tokens", shard([1, 2, 3], [9]))
    put("shard", "bad-more-documents-than-tokens", shard([1], [1, 1]))
    put("shard", "bad-counts-beyond-the-file", shard([1, 2], [2], num_tokens=2**31))
    put("shard", "bad-counts-that-overflow", shard([1, 2], [2], num_tokens=2**63 + 1, num_documents=2**62))
    put("shard", "bad-no-vocabulary", shard([1], [1], vocab=0))
    put("shard", "bad-huge-vocabulary", shard([1], [1], vocab=2**63, token_bytes=4))
    put("shard", "bad-ids-of-another-width", shard([1], [1], vocab=100, token_bytes=4))
    put("shard", "bad-blocks-of-nothing", shard([1], [1], block=0))
    put("shard", "bad-version", shard([1], [1], version=9))
    put("shard", "bad-cut", shard([1, 2, 3], [3])[:-20])
    put("shard", "bad-magic", shard([1], [1], magic=b"SOMETHIN"))

    def index(**change):
        listing = {"file": "train-00000.tokens", "num_tokens": 5, "num_documents": 2, "num_source_bytes": 11,
                   "checksum": "00000000000000ff"}
        listing.update({k[5:]: v for k, v in change.items() if k.startswith("file_")})
        whole = {"format": "colossus token shards", "version": 1, "dtype": "uint16", "vocab_size": 100,
                 "tokenizer_hash": "0123456789abcdef", "bos_token": 3, "eos_token": None, "split_rule": "by hash",
                 "train": [listing], "validation": []}
        whole.update({k: v for k, v in change.items() if not k.startswith("file_")})
        return compact(whole)

    put("shard_index", "valid-one-shard", index())
    for name, file in {"parent": "../train.tokens", "absolute": "/etc/passwd", "itself": ".", "above": "..",
                       "empty": ""}.items():
        put("shard_index", "bad-file-" + name, index(file_file=file))
    put("shard_index", "bad-count-below-zero", index(file_num_tokens=-1))
    put("shard_index", "bad-count-beyond-32-bits", index(file_num_tokens=2**32))
    put("shard_index", "bad-checksum", index(file_checksum="xyz"))
    put("shard_index", "bad-begin-token-beyond-the-vocabulary", index(bos_token=100))
    put("shard_index", "bad-no-vocabulary", index(vocab_size=0))
    put("shard_index", "bad-deep-format", '{"format":' + "[" * 1500 + "]" * 1500 + "}")
    put("shard_index", "bad-list-of-numbers", index(train=[1, 2, 3]))

    def manifest(files=None, **change):
        tensor = {"file": "model", "name": "w", "dtype": "f32", "shape": [2, 3],
                  "pieces": [{"in": "model-00001-of-00001.safetensors", "blocks": "0123456789abcdef"}]}
        tensor.update({k[7:]: v for k, v in change.items() if k.startswith("tensor_")})
        whole = {"format": "colossus-checkpoint", "version": 2, "block_bytes": 4 << 20, "step": 20,
                 "files": {"model-00001-of-00001.safetensors": 100} if files is None else files,
                 "texts": {"config.toml": "00000000000000aa"}, "tensors": [tensor]}
        whole.update({k: v for k, v in change.items() if not k.startswith("tensor_")})
        return compact(whole) + "\n"

    place = "model-00001-of-00001.safetensors"
    blocks = "0123456789abcdef"
    put("manifest", "valid-one-tensor", manifest(validation_loss=2.5))
    put("manifest", "valid-two-pieces", manifest(
        files={"a": 1, "b": 2}, tensor_pieces=[{"in": "a", "begin": [0, 0], "shape": [1, 3], "blocks": blocks},
                                               {"in": "b", "begin": [1, 0], "shape": [1, 3], "blocks": blocks}]))
    put("manifest", "valid-range", manifest(tensor_pieces=[{"in": place, "range": [1, 4], "blocks": blocks}]))
    put("manifest", "bad-shape-that-overflows", manifest(tensor_shape=[2**62, 2**62]))
    put("manifest", "bad-negative-shape", manifest(tensor_shape=[-2, 3]))
    put("manifest", "bad-blocks-that-do-not-fit", manifest(tensor_shape=[2**40, 2**20]))
    put("manifest", "bad-piece-outside", manifest(tensor_pieces=[{"in": place, "begin": [1, 1], "shape": [2, 3],
                                                                 "blocks": blocks}]))
    put("manifest", "bad-piece-that-begins-at-the-last-number", manifest(
        tensor_pieces=[{"in": place, "begin": [2**63 - 1, 0], "shape": [1, 3], "blocks": blocks}]))
    put("manifest", "bad-range-backwards", manifest(tensor_pieces=[{"in": place, "range": [4, 1], "blocks": blocks}]))
    put("manifest", "bad-file-parent", manifest(files={"../x": 1}))
    put("manifest", "bad-text-parent", manifest(texts={"../../.ssh/authorized_keys": "00000000000000aa"}))
    put("manifest", "bad-too-many-dimensions", manifest(tensor_shape=[1] * 100))
    put("manifest", "bad-deep-version", '{"format":"colossus-checkpoint","version":' + "[" * 1500 + "]" * 1500 + "}\n")
    put("manifest", "bad-dtype", manifest(tensor_dtype="f31"))


# ---------------------------------------------------------------- configurations and tables
def settings():
    put("toml", "valid-empty", "")
    put("toml", "valid-run", 'out = "out/x"\n[model]\nnum_layers = 2\n[train]\nsteps = 1e3\nbatch = 8\n'
        'sample_prompt = "a\\u00e9\\n"\n[[data.sources]]\npath = "shards"\nweight = 0.5\n')
    put("toml", "bad-deep-lists", "a = " + "[" * 2000)
    put("toml", "bad-deep-tables", "a = " + "{a=" * 1000)
    put("toml", "bad-deep-dotted-key", ".".join(["a"] * 2000) + " = 1\n")
    put("toml", "bad-deep-header", "[" + ".".join(["a"] * 2000) + "]\n")
    put("toml", "bad-many-unknown-keys", "".join(f"k{i} = 1\n" for i in range(400)))
    put("toml", "bad-long-key", "a" * 4000 + " = 1\n")
    put("toml", "bad-key-twice", "[train]\nsteps = 1\nsteps = 2\n")
    put("toml", "bad-date", "out = 2024-01-01\n")
    put("toml", "bad-endless-number", "[train]\nmax_seconds = nan\n")
    put("toml", "bad-number-beyond-64-bits", "[train]\nsteps = 99999999999999999999\n")
    put("toml", "bad-extends-another-file", 'extends = "/etc/passwd"\n')
    put("toml", "bad-not-utf-8", b'out = "\xff\xfe"\n')

    put("cluster_toml", "valid-calibration", 'rank_deviation = 0.01\n[[machines]]\ngpu = "A100"\n[machines.rates]\n'
        'clock = 1.0\nmemory = 0.9\n')
    put("cluster_toml", "bad-gpus-without-speed", 'name = "x"\n[[pools]]\nname = "p"\nnodes = -1\n')
    put("cluster_toml", "bad-many-pools", "[[pools]]\n" * 300 + "x = 1\n")

    head = "source,name,gpu,count,tp,pp,vpp,cp,ep,dp,micro_batch,global_batch,seq,layers,hidden,ffn,heads,kv_heads,"
    head += "vocab,experts,topk,dtype,recompute,tflops_per_gpu,mfu,step_seconds,tokens_per_s,verified\n"
    row = 'x,small,A100,8,1,1,1,1,1,8,1,8,2048,24,2304,9216,24,24,51200,1,1,bf16,none,,,1.5,,"a, ""b"""\n'
    put("published_run", "valid-one-row", head + row)
    put("published_run", "bad-no-gpus", head + row.replace("A100,8", "A100,0"))
    put("published_run", "bad-endless-numbers", head + row.replace("1.5", "inf").replace("24,24", "nan,24"))
    put("published_run", "bad-huge-layout", head + row.replace(",8,1,1,1,1,1,8,", ",8,1e12,1e12,1e12,1e12,1e12,1e12,"))
    put("published_run", "bad-no-time", head + row.replace("1.5", "0"))
    put("published_run", "bad-quote-without-end", head + '"x')
    put("published_run", "bad-column-twice", "a,a\n1,2\n")
    put("published_run", "bad-empty", "")


# ---------------------------------------------------------------- texts of other programs
def zstd_frame(blocks, window=0):
    """blocks: (kind, size, content); kind 0 raw, 1 one byte repeated. `window`: log2 - 10, of the header."""
    out = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([window << 3])
    for at, (kind, size, content) in enumerate(blocks):
        head = (at + 1 == len(blocks)) | kind << 1 | size << 3
        out += struct.pack("<I", head)[:3] + content
    return out


def texts():
    line = '{"text":"Hello \\u00e9","other":[1,2]}\n'
    put("documents", "valid-lines", b"\0" + line.encode() * 3)
    put("documents", "valid-text", b"\1A text\nof lines \xc3\xa9\n" * 20)
    put("documents", "valid-manual-page", b"\2.TH X 1\n.SH NAME\nx \\- a thing\n.de Y\n.Y\n..\n.Y\n.if t .B z\n")
    put("documents", "odd-page-that-calls-itself", b"\2.TH X 1\n.de Y\n.Y\n.Y\n..\n.Y\n.ds A \\*A\\*A\n\\*A\n")
    put("documents", "odd-page-with-a-huge-repeat",
        b"\2.TH X 1\n.nr N 999999999\n.sp \\nN\n.in 99999999\ntext\n\\h'99999999'\n")
    put("documents", "bad-deep-line", b'\0{"text":' + b"[" * 2000 + b"\n")
    put("documents", "bad-field-of-a-number", b'\0{"text":7}\n')
    put("documents", "bad-line-that-is-cut", b'\0{"text":"a\n')
    put("documents", "bad-surrogate", b'\0{"text":"\\ud800"}\n')
    put("documents", "valid-gzip", b"\3" + gzip.compress(line.encode() * 50, mtime=0))
    put("documents", "bad-gzip-cut", b"\3" + gzip.compress(line.encode() * 50, mtime=0)[:-9])
    put("documents", "odd-bytes", b"\1" + bytes(range(256)))

    put("compressed", "valid-plain", b"no compression")
    put("compressed", "valid-gzip", gzip.compress(b"hello " * 100, mtime=0))
    put("compressed", "valid-two-members", gzip.compress(b"a", mtime=0) + gzip.compress(b"b", mtime=0) + bytes(20))
    put("compressed", "valid-gzip-a-thousandfold", gzip.compress(bytes(2_000_000), mtime=0))
    put("compressed", "valid-zstd-raw", zstd_frame([(0, 5, b"hello")]))
    put("compressed", "valid-zstd-skippable", b"\x50\x2a\x4d\x18\x03\0\0\0xyz" + zstd_frame([(0, 2, b"hi")]))
    put("compressed", "bad-zstd-bomb", zstd_frame([(1, (1 << 17), b"a")] * 1000, window=17 - 10))
    put("compressed", "bad-zstd-window-beyond-128-mb", zstd_frame([(0, 1, b"a")], window=31 - 10))
    put("compressed", "bad-zstd-cut", zstd_frame([(0, 5, b"hello")])[:-1])
    put("compressed", "bad-zstd-block-beyond-the-end", zstd_frame([(0, 100000, b"hello")]))
    put("compressed", "bad-gzip-cut", gzip.compress(b"hello " * 100, mtime=0)[:-5])
    put("compressed", "bad-gzip-checksum", gzip.compress(b"hello", mtime=0)[:-8] + bytes(8))
    put("compressed", "bad-gzip-name-without-end", b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * 500)


    report = {"host": "node-1", "verdict": "slow", "seconds": 3.5, "results": [
        {"name": "memory_read", "verdict": "slow", "value": 10.5, "unit": "GB/s", "expected": 20,
         "expected_from": "file", "message": "slow: \u00e9\n\u001b[31m"}]}
    put("node_report", "valid-report", compact(report))
    put("node_report", "bad-host-with-a-command", compact({**report, "host": "a;reboot"}))
    put("node_report", "bad-deep-nesting", '{"host":"a","results":' + "[" * 2000)
    put("node_report", "bad-result-with-a-command", compact({
        **report, "results": [{"name": "$(reboot)", "verdict": "bad"}]}))
    put("node_report", "odd-host-list", "gpu[001-003,7],login")
    put("node_report", "bad-host-list-that-multiplies", "a" * 3000 + "[0-99999]")
    put("node_report", "bad-host-list-of-billions", "a[0-4294967295]")

    smi = ("Driver Version                            : 590.48.01\nGPU 00000000:00:09.0\n"
           "    Product Name                          : NVIDIA H100 80GB HBM3\n    PCI\n"
           "        Bus Id                            : 00000000:00:09.0\n    HW Slowdown          : Active\n"
           "        HW Thermal Slowdown : Active\n    FB Memory Usage\n        Total    : 81559 MiB\n"
           "    ECC Errors\n        Volatile\n            SRAM Correctable : 9223372036854775807\n"
           "            DRAM Correctable : 9223372036854775807\n")
    put("nvidia_smi", "valid-query", smi)
    put("nvidia_smi", "valid-csv", "index, name, memory.total [MiB]\n0, NVIDIA H100, 81559 MiB\n1, [N/A], [N/A]\n")
    put("nvidia_smi", "valid-topology", "\tGPU0\tGPU1\tCPU Affinity\nGPU0\t X \tNV18\t0-1\nGPU1\tNV18\t X \t0-1\n")
    put("nvidia_smi", "valid-nvlinks", "GPU 0: NVIDIA H100\n\t Link 0: 26.562 GB/s\n\t Link 1: <inactive>\n")
    put("nvidia_smi", "odd-far-to-the-right", "GPU 0\n" + " " * 4000 + "x : 1\n")
    put("nvidia_smi", "bad-nothing", "No devices were found\n")
    put("nvidia_smi", "bad-topology-of-more-columns", "\tGPU0\tGPU1\tGPU2\nGPU0\tX\n")
    put("nvidia_smi", "bad-csv-short", "index, name\n0\n")

    put("kernel_log", "valid-xid", "[ 12.345678] NVRM: Xid (PCI:0000:9b:00): 79, pid=1, GPU has fallen off the bus.\n"
        "6,3964,206764307,-;EDAC MC0: 1 UE memory read error\n")
    put("kernel_log", "bad-xid-beyond-32-bits", "NVRM: Xid (PCI:0000:9b:00): 99999999999, x\n")
    put("kernel_log", "valid-many-kinds", "".join(f"NVRM: Xid (P{i}): 79, x\n" for i in range(150)))
    put("kernel_log", "bad-brackets", "[[[[ ]]]] ;;;;,,,, [nan] [inf]\n")

    listing = ('<?xml version="1.0"?><ListBucketResult xmlns="x"><Contents><Key>a&amp;b&#x41;</Key><Size>12</Size>'
               "</Contents><CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes><Key/></ListBucketResult>")
    put("s3_xml", "valid-listing", listing)
    put("s3_xml", "bad-tags-without-end", "<Contents" * 450)
    put("s3_xml", "bad-entities-without-end", "&" * 4000)
    put("s3_xml", "odd-entities", "<Key>&#1114112;&#xD800;&#0;&#99999999999;&;&amp</Key>")
    put("s3_xml", "bad-elements-without-end", "<Key>" * 800)

    b64 = lambda text: base64.b64encode(text).decode()
    answer = {"header": {"revision": "5"}, "kvs": [{"key": b64(b"a/b"), "mod_revision": "5", "value": b64(b"hello")}],
              "count": "1"}
    put("etcd", "valid-value", compact(answer))
    put("etcd", "valid-nothing", '{"header":{}}')
    put("etcd", "bad-count", compact({**answer, "count": "9223372036854775807"}))
    put("etcd", "bad-revision", compact(answer).replace('"5","value"', '"99999999999999999999","value"'))
    put("etcd", "bad-deep-nesting", '{"header":{},"kvs":' + "[" * 3000)
    put("etcd", "bad-page-of-html", "<html><body>502 Bad Gateway</body></html>")
    put("etcd", "bad-empty", "")


def records():
    assignment = ("generation 3 1\nphase running why not\nshape 2 2 2 1\nmesh 2 1\nslots 0 -1\n"
                  "machine 0 1 i0 a\nmachine 1 0 - b c\nmachine 2 0 i2 d\nprocesses 0 2 1\nprocesses 2 4 0\n"
                  "restarts 1 3.5 7.0\nreplaced 2 4.5\nprogress 12 0\n")
    put("run_records", "valid-life", "\0" + "7 job-1 open")
    put("run_records", "valid-report", "\1machine i0 5 0\nrank 1 2 3 4 5 - 0 0 0 0 0\nwords it broke\nwrong 1 2\n")
    put("run_records", "valid-assignment", "\2" + assignment)
    put("run_records", "valid-membership", "\x04" + "3 2 1 w0.0.1 w0.1.1")
    put("run_records", "odd-waits", "\3group data 0 2 0 1\nrecord all_gather 7 7 12 -1 -1 100 100 30.1 -1 0\n")
    put("run_records", "odd-waits-of-more-members-than-text", "\3group data 0 99999999999 0 1\n")
    put("run_records", "bad-life-below-one", "\0" + "0 job open")
    put("run_records", "bad-ranks-that-overflow",
        "\2" + assignment.replace("shape 2 2 2 1", "shape 2147483647 2147483647 2 1"))
    put("run_records", "bad-ranks-without-number",
        "\2generation 1 0\nphase running x\nshape 1000000000 1000000000 1 0\nmesh 1 1\nslots 0\nmachine 0 0 i a\n"
        "processes 0 1000000000 1\nprogress 0 0\n")
    put("run_records", "bad-machine-out-of-the-list", "\2" + assignment.replace("slots 0 -1", "slots 0 9"))
    put("run_records", "bad-state", "\2" + assignment.replace("machine 0 1", "machine 7 1"))
    put("run_records", "bad-line-of-another-program", "\1machine i0 5 0\nhello\n")

    def frame(channel, message, size, kind_of_frame, kind, payload=b"", magic=0xC01F):
        return struct.pack("<QQIBBH", channel, message, size, kind_of_frame, kind, magic) + payload

    whole = frame(1, 100, 100, 2, 1, b"x" * 100)
    put("tcp_frames", "valid-message", whole)
    put("tcp_frames", "valid-among-others", frame(9, 3, 3, 2, 4, b"abc") + frame(3, 40000, 0, 1, 3) +
        frame(5, 5, 5, 3, 0, b"gone!") + whole)
    put("tcp_frames", "bad-other-length", frame(1, 99, 99, 2, 1, b"x" * 99))
    put("tcp_frames", "bad-other-kind", frame(1, 100, 100, 2, 7, b"x" * 100))
    put("tcp_frames", "bad-frame-longer-than-its-message", frame(1, 100, 4294967295, 2, 1, b"x" * 500))
    put("tcp_frames", "bad-ahead-without-end", frame(7, 100, 4294967295, 2, 1, b"x" * 500))
    put("tcp_frames", "bad-reason-without-end", frame(1, 0, 4294967295, 3, 0, b"x" * 500))
    put("tcp_frames", "bad-kind-of-frame", frame(1, 100, 100, 77, 1, b"x" * 100))
    put("tcp_frames", "bad-magic", frame(1, 100, 100, 2, 1, b"x" * 100, magic=1))
    put("tcp_frames", "bad-many-channels", b"".join(frame(i, 1, 0, 1, 0) for i in range(100, 260)))

    put("metrics", "valid-lines", '{"step":6,"time":1.0,"train/loss":2.5}\n{"step":9,"time":2}\nnot ours\n')
    put("metrics", "bad-later-steps", '{"step":8}\n{"step":9223372036854775807}\n')
    put("metrics", "bad-line-that-was-cut", '{"step":6,"time"')
    put("metrics", "odd-step-beyond-64-bits", '{"step":99999999999999999999}\n{"step":-1}\n{"step":\n')


if __name__ == "__main__":
    for make in (tokenizers, sentencepiece, tensors, gguf, configs, shards, settings, texts, records):
        make()
