"""The link proxy over real sockets: each command does what it says, in the direction that it names,
whoever dialled, and in no other."""

import os
import select
import socket
import struct
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))

import wire  # pylint: disable=wrong-import-position
from cluster import free_ports, wait_for  # pylint: disable=wrong-import-position
from link_proxy import Proxy, ProxyError  # pylint: disable=wrong-import-position

SOON = 5.0  # what is to come comes by then
QUIET = 0.3  # what does not come by then is held


class Link:
    """A connection through the proxy: `near` dialled, `far` is the node's side (None until it has
    come)."""

    def __init__(self, near, node):
        self.near = near
        self.node = node
        self.far = None

    def accept(self, timeout=SOON):
        self.node.settimeout(timeout)
        self.far, _ = self.node.accept()
        return self

    def close(self):
        for side in (self.near, self.far):
            if side is not None:
                side.close()


def receive(side, size, timeout=SOON):
    """Exactly so many bytes."""
    side.settimeout(timeout)
    data = b""
    while len(data) < size:
        more = side.recv(size - len(data))
        if not more:
            raise EOFError(f"{len(data)} bytes of {size}")
        data += more
    return data


def silent(side, timeout=QUIET):
    return not select.select([side], [], [], timeout)[0]


def was_reset(side, timeout=SOON):
    side.settimeout(timeout)
    try:
        while side.recv(65536):
            pass
        return False
    except ConnectionResetError:
        return True


