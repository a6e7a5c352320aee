"""Clusters whose members change: some nodes begin it, others join."""

import subprocess

from cluster import QUORLOG, expect, run, wait_for


def first_members(cluster, *nodes):
    """Only these begin the cluster."""
    cluster.bootstrap = ",".join(f"{i}={cluster.address(i)}" for i in nodes)
    for node in nodes:
        cluster.start(node)
    return cluster.wait_leader()


def join(cluster, node, *via, wait=True):
    """Starts a node that is to join."""
    args = [QUORLOG, "serve", "--id", str(node), "--listen", cluster.address(node), "--data",
            cluster.data(node), "--join", ",".join(cluster.address(i) for i in via),
            *cluster.options]
    with open(cluster.log_path(node), "ab") as log:
        cluster.nodes[node] = subprocess.Popen(args, stdout=log, stderr=log)
    if wait:
        wait_for(f"node {node} answers", lambda: cluster.status(node))


def running(cluster):
    return ",".join(cluster.address(i) for i in cluster.ids() if cluster.running(i))


def change(cluster, *args, wait=30, ok=True):
    """quorlog cluster …; what it said on both outputs."""
    done = run("cluster", *[str(a) for a in args], "-s", running(cluster), "--wait", str(wait),
               check=False, timeout=wait + 60)
    text = done.stdout.decode() + done.stderr.decode()
    expect((done.returncode == 0) == ok,
           f"cluster {' '.join(str(a) for a in args)}: exit {done.returncode}: {text}")
    return text


def refused(cluster, reason, *args):
    text = change(cluster, *args, ok=False)
    expect(reason in text, f"refused, but not for '{reason}': {text}")


def roles(cluster):
    """id → role, as the leader sees it."""
    leader = cluster.wait_leader()
    status = cluster.status(leader)
    return {n["id"]: n["role"] for n in status["nodes"]} if status else {}


def wait_ended(cluster, node, timeout=20):
    """Waits until a node has ended by itself; its exit code and log."""
    wait_for(f"node {node} ends", lambda: not cluster.running(node), timeout)
    with open(cluster.log_path(node), encoding="utf-8", errors="replace") as log:
        return cluster.nodes[node].returncode, log.read()
