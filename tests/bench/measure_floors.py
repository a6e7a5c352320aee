"""What the machine allows: what the other sections are compared with, and other ways to write."""

from figures import median, number, ratio, table
from measure import SIZES, by_turns, floor_key, floor_step

NAME = "floors"
CLUSTER = False
SECONDS = ("buffered", "chunked", "direct", "memory", "none")
TEXTS = {
    "buffered": "each client's batch, buffered: as it is now",
    "chunked": "gathered, 1 MiB at a time, buffered",
    "direct": "gathered, 1 MiB at a time, `O_DIRECT`",
    "memory": "4 MiB at a time, buffered, from where the journal has it",
    "none": "none: the journal alone",
}


def way_key(size, second):
    return f"way {size} {second}"


def steps(options, number):
    writes = [floor_step(options, "disk", size, second, key=way_key(size, second))
              for size in SIZES for second in SECONDS]
    return by_turns(
        [floor_step(options, mode) for mode in ("latency", "loopback", "read", "core")] + writes, number)


def bytes_of(size, second):
    return lambda one: one[way_key(size, second)]["bytes_per_s"]


def ratios(rounds, _options):
    """None has a target; a machine that has become slower shows."""
    found = []
    for size in SIZES:
        for second in SECONDS[1:]:
            found += ratio(f"floor {size} {second}",
                           f"{size}-byte records, second write {second} / buffered", rounds,
                           lambda one, s=size, w=second: bytes_of(s, w)(one) / bytes_of(s, "buffered")(one),
                           at_most=False)
    return found


def tables(rounds, _options):
    def of(mode, name, factor=1.0):
        value = median(rounds, lambda one: one[floor_key(mode)][name])
        return number(None if value is None else value * factor)

    lines = table(("floor", ""), [
        ("one durable write of a small entry, three writers",
         f"p50 {of('latency', 'p50_ms')} ms, p99 {of('latency', 'p99_ms')} ms"),
        ("TCP round trip", f"p50 {of('loopback', 'round_trip_p50_ms')} ms"),
        ("TCP stream", f"{of('loopback', 'stream_bytes_per_s', 1e-6)} MB/s"),
        ("reading a file one piece after the other, from the disk, from the page cache",
         f"{of('read', 'cold_bytes_per_s', 1e-6)} MB/s, {of('read', 'bytes_per_s', 1e-6)} MB/s"),
        ("three cores of raft in one process, 64 entries at a time, one at a time",
         f"{of('core', 'entries_per_s')} entries/s, {of('core', 'one_at_a_time_per_s')} entries/s")])

    def row(second):
        cells = [median(rounds, bytes_of(size, second)) for size in SIZES]
        shares = [median(rounds, lambda one, s=size: bytes_of(s, second)(one) / bytes_of(s, "buffered")(one))
                  for size in SIZES]
        latency = median(rounds, lambda one: one[way_key(SIZES[-1], second)]["journal_p99_ms"])
        return (TEXTS[second],
                *(f"{number(None if cell is None else cell / 1e6)} ({number(share)})"
                  for cell, share in zip(cells, shares)), number(latency))

    return lines + table(
        ("one of three writers: its second write", *(f"{size}-byte records, MB/s (of the first row)" for size in SIZES),
         "journal write, p99 ms"), [row(second) for second in SECONDS])


def plots(_rounds, _options):
    return {}
