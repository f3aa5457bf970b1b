#!/usr/bin/env python3
"""Holds our tokenizers to tiktoken, Hugging Face's tokenizers and SentencePiece on random and nasty strings.

usage: compare_tokenizers.py --colossus build/bin/colossus --data DIR [--strings 100000] [--only NAME] [--keep DIR]
needs: pip install tiktoken tokenizers sentencepiece==0.1.99 (0.2 rounds scores before it compares them)
DIR holds tiktoken/*.tiktoken, gpt2/tokenizer.json, sentencepiece/*.model, and text files somewhere below ../text.
Tokenizers of the known families are trained small, by the libraries themselves, with the families' steps around them.
"""
import argparse
import collections
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import unicodedata

import sentencepiece
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers)

from tiktoken_encodings import CL100K, O200K, QWEN2, tiktoken_cases

DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
            r"\s*[\r\n]+|\s+(?!\S)|\s+")
KIMI = (r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
        r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
        r"\s*[\r\n]+|\s+(?!\S)|\s+|.")
BLANK = "\u2581"


# ---- strings

# Where rules begin and end: quotes, blanks of all kinds, digits, letters of all cases, marks, joiners, what looks like
# tokens. Letters that the libraries' Unicode versions tell apart are left out: they are too new.
NASTY = ["'", "'s", "'S", "'ll", "'\u017f", " ", "  ", "    ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2028", "\x0b", "\x85",
         "a", "B", "the", "The", "THE", " hello", "world", "1", "12", "345", "\u0664", "\u2163", "\u00bd", "\u00e9", "e\u0301", "\u0130", "\u01c5",
         "\u02b0", "\u4e2d", "\u56fd\u8a9e", "\u3042", "\u30ab\uff76", "\ud55c\uae00", "\u1112\u1161\u11ab", "\u0915\u094d\u0937", "\u0e01\u0e33", "\u0645\u0631\u062d\u0628\u0627",
         "\ufb01", "\u2460", "\uff21", "\u212b", "\u1e9b\u0323", "\u0344", "\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea",
         "\u200d", "\u200c", "\ufeff", "\x00", "\x7f", ".", ",", "!!!", "...", "-", "_", "/", "//", "\\", "\"", "(", "[", "{", "<", ">", "<s>", "</s>",
         "<unk>", "<|endoftext|>", "<mask>", "<0x0A>", "<0x41>", BLANK, BLANK + BLANK, "[INST]", "user", "sUser", "\u00df", "\u0391\u03c3\u03c2", "\u0416\u0438\u0436\u0430",
         "https://x.y/z?q=1", "def f(x):\n    return x\n", "\ufffd", "\U00010400", "\U0001d400", "\u0903", "\u20e3", "\u200b"]


# Any character that Python knows, whose Unicode (14 in Python 3.11) is no newer than the libraries'.
ASSIGNED = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]


def make_strings(count, corpus):
    rng = random.Random(20240131)
    strings = ["", " ", "  ", "\n", "a", BLANK, "<s>", "<mask>", " <mask> ", "a" * 300, " " * 300, "\n" * 50, "1" * 100,
               "\u4e2d" * 100, "!" * 100, "\u0301" * 40]
    while len(strings) < count:
        kind = rng.random()
        if kind < 0.5:
            strings.append("".join(rng.choice(NASTY) for _ in range(rng.randint(1, 12))))
        elif kind < 0.9 and corpus:
            text = rng.choice(corpus)
            at = rng.randrange(max(1, len(text) - 200))
            strings.append(text[at:at + rng.randint(1, 120)])
        elif kind < 0.95:
            strings.append("".join(rng.choice(ASSIGNED) for _ in range(rng.randint(1, 12))))
        else:
            block = rng.choice([(0x20, 0x7f), (0xa0, 0x250), (0x300, 0x370), (0x370, 0x530), (0x5d0, 0x700), (0x900, 0xe00),
                                (0x1100, 0x1200), (0x2000, 0x2c00), (0x3000, 0x9000), (0xac00, 0xd7a0), (0xf900, 0xfb00),
                                (0xfe00, 0xfff0), (0x1f300, 0x1f6ff)])
            strings.append("".join(chr(rng.randrange(*block)) for _ in range(rng.randint(1, 20))))
    return strings


def read_corpus(folder, limit=40_000_000):
    texts = []
    for root, _, names in os.walk(folder):
        for name in sorted(names):
            texts.append(open(os.path.join(root, name), encoding="utf-8", errors="ignore").read(limit))
    return texts


# ---- ours

