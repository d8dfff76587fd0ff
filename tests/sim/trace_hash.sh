#!/usr/bin/env bash
# trace_hash.sh - whether the simulation still plays as it did: the hash of the whole trace of each of 2,000 seeds, beside traces.txt.
#   tests/sim/trace_hash.sh BUILD           says which seeds have another trace; BUILD holds `sim`, of any build type
#   tests/sim/trace_hash.sh --keep BUILD    writes traces.txt anew
# A change that should change no behaviour leaves traces.txt as it is. One that moves an octet, a wait or the order of two wake-ups does
# not, and neither does one to tests/sim/ that throws the dice otherwise: its message says why. `sim --seed N --trace` of the builds
# before and behind the change shows where they part.
set -u
keep=0
[ "${1:-}" = --keep ] && { keep=1; shift; }
build=$(realpath "${1:?trace_hash.sh [--keep] BUILD}")
cd "$(dirname "$0")" || exit 2
seeds=2000

# Twenty seeds a line, the first one's number in front; six digits of each hash are enough to see which differs, the last line has all.
fold_hashes() {
    awk '$1 == "all" { printf "%sall %s\n", line == "" ? "" : line "\n", $2; next }
         { line = line (n++ % 20 ? " " : $1 ": ") substr($2, 1, 6) }
         n % 20 == 0 { print line; line = "" }'
}

now=$(mktemp)
trap 'rm -f "$now" "$now.folded"' EXIT
if ! "$build/sim" --seed 1 --hash $seeds >"$now" 2>"$now.folded"; then
    tail -n 3 "$now" | cat - "$now.folded" | tail -n 20
    exit 1
fi
fold_hashes <"$now" >"$now.folded"
if [ $keep = 1 ]; then
    cp "$now.folded" traces.txt
    echo "traces.txt: $seeds seeds, $(tail -1 traces.txt)"
    exit 0
fi
if cmp -s traces.txt "$now.folded"; then
    echo "$seeds seeds play as before: $(tail -1 traces.txt)"
    exit 0
fi
differ=$(paste -d ' ' <(tr ' ' '\n' <traces.txt | grep -v :) <(tr ' ' '\n' <"$now.folded" | grep -v :) |
    awk '$1 != $2 && NR <= '$seeds' { n++; if (n <= 10) first = first " " NR } END { print n + 0 " of '$seeds' seeds have another trace, the first:" first }')
echo "$differ"
exit 1
