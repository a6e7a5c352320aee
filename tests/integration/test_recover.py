"""A majority is lost for good, two nodes of three and three of five: the survivor that has the most
begins a cluster anew with all it holds, others are added to it, and nodes of the old cluster cannot
come back by accident."""

import json
import shutil
import sys

from cluster import Producer, check_copies, expect, main, run, wait_for
from members import change, join, roles, wait_ended

COUNT = 5 if "--five" in sys.argv else 3


def look(cluster, node):
    return json.loads(run("recover", "--data", cluster.data(node), "--id", str(node),
                          "--json").stdout)


def recover(cluster, node, *more, ok=True):
    done = run("recover", "--data", cluster.data(node), "--id", str(node), *more, check=False)
    expect((done.returncode == 0) == ok, f"recover: {done.returncode} {done.stderr.decode()}")
    return done.stdout.decode() + done.stderr.decode()


def produce(cluster):
    producers = [Producer(cluster, "events", f"p{i}", pause=0.002) for i in range(3)]
    wait_for("records", lambda: all(len(p.acked) > 50 for p in producers))
    for producer in producers:
        code = producer.stop()
        expect(code == 0, f"producer {producer.name}: exit {code}: {producer.errors}")
    return producers


def lose(cluster, producers, gone):
    """These nodes' disks are destroyed; the others are stopped."""
    end = cluster.wait_equal("events")
    expect(end == sum(len(p.acked) for p in producers), "not all is there")
    cluster.kill(*[i for i in cluster.ids() if cluster.running(i)])
    for node in gone:
        shutil.rmtree(cluster.data(node))


def choose(cluster, survivors):
    """The survivor that has the most, as the runbook says."""
    seen = {node: look(cluster, node) for node in survivors}
    expect(all(not s["recovered"] for s in seen.values()), "looking changed something")
    return max(survivors, key=lambda n: (seen[n]["last_term"], seen[n]["last_index"]))


def test(cluster):
    first = list(range(1, COUNT + 1))
    gone = first[:COUNT // 2 + 1]
    survivors = first[COUNT // 2 + 1:]
    new = [COUNT + 1, COUNT + 2]
    cluster.bootstrap = ",".join(f"{i}={cluster.address(i)}" for i in first)
    for node in first:
        cluster.start(node)
    cluster.wait_leader()
    run("topic", "create", "events", "-s", cluster.servers())
    producers = produce(cluster)
    lose(cluster, producers, gone)
    chosen = choose(cluster, survivors)

    text = recover(cluster, chosen)
    expect("WARNING" in text and f"node {chosen}" in text, text)
    text = recover(cluster, chosen, "--force-new-cluster", ok=False)
    expect("--yes-lose-unreplicated" in text, text)
    cluster.start(chosen, wait=True)
    text = recover(cluster, chosen, "--force-new-cluster", "--yes-lose-unreplicated", ok=False)
    expect("in use" in text, text)
    expect(wait_for("a word of it", lambda: cluster.status(chosen))["leader"] is None,
           "it leads alone")
    cluster.kill(chosen)
    old = look(cluster, chosen)["cluster"]
    text = recover(cluster, chosen, "--force-new-cluster", "--yes-lose-unreplicated")
    expect("only member" in text, text)
    text = recover(cluster, chosen, "--force-new-cluster", "--yes-lose-unreplicated")  # Again.
    cluster.start(chosen, wait=True)
    expect(cluster.wait_leader() == chosen, "it does not lead")
    expect(wait_for("its status", lambda: cluster.status(chosen))["cluster"] != old,
           "the cluster's id is the old one")
    end = json.loads(run("topic", "describe", "events", "--json", "-s",
                         cluster.address(chosen)).stdout)["end"]
    expect(end == sum(len(p.acked) for p in producers), f"{end} records are left")
    print(f"{len(gone)} of {COUNT} lost: node {chosen} goes on with {end} records", flush=True)

    # A survivor that is started as it is, and a lost one that comes back empty: neither gets in.
    for node in [n for n in survivors if n != chosen][:1] + gone[:1]:
        cluster.start(node, wait=True)
        status = wait_for(f"a word of node {node}", lambda: cluster.status(node))
        expect(status["leader"] is None, f"node {node} found a leader")
        cluster.kill(node)
        shutil.rmtree(cluster.data(node))
    join(cluster, gone[0], chosen, wait=False)
    code, log = wait_ended(cluster, gone[0])
    expect(code == 1 and "belongs to another disk" in log, f"exit {code}: {log[-500:]}")

    for node in new:
        join(cluster, node, chosen)
        change(cluster, "add", node, cluster.address(node))
    expect(roles(cluster) == {n: "voter" for n in [chosen, *new]}, f"{roles(cluster)}")
    more = [Producer(cluster, "events", "after", limit=100)]
    expect(more[0].stop() == 0, "produce failed")
    check_copies(cluster, "events", producers + more)
    cluster.kill(chosen)
    expect(cluster.wait_leader() in new, "the new nodes do not go on")
    print("two nodes added; it survives the loss of one", flush=True)


if __name__ == "__main__":
    main(test, count=COUNT + 2)
