#!/usr/bin/env python3
"""Encoding speed of our tokenizers beside tiktoken, Hugging Face's tokenizers and SentencePiece, in turns, on one thread.

usage: tokenizer_speed.py --bench build/bench/tokenizer_bench --colossus build/bin/colossus --texts DIR --tokenizers DIR
needs: pip install tiktoken tokenizers sentencepiece==0.1.99 numpy
--tokenizers holds tiktoken/*.tiktoken, gpt2/tokenizer.json, sentencepiece/*.model; those that are not there are left out.

All encode the same documents with the same vocabulary: files cut at the first line end behind 64 KiB. Each round gives
every library one pass over all of them; of each the fastest pass counts, in processor time, so that what else the machine
does weighs little. Two threads are compared to one in the same way: twice the processor time of one over that of both;
"..._by_the_clock" is what a clock says, which means something on a machine at rest. A peer whose ids are not ours (their
number and sum) has "same_ids": false. Prints one JSON line for each vocabulary.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy
import sentencepiece
import tokenizers

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/oracle"))
from tiktoken_encodings import tiktoken_cases

DOCUMENT_BYTES = 1 << 16  # as bench/tokenizer_bench.cc


def read_documents(folder):
    documents = []
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            documents += read_documents(path)
            continue
        text = open(path, "rb").read()
        begin = 0
        while begin < len(text):
            at = text.find(b"\n", begin + DOCUMENT_BYTES)
            end = len(text) if at < 0 else at + 1
            documents.append(text[begin:end].decode("utf-8"))
            begin = end
    return documents


# A peer is a function from documents to (processor seconds, tokens, sum of ids); only encoding is timed.

def timed(encode_all, ids_of):
    start = time.process_time()
    encoded = encode_all()
    seconds = time.process_time() - start
    arrays = [numpy.asarray(ids_of(e), dtype=numpy.int64) for e in encoded]
    return seconds, sum(len(a) for a in arrays), int(sum(a.sum() for a in arrays))


def tiktoken_peer(encoding):
    return lambda documents: timed(lambda: [encoding.encode_ordinary(d) for d in documents], lambda ids: ids)


def hugging_face_peer(path):
    made = tokenizers.Tokenizer.from_file(path)
    made.encode_special_tokens = True  # as ordinary text, which is what we and tiktoken do here
    # Without offsets, which we do not make here either.
    return lambda documents: timed(lambda: made.encode_batch_fast(documents, add_special_tokens=False), lambda e: e.ids)


def sentencepiece_peer(path):
    made = sentencepiece.SentencePieceProcessor(model_file=path)
    return lambda documents: timed(lambda: [made.encode(d) for d in documents], lambda ids: ids)


def cases(arguments, folder):
    """(name, our file, {peer: function})"""
    data = arguments.tokenizers
    portable = {}

    def convert(path):
        portable[path] = f"{folder}/{os.path.basename(path)}.json"
        subprocess.run([arguments.colossus, "tokenizer", "convert", path, portable[path]], check=True, capture_output=True)
        return portable[path]

    for name, path, encoding in tiktoken_cases(data):
        if name in ("cl100k_base", "o200k_base"):
            yield name, path, {"tiktoken": tiktoken_peer(encoding), "tokenizers": hugging_face_peer(convert(path))}
        gpt2 = f"{data}/gpt2/tokenizer.json"
        if name == "r50k_base" and os.path.exists(gpt2):
            yield "gpt2", gpt2, {"tiktoken": tiktoken_peer(encoding), "tokenizers": hugging_face_peer(gpt2)}
    for name in ("grok1_tokenizer", "test_model"):
        path = f"{data}/sentencepiece/{name}.model"
        if os.path.exists(path):
            yield name, path, {"sentencepiece": sentencepiece_peer(path), "tokenizers": hugging_face_peer(convert(path))}
            yield f"{name}, as tokenizer.json", portable[path], {"tokenizers": hugging_face_peer(portable[path])}


def ours(arguments, path, *more):
    done = subprocess.run([arguments.bench, "--tokenizer", path, "--texts", arguments.texts, *more], check=True,
                          capture_output=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="build/release/bench/tokenizer_bench")
    parser.add_argument("--colossus", default="build/release/bin/colossus")
    parser.add_argument("--texts", required=True)
    parser.add_argument("--tokenizers", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    documents = read_documents(arguments.texts)
    num_bytes = sum(len(d.encode()) for d in documents)
    with tempfile.TemporaryDirectory() as folder:
        for name, path, peers in cases(arguments, folder):
            if arguments.only and arguments.only not in name:
                continue
            one, two, peer_seconds, same = [], [], {}, {}
            for _ in range(arguments.rounds):
                one.append(ours(arguments, path, "--rounds", "2"))
                two.append(ours(arguments, path, "--rounds", "2", "--threads", "2", "--skip-decode"))
                for peer, encode in peers.items():
                    seconds, tokens, total = encode(documents)
                    peer_seconds[peer] = min(peer_seconds.get(peer, seconds), seconds)
                    same[peer] = (tokens, total) == (one[0]["tokens"], one[0]["sum_of_ids"])
            least = {key: min(o[key] for o in one) for key in one[0] if "seconds" in key}
            least_of_two = {key: min(o[key] for o in two) for key in two[0] if "seconds" in key}
            megabytes = num_bytes * 1e-6
            line = {"tokenizer": name, "bytes": num_bytes, "tokens": one[0]["tokens"], "rounds": arguments.rounds,
                    "encode_mb_per_second": round(megabytes / least["encode_processor_seconds"], 2),
                    "encode_mb_per_second_by_the_clock": round(megabytes / least["encode_seconds"], 2),
                    "two_threads_over_one": round(2 * least["encode_processor_seconds"] /
                                                  least_of_two["encode_processor_seconds"], 3),
                    "two_threads_over_one_by_the_clock": round(least["encode_seconds"] / least_of_two["encode_seconds"], 3),
                    "decode_mb_per_second": round(megabytes / least["decode_processor_seconds"], 2),
                    "decode_mb_per_second_by_the_clock": round(megabytes / least["decode_seconds"], 2)}
            for peer, seconds in peer_seconds.items():
                line[f"{peer}_mb_per_second"] = round(megabytes / seconds, 2)
                line[f"{peer}_same_ids"] = same[peer]
            # SentencePiece is measured too, but the bar is over these two.
            bar = min(seconds for peer, seconds in peer_seconds.items() if peer != "sentencepiece")
            line["times_faster_than_the_faster"] = round(bar / least["encode_processor_seconds"], 2)
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
