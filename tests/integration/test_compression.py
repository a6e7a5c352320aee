"""Compressed topics on three nodes: every codec, read from every node; what is stored is small, equal
on all, and verifies; proofs hold; bombs and nonsense are refused.
"""

import json

import wire
from cluster import expect, main, run

LINES = 20000


def store_size(cluster, node, topic):
    done = run("topic", "describe", topic, "--json", "-s", cluster.address(node))
    return json.loads(done.stdout)["size"]


def test(cluster):
    cluster.start_all()
    data = "".join(f"{i} a line of a log that says {i % 7} again and again\n"
                   for i in range(LINES)).encode()
    sizes = {}
    for codec in ("none", "lz4", "zstd"):
        server = cluster.address(cluster.followers()[0])
        run("produce", codec, "--create", "--compression", codec, "-s", server, input=data)
        expect(cluster.wait_equal(codec) == LINES, f"{codec}: not all lines are there")
        for node in cluster.ids():
            out = run("consume", codec, "-s", cluster.address(node)).stdout
            expect(out == data, f"{codec}: what node {node} gives differs from what was written")
        run("verify", codec, "-s", cluster.servers())
        sizes[codec] = store_size(cluster, 1, codec)
    expect(sizes["none"] > len(data), f"{sizes['none']} bytes hold {len(data)}")
    expect(sizes["lz4"] < sizes["none"] / 3, f"lz4: {sizes}")
    expect(sizes["zstd"] < sizes["lz4"], f"zstd: {sizes}")
    done = run("consume", "zstd", "-o", "12345", "-n", "1", "-s", cluster.address(2))
    expect(done.stdout.startswith(b"12345 a line"), f"in the middle: {done.stdout}")
    proof = run("prove", "zstd", "777", "-s", cluster.servers()).stdout
    shown = run("prove", "--check", "-", input=proof).stdout
    expect(b"777 a line of a log" in shown and b"The proof holds" in shown, shown.decode())
    as_the_topic_says(cluster, data)
    refuses(cluster)
    restarts(cluster, data)


def as_the_topic_says(cluster, data):
    run("topic", "create", "set", "--compression", "zstd", "-s", cluster.servers())
    run("produce", "set", "-s", cluster.address(cluster.followers()[0]), input=data)
    expect(cluster.wait_equal("set") == LINES, "set: not all lines are there")
    expect(store_size(cluster, 1, "set") < len(data) / 5, f"set: {store_size(cluster, 1, 'set')}")
    expect(run("consume", "set", "-s", cluster.address(2)).stdout == data, "set: something else")


def refuses(cluster):
    done = run("produce", "none", "--compression", "gzip", "-s", cluster.servers(), check=False,
               input=b"x\n")
    expect(done.returncode == 2 and b"none of none, lz4 and zstd" in done.stderr, f"gzip: {done}")
    # Zstandard, one segment, 4 bytes of size: 100 MB; then RLE blocks.
    bomb = bytes.fromhex("28b52ffd a0") + (100_000_000).to_bytes(4, "little") + b"\x03\x00\x10" * 4000
    one = wire.record(b"raw block")
    fine = (bytes.fromhex("28b52ffd 20") + bytes([len(one)]) +
            (len(one) << 3 | 1).to_bytes(3, "little") + one)
    unsized = bytes.fromhex("28b52ffd 00 00 190000") + b"abc"
    for what, body, text in (("a bomb", bomb, "the batch holds 100000000 bytes"),
                             ("no size", unsized, "does not give its content's size")):
        code, said, _ = ask(cluster, wire.batch(body, attributes=2)).error()
        expect(text in said, f"{what}: {code} {said}")
    def raw(data):
        return (bytes.fromhex("28b52ffd 20") + bytes([len(data)]) +
                (len(data) << 3 | 1).to_bytes(3, "little") + data)
    for what, body, text in (("two records", raw(one + one), "record_count"),
                             ("no records", raw(b"nothing of that kind"), "something else than a record"),
                             ("damaged", fine[:-1] + b"\xff\xff", "the batch body")):
        code, said, _ = ask(cluster, wire.batch(body, attributes=2)).error()
        expect(text in said, f"{what}: {code} {said}")
    answer = ask(cluster, wire.batch(fine, attributes=2))
    expect(answer.kind != wire.ERROR, f"a frame by hand: {answer}")
    out = run("consume", "none", "-o", "-1", "-s", cluster.address(2),
              "--at-least", str(answer.fields()[4])).stdout
    expect(out == b"raw block\n", f"of a frame by hand: {out}")


def ask(cluster, batch):
    with wire.Connection(cluster.ports[0]) as connection:
        connection.greet()
        return connection.ask(wire.produce("none", batch))


def restarts(cluster, data):
    """What is on the disk is read again after a crash, and the same."""
    cluster.kill(*cluster.ids())
    cluster.start_all()
    for node in cluster.ids():
        out = run("consume", "lz4", "-s", cluster.address(node)).stdout
        expect(out == data, f"node {node} gives something else after a crash")


if __name__ == "__main__":
    main(test)
