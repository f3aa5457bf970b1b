#!/usr/bin/env python3
"""Pictures of what the ranks of a run did, from the file that `colossus train --trace` writes.

  bench/trace_picture.py draw trace.json --steps 6 > step.svg          all of step 6; 6:7 for two
  bench/trace_picture.py draw trace.json --steps 6 --from 400 --to 900 > part.svg      milliseconds of it
  bench/trace_picture.py draw one.json two.json --steps 6 --titles "1F1B" "zero bubble" > both.svg    on one scale
  bench/trace_picture.py hidden trace.json --steps 5:8                 how much of the exchanges runs beside computing
  bench/trace_picture.py bubble trace.json --steps 5:8                 how long ranks compute nothing between passes
  colossus train ... 2>&1 | bench/trace_picture.py stamp > run.log     what the run said, and when; then
  bench/trace_picture.py draw trace.json --steps 6:9 --log run.log > fault.svg         with what was said about faults

A band of the picture is a rank, its rows are what the rank computes and one for each group of ranks that it talks to.
Spans too narrow to be seen are drawn as what most of their time was. Needs nothing but Python.
"""
import argparse
import collections
import html
import json
import re
import sys
import time

WIDTH, LEFT, RIGHT = 900, 118, 14
LEAST = 0.35  # pixels that a span has, or it is drawn with its neighbours
COMPUTE = "compute"
ROW_HEIGHT = {COMPUTE: 18}
OTHER_ROW_HEIGHT = 11

# In the order of the legend.
KINDS = {
    "forward": ("#4c8bd6", "forward"),
    "backward": ("#e8963a", "backward"),
    "weights": ("#f4cf6b", "backward, of the weights"),
    "recompute": ("#9ccbea", "forward once more"),
    "sum": ("#7d5bb5", "sums of gradients"),
    "update": ("#3f9e5b", "update"),
    "memory": ("#b9b9b9", "copies, zeros"),
    "gradients": ("#c8384a", "exchange of gradients"),
    "parameters": ("#2a9d9d", "gathering parameters"),
    "activations": ("#8f5f3f", "activations to and from other stages"),
    "other": ("#d78fc0", "other collectives"),
    "step": ("#e6e6e6", "step"),
    "checkpoint": ("#555555", "checkpoint"),
}
# What a run says of its faults, and what the picture does.
SAID = [
    (re.compile(r"^rank (\d+) ended after step (\d+): (.*)$"), lambda m: f"found: rank {m[1]} was {m[3]}"),
    (re.compile(r"^rank (\d+) .*: started again$"), lambda m: f"rank {m[1]} started again"),
    (re.compile(r"^all (\d+) ranks are past step (\d+), ([\d.]+ s) after the fault$"),
     lambda m: f"all {m[1]} ranks past step {m[2]}"),
]

Span = collections.namedtuple("Span", "begin end kind layer step name")


def give_up(message):
    sys.exit(f"trace_picture.py: {message}")


def kind_of(event, lane):
    name, words = event["name"], event.get("cat", "").split(",")
    program, phase = words[0], words[-1]
    if lane == "checkpoint":
        return "checkpoint"
    if lane == "run":
        return "step" if name == "step" else "memory"
    if lane == COMPUTE:
        if name == "tree_sum":
            return "sum"
        if len(words) < 2:
            return "sum" if name == "add" else "memory"
        if "weight" in program:
            return "weights"
        return phase if phase in KINDS else "other"
    if name == "exchange_pieces" or lane.endswith(".gradients"):
        return "gradients"
    if name in ("gather_pieces", "collect_pieces"):
        return "parameters"
    return "activations" if name in ("send", "receive") else "other"