class ProxyTest(unittest.TestCase):
    """Nodes 1 to 3; what they are is sockets of this program."""

    def setUp(self):
        self.proxy = Proxy(seed=7)
        self.nodes = {}
        self.ports = {}
        self.links = []
        for i, port in enumerate(free_ports(3), 1):
            node = socket.create_server(("127.0.0.1", 0))
            self.nodes[i] = node
            self.ports[i] = port
            self.proxy.node(i, f"127.0.0.1:{port}", "127.0.0.1:%d" % node.getsockname()[1])

    def tearDown(self):
        for link in self.links:
            link.close()
        for node in self.nodes.values():
            node.close()
        self.assertEqual(self.proxy.close(), 0)

    def dial(self, a, b, kind=wire.PEER, accept=True, greeting=None):
        """Node a dials node b and says hello."""
        near = socket.create_connection(("127.0.0.1", self.ports[b]))
        hello = greeting if greeting is not None else wire.hello(kind=kind, node_id=a, to=b)
        near.sendall(hello)
        link = Link(near, self.nodes[b])
        self.links.append(link)
        if accept:
            link.accept()
            self.assertEqual(receive(link.far, len(hello)), hello)
        return link

    def refused(self, port):
        with socket.socket() as side:
            return side.connect_ex(("127.0.0.1", port)) != 0

    def check_passes(self, link):
        link.near.sendall(b"question")
        self.assertEqual(receive(link.far, 8), b"question")
        link.far.sendall(b"answer")
        self.assertEqual(receive(link.near, 6), b"answer")

    # ---- without conditions ----

    def test_bytes_pass_unchanged_in_both_directions(self):
        link = self.dial(1, 2)
        data = os.urandom(3 << 20)
        for source, sink in ((link.near, link.far), (link.far, link.near)):
            got = b""
            source.setblocking(False)
            sent = 0
            while len(got) < len(data):
                writable = [source] if sent < len(data) else []
                readable, writable, _ = select.select([sink], writable, [], SOON)
                self.assertTrue(readable or writable, "nothing moves")
                if writable:
                    sent += source.send(data[sent:sent + 100000])
                if readable:
                    got += sink.recv(1 << 20)
            source.setblocking(True)
            self.assertEqual(got, data)

    def test_a_hello_in_pieces_and_more_behind_it_are_passed(self):
        hello = wire.hello(kind=wire.NODE, node_id=1, to=2)
        link = self.dial(1, 2, accept=False, greeting=hello[:10])
        time.sleep(0.05)
        self.assertTrue(silent(self.nodes[2], 0.1), "dialled before it knew who speaks")
        link.near.sendall(hello[10:] + b"more")
        link.accept()
        self.assertEqual(receive(link.far, len(hello) + 4), hello + b"more")

    def test_an_end_is_passed_and_the_other_direction_stays(self):
        link = self.dial(1, 2)
        link.near.sendall(b"last")
        link.near.shutdown(socket.SHUT_WR)
        self.assertEqual(receive(link.far, 4), b"last")
        link.far.settimeout(SOON)
        self.assertEqual(link.far.recv(1), b"")
        link.far.sendall(b"still")
        self.assertEqual(receive(link.near, 5), b"still")
        link.far.close()
        self.assertEqual(link.near.recv(1), b"")
        wait_for("it is gone", lambda: self.proxy.stats()["connections"] == 0, SOON)

    def test_a_reset_is_passed(self):
        link = self.dial(1, 2)
        link.near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        link.near.close()
        self.assertTrue(was_reset(link.far))

    def test_a_node_that_is_down_resets_who_dials(self):
        self.nodes[3].close()
        link = self.dial(1, 3, accept=False)
        self.assertTrue(was_reset(link.near))

    # ---- block ----

    def test_block_holds_one_direction_of_a_connection_that_the_sender_dialled(self):
        link = self.dial(1, 2)
        self.proxy.block(1, 2)
        link.near.sendall(b"held")
        link.far.sendall(b"answer")
        self.assertEqual(receive(link.near, 6), b"answer")
        self.assertTrue(silent(link.far), "it came through")
        self.proxy.open(1, 2)
        self.assertEqual(receive(link.far, 4), b"held")
        self.check_passes(link)

    def test_block_holds_one_direction_of_a_connection_that_the_receiver_dialled(self):
        link = self.dial(2, 1)
        self.proxy.block(1, 2)
        link.far.sendall(b"held")
        link.near.sendall(b"question")
        self.assertEqual(receive(link.far, 8), b"question")
        self.assertTrue(silent(link.near), "it came through")
        self.proxy.heal()
        self.assertEqual(receive(link.near, 4), b"held")
        self.check_passes(link)

    def test_block_leaves_other_nodes_and_clients_alone(self):
        others = [self.dial(1, 3), self.dial(3, 2), self.dial(2, 3), self.dial(0, 2, wire.CLIENT)]
        self.proxy.block(1, 2)
        self.proxy.block(2, 1)
        for link in others:
            self.check_passes(link)
        self.check_passes(self.dial(0, 1, wire.CLIENT))

    def test_a_connection_that_is_dialled_while_blocked_comes_when_opened(self):
        self.proxy.block(1, 2)
        link = self.dial(1, 2, accept=False)
        self.assertTrue(silent(self.nodes[2]), "it came through")
        self.assertTrue(silent(link.near, 0.05), "the dialler was told")
        self.proxy.open(1, 2)
        link.accept()
        receive(link.far, len(wire.hello(kind=wire.PEER, node_id=1, to=2)))
        self.check_passes(link)

    def test_neither_ends_nor_resets_pass_a_block(self):
        ended, broken = self.dial(1, 2), self.dial(1, 2)
        self.proxy.block(1, 2)
        ended.near.close()
        broken.near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        broken.near.close()
        for link in (ended, broken):
            self.assertTrue(silent(link.far), "it came through")
        self.proxy.open(1, 2)
        ended.far.settimeout(SOON)
        self.assertEqual(ended.far.recv(1), b"")
        self.assertTrue(was_reset(broken.far))

    def fill(self, link):
        """Sends until nothing is taken any more; how much was."""
        link.near.setblocking(False)
        sent = 0
        end = time.monotonic() + SOON
        while time.monotonic() < end:
            if not select.select([], [link.near], [], QUIET)[1]:
                break
            sent += link.near.send(bytes(1 << 20))
        self.assertLess(time.monotonic(), end, "it takes everything")
        self.assertLess(self.proxy.stats()["queued"], 1 << 20)
        return sent

    def test_what_is_held_is_bounded(self):
        link = self.dial(1, 2)
        self.proxy.block(1, 2)
        sent = self.fill(link)
        self.proxy.open(1, 2)
        self.assertEqual(len(receive(link.far, sent)), sent)

    def test_what_is_late_is_bounded(self):
        link = self.dial(1, 2)
        self.proxy.delay(1, 2, 60000)
        sent = self.fill(link)
        self.proxy.heal()
        self.assertEqual(len(receive(link.far, sent)), sent)

    # ---- drop ----

    def test_drop_loses_bytes_and_resets_the_connection_when_opened(self):
        link = self.dial(1, 2)
        untouched = self.dial(1, 2)
        self.proxy.drop(1, 2)
        link.near.sendall(b"lost")
        link.far.sendall(b"answer")
        self.assertEqual(receive(link.near, 6), b"answer")
        self.assertTrue(silent(link.far), "it came through")
        stats = self.proxy.stats()["lanes"]
        self.assertEqual([lane["dropped"] for lane in stats
                          if lane["from"] == 1 and lane["to"] == 2], [4])
        self.proxy.open(1, 2)
        self.assertTrue(was_reset(link.far))
        self.assertTrue(was_reset(link.near))
        self.check_passes(untouched)

    def test_drop_takes_without_end(self):
        link = self.dial(1, 2)
        self.proxy.drop(1, 2)
        link.near.settimeout(SOON)
        link.near.sendall(bytes(20 << 20))
        self.assertLess(self.proxy.stats()["queued"], 1 << 20)

    # ---- delay, rate ----

    def round_trip(self, link):
        begin = time.monotonic()
        self.check_passes(link)
        return time.monotonic() - begin

    def test_delay_holds_bytes_for_so_long_in_one_direction(self):
        link = self.dial(1, 2)
        self.proxy.delay(1, 2, 150)
        begin = time.monotonic()
        link.near.sendall(b"x")
        receive(link.far, 1)
        self.assertGreaterEqual(time.monotonic() - begin, 0.149)
        self.proxy.heal()
        self.proxy.delay(2, 1, 150)
        begin = time.monotonic()
        link.near.sendall(b"x")
        receive(link.far, 1)
        self.assertLess(time.monotonic() - begin, 0.14)
        link.far.sendall(b"x")
        receive(link.near, 1)
        self.assertGreaterEqual(time.monotonic() - begin, 0.149)

    def test_jitter_varies_the_delay_and_keeps_the_order(self):
        link = self.dial(1, 2)
        self.proxy.delay(1, 2, 40, 40)
        times = []
        for i in range(20):
            begin = time.monotonic()
            link.near.sendall(bytes([i]))
            self.assertEqual(receive(link.far, 1), bytes([i]))
            times.append(time.monotonic() - begin)
        self.assertLess(min(times), 0.035)
        self.assertGreater(max(times), 0.045)
        link.near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(50):
            link.near.sendall(bytes([i]))
            time.sleep(0.002)
        self.assertEqual(receive(link.far, 50), bytes(range(50)))

    def test_heal_ends_a_delay_for_what_is_under_way(self):
        link = self.dial(1, 2)
        self.proxy.delay(1, 2, 60000)
        link.near.sendall(b"late")
        self.assertTrue(silent(link.far))
        self.proxy.heal()
        self.assertEqual(receive(link.far, 4), b"late")

    def test_rate_bounds_a_lane_whatever_the_number_of_its_connections(self):
        links = [self.dial(1, 2), self.dial(2, 1)]
        self.proxy.rate(1, 2, 400000)
        begin = time.monotonic()
        links[0].near.sendall(bytes(100000))
        links[1].far.sendall(bytes(100000))
        receive(links[0].far, 100000)
        receive(links[1].near, 100000)
        spent = time.monotonic() - begin
        self.assertGreater(spent, 0.45)
        self.assertLess(spent, 3)
        begin = time.monotonic()
        links[0].far.sendall(bytes(200000))
        receive(links[0].near, 200000)
        self.assertLess(time.monotonic() - begin, 0.4)

    # ---- cut, remove, and the rest ----

    def test_cut_resets_what_both_dialled_and_nothing_else(self):
        forth, back, other = self.dial(1, 2), self.dial(2, 1), self.dial(1, 3)
        self.proxy.cut(1, 2)
        for link in (forth, back):
            self.assertTrue(was_reset(link.near))
            self.assertTrue(was_reset(link.far))
        self.check_passes(other)
        self.check_passes(self.dial(1, 2))

    def test_busy_connections_are_cut_broken_and_removed_without_harm(self):
        for round_number in range(40):
            links = [self.dial(1, 2), self.dial(2, 1), self.dial(3, 2)]
            for link in links:
                for side in (link.near, link.far):
                    side.setblocking(False)
                    try:
                        for _ in range(20):
                            side.send(bytes(65536))
                    except BlockingIOError:
                        pass
            if round_number % 2:
                links[0].far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                links[0].far.close()
            self.proxy.cut("*", "*")
            for link in links:
                link.close()
        self.check_passes(self.dial(1, 2))
        wait_for("the others are gone", lambda: self.proxy.stats()["connections"] == 1, SOON)

    def test_all_nodes_are_meant_by_a_star(self):
        links = [self.dial(1, 2), self.dial(3, 2)]
        client = self.dial(0, 2, wire.CLIENT)
        self.proxy.block("*", 2)
        for link in links:
            link.near.sendall(b"held")
            self.assertTrue(silent(link.far), "it came through")
        self.check_passes(client)
        self.proxy.open("*", "*")
        for link in links:
            self.assertEqual(receive(link.far, 4), b"held")

    def test_a_node_that_joins_is_known_though_it_comes_as_a_client(self):
        link = self.dial(3, 1, wire.CLIENT)
        self.proxy.block(3, 1)
        link.near.sendall(b"held")
        self.assertTrue(silent(link.far), "it came through")

    def test_who_makes_no_sense_is_a_client(self):
        self.proxy.block("*", 1)
        self.check_passes(self.dial(0, 1, greeting=b"GET / HTTP/1.1\r\n\r\n" + bytes(20)))

    def test_clients_can_be_cut_off_too(self):
        link = self.dial(0, 1, wire.CLIENT)
        self.proxy.block(1, 0)
        link.far.sendall(b"held")
        self.assertTrue(silent(link.near), "it came through")
        self.proxy.heal()
        self.assertEqual(receive(link.near, 4), b"held")

    def test_remove_resets_connections_and_frees_the_address(self):
        link = self.dial(1, 2)
        self.proxy.remove(2)
        self.assertTrue(was_reset(link.near))
        wait_for("nobody listens", lambda: self.refused(self.ports[2]), SOON)
        self.proxy.node(2, f"127.0.0.1:{self.ports[2]}",
                        "127.0.0.1:%d" % self.nodes[2].getsockname()[1])
        self.check_passes(self.dial(1, 2))

    def test_a_node_that_moved_is_dialled_where_it_is(self):
        before = self.dial(1, 2)
        self.proxy.move(2, "127.0.0.1:%d" % self.nodes[3].getsockname()[1])
        self.check_passes(before)
        link = self.dial(1, 2, accept=False)
        link.node = self.nodes[3]
        link.accept()
        receive(link.far, len(wire.hello(kind=wire.PEER, node_id=1, to=2)))
        self.check_passes(link)

    def test_what_is_no_command_is_refused_and_changes_nothing(self):
        link = self.dial(1, 2)
        for line, reason in (("nope", "no command 'nope'"), ("block 1", "too few"),
                             ("block 1 x", "'x'"), ("delay 1 2 -5", "'-5'"),
                             ("delay 1 2 600001", "up to 600000"), ("rate 1 2", "too few"),
                             ("node 0 127.0.0.1:0 127.0.0.1:1", "stands for clients"),
                             ("node 1 127.0.0.1:0 127.0.0.1:1", "has an address"),
                             ("node 9 nowhere 127.0.0.1:1", "nowhere"), ("remove 9", "no node 9"), ("move 9 127.0.0.1:1", "no node 9"),
                             ("node 9 127.0.0.1:0 localhost:1", "IPv4"),
                             ("block 1 2 " + 2000 * "x", "more than 1024"),
                             ("a b c d e f g h i", "no command 'a'")):
            with self.assertRaises(ProxyError) as caught:
                self.proxy.command(line)
            self.assertIn(reason, str(caught.exception))
        self.check_passes(link)


if __name__ == "__main__":
    unittest.main()
