"""What failed in the last `meson test` of a build, so that the reason stands where one looks.

    python3 -B tools/testlog_failures.py BUILD

For each test that failed: how its output begins, how it ends, which is where tests say what was
wrong and how to see it again, and the command that runs it alone.
"""

import json
import os
import sys

FIRST, LAST = 12, 28  # lines that are shown
TESTS_MAX = 8


def shorten(text):
    lines = text.rstrip("\n").split("\n")
    if len(lines) <= FIRST + LAST + 1:
        return lines
    return lines[:FIRST] + [f"… {len(lines) - FIRST - LAST} lines …"] + lines[-LAST:]


def failures(build):
    path = os.path.join(build, "meson-logs", "testlog.json")
    with open(path, encoding="utf-8", errors="replace") as log:
        tests = [json.loads(line) for line in log if line.strip()]
    return [test for test in tests if test["result"] not in ("OK", "EXPECTEDFAIL", "SKIP")]


def main(build):
    failed = failures(build)
    for test in failed[:TESTS_MAX]:
        name = test["name"].split(" / ", 1)[-1]
        print(f"\n--- {name}: {test['result']} after {test['duration']:.1f} s, "
              f"exit code {test['returncode']}")
        for part in ("stdout", "stderr"):
            if test.get(part, "").strip():
                print("\n".join(shorten(test[part])))
        print(f"again: meson test -C {os.path.relpath(build)} {name} --verbose")
    if len(failed) > TESTS_MAX:
        print(f"\n… and {len(failed) - TESTS_MAX} more")


if __name__ == "__main__":
    main(sys.argv[1])