class Timeline:
    """The spans of a trace by rank and lane, times in milliseconds of one clock."""

    def __init__(self, path):
        try:
            with open(path) as file:
                events = json.load(file)["traceEvents"]
        except OSError as error:
            give_up(f"{path}: {error.strerror}")
        except (ValueError, KeyError, TypeError):
            give_up(f"{path}: not a trace of `colossus train --trace`")
        self.path = path
        self.lane_names = {}  # by rank, in order
        self.spans = collections.defaultdict(list)  # by (rank, lane)
        try:
            for event in events:
                if event["ph"] == "M" and event["name"] == "thread_name":
                    self.lane_names.setdefault(event["pid"], {})[event["tid"]] = event["args"]["name"]
            for event in events:
                if event["ph"] == "X":
                    self.add(event)
        except (KeyError, TypeError):
            give_up(f"{path}: an event without what every event of a trace has")
        if not self.spans:
            give_up(f"{path}: has no spans")
        for spans in self.spans.values():
            spans.sort()

    def add(self, event):
        lane = self.lane_names[event["pid"]][event["tid"]]
        layer = re.match(r"layers\.(\d+)", event["args"].get("scope", ""))
        begin = event["ts"] / 1000
        self.spans[event["pid"], lane].append(
            Span(begin, begin + event["dur"] / 1000, kind_of(event, lane), int(layer[1]) if layer else None,
                 event["args"].get("step", -1), event["name"]))

    def ranks(self):
        return sorted({rank for rank, _ in self.spans})

    def lanes(self, rank):
        order = list(self.lane_names[rank].values())
        return sorted((lane for r, lane in self.spans if r == rank), key=order.index)

    def of_steps(self, steps):
        """When they begin and end: of all spans, or of the run's own where there are any."""
        found = [span for spans in self.spans.values() for span in spans if steps[0] <= span.step <= steps[1]]
        if not found:
            there = sorted({span.step for spans in self.spans.values() for span in spans})
            give_up(f"{self.path}: no spans of steps {steps[0]} to {steps[1]}; there are {there[0]} to {there[-1]}")
        of_run = [span for span in found if span.kind == "step"] or found
        return min(span.begin for span in of_run), max(span.end for span in of_run)


def parse_steps(text):
    match = re.fullmatch(r"(\d+)(?::(\d+))?", text)
    if not match or int(match[2] or match[1]) < int(match[1]):
        give_up(f"--steps {text}: needs the first and the last step, such as 3:6")
    return int(match[1]), int(match[2] or match[1])


def short_name(lane):
    if "." in lane:
        return lane.rsplit(".", 1)[1].replace("_", " ")
    axes = lane.split("+")
    return lane if len(axes) < 3 else f"{axes[0]}+{axes[1]}+…"


# --- Drawing.


def visible(spans, begin, end, scale):
    """Stretches (begin, end, kind) in pixels: equal neighbours are one, and what is too narrow goes by its majority."""
    pixels = []
    for span in spans:
        left, right = max(span.begin, begin), min(span.end, end)
        if right > left:
            pixels.append(((left - begin) * scale, (right - begin) * scale, span.kind))
    stretches, narrow = [], []

    def end_narrow():
        if not narrow:
            return
        times = collections.Counter()
        for left, right, kind in narrow:
            times[kind] += right - left
        right = max(narrow[-1][1], narrow[0][0] + LEAST if sum(times.values()) > LEAST / 3 else narrow[-1][1])
        put(narrow[0][0], right, times.most_common(1)[0][0])
        narrow.clear()

    def put(left, right, kind):
        if stretches and stretches[-1][2] == kind and left - stretches[-1][1] < LEAST:
            stretches[-1] = (stretches[-1][0], right, kind)
        else:
            stretches.append((left, right, kind))

    for left, right, kind in pixels:
        if narrow and (left - narrow[-1][1] > LEAST or narrow[-1][1] - narrow[0][0] > LEAST):
            end_narrow()
        if right - left < LEAST:
            narrow.append((left, right, kind))
        else:
            end_narrow()
            put(left, right, kind)
    end_narrow()
    return stretches


def layer_labels(spans, begin, end, scale):
    """(middle, text) in pixels, for layers that are wide enough; a layer's spans of one kind lie side by side."""
    runs = []
    for span in spans:
        left, right = max(span.begin, begin), min(span.end, end)
        if right <= left or span.kind == "sum":
            continue
        if runs and runs[-1][2] == (span.layer, span.kind) and (left - runs[-1][1]) * scale < 6:
            runs[-1][1] = right
        else:
            runs.append([left, right, (span.layer, span.kind)])
    labels = []
    for left, right, (layer, _) in runs:
        width = (right - left) * scale
        if layer is None or width < 5 + 5 * len(str(layer)):
            continue
        text = f"layer {layer}" if width > 45 else str(layer)
        labels.append(((left + right - 2 * begin) / 2 * scale, text))
    return labels


def tick_of(length):
    for tick in (step * 10**power for power in range(-2, 7) for step in (1, 2, 5)):
        if length / tick <= 12:
            return tick
    return length


