"""A backup of the cluster as it runs, read again, restored as a cluster of its own, compared."""

import hashlib
import json
import os
import shutil
import subprocess

from cluster import QUORLOG, Cluster, Failed, expect, run
from fault import Fault

COMPACTED = "topic-1"  # as load.h says


def digest(servers, topic, count):
    """Of so many records from the topic's start, as a node of these tells them."""
    process = subprocess.Popen(
        [QUORLOG, "consume", topic, "-o", "start", "-n", str(count), "-f", "%o %k %v\\n", "-s",
         servers, "--timeout", "20000"], stdout=subprocess.PIPE)
    found = hashlib.sha256()
    while data := process.stdout.read(1 << 20):
        found.update(data)
    process.stdout.close()
    expect(process.wait(60) == 0, f"consume {topic} from {servers}: exit {process.returncode}")
    return found.hexdigest()


def records_below(servers, topic, end):
    """(key, record) by offset, of what the nodes have of a compacted topic below that offset."""
    process = subprocess.Popen([QUORLOG, "consume", topic, "-o", "start", "--json", "-s", servers,
                                "--timeout", "20000"], stdout=subprocess.PIPE)
    found = {}
    for line in process.stdout:
        record = json.loads(line)
        if record["offset"] >= end:
            break
        found[record["offset"]] = (json.dumps(record["key"]), line)
    else:
        expect(process.wait(60) == 0, f"consume {topic} from {servers}: exit {process.returncode}")
    process.kill()
    process.stdout.close()
    process.wait()
    return found


def last_offsets(records):
    """Of each key."""
    last = {}
    for offset, (key, _) in records.items():
        last[key] = max(offset, last.get(key, 0))
    return last


def compare_views(topic, restored, running):
    """Each of two copies of a compacted topic may lack what a later record of its key supersedes."""
    last = last_offsets(restored)
    for offset, (key, record) in running.items():
        if offset in restored:
            expect(restored[offset][1] == record, f"{topic}: the record at {offset} is another one in the backup")
        else:
            expect(last.get(key, -1) > offset, f"{topic}: the backup lacks the record at {offset}, the last of {key}")


def topics(servers):
    said = run("topic", "list", "--json", "-s", servers).stdout.decode()
    return {line["name"]: line for line in map(json.loads, said.splitlines())}


class Backup(Fault):
    """Backup and restore."""

    name = "backup"
    scope = "data"
    about = "a backup is made of the running cluster (again into the same directory half of the " \
            "time), read again, restored as a cluster of its own, whose records are compared"
    seconds = (0.0, 0.0)

    def draw(self, variant):
        self.again = self.rng.random() < 0.5
        self.members = self.rng.choice((1, 3))
        return f"{'again' if self.again else 'anew'}, restored on {self.members}"

    def inject(self):
        where = os.path.join(self.cluster.base, "backup")
        if not self.again:
            shutil.rmtree(where, ignore_errors=True)
        servers = self.cluster.servers()
        run("backup", where, "-s", servers, timeout=300)
        held = json.loads(run("backup", "--verify", where, "--json", timeout=300).stdout)
        self.cluster.count("backups")
        copy = Cluster(self.members, options=["--scrub-rate", "0"])
        try:
            names = {self.restore(copy, where, node) for node in copy.ids()}
            expect(len(names) == 1, f"restored members have different names: {names}")
            copy.options += ["--cluster", names.pop()]
            copy.start_all()
            self.compare(copy, servers, held)
        finally:
            copy.close()
            shutil.rmtree(copy.dir, ignore_errors=True)

    def restore(self, copy, where, node):
        done = run("restore", where, "--data", copy.data(node), "--id", str(node), "--bootstrap",
                   copy.bootstrap, "--cluster", "copy", "--json", timeout=300)
        return json.loads(done.stdout)["cluster"]

    def compare(self, copy, servers, held):
        now = topics(servers)
        records = 0
        for topic, info in topics(copy.servers()).items():
            count = info["end"] - info["start"]
            records += count
            if topic not in now or now[topic]["id"] != info["id"] or count == 0:
                continue  # Deleted since, or nothing to compare.
            if topic == COMPACTED:
                running = records_below(servers, topic, info["end"])
                for node in copy.ids():
                    compare_views(topic, records_below(copy.address(node), topic, info["end"]), running)
                continue
            for node in copy.ids():
                if digest(copy.address(node), topic, count) != digest(servers, topic, count):
                    raise Failed(f"the backup of {topic} is not what node {node} restored, or what "
                                 "the cluster has")
        expect(records == held["records"], f"restored {records} records, the backup has {held}")

    def heal(self):
        pass
