#!/usr/bin/env python3
"""Reads a run's TensorBoard event files with TensorBoard's own loader and compares them with its metrics.jsonl.

    pip install tensorboard
    read_events.py out/run/events [out/run/metrics.jsonl]

Exits with 1 when a number differs, a step is there twice, or one is missing. Every record's checksums are verified.
"""
import glob, json, math, struct, sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

CASTAGNOLI = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    CASTAGNOLI.append(byte)


def masked_crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CASTAGNOLI[(crc ^ byte) & 255]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def check_records(path):
    """The loader without TensorFlow skips the checksums; other readers do not."""
    data, offset, count = open(path, "rb").read(), 0, 0
    while offset < len(data):
        length, length_crc = struct.unpack_from("<QI", data, offset)
        body = data[offset + 12 : offset + 12 + length]
        (body_crc,) = struct.unpack_from("<I", data, offset + 12 + length)
        if length_crc != masked_crc32c(data[offset : offset + 8]) or body_crc != masked_crc32c(body):
            sys.exit(f"{path}: bad checksum in the record at byte {offset}")
        offset, count = offset + 16 + length, count + 1
    return count


def main():
    assert masked_crc32c(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF
    for path in sorted(glob.glob(sys.argv[1] + "/events.out.tfevents.*")):
        print(f"{path}: {check_records(path)} records")
    events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
    events.Reload()
    bad = 0
    series = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    for tag, points in sorted(series.items()):
        steps = [step for step, _ in points]
        print(f"{tag}: {len(points)} points, steps {steps[0]}..{steps[-1]}, last {points[-1][1]:.6g}")
        bad += len(set(steps)) != len(steps)
    if len(sys.argv) > 2:
        expected = {}
        for line in open(sys.argv[2]):
            record = json.loads(line)
            for tag in record.keys() - {"step", "time"}:
                expected.setdefault(tag, []).append((record["step"], record[tag]))
        bad += expected.keys() != series.keys()
        for tag in expected.keys() & series.keys():
            bad += [s for s, _ in expected[tag]] != [s for s, _ in series[tag]]
            for (step, want), (_, got) in zip(expected[tag], series[tag]):
                same = not math.isfinite(got) if want is None else math.isclose(want, got, rel_tol=1e-6)
                if not same:
                    print(f"{tag} at step {step}: {got}, metrics.jsonl has {want}")
                    bad += 1
    print("differs" if bad else "ok")
    sys.exit(bad > 0)


main()
