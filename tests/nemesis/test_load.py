"""The load against a cluster that nothing is done to: its history keeps every rule, with facts for each; and what is
altered in it is seen."""

import json
import os
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))

# The path has to be known first. pylint: disable=wrong-import-position
from cluster import Failed, expect, main, run

LOAD = os.environ.get("NEMESIS_LOAD", "build/tests/nemesis/load")
SECONDS = 12


def load(cluster, out, *more):
    return [LOAD, "--servers", cluster.servers(), "--out", out, *more]


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write_lines(path, lines):
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def record(cluster):
    """A load that is told to stop, and the copies; the whole history."""
    first, second = (os.path.join(cluster.dir, name) for name in ("load", "dump"))
    series = os.path.join(cluster.dir, "series")
    healed = {"op": "event", "event": "healed", "at": int(time.monotonic() * 1e6)}
    process = subprocess.Popen(load(cluster, first, "--series", series, "--seconds", "1000",
                                    "--clients", "28", "--seed", "5"))
    time.sleep(SECONDS)
    expect(process.poll() is None, "the load ended by itself")
    process.send_signal(signal.SIGTERM)
    expect(process.wait(30) == 0, "the load did not end well")
    done = subprocess.run(load(cluster, second, "--dump-only", "--timeout", "30"), timeout=120,
                          check=False)
    expect(done.returncode == 0, "the copies could not be read")
    check_series(read_lines(series))
    return [*read_lines(first), *read_lines(second)[1:], healed]


def check_series(series):
    expect(len(series) >= SECONDS - 2, f"{len(series)} lines in {SECONDS} s")
    expect(sum(s["records"] for s in series) > 1000, "hardly anything was acknowledged")
    for second in series:
        expect(0 <= second["produce_p50_ms"] <= second["produce_p99_ms"] <= second["produce_max_ms"],
               f"quantiles out of order: {second}")


def check(cluster, history, *more):
    """What the checker says: its exit code and the rules."""
    path = os.path.join(cluster.dir, "history")
    write_lines(path, history)
    done = run("check", "--json", path, *more, check=False, timeout=120)
    expect(done.returncode in (0, 1), f"check: exit {done.returncode}: {done.stderr.decode()}")
    return done.returncode, {rule["rule"]: rule for rule in json.loads(done.stdout)["rules"]}


def check_whole(cluster, history):
    code, rules = check(cluster, history, "--nodes", "3")
    bad = {name: rule["examples"] for name, rule in rules.items() if rule["violations"]}
    expect(code == 0 and not bad, f"the history of a healthy cluster: {bad}")
    empty = [name for name, rule in rules.items() if rule["checked"] == 0]
    expect(not empty, f"rules that nothing was checked of: {empty}")
    outcomes = [line.get("is", "ok") for line in history if line.get("op") == "produce"]
    expect(outcomes.count("unknown") <= len(outcomes) // 20, "a healthy cluster answers")


def one(history, wanted):
    """The place of an operation in the middle that is as wanted."""
    found = [i for i, line in enumerate(history) if wanted(line)]
    expect(found, "there is no such operation")
    return found[len(found) // 2]


def is_read(line, mode=None):
    return line.get("op") == "read" and line.get("is", "ok") == "ok" and line.get("mode") == mode


def check_altered(cluster, history):
    """Each alters one line; (what, which line, what becomes of it: None it goes, the rules that tell)."""
    def shifted(line):
        return {**line, "offset": line["offset"] + 1}

    def damaged(line):
        return {**line, "values": [0, *line["values"][1:]]}

    def stale(line):
        return {**line, "offset": 0, "values": [], "offsets": [], "next": 0, "end": 0}

    def refused(line):
        return {**line, "is": "fail"}

    def produced(line):
        return line.get("op") == "produce" and line.get("is", "ok") == "ok" and line.get("offset")

    cases = (
        ("an acknowledgement tells another offset", produced, shifted, {"durability", "real-time"}),
        ("what was refused is there", produced, refused, {"aborted"}),
        ("a record's bytes are others", lambda l: is_read(l, "token") and l.get("values"), damaged,
         {"invention"}),
        ("a linearizable read shows an empty log",
         lambda l: is_read(l, "linearizable") and l.get("end", 0) > 100, stale, {"linearizable"}),
        ("a read with a token shows an empty log",
         lambda l: is_read(l, "token") and l.get("end", 0) > 100, stale, {"token-read"}),
        ("a piece of a copy is missing", lambda l: l.get("op") == "dump" and l.get("values"),
         lambda line: None, {"dense", "dumps"}),
        ("a piece of a stream is missing", lambda l: l.get("op") == "delivery" and l.get("n", 0) > 3,
         lambda line: None, {"stream"}),
    )
    for what, wanted, alter, told in cases:
        place = one(history, wanted)
        altered = alter(history[place])
        lines = history[:place] + ([altered] if altered else []) + history[place + 1:]
        code, rules = check(cluster, lines)
        bad = {name for name, rule in rules.items() if rule["violations"]}
        expect(code == 1 and bad & told, f"{what}: only {bad} tell")


def refuses_what_it_does_not_know():
    for args in (["--servers", "127.0.0.1:1"], ["--servers", "a:1", "--out", "/dev/null", "--rate", "x"],
                 ["--servers", "a:1", "--out", "/dev/null", "--record-size", "9-10"]):
        done = subprocess.run([LOAD, *args], capture_output=True, timeout=10, check=False)
        expect(done.returncode == 2 and b"usage" in done.stderr, f"{args}: {done.returncode}")


def copies_that_cannot_be_read(cluster):
    """A node that is down is told of, and the exit code says so."""
    cluster.kill(cluster.followers()[0])
    done = subprocess.run(load(cluster, "/dev/null", "--dump-only", "--timeout", "1"),
                          capture_output=True, timeout=120, check=False)
    expect(done.returncode == 1 and b"not equal" in done.stderr, f"{done.returncode}: {done.stderr}")


def test(cluster):
    refuses_what_it_does_not_know()
    cluster.start_all()
    history = record(cluster)
    check_whole(cluster, history)
    check_altered(cluster, history)
    copies_that_cannot_be_read(cluster)
    print(f"{len(history)} operations, every rule with facts", flush=True)


if __name__ == "__main__":
    if not os.access(LOAD, os.X_OK):
        raise Failed(f"{LOAD} is not built")
    main(test)
