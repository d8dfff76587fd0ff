#!/usr/bin/env bash
# run.sh - installs what the tests need (setup.sh), builds with sanitizers, runs them all, ends with the counts.
#   tests/run.sh [--quick | --fast] [--deep]
#   --quick: a Release build and what proves an installation: two minutes. --fast: nothing under TSan. --deep: also the analyzer of clang-tidy,
#   and the unit tests in valgrind. All of it takes some 30 minutes on two cores, and 1 GB beside the tree
#   SLUICE_NO_INSTALL=1        do not touch packages, nor unpack Sendmail (setup.sh does both, by apt-get)
set -u
cd "$(dirname "$0")/.." || exit 2
root=$PWD
fast=0 deep=0 quick=0
for word in "$@"; do
    case $word in
    --quick) quick=1 ;;
    --fast) fast=1 ;;
    --deep) deep=1 ;;
    *) sed -n '2,6s/^# //p' "$0"; exit 2 ;;
    esac
done
build=${SLUICE_BUILD:-$root/build-tests}
passed=0 failed=0 skipped=0
jobs=$(nproc)
many=$((jobs + jobs / 2 + 1)) # for tests that mostly wait for clocks

say() { printf '\n== %s (%d min %02d s so far)\n' "$1" $((SECONDS / 60)) $((SECONDS % 60)); }

# Runs a command whose output goes to a file; says twice a minute that it still runs, and how far it is where the output tells.
watched() { # file, command ...
    local log=$1 pid began=$SECONDS told=$SECONDS far
    shift
    "$@" >"$log" 2>&1 &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.5
        [ $((SECONDS - told)) -lt 30 ] && continue
        told=$SECONDS
        far=$(tail -c 400 "$log" | grep -aoE '[0-9]+%|[0-9]+/[0-9]+' | tail -1)
        printf '   ... %d s%s\n' $((SECONDS - began)) "${far:+, at $far}"
    done
    wait "$pid"
}

build_kind() { # build type, folder
    say "building ($1)"
    cmake -S . -B "$2" -G Ninja -DCMAKE_BUILD_TYPE="$1" >"$2.cmake.log" 2>&1 || { tail -30 "$2.cmake.log"; return 1; }
    watched "$2.build.log" ninja -C "$2" -j "$jobs" || { grep -E 'error|FAILED|undefined' "$2.build.log" | head -40; return 1; }
}

