"""Nodes that cannot start, and commands that make no sense: each ends with the right exit code and
says what is wrong; a node that runs is not disturbed by it."""

import os
import re
import signal
import socket
import subprocess

from cluster import QUORLOG, expect, free_ports, main, run

LINE_MAX = 1024


def refused(what, code, text, *args, environment=None):
    """quorlog with these arguments exits with code and says text, on stderr, in one line."""
    try:
        done = subprocess.run([QUORLOG, *args], capture_output=True, timeout=20, check=False,
                              stdin=subprocess.DEVNULL, env={**os.environ, **(environment or {})})
    except subprocess.TimeoutExpired:
        expect(False, f"{what}: it runs")
    said = done.stderr.decode()
    expect(done.returncode == code, f"{what}: exit {done.returncode}, not {code}: {said}")
    expect(re.search(text, said), f"{what}: '{text}' is not in '{said}'")
    last = said.splitlines()[-1]
    expect(last.startswith("quorlog: ") and len(last) < LINE_MAX, f"{what}: says '{said}'")
    expect(done.stdout == b"", f"{what}: prints {done.stdout}")


def usage(cluster):
    path = os.path.join(cluster.dir, "bad.conf")
    cases = [
        ("an unknown command", "unknown command 'nope'", ["nope"]),
        ("an unknown flag", "unknown option '--nope'", ["serve", "--nope"]),
        ("a flag without value", "option '--id' wants a value", ["serve", "--id"]),
        ("node 0", "--id 0: must be a number from 1 to", ["serve", "--id", "0"]),
        ("node x", "--id x: must be a number from 1 to", ["serve", "--id", "x"]),
        ("a negative node", "--id -1: must be a number from 1", ["serve", "--id", "-1"]),
        ("an address without port", "'nope': expected HOST:PORT", ["serve", "--listen", "nope"]),
        ("port 99999", "99999 is over 65535", ["serve", "--listen", "127.0.0.1:99999"]),
        ("a small size", "must be a size from 1K to 16M", ["serve", "--batch_size_max", "1"]),
        ("a size with a wrong unit", "must be a size", ["serve", "--batch_size_max", "1X"]),
        ("a huge size", "must be a size", ["serve", "--frame_size_max", "99999999999999999999"]),
        ("a time with a wrong unit", "must be a time", ["serve", "--hello_timeout_ms", "1h"]),
        ("another log level", r"one of error\|warn", ["serve", "--log_level", "loud"]),
        ("a member without address", "node 1: address 'x'", ["serve", "--bootstrap", "1=x"]),
        ("not a member", "this node's id, 2, is not in the list",
         ["serve", "--id", "2", "--bootstrap", "1=127.0.0.1:1"]),
        ("a frame smaller than a batch", "frame_size_max = 131072: must exceed batch_size_max",
         ["serve", "--frame_size_max", "128K"]),
        ("a path of 4000 bytes", "must be text of 1 to 3000", ["serve", "--data", "x" * 4000]),
        ("an argument", "too many arguments at 'extra'", ["serve", "extra"]),
        ("a file that is missing", "'/no/such/file': No such file", ["serve", "-c", "/no/such/file"]),
        ("a directory as file", f"'{cluster.dir}': Is a directory", ["serve", "-c", cluster.dir]),
        ("no topic", "an argument is missing; usage: quorlog produce TOPIC", ["produce"]),
        ("a start of no sense", "'x' is not a place to start", ["consume", "t", "-o", "x"]),
        ("a count of no sense", "'x' is not a whole number", ["consume", "t", "-n", "x"]),
    ]
    for what, text, args in cases:
        refused(what, 2, text, *args)
    refused("the environment", 2, "QUORLOG_ID=x: must be a number", "serve",
            environment={"QUORLOG_ID": "x"})
    for content, text in (("id = 1\nwhat = 3\n", "line 2: what: there is no such setting"),
                          ("id = 1\nid 2\n", "line 2: not of the form"),
                          ("id = 0\n", "line 1: id"), ("x" * 300, "line 1: longer than"),
                          ("id = 1\x01\n", "line 1")):
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
        refused(f"a file with {content[:20]!r}", 2, f"bad.conf', {text}", "serve", "-c", path)
    # A file that may not be read: permissions do not hold root back, a loop of links does.
    loop = os.path.join(cluster.dir, "loop.conf")
    os.symlink(loop, loop)
    refused("an unreadable file", 2, "loop.conf': Too many levels", "serve", "-c", loop)
    if os.geteuid() != 0:
        os.chmod(path, 0)
        refused("a forbidden file", 2, "bad.conf': Permission denied", "serve", "-c", path)


