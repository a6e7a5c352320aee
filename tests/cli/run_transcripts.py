"""Golden transcripts: what a person types, and what the program then says, to the byte.

    run_transcripts.py FILE…        each against a cluster of its own (the first line says of how many)

A transcript is a text file:

    # a comment
    nodes 3                         how many nodes run; 0: none
    $ quorlog topic create events   a command: one line for sh, standard error joined to the output
    created events                  its output
    [1]                             its exit code, left out when it is 0

In expected output `…` stands for any text within a line, `<number>` for digits, `<hex>` for
hexadecimal digits, `<time>` for a time; a line of only `…` for any number of lines. Variables for
commands: $N1 … are the nodes' addresses, $P1 … their ports, $NOBODY an address where nobody listens;
QUORLOG_SERVER is the first node's. After each `topic create`, `produce` and use of a cursor the copies on all
nodes are waited for, so that what follows does not depend on who is asked. Standard library only.
"""

import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))

from cluster import QUORLOG, Cluster, Failed, free_ports, wait_for  # noqa: E402

PLACEHOLDERS = {
    "…": ".*",
    "<number>": "[0-9]+",
    "<hex>": "[0-9a-f]+",
    "<time>": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z",
}
SECONDS_MAX = 60


class Step:
    """A command with what it is to say."""

    def __init__(self, line, command):
        self.line = line
        self.command = command
        self.expected = []
        self.code = 0


def parse(path):
    nodes = None
    steps = []
    with open(path, encoding="utf-8") as file:
        for number, text in enumerate(file.read().split("\n"), 1):
            if text.startswith("$ "):
                steps.append(Step(number, text[2:]))
            elif text.startswith("# "):
                continue
            elif not steps and text.startswith("nodes "):
                nodes = int(text.split()[1])
            elif steps and re.fullmatch(r"\[\d+\]", text):
                steps[-1].code = int(text[1:-1])
            elif steps:
                steps[-1].expected.append(text)
            elif text:
                raise Failed(f"{path}:{number}: '{text}' before the first command")
    if nodes is None or not steps:
        raise Failed(f"{path}: no 'nodes N' line, or no command")
    for step in steps:
        while step.expected and step.expected[-1] == "":
            step.expected.pop()
    return nodes, steps


def pattern(lines):
    """A regular expression for all of the output."""
    parts = []
    for line in lines:
        if line == "…":
            parts.append("(?:.*\n)*?")
            continue
        words = re.split("(" + "|".join(map(re.escape, PLACEHOLDERS)) + ")", line)
        parts.append("".join(PLACEHOLDERS.get(w, re.escape(w)) for w in words) + "\n")
    return "".join(parts)


def settle(cluster):
    """All nodes have applied what the leader has."""
    def look():
        status = cluster.status()
        applied = {node["applied"] for node in status["nodes"]} if status else ()
        return len(applied) == 1
    wait_for("all nodes have applied the same", look)


def play(path, workdir):
    nodes, steps = parse(path)
    cluster = Cluster(nodes) if nodes else None
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith("QUORLOG")}
    environment["PATH"] = os.path.dirname(os.path.abspath(QUORLOG)) + ":" + environment["PATH"]
    environment["LC_ALL"] = "C.UTF-8"
    nobody = free_ports(1)[0]
    environment["NOBODY"] = f"127.0.0.1:{nobody}"
    environment["QUORLOG_SERVER"] = environment["NOBODY"]
    failures = 0
    try:
        if cluster:
            cluster.start_all()
            for i in cluster.ids():
                environment[f"N{i}"] = cluster.address(i)
                environment[f"P{i}"] = str(cluster.ports[i - 1])
                environment[f"PID{i}"] = str(cluster.nodes[i].pid)
            environment["QUORLOG_SERVER"] = cluster.address(1)
        for step in steps:
            done = subprocess.run(["sh", "-c", step.command], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=workdir,
                                  env=environment, timeout=SECONDS_MAX)
            output = done.stdout.decode("utf-8", errors="backslashreplace")
            if output and not output.endswith("\n"):
                output += "\n"
            if done.returncode != step.code or not re.fullmatch(pattern(step.expected), output):
                failures += 1
                print(f"{path}:{step.line}: $ {step.command}\nexpected exit code {step.code}:\n"
                      + "".join(f"    {line}\n" for line in step.expected)
                      + f"got exit code {done.returncode}:\n"
                      + "".join(f"    {line}\n" for line in output.splitlines()), file=sys.stderr)
            if cluster and re.search("topic create|topic delete|produce|cursor|-c ", step.command) \
                    and all(cluster.running(i) for i in cluster.ids()):
                settle(cluster)
    finally:
        if cluster:
            cluster.close()
    print(f"{os.path.basename(path)}: {len(steps)} commands, {failures} failed")
    return failures


def self_test():
    """That a transcript can fail."""
    expect = [
        (["a<number>", "b"], "a17\nb\n", True),
        (["a<number>"], "ab\n", False),
        (["a", "…", "z"], "a\nm\nn\nz\n", True),
        (["a", "…", "z"], "a\nz\n", True),
        (["a", "…", "z"], "a\nm\n", False),
        (["x … y"], "x 1 2 y\n", True),
        ([], "something\n", False),
        (["a.c"], "abc\n", False),
        (["<time> <hex>"], "2026-11-22T10:00:00.000001Z 00ff\n", True),
    ]
    for lines, output, matches in expect:
        if bool(re.fullmatch(pattern(lines), output)) != matches:
            raise Failed(f"self test: {lines} against {output!r}")


def main():
    failures = 0
    self_test()
    for path in sys.argv[1:]:
        with tempfile.TemporaryDirectory(prefix="quorlog-transcript-") as workdir:
            try:
                failures += play(os.path.abspath(path), workdir)
            except (Failed, subprocess.TimeoutExpired) as failure:
                print(f"{path}: {failure}", file=sys.stderr)
                failures += 1
    sys.exit(1 if failures or len(sys.argv) == 1 else 0)


if __name__ == "__main__":
    main()
