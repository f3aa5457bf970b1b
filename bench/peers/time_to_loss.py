"""nanoGPT's CPU recipe on a text file, one token per character: training seconds and held-out loss.

4 layers, width 128, 4 heads, T 64, B 12, 2000 steps, AdamW (0.9, 0.99), weight decay 0.1, clipping at 1.0, learning
rate 1e-3 with 100 steps of warm-up and a cosine to 1e-4, no dropout, no bias. The first nine tenths of the text are
trained on, the last tenth is held out and read whole, in windows of T. Only training steps are on the clock; compiling
is reported apart.
"""

import argparse
import json
import math
import os
import time

import numpy as np
import torch

from models import MODELS, Model, adamw


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", help="for example ../shared/data/text/en/tinyshakespeare.txt")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--compile", choices=["off", "default", "max-autotune"], default="off")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=1337)
    return parser.parse_args()


def learning_rate(step, steps, warm_up=100, highest=1e-3, lowest=1e-4):
    if step < warm_up:
        return highest * (step + 1) / (warm_up + 1)
    share = (step - warm_up) / (steps - warm_up)
    return lowest + 0.5 * (1 + math.cos(math.pi * share)) * (highest - lowest)


def held_out_loss(model, data, context):
    """Mean nats per character over all whole windows."""
    num_windows = (len(data) - 1) // context
    tokens = data[: num_windows * context].view(num_windows, context)
    targets = data[1 : num_windows * context + 1].view(num_windows, context)
    total = 0.0
    with torch.no_grad():
        for begin in range(0, num_windows, 128):
            part = slice(begin, begin + 128)
            total += model(tokens[part], targets[part]).item() * len(tokens[part])
    return total / num_windows


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(options.seed)
    with open(options.text, encoding="utf-8") as file:
        text = file.read()
    symbols = sorted(set(text))
    index = {symbol: i for i, symbol in enumerate(symbols)}
    data = torch.tensor(np.array([index[symbol] for symbol in text]))
    split = int(0.9 * len(data))
    train, held_out = data[:split], data[split:]

    config = MODELS["d"]
    config.vocab_size = len(symbols)
    plain = Model(config)
    optimizer = adamw(plain, 1e-3, 0.99)
    parameters = list(plain.parameters())
    model = plain
    if options.compile != "off":
        model = torch.compile(plain, mode=None if options.compile == "default" else options.compile)
    offsets = torch.arange(config.context)

    def batch():
        rows = torch.randint(len(train) - config.context, (config.batch, 1)) + offsets
        return train[rows], train[rows + 1]

    began = time.perf_counter()
    model(*batch()).backward()  # compiles; its gradient is thrown away
    optimizer.zero_grad(set_to_none=True)
    compile_s = time.perf_counter() - began

    began, cpu_began = time.perf_counter(), time.process_time()
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, options.steps)
        model(*batch()).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    print(json.dumps({
        "recipe": "nanoGPT CPU", "compile": options.compile, "threads": options.threads, "torch": torch.__version__,
        "training_s": round(seconds, 2), "cpu_s": round(cpu_seconds, 1), "compile_s": round(compile_s, 1),
        "steps": options.steps,
        "tokens_per_second": round(options.steps * config.batch * config.context / seconds),
        "held_out_nats": round(held_out_loss(plain, held_out, config.context), 4), "seed": options.seed,
        "load": os.getloadavg()[0],
    }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
