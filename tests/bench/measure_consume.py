"""Reading: large fetches from a follower, delivery to many followed streams, cold readers beside writes."""

import subprocess
import threading

from figures import median, number, ratio, table
from measure import Step, by_turns, expect, floor_step, forget

NAME = "consume"
CLUSTER = True
TOPIC = "read"
SIZE = 1024
LOOPBACK = "consume loopback"
SHARE_MIN = 0.80
RATE = 10000
DELIVERY_MS_MAX = 5
BESIDE_MAX = 1.5
READERS = 2


def fill_step(options):
    def run(lab):
        lab.fill(TOPIC, options.read_bytes, SIZE + 1)
        lab.cluster.wait_equal(TOPIC)
        return {"bytes": options.read_bytes}
    return Step("filled", options.read_bytes / 150e6 + 1, run)


def read_step(options, via, batches):
    return Step(f"consume {via} {'batches' if batches else 'records'}", options.read_bytes / 500e6 + 0.5,
                lambda lab: lab.bench("consume", "--topic", TOPIC, *(("--batches",) if batches else ()),
                                      servers=lab.address(via)))


def deliver_step(options):
    return Step("deliver", options.seconds + 4, lambda lab: lab.bench(
        "end-to-end", "--topic", "followed", "--rate", str(RATE), "--streams", str(options.streams)))


class ColdReaders:
    """Each reads the topic from its start through a node of its own, again and again, from the disk."""

    def __init__(self, lab):
        self.lab = lab
        self.paths = lab.stores(TOPIC)
        expect(self.paths, f"{TOPIC} has no files")
        self.ending = threading.Event()
        self.processes = {}
        self.passes = 0
        self.failure = None
        self.lock = threading.Lock()
        addresses = [lab.cluster.address(node) for node in lab.cluster.followers()]
        self.threads = [threading.Thread(target=self.read, args=(address,), daemon=True)
                        for address in (addresses * READERS)[:READERS]]

    def read(self, address):
        while not self.ending.is_set():
            forget(self.paths)
            with self.lock:
                if self.ending.is_set():
                    return
                process = self.processes[address] = subprocess.Popen(
                    [self.lab.options.quorlog, "bench", "consume", "--batches", "--topic", TOPIC, "-s", address],
                    stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            errors = process.communicate()[1]
            with self.lock:
                self.passes += 1
                if process.returncode != 0 and not self.ending.is_set():
                    self.failure = errors.decode().strip() or f"exit {process.returncode}"
                    return

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        with self.lock:
            self.ending.set()
            for process in self.processes.values():
                if process.poll() is None:
                    process.terminate()
        for thread in self.threads:
            thread.join(60)


def beside_step(options, cold):
    def load(lab):
        return lab.load("--topic", "beside", "--size", "100", "--rate", str(RATE))

    def run(lab):
        if not cold:
            return load(lab)
        with ColdReaders(lab) as readers:
            found = load(lab)
            failure = readers.failure
        expect(failure is None, f"a cold reader failed: {failure}")
        return found
    return Step(f"beside {'cold' if cold else 'alone'}", options.seconds + 2, run)


def steps(options, number):
    reads = [floor_step(options, "loopback", key=LOOPBACK)] + [
        read_step(options, via, batches) for via in ("follower", "leader") for batches in (True, False)]
    return [fill_step(options), *by_turns(reads, number), deliver_step(options),
            *by_turns([beside_step(options, False), beside_step(options, True)], number)]


def ratios(rounds, options):
    found = ratio("consume", "1 KiB records in large fetches from a follower: bytes/s / a loopback stream's", rounds,
                  lambda one: one["consume follower batches"]["mb_per_s"] * 1e6 /
                  one[LOOPBACK]["stream_bytes_per_s"], limit=SHARE_MIN, at_most=False)
    found += ratio(f"deliver {options.streams}",
                   f"{options.streams} followed streams, {RATE} records/s: acknowledged to delivered, p99", rounds,
                   lambda one: one["deliver"]["acknowledged_to_delivered"]["p99_ms"], limit=DELIVERY_MS_MAX, unit="ms")
    return found + ratio("beside cold", f"writing {RATE} records/s beside {READERS} cold readers: p99 / without them",
                         rounds, lambda one: one["beside cold"]["p99_ms"] / one["beside alone"]["p99_ms"],
                         limit=BESIDE_MAX)


def tables(rounds, options):
    def of(key, *names):
        def get(one):
            found = one[key]
            for name in names:
                found = found[name]
            return found
        return number(median(rounds, get))

    lines = table(("consume, 1 KiB records, through", "records/s", "MB/s"),
                  [(f"{via}, {what}", of(f"consume {via} {what}", "records_per_s"), of(f"consume {via} {what}", "mb_per_s"))
                   for via in ("follower", "leader") for what in ("batches", "records")
                   if any(f"consume {via} {what}" in one for one in rounds)])
    if any("deliver" in one for one in rounds):
        lines += table((f"{options.streams} followed streams, {RATE} records/s", "p50 ms", "p99 ms", "p99.9 ms"), [
            (text, *(of("deliver", name, quantile) for quantile in ("p50_ms", "p99_ms", "p999_ms")))
            for text, name in (("planned to acknowledged", "planned_to_acknowledged"),
                               ("acknowledged to delivered", "acknowledged_to_delivered"),
                               ("planned to delivered", "planned_to_delivered"))])
    return lines + table((f"writing {RATE} records/s", "p50 ms", "p99 ms", "p99.9 ms"), [
        (text, *(of(f"beside {key}", quantile) for quantile in ("p50_ms", "p99_ms", "p999_ms")))
        for key, text in (("alone", "alone"), ("cold", f"beside {READERS} readers of what is on the disk only"))
        if any(f"beside {key}" in one for one in rounds)])


def plots(_rounds, _options):
    return {}
