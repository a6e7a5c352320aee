"""Each fault once, in the shortest of its variants, on a running cluster under load: what it does is
done, the cluster is healthy afterwards, and the history holds. --all: all variants of all faults."""

import json
import os
import subprocess
import sys
import tempfile

RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "run")
SHORT = "kill,partition,power-cut,flip-offline,flip-online"
# fault → what it counts
DONE = {"kill": "kills", "partition": "partitions", "power-cut": "power cuts of all",
        "flip-offline": "bit flips in journal", "flip-online": "bit flips"}


def main():
    everything = "--all" in sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="quorlog-test-") as out:
        args = [sys.executable, "-B", RUN, "--seed", "11", "--each", "--clients", "4", "--out", out]
        if not everything:
            args.append(f"--faults={SHORT}")
        done = subprocess.run(args, check=False, timeout=580)
        if done.returncode != 0:
            return done.returncode
        with open(os.path.join(out, "result.json"), encoding="utf-8") as file:
            result = json.load(file)
        expected = [name for name in DONE if name not in result["left_out"]]
        missing = [name for name in expected if not result["counts"].get(DONE[name])]
        if missing or not result["faults"]:
            print(f"not done: {missing}; {result}", file=sys.stderr)
            return 1
        if result["check"] is None or not result["check"]["holds"]:
            print("there is no history that holds", file=sys.stderr)
            return 1
        print(f"left out here: {result['left_out'] or 'nothing'}")
        return 0


if __name__ == "__main__":
    sys.exit(main())
