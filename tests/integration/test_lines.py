"""Lines of a file through a follower: there once, in order, byte for byte, on every node.

    test_lines.py [--lines N]      default 20000
"""

import sys

from cluster import expect, main, run

LINES = int(sys.argv[sys.argv.index("--lines") + 1]) if "--lines" in sys.argv else 20000


def test(cluster):
    cluster.start_all()
    follower = cluster.followers()[0]
    data = "".join(f"{i} the quick brown fox {'x' * (i % 97)}\n" for i in range(LINES)).encode()
    done = run("produce", "lines", "--create", "-s", cluster.address(follower), input=data,
               timeout=300)
    expect(f"{LINES} records at 0…{LINES - 1}".encode() in done.stdout, done.stdout.decode())
    expect(cluster.wait_equal("lines") == LINES, "the end is not the number of lines")
    for node in cluster.ids():
        out = run("consume", "lines", "-s", cluster.address(node), timeout=300).stdout
        expect(out == data, f"what node {node} gives differs from the file")


if __name__ == "__main__":
    main(test)