count() { # passed failed skipped
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

run_unit() { # folder of a build, options of ctest ...
    say "unit tests ($1)"
    watched "$1.ctest.log" ctest --test-dir "$1" -j "$jobs" --output-on-failure "${@:2}"
    local all bad
    all=$(grep -oE 'tests failed out of [0-9]+' "$1.ctest.log" | grep -oE '[0-9]+$')
    bad=$(grep -oE '[0-9]+ tests failed' "$1.ctest.log" | grep -oE '^[0-9]+')
    [ -n "$all" ] || { tail -20 "$1.ctest.log"; count 0 1 0; return; }
    [ "$bad" = 0 ] || grep -E 'FAILED|ERROR|runtime error|Failed|\*\*\*' "$1.ctest.log" | head -40
    echo "$((all - bad)) of $all programs passed"
    count $((all - bad)) "$bad" 0
}

run_pytest() { # title, arguments ...
    local title=$1
    shift
    say "$title"
    local log
    log=$(mktemp)
    watched "$log" /usr/bin/python3 -m pytest -q -p no:cacheprovider "$@"
    local rc=$?
    tail -40 "$log"
    local last
    last=$(grep -E '(passed|failed|error|skipped)' "$log" | tail -1)
    local p f e s
    p=$(grep -oE '[0-9]+ passed' <<<"$last" | grep -oE '[0-9]+')
    f=$(grep -oE '[0-9]+ failed' <<<"$last" | grep -oE '[0-9]+')
    e=$(grep -oE '[0-9]+ error' <<<"$last" | grep -oE '[0-9]+')
    s=$(grep -oE '[0-9]+ skipped' <<<"$last" | grep -oE '[0-9]+')
    [ $rc = 0 ] || [ $((${f:-0} + ${e:-0})) -gt 0 ] || f=1
    count "${p:-0}" $((${f:-0} + ${e:-0})) "${s:-0}"
    rm -f "$log"
}

# A step that is one test: title, command ...
run_one() {
    local log
    log=$(mktemp)
    say "$1"
    if watched "$log" "${@:2}"; then count 1 0 0; else count 0 1 0; fi
    tail -40 "$log"
    rm -f "$log"
}

finish() {
    printf '\n%d min %02d s\n%d passed, %d failed, %d skipped\n' $((SECONDS / 60)) $((SECONDS % 60)) "$passed" "$failed" "$skipped"
    [ "$failed" = 0 ]
    exit $?
}

if [ -z "${SLUICE_NO_INSTALL:-}" ]; then
    option=
    [ $quick = 0 ] || option=--quick
    tests/setup.sh $option || { count 0 1 0; finish; }
fi
run_one 'floors' tests/lint/floors.sh
run_one 'the drawing of the house' tests/lint/drawing.py
if [ $quick = 1 ]; then
    build_kind Release "$build-release" || { count 0 1 0; finish; }
    run_unit "$build-release" -R '^(base|wire|store|conf|net)/'
    export SLUICE="$build-release/sluice" SLUICE_BUILD_DIR="$build-release"
    run_pytest 'dialogs, in plain' -n "$jobs" tests/dialog/basic tests/dialog/commands tests/dialog/filters tests/dialog/test_samples.py -k 'plain or sample'
    finish
fi
build_kind Asan "$build-asan" || { count 0 1 0; finish; }
run_one 'what is exported' tests/lint/exports.sh "$build-asan"
run_unit "$build-asan"
export SLUICE="$build-asan/sluice" SLUICE_BUILD_DIR="$build-asan"
export SLUICE_SLOW=3 ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:quarantine_size_mb=16}
run_pytest 'dialogs (ASan, UBSan)' -n "$many" tests/dialog
if compgen -G 'tests/lua/*.py' >/dev/null; then run_pytest 'scripts' -n "$jobs" tests/lua; fi
if compgen -G 'tests/module/test_*.py' >/dev/null; then run_pytest 'a filter from outside the tree' tests/module; fi
run_pytest 'sluice try: saved messages through chains (ASan)' -n "$jobs" tests/try
run_pytest 'faults (ASan)' -n "$jobs" tests/faults --ignore tests/faults/test_hostile.py
run_pytest 'soak (ASan)' -n "$jobs" tests/soak --ignore tests/soak/test_memory.py --ignore tests/soak/test_crowd.py
build_kind Release "$build-release" || { count 0 1 0; finish; }
run_one 'simulation: 16,000 sessions (Release), beside the 4,000 of the unit tests (ASan)' "$build-release/sim" --seed 100001 --sessions 16000
run_one 'simulation of milters: 16,000 sessions (Release), beside the 8,000 of the unit tests (ASan)' "$build-release/sim" --milter --seed 100001 --sessions 16000
run_one 'simulation: the traces of 2,000 seeds are those of traces.txt' tests/sim/trace_hash.sh "$build-release"
deeper=()
[ $deep = 1 ] && deeper=(--deep)
run_one 'clang-tidy, cppcheck' tests/lint/tidy.sh ${deeper[@]+"${deeper[@]}"} "$build-release"
run_one 'hardening of the Release build' tests/lint/hardening.sh "$build-release/sluice"
[ $deep = 1 ] && SLUICE_VALGRIND_BUILD="$build-valgrind" run_one 'unit tests (valgrind)' tests/valgrind.sh
export SLUICE="$build-release/sluice" SLUICE_BUILD_DIR="$build-release"
run_pytest 'what a message costs (Release)' tests/costs
run_pytest 'memory (Release)' -n "$jobs" tests/soak/test_memory.py tests/soak/test_reload.py
run_pytest 'a crowd, hostile clients (Release)' tests/soak/test_crowd.py tests/faults/test_hostile.py
export SLUICE_SENDMAIL="$build-sendmail"
[ -n "${SLUICE_NO_INSTALL:-}" ] || tests/setup.sh --sendmail "$SLUICE_SENDMAIL"
run_pytest 'interop (Release)' tests/interop
if [ $fast = 0 ]; then
    build_kind Tsan "$build-tsan" || { count 0 1 0; finish; }
    export SLUICE="$build-tsan/sluice" SLUICE_BUILD_DIR="$build-tsan" SLUICE_WORKERS=4 TSAN_OPTIONS=exitcode=66:suppressions=$root/tests/tsan.supp
    run_pytest 'dialogs (TSan, 4 workers)' -n "$many" tests/dialog
    run_pytest 'change under load (TSan, 4 workers)' tests/soak/test_reload.py tests/soak/test_room.py
fi
finish
