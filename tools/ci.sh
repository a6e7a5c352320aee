#!/usr/bin/env bash
# The whole CI, the same everywhere: what has to hold before a change lands.
#
#   tools/ci.sh            all steps, but for those that run on request
#   tools/ci.sh STEP…      only these, in the order of the list
#   tools/ci.sh --list     their names
#
# Each step's output is in build-ci/STEP.log. When a step fails, what is shown of it ends with the
# reason: of a test, how its output begins and ends; else how the step's does. A step that runs
# tests counts as many as it ran, any other counts as one; the last line is "N passed, N failed".
# The fuzz targets run beside the steps that mostly wait, on what these leave of the processors.
#
#   CI_JOBS=2            programs at a time
#   CI_SEED=N            the first seed of the step `seeds`; default: follows from the commit
#   CI_SEEDS=60          how many it tries of the whole stack, and five times as many of the driver
#   CI_FUZZ_SECONDS=30   how long each fuzz target runs
#   CI_NEMESIS_MINUTES=1 how long real processes are broken
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. tools/testlog.sh

steps=(deps layers shell format gcc clang hardening unit sim exhaustive seeds integration nemesis asan tsan
    fuzz coverage tidy container)
on_request=(tidy-all) # Takes too long, or finds too much that is none.
idle_step=fuzz        # Runs beside the steps from this one on, to its own place in the list:
idle_from=integration
jobs=${CI_JOBS:-2}
CI_SEEDS=${CI_SEEDS:-60}
out=$PWD/build-ci
skip_code=77
threaded=(base/budget base/disk_yield base/mailbox log/log_threads raft_fsm/journal_thread transport/link client/producer server/api
    server/session server/cluster integration/lines integration/kill)

# ---- building blocks ----

# cc NAME: the compiler, through ccache where there is one.
cc() { if command -v ccache >/dev/null; then echo "ccache $1"; else echo "$1"; fi; }

# build NAME COMPILER [OPTION…]
build() {
    local dir=$out/$1 compiler=$2

    shift 2
    if [ ! -e "$dir/build.ninja" ]; then
        CC=$(cc "$compiler") meson setup "$dir" --werror "$@" || return
    fi
    meson compile -C "$dir" -j "$jobs" --ninja-args=--quiet
}

# tests NAME [OPTION…]: of the build of that name; counts them.
tests() {
    local dir=$out/$1 code=0

    shift
    if [ ! -e "$dir/src/cli/quorlog" ]; then
        echo "the step that builds $dir did not succeed" >&2
        return 1
    fi
    testlog_run "$dir" --num-processes "$jobs" "$@" || code=$?
    testlog_count "$dir" >"$out/$step.counts"
    [ "$code" -eq 0 ] || testlog_failures "$dir" >"$out/$step.failures"
    return "$code"
}

# try COMMAND…: told before, and told again when it fails.
try() {
    echo "+ $*"
    "$@" || { echo "again: $*" >&2; return 1; }
}

skip() { echo "$*" >"$out/$step.skipped"; return "$skip_code"; }

