#!/usr/bin/env bash
# floors.sh - holds the staircase: a file includes its own floor and those below, and only the libraries its room may use.
set -u
cd "$(dirname "$0")/../.." || exit 2
bad=0
complain() { printf '%s\n' "$1"; bad=1; }

# floor folder : what its files may include (first part of the include path)
allowed() {
    case $1 in
    proxy/base) echo 'base' ;;
    proxy/wire) echo 'base wire' ;;
    proxy/net) echo 'base net' ;;
    proxy/store) echo 'base store' ;;
    proxy/relay) echo 'base wire net store relay filters' ;;
    filters) echo 'base wire filters' ;;
    esac
}
for folder in proxy/base proxy/wire proxy/net proxy/store proxy/relay filters; do
    may=" $(allowed "$folder") "
    while IFS=: read -r file line include; do
        first=${include%%/*}
        [ "$first" = "$include" ] && [ "$folder" = filters ] && continue
        case $may in *" $first "*) ;; *) complain "$file:$line: $folder may not include \"$include\"" ;; esac
    done < <(grep -nHE '^#[[:space:]]*include "' "$folder"/*.c "$folder"/*.h 2>/dev/null | sed -E 's/#[[:space:]]*include "([^"]+)".*/\1/')
done
# relay names no concrete filter: of filters/ it knows the contract and the facts only.
while IFS=: read -r file line include; do
    case $include in filters/filter.h|filters/facts.def) ;; *) complain "$file:$line: relay may not include \"$include\"" ;; esac
done < <(grep -nHE '#[[:space:]]*include "filters/' proxy/relay/*.[ch] | sed -E 's/#[[:space:]]*include "([^"]+)".*/\1/')
# libraries
library() { # pattern, files that may
    while IFS= read -r hit; do
        file=${hit%%:*}
        ok=0
        for may in $2; do case $file in $may) ok=1 ;; esac; done
        [ $ok = 1 ] || complain "$hit: this library does not belong in this room"
    done < <(grep -nHE "#[[:space:]]*include <($1)" proxy/*.[ch] proxy/*/*.[ch] filters/*.[ch])
}
library 'uv\.h' 'proxy/net/*'
library 'ares' 'proxy/net/*'
library 'openssl/(ssl|bio|x509|err)' 'proxy/net/*'
library 'pcre2' 'proxy/base/pattern.c'
library 'idn2' 'proxy/base/idn.c'
library '(lua|lauxlib|lualib)\.h' 'proxy/conf* filters/lua*'
# relay and guests never call the loop's library
grep -nHE '\b(uv_[a-z]+|SSL_[A-Za-z]+)[[:space:]]*\(' proxy/relay/*.c filters/*.c && complain 'relay and filters do not call uv_* or SSL_*'
# wire is pure
grep -nHE '(^|[^.>A-Za-z0-9_])(malloc|calloc|realloc|free|read|write|socket|time|clock_gettime|pthread_[a-z_]+)[[:space:]]*\(' proxy/wire/*.c &&
    complain 'wire is pure: no I/O, clock, threads, malloc'
# no room outgrows the house
while read -r n file; do
    [ "$file" != total ] && [ "$n" -gt 750 ] && complain "$file: $n lines; split it by meaning"
done < <(wc -l proxy/*.[ch] proxy/*/*.[ch] filters/*.[ch] tests/*/*.py 2>/dev/null)
[ $bad = 0 ] && echo 'floors: clean'
exit $bad
