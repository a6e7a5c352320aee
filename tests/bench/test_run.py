"""What tests/bench/run makes of what it measures: statistics, targets, tables, plots, the baseline, the plan.

No node is started."""

import contextlib
import importlib.machinery
import importlib.util
import io
import os
import re
import sys
import tempfile
import unittest
import xml.etree.ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True


def load():
    loader = importlib.machinery.SourceFileLoader("bench_run", os.path.join(HERE, "run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench_run", loader))
    loader.exec_module(module)
    return module


run = load()
baseline, figures, measure = (sys.modules[name] for name in ("baseline", "figures", "measure"))
plot, produce = sys.modules["plot"], run.measure_produce
Ratio = figures.Ratio


def options_of(*arguments):
    return run.parse_options(["--silent", *arguments])


# ---- rounds as they would be ----

def a_load(rate=100000.0, p50_ms=1.0, p99_ms=4.0):
    nodes = [{"id": i, "cpu_s_per_million": 0.5, "memory": 100 << 20} for i in (1, 2, 3)]
    return {"records": rate * 2, "records_per_s": rate, "mb_per_s": rate / 1e3, "p50_ms": p50_ms, "p99_ms": p99_ms,
            "p999_ms": 2 * p99_ms, "max_ms": 5 * p99_ms, "records_per_journal_write": 20.0, "nodes": nodes,
            "rate_kept": True, "errors": {}, "raft_turns": {"turns": 1000, "long": 0, "longest_ms": 2.5}}


def found_for(key):
    """What a step of that key would find."""
    latency = {"p50_ms": 1.0, "p99_ms": 3.0, "p999_ms": 9.0}
    if "loopback" in key:
        return {"round_trip_p50_ms": 0.02, "round_trip_p99_ms": 0.1, "stream_bytes_per_s": 5e9}
    if key == "floor latency":
        return {"p50_ms": 0.08, "p99_ms": 0.2}
    if key == "floor read":
        return {"bytes_per_s": 7e9, "cold_bytes_per_s": 1e9}
    if key == "floor core":
        return {"entries_per_s": 1e6, "one_at_a_time_per_s": 3e5}
    if key.startswith(("floor disk", "way ")):
        return {"bytes_per_s": 2e8, "journal_p50_ms": 0.5, "journal_p99_ms": 2.0}
    if key == "deliver":
        return {"planned_to_acknowledged": latency, "acknowledged_to_delivered": latency,
                "planned_to_delivered": latency}
    if key.startswith("stopped"):
        return {"seconds": 1, "records_per_s": 1e5, "before": {"peaks": [1 << 20] * 3},
                "peaks": [3 << 20, 5 << 20, 4 << 20], "owns": [1 << 20] * 3}
    return a_load()


def rounds_of(options):
    found = []
    for number in range(1, options.rounds + 1):
        one = {"machine_load": 0.25}
        for name, steps in run.plan(options, number):
            one.update({step.key: found_for(step.key) for step in steps})
            one[f"memory {name}"] = {"peaks": [100 << 20, 90 << 20, 80 << 20], "owns": [70 << 20] * 3}
        found.append(one)
    return found


class Done:
    """A runner that has run."""

    def __init__(self, options, failures=()):
        self.rounds, self.failures = rounds_of(options), list(failures)


def result_of(options, failures=()):
    with tempfile.TemporaryDirectory() as build:
        os.mkdir(os.path.join(build, "meson-info"))
        with open(os.path.join(build, "meson-info", "intro-buildoptions.json"), "w", encoding="utf-8") as file:
            file.write('[{"name": "buildtype", "value": "release"}]')
        options.build = build
        return run.result_of(options, Done(options, failures))


# ---- statistics ----

