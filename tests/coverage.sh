#!/usr/bin/env bash
# coverage.sh [--again] [--lines FILE] - which lines of proxy/ and filters/ the unit tests, the simulation, the dialogs and the tests of
# scripts run, per floor. Fails when `wire` has less than 95% or the whole less than 85%. Needs gcovr. Folder: SLUICE_COVERAGE_BUILD
# (build-coverage).
#   --again        run nothing, report on what ran last
#   --lines FILE   the lines of that file that nothing ran
set -u
cd "$(dirname "$0")/.." || exit 2
build=${SLUICE_COVERAGE_BUILD:-$PWD/build-coverage}
jobs=$(nproc)
again=0 lines=
while [ $# -gt 0 ]; do
    case $1 in
    --again) again=1 ;;
    --lines) lines=$2; shift ;;
    *) sed -n '2,6s/^# //p' "$0"; exit 2 ;;
    esac
    shift
done
command -v gcovr >/dev/null || { echo 'coverage.sh: gcovr is missing'; exit 2; }

run_all() {
    cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS='--coverage -fprofile-update=atomic' \
        -DCMAKE_EXE_LINKER_FLAGS=--coverage >"$build.log" 2>&1 && ninja -C "$build" -j "$jobs" >>"$build.log" 2>&1 || { tail -20 "$build.log"; exit 2; }
    find "$build" -name '*.gcda' -delete
    ctest --test-dir "$build" -j "$jobs" -E 'sim/(finds|replays)' 2>&1 | tail -4
    export SLUICE=$build/sluice SLUICE_BUILD_DIR=$build SLUICE_SLOW=3
    /usr/bin/python3 -m pytest -q -p no:cacheprovider -n "$jobs" tests/dialog tests/lua tests/module 2>&1 | tail -4
}

[ $again = 1 ] || run_all
gcovr --root . --object-directory "$build" --filter '(proxy|filters)/' --gcov-ignore-parse-errors --json "$build/coverage.json" "$build" \
    >"$build/gcovr.log" 2>&1 || { tail -5 "$build/gcovr.log"; exit 2; }
/usr/bin/python3 - "$build/coverage.json" "$lines" <<'PY'
import collections, json, os, sys
floors, files = collections.OrderedDict(), {}
for f in json.load(open(sys.argv[1]))["files"]:
    lines = {}
    for l in f["lines"]:
        if not l.get("gcovr/noncode"):
            lines[l["line_number"]] = lines.get(l["line_number"], 0) + l["count"]
    name = f["file"]
    floor = "filters" if name.startswith("filters/") else name.split("/")[1]
    files[name] = sorted(n for n, c in lines.items() if not c)
    floors.setdefault(floor, []).append((name, len(lines) - len(files[name]), len(lines)))
if sys.argv[2]:
    text = open(sys.argv[2]).read().split("\n")
    for n in files[sys.argv[2]]:
        print("%5d %s" % (n, text[n - 1]))
    sys.exit(0)
good, whole, bad = 0, 0, []
for floor in "base", "wire", "net", "store", "mail", "smtp", "conf", "process", "cli", "filters":
    ran, there = (sum(f[i] for f in floors.get(floor, [])) for i in (1, 2))
    good, whole = good + ran, whole + there
    print("%-20s %5d of %5d lines  %5.1f%%" % (floor, ran, there, 100 * ran / max(there, 1)))
    for name, r, t in sorted(floors.get(floor, []), key=lambda f: f[1] / max(f[2], 1)):
        if r < t * 0.85:
            print("    %-28s %5.1f%%" % (name, 100 * r / t))
    if floor == "wire" and ran < 0.95 * there:
        bad.append("wire has less than 95%")
print("%-20s %5d of %5d lines  %5.1f%%" % ("whole", good, whole, 100 * good / max(whole, 1)))
if good < 0.85 * whole:
    bad.append("the whole has less than 85%")
print("\n".join(bad))
sys.exit(1 if bad else 0)
PY
