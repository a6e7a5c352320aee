#!/usr/bin/env bash
# The whole CI, the same everywhere: what has to hold before a change lands.
#
#   tools/ci.sh            all steps
#   tools/ci.sh STEP…      only these, in the order of the list
#   tools/ci.sh --list     their names
#
# Each step's output is in build-ci/STEP.log, and its end is shown when the step fails. A step that
# runs tests counts as many as it ran, any other counts as one; the last line is "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. tools/testlog.sh

steps=(deps layers shell format gcc clang hardening unit sim integration asan tsan tidy container)
jobs=${CI_JOBS:-2}
out=$PWD/build-ci
skip_code=77

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
    testlog_count "$dir" >"$out/counts"
    return "$code"
}

skip() { echo "$*" >"$out/skipped"; return "$skip_code"; }

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

step_clang() { build clang clang --buildtype=debugoptimized; }

step_hardening() { tools/check-hardening.sh "$out/gcc/src/cli/quorlog"; }

step_unit() { tests gcc --suite unit --suite lint; }

step_sim() { tests gcc --suite sim; }

step_integration() { tests gcc --suite integration --suite cli --timeout-multiplier 2; }

step_asan() {
    build asan clang -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1 || return
    tests asan --suite unit --timeout-multiplier 5
}

# What has threads of its own. Addresses that are too random keep the sanitizer from starting.
step_tsan() {
    local -a fixed=()

    build tsan clang -Db_sanitize=thread -Db_lundef=false -Doptimization=1 || return
    ! setarch -R true 2>/dev/null || fixed=(setarch -R)
    export TSAN_OPTIONS="halt_on_error=1 second_deadlock_stack=1 suppressions=$PWD/tools/tsan.supp"
    tests tsan ${fixed:+--wrapper} ${fixed:+"${fixed[*]}"} --timeout-multiplier 5 "${threaded[@]}"
}

step_tidy() {
    local runner

    runner=$(command -v run-clang-tidy) || { skip "no run-clang-tidy"; return; }
    "$runner" -quiet -p "$out/clang" -j "$jobs" "$PWD/src/.*\.c$"
}

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

threaded=(base/mailbox log/log_threads raft_fsm/journal_thread)

# ---- running them ----

passed=0
failed=0
report=()

seconds() { awk -v from="$1" -v to="$2" 'BEGIN {printf "%.1f", to - from}'; }
now() { date +%s.%N; }

run_step() {
    local name=$1 begin code=0 count_passed=0 count_failed=0 count_skipped=0 text=

    rm -f "$out/counts" "$out/skipped"
    begin=$(now)
    printf '%-12s … ' "$name"
    ("step_$name") >"$out/$name.log" 2>&1 || code=$?
    if [ -e "$out/counts" ]; then
        read -r count_passed count_failed count_skipped <"$out/counts"
        text="$count_passed passed, $count_failed failed, $count_skipped skipped"
    elif [ $code -eq 0 ]; then
        count_passed=1
    fi
    if [ $code -eq $skip_code ] && [ -e "$out/skipped" ]; then
        text="skipped: $(cat "$out/skipped")"
    elif [ $code -ne 0 ]; then
        [ "$count_failed" -gt 0 ] || count_failed=1
        text="FAILED${text:+ ($text)}; see build-ci/$name.log"
    fi
    passed=$((passed + count_passed))
    failed=$((failed + count_failed))
    report+=("$(printf '%-12s %7s s  %s' "$name" "$(seconds "$begin" "$(now)")" "${text:-ok}")")
    printf '\r%s\n' "${report[-1]}"
    [ "$count_failed" -eq 0 ] || tail -n 60 "$out/$name.log" | sed 's/^/    /'
}

for name in "$@"; do
    if [ "$name" = --list ]; then
        printf '%s\n' "${steps[@]}"
        exit 0
    fi
    [[ " ${steps[*]} " == *" $name "* ]] || { echo "ci: no step '$name'; there are: ${steps[*]}" >&2; exit 2; }
done

mkdir -p "$out"
begin=$(now)
for name in "${steps[@]}"; do
    [ $# -eq 0 ] || [[ " $* " == *" $name "* ]] || continue
    run_step "$name"
done

echo
printf '%s\n' "${report[@]}"
printf '%-12s %7s s\n\n' total "$(seconds "$begin" "$(now)")"
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