class Statistics(unittest.TestCase):
    def test_the_spread_is_of_the_middle_half(self):
        self.assertEqual(figures.spread([1, 2, 3, 4, 1000]), 2)
        self.assertEqual(figures.spread([5, 5, 5]), 0)
        self.assertEqual(figures.spread([7]), 0)

    def test_a_ratio_is_the_median_of_the_rounds_own(self):
        rounds = [{"a": 1, "b": 2}, {"a": 30, "b": 10}, {"a": 8, "b": 8}]
        one, = figures.ratio("k", "n", rounds, lambda r: r["a"] / r["b"])
        self.assertEqual((one.value, one.found), (1, [0.5, 3, 1]))

    def test_a_round_that_lacks_something_is_left_out(self):
        rounds = [{"a": 1}, {"a": 2, "b": 4}, {"a": 3, "b": 0}]
        one, = figures.ratio("k", "n", rounds, lambda r: r["a"] / r["b"])
        self.assertEqual(one.found, [0.5])
        self.assertEqual(figures.ratio("k", "n", [{"a": 1}], lambda r: r["b"]), [])
        self.assertIsNone(figures.median([{}], lambda r: r["a"]))

    def test_a_target_is_met_at_its_bound_and_missed_beyond(self):
        for value, at_most, verdict in ((1.5, True, figures.OK), (1.51, True, figures.MISSED),
                                        (1.5, False, figures.OK), (1.49, False, figures.MISSED)):
            self.assertEqual(Ratio("k", "n", [value], limit=1.5, at_most=at_most).verdict(), verdict)
        self.assertEqual(Ratio("k", "n", [9]).verdict(), figures.NONE)
        self.assertEqual(Ratio("k", "n", [1], limit=0).verdict(), figures.MISSED)

    def test_of_what_must_never_be_the_worst_round_counts(self):
        self.assertEqual(Ratio("k", "n", [1, 50, 2], limit=10, worst=True).value, 50)
        self.assertEqual(Ratio("k", "n", [1, 50, 2], limit=10, at_most=False, worst=True).value, 1)

    def test_numbers_have_the_digits_that_say_something(self):
        self.assertEqual([figures.number(n) for n in (1274215.4, 127.42, 12.74, 1.274, 0.1274, None)],
                         ["1274215", "127", "12.7", "1.27", "0.127", "-"])
        self.assertEqual(figures.number(-47.83, "%"), "-47.8 %")


# ---- what is measured ----

class Measurements(unittest.TestCase):
    def test_memory_is_in_bytes(self):
        status = "Name:\tq\nVmHWM:\t  2048 kB\nVmRSS:\t  9 kB\nRssAnon:\t     512 kB\n"
        self.assertEqual(measure.memory_of(status), {"peak": 2 << 20, "own": 512 << 10})

    @staticmethod
    def status(**turns):
        return {"nodes": [{"id": int(name[1:]), "raft_turns": {"count": count, "long_count": long, "max_us": most,
                                                               "octaves": octaves}}
                          for name, (count, long, most, octaves) in turns.items()]}

    def test_turns_of_a_load_are_those_between_two_answers(self):
        before = self.status(n1=(10, 1, 20000, [9, 0, 1]), n2=(5, 0, 3, [5]))
        after = self.status(n1=(15, 1, 20000, [12, 1, 2]), n2=(9, 2, 44000, [5, 4]))
        self.assertEqual(measure.turns_between(before, after), {"turns": 9, "long": 2, "longest_ms": 44.0})

    def test_a_longest_turn_that_is_no_new_one_is_the_end_of_its_octave(self):
        before = self.status(n1=(10, 1, 20000, [9, 0, 0, 1]))
        after = self.status(n1=(12, 1, 20000, [9, 1, 1, 1]))
        self.assertEqual(measure.turns_between(before, after)["longest_ms"], 0.008)
        self.assertEqual(measure.turns_between(before, before)["longest_ms"], 0)

    def test_a_node_that_did_not_answer_has_no_turns(self):
        after = self.status(n1=(12, 1, 9, [12]))
        after["nodes"].append({"id": 2})
        self.assertEqual(measure.turns_between({"nodes": [{"id": 1}]}, after)["turns"], 0)

    def test_clients_of_one_load_add_up_and_the_worst_latency_counts(self):
        parts = [{**a_load(100, 1, 9), "errors": {"x": 1}}, {**a_load(50, 2, 5), "errors": {"x": 2, "y": 1}}]
        found = measure.joined(parts)
        self.assertEqual((found["records_per_s"], found["p50_ms"], found["p99_ms"]), (150, 2, 9))
        self.assertEqual((found["errors"], parts[0]["errors"]), ({"x": 3, "y": 1}, {"x": 1}))

    def test_what_is_compared_comes_in_the_other_order_in_each_second_round(self):
        self.assertEqual([measure.by_turns("ab", number) for number in (1, 2, 3)], [["a", "b"], ["b", "a"], ["a", "b"]])


# ---- the plan ----

