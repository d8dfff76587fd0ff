#!/usr/bin/env bash
# floors.sh - holds the staircase: a file includes its own room and those below, and only the libraries its room may use.
set -u
cd "$(dirname "$0")/../.." || exit 2
bad=0
complain() { printf '%s\n' "$1"; bad=1; }

smtp='base wire net store mail filters smtp'
# room : the rooms, or single files, that it may include
allowed() {
    case $1 in
    proxy/base) echo 'base' ;;
    proxy/wire) echo 'base wire' ;;
    proxy/net) echo 'base net' ;;
    proxy/store) echo 'base store' ;;
    proxy/mail) echo 'base wire net store mail filters' ;;
    proxy/smtp) echo "$smtp" ;;
    proxy/smtp/front) echo "$smtp smtp/front smtp/back/delivery.h smtp/back/pool.h" ;;
    proxy/smtp/back) echo "$smtp smtp/back" ;;
    proxy/milter) echo 'base wire net store mail filters milter' ;;
    proxy/try) echo 'base wire net store mail filters try' ;;
    proxy/conf) echo "$smtp smtp/front smtp/back milter try conf" ;;
    proxy/process) echo "$smtp smtp/front smtp/back milter try conf process" ;;
    proxy/cli) echo "$smtp smtp/front smtp/back milter try conf process cli" ;;
    filters) echo 'base wire filters filters/lua' ;;
    filters/lua) echo 'base wire filters filters/lua' ;;
    esac
}
rooms='proxy/base proxy/wire proxy/net proxy/store proxy/mail proxy/smtp proxy/smtp/front proxy/smtp/back proxy/milter proxy/try
    proxy/conf proxy/process proxy/cli filters filters/lua'
for room in $rooms; do
    may=" $(allowed "$room") "
    while IFS=: read -r file line include; do
        case $may in *" ${include%/*} "* | *" $include "*) ;; *) complain "$file:$line: $include goes up" ;; esac
    done < <(grep -nHE '^#[[:space:]]*include "' "$room"/*.[ch] 2>/dev/null | sed -E 's/#[[:space:]]*include "([^"]+)".*/\1/')
done
for folder in proxy/*/ proxy/*/*/ filters/*/; do
    ls "$folder"*.[ch] >/dev/null 2>&1 || continue
    case " $(echo $rooms) " in *" ${folder%/} "*) ;; *) complain "$folder: which floor is it?" ;; esac
done
# proxy/README.md names, in the row of its room, each .c and .def file and each header that has no .c file; and no file that is not there.
for room in proxy/*/ proxy/*/*/; do
    room=${room%/}
    ls "$room"/*.[ch] >/dev/null 2>&1 || continue
    row=$(grep -F "| \`${room#proxy/}/\` |" proxy/README.md) || { complain "$room: has no row in proxy/README.md"; continue; }
    for file in $(ls "$room" | grep -E '\.(c|h|def)$'); do
        name=$file file=$room/$file
        [ "${file%.h}" != "$file" ] && [ -e "${file%.h}.c" ] && continue
        case $row in *"\`${name%.*}\`"* | *"\`$name\`"*) ;; *) complain "$file: proxy/README.md does not say what it is, in the row of $room" ;; esac
    done
    for name in $(grep -oE '`[a-z_.]+`' <<<"$row" | tr -d '`'); do
        [ -e "$room/$name" ] || [ -e "$room/$name.c" ] || [ -e "$room/$name.h" ] || complain "proxy/README.md: there is no $room/$name"
    done
done
# filters/README.md has a section for each built-in filter and a row for each of its options.
for file in filters/*.c; do
    name=$(basename "$file" .c)
    [ "$name" = builtin ] && continue
    section=$(sed -n "/^## $name\$/,/^## /p" filters/README.md)
    [ -n "$section" ] || complain "$file: filters/README.md has no section \"## $name\""
    for option in $(sed -nE 's/^ *\{sizeof \*options, "([a-z_0-9]+)".*/\1/p' "$file"); do
        grep -qE "^\|.*\`$option\`" <<<"$section" || complain "$file: option \"$option\" has no row in filters/README.md"
    done
done
# No room below filters/ names a concrete filter: they know the contract and the facts only.
while IFS=: read -r file line include; do
    case $include in filters/filter.h|filters/*.def) ;; *) complain "$file:$line: may not include \"$include\"" ;; esac
done < <(grep -nHE '#[[:space:]]*include "filters/' proxy/{mail,smtp,smtp/front,smtp/back,milter,try}/*.[ch] 2>/dev/null | sed -E 's/#[[:space:]]*include "([^"]+)".*/\1/')
sources() { ls proxy/*/*.[ch] proxy/*/*/*.[ch] filters/*.[ch] filters/*/*.[ch]; }
# libraries
library() { # pattern, files that may
    while IFS= read -r hit; do
        file=${hit%%:*}
        ok=0
        for may in $2; do case $file in $may) ok=1 ;; esac; done
        [ $ok = 1 ] || complain "$hit: this library does not belong in this room"
    done < <(sources | xargs grep -nHE "#[[:space:]]*include <($1)")
}
library 'uv\.h' 'proxy/net/*'
library 'ares' 'proxy/net/*'
library 'openssl/(ssl|bio|x509|err)' 'proxy/net/*'
library 'pcre2' 'proxy/base/pattern.c'
library 'idn2' 'proxy/base/idn.c'
library '(lua|lauxlib|lualib)\.h' 'proxy/conf/* filters/lua/*'
# Only net calls the loop's library.
grep -nHE '\b(uv_[a-z]+|SSL_[A-Za-z]+)[[:space:]]*\(' proxy/{mail,smtp,smtp/front,smtp/back,milter,try}/*.c filters/*.c filters/*/*.c 2>/dev/null &&
    complain 'uv_* and SSL_* are called in net only'
# wire is pure
grep -nHE '(^|[^.>A-Za-z0-9_])(malloc|calloc|realloc|free|read|write|socket|time|clock_gettime|pthread_[a-z_]+)[[:space:]]*\(' proxy/wire/*.c &&
    complain 'wire is pure: no I/O, clock, threads, malloc'
# A tag means one thing: files that define the same one could never include each other.
while read -r n tag; do
    [ "$n" -gt 1 ] && complain "$tag: defined in $(sources | xargs grep -lE "\\b$tag[[:space:]]*\{" | tr '\n' ' ')"
done < <(sources | xargs grep -ohE '\b(struct|enum|union)[[:space:]]+[a-z_0-9]+[[:space:]]*\{' | sed -E 's/(struct|enum|union)[[:space:]]+([a-z_0-9]+).*/\2/' | sort | uniq -c | awk '$1 > 1')
# no room outgrows the house
while read -r n file; do
    [ "$file" != total ] && [ "$n" -gt 700 ] && complain "$file: $n lines; split it by meaning"
done < <(sources | xargs wc -l tests/*/*.py)
[ $bad = 0 ] && echo 'floors: clean'
exit $bad