class Ours:
    def __init__(self, binary):
        self.binary = binary

    def encode(self, path, strings, *flags):
        return self.answers("encode", path, strings, flags)

    def decode(self, path, ids, *flags):
        return self.answers("decode", path, ids, flags)

    def answers(self, command, path, values, flags):
        lines = "".join(json.dumps(value) + "\n" for value in values)
        done = subprocess.run([self.binary, "tokenizer", command, path, "--json-lines", *flags], input=lines.encode(),
                              capture_output=True)
        if done.returncode != 0:
            sys.exit(f"{path}: {done.stderr.decode()}")
        return [json.loads(line) for line in done.stdout.decode(errors="replace").split("\n")[:-1]]


def compare(name, what, strings, ours, theirs):
    wrong = [i for i in range(len(strings)) if ours[i] != theirs[i]]
    print(f"{name:32} {what:16} {len(strings) - len(wrong):7} of {len(strings)} agree", flush=True)
    for i in wrong[:3]:
        print(f"    {strings[i]!r}\n      ours   {ours[i]!r}\n      theirs {theirs[i]!r}", flush=True)
    return len(wrong)


# ---- tiktoken

def check_tiktoken(ours, data, strings, only):
    wrong = 0
    for name, path, theirs in tiktoken_cases(data):
        if only and only not in name:
            continue
        ids = [theirs.encode_ordinary(s) for s in strings]
        wrong += compare(name, "ordinary", strings, ours.encode(path, strings), ids)
        wrong += compare(name, "special", strings, ours.encode(path, strings, "--allow-special"),
                         [theirs.encode(s, allowed_special="all") for s in strings])
        wrong += compare(name, "decode", strings, ours.decode(path, ids), [theirs.decode(i) for i in ids])
    return wrong


# ---- Hugging Face

def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def byte_level(regex=False, prefix=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)


ADDED = [AddedToken("<mask>", lstrip=True, special=True), AddedToken("user", single_word=True, normalized=False),
         AddedToken("[INST]", rstrip=True, normalized=False), AddedToken("\U0001f600!", normalized=True),
         AddedToken("  ", normalized=False)]


VOCABULARY = 3000


def trained_bytes(corpus, steps, normalizer=None, prefix=None, ignore_merges=False, added=()):
    made = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]
    if normalizer:
        made.normalizer = normalizer
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<s>", "</s>", "<|endoftext|>"],
                                                         initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                                         show_progress=False))
    made.add_tokens(list(added))
    if prefix:
        made.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{prefix} $A", special_tokens=[(prefix, made.token_to_id(prefix))])])
    return made


def trained_characters(corpus, normalizer=None, pre=None, decoder=None, fallback=True, fuse=True, added=()):
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=fallback, fuse_unk=fuse))
    if normalizer:
        made.normalizer = normalizer
    if pre:
        made.pre_tokenizer = pre
    if decoder:
        made.decoder = decoder
    bytes_ = [f"<0x{i:02X}>" for i in range(256)] if fallback else []
    # Words apart while training: merges across blanks are not what the families have.
    state = json.loads(made.to_str())
    if not pre:
        made.pre_tokenizer = pre_tokenizers.Split(BLANK, "merged_with_next")
    made.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=VOCABULARY, limit_alphabet=VOCABULARY // 4, show_progress=False,
                                                         special_tokens=["<unk>", "<s>", "</s>"] + bytes_))
    trained = json.loads(made.to_str())
    trained["pre_tokenizer"] = state["pre_tokenizer"]
    trained["added_tokens"] = [t for t in trained["added_tokens"] if not t["content"].startswith("<0x")]
    made = Tokenizer.from_str(json.dumps(trained))
    made.add_tokens(list(added))
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return made