class Plan(unittest.TestCase):
    def keys(self, options, number=1):
        return [step.key for _, steps in run.plan(options, number) for step in steps]

    def test_a_default_run_is_planned_for_no_more_than_25_minutes_and_a_quick_one_for_2(self):
        self.assertLess(run.planned_seconds(options_of()), 25 * 60 * 0.9)
        self.assertLess(run.planned_seconds(options_of("--quick")), 2 * 60)

    def test_nothing_is_measured_twice_in_a_round(self):
        for number in (1, 2):
            keys = self.keys(options_of(), number)
            self.assertEqual(len(keys), len(set(keys)))

    def test_a_section_alone_has_the_floors_that_it_needs(self):
        keys = self.keys(options_of("--only", "produce"))
        for key in ("floor latency", "floor loopback", "floor disk 100 buffered", "floor disk 1024 buffered"):
            self.assertIn(key, keys)
        self.assertIn("consume loopback", self.keys(options_of("--only", "consume")))
        self.assertTrue(all(key.startswith(("floor ", "way ")) for key in self.keys(options_of("--only", "floors"))))

    def test_all_that_is_asked_for_is_planned(self):
        keys = self.keys(options_of())
        for size in (100, 1024):
            for shape in ((1, 1), (16, 1), (256, 1), (4096, 1), (4096, 8), (4096, 64)):
                for via in ("leader", "follower"):
                    self.assertIn(measure.produce_key(size, *shape, via), keys)
        for kind, counts in (("topics", (1, 10, 100, 1000)), ("connections", (1, 10, 100, 1000)),
                             ("log", (10**6, 10**8, 2**30))):
            for count in counts:
                self.assertIn(f"growth {kind} {count}", keys)

    def test_half_of_the_largest_load_is_known_when_it_is_measured(self):
        for number in (1, 2):
            keys = self.keys(options_of(), number)
            for size in (100, 1024):
                loads = [keys.index(key) for key in keys if key.startswith(f"produce {size} ")]
                self.assertGreater(keys.index(f"open {size}"), max(loads))

    def test_what_takes_minutes_is_done_once(self):
        options = options_of("--long", "--rounds", "2")
        self.assertEqual(options.stopped_seconds, 300)
        for key in (f"growth log {10 * 2**30}", "stopped"):
            self.assertNotIn(key, self.keys(options, 1))
            self.assertIn(key, self.keys(options, 2))
        self.assertNotIn(f"growth log {10 * 2**30}", self.keys(options_of("--rounds", "1")))

    def test_wrong_options_are_refused(self):
        for wrong in (["--only", "all"], ["--only", ""], ["--rounds", "0"], ["--seconds", "x"], ["--quick", "--long"],
                      ["--quick", "--write-docs"], ["--quick", "--save-baseline", "f"]):
            with contextlib.redirect_stderr(io.StringIO()), self.assertRaises(SystemExit):
                run.parse_options(wrong)

    def test_sections_are_named_in_any_order_and_more_than_once(self):
        self.assertEqual(options_of("--only", "floors,produce,floors").only, ["produce", "floors"])


class Running(unittest.TestCase):
    class Section:
        NAME, CLUSTER = "fake", False

        def __init__(self, *steps):
            self.planned = list(steps)

        def steps(self, _options, _number):
            return self.planned

    def run_steps(self, **steps):
        options = options_of("--rounds", "2")
        options.only = ["fake"]
        run.SECTIONS["fake"] = self.Section(*(measure.Step(key, 1, step) for key, step in steps.items()))
        try:
            runner = run.Runner(options)
            runner.run()
        finally:
            del run.SECTIONS["fake"]
        return runner

    def test_each_round_keeps_what_its_steps_found(self):
        runner = self.run_steps(a=lambda lab: {"x": 1}, b=lambda lab: {"x": lab.found["a"]["x"] + 1})
        self.assertEqual([(one["a"], one["b"]) for one in runner.rounds], [({"x": 1}, {"x": 2})] * 2)
        self.assertEqual((runner.failures, runner.progress.done), ([], 4))

    def test_what_fails_is_tried_once_more_and_then_told_and_left_out(self):
        calls = []

        def fails(lab):
            calls.append(lab)
            raise measure.Failed("no\nanswer")

        def fails_once(lab):
            if lab.found.setdefault("tries", 0) == 0:
                lab.found["tries"] = 1
                raise OSError("a hiccup")
            return {"x": 2}

        runner = self.run_steps(a=fails, b=fails_once)
        self.assertEqual(len(calls), 4)
        self.assertEqual(runner.failures, [f"round {number}: fake: a: no answer" for number in (1, 2)])
        self.assertTrue(all("a" not in one and one["b"] == {"x": 2} for one in runner.rounds))

    def test_a_mistake_of_the_script_ends_it(self):
        with self.assertRaises(TypeError):
            self.run_steps(a=lambda lab: 1 + "1")

    def test_what_is_left_goes_by_what_it_took_so_far(self):
        progress = run.Progress(100, True)
        self.assertEqual(progress.pace(), 1)
        progress.say("", 20)
        progress.begin -= 40
        self.assertAlmostEqual(progress.pace(), 2, places=1)
        self.assertEqual((run.minutes(61.9), run.minutes(-5)), ("1:01", "0:00"))


