"""Writing: how much, how fast one at a time, at half of the largest load; forwarding; turns; CPU."""

from figures import counted, median, number, ratio, table, values
from measure import LONG_TURN_MS, SIZES, Step, by_turns, floor_key, floor_step, produce_key
from plot import Chart

NAME = "produce"
CLUSTER = True
VIA = ("leader", "follower")
MOST = 4096
SHARE_MIN = {100: 0.40, 1024: 0.70}
LATENCY_FACTOR_MAX = 1.5
HALF_LOAD_FACTOR_MAX = 10
FORWARD_MS_MAX, FORWARD_SHARE_MAX = 0.15, 10
CPU_S_MAX = 2.5


def shapes(options):
    """(in flight, connections)"""
    if options.quick:
        return [(1, 1), (MOST, 1), (MOST, 64)]
    return [(1, 1), (16, 1), (256, 1), (MOST, 1), (MOST, 8), (MOST, 64)]


def load_step(options, number, size, shape, via):
    key = produce_key(size, *shape, via)
    topic = f"{number}-{key.replace(' ', '-')}"

    def run(lab):
        found = lab.produce(size, *shape, via, topic)
        lab.drop(topic)
        return found
    return Step(key, options.seconds + 1.5, run)


def largest(one, size):
    """Records a second of the largest load through the leader, in a round."""
    return max(found["records_per_s"] for key, found in one.items()
               if key.startswith(f"produce {size} ") and key.endswith(" leader"))


def open_step(options, number, size):
    def run(lab):
        rate = max(1, int(largest(lab.found, size) / 2))
        topic = f"{number}-open-{size}"
        found = lab.load("--topic", topic, "--size", str(size), "--rate", str(rate))
        lab.drop(topic)
        return found
    return Step(f"open {size}", options.seconds + 1.5, run)


def steps(options, number):
    found = []
    for size in by_turns(SIZES, number):
        found += [floor_step(options, "disk", size, "buffered"), floor_step(options, "latency"),
                  floor_step(options, "loopback")]
        for shape in by_turns(shapes(options), number):
            found += [load_step(options, number, size, shape, via) for via in by_turns(VIA, number)
                      if not options.quick or via == "leader" or shape[1] == 1]
        found.append(open_step(options, number, size))
    return found


# ---- ratios ----

def best_shape(rounds, options, size, via):
    rates = {shape: median(rounds, lambda one, s=shape: one[produce_key(size, *s, via)]["records_per_s"])
             for shape in shapes(options) if shape[0] == MOST}
    rates = {shape: rate for shape, rate in rates.items() if rate is not None}
    return max(rates, key=rates.get) if rates else None


def share_ratios(rounds, options):
    found = []
    for size in reversed(SIZES):
        for via in VIA:
            shape = best_shape(rounds, options, size, via)
            if shape is None:
                continue
            found += ratio(
                f"produce {size} {via}",
                f"{size}-byte records, {shape[0]} in flight on {counted(shape[1], 'connection')}, through a {via}: "
                "acknowledged bytes/s / one floor writer's", rounds,
                lambda one, z=size, s=shape, v=via: one[produce_key(z, *s, v)]["mb_per_s"] * 1e6 /
                one[floor_key("disk", z)]["bytes_per_s"],
                limit=SHARE_MIN[size], at_most=False)
    return found


def latency_ratios(rounds):
    def one_at_a_time(one):
        floor = one[floor_key("latency")]["p50_ms"] + one[floor_key("loopback")]["round_trip_p50_ms"]
        return one[produce_key(100, 1, 1, "leader")]["p50_ms"] / floor

    found = ratio("produce latency", "one 100-byte record at a time: p50 / (a durable write + a round trip)",
                  rounds, one_at_a_time, limit=LATENCY_FACTOR_MAX)
    for size in SIZES:
        found += ratio(f"produce half {size}",
                       f"{size}-byte records at half of the largest load: p99 / p50 of a durable write", rounds,
                       lambda one, z=size: one[f"open {z}"]["p99_ms"] / one[floor_key("latency")]["p50_ms"],
                       limit=HALF_LOAD_FACTOR_MAX)
    return found


