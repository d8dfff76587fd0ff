#!/usr/bin/env bash
# exports.sh BUILD - what only its own file uses is static: each function and object of proxy/ and filters/ with external linkage is named by
# another object of BUILD, a test's too, or by filters/exports.list. BUILD holds compile_commands.json, and is built. tests/lint/unused.txt
# names what waits for the room that is to use it; it may only grow shorter.
set -u
build=$(realpath "${1:?exports.sh BUILD}")
cd "$(dirname "$0")/../.." || exit 2
objects() { grep -oE ' -o [^ ]+\.o ' "$build/compile_commands.json" | sed -E "s|^ -o (.*) $|$build/\1|" | sort -u; }
nm=$(command -v nm || command -v llvm-nm) || { echo 'exports: no nm'; exit 2; }
# the names that may always be there: patterns of the list of exports, entry points
mapfile -t patterns < <(sed -nE 's/^[[:space:]]*([a-z_*]+);.*/\1/p' filters/exports.list)
symbols=$(objects | xargs "$nm" -A --format=posix) || { echo "exports: $build is not built"; exit 1; }
[ -n "$symbols" ] || { echo "exports: no objects in $build"; exit 1; }
found=$(awk -v patterns="main ${patterns[*]}" -v unused="$(tr '\n' ' ' <tests/lint/unused.txt)" '
    BEGIN { m = split(unused, names, " "); for (i = 1; i <= m; i++) waits[names[i]] = 1
        n = split(patterns, list, " "); for (i = 1; i <= n; i++) { gsub(/\*/, ".*", list[i]) } }
    {
        object = $1; sub(/:$/, "", object); sub(/\[.*/, "", object); name = $2; kind = $3
        if (kind == "U") { if (user[name] == "") user[name] = object; next }
        if (kind !~ /^[TDBRGSVW]$/ || name ~ /^__(odr_asan|asan|tsan|ubsan)/) next
        if (object !~ /\.dir\/(proxy|filters)\//) next
        home[name] = object
    }
    END {
        for (name in home) {
            if (user[name] != "") continue
            free = 0
            for (i = 1; i <= n; i++) if (name ~ "^" list[i] "$") free = 1
            if (free) continue
            if (name in waits) { waited[name] = 1; continue }
            file = home[name]; sub(/^.*\.dir\//, "", file); sub(/\.o$/, "", file)
            print file ": " name ": nobody else uses it: make it static, or delete it"
        }
        for (name in waits)
            if (!(name in waited)) print name ": waits no more; take it out of tests/lint/unused.txt"
    }' <<<"$symbols" | sort)
[ -z "$found" ] || { printf '%s\n' "$found"; exit 1; }
echo 'exports: clean'