# ---- ratios and tables ----

class Sections(unittest.TestCase):
    def ratios(self, options, **changes):
        """By key; changes replace what was found under a key, in all rounds."""
        rounds = rounds_of(options)
        for one in rounds:
            one.update({key: {**one[key], **change} for key, change in changes.items()})
        return {one.key: one for name in options.only for one in run.SECTIONS[name].ratios(rounds, options)}

    def test_all_targets_are_there(self):
        found = self.ratios(options_of())
        limits = {"produce 100 leader": 0.40, "produce 1024 follower": 0.70, "produce latency": 1.5,
                  "produce half 100": 10, "produce half 1024": 10, "forward ms 100": 0.15, "forward share 1024": 10,
                  "raft turn": 10, "raft turns": 0, "cpu": 2.5, "consume": 0.80, "deliver 1000": 5,
                  "beside cold": 1.5, "memory stopped": 256, "memory stopped 128M": 128, "memory produce": 256,
                  "growth topics records_per_s": 0.8, "growth connections p99_ms": 1.2, "growth log p99_ms": 1.2}
        self.assertEqual({key: found[key].limit for key in limits}, limits)

    def test_ratios_are_of_what_they_say(self):
        follower = measure.produce_key(100, 1, 1, "follower")
        found = self.ratios(options_of("--rounds", "1"), **{follower: {"p50_ms": 1.2}, "open 100": {"p99_ms": 1.6}})
        self.assertAlmostEqual(found["produce 100 leader"].value, 0.5)  # 100 MB/s of 200
        self.assertAlmostEqual(found["produce latency"].value, 1 / 0.10)
        self.assertAlmostEqual(found["produce half 100"].value, 20)
        self.assertAlmostEqual(found["forward ms 100"].value, 0.2)
        self.assertEqual(found["forward ms 100"].verdict(), figures.MISSED)
        self.assertAlmostEqual(found["cpu"].value, 1.5)
        self.assertAlmostEqual(found["consume"].value, 0.02)

    def test_the_load_with_the_best_median_is_compared_with_the_floor(self):
        best = measure.produce_key(1024, 4096, 8, "leader")
        found = self.ratios(options_of(), **{best: {"records_per_s": 2e5, "mb_per_s": 180}})
        self.assertAlmostEqual(found["produce 1024 leader"].value, 0.9)
        self.assertIn("on 8 connections", found["produce 1024 leader"].name)

    def test_growth_is_of_the_worst_place(self):
        found = self.ratios(options_of(), **{"growth topics 100": {"records_per_s": 5e4},
                                             "growth topics 1000": {"p99_ms": 40.0}})
        self.assertEqual(found["growth topics records_per_s"].value, 0.5)
        self.assertIn("100 topics (the worst) / with 1 topic", found["growth topics records_per_s"].name)
        self.assertEqual(found["growth topics p99_ms"].value, 10)

    def test_one_long_turn_in_one_round_is_told(self):
        options = options_of("--only", "produce")
        rounds = rounds_of(options)
        rounds[3]["open 1024"]["raft_turns"] = {"turns": 5, "long": 2, "longest_ms": 11.0}
        found = {one.key: one for one in produce.ratios(rounds, options)}
        self.assertEqual((found["raft turn"].value, found["raft turns"].value), (11, 2))

    def test_memory_with_a_stopped_follower_counts_only_where_one_was(self):
        rounds = [{"memory memory": {"peaks": [300 << 20], "owns": [1]}, "memory consume": {"peaks": [1 << 20], "owns": [1]}}]
        options = options_of()
        self.assertEqual([one.key for one in run.measure_memory.ratios(rounds, options)], ["memory consume"])
        rounds += [{"stopped 128M": {**found_for("stopped"), "peaks": [100 << 20, 300 << 20]}}]
        found = {one.key: one for one in run.measure_memory.ratios(rounds, options)}
        self.assertEqual(set(found), {"memory consume", "memory stopped 128M"})
        self.assertEqual((found["memory stopped 128M"].value, found["memory stopped 128M"].verdict()),
                         (300, figures.MISSED))

    def test_whatever_is_missing_the_rest_is_told(self):
        options = options_of("--rounds", "1")
        whole = rounds_of(options)[0]
        for key in [None, *whole]:
            rounds = [{k: v for k, v in whole.items() if k != key}]
            for section in run.SECTIONS.values():
                self.assertTrue(section.tables(rounds, options), f"without {key}: {section.NAME}")
                section.ratios(rounds, options)
                section.plots(rounds, options)
        for section in run.SECTIONS.values():
            self.assertEqual((section.ratios([], options), section.plots([], options)), ([], {}))
            section.tables([], options)

    def test_rows_of_a_table_have_as_many_cells_as_its_head(self):
        for arguments in ([], ["--quick"], ["--long"]):
            text = run.markdown(result_of(options_of(*arguments)))
            for block in re.split(r"\n\n+", text):
                widths = {line.count("|") for line in block.splitlines() if line.startswith("|")}
                self.assertLessEqual(len(widths), 1, block)

    def test_plots_are_svg_with_all_their_curves(self):
        options = options_of()
        plots = {name: svg for section in run.SECTIONS.values()
                 for name, svg in section.plots(rounds_of(options), options).items()}
        self.assertEqual(set(plots), {"produce", "growth-topics", "growth-connections", "growth-log"})
        for name, svg in plots.items():
            tree = xml.etree.ElementTree.fromstring(svg)
            curves = [part for part in tree.iter() if part.get("class") == "curve"]
            self.assertEqual(len(curves), 12 if name == "produce" else 3, name)
            width, height = map(float, tree.get("viewBox").split()[2:])
            for part in tree.iter():
                for axis, most in (("x", width), ("y", height), ("cx", width), ("cy", height)):
                    if part.get(axis):
                        self.assertTrue(0 <= float(part.get(axis)) <= most, f"{name}: {part.attrib}")

    def test_a_plot_without_values_is_none(self):
        chart = plot.Chart([1, 10], "x")
        chart.add_panel("y", [("a", [(1, None), (10, None)])])
        self.assertEqual(chart.drawn("n", "l"), {})


