#!/usr/bin/env bash
# valgrind.sh [NAME...] - the unit tests (all, or those whose program has NAME in its name) under memcheck, built without sanitizers.
# Says which program read what it should not, or lost memory for good. Folder: SLUICE_VALGRIND_BUILD (build-valgrind).
set -u
cd "$(dirname "$0")/.." || exit 2
build=${SLUICE_VALGRIND_BUILD:-$PWD/build-valgrind}
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS=-Og >"$build.log" 2>&1 && ninja -C "$build" >>"$build.log" 2>&1 ||
    { tail -20 "$build.log"; exit 2; }
run() { # program, folder for logs: one line, and all of what valgrind said where it complained
    local log=$2/${1##*/}
    valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
        --suppressions=tests/valgrind.supp --log-file="$log.said" "$1" >"$log.out" 2>&1
    local rc=$?
    [ $rc = 0 ] && exit 0
    printf '%s: exit %d\n' "${1##*/}" $rc
    if [ -s "$log.said" ]; then head -60 "$log.said"; else grep -E 'FAILED|ERROR' "$log.out" | head; fi
    exit 1
}
export -f run
programs=()
for p in "$build"/test_*_*; do
    [ -x "$p" ] || continue
    for name in "${@:-test_}"; do case ${p##*/} in *"$name"*) programs+=("$p") ;; esac; done
done
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
printf '%s\0' "${programs[@]}" | xargs -0 -P "$(nproc)" -I{} bash -c 'run "$1" "$2"' _ {} "$logs"
rc=$?
[ $rc = 0 ] && echo "valgrind: ${#programs[@]} programs clean"
exit $rc
