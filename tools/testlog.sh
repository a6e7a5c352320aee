# To be sourced: runs tests with meson and counts them.
# shellcheck shell=bash

# testlog_count BUILD: "PASSED FAILED SKIPPED" of the last run of `meson test` in BUILD.
testlog_count() {
    # In what tests print, quotes are escaped: the pattern matches nothing but meson's own field.
    grep -o '"result": "[A-Z]*"' "$1/meson-logs/testlog.json" 2>/dev/null | awk -F'"' '
        $4 == "OK" || $4 == "EXPECTEDFAIL" {passed++; next}
        $4 == "SKIP" {skipped++; next}
        {failed++}
        END {print passed + 0, failed + 0, skipped + 0}'
}

# testlog_checks BUILD: how many test cases the programs of the last run say that they had.
testlog_checks() {
    grep -o '%: Checks: [0-9]*' "$1/meson-logs/testlog.json" 2>/dev/null |
        awk '{sum += $3} END {print sum + 0}'
}

# A command that meson is run by ("setarch -R").
testlog_prefix=()

# testlog_run BUILD [OPTION…]: meson test without building; fails also when no test was run.
testlog_run() {
    local build=$1 code=0 passed failed skipped

    shift
    rm -f "$build/meson-logs/testlog.json"
    "${testlog_prefix[@]}" meson test -C "$build" --no-rebuild --print-errorlogs "$@" || code=$?
    read -r passed failed skipped < <(testlog_count "$build")
    if [ $((passed + failed)) -eq 0 ]; then
        echo "no test was run ($skipped skipped)" >&2
        return 1
    fi
    return "$code"
}

# testlog_failures BUILD: what failed in the last run, each with how its output begins and ends.
testlog_failures() {
    [ ! -e "$1/meson-logs/testlog.json" ] ||
        python3 -B "$(dirname "${BASH_SOURCE[0]}")/testlog_failures.py" "$1"
}
