#!/usr/bin/env bash
# tidy.sh [--deep] BUILD - cppcheck and clang-tidy (checks: .clang-tidy) over proxy/ and filters/; BUILD holds compile_commands.json.
# Without --deep the path-sensitive analyzer (clang-analyzer-*) is left out: a few seconds instead of minutes.
set -u
checks='-clang-analyzer-*'
[ "${1:-}" = --deep ] && { checks=''; shift; }
build=$(realpath "${1:?tidy.sh [--deep] BUILD}")
cd "$(dirname "$0")/../.." || exit 2
bad=0
jobs=$(nproc)
files() { printf '%s\0' proxy/*/*.c proxy/*/*/*.c filters/*.c filters/*/*.c; }

if command -v cppcheck >/dev/null; then
    found=$(files | xargs -0 -P "$jobs" -n 8 cppcheck --quiet --std=c17 --language=c --enable=warning,performance,portability \
        --inline-suppr --suppress=missingIncludeSystem -D_GNU_SOURCE -I. -Iproxy \
        --template='{file}:{line}: {severity}: {message} [{id}]' 2>&1)
    if [ -n "$found" ]; then printf '%s\n' "$found"; bad=1; else echo 'cppcheck: clean'; fi
else
    echo 'cppcheck: not installed, skipped'
fi
if command -v clang-tidy >/dev/null; then
    found=$(files | xargs -0 -P "$jobs" -n 6 clang-tidy --quiet -p "$build" ${checks:+--checks="$checks"} 2>/dev/null)
    if grep -qE '(warning|error):' <<<"$found"; then printf '%s\n' "$found"; bad=1; else echo "clang-tidy: clean${checks:+ (without the analyzer)}"; fi
else
    echo 'clang-tidy: not installed, skipped'
fi
exit $bad
