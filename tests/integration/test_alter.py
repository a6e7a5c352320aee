"""Settings of a topic are changed while it is in use, through a follower; the leader is killed
meanwhile; all nodes agree on them, and they outlive restarts, snapshots, and an install."""

import json
import os
import signal

from cluster import Producer, expect, main, run, wait_for

TOPIC = "events"


def settings(cluster, node):
    done = run("topic", "describe", TOPIC, "--json", "-s", cluster.address(node), check=False)
    return json.loads(done.stdout)["settings"] if done.returncode == 0 else None


def alter(cluster, node, *options):
    done = run("topic", "alter", TOPIC, *options, "--json", "-s", cluster.address(node))
    return json.loads(done.stdout)["settings"]


def wait_agreed(cluster, expected):
    def look():
        return all(settings(cluster, i) == expected for i in cluster.ids() if cluster.running(i))
    wait_for(f"all nodes have {expected}", look)


def segment_sizes(cluster, node):
    topics = os.path.join(cluster.data(node), "group-1", "topics")
    directory = os.path.join(topics, next(d for d in os.listdir(topics) if d.startswith(TOPIC)))
    return [os.path.getsize(os.path.join(directory, name)) for name in os.listdir(directory)
            if name.endswith(".store")]


def in_use(cluster):
    """One alteration after the other, each through a follower, while records come in."""
    producer = Producer(cluster, TOPIC, "p", pause=0.001)
    expected = settings(cluster, 1)
    expect(expected["segment_bytes"] is None and expected["indexes"] == [], f"{expected}")
    for i in range(10):
        said = alter(cluster, cluster.followers()[i % 2], "--segment-bytes", str(4096 + i))
        expect(said["segment_bytes"] == 4096 + i, f"{said}")
    expected["segment_bytes"] = 4105
    wait_agreed(cluster, expected)
    wait_for("some segments", lambda: all(len(segment_sizes(cluster, i)) > 3 for i in cluster.ids()))
    code = producer.stop()
    expect(code == 0, f"producer: exit {code}: {producer.errors}")
    for node in cluster.ids():
        expect(min(segment_sizes(cluster, node)) <= 4105, f"node {node} has large segments only")
    return producer, expected


def leader_killed(cluster, expected):
    """The leader dies; what it answered is there, and the next one takes more."""
    leader = cluster.wait_leader()
    alter(cluster, leader, "--retention-ms", "7d", "--index", "time,key=btree")
    expected.update(retention_ms=604800000, indexes=["time", "btree"])
    cluster.kill(leader)
    other = next(i for i in cluster.ids() if i != leader)
    expect(alter(cluster, other, "--index", "bloom", "--on", "2,3")["node_indexes"] ==
           {"2": ["bloom"], "3": ["bloom"]}, "the nodes' own sets")
    expected["node_indexes"] = {"2": ["bloom"], "3": ["bloom"]}
    alter(cluster, other, "--index", "default", "--on", "3")
    del expected["node_indexes"]["3"]
    wait_agreed(cluster, expected)
    cluster.start(leader, wait=True)
    wait_agreed(cluster, expected)


def restarted(cluster, expected):
    cluster.kill(*cluster.ids(), how=signal.SIGKILL)
    cluster.start_all()
    wait_agreed(cluster, expected)


def installed(cluster, expected):
    """A follower misses an alteration and so much that it gets a snapshot."""
    away = cluster.followers()[0]
    cluster.kill(away)
    other = next(i for i in cluster.ids() if i != away)
    alter(cluster, other, "--compression", "lz4", "--retention-ms", "default")
    expected.update(compression="lz4", retention_ms=None)
    run("produce", TOPIC, "-s", cluster.address(other), input=b"".join(
        b"%d %s\n" % (i, b"x" * 1000) for i in range(3000)))

    def trimmed():
        nodes = cluster.status(other)["nodes"]
        return all(n["first"] > 1 and n["snapshot"] > 0 for n in nodes if n["id"] != away)
    wait_for("snapshots, and a log that begins behind them", trimmed, 60)
    cluster.start(away, wait=True)
    wait_agreed(cluster, expected)


def test(cluster):
    cluster.start_all()
    run("topic", "create", TOPIC, "-s", cluster.servers())
    producer, expected = in_use(cluster)
    leader_killed(cluster, expected)
    restarted(cluster, expected)
    installed(cluster, expected)
    done = run("topic", "alter", TOPIC, "--segment-bytes", "1", "-s", cluster.servers(), check=False)
    expect(done.returncode == 1 and b"from 4096 to" in done.stderr, f"{done}")
    wait_agreed(cluster, expected)
    cluster.wait_equal(TOPIC)
    expect(len(producer.acked) > 100, "too few records")


if __name__ == "__main__":
    main(test, options=["--snapshot-size", "256K", "--trailing-size", "64K"])
