"""What a node takes of memory stays under --memory, whatever is done to it: a follower that is
stopped, readers that never read, frames that never come whole, and loads of several kinds, at once.

    test_memory.py [--memory MIB] [--seconds N]      default 96 MiB, 6 s of load
"""

import json
import re
import socket
import subprocess
import sys
import threading
import time

import wire
from cluster import QUORLOG, expect, main, run, wait_for


def option(name, default):
    return int(sys.argv[sys.argv.index(name) + 1]) if name in sys.argv else default


MEMORY = option("--memory", 96)
SECONDS = option("--seconds", 6)
READERS = 24  # that never read
STOPPED_FRAMES = 24
FRAME_SIZES = (1000 << 10, 12 << 20)  # that could be a batch, and that could not
OPTIONS = ("--memory", f"{MEMORY}M")


def peak_mib(cluster, node):
    """The most that was ever resident. Files of indexes that are read are mapped and not its own,
    and there are none here."""
    with open(f"/proc/{cluster.nodes[node].pid}/status", encoding="ascii") as status:
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read()).group(1)) / 1024


def bench(server, topic, *args, seconds=SECONDS):
    return subprocess.Popen(
        [QUORLOG, "bench", "produce", "-s", server, "--topic", topic, "--seconds", str(seconds),
         "--json", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(what, process):
    """What a load came to."""
    out, err = process.communicate(timeout=SECONDS + 90)
    expect(process.returncode == 0, f"{what}: exit {process.returncode}: {err.decode()}")
    return json.loads(out)


def greet(port):
    connection = wire.Connection(port)
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.greet()
    return connection


def never_read(port, topic):
    """Asks for all of a topic, again and again, and takes nothing."""
    connection = greet(port)
    connection.socket.setblocking(False)
    try:
        connection.socket.send(wire.consume(topic, 1) * 100)
    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
        pass  # It was sent enough.
    return connection


class HalfFrame(threading.Thread):
    """Most of a large frame, and then nothing."""

    def __init__(self, port, size):
        super().__init__(daemon=True)
        self.size = size
        self.connection = greet(port)
        self.connection.socket.settimeout(SECONDS + 30)
        self.start()

    def run(self):
        data = wire.frame(wire.PRODUCE, wire.message((1, "t")), bytes(self.size))
        try:
            self.connection.socket.sendall(data[:-1000])
        except OSError:
            pass  # It was given up, or waits for memory until the end.


def test(cluster):
    leader = cluster.start_all()
    followers = cluster.followers()
    for topic in ("t", "u"):
        run("topic", "create", topic, "-s", cluster.servers())
    finish("filling", bench(cluster.servers(), "t", "--size", "1000", seconds=1))

    stopped, reader = followers
    cluster.pause(stopped)
    attacked = [cluster.ports[node - 1] for node in (leader, reader)]
    held = [never_read(attacked[i % 2], "t") for i in range(READERS)]
    halves = [HalfFrame(attacked[i % 2], FRAME_SIZES[i // 2 % 2]) for i in range(STOPPED_FRAMES)]
    servers = [cluster.address(leader), cluster.address(reader)]
    loads = [bench(servers[0], "t", "--size", "1000", "-C", "8", "-i", "4096"),
             bench(servers[1], "u", "--size", "100", "-C", "16", "-i", "1024"),
             bench(servers[0], "t", "--size", "60000", "-C", "4", "-i", "64")]
    records = 0
    for number, load in enumerate(loads):
        records += finish(f"load {number}", load).get("records", 0)
    loaded = {node: peak_mib(cluster, node) for node in cluster.ids()}
    cluster.resume(stopped)
    for connection in held:
        connection.close()
    for half in halves:
        half.connection.close()
    wait_for("the one that was stopped is back", lambda: cluster.status(stopped))
    for topic in ("t", "u"):
        cluster.wait_equal(topic)
    peaks = {node: peak_mib(cluster, node) for node in cluster.ids()}
    print(f"{records} records; leader {leader}, stopped {stopped}; MiB "
          f"{', '.join(f'{loaded[i]:.0f}, then {peaks[i]:.0f}' for i in cluster.ids())}")
    for node, peak in peaks.items():
        expect(peak <= MEMORY, f"node {node} had {peak:.0f} MiB resident, with --memory {MEMORY}M "
               f"(leader {leader}, stopped {stopped})")


main(test, OPTIONS)
