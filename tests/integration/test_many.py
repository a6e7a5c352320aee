"""Many topics, and a topic of many segments, on one node that may open few files.

    test_many.py [--topics N] [--segments N]      default 2000 and 2000; topics: up to 10000

All topics get a record, are there after kill -9 and a restart, and take another one. The topic of
many segments is read across all of them. Never are more files open than a process may have by
default, 1024, all that is not of topics included.
"""

import json
import os
import resource
import sys
import time

import wire
from cluster import expect, main, run


def option(name, value):
    return int(sys.argv[sys.argv.index(name) + 1]) if name in sys.argv else value


TOPICS = option("--topics", 2000) - 1  # and one more, which is long
SEGMENTS = option("--segments", 2000)
FILES_MAX = 1024
SEGMENT_SIZE = 4096
VALUE_SIZE = 1900  # two batches of one record fill a segment
WINDOW = 128


def status_of(cluster):
    done = run("cluster", "status", "--json", "-s", cluster.address(1))
    return json.loads(done.stdout)["nodes"][0]


def check_files(cluster, when):
    count = len(os.listdir(f"/proc/{cluster.nodes[1].pid}/fd"))
    expect(count < FILES_MAX, f"{count} files are open {when}")
    return count


def exchange(cluster, requests, kind):
    """Sends requests (made by functions of their id), WINDOW of them under way; the answers."""
    answers = [None] * len(requests)
    with wire.Connection(cluster.ports[0], timeout=120) as connection:
        expect(connection.greet().kind == wire.HELLO_REPLY, "no hello")
        sent = 0
        for done in range(len(requests)):
            while sent < len(requests) and sent - done < WINDOW:
                connection.send(requests[sent](sent + 2))
                sent += 1
            answer = connection.receive()
            expect(answer is not None and answer.kind == kind, f"answer {done}: {answer}")
            answers[answer.request_id - 2] = answer
    return answers


def create_all(cluster):
    def create(i):
        return lambda number: wire.frame(wire.TOPIC_CREATE, wire.message((1, f"t{i}")),
                                         request_id=number)
    exchange(cluster, [create(i) for i in range(TOPICS)], wire.TOPIC_CREATE_REPLY)


def produce_all(cluster, text):
    def produce(i):
        data = wire.batch(wire.record(f"{text}-{i}"))
        return lambda number: wire.produce(f"t{i}", data, request_id=number)
    exchange(cluster, [produce(i) for i in range(TOPICS)], wire.PRODUCE_REPLY)


def check_all(cluster, texts):
    def consume(i):
        return lambda number: wire.consume(f"t{i}", request_id=number)
    answers = exchange(cluster, [consume(i) for i in range(TOPICS)], wire.CONSUME_REPLY)
    for i, answer in enumerate(answers):
        for text in texts:
            expect(wire.record(f"{text}-{i}") in answer.body, f"{text} is not in t{i}")


def write_long(cluster):
    run("topic", "create", "long", "-s", cluster.address(1))
    values = [f"{i:08d}".ljust(VALUE_SIZE, "x") for i in range(SEGMENTS * 2)]

    def produce(value):
        return lambda number: wire.produce("long", wire.batch(wire.record(value)),
                                           request_id=number)
    exchange(cluster, [produce(value) for value in values], wire.PRODUCE_REPLY)
    return values


def read_long(cluster, values):
    out = run("consume", "long", "-s", cluster.address(1), timeout=200).stdout
    expect(out == "".join(value + "\n" for value in values).encode(), "what comes back differs")
    for i in range(0, len(values), len(values) // 17):
        out = run("consume", "long", "-o", str(i), "-n", "1", "-s", cluster.address(1)).stdout
        expect(out.decode() == values[i] + "\n", f"record {i} differs")


def timed(what, function, *args):
    begin = time.monotonic()
    result = function(*args)
    print(f"{what}: {time.monotonic() - begin:.1f} s", flush=True)
    return result


def test(cluster):
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_MAX, FILES_MAX))
    cluster.start_all()
    timed(f"creating {TOPICS} topics", create_all, cluster)
    check_files(cluster, "after creating topics")
    timed("a record for each", produce_all, cluster, "first")
    check_files(cluster, "after the first records")
    values = timed(f"a topic of {SEGMENTS} segments", write_long, cluster)
    stores = sum(name.endswith(".store") for _, _, names in os.walk(cluster.data(1))
                 for name in names)
    expect(stores >= TOPICS + SEGMENTS, f"only {stores} segments")
    check_files(cluster, "after writing a long topic")
    cluster.kill(1)
    timed("a restart", cluster.start_all)
    check_files(cluster, "after a restart")
    timed("reading it", read_long, cluster, values)
    check_files(cluster, "after reading a long topic")
    timed("another record for each", produce_all, cluster, "second")
    timed("reading them", check_all, cluster, ("first", "second"))
    files = check_files(cluster, "after reading all")
    status = status_of(cluster)
    expect(status["files_open"] < files, f"{status['files_open']} of {files} files are topics'")
    expect(status["files_evicted"] > 0, "nothing was ever closed")
    expect(status["holes"] == 0, "something is missing")
    print(f"{files} files open, {status['files_misses']} opened, {status['files_evicted']} closed, "
          f"memory {status['memory'] >> 20} MiB")


if __name__ == "__main__":
    main(test, ["--segment-size", str(SEGMENT_SIZE)], count=1)
