"""Without a majority: produce fails at its deadline, not written and retryable, saying that there is
no leader; local reads go on; with the majority back everything goes on."""

import json
import time

from cluster import expect, main, run, wait_for


def test(cluster):
    leader = cluster.start_all()
    run("produce", "t", "--create", "-s", cluster.servers(), input=b"one\ntwo\n")
    cluster.wait_equal("t")
    left, *others = [leader, *cluster.followers()]
    cluster.kill(*others)
    wait_for("the lonely leader steps down",
             lambda: (cluster.status(left) or {"leader": 1})["leader"] is None)
    begin = time.monotonic()
    done = run("produce", "t", "-s", cluster.address(left), "--timeout", "1500", input=b"three\n",
               check=False)
    spent = time.monotonic() - begin
    expect(done.returncode == 1, f"produce without a quorum exits {done.returncode}")
    expect(b"no leader" in done.stderr, f"the error does not say so: {done.stderr.decode()}")
    expect(b"unknown" not in done.stderr, f"the outcome is known: {done.stderr.decode()}")
    expect(1.2 < spent < 4, f"the deadline of 1.5 s took {spent:.1f} s")
    out = run("consume", "t", "-s", cluster.address(left)).stdout
    expect(out == b"one\ntwo\n", f"a local read gives {out}")
    health = run("cluster", "health", "--json", "-s", cluster.address(left), check=False)
    expect(health.returncode == 10 and not json.loads(health.stdout)["healthy"], "health is wrong")
    for node in others:
        cluster.start(node)
    cluster.wait_leader()
    run("produce", "t", "-s", cluster.address(left), input=b"four\n")
    cluster.wait_equal("t")
    out = run("consume", "t", "-s", cluster.address(others[0])).stdout
    expect(out == b"one\ntwo\nfour\n", f"afterwards there is {out}")


if __name__ == "__main__":
    main(test)
