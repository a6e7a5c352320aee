"""A run can fail, and leaves nothing: told to stop, killed, or with disks that lie."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "integration")]

import sandbox  # pylint: disable=wrong-import-position
from cluster import wait_for  # pylint: disable=wrong-import-position

PREFIXES = [os.path.join(base, sandbox.PREFIX) for base in {tempfile.gettempdir(), "/var/tmp"}]


def traces():
    """Mounts, loop devices, processes and directories of runs; of any run of this machine."""
    found = set()
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        found |= {line.split()[1] for line in mounts}
    for device in os.listdir("/sys/block"):
        try:
            with open(f"/sys/block/{device}/loop/backing_file", encoding="utf-8") as file:
                found.add(file.read().strip())
        except OSError:
            pass
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                found |= {f"{pid}:{word.decode(errors='replace')}" for word in
                          file.read().split(b"\0")}
        except OSError:
            pass
    for prefix in PREFIXES:
        base = os.path.dirname(prefix)
        found |= {os.path.join(base, name) for name in os.listdir(base)}
    return {text for text in found if sandbox.PREFIX in text}


class RunTest(unittest.TestCase):
    """Real runs."""

    def setUp(self):
        self.out = tempfile.TemporaryDirectory(prefix="quorlog-test-")
        self.addCleanup(self.out.cleanup)
        self.before = traces()

    def begin(self, *args):
        return subprocess.Popen([sys.executable, "-B", os.path.join(HERE, "run"), "--clients", "2",
                                 "--out", self.out.name, *args], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, start_new_session=True)

    def wait_line(self, process, text):
        for line in process.stdout:
            if text in line:
                return
        self.fail(f"it ended with {process.wait()} and did not say '{text}'")

    def check_nothing_left(self):
        wait_for("nothing is left", lambda: not traces() - self.before, 20)

    def result(self):
        with open(os.path.join(self.out.name, "result.json"), encoding="utf-8") as file:
            return json.load(file)

    def test_told_to_stop_it_leaves_nothing(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            process = self.begin("--seed", "1", "--minutes", "5", "--faults", "kill,pause")
            self.wait_line(process, "healthy again")
            if number == signal.SIGINT:
                os.killpg(process.pid, number)  # As a terminal does.
            else:
                process.send_signal(number)
            rest = process.stdout.read()
            self.assertEqual(process.wait(60), 130, rest)
            self.check_nothing_left()

    def test_killed_it_leaves_a_directory_that_the_next_one_removes(self):
        process = self.begin("--seed", "1", "--minutes", "5", "--faults", "kill,stall-disk")
        self.wait_line(process, "healthy again")
        process.kill()
        process.wait()
        process.stdout.close()
        wait_for("only the directory is left", lambda: len(traces() - self.before) == 1, 40)
        process = self.begin("--seed", "1", "--minutes", "0", "--faults", "kill")
        rest = process.stdout.read()
        self.assertEqual(process.wait(60), 0, rest)
        self.assertIn("left by a run that died", rest)
        self.check_nothing_left()

    def test_disks_that_lie_are_found_out(self):
        if os.geteuid() != 0:
            self.skipTest("power cuts need root")
        process = self.begin("--seed", "8", "--minutes", "0.4", "--faults", "power-cut",
                             "--lying-disks")
        rest = process.stdout.read()
        self.assertEqual(process.wait(60), 1, rest)
        self.assertEqual(self.result()["verdict"], "fail")
        self.assertIn("again: tests/nemesis/run --seed 8", rest)
        for path in traces() - self.before:  # It keeps what may be looked at.
            self.assertTrue(sandbox.kept(path), path)
            subprocess.run(["rm", "-r", path], check=True)

    def test_what_cannot_be_had_is_told_and_an_error_when_all_is_required(self):
        process = self.begin("--seed", "1", "--faults", "nonsense")
        self.assertIn("no fault 'nonsense'", process.stdout.read())
        self.assertEqual(process.wait(20), 2)


if __name__ == "__main__":
    unittest.main()