def trained_unigram(corpus, normalizer=None, pre=None, decoder=None):
    made = Tokenizer(models.Unigram())
    if normalizer:
        made.normalizer = normalizer
    if pre:
        made.pre_tokenizer = pre
    made.decoder = decoder
    # The trainer wants room for all characters: rare ones are left out, so that some are unknown.
    texts = [text[:200000] for text in corpus[:6]]
    common = {c for c, _ in collections.Counter("".join(texts)).most_common(VOCABULARY // 4)}
    made.train_from_iterator(["".join(c for c in text if c in common) for text in texts],
                             trainers.UnigramTrainer(vocab_size=VOCABULARY, unk_token="<unk>", show_progress=False,
                                                     special_tokens=["<pad>", "</s>", "<unk>"]))
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return made


def hugging_face_cases(data, corpus):
    yield "gpt2", lambda: Tokenizer.from_file(f"{data}/gpt2/tokenizer.json")
    llama2 = normalizers.Sequence([normalizers.Prepend(BLANK), normalizers.Replace(" ", BLANK)])
    llama2_decoder = decoders.Sequence([decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse(),
                                        decoders.Strip(" ", 1, 0)])
    gemma_decoder = decoders.Sequence([decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()])
    yield "llama2", lambda: trained_characters(corpus, llama2, None, llama2_decoder)
    yield "llama2_added", lambda: trained_characters(corpus, llama2, None, llama2_decoder, added=ADDED)
    yield "mistral_metaspace", lambda: trained_characters(
        corpus, None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False), llama2_decoder, added=ADDED)
    yield "gemma", lambda: trained_characters(corpus, normalizers.Replace(" ", BLANK), split(" ", "merged_with_previous"),
                                              gemma_decoder)
    yield "unknown_fused", lambda: trained_characters(corpus, llama2, None, llama2_decoder, fallback=False)
    yield "unknown_single", lambda: trained_characters(corpus, None, pre_tokenizers.Metaspace(), decoders.Metaspace(),
                                                       fallback=False, fuse=False)
    yield "llama3", lambda: trained_bytes(corpus, [split(CL100K), byte_level()], prefix="<s>", ignore_merges=True)
    yield "qwen2", lambda: trained_bytes(corpus, [split(QWEN2), byte_level()], normalizers.NFC(), added=ADDED)
    yield "o200k", lambda: trained_bytes(corpus, [split(O200K, "removed", True), byte_level()])
    yield "deepseek", lambda: trained_bytes(corpus, [split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
                                                     split(DEEPSEEK), byte_level()], prefix="<s>")
    yield "kimi", lambda: trained_bytes(corpus, [split(KIMI), byte_level()])
    yield "falcon", lambda: trained_bytes(corpus, [pre_tokenizers.Punctuation("contiguous"), byte_level(regex=True),
                                                   pre_tokenizers.Digits(False), split("[0-9][0-9][0-9]")])
    yield "starcoder", lambda: trained_bytes(corpus, [pre_tokenizers.Digits(True), byte_level(regex=True)], added=ADDED)
    yield "roberta", lambda: trained_bytes(corpus, [byte_level(regex=True, prefix=True)], added=ADDED)
    yield "whitespace", lambda: trained_characters(corpus, normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()]),
                                                   pre_tokenizers.Whitespace(), None, fallback=False)
    yield "words", lambda: trained_characters(corpus, normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(),
                                                                            normalizers.Lowercase()]),
                                              pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(),
                                                                       pre_tokenizers.Punctuation("merged_with_next"),
                                                                       pre_tokenizers.Digits(True)]), None, added=ADDED)
    yield "replace", lambda: trained_bytes(corpus, [split(r"\b\w{1,4}?\b|[^\w\s]{2,3}|\s", "merged_with_previous"),
                                                    byte_level()],
                                           normalizers.Sequence([normalizers.NFD(), normalizers.Replace(Regex(r"\s+$"), ""),
                                                                 normalizers.Replace(Regex("(?:ab|[aeiou]){2}"), "_")]))
    yield "unigram", lambda: trained_unigram(corpus, normalizers.NFKC(), pre_tokenizers.Metaspace(), decoders.Metaspace())
    yield "unigram_first", lambda: trained_unigram(corpus, None, pre_tokenizers.Metaspace(prepend_scheme="first"),
                                                   decoders.Metaspace(prepend_scheme="first"))


def check_hugging_face(ours, data, corpus, strings, folder, only):
    wrong = 0
    training = [text[:150000] for text in corpus]
    for name, make in hugging_face_cases(data, training):
        if only and only not in name:
            continue
        theirs = make()
        path = f"{folder}/{name}.json"
        theirs.save(path)
        # Where one added token strips blanks that another one begins with, the library counts them twice.
        strings = [s for s in strings if not re.search(r"\[INST\]\s*  ", s)]
        plain = theirs.encode_batch(strings, add_special_tokens=False)
        ids = [e.ids for e in plain]
        wrong += compare(name, "special", strings, ours.encode(path, strings, "--allow-special"), ids)
        whole = [e.ids for e in theirs.encode_batch(strings[:5000], add_special_tokens=True)]
        wrong += compare(name, "begin and end", strings[:5000],
                         ours.encode(path, strings[:5000], "--allow-special", "--add-special"), whole)
        for flag, skip in ((), False), (("--skip-special",), True):
            # Single characters of their alphabet inside added tokens are not decoded as bytes by us, nor half ones lost.
            some = [i for i in whole if "\ufffd" not in theirs.decode(i, skip_special_tokens=skip)]
            wrong += compare(name, "decode" if not skip else "decode text", some, ours.decode(path, some, *flag),
                             [theirs.decode(i, skip_special_tokens=skip) for i in some])
    return wrong


# ---- SentencePiece