class Picture:
    def __init__(self, lanes):
        self.parts, self.y, self.kinds, self.lanes = [], 8, set(), lanes

    def text(self, x, y, text, anchor="start", size=10, fill="#333", extra=""):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{fill}"'
                          f'{extra}>{html.escape(text)}</text>')

    def row(self, timeline, rank, lane, begin, end, scale):
        height = ROW_HEIGHT.get(lane, OTHER_ROW_HEIGHT)
        spans = timeline.spans[rank, lane]
        self.parts.append(f'<rect x="{LEFT}" y="{self.y}" width="{WIDTH - LEFT - RIGHT}" height="{height}" fill="#f6f6f6"/>')
        self.text(LEFT - 5, self.y + height / 2 + 3, short_name(lane), "end", 9, "#555")
        paths = collections.defaultdict(list)
        for left, right, kind in visible(spans, begin, end, scale):
            paths[kind].append(f"M{LEFT + left:.1f} {self.y}h{max(right - left, 0.2):.1f}v{height}h-{max(right - left, 0.2):.1f}z")
        for kind, path in paths.items():
            self.kinds.add(kind)
            self.parts.append(f'<path fill="{KINDS[kind][0]}" d="{"".join(path)}"/>')
        for middle, text in layer_labels(spans, begin, end, scale):
            self.text(LEFT + middle, self.y + height / 2 + 3, text, "middle", 8.5, "#111")
        self.y += height + 2

    def band(self, timeline, rank, begin, end, scale):
        top = self.y
        for lane in timeline.lanes(rank):
            wanted = short_name(lane) in self.lanes if self.lanes else lane != "run"
            if wanted and any(s.end > begin and s.begin < end for s in timeline.spans[rank, lane]):
                self.row(timeline, rank, lane, begin, end, scale)
        if self.y == top:  # nothing of it in this stretch
            self.row(timeline, rank, COMPUTE, begin, end, scale)
        self.text(6, (top + self.y) / 2 + 3, f"rank {rank}", size=11, extra=' font-weight="bold"')
        self.y += 5

    def axis(self, length, scale, top):
        tick = tick_of(length)
        for i in range(int(length / tick) + 1):
            x = LEFT + i * tick * scale
            self.parts.insert(0, f'<path d="M{x:.1f} {top}V{self.y}" stroke="#ddd"/>')
            self.text(x, self.y + 12, f"{i * tick:g}" + (" ms" if i == 0 else ""), "middle", 9)
        self.y += 18

    def marks(self, said, begin, scale, top):
        for i, (at, text) in enumerate(said):
            x = LEFT + (at - begin) * scale
            y = top + 11 * i
            right = x > WIDTH * 0.6
            self.parts.append(f'<path d="M{x:.1f} {y + 2}V{self.y}" stroke="#111" stroke-dasharray="3 2"/>')
            self.text(x + (-4 if right else 4), y + 5, f"{text} ({at - begin:.0f} ms)", "end" if right else "start", 9.5, "#111")

    def legend(self):
        x = LEFT
        self.y += 6
        for kind, (colour, words) in KINDS.items():
            if kind not in self.kinds:
                continue
            needed = 24 + 5.7 * len(words)
            if x + needed > WIDTH - RIGHT:
                x, self.y = LEFT, self.y + 15
            self.parts.append(f'<rect x="{x:.0f}" y="{self.y - 1}" width="10" height="10" fill="{colour}"/>')
            self.text(x + 14, self.y + 8, words)
            x += needed
        self.y += 18

    def svg(self):
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.y:.0f}" font-family="sans-serif">\n'
                f'<rect width="{WIDTH}" height="{self.y:.0f}" fill="#fff"/>\n' + "\n".join(self.parts) + "\n</svg>\n")


def read_log(path):
    """(milliseconds, what was said of a fault)"""
    said = []
    try:
        with open(path) as file:
            lines = file.read().splitlines()
    except OSError as error:
        give_up(f"{path}: {error.strerror}")
    for line in lines:
        stamped = re.match(r"(\d+\.\d+) (.*)", line)
        for pattern, words in SAID:
            found = stamped and pattern.match(stamped[2])
            if found:
                said.append((1000 * float(stamped[1]), words(found)))
    if not said:
        give_up(f"{path}: says nothing of a fault; it must have been written by `trace_picture.py stamp`")
    return said


