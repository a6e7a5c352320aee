"""What tests/bench/compare makes of what systems and clients tell: no server is started."""

import contextlib
import importlib.machinery
import importlib.util
import io
import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True


def load():
    loader = importlib.machinery.SourceFileLoader("compare", os.path.join(HERE, "compare"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("compare", loader))
    loader.exec_module(module)
    return module


compare = load()
systems_of = sys.modules["compare_systems"]


def load_of(rate, **more):
    """A load's figures as run_load() gives them."""
    return {"records": 1000, "seconds": 1, "records_per_s": rate, "p50_ms": 1.5, "p99_ms": 9.25,
            "errors": 0, "stored": 1100, "cpu_s_per_million": 2.5, "client_cpu_s_per_million": 0.75,
            "memory_sum": 300 << 20, "memory_largest": 120 << 20, **more}


def part(system, rates, kills=(), failure=None, **more):
    return {"system": system, "failure": failure, "kills_ms": list(kills),
            "loads": {key: load_of(rate, **more) for key, rate in rates.items()}}


def result_of(parts, systems):
    return {"date": "2026-01-02", "machine": "a machine", "rounds": 3, "seconds": 5,
            "buildtype": "release", "systems": systems,
            "versions": {system: f"{system} 1.0" for system in systems},
            "figures": compare.summarize(parts, systems),
            "failures": [p["failure"] for p in parts if p["failure"]]}


class Processes(unittest.TestCase):
    def test_cpu_time_is_found_behind_a_name_that_looks_like_fields(self):
        stat = "42 (a ) b) S 1 42 42 0 -1 4194560 900 0 0 0 150 50 7 8 20 0 9 0 100 5000 600"
        self.assertEqual(systems_of.cpu_s_of(stat, 100), 2.0)

    def test_resident_memory_is_in_bytes(self):
        self.assertEqual(systems_of.memory_of("Name:\tx\nVmHWM:\t   9 kB\nVmRSS:\t     512 kB\n"), 512 * 1024)

    def test_of_this_process_both_are_found(self):
        self.assertGreater(compare.memory(os.getpid()), 1 << 20)
        self.assertGreater(compare.cpu_s(os.getpid()), 0)


class Nats(unittest.TestCase):
    INFO = b'INFO {"server_id":"X","headers":true}\r\n'

    def answer(self, data, sent=None):
        return systems_of.nats_answer(io.BytesIO(data), (sent if sent is not None else []).append)

    def test_an_answer_is_found_behind_what_the_server_says_first(self):
        sent = []
        data = self.INFO + b"PING\r\n+OK\r\nMSG _INBOX.a 1 11\r\n{\"a\":\r\n{}} \r\n"
        self.assertEqual(self.answer(data, sent), b'{"a":\r\n{}} ')
        self.assertEqual(sent, [b"PONG\r\n"])

    def test_no_responders_and_errors_and_ends_are_no_answers(self):
        for data, text in (
                (self.INFO + b"HMSG _INBOX.a 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n", "503"),
                (self.INFO + b"-ERR 'Unknown Protocol Operation'\r\n", "Unknown Protocol"),
                (self.INFO, "ended"), (self.INFO + b"MSG _INBOX.a 1", "ended")):
            with self.assertRaisesRegex(OSError, text):
                self.answer(data)

    def test_the_leader_is_the_server_of_that_name(self):
        self.assertEqual(systems_of.nats_leader({"cluster": {"leader": "n2"}}), 2)
        for info in (None, {}, {"cluster": {}}, {"cluster": {"leader": ""}}, {"cluster": {"leader": "other"}}):
            self.assertIsNone(systems_of.nats_leader(info))

    def test_a_stream_is_whole_when_all_replicas_are_current(self):
        def info(*replicas):
            return {"cluster": {"leader": "n0", "replicas": list(replicas)}}
        current, behind = {"name": "n1", "current": True}, {"name": "n1", "current": False}
        self.assertTrue(systems_of.nats_whole(info(current, current)))
        self.assertFalse(systems_of.nats_whole(info(current, behind)))
        self.assertFalse(systems_of.nats_whole(info(current, {**current, "offline": True})))
        self.assertFalse(systems_of.nats_whole(info(current)))
        self.assertFalse(systems_of.nats_whole({"cluster": {"replicas": [current, current]}}))
        self.assertFalse(systems_of.nats_whole(None))

    def test_syncing_always_is_asked_for_in_the_configuration_and_only_there(self):
        options = compare.parse_options(["--dir", "/tmp"])
        for system, wanted in (("jetstream", False), ("jetstream-sync", True)):
            servers = systems_of.CLASSES[system](options)
            try:
                self.assertEqual("sync_interval: always" in servers.config(0), wanted)
                self.assertEqual(servers.config(1).count("nats-route://"), systems_of.NODES)
            finally:
                servers.close()


class Etcd(unittest.TestCase):
    @staticmethod
    def status(member, leader, applied=10):
        return {"header": {"member_id": member, "revision": "7"}, "leader": leader,
                "raftIndex": str(applied), "raftAppliedIndex": str(applied)}

    def test_the_leader_is_the_member_that_says_so_of_itself(self):
        self.assertEqual(systems_of.etcd_leader([self.status("1", "2"), None, self.status("2", "2")]), 2)
        self.assertIsNone(systems_of.etcd_leader([self.status("1", "2"), None, None]))
        self.assertIsNone(systems_of.etcd_leader([None, None, None]))

    def test_members_are_whole_when_they_agree_and_none_is_behind(self):
        def members(applied, leader="1"):
            return [self.status("1", "1", 1000), self.status("2", "1", 1000), self.status("3", leader, applied)]
        self.assertTrue(systems_of.etcd_whole(members(950)))
        self.assertFalse(systems_of.etcd_whole(members(900)))
        self.assertFalse(systems_of.etcd_whole(members(1000, leader="2")))
        self.assertFalse(systems_of.etcd_whole([*members(1000)[:2], None]))


class Figures(unittest.TestCase):
    def test_a_quantile_is_a_value_that_was_measured(self):
        self.assertEqual(compare.quantile([30, 10, 20], 0.5), 20)
        self.assertEqual(compare.quantile([4, 3, 2, 1], 0.5), 2)
        self.assertEqual(compare.quantile([7], 0.5), 7)
        self.assertEqual(compare.quantile(range(1, 101), 0.99), 99)

    def test_what_counts_after_a_kill_was_sent_after_it(self):
        pairs = [(10, 15), (20, 52), (31, 60), (33, 55)]
        self.assertEqual(systems_of.since(pairs, 30), 55)
        self.assertIsNone(systems_of.since(pairs, 33))

    def test_cpu_is_over_all_that_was_stored(self):
        result = {"records": 900, "seconds": 1.0, "records_per_s": 900.0, "p50_ms": 1, "p99_ms": 2}
        found = compare.load_figures(result, 1000, 0.5, 0.1, [5, 9, 6])
        self.assertEqual((found["cpu_s_per_million"], found["client_cpu_s_per_million"]), (500, 100))
        self.assertEqual((found["memory_sum"], found["memory_largest"], found["errors"]), (20, 9, 0))

    def test_more_acknowledged_than_stored_is_an_error(self):
        result = {"records": 900, "seconds": 1.0, "records_per_s": 900.0, "p50_ms": 1, "p99_ms": 2}
        with self.assertRaisesRegex(compare.Failed, "900 records were acknowledged, but 899"):
            compare.load_figures(result, 899, 0.5, 0.1, [1, 1, 1])

    def test_rounds_are_summed_up_as_medians_and_kills_as_all_of_them(self):
        parts = [part("etcd", {"100 1": 10, "100 64": 500}, [900, 1200]),
                 part("etcd", {"100 1": 300}, [1500], failure="it broke", errors=2),
                 part("quorlog", {"100 1": 1}),
                 part("etcd", {"100 1": 20}, [1000], memory_sum=400 << 20)]
        found = compare.summarize(parts, ["quorlog", "etcd"])
        one = found["etcd"]["loads"]["100 1"]
        self.assertEqual((one["records_per_s"], one["errors"], one["memory_sum"]), (20, 2, 400 << 20))
        self.assertAlmostEqual(one["mb_per_s"], 0.002)
        self.assertEqual(found["etcd"]["loads"]["100 64"]["records_per_s"], 500)
        self.assertEqual(found["etcd"]["kills"], {"n": 4, "p50_ms": 1000, "max_ms": 1500})
        self.assertEqual(found["quorlog"]["kills"], {"n": 0})

    def test_each_round_begins_with_the_next_system(self):
        self.assertEqual([compare.order(["a", "b", "c"], number) for number in range(4)],
                         [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]])


