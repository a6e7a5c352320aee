#!/usr/bin/env bash
# The manual pages are in step with the program: check-man.sh QUORLOG quorlog.1 quorlog.conf.5
set -euo pipefail

quorlog=$1 page=$2 conf=$3
bad=0
complain() { echo "$*"; bad=1; }

diff <("$quorlog" --completion-helper | sort) <(sed -n 's/^\.It Cm //p' "$page" | sort) ||
    complain "$page: other commands (>) than the program's (<)"
diff <("$quorlog" config show --sample | sed -n 's/^#\([a-z_]*\) =.*/\1/p') <(sed -n 's/^\.It Ic //p' "$conf") ||
    complain "$conf: other keys (>) than the program's (<)"
# Each exit code of the overview has its item.
for code in $("$quorlog" --help | sed -n 's/.*Exit codes: //p' | grep -o '[0-9][0-9]*'); do
    grep -qx "\.It $code" "$page" || complain "$page: exit code $code is missing"
done
if command -v mandoc >/dev/null; then
    mandoc -T lint -W warning "$page" "$conf" || complain "mandoc finds fault"
fi
exit $bad