def draw(arguments):
    steps = parse_steps(arguments.steps)
    if arguments.titles and len(arguments.titles) != len(arguments.traces):
        give_up(f"{len(arguments.titles)} titles for {len(arguments.traces)} traces")
    stretches = []
    for path in arguments.traces:
        timeline = Timeline(path)
        first, last = timeline.of_steps(steps)
        begin = first + arguments.begin
        end = last if arguments.end is None else first + arguments.end
        if not any(s.end > begin and s.begin < end for spans in timeline.spans.values() for s in spans):
            give_up(f"{path}: no spans from {arguments.begin:g} to {end - first:g} ms of step {steps[0]}")
        stretches.append((timeline, begin, end))
    length = max(end - begin for _, begin, end in stretches)
    scale = (WIDTH - LEFT - RIGHT) / length
    picture = Picture(arguments.lanes)
    for i, (timeline, begin, end) in enumerate(stretches):
        if arguments.titles:
            picture.text(LEFT, picture.y + 9, arguments.titles[i], size=12, extra=' font-weight="bold"')
            picture.y += 16
        said = [s for s in read_log(arguments.log) if begin <= s[0] <= end] if arguments.log else []
        top = picture.y
        picture.y += 11 * len(said)
        for rank in timeline.ranks():
            if arguments.ranks is None or rank in arguments.ranks:
                picture.band(timeline, rank, begin, end, scale)
        picture.marks(said, begin, scale, top + 4)
        picture.axis(length, scale, top + 11 * len(said))
    picture.legend()
    sys.stdout.write(picture.svg())


# --- Measuring.


def covered(begin, end, spans):
    """How much of [begin, end] lies in `spans`, which are in order and do not overlap."""
    return sum(max(0.0, min(end, span.end) - max(begin, span.begin)) for span in spans)


def hidden(arguments):
    """Of what the ranks exchange beside their passes: how long computing goes on meanwhile."""
    steps, timeline = parse_steps(arguments.steps), Timeline(arguments.trace)
    timeline.of_steps(steps)
    totals = collections.defaultdict(lambda: [0.0, 0.0])
    for (rank, lane), spans in timeline.spans.items():
        if lane in (COMPUTE, "run", "checkpoint"):
            continue
        computing = timeline.spans.get((rank, COMPUTE), [])
        for span in spans:
            if steps[0] <= span.step <= steps[1]:
                totals[lane][0] += span.end - span.begin
                totals[lane][1] += covered(span.begin, span.end, computing)
    if not totals:
        give_up(f"{arguments.trace}: in these steps no rank talks to another")
    for lane, (total, beside) in sorted(totals.items()):
        print(f"{lane}: {total:.1f} ms of all ranks, {beside:.1f} ms of them beside computing: {beside / total:.1%}")


def bubble(arguments):
    """Of the time from a step's first pass to its last, of all ranks: how much no rank's compute lane has a span."""
    steps, timeline = parse_steps(arguments.steps), Timeline(arguments.trace)
    timeline.of_steps(steps)
    passes = ("forward", "backward", "weights", "recompute", "sum", "memory")
    total = idle = 0.0
    for step in range(steps[0], steps[1] + 1):
        of_ranks = {rank: [s for s in timeline.spans.get((rank, COMPUTE), []) if s.step == step]
                    for rank in timeline.ranks()}
        edges = [s for spans in of_ranks.values() for s in spans if s.kind in ("forward", "backward", "weights")]
        if not edges:
            give_up(f"{arguments.trace}: no passes in step {step}")
        begin, end = min(s.begin for s in edges), max(s.end for s in edges)
        for spans in of_ranks.values():
            total += end - begin
            idle += end - begin - covered(begin, end, [s for s in spans if s.kind in passes])
    print(f"{total:.1f} ms of all ranks between the first pass and the last, {idle:.1f} ms of them idle: {idle / total:.1%}")


def stamp(_):
    for line in sys.stdin:
        sys.stdout.write(f"{time.monotonic():.4f} {line}")
        sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("draw", help="an SVG of some steps, to the standard output")
    command.add_argument("traces", nargs="+")
    command.add_argument("--steps", required=True, help="first and last, such as 3:6")
    command.add_argument("--from", dest="begin", type=float, default=0, help="milliseconds after the steps' beginning")
    command.add_argument("--to", dest="end", type=float, help="milliseconds after the steps' beginning")
    command.add_argument("--ranks", type=lambda text: [int(rank) for rank in text.split(",")], help="such as 0,1")
    command.add_argument("--lanes", type=lambda text: text.split(","), help="such as compute,gradients")
    command.add_argument("--titles", nargs="+", help="one for each trace")
    command.add_argument("--log", help="what the run said, as `stamp` wrote it")
    command.set_defaults(run=draw)
    for name, run in (("hidden", hidden), ("bubble", bubble)):
        command = commands.add_parser(name, help=run.__doc__)
        command.add_argument("trace")
        command.add_argument("--steps", required=True, help="first and last, such as 3:6")
        command.set_defaults(run=run)
    commands.add_parser("stamp", help="the standard input, with the clock of traces before each line").set_defaults(run=stamp)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
