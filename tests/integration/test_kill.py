"""Leaders are killed, then all nodes at once, under load of eight producers; nothing acknowledged is
lost, doubled or moved.

    test_kill.py [--rounds N]      kills of each kind; default 4
"""

import sys
import time

from cluster import Producer, check_copies, expect, main

ROUNDS = int(sys.argv[sys.argv.index("--rounds") + 1]) if "--rounds" in sys.argv else 4


def progress(producers):
    return sum(len(p.acked) for p in producers)


def wait_progress(producers, more, timeout=60):
    """Until `more` records more are acknowledged."""
    begin = progress(producers)
    end = time.monotonic() + timeout
    while progress(producers) < begin + more:
        expect(time.monotonic() < end, f"no progress: {progress(producers) - begin} of {more}")
        time.sleep(0.01)


def test(cluster):
    from cluster import run
    cluster.start_all()
    run("topic", "create", "events", "-s", cluster.servers())
    producers = [Producer(cluster, "events", f"p{i}", pause=0.001) for i in range(8)]
    wait_progress(producers, 200)
    for _ in range(ROUNDS):
        leader = cluster.wait_leader()
        cluster.kill(leader)
        wait_progress(producers, 100)
        cluster.start(leader, wait=True)
        wait_progress(producers, 100)
    print(f"{ROUNDS} leaders killed, {progress(producers)} records acknowledged", flush=True)
    for _ in range(ROUNDS):
        cluster.kill(*cluster.ids())
        cluster.start_all()
        wait_progress(producers, 100)
    for producer in producers:
        code = producer.stop()
        expect(code == 0, f"producer {producer.name}: exit {code}: {producer.errors}")
        expect(len(producer.acked) == producer.sent, f"{producer.name}: not all is acknowledged")
    count = check_copies(cluster, "events", producers)
    expect(count == sum(p.sent for p in producers), "a record that was sent is missing")
    print(f"{ROUNDS} times all killed, {count} records, each once at its offset on every node")


if __name__ == "__main__":
    main(test)
