#!/usr/bin/env python3
"""Import and export of models too large for memory: peak memory, speed beside cp, kills at random moments.

  bench/large_models.py rate build/release/bin/colossus WORK [GB] [TURNS]   import, export and cp of one model in turns
  bench/large_models.py peak build/release/bin/colossus WORK [GB] [GB]      inspect, and import, of models of zeros
  bench/large_models.py kill build/release/bin/colossus WORK [GB] [KILLS]   kill -9 at random moments, then compare
  bench/large_models.py full build/release/bin/colossus WORK                a disk too small (mounts a tmpfs: as root)

Each prints one JSON line. `rate` reads from the disk, not from memory: files are put out of the page cache before each
run, and what is written is synced, for cp too. The model of `peak` is sparse, with an index and shards of 5 GB as people
publish them; what the import has written is turned into holes behind it, so that 300 GB need no disk (WORK: a tmpfs or
any file system that can punch holes). Models are Mixtrals: every matrix is turned over on its way. Needs nothing but
Python 3.9, on Linux.
"""
import ctypes
import filecmp
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time

SHARD_BYTES = 5 * 10**9


def model_of(gigabytes):
    """A configuration of about that size in bf16: wide as Grok-1 where it is large."""
    large = gigabytes > 50
    width, ffn, heads, kv_heads = (6144, 32768, 48, 8) if large else (2048, 7168, 16, 4)
    config = {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "torch_dtype": "bfloat16",
              "hidden_size": width, "intermediate_size": ffn, "num_attention_heads": heads,
              "num_key_value_heads": kv_heads, "head_dim": 128, "vocab_size": 131072 if large else 32000,
              "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 1e6, "num_local_experts": 8,
              "num_experts_per_tok": 2, "tie_word_embeddings": False, "hidden_act": "silu", "sliding_window": None}
    around = 2 * config["vocab_size"] * width * 2
    layer = 2 * (8 * 3 * width * ffn + 2 * width * 128 * (heads + kv_heads))
    config["num_hidden_layers"] = max(1, round((gigabytes * 1e9 - around) / layer))
    return config


def tensors_of(config):
    C, F, V = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    H, K = config["num_attention_heads"] * 128, config["num_key_value_heads"] * 128
    yield "model.embed_tokens.weight", [V, C]
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        yield at + "input_layernorm.weight", [C]
        for name, shape in (("q", [H, C]), ("k", [K, C]), ("v", [K, C]), ("o", [C, H])):
            yield at + f"self_attn.{name}_proj.weight", shape
        yield at + "post_attention_layernorm.weight", [C]
        yield at + "block_sparse_moe.gate.weight", [8, C]
        for expert in range(8):
            for name, shape in (("w1", [F, C]), ("w2", [C, F]), ("w3", [F, C])):
                yield at + f"block_sparse_moe.experts.{expert}.{name}.weight", shape
    yield "model.norm.weight", [C]
    yield "lm_head.weight", [V, C]


def num_bytes(shape):
    size = 2
    for n in shape:
        size *= n
    return size


