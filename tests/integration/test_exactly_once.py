"""Exactly once, and answers that can be believed: retries across leaders' deaths, a producer that is
killed and goes on, fencing, conditional appends, acks of all voters."""

import json
import os
import random
import signal
import subprocess
import threading
import time

from cluster import QUORLOG, expect, main, run, wait_for

LINES = 60000


def values(cluster, node, topic):
    return run("consume", topic, "-o", "start", "-s", cluster.address(node),
               timeout=120).stdout.decode().splitlines()


def check_lines(cluster, topic, count):
    cluster.wait_equal(topic)
    wanted = [f"line {i}" for i in range(count)]
    for node in cluster.ids():
        found = values(cluster, node, topic)
        expect(found == wanted, f"node {node}: {len(found)} lines of {topic}, {count} were produced, "
               f"{len(set(found))} of them different")


def write_lines(path, begin, end):
    with open(path, "a", encoding="ascii") as file:
        file.writelines(f"line {i}\n" for i in range(begin, end))


def resume(cluster, topic, path, state, **more):
    return run("produce", topic, path, "--resume", state, "-s", cluster.servers(), timeout=120,
               **more)


def killed_producers(cluster):
    """Each line is written once, however often the producer is killed, and a leader with it."""
    path = os.path.join(cluster.dir, "input")
    state = os.path.join(cluster.dir, "state")
    write_lines(path, 0, LINES)
    run("topic", "create", "resumed", "-s", cluster.servers())
    kills = 0
    for attempt in range(12):
        process = subprocess.Popen([QUORLOG, "produce", "resumed", path, "--resume", state, "-s",
                                    cluster.servers()], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        time.sleep(random.uniform(0.005, 0.08))
        if attempt == 5:
            leader = cluster.wait_leader()
            cluster.kill(leader)
            cluster.start(leader)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        process.communicate()
    expect(kills > 0, "no producer was killed in the middle")
    resume(cluster, "resumed", path, state)
    check_lines(cluster, "resumed", LINES)
    # What is added to the file is written by the next run, and nothing else.
    write_lines(path, LINES, LINES + 10)
    done = resume(cluster, "resumed", path, state)
    expect(b": 10 records at" in done.stdout, f"not the ten new lines: {done.stdout}")
    done = resume(cluster, "resumed", path, state)
    expect(b": 0 records" in done.stdout, f"nothing was new: {done.stdout}")
    # The same through a pipe, which is given again from its beginning.
    with open(path, "rb") as file:
        data = file.read()
    done = run("produce", "resumed", "--resume", state, "-s", cluster.servers(),
               input=data + b"line %d\n" % (LINES + 10))
    expect(b": 1 record at" in done.stdout, f"not the one new line: {done.stdout}")
    check_lines(cluster, "resumed", LINES + 11)
    other = run("produce", "other", path, "--resume", state, "-s", cluster.servers(), check=False)
    expect(other.returncode == 1 and b"belongs to topic" in other.stderr, f"{other.stderr}")
    print(f"{kills} producers killed, {LINES + 11} lines, each once", flush=True)


def fencing(cluster):
    """Two runs with copies of one state: the older is fenced, and says so."""
    state = os.path.join(cluster.dir, "fenced")
    copy = os.path.join(cluster.dir, "copy")
    run("topic", "create", "fenced", "-s", cluster.servers())
    old = subprocess.Popen([QUORLOG, "produce", "fenced", "--resume", state, "-s",
                            cluster.servers()], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE)
    old.stdin.write(b"line 0\n")
    old.stdin.flush()
    wait_for("the first line is written",
             lambda: run("consume", "fenced", "-s", cluster.servers()).stdout == b"line 0\n")
    with open(state, "rb") as source, open(copy, "wb") as target:
        target.write(source.read())
    again = run("produce", "fenced", "--resume", state, "-s", cluster.servers(), input=b"",
                check=False)
    expect(again.returncode == 1 and b"in use" in again.stderr, f"{again.stderr}")
    run("produce", "fenced", "--resume", copy, "-s", cluster.servers(), input=b"line 0\nline 1\n")
    _, errors = old.communicate(b"line 1 of the old one\n", timeout=60)
    expect(old.returncode == 1, f"the old producer ended with {old.returncode}")
    expect(b"took over" in errors and b"1 are not written" in errors, f"{errors}")
    check_lines(cluster, "fenced", 2)


def conditional(cluster):
    """Of appends that expect the same end one is written, whole; a leader dies meanwhile."""
    run("topic", "create", "race", "-s", cluster.servers())
    won = {0: [], 1: []}
    rounds = 12

    def race(who):
        for i in range(rounds):
            done = run("produce", "race", "--expect-offset", str(2 * i), "--json", "-s",
                       cluster.servers(), input=f"{who} {i} a\n{who} {i} b\n".encode(), check=False)
            if done.returncode == 0:
                offsets = [json.loads(line)["offset"] for line in done.stdout.splitlines()]
                expect(offsets == [2 * i, 2 * i + 1], f"{offsets} in round {i}")
                won[who].append(i)
            else:
                errors.append(done.stderr)
            wait_for("the round is over", lambda: end(cluster, "race") >= 2 * i + 2)

    errors = []
    threads = [threading.Thread(target=race, args=(who,)) for who in (0, 1)]
    for thread in threads:
        thread.start()
    leader = cluster.wait_leader()
    cluster.kill(leader)
    cluster.start(leader)
    for thread in threads:
        thread.join(120)
    expect(sorted(won[0] + won[1]) == list(range(rounds)), f"winners: {won}, {errors}")
    for text in errors:
        expect(b"the log ends at" in text and b"2 are not written" in text, f"{text}")
    cluster.wait_equal("race")
    found = values(cluster, 1, "race")
    wanted = [f"{0 if i in won[0] else 1} {i} {part}" for i in range(rounds) for part in "ab"]
    expect(found == wanted, f"{found}, not {wanted}")


def end(cluster, topic):
    done = run("topic", "describe", topic, "--json", "-s", cluster.servers(), check=False)
    return json.loads(done.stdout)["end"] if done.returncode == 0 else 0


def atomic(cluster):
    """All lines in one batch, or none."""
    run("topic", "create", "atomic", "-s", cluster.servers())
    lines = b"".join(b"%d %s\n" % (i, b"x" * 1000) for i in range(2000))
    done = run("produce", "atomic", "--atomic", "-s", cluster.servers(), input=lines, check=False)
    expect(done.returncode == 1 and b"do not fit into one batch" in done.stderr, f"{done.stderr}")
    expect(end(cluster, "atomic") == 0, "a part of it was written")
    run("produce", "atomic", "--atomic", "-s", cluster.servers(), input=lines[:500000] + b"\n")
    wait_for("what fits is written", lambda: end(cluster, "atomic") > 400)


def acks(cluster):
    """--acks all waits for a follower that is stopped, or tells that it is written without it."""
    cluster.wait_leader()
    run("topic", "create", "acked", "-s", cluster.servers())
    done = run("produce", "acked", "--acks", "all", "--json", "-s", cluster.servers(),
               input=b"one\n")
    answer = json.loads(done.stdout)
    expect(answer["replicas"] == 3 and answer["voters"] == 3, f"{answer}")
    asleep = cluster.followers()[0]
    awake = ",".join(cluster.address(i) for i in cluster.ids() if i != asleep)
    cluster.pause(asleep)
    plain = run("produce", "acked", "--json", "-s", awake, input=b"two\n")
    expect(json.loads(plain.stdout)["replicas"] == 2, f"{plain.stdout}")
    late = run("produce", "acked", "--acks", "all", "--json", "--timeout", "1500", "-s", awake,
               input=b"three\n", check=False)
    expect(late.returncode == 1, "not all voters have it, and nothing is said")
    expect(b"written at offset 2" in late.stderr and b"2 of 3 voters" in late.stderr and
           b"1 are written but not confirmed" in late.stderr, f"{late.stderr}")
    expect(json.loads(late.stdout)["offset"] == 2, f"{late.stdout}")
    waits = subprocess.Popen([QUORLOG, "produce", "acked", "--acks", "all", "--json", "-s", awake],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    waits.stdin.write(b"four\n")
    waits.stdin.close()
    wait_for("it is written", lambda: end_at(awake, "acked") == 4)
    time.sleep(0.3)
    expect(waits.poll() is None, "it did not wait for all voters")
    cluster.resume(asleep)
    expect(json.loads(waits.stdout.read())["replicas"] == 3, "not on all disks")
    expect(waits.wait(30) == 0, "the follower is back, and acks all fails")
    # The leader that knows goes: it is written, and that is said.
    asleep = cluster.followers()[0]
    leader = cluster.wait_leader()
    cluster.pause(asleep)
    last = subprocess.Popen([QUORLOG, "produce", "acked", "--acks", "all", "-s",
                             cluster.address(leader)], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    last.stdin.write(b"five\n")
    last.stdin.close()
    wait_for("it is written", lambda: end_at(cluster.address(leader), "acked") == 5)
    cluster.kill(leader, how=signal.SIGTERM)
    expect(last.wait(30) == 1, "nobody confirmed it")
    errors = last.stderr.read()
    expect(b"written but not confirmed" in errors, f"{errors}")
    cluster.resume(asleep)
    cluster.start(leader, wait=True)
    expect(cluster.wait_equal("acked") == 5, "five records were written")
    last.stdout.close()
    last.stderr.close()
    waits.stdout.close()


def end_at(servers, topic):
    done = run("topic", "describe", topic, "--json", "-s", servers, check=False)
    return json.loads(done.stdout)["end"] if done.returncode == 0 else None


def test(cluster):
    cluster.start_all()
    killed_producers(cluster)
    fencing(cluster)
    conditional(cluster)
    atomic(cluster)
    acks(cluster)


if __name__ == "__main__":
    main(test)