class Table(unittest.TestCase):
    def test_systems_stand_below_each_other_for_each_load(self):
        systems = ["quorlog", "jetstream", "etcd"]
        parts = [part(system, {"100 1": 5000, "1024 64": 2000}, [400, 600]) for system in systems[:2]]
        parts.append(part("etcd", {"100 1": 700}, failure="round 1: etcd:\nno room", errors=3))
        lines = compare.markdown(result_of(parts, systems)).splitlines()
        rows = [line for line in lines if line.startswith(("| 100,", "| 1024,"))]
        self.assertEqual([row.split(" | ")[:2] for row in rows],
                         [["| 100, 1", compare.TITLES[system]] for system in systems] +
                         [["| 1024, 64", compare.TITLES[system]] for system in systems[:2]])
        self.assertIn("| 5000 | 0.50 | 1.500 | 9.250 | 2.50, 0.75 | 300 MiB, 120 MiB |", rows[0])
        self.assertIn("| 700 (3 not acknowledged) |", rows[2])
        self.assertTrue(any(line.endswith("| 400 ms, 600 ms (2) |") for line in lines))
        self.assertTrue(any(line.startswith("| etcd | etcd 1.0 |") and "not measured" in line for line in lines))
        self.assertIn("* round 1: etcd: no room", lines)

    def test_all_rows_of_a_table_have_as_many_cells(self):
        parts = [part(system, {"100 1": 1}, [1]) for system in compare.SYSTEMS]
        widths = []
        for line in compare.markdown(result_of(parts, list(compare.SYSTEMS))).splitlines():
            widths.append(line.count("|"))
        self.assertEqual(sorted(set(widths)), [0, 5, 9])

    def test_the_document_has_a_region_and_only_that_is_replaced(self):
        with open(compare.DOCUMENT, encoding="utf-8") as file:
            text = file.read()
        table = compare.markdown(result_of([part("etcd", {"100 1": 1}, [1])], ["etcd"]))
        once = compare.replace_figures(text, table)
        self.assertEqual(once.count(table), 1)
        self.assertEqual(compare.replace_figures(once, table), once)
        empty = compare.replace_figures(text, "")
        self.assertEqual(once.replace(table, ""), empty)