def sentencepiece_cases(data, corpus, folder):
    for name in ("grok1_tokenizer", "test_model", "test_ja_model"):
        path = f"{data}/sentencepiece/{name}.model"
        if os.path.exists(path):
            yield name, path
    text = f"{folder}/corpus.txt"
    with open(text, "w", encoding="utf-8") as out:
        for part in corpus:
            out.write("\n".join(line[:400] for line in part[:150000].splitlines()) + "\n")
    common = dict(input=text, vocab_size=5000, minloglevel=2, character_coverage=0.99, input_sentence_size=60000,
                  hard_vocab_limit=False)
    for name, settings in {
            "sp_bpe": dict(model_type="bpe"),
            "sp_bpe_bytes": dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
                                 remove_extra_whitespaces=False, split_digits=True,
                                 user_defined_symbols=["[INST]", "<mask>", "  ", "\u2581\u2581\u2581", "user"]),
            "sp_bpe_suffix": dict(model_type="bpe", treat_whitespace_as_suffix=True, byte_fallback=True),
            "sp_unigram": dict(model_type="unigram", normalization_rule_name="nmt_nfkc_cf"),
            "sp_unigram_bytes": dict(model_type="unigram", byte_fallback=True, add_dummy_prefix=False,
                                     normalization_rule_name="nfkc", user_defined_symbols=["[INST]", "<mask>", "user"]),
            "sp_unigram_across": dict(model_type="unigram", split_by_whitespace=False, remove_extra_whitespaces=False)}.items():
        sentencepiece.SentencePieceTrainer.train(model_prefix=f"{folder}/{name}", **common, **settings)
        yield name, f"{folder}/{name}.model"


def check_sentencepiece(ours, data, corpus, strings, folder, only):
    wrong = 0
    for name, path in sentencepiece_cases(data, corpus, folder):
        if only and only not in name:
            continue
        theirs = sentencepiece.SentencePieceProcessor(model_file=path)
        # A zero byte ends strings in its Python binding's normalizer.
        some = [s for s in strings if "\x00" not in s]
        ids = theirs.encode(some)
        wrong += compare(name, "encode", some, ours.encode(path, some), ids)
        wrong += compare(name, "decode", some, ours.decode(path, ids, "--skip-special"), theirs.decode(ids))
        files = [text[:300000] for text in corpus]
        wrong += compare(name, "whole files", [t[:30] for t in files], ours.encode(path, files), theirs.encode(files))
    return wrong


def write_golden(path, data):
    """Small tokenizers of the families with strings and what the library makes of them."""
    global VOCABULARY
    VOCABULARY = 340
    # A merge must not make a special token, which the library would let it.
    corpus = [re.sub("[<>|]", "", " ".join(make_strings(1500, [])))]
    strings = make_strings(75, [])
    strings = [s for s in strings if len(s) < 60]
    golden = []
    for name, make in hugging_face_cases(data, corpus):
        if name == "gpt2":
            continue
        theirs = make()
        ids = [e.ids for e in theirs.encode_batch(strings, add_special_tokens=True)]
        golden.append({"name": name, "tokenizer": json.loads(theirs.to_str()), "strings": strings, "ids": ids,
                       "decoded": [theirs.decode(i, skip_special_tokens=False) for i in ids]})
    with open(path, "w", encoding="utf-8") as out:
        out.write("[\n" + ",\n".join(json.dumps(g, ensure_ascii=True, separators=(",", ":")) for g in golden) + "\n]\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--colossus", default="build/release/bin/colossus")
    parser.add_argument("--data", required=True)
    parser.add_argument("--strings", type=int, default=100000)
    parser.add_argument("--only", default="")
    parser.add_argument("--kinds", default="tiktoken,huggingface,sentencepiece")
    parser.add_argument("--keep", help="a folder for the tokenizers that are made")
    parser.add_argument("--golden", help="write the golden of the tests to this file, and compare nothing")
    arguments = parser.parse_args()
    if arguments.golden:
        return write_golden(arguments.golden, arguments.data)
    corpus = read_corpus(f"{arguments.data}/../text")
    strings = make_strings(arguments.strings, corpus)
    ours = Ours(arguments.colossus)
    folder = arguments.keep or tempfile.mkdtemp()
    os.makedirs(folder, exist_ok=True)
    wrong = 0
    if "tiktoken" in arguments.kinds:
        wrong += check_tiktoken(ours, arguments.data, strings, arguments.only)
    if "huggingface" in arguments.kinds:
        wrong += check_hugging_face(ours, arguments.data, corpus, strings, folder, arguments.only)
    if "sentencepiece" in arguments.kinds:
        wrong += check_sentencepiece(ours, arguments.data, corpus, strings, folder, arguments.only)
    sys.exit(1 if wrong else 0)


main()
