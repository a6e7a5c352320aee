"""The link proxy (proxy.c) as an object."""

import json
import os
import subprocess
import threading

PROXY = os.environ.get("NEMESIS_PROXY", "build/tests/nemesis/proxy")


class ProxyError(Exception):
    """The proxy refused a command, or is gone."""


class Proxy:
    """A running proxy; its methods are its commands, and may be called from any thread."""

    def __init__(self, seed=1):
        self.process = subprocess.Popen([PROXY, "--seed", str(seed)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1,
                                        start_new_session=True)
        self.lock = threading.Lock()

    def command(self, *words):
        """Says a line and takes the answer."""
        line = " ".join(str(word) for word in words)
        with self.lock:
            try:
                self.process.stdin.write(line + "\n")
                self.process.stdin.flush()
                answer = self.process.stdout.readline()
            except (BrokenPipeError, ValueError) as error:
                raise ProxyError(f"{line}: the proxy is gone") from error
        if answer.startswith("error: ") or not answer:
            raise ProxyError(f"{line}: {answer.strip() or 'the proxy has ended'}")
        return answer

    def node(self, node, listen, target):
        self.command("node", node, listen, target)

    def move(self, node, target):
        self.command("move", node, target)

    def remove(self, node):
        self.command("remove", node)

    def block(self, a, b):
        self.command("block", a, b)

    def drop(self, a, b):
        self.command("drop", a, b)

    def open(self, a, b):
        self.command("open", a, b)

    def delay(self, a, b, delay_ms, jitter_ms=0):
        self.command("delay", a, b, delay_ms, jitter_ms)

    def rate(self, a, b, bytes_per_second):
        self.command("rate", a, b, bytes_per_second)

    def cut(self, a, b):
        self.command("cut", a, b)

    def heal(self):
        self.command("heal")

    def stats(self):
        return json.loads(self.command("stats"))

    def close(self):
        """Ends it; its exit code."""
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process.stdout.close()
        return code
