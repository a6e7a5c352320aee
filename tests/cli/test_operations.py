"""docs/operations.md says what is so: its tables against the program and the sources. And that a
change of the leader is logged once on each node.

    test_operations.py SOURCE_DIR
"""

import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))

from cluster import QUORLOG, expect, main, wait_for  # noqa: E402

SOURCE = sys.argv[1]


def document():
    with open(os.path.join(SOURCE, "docs", "operations.md"), encoding="utf-8") as file:
        return file.read()


def section(title):
    text = document().split(f"\n## {title}\n", 1)
    expect(len(text) == 2, f"docs/operations.md has no section '{title}'")
    return text[1].split("\n## ", 1)[0]


def rows(title):
    """The cells of a section's table, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def check_configuration():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("QUORLOG_")}
    sample = subprocess.run([QUORLOG, "config", "show", "--sample"], capture_output=True,
                            check=True, text=True, env=environment).stdout
    said = {row[0].strip("`"): row for row in rows("Configuration")}
    names = []
    for block in sample.strip().split("\n\n"):
        meaning, allowed, setting = block.split("\n")
        name, _, value = setting.lstrip("#").partition(" = ")
        names.append(name)
        expect(name in said, f"{name} is not in docs/operations.md")
        default = f"`{value.strip()}`" if value.strip() else "(none)"
        words = allowed[3:-1]
        if words.startswith("one of "):
            words = "one of " + ", ".join(f"`{word}`" for word in words[7:].split("|"))
        wanted = [f"`{name}`", default, words, meaning[2:]]
        expect(said[name] == wanted, f"docs/operations.md: {said[name]} should be {wanted}")
    expect(list(said) == names, "docs/operations.md: names that are no setting, or another order")


def check_events():
    said = {row[0].strip("`"): row[1] for row in rows("Log events")}
    events = {}
    call = re.compile(r'diag_event\(\s*[^;]*?DIAG_[^;]*?,\s*"\w+",\s*"(\w+)"')
    for folder, _, names in os.walk(os.path.join(SOURCE, "src")):
        for name in names:
            if name.endswith(".c") and name != "diag.c":
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    text = file.read()
                found = call.findall(text)
                expect(len(found) == text.count("diag_event("),
                       f"{name}: {text.count('diag_event(')} events, {len(found)} understood")
                events.update((event, name) for event in found)
    expect(set(events) == set(said),
           f"docs/operations.md: missing {set(events) - set(said)}, gone {set(said) - set(events)}")


def changes(cluster, node):
    with open(cluster.log_path(node), encoding="utf-8") as log:
        return [(int(m[1]), int(m[2])) for m in
                re.finditer(r" INFO node=\d+ mod=server event=leader_changed term=(\d+) leader=(\d+)",
                            log.read())]


def check_leader_changes(cluster):
    cluster.start_all()
    old = cluster.wait_leader()
    for node in cluster.ids():
        wait_for(f"node {node} tells of leader {old}",
                 lambda n=node: changes(cluster, n) and changes(cluster, n)[-1][1] == old)
    cluster.kill(old)
    new = wait_for("another leader", lambda: cluster.leader() not in (None, old) and cluster.leader())
    for node in cluster.ids():
        if node != old:
            wait_for(f"node {node} tells of leader {new}",
                     lambda n=node: changes(cluster, n)[-1][1] == new)
            seen = changes(cluster, node)
            expect(all(a != b for a, b in zip(seen, seen[1:])), f"told twice: {seen}")
            terms = [term for term, _ in seen]
            expect(terms == sorted(terms), f"terms went back: {seen}")
            expect((seen[-1][0], old) not in seen, f"two leaders in a term: {seen}")


def test(cluster):
    check_configuration()
    check_events()
    check_leader_changes(cluster)


if __name__ == "__main__":
    main(test)