def write_model(directory, gigabytes, dense):
    """Returns its bytes and the largest tensor's. In a process of its own: the peak memory of a command that this one
    starts would count what this one had."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, json.dumps(write_model_here(directory, gigabytes, dense)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        text = told.read()
    os.wait()
    return json.loads(text)


def write_model_here(directory, gigabytes, dense):
    os.makedirs(directory)
    config = model_of(gigabytes)
    shards = [[]]
    for name, shape in tensors_of(config):
        if sum(num_bytes(s) for _, s in shards[-1]) + num_bytes(shape) > SHARD_BYTES and shards[-1]:
            shards.append([])
        shards[-1].append((name, shape))
    block = os.urandom(64 << 20)
    total, largest, weight_map = 0, 0, {}
    for i, shard in enumerate(shards):
        file_name = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        header, at = {"__metadata__": {"format": "pt"}}, 0
        for name, shape in shard:
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + num_bytes(shape)]}
            at += num_bytes(shape)
            largest = max(largest, num_bytes(shape))
            weight_map[name] = file_name
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(f"{directory}/{file_name}", "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            left = at
            while dense and left > 0:
                left -= file.write(block[: min(left, len(block))])
            file.truncate(8 + len(text) + at)
            os.fsync(file.fileno())
        total += at
    json.dump(config, open(f"{directory}/config.json", "w"))
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    json.dump(index, open(f"{directory}/model.safetensors.index.json", "w"))
    return total, largest


def forget(directory):
    """Puts the files out of the page cache."""
    for name in os.listdir(directory):
        file = os.open(f"{directory}/{name}", os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def timed(words):
    """Seconds, processor seconds, and peak resident bytes of a command that must succeed."""
    start = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{words}: {errors.decode()[-2000:]}")
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def rate(colossus, work, gigabytes=6.0, turns=3):
    source, ours, again, copy = (f"{work}/{name}" for name in ("source", "ours", "again", "copy"))
    total, largest = write_model(source, gigabytes, dense=True)
    seconds = {"cp": [], "import": [], "export": []}
    processor, peak = {"cp": [], "import": [], "export": []}, {"cp": 0, "import": 0, "export": 0}
    for _ in range(turns):
        forget(source)
        steps = [("cp", ["sh", "-c", f"cp -r '{source}' '{copy}' && sync -f '{copy}'"], copy),
                 ("import", [colossus, "import", source, ours], None),
                 ("export", [colossus, "export", ours, "--out", again], ours)]
        for what, words, done in steps:
            took, used, resident = timed(words)
            seconds[what].append(round(took, 2))
            processor[what].append(round(used, 2))
            peak[what] = max(peak[what], resident)
            if what == "export":
                for name in os.listdir(source):
                    same = name.endswith(".index.json") or len(os.listdir(source)) != len(os.listdir(again)) or \
                        filecmp.cmp(f"{source}/{name}", f"{again}/{name}", shallow=False)
                    assert same, name
                shutil.rmtree(again)
            if done:
                shutil.rmtree(done)
            if what == "import":
                forget(ours)
            forget(source)
    shutil.rmtree(source)
    best = {what: min(times) for what, times in seconds.items()}
    return {"bytes": total, "largest_tensor": largest, "seconds": seconds, "processor_seconds": processor,
            "peak_resident_bytes": peak, "import_over_cp": round(best["cp"] / best["import"], 3),
            "export_over_cp": round(best["cp"] / best["export"], 3)}


class HolePuncher(threading.Thread):
    """Makes holes of what was written of zeros: the file reads the same, and the disk does not fill."""

    def __init__(self, directory):
        super().__init__(daemon=True)
        self.directory, self.stopped, self.punched = directory, False, {}
        self.libc = ctypes.CDLL(None, use_errno=True)

    def run(self):
        while not self.stopped:
            time.sleep(0.05)
            try:
                names = [n for n in os.listdir(self.directory) if ".safetensors" in n and not n.endswith(".done")]
            except FileNotFoundError:
                continue
            for name in names:
                self.punch(name)

    def punch(self, name):
        key = name.removesuffix(".part")
        try:
            file = os.open(f"{self.directory}/{name}", os.O_RDWR)
        except FileNotFoundError:
            return
        # Behind the header, and well before what is being written.
        start = max(self.punched.get(key, 0), 64 << 20)
        end = os.fstat(file).st_size - (64 << 20)
        if end - start > 128 << 20:
            keep_size_and_punch = 3
            self.libc.fallocate(file, keep_size_and_punch, ctypes.c_long(start), ctypes.c_long(end - start))
            self.punched[key] = end
        os.close(file)


def peak(colossus, work, gigabytes=300.0, imported_gigabytes=None):
    source, ours = f"{work}/source", f"{work}/ours"
    total, largest = write_model(source, gigabytes, dense=False)
    inspected, _, inspect_peak = timed([colossus, "inspect", source])
    result = {"bytes": total, "largest_tensor": largest, "inspect_seconds": round(inspected, 2),
              "inspect_peak_bytes": inspect_peak}
    if imported_gigabytes is not None and imported_gigabytes != gigabytes:
        shutil.rmtree(source)
        total, largest = write_model(source, imported_gigabytes, dense=False)
    puncher = HolePuncher(ours + ".tmp")
    puncher.start()
    imported, processor, import_peak = timed([colossus, "import", source, ours])
    puncher.stopped = True
    for directory in (source, ours):
        shutil.rmtree(directory)
    return result | {"imported_bytes": total, "import_largest_tensor": largest, "import_seconds": round(imported, 1),
                     "import_processor_seconds": round(processor, 1), "import_peak_bytes": import_peak,
                     "over_largest_tensor_bytes": import_peak - largest}


def kill(colossus, work, gigabytes=6.0, kills=20):
    source, ours, whole = f"{work}/source", f"{work}/ours", f"{work}/whole"
    total, _ = write_model(source, gigabytes, dense=True)
    import_words = [colossus, "import", source, ours, "--shard-gb", str(gigabytes / 40)]
    undisturbed, _, _ = timed([*import_words[:3], whole, *import_words[4:]])
    rng, killed, seconds = random.Random(1), 0, []
    while not os.path.exists(ours):
        process = subprocess.Popen(import_words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        start = time.monotonic()
        try:
            process.wait(rng.uniform(0, undisturbed / 4) if killed < kills else None)
            assert process.returncode == 0, process.returncode
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
        seconds.append(round(time.monotonic() - start, 2))
    differing = filecmp.dircmp(ours, whole)
    same = not differing.left_only and not differing.right_only and all(
        filecmp.cmp(f"{ours}/{name}", f"{whole}/{name}", shallow=False) for name in os.listdir(whole))
    for directory in (source, ours, whole):
        shutil.rmtree(directory)
    return {"bytes": total, "kills": killed, "equal": same, "undisturbed_seconds": round(undisturbed, 2),
            "seconds": seconds}


def full(colossus, work):
    source, disk = f"{work}/source", f"{work}/disk"
    total, _ = write_model(source, 2.0, dense=True)
    before = {name: os.stat(f"{source}/{name}").st_mtime_ns for name in os.listdir(source)}
    os.makedirs(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", disk], check=True)
    try:
        with open(f"{disk}/precious", "w") as file:
            file.write("kept")
        process = subprocess.run([colossus, "import", source, f"{disk}/ours"], capture_output=True, text=True)
        kept = open(f"{disk}/precious").read() == "kept" and not os.path.exists(f"{disk}/ours")
        subprocess.run(["mount", "-o", "remount,size=6g", disk], check=True)
        again = subprocess.run([colossus, "import", source, f"{disk}/ours"], capture_output=True, text=True)
    finally:
        subprocess.run(["umount", disk], check=True)
    untouched = before == {name: os.stat(f"{source}/{name}").st_mtime_ns for name in os.listdir(source)}
    shutil.rmtree(source)
    os.rmdir(disk)
    return {"bytes": total, "exit_code": process.returncode, "said": process.stderr.strip().splitlines()[-1:],
            "kept": kept, "source_untouched": untouched, "with_room_exit_code": again.returncode}


def main():
    what, colossus, work, *numbers = sys.argv[1:]
    os.makedirs(work, exist_ok=True)
    casts = {"rate": (float, int), "peak": (float, float), "kill": (float, int), "full": ()}[what]
    arguments = [cast(number) for cast, number in zip(casts, numbers)]
    result = {"rate": rate, "peak": peak, "kill": kill, "full": full}[what](os.path.abspath(colossus), work, *arguments)
    print(json.dumps({"what": what, **result}))


if __name__ == "__main__":
    main()
