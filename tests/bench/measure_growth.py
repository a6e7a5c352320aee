"""More topics, more connections, a longer log: what it changes."""

from figures import median, number, ratio, table
from measure import Step, by_turns
from plot import Chart

NAME = "growth"
CLUSTER = True
SHARE_MIN, FACTOR_MAX = 0.80, 1.20  # flat within 20 %
IN_FLIGHT = 4096
LOG_IN_FLIGHT = 64  # A larger load would make a long log of a short one.
COUNTS = (1, 10, 100, 1000)
LOGS = {"1 MB": 10**6, "100 MB": 10**8, "1 GiB": 2**30, "10 GiB": 10 * 2**30}
KINDS = {"topics": "topics", "connections": "connections", "log": "bytes of log"}


def places(kind, options):
    """(text, number)"""
    if kind != "log":
        return [(str(count), count) for count in (COUNTS[0], COUNTS[-1])] if options.quick else \
            [(str(count), count) for count in COUNTS]
    names = ["1 MB", "100 MB"] if options.quick else ["1 MB", "100 MB", "1 GiB"]
    return [(name, LOGS[name]) for name in names + (["10 GiB"] if options.long else [])]


def key_of(kind, count):
    return f"growth {kind} {count}"


def topics_step(options, count):
    def run(lab):
        return lab.load("--topic", f"topics-{count}", "--topics", str(count), "--size", "100", "--inflight",
                        str(IN_FLIGHT))
    return Step(key_of("topics", count), options.seconds + 1.5 + count / 500, run)


def connections_step(options, count):
    def run(lab):
        topic = f"connections-{count}"
        found = lab.produce(100, IN_FLIGHT, count, "leader", topic)
        lab.drop(topic)
        return found
    return Step(key_of("connections", count), options.seconds + 1.5 + count / 500, run)


def log_step(options, size):
    def run(lab):
        topic = f"log-{size}"
        lab.fill(topic, size)
        lab.cluster.wait_equal(topic, 600)
        found = lab.produce(100, LOG_IN_FLIGHT, 1, "leader", topic)
        lab.drop(topic)
        return found
    return Step(key_of("log", size), options.seconds + 1.5 + size / 150e6, run)


STEPS = {"topics": topics_step, "connections": connections_step, "log": log_step}


def steps(options, number):
    """The longest log is made once."""
    found = []
    for kind in ("connections", "log", "topics"):  # Topics stay, so they come last.
        counts = [count for _, count in places(kind, options)
                  if kind != "log" or count < LOGS["10 GiB"] or number == options.rounds]
        found += [STEPS[kind](options, count)
                  for count in (counts if kind == "topics" else by_turns(counts, number))]
    return found


# ---- ratios ----

def figure(kind, count, name):
    return lambda one: one[key_of(kind, count)][name]


def worst(rounds, kind, options, name):
    """The place whose median is farthest on the wrong side, of those behind the first."""
    found = {count: median(rounds, figure(kind, count, name)) for _, count in places(kind, options)[1:]}
    found = {count: value for count, value in found.items() if value is not None}
    if not found:
        return None
    return (max if name.endswith("_ms") else min)(found, key=found.get)


def ratios(rounds, options):
    found = []
    for kind in KINDS:
        all_places = places(kind, options)
        for name, text, limit, at_most in (("records_per_s", "records/s", SHARE_MIN, False),
                                           ("p99_ms", "p99", FACTOR_MAX, True)):
            count = worst(rounds, kind, options, name)
            if count is None:
                continue
            of = next(t for t, c in all_places if c == count)
            found += ratio(f"growth {kind} {name}",
                           f"{text} with {what(kind, of)} (the worst) / with {what(kind, all_places[0][0])}", rounds,
                           lambda one, k=kind, c=count, n=name, f=all_places[0][1]:
                           figure(k, c, n)(one) / figure(k, f, n)(one), limit=limit, at_most=at_most)
    return found


def what(kind, text):
    if kind == "log":
        return f"a log of {text}"
    return f"{text} {kind if text != '1' else kind[:-1]}"


# ---- tables and plots ----

def tables(rounds, options):
    lines = []
    for kind in KINDS:
        load = f"{LOG_IN_FLIGHT if kind == 'log' else IN_FLIGHT} of 100 bytes in flight"
        rows = [(text, *(number(median(rounds, figure(kind, count, name)))
                         for name in ("records_per_s", "p50_ms", "p99_ms")))
                for text, count in places(kind, options) if any(key_of(kind, count) in one for one in rounds)]
        lines += table((f"{KINDS[kind]}; {load}", "records/s", "p50 ms", "p99 ms"), rows)
    return lines


def plots(rounds, options):
    found = {}
    for kind, title in KINDS.items():
        all_places = places(kind, options)
        chart = Chart([count for _, count in all_places], title, [text for text, _ in all_places])
        for panel, names in (("records/s", ("records_per_s",)), ("p50, p99, ms", ("p50_ms", "p99_ms"))):
            chart.add_panel(panel, [
                (name.removesuffix("_ms").replace("records_per_s", "records/s"),
                 [(count, median(rounds, figure(kind, count, name))) for _, count in all_places]) for name in names])
        found.update(chart.drawn(f"growth-{kind}", f"Throughput and latency over {title}"))
    return found
