#!/usr/bin/env bash
# Checks that a program was built so that a mistake in it is hard to make use of:
# tools/check-hardening.sh PROGRAM; exit 0 when all holds.
set -euo pipefail

program=${1:?usage: check-hardening.sh PROGRAM}
bad=0

# holds TEXT COMMAND…
holds() {
    local text=$1

    shift
    if "$@"; then
        echo "ok      $text"
    else
        echo "MISSING $text"
        bad=1
    fi
}

header=$(readelf -hW "$program")
segments=$(readelf -lW "$program")
dynamic=$(readelf -dW "$program")
symbols=$(readelf --dyn-syms -W "$program")

independent() { grep -q 'Type:.*DYN' <<<"$header" && grep -q 'FLAGS_1.*PIE' <<<"$dynamic"; }
bound_now() { grep -Eq 'BIND_NOW|FLAGS_1.*NOW' <<<"$dynamic"; }
stack_data() { grep -Eq 'GNU_STACK.* RW +0x' <<<"$segments"; }
no_rwx() { ! grep -Eq ' RWE +0x' <<<"$segments"; }
no_textrel() { ! grep -q TEXTREL <<<"$dynamic"; }

holds "position independent (PIE)" independent
holds "relocations are read-only (RELRO)" grep -q GNU_RELRO <<<"$segments"
holds "all symbols are bound at the start (BIND_NOW)" bound_now
holds "the stack is not executable" stack_data
holds "no segment is both writable and executable" no_rwx
holds "no relocations in the code (TEXTREL)" no_textrel
holds "stack protector" grep -q __stack_chk_fail <<<"$symbols"
holds "checked libc calls (FORTIFY_SOURCE)" grep -Eq '__[a-z]+_chk@' <<<"$symbols"
exit $bad