def directories(cluster):
    """Data directories that cannot be had."""
    port = f"127.0.0.1:{free_ports(1)[0]}"
    file = os.path.join(cluster.dir, "file")
    with open(file, "wb"):
        pass

    def serve(what, text, data, *more):
        refused(what, 1, text, "serve", "--listen", port, "--data", data, *more)

    serve("no parent", "'/no/such/data': No such file", "/no/such/data")
    serve("where nothing can be written", "make directory '/proc/x'", "/proc/x")
    serve("a file", "Not a directory", file)
    if os.geteuid() != 0:
        closed = os.path.join(cluster.dir, "closed")
        os.mkdir(closed, 0o555)
        serve("a directory that cannot be written", "closed.*Permission denied", closed)
    node = cluster.data(1)
    bootstrap = ["--bootstrap", cluster.bootstrap]
    serve("a second node there", f"'{node}' is in use by another process", node, *bootstrap)
    cluster.kill(1, how=signal.SIGTERM)
    serve("another node", "belongs to node 1, but this node is configured as node 2", node, "--id",
          "2", *bootstrap)
    serve("another name", "belongs to cluster 'quorlog' .* configured for cluster 'other'", node,
          *bootstrap, "--cluster", "other")
    serve("other members", "name or first members differ", node, "--bootstrap", f"1={port}")
    identity = os.path.join(node, "identity")
    with open(identity, "rb") as file:
        content = file.read()
    for damaged, text in ((b"", "is damaged"), (b"\0" * 50, "is damaged"),
                          (content[:-3], "is damaged"), (content * 100, "identity"),
                          (content.replace(b"version = 3", b"version = 9"), "is damaged"),
                          (b"version = 9\nwhat = ever\n", "has version 9")):
        with open(identity, "wb") as file:
            file.write(damaged)
        serve(f"identity {damaged[:12]!r}", text, node, *bootstrap)
    with open(identity, "wb") as file:
        file.write(content)
    cluster.start(1, wait=True)


def addresses(cluster):
    data = os.path.join(cluster.dir, "other")
    refused("an address in use", 1, f"{cluster.address(1)}.*address already in use", "serve",
            "--listen", cluster.address(1), "--data", data)
    refused("a host that is not there", 1, "cannot resolve 'no.such.host.invalid'", "serve",
            "--listen", "no.such.host.invalid:7437", "--data", data)
    refused("an address of another machine", 1, "192.0.2.1:1", "serve", "--listen", "192.0.2.1:1",
            "--data", data)
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    refused("nobody there", 1, f"no node of {nobody} answered.*connection refused", "topic",
            "create", "x", "-s", nobody, "--timeout", "500")
    refused("an address of no sense", 2, "'nope': expected HOST:PORT", "produce", "t", "-s", "nope")
    with socket.create_server(("127.0.0.1", 0)) as other:  # Takes connections and says nothing.
        silent = f"127.0.0.1:{other.getsockname()[1]}"
        refused("somebody else there", 1, silent, "topic", "create", "x", "-s", silent, "--timeout",
                "500")


def test(cluster):
    cluster.start_all()
    run("produce", "t", "--create", "-s", cluster.servers(), input=b"one\n")
    for attempt in (usage, directories, addresses):
        attempt(cluster)
        run("produce", "t", "-s", cluster.servers(), input=b"more\n")
        expect(all(cluster.running(node) for node in cluster.ids()), f"{attempt.__name__}: a node ended")
    out = run("consume", "t", "-s", cluster.address(1), "--at-least", "1").stdout
    expect(out.startswith(b"one\nmore\n"), f"afterwards there is {out}")


if __name__ == "__main__":
    main(test)
