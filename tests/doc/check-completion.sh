#!/usr/bin/env bash
# What the bash completion offers: check-completion.sh QUORLOG quorlog.bash
set -uo pipefail # As in a shell that completes: no -e.

quorlog=$1
# shellcheck source=/dev/null
. "$2"
bad=0

# offers WORD… -- EXPECTED…: what is offered for the last of the words, in any order.
offers() {
    local -a words=() expected
    local found

    while [ "$1" != -- ]; do
        words+=("$1")
        shift
    done
    shift
    expected=("$@")
    COMP_WORDS=("$quorlog" "${words[@]}")
    COMP_CWORD=${#words[@]}
    COMPREPLY=()
    _quorlog
    found=$(printf '%s\n' "${COMPREPLY[@]}" | sort)
    if [ "$found" != "$(printf '%s\n' "${expected[@]}" | sort)" ]; then
        printf 'quorlog %s: offered: %s; expected: %s\n' "${words[*]}" "${found//$'\n'/ }" "${expected[*]}"
        bad=1
    fi
}

offers prod -- produce
offers c -- check config cluster consume cursor
offers topic '' -- create list describe alter trim delete
offers topic d -- describe delete
offers produce --key -- --key= --key-separator=
offers produce events --cr -- --create
offers topic list --j -- --json
offers cluster health -- health
offers produce fil -- ''
offers nonsense '' -- ''
# Every command is found, whether of one word or two.
while read -r -a words; do
    offers "${words[@]}" --help -- --help
done < <("$quorlog" --completion-helper)
exit $bad
