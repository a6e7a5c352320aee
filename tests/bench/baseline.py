"""What tests/bench/run found earlier, kept in a file, and what has become slower since."""

import json

# Less than that share of a figure is no news, even where all rounds agree.
SHARE_MIN = 0.05


def of_result(result):
    """What of a run is kept: its ratios, and where they were measured."""
    kept = {name: result[name] for name in ("date", "machine", "buildtype", "rounds", "seconds")}
    kept["ratios"] = {one["key"]: {name: one[name] for name in ("name", "value", "spread", "at_most", "unit")}
                      for section in result["sections"].values() for one in section["ratios"]}
    return kept


def merge(old, new):
    """A run of some sections replaces these, where the rest was measured in the same way."""
    same = old and all(old[name] == new[name] for name in ("machine", "buildtype", "rounds", "seconds"))
    return {**new, "ratios": {**old["ratios"], **new["ratios"]}} if same else new


def load(path):
    """None when there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def save(path, kept):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(kept, file, indent=1, sort_keys=True)
        file.write("\n")


def worse_by(old, new):
    """How much worse the new value is, beyond 0, and how much of that says nothing."""
    sign = 1 if old["at_most"] else -1
    return (sign * (new["value"] - old["value"]),
            max(old["spread"], new["spread"], SHARE_MIN * abs(old["value"])))


def compare(old, new):
    """Lines: what differs in how it was measured, and what became slower, or is missing now."""
    different = [f"{name}: the baseline's is {old[name]}, this run's {new[name]}"
                 for name in ("machine", "buildtype", "rounds", "seconds") if old[name] != new[name]]
    slower = []
    for key, before in sorted(old["ratios"].items()):
        now = new["ratios"].get(key)
        if now is None:
            continue
        change, noise = worse_by(before, now)
        if change > noise:
            unit = f" {now['unit']}" if now["unit"] else ""
            slower.append(f"{now['name']}: {before['value']:.3f}{unit} before ({old['date']}), "
                          f"{now['value']:.3f}{unit} now; the rounds differ by {noise:.3f}")
    return different, slower
