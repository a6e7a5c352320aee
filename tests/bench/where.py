"""Where something was measured: the machine, and how the program was built. Standard library only."""

import json
import os
import platform
import re
import subprocess


def build_type(build):
    with open(os.path.join(build, "meson-info", "intro-buildoptions.json"), encoding="utf-8") as file:
        return next(o["value"] for o in json.load(file) if o["name"] == "buildtype")


def read_line(path, pattern):
    try:
        with open(path, encoding="utf-8") as file:
            found = re.search(pattern, file.read(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else "unknown"


def machine(path):
    done = subprocess.run(["findmnt", "-n", "-o", "FSTYPE,SOURCE", "-T", path],
                          capture_output=True, check=True)
    kib = read_line("/proc/meminfo", r"^MemTotal:\s*(\d+)")
    return (f"{os.cpu_count()} CPUs ({read_line('/proc/cpuinfo', r'^model name.*: *(.*)$')}), "
            f"{int(kib) / 2**20:.0f} GiB, Linux {platform.release()}, "
            f"{' on '.join(done.stdout.decode().split())}")