def forward_ratios(rounds):
    found = []
    for size in SIZES:
        found += ratio(f"forward ms {size}", f"{size}-byte records, through a follower: p50 later by", rounds,
                       lambda one, z=size: one[produce_key(z, 1, 1, "follower")]["p50_ms"] -
                       one[produce_key(z, 1, 1, "leader")]["p50_ms"], limit=FORWARD_MS_MAX, unit="ms")
        found += ratio(f"forward share {size}", f"{size}-byte records, {MOST} in flight, through a follower: less by",
                       rounds, lambda one, z=size: 100 - 100 *
                       one[produce_key(z, MOST, 1, "follower")]["records_per_s"] /
                       one[produce_key(z, MOST, 1, "leader")]["records_per_s"],
                       limit=FORWARD_SHARE_MAX, unit="%")
    return found


def loads(one):
    return {key: found for key, found in one.items() if key.startswith(("produce ", "open "))}


def longest_turn(one):
    return max((found["raft_turns"]["longest_ms"] for found in loads(one).values()), default=None)


def long_turns(one):
    return sum(found["raft_turns"]["long"] for found in loads(one).values())


def cpu_s(found):
    """Per million records, of all nodes."""
    return sum(node["cpu_s_per_million"] for node in found["nodes"])


def ratios(rounds, options):
    found = share_ratios(rounds, options) + latency_ratios(rounds) + forward_ratios(rounds)
    turned = [one for one in rounds if loads(one)]
    found += ratio("raft turn", f"the raft threads' longest turn of {sum(map(turn_count, turned))}, all loads",
                   turned, longest_turn, limit=LONG_TURN_MS, unit="ms", worst=True)
    found += ratio("raft turns", f"their turns above {LONG_TURN_MS} ms in a round, the most", turned, long_turns,
                   limit=0, worst=True)
    return found + ratio("cpu", f"CPU seconds of all nodes per million 100-byte records, {MOST} in flight", rounds,
                         lambda one: cpu_s(one[produce_key(100, MOST, 1, "leader")]), limit=CPU_S_MAX, unit="s")


def turn_count(one):
    return sum(found["raft_turns"]["turns"] for found in loads(one).values())


# ---- tables and plots ----

def row_of(rounds, key, name):
    def of(get):
        return median(rounds, lambda one: get(one[key]))
    return (name, number(of(lambda f: f["records_per_s"])), number(of(lambda f: f["mb_per_s"])),
            number(of(lambda f: f["p50_ms"])), number(of(lambda f: f["p99_ms"])),
            number(of(lambda f: f["records_per_journal_write"])), number(of(cpu_s)),
            max(values(rounds, lambda one: number(one[key]["raft_turns"]["longest_ms"])), key=float),
            sum(values(rounds, lambda one: one[key]["raft_turns"]["long"])))


HEAD = ("records/s", "MB/s", "p50 ms", "p99 ms", "records per journal sync", "CPU s per million, all nodes",
        "longest turn, ms", f"above {LONG_TURN_MS} ms, all rounds")


def tables(rounds, options):
    rows = []
    for size in SIZES:
        for shape in shapes(options):
            for via in VIA:
                key = produce_key(size, *shape, via)
                if any(key in one for one in rounds):
                    rows.append(row_of(rounds, key, f"{size}, {shape[0]}, {shape[1]}, {via}"))
    lines = table(("bytes, in flight, connections, through", *HEAD), rows)
    rows = [row_of(rounds, f"open {size}", f"{size}, half of the largest load"
                   f"{'' if kept(rounds, size) else ' (not kept)'}")
            for size in SIZES if any(f"open {size}" in one for one in rounds)]
    return lines + table(("open loop: bytes", *HEAD), rows)


def kept(rounds, size):
    return all(values(rounds, lambda one: one[f"open {size}"]["rate_kept"]))


def plots(rounds, options):
    """Over what is in flight on one connection, and at most on several."""
    counts = sorted({shape[0] for shape in shapes(options) if shape[1] == 1})
    chart = Chart(counts, "records in flight on one connection")
    for title, name in (("records/s", "records_per_s"), ("p50, ms", "p50_ms"), ("p99, ms", "p99_ms")):
        chart.add_panel(title, [
            (f"{size} B, {via}", [(count, median(rounds, lambda one, z=size, c=count, v=via, n=name:
                                                 one[produce_key(z, c, 1, v)][n])) for count in counts])
            for size in SIZES for via in VIA], logarithmic=True)
    return chart.drawn("produce", "Throughput and latency over the records in flight")
