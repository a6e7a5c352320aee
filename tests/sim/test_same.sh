#!/bin/sh
# A seed is a history, bit for bit: run again, with others, in another process, in another place.
set -eu

quorlog=$(realpath "$1")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"$quorlog" sim --seed 70 --count 6 --history "$dir/one"
mkdir "$dir/two"
(cd "$dir/two" && MALLOC_PERTURB_=165 "$quorlog" sim --seed 68 --count 10 --jobs 3 --history "$dir/other" >/dev/null)
for seed in 70 71 72 73 74 75; do
    test -s "$dir/one.$seed"
    cmp "$dir/one.$seed" "$dir/other.$seed"
done
cmp -s "$dir/one.70" "$dir/one.71" && exit 1

# The command that reads histories comes to the same verdict.
"$quorlog" check --unknown-max 85 "$dir/one.70" >/dev/null

"$quorlog" sim --seed 3 --hours 1 --history "$dir/hour" >/dev/null
"$quorlog" sim --seed 3 --hours 1 --history "$dir/again" >/dev/null
cmp "$dir/hour" "$dir/again"