# ---- the document ----

class Document(unittest.TestCase):
    def test_it_has_a_region_for_each_section_and_only_that_is_replaced(self):
        with open(run.DOCUMENT, encoding="utf-8") as file:
            text = file.read()
        for name in run.SECTIONS:
            once = figures.replace_section(text, name, f"of {name}\n")
            self.assertEqual(once.count(f"of {name}\n"), 1)
            self.assertEqual(figures.replace_section(once, name, f"of {name}\n"), once)
            self.assertEqual([figures.marks(other)[0] in once for other in run.SECTIONS], [True] * len(run.SECTIONS))

    def test_a_document_without_the_region_is_not_written(self):
        begin, end = figures.marks("x")
        for text in ("", begin, end + begin, begin + end + begin + end):
            with self.assertRaises(ValueError):
                figures.replace_section(text, "x", "y")

    def test_tables_and_plots_are_written_of_what_was_measured(self):
        result = result_of(options_of("--only", "growth"), ["round 1: growth: it broke"])
        with tempfile.TemporaryDirectory() as place:
            kept = run.DOCUMENT, run.PLOTS
            run.DOCUMENT, run.PLOTS = os.path.join(place, "d.md"), os.path.join(place, "plots")
            try:
                with open(run.DOCUMENT, "w", encoding="utf-8") as file:
                    file.write("before\n" + "".join(figures.marks("growth")) + "after\n" + "".join(figures.marks("floors")))
                run.write_document(result)
                with open(run.DOCUMENT, encoding="utf-8") as file:
                    text = file.read()
                names = set(re.findall(r"\]\(plots/(.*?)\)", text))
                self.assertEqual(names, set(os.listdir(run.PLOTS)))
            finally:
                run.DOCUMENT, run.PLOTS = kept
        self.assertEqual(len(names), 3)
        self.assertTrue(text.startswith("before\n") and text.endswith("".join(figures.marks("floors"))))
        self.assertIn("Failed, and left out: 1.", text)
        self.assertIn("| 1000 | 100000 | 1.00 | 4.00 |", text)