# What follows from the commit, so that whoever checks it out tries the same.
commit_number() { echo $((16#$(git rev-parse HEAD | cut -c 1-7))); }

sources() { git ls-files '*.c' '*.h'; }

# ---- steps ----

step_deps() { scripts/deps --lint; }

step_layers() { tools/check-layers.sh && tools/check-layers.sh --self-test; }

step_shell() {
    local -a files

    mapfile -t files < <(git ls-files | while read -r file; do
        [ ! -f "$file" ] || ! head -n 1 "$file" | grep -Eq '^#!.*\b(ba)?sh$|^# shellcheck' || echo "$file"
    done)
    shellcheck -x "${files[@]}"
}

# Formatters of different versions disagree: the one that .clang-format names decides.
step_format() {
    local wanted found

    wanted=$(sed -n 's/^# clang-format \([0-9]*\).*/\1/p' .clang-format)
    found=$(clang-format --version | sed -n 's/.*version \([0-9]*\).*/\1/p')
    [ "$found" = "$wanted" ] || { skip "clang-format $found here, $wanted wanted"; return; }
    sources | xargs clang-format --dry-run -Werror
}

# As it is released, but for what -O2 -g costs nothing.
step_gcc() { build gcc gcc --buildtype=debugoptimized; }

# What clang warns of does not depend on how the code is instrumented: one build is enough.
step_clang() { build asan clang -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1; }

step_hardening() { tools/check-hardening.sh "$out/gcc/src/cli/quorlog"; }

step_unit() { tests gcc --suite unit --suite lint; }

step_sim() { tests gcc --suite sim; }

step_exhaustive() { tests gcc --suite exhaustive; }

# Histories that no change before had: the seeds follow from the commit, so that whoever checks it out has
# the same ones. What fails says its seed; the same command shows it again.
step_seeds() {
    local seed=${CI_SEED:-} flags

    [ -n "$seed" ] || seed=$(commit_number)000
    for flags in '--fifo --deaf' '--reorder --long-stalls --news' '--fifo --long-stalls --reads'; do
        # shellcheck disable=SC2086 # Flags are words.
        try "$out/gcc/tests/sim/sim_driver" --seed "$seed" --count "$((CI_SEEDS * 5))" --jobs "$jobs" $flags ||
            return
    done
    try "$out/gcc/src/cli/quorlog" sim --seed "$seed" --count "$CI_SEEDS" --jobs "$jobs"
}

# Real processes that are broken at random under load; the checker decides.
step_nemesis() {
    rm -rf "$out/nemesis"
    NEMESIS_BUILD=$out/gcc try tests/nemesis/run --minutes "${CI_NEMESIS_MINUTES:-1}" --out "$out/nemesis"
}

step_integration() { tests gcc --suite integration --suite cli --timeout-multiplier 2; }

step_asan() {
    step_clang || return
    tests asan --suite unit --timeout-multiplier 5
}

# What has threads. Addresses that are too random keep the sanitizer from starting; they are inherited.
step_tsan() {
    build tsan clang -Db_sanitize=thread -Db_lundef=false -Doptimization=1 || return
    ! setarch -R true 2>/dev/null || testlog_prefix=(setarch -R)
    export TSAN_OPTIONS="halt_on_error=1 second_deadlock_stack=1"
    tests tsan --timeout-multiplier 5 "${threaded[@]}"
}

# What is found, but no failure, stays in build-fuzz/ for the next run. A target counts as a test.
# Its build is one of its own, with counters for the fuzzer in everything.
step_fuzz() {
    local code=0 targets

    scripts/deps --fuzz || return
    CC=$(cc clang) try tests/fuzz/run --seconds "${CI_FUZZ_SECONDS:-30}" --jobs "$jobs" --seed "$(commit_number)" ||
        code=$?
    targets=$(tests/fuzz/run --list | wc -l)
    if [ "$code" -eq 0 ]; then
        echo "$targets 0 0" >"$out/$step.counts"
    else
        sed -n '/FAILED/p; /^--- /,$p; /^run: /p' "$out/$step.log" >"$out/$step.failures"
    fi
    return "$code"
}

# Of the tests that run in one process: unit tests, servers, a few simulated histories. Processes that
# are killed write no counts.
step_coverage() {
    scripts/deps --coverage || return
    build coverage gcc -Db_coverage=true --buildtype=debug || return
    find "$out/coverage" -name '*.gcda' -delete
    tests coverage --suite log --suite raft_fsm --suite server --timeout-multiplier 5 || return
    try "$out/coverage/tests/sim/sim_driver" --seed 1 --count 20 --jobs "$jobs" --fifo --reads || return
    try "$out/coverage/src/cli/quorlog" sim --seed 1 --count 5 --jobs "$jobs" || return
    tools/coverage "$out/coverage" --min log=90 --min raft_fsm=90
}

# tidy [CHECKS]: .clang-tidy's checks, or what CHECKS takes from them.
tidy() {
    local runner

    runner=$(command -v run-clang-tidy) || { skip "no run-clang-tidy"; return; }
    "$runner" -quiet -p "$out/asan" -j "$jobs" ${1:+"-checks=$1"} "$PWD/src/.*\.c$"
}

# Those that are quick: the analyzer takes minutes.
step_tidy() {
    tidy '-*,cert-err33-c,misc-*,-misc-unused-parameters,-misc-no-recursion,performance-*,-performance-no-int-to-ptr,readability-function-size,readability-identifier-naming'
}

step_tidy-all() { tidy; }

# An engine that runs, or one that a helper beside the clone can start.
docker_engine() {
    local helper=../shared/tools/docker-here.sh

    [ ! -x "$helper" ] || "$helper" trixie || true # What counts is whether one runs.
    docker info >/dev/null 2>&1
}

step_container() {
    docker_engine || { skip "no Docker engine"; return; }
    QUORLOG=$out/gcc/src/cli/quorlog tests/container/run
}

# ---- running them ----

passed=0
failed=0
report=()

seconds() { awk -v from="$1" -v to="$2" 'BEGIN {printf "%.1f", to - from}'; }
now() { date +%s.%N; }

# show_failure STEP: what one wants to know first stands last.
show_failure() {
    local log=$out/$1.log

    if [ -s "$out/$1.failures" ]; then
        cat "$out/$1.failures"
    elif [ "$(wc -l <"$log")" -le 80 ]; then
        cat "$log"
    else
        head -n 10 "$log"
        echo "…"
        tail -n 60 "$log"
    fi
}

# do_step STEP: its exit code and the time that it took are in files, as all else that it tells.
do_step() {
    local step=$1 begin code=0

    rm -f "$out/$step".{counts,skipped,failures,code}
    begin=$(now)
    ("step_$step") >"$out/$step.log" 2>&1 || code=$?
    echo "$code $(seconds "$begin" "$(now)")" >"$out/$step.code"
}

# Mostly on what others leave of the processors; never so little that a slow input looks like an endless one.
begin_idle_step() {
    renice -n 10 -p "$BASHPID" >/dev/null
    do_step "$idle_step"
}

report_step() {
    local step=$1 code spent count_passed=0 count_failed=0 count_skipped=0 text=

    read -r code spent <"$out/$step.code"
    if [ -e "$out/$step.counts" ]; then
        read -r count_passed count_failed count_skipped <"$out/$step.counts"
        text="$count_passed passed, $count_failed failed, $count_skipped skipped"
    elif [ "$code" -eq 0 ]; then
        count_passed=1
    fi
    if [ "$code" -eq $skip_code ] && [ -e "$out/$step.skipped" ]; then
        text="skipped: $(cat "$out/$step.skipped")"
    elif [ "$code" -ne 0 ]; then
        [ "$count_failed" -gt 0 ] || count_failed=1
        text="FAILED${text:+ ($text)}; see build-ci/$step.log"
    fi
    passed=$((passed + count_passed))
    failed=$((failed + count_failed))
    report+=("$(printf '%-12s %7s s  %s' "$step" "$spent" "${text:-ok}")")
    printf '\r%s\n' "${report[-1]}"
    [ "$count_failed" -eq 0 ] || show_failure "$step" | sed 's/^/    /'
}

idle_pid=
run_step() {
    if [ "$1" = $idle_from ] && wanted $idle_step; then
        begin_idle_step &
        idle_pid=$!
    fi
    printf '%-12s … ' "$1"
    if [ "$1" = $idle_step ] && [ -n "$idle_pid" ]; then
        wait "$idle_pid"
    else
        do_step "$1"
    fi
    report_step "$1"
}

for name in "$@"; do
    if [ "$name" = --list ]; then
        printf '%s\n' "${steps[@]}" "${on_request[@]/%/ (on request)}"
        exit 0
    fi
    [[ " ${steps[*]} ${on_request[*]} " == *" $name "* ]] ||
        { echo "ci: no step '$name'; there are: ${steps[*]} ${on_request[*]}" >&2; exit 2; }
done

# wanted STEP: of the words of the command line, or of the list.
only=" $* "
wanted() { [[ $only == *" $1 "* ]] || { [[ $only == "  " ]] && [[ " ${steps[*]} " == *" $1 "* ]]; }; }

mkdir -p "$out"
begin=$(now)
for name in "${steps[@]}" "${on_request[@]}"; do
    ! wanted "$name" || run_step "$name"
done

echo
printf '%s\n' "${report[@]}"
printf '%-12s %7s s\n\n' total "$(seconds "$begin" "$(now)")"
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
