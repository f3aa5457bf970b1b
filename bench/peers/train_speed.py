"""Training tokens/s of one model in PyTorch on this CPU: forward, backward, AdamW. Prints one JSON line.

    python train_speed.py --model a                              # fp32, eager
    python train_speed.py --model b --compile default --head linear --seconds 40
"""

import argparse
import contextlib
import dataclasses
import json
import os
import statistics
import time

import torch

from models import MODELS, Model, adamw


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32", help="bf16 is autocast, weights in fp32")
    parser.add_argument("--compile", choices=["off", "default", "max-autotune"], default="off")
    parser.add_argument("--head", choices=["logits", "linear"], default="logits", help="linear: linear_cross_entropy")
    parser.add_argument("--experts", choices=["loop", "grouped"], default="loop", help="model c only")
    parser.add_argument("--no-softcap", action="store_true", help="model c: sdpa without the cap, so less work")
    parser.add_argument("--expert-width", type=int, help="model c only")
    parser.add_argument("--vocab", type=int, help="vocabulary size")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=30, help="of measured steps")
    parser.add_argument("--min-steps", type=int, default=5)
    parser.add_argument("--warm-up-steps", type=int, default=3)
    return parser.parse_args()


def configured(options):
    config = dataclasses.replace(MODELS[options.model], head=options.head, experts=options.experts)
    if options.no_softcap:
        config.softcap = 0.0
    config.batch = options.batch or config.batch
    config.vocab_size = options.vocab or config.vocab_size
    config.expert_width = options.expert_width or config.expert_width
    return config


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    torch.set_flush_denormal(True)
    config = configured(options)
    model = Model(config)
    optimizer = adamw(model, 3e-4, 0.95)
    if options.compile != "off":
        mode = None if options.compile == "default" else options.compile
        model = torch.compile(model, mode=mode)
    text = torch.randint(config.vocab_size, (config.batch, config.context + 1))
    tokens, targets = text[:, :-1].contiguous(), text[:, 1:].contiguous()
    autocast = torch.autocast("cpu", torch.bfloat16) if options.dtype == "bf16" else contextlib.nullcontext()

    def step():
        with autocast:
            loss = model(tokens, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    began = time.perf_counter()
    first_loss = step()
    for _ in range(options.warm_up_steps - 1):
        step()
    warm_up = time.perf_counter() - began

    times, cpu_began, deadline = [], time.process_time(), time.perf_counter() + options.seconds
    while time.perf_counter() < deadline or len(times) < options.min_steps:
        began = time.perf_counter()
        loss = step()
        times.append(time.perf_counter() - began)
    # Waiting threads spin, so this says little with several; with --threads 1 it holds on a busy machine too.
    cpu_seconds = (time.process_time() - cpu_began) / len(times)
    step_tokens = config.batch * config.context
    median, best = statistics.median(times), min(times)
    print(json.dumps({
        "model": options.model, "dtype": options.dtype, "compile": options.compile, "head": config.head,
        "experts": config.experts, "softcap": config.softcap, "threads": options.threads, "torch": torch.__version__,
        "tokens_per_second": round(step_tokens / median), "tokens_per_second_best": round(step_tokens / best),
        "tokens_per_cpu_second": round(step_tokens / cpu_seconds),
        "step_ms_median": round(median * 1e3, 2), "steps": len(times), "warm_up_s": round(warm_up, 1),
        "gflops": round(config.flops_per_token * step_tokens / median / 1e9, 1),
        "gflop_per_token": config.flops_per_token / 1e9,
        "loss_first": round(first_loss, 3), "loss_last": round(loss, 3), "load": os.getloadavg()[0],
    }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
