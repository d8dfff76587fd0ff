#!/usr/bin/env bash
# setup.sh - what the tests need of this machine, from Debian's packages (apt-get, by sudo where you are not root).
#   tests/setup.sh                     installs what is missing for all of them
#   tests/setup.sh --quick             ... for run.sh --quick
#   tests/setup.sh --sendmail FOLDER   unpacks Sendmail into FOLDER, where nothing is unpacked yet
set -u
cd "$(dirname "$0")/.." || exit 2
build=${SLUICE_BUILD:-$PWD/build-tests} # logs are beside it
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo

is_installed() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }
install() { $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"; }

install_packages() { # 1: only what a Release build and dialogs need
    local want=(gcc cmake ninja-build pkg-config libc6-dev libuv1-dev libssl-dev libpcre2-dev liblua5.4-dev libc-ares-dev libidn2-dev libcmocka-dev
        python3 python3-pytest python3-pytest-xdist openssl procps)
    local deeper=(make mandoc clang-tidy cppcheck strace valgrind binutils
        postfix miltertest swaks libnet-ssleay-perl dovecot-core dovecot-lmtpd haproxy msmtp curl testssl.sh systemd m4)
    [ "$1" = 1 ] || want+=("${deeper[@]}")
    local missing=() p
    for p in "${want[@]}"; do is_installed "$p" || missing+=("$p"); done
    [ ${#missing[@]} = 0 ] && return 0
    printf '\n== installing: %s\n' "${missing[*]}"
    # Daemons that come with packages must not start: the tests start their own, on loopback.
    local guard=/usr/sbin/policy-rc.d made=0 rc
    if [ ! -e $guard ]; then
        printf '#!/bin/sh\nexit 101\n' | $sudo tee $guard >/dev/null && $sudo chmod +x $guard && made=1
    fi
    $sudo apt-get update -q >/dev/null 2>&1
    install "${missing[@]}" >"$build.apt.log" 2>&1
    rc=$?
    [ $made = 1 ] && $sudo rm -f $guard
    [ $rc = 0 ] || { tail -20 "$build.apt.log"; echo "packages could not be installed"; return 1; }
}

# As a package Sendmail would put Postfix out. The libraries it needs are installed, as far as they can be had; without Sendmail its tests are
# skipped, so this never fails.
unpack_sendmail() { # folder
    [ ! -e "$1/usr/libexec/sendmail/sendmail" ] || return 0
    mkdir -p "$1/packages"
    (cd "$1/packages" && { apt-get download -q sendmail-bin sendmail-cf || { apt-get update -q && apt-get download -q sendmail-bin sendmail-cf; }; }) \
        >"$build.sendmail.log" 2>&1 || { echo "Sendmail's packages cannot be had: $(tail -1 "$build.sendmail.log")"; return 0; }
    local package
    for package in "$1"/packages/*.deb; do dpkg -x "$package" "$1"; done
    for package in $(dpkg-deb -f "$1"/packages/sendmail-bin_*.deb Depends | tr ',' '\n' | grep -oE '^ *lib[^ ]+'); do
        dpkg-query -W "$package" >/dev/null 2>&1 || install "$package"
    done >>"$build.sendmail.log" 2>&1
    return 0
}

case ${1:-} in
'') install_packages 0 ;;
--quick) install_packages 1 ;;
--sendmail) unpack_sendmail "${2:?setup.sh --sendmail FOLDER}" ;;
*) sed -n '2,5s/^# //p' "$0"; exit 2 ;;
esac