class Programs(unittest.TestCase):
    def test_versions_are_found_in_what_programs_say(self):
        self.assertEqual(compare.version_of("nats-server: v2.10.27"), (2, 10, 27))
        self.assertEqual(compare.version_of("etcd Version: 3.5.16\nGit SHA: Not provided"), (3, 5, 16))
        self.assertEqual(compare.version_of(""), ())

    def test_a_server_without_sync_interval_is_told_and_what_to_do(self):
        self.assertEqual(compare.too_old("nats-server: v2.10.0"), [])
        self.assertEqual(compare.too_old("nats-server: v3.0.1"), [])
        for text in ("nats-server: v2.9.25", ""):
            self.assertIn("scripts/deps --compare", compare.too_old(text)[0])

    def test_all_that_is_missing_is_told_with_what_to_do(self):
        options = compare.parse_options(["--build", "/nonexistent", "--nats-server", "/nonexistent/nats-server",
                                         "--etcd", "/nonexistent/etcd"])
        found, missing = compare.find_programs(options)
        self.assertEqual(found, {})
        self.assertEqual(len(missing), 5)
        self.assertIn("ninja -C /nonexistent", missing[0])
        self.assertEqual(sum("scripts/deps --compare" in line for line in missing), 4)

    def test_nothing_of_other_systems_is_needed_for_one(self):
        options = compare.parse_options(["--build", "/nonexistent", "--systems", "quorlog"])
        self.assertEqual(len(compare.find_programs(options)[1]), 1)

    def test_wrong_options_are_refused(self):
        for wrong in (["--systems", "kafka"], ["--inflight", "0"], ["--inflight", "a"], ["--sizes", ""],
                      ["--inflight", "70000"]):
            with contextlib.redirect_stderr(io.StringIO()), self.assertRaises(SystemExit):
                compare.parse_options(wrong)

    def test_a_quick_run_is_short(self):
        options = compare.parse_options(["--quick", "--systems", "etcd,etcd"])
        self.assertEqual((options.rounds, options.seconds, options.kills), (1, 1, 1))
        self.assertEqual((options.systems, options.inflight), (["etcd"], [1, 1024]))


if __name__ == "__main__":
    unittest.main()
