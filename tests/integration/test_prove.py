"""A proof made by any node holds for the program and for a checker that shares nothing with it; a
byte of it changed, anywhere, holds for neither; and a proof of another history does not lead to this
head, however well it is made."""

import hashlib
import json
import os

from cluster import expect, main, run
import proof as independent

WRONG = (independent.Wrong, ValueError, KeyError, TypeError, AttributeError, independent.struct.error)


def holds(text, head=None):
    try:
        return independent.check(text, head)
    except WRONG:
        return None


def check(path, *args, code=0):
    done = run("prove", "--check", path, *args, check=False)
    expect(done.returncode == code, f"prove --check: exit {done.returncode}, not {code}: "
           f"{done.stdout.decode()} {done.stderr.decode()}")
    return done


def write(cluster, name, data):
    path = os.path.join(cluster.dir, name)
    with open(path, "wb") as file:
        file.write(data)
    return path


def describe(cluster, node, topic):
    return json.loads(run("topic", "describe", topic, "--json", "-s", cluster.address(node)).stdout)


def check_good(cluster):
    """Every record, from every node; the same bytes."""
    head = describe(cluster, 1, "t")
    for offset in range(head["end"]):
        seen = set()
        for node in cluster.ids():
            seen.add(run("prove", "t", str(offset), "-s", cluster.address(node)).stdout)
        expect(len(seen) == 1, f"nodes give other proofs of {offset}")
        text = seen.pop()
        expect(holds(text, head["digest"]) == ("t", offset, head["end"], head["digest"]),
               f"the proof of {offset} does not hold")
        path = write(cluster, "good", text)
        lines = check(path, "--head", head["digest"], "--json").stdout.splitlines()
        expect(json.loads(lines[0])["value"] == f"value-{offset}", f"{offset}: {lines[0]}")
        expect(json.loads(lines[1])["head"] == {"offset": head["end"], "digest": head["digest"]},
               f"{offset}: {lines[1]}")
        check(path, "--head", "0" * 64, code=1)
    said = check(path).stdout.decode()
    expect(f"head    {head['end']} {head['digest']}" in said and "The proof holds." in said, said)
    return head


def check_heads(cluster):
    """An earlier head: the last batch that ends there."""
    path = os.path.join(cluster.dir, "early")
    run("prove", "t", "2", "--at", "8", "-o", path, "-s", cluster.servers())
    with open(path, "rb") as file:
        text = file.read()
    proven = holds(text)
    expect(proven and proven[2] == 7, f"the head before 8 is not 7: {proven}")
    check(path, "--head", proven[3])
    early = run("prove", "t", "2", "--at", "7", "-s", cluster.servers()).stdout
    expect(early == text, "--at 7 and --at 8 differ")
    for args, word in ((("t", "2", "--at", "2"), b"no batch ends"), (("t", "99"), b"99"),
                       (("nowhere", "0"), b"nowhere"), (("empty", "0"), b"")):
        missing = os.path.join(cluster.dir, "none")
        done = run("prove", *args, "-o", missing, "-s", cluster.servers(), "--timeout", "3000",
                   check=False)
        expect(done.returncode == 1 and word in done.stderr, f"{args}: {done.stderr}")
        expect(not os.path.exists(missing) and not os.path.exists(missing + ".tmp"),
               f"{args}: left a file")


def resum(lines):
    body = b"".join(line + b"\n" for line in lines)
    return body + b'{"sha256":"%s"}\n' % hashlib.sha256(body).hexdigest().encode()


def check_tampering(cluster, head):
    """Every byte changed, one at a time: for the independent checker all, for the program (a process
    each) a part; tests/archive/test_proof.c changes every byte there."""
    text = run("prove", "t", "4", "-s", cluster.servers()).stdout
    expect(holds(text), "the proof does not hold")
    for place in range(len(text)):
        changed = bytearray(text)
        changed[place] ^= 1 << place % 8
        expect(not holds(bytes(changed)), f"byte {place} changed, and the checker does not see it")
        if place % 97 == 0 or place > len(text) - 4:
            done = check(write(cluster, "bad", changed), code=1)
            expect(b"proves nothing" in done.stderr, f"byte {place}: {done.stderr}")
    for size in (0, 1, len(text) // 2, len(text) - 1):
        expect(not holds(text[:size]), f"cut to {size}")
        check(write(cluster, "bad", text[:size]), code=1)
    check(write(cluster, "bad", text + b"\n"), code=1)
    # A forger sets the sum right.
    lines = text.splitlines()[:-1]
    expect(resum(lines) == text, "the sum is not as it is told")
    dropped = resum(lines[:1] + lines[2:])
    swapped = resum([lines[0], lines[2], lines[1], *lines[3:]])
    early = run("prove", "t", "4", "--at", "7", "-s", cluster.servers()).stdout
    for forged in (dropped, swapped):
        expect(not holds(forged), "a forged chain holds")
        check(write(cluster, "bad", forged), code=1)
    expect(holds(early) and not holds(early, head["digest"]), "an older head passes for the newer")
    check(write(cluster, "bad", early), "--head", head["digest"], code=1)


def test(cluster):
    cluster.start_all()
    for topic in ("t", "empty"):
        run("topic", "create", topic, "-s", cluster.servers())
    number = 0
    for count in (1, 3, 1, 2, 4, 1):  # batches: 0, 1-3, 4, 5-6, 7-10, 11
        data = "".join(f"value-{number + i}\n" for i in range(count))
        run("produce", "t", "-s", cluster.servers(), input=data.encode())
        number += count
    expect(cluster.wait_equal("t") == number, "not all there")
    head = check_good(cluster)
    check_heads(cluster)
    check_tampering(cluster, head)


if __name__ == "__main__":
    main(test)
