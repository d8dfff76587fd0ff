#!/usr/bin/env bash
# hardening.sh SLUICE - reads a Release binary and says which protection it lacks: PIE, full RELRO, a stack nobody executes, no segment
# both written and executed, stack protector, _FORTIFY_SOURCE, functions that begin with a landing pad (CET; BTI on aarch64), no RPATH.
set -u
elf=${1:?hardening.sh SLUICE}
bad=0
lacks() { printf '%s: %s\n' "$elf" "$1"; bad=1; }
[ -r "$elf" ] || { lacks 'cannot be read'; exit 1; }
heads=$(readelf -hlW "$elf") dynamic=$(readelf -dW "$elf") symbols=$(readelf --dyn-syms -W "$elf")

grep -q 'Type: *DYN' <<<"$heads" && grep -q 'FLAGS_1.*PIE' <<<"$dynamic" || lacks 'not position-independent'
grep -q GNU_RELRO <<<"$heads" || lacks 'no RELRO'
grep -qE 'BIND_NOW|FLAGS_1.*NOW' <<<"$dynamic" || lacks 'RELRO is not full: symbols are bound late'
grep -qE 'GNU_STACK .* RW +0x' <<<"$heads" || lacks 'the stack can be executed'
grep -qE 'LOAD .* RWE +0x' <<<"$heads" && lacks 'a segment can be written and executed'
grep -q '__stack_chk_fail' <<<"$symbols" || lacks 'no stack protector'
grep -qE '__(memcpy|snprintf|vsnprintf)_chk' <<<"$symbols" || lacks 'no _FORTIFY_SOURCE'
grep -qE '\((RPATH|RUNPATH)\)' <<<"$dynamic" && lacks 'it looks for libraries by RPATH'
# The C library's own start files may have no landing pads: so the mark of the whole binary says nothing, and its functions are asked.
case $(readelf -hW "$elf") in
*X86-64*) pad=endbr64 ;;
*AArch64*) pad='(bti|paciasp)' ;;
*) pad= ;;
esac
if [ -n "$pad" ]; then
    read -r all without < <(objdump -d --no-show-raw-insn -j .text "$elf" | awk -v pad="$pad" -v names="$(grep -oE ' filter_[a-z0-9_]+$' <<<"$symbols")" '
        BEGIN { n = split(names, name, " +|\n"); for (i = 1; i <= n; i++) ours["<" name[i] ">:"] = 1 }
        /^[0-9a-f]+ </ { look = $2 in ours; all += look; next }
        look { look = 0; if ($0 !~ pad) without++ }
        END { print all + 0, without + 0 }')
    [ "$all" -gt 50 ] || lacks "only $all exported functions found"
    [ "$without" = 0 ] || lacks "$without of $all exported functions begin without a landing pad"
fi
[ $bad = 0 ] && echo 'hardening: as it should be'
exit $bad