# ---- the baseline ----

class Baseline(unittest.TestCase):
    @staticmethod
    def kept(machine="m", **values):
        """key: (value, spread, at_most)"""
        return {"date": "2026-01-02", "machine": machine, "buildtype": "release", "rounds": 5, "seconds": 2,
                "ratios": {key: {"name": key, "value": value, "spread": spread, "at_most": at_most, "unit": ""}
                           for key, (value, spread, at_most) in values.items()}}

    def slower(self, before, now):
        return bool(baseline.compare(self.kept(a=before), self.kept(a=now))[1])

    def test_slower_is_what_is_worse_by_more_than_the_rounds_differ(self):
        self.assertTrue(self.slower((1.0, 0.1, True), (1.2, 0.1, True)))
        self.assertFalse(self.slower((1.0, 0.1, True), (1.09, 0.1, True)))
        self.assertFalse(self.slower((1.0, 0.1, True), (1.2, 0.3, True)))  # now they differ more
        self.assertFalse(self.slower((1.0, 0.3, True), (1.2, 0.1, True)))  # then they did
        self.assertFalse(self.slower((1.0, 0.0, True), (0.5, 0.0, True)))

    def test_of_what_should_be_large_less_is_slower(self):
        self.assertTrue(self.slower((1.0, 0.1, False), (0.8, 0.1, False)))
        self.assertFalse(self.slower((1.0, 0.1, False), (1.5, 0.1, False)))

    def test_rounds_that_agree_do_not_make_news_of_little(self):
        self.assertFalse(self.slower((1.0, 0.0, True), (1.04, 0.0, True)))
        self.assertTrue(self.slower((1.0, 0.0, True), (1.06, 0.0, True)))
        self.assertTrue(self.slower((-2.0, 0.0, True), (-1.8, 0.0, True)))

    def test_what_was_not_measured_now_is_not_slower_and_what_is_new_neither(self):
        different, slower = baseline.compare(self.kept(a=(1, 0, True)), self.kept(b=(9, 0, True)))
        self.assertEqual((different, slower), ([], []))

    def test_another_machine_is_told(self):
        different, _ = baseline.compare(self.kept("old"), self.kept("new"))
        self.assertEqual(different, ["machine: the baseline's is old, this run's new"])

    def test_sections_that_were_not_measured_stay_if_all_else_is_the_same(self):
        old, new = self.kept(a=(1, 0, True), b=(1, 0, True)), self.kept(b=(2, 0, True))
        self.assertEqual({k: r["value"] for k, r in baseline.merge(old, new)["ratios"].items()}, {"a": 1, "b": 2})
        self.assertEqual(list(baseline.merge(old, self.kept("other", b=(2, 0, True)))["ratios"]), ["b"])
        self.assertEqual(baseline.merge(None, new), new)

    def test_a_run_is_not_slower_than_itself_and_a_worse_one_is(self):
        options = options_of("--only", "produce", "--rounds", "3")
        result = result_of(options)
        with tempfile.TemporaryDirectory() as place:
            options.baseline = os.path.join(place, "b.json")
            baseline.save(options.baseline, baseline.of_result(result))
            with contextlib.redirect_stderr(io.StringIO()) as said:
                self.assertFalse(run.compare_with_baseline(options, result))
                self.assertIn("nothing is slower", said.getvalue())
                for one in result["sections"]["produce"]["ratios"]:
                    one["value"] *= 2 if one["key"] == "cpu" else 1
                self.assertTrue(run.compare_with_baseline(options, result))
            self.assertIn("slower: CPU seconds of all nodes", said.getvalue())

    def test_one_that_was_named_has_to_be_there(self):
        options = options_of("--baseline", "/nonexistent/b.json")
        self.assertIsNone(baseline.load(options.baseline))
        with self.assertRaises(SystemExit):
            run.compare_with_baseline(options, {})


if __name__ == "__main__":
    unittest.main()
