#!/usr/bin/env python3
"""How the simulator's own time and memory grow with the cluster it plays, from 1,024 to 1,048,576 GPUs.

  bench/scaling.py measure build/release/bin/colossus > bench/results/scaling.jsonl        all, three times each
  bench/scaling.py measure build/release/bin/colossus search 1024 1048576 1                some, so many times
  bench/scaling.py draw bench/results/scaling.jsonl > docs/scaling.svg

Each line of the results is a command that was run: what it did, for how many GPUs, its seconds (the clock's, and those of
its threads together), its peak memory, and the load of the machine when it began. Needs nothing but Python.
"""
import json
import math
import os
import statistics
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GPUS = [1024, 4096, 16384, 65536, 98304, 262144, 1048576]
PARTS = {
    "step": "a step, given the layout",
    "search": "search of layouts",
    "runs": "90 days, 100 times",
}


def cluster_file(directory, gpus):
    """Colossus with so many GPUs beside 2 % of spares; halls of 25,600 are joined by the uppermost switches."""
    nodes = gpus // 8
    spares = max(1, nodes // 50)
    path = os.path.join(directory, f"{gpus}.toml")
    reach = -(-(nodes + spares) * 8 // 25600) * 25600
    with open(path, "w") as file:
        file.write(
            f'extends = "{ROOT}/configs/clusters/colossus-100k-h100.toml"\n'
            f'name = "scaling-{gpus}"\nassumptions = []\n'
            "[[pools]]\n"
            f'extends = "{ROOT}/configs/clusters/parts/node-hgx-h100.toml"\n'
            f'name = "h100"\nnodes = {nodes + spares}\nspare_nodes = {spares}\n'
            "[network]\n"
            f'extends = "{ROOT}/configs/clusters/parts/network-spectrum-x-100k.toml"\n'
            "tiers = [\n"
            '  { name = "leaf", gpus = 512 },\n'
            '  { name = "spine", gpus = 25600 },\n'
            f'  {{ name = "core", gpus = {reach} }},\n'
            "]\n"
        )
    return path


def words_of(part, colossus, cluster, gpus):
    question = ["--model", f"{ROOT}/configs/models/grok-1.toml", "--cluster", cluster, "--seq", "8192",
                "--batch-tokens", str(gpus * 1024)]
    # 64 GPUs hold a copy of the model; of 98,304 it is 96, for the data axis has a power of two.
    pipeline = 6 if gpus == 98304 else 8
    tensor_context = 16 if gpus == 98304 else 8
    layout = ["tensor=8", f"pipeline={pipeline}", f"context={tensor_context // 8}",
              f"shard={gpus // (pipeline * tensor_context)}", "expert=8", "recompute=selective"]
    given = [word for axis in layout for word in ("--layout", axis)]
    if part == "step":
        return [colossus, "plan", *question, *given]
    if part == "search":
        return [colossus, "plan", *question]
    return [colossus, "simulate", *question, *given, "--days", "90", "--runs", "100"]


def run(words):
    """Seconds of the clock, of all threads, and the peak of memory in MB."""
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.execv(words[0], words)
    _, status, usage = os.wait4(pid, 0)
    if status != 0:
        sys.exit(f"failed: {' '.join(words)}")
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000


def measure(colossus, parts, sizes, times):
    with tempfile.TemporaryDirectory() as directory:
        for gpus in sizes:
            cluster = cluster_file(directory, gpus)
            for part in parts:
                words = words_of(part, os.path.abspath(colossus), cluster, gpus)
                for _ in range(times):
                    load = os.getloadavg()[0]
                    seconds, busy, memory = run(words)
                    print(json.dumps({"part": part, "gpus": gpus, "seconds": round(seconds, 3),
                                      "busy_seconds": round(busy, 3), "peak_mb": round(memory, 1),
                                      "load": round(load, 1), "cores": os.cpu_count()}), flush=True)


COLORS = {"step": "#1f77b4", "search": "#d62728", "runs": "#2ca02c"}


class Panel:
    """A picture with two logarithmic axes."""

    def __init__(self, left, title, unit, low, high):
        self.left, self.right, self.top, self.bottom = left, left + 300, 46, 330
        self.low, self.high = math.log10(low), math.log10(high)
        self.x_low, self.x_high = math.log10(GPUS[0]), math.log10(GPUS[-1])
        self.parts = [f'<text x="{(self.left + self.right) / 2}" y="30" text-anchor="middle" font-size="13">{title}</text>']
        decade = math.ceil(self.low)
        while decade <= self.high + 1e-9:
            y = self.y(10**decade)
            self.parts.append(f'<line x1="{self.left}" y1="{y:.1f}" x2="{self.right}" y2="{y:.1f}" stroke="#ddd"/>')
            label = f"{10**decade:g} {unit}"
            self.parts.append(f'<text x="{self.left - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
            decade += 1
        for gpus in (1000, 10000, 100000, 1000000):
            x = self.x(max(gpus, GPUS[0]))
            self.parts.append(f'<line x1="{x:.1f}" y1="{self.top}" x2="{x:.1f}" y2="{self.bottom}" stroke="#eee"/>')
            self.parts.append(f'<text x="{x:.1f}" y="{self.bottom + 16}" text-anchor="middle">{gpus:,}</text>')
        self.parts.append(f'<text x="{(self.left + self.right) / 2}" y="{self.bottom + 36}" text-anchor="middle">GPUs</text>')

    def x(self, gpus):
        return self.left + (math.log10(gpus) - self.x_low) / (self.x_high - self.x_low) * (self.right - self.left)

    def y(self, value):
        return self.bottom - (math.log10(value) - self.low) / (self.high - self.low) * (self.bottom - self.top)

    def curve(self, points, color):
        text = " ".join(f"{self.x(gpus):.1f},{self.y(value):.1f}" for gpus, value in points)
        self.parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{text}"/>')
        for gpus, value in points:
            self.parts.append(f'<circle cx="{self.x(gpus):.1f}" cy="{self.y(value):.1f}" r="3" fill="#fff" stroke="{color}"/>')

    def bar(self, gpus, value, color):
        x, y = self.x(gpus), self.y(value)
        self.parts.append(f'<line x1="{x - 14:.1f}" y1="{y:.1f}" x2="{x + 14:.1f}" y2="{y:.1f}" stroke="{color}" '
                          'stroke-width="2" stroke-dasharray="3 2"/>')

    def linear(self, gpus, value):
        """Where time would go that grows with the number of GPUs."""
        end = min(GPUS[-1], gpus * 10**self.high / value)
        self.parts.append(f'<line x1="{self.x(gpus):.1f}" y1="{self.y(value):.1f}" x2="{self.x(end):.1f}" '
                          f'y2="{self.y(value * end / gpus):.1f}" stroke="#aaa" stroke-dasharray="5 4"/>')


def draw(path):
    rows = [json.loads(line) for line in open(path) if line.strip()]

    def median(part, gpus, field):
        values = [row[field] for row in rows if row["part"] == part and row["gpus"] == gpus and field in row]
        return statistics.median(values) if values else None

    def points(part, field):
        return [(gpus, median(part, gpus, field)) for gpus in GPUS if median(part, gpus, field)]

    times = Panel(70, "seconds of all threads, median", "s", 0.03, 1000)
    memory = Panel(470, "peak memory", "MB", 5, 2000)
    for part in PARTS:
        times.curve(points(part, "busy_seconds"), COLORS[part])
        memory.curve(points(part, "peak_mb"), COLORS[part])
    for part, bar in {"step": 1, "search": 60, "runs": 60}.items():
        times.bar(98304, bar, COLORS[part])
    memory.bar(98304, 1000, "#333")
    first = points("runs", "busy_seconds")[0]
    times.linear(*first)
    legend = []
    for i, (part, name) in enumerate(PARTS.items()):
        x = 90 + 210 * i
        legend.append(f'<line x1="{x}" y1="392" x2="{x + 24}" y2="392" stroke="{COLORS[part]}" stroke-width="2"/>'
                      f'<text x="{x + 30}" y="396">{name}</text>')
    legend.append('<line x1="560" y1="392" x2="584" y2="392" stroke="#aaa" stroke-dasharray="5 4"/>'
                  '<text x="590" y="396">linear; short bars: bounds</text>')
    print('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 410" font-family="sans-serif" font-size="11" '
          'fill="#333">\n<rect width="800" height="410" fill="#fff"/>')
    print("\n".join(times.parts + memory.parts + legend))
    print("</svg>")


def main():
    words = sys.argv[1:]
    if words[:1] == ["draw"] and len(words) == 2:
        return draw(words[1])
    if words[:1] == ["measure"] and len(words) == 2:
        return measure(words[1], list(PARTS), GPUS, 3)
    if words[:1] == ["measure"] and len(words) > 4 and words[2] in PARTS:
        sizes = [int(word) for word in words[3:]]
        return measure(words[1], [words[2]], sizes[:-1], sizes[-1])
    sys.exit(__doc__)


main()
