"""A follower that was away while the leader dropped the entries that it lacks comes back and has
everything; so does one that is killed while it catches up."""

from cluster import expect, main, run, wait_for

VALUE = "v" * 2000


def fill(cluster, topic, count, begin):
    data = "".join(f"{begin + i} {VALUE}\n" for i in range(count)).encode()
    run("produce", topic, "-s", cluster.servers(), input=data, timeout=300)


def first_entry(cluster, node):
    return {n["id"]: n for n in cluster.status()["nodes"]}[node]["first"]


def test(cluster):
    cluster.start_all()
    for topic in ("a", "b", "gone"):
        run("topic", "create", topic, "-s", cluster.servers())
    fill(cluster, "a", 200, 0)
    away = cluster.followers()[0]
    cluster.kill(away)
    before = {n["id"]: n for n in cluster.status()["nodes"]}[cluster.wait_leader()]["last"]
    run("topic", "delete", "gone", "-s", cluster.servers())
    run("topic", "create", "late", "-s", cluster.servers())
    for i in range(40):
        fill(cluster, "a", 150, i * 150)
        fill(cluster, "late", 30, i * 30)
    wait_for("the leader has dropped what the follower lacks",
             lambda: first_entry(cluster, cluster.wait_leader()) > before + 1)
    cluster.start(away, wait=True)
    cluster.kill(away)  # in the middle of catching up, or right after it
    fill(cluster, "b", 500, 0)
    cluster.start(away, wait=True)
    for topic, end in (("a", 6200), ("b", 500), ("late", 1200)):
        expect(cluster.wait_equal(topic) == end, f"{topic} does not end at {end}")
        check_copies_of(cluster, topic)
    listed = run("topic", "list", "--json", "-s", cluster.address(away)).stdout
    expect(b'"gone"' not in listed, "a deleted topic is still there")


def check_copies_of(cluster, topic):
    first = cluster.dump(1, topic)
    for node in (2, 3):
        expect(cluster.dump(node, topic) == first, f"{topic} differs on node {node}")


if __name__ == "__main__":
    main(test, options=["--snapshot-size", "1M", "--trailing-size", "64K"])
