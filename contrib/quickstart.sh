#!/usr/bin/env bash
# quickstart.sh - from a fresh clone to a running gateway on 127.0.0.1:2525.
#   contrib/quickstart.sh              in front of a Maildir of its own (demo/maildir)
#   contrib/quickstart.sh --postfix    in front of a private Postfix instance in demo/postfix (as root)
#   options: --port N (2525)  --folder DIR (demo)  --build-only  --help
# Installs what is missing (Debian packages; says which, uses sudo where you are not root), builds a Release, makes a
# certificate for STARTTLS, runs Sluice in the foreground with conf/demo.lua. Ctrl-C ends it.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
port=2525 folder=$root/demo postfix=0 build_only=0
while [ $# -gt 0 ]; do
    case $1 in
    --postfix) postfix=1 ;;
    --port) port=$2; shift ;;
    --folder) folder=$2; shift ;;
    --build-only) build_only=1 ;;
    --help|-h) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "quickstart.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
    esac
    shift
done
if [ $postfix = 1 ] && [ "$(id -u)" != 0 ]; then
    echo 'quickstart.sh: --postfix needs root, because Postfix does: run it with sudo' >&2
    exit 2
fi

packages=(gcc libc6-dev cmake ninja-build pkg-config libuv1-dev libssl-dev libpcre2-dev liblua5.4-dev libc-ares-dev libidn2-dev openssl)
[ $postfix = 0 ] || packages+=(postfix)
missing=()
for p in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    echo "Installing from Debian's packages: ${missing[*]}${sudo:+ (with sudo)}"
    mkdir -p "$folder"
    # A package's daemon shall not start by itself on this machine just because we need its program.
    guard=/usr/sbin/policy-rc.d made=0
    if [ $postfix = 1 ] && [ ! -e $guard ]; then
        printf '#!/bin/sh\nexit 101\n' > $guard && chmod +x $guard && made=1
    fi
    { $sudo apt-get update -q && $sudo env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends "${missing[@]}"; } > "$folder/install.log" 2>&1 || {
        tail -20 "$folder/install.log"
        echo "quickstart.sh: the packages could not be installed ($folder/install.log)" >&2
        exit 1
    }
    [ $made = 0 ] || rm -f $guard
fi

echo 'Building (Release) ...'
mkdir -p build "$folder"
{ cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF && ninja -C build sluice; } > build/quickstart.log 2>&1 || {
    grep -E 'error|FAILED|CMake Error' -A3 build/quickstart.log | head -40
    echo 'quickstart.sh: the build failed (build/quickstart.log)' >&2
    exit 1
}
[ $build_only = 0 ] || exit 0

if [ ! -e "$folder/key.pem" ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=localhost" \
        -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" \
        -keyout "$folder/key.pem" -out "$folder/cert.pem" 2>/dev/null
    chmod 600 "$folder/key.pem"
fi

export SLUICE_DEMO=$folder SLUICE_PORT=$port
behind="the Maildir $folder/maildir"
where="ls $folder/maildir/new"
if [ $postfix = 1 ]; then
    backend_port=$((port + 1))
    contrib/postfix/private.sh start "$folder/postfix" $backend_port
    trap 'contrib/postfix/private.sh stop "$folder/postfix"' EXIT
    export SLUICE_BACKEND=127.0.0.1:$backend_port
    behind="a private Postfix on port $backend_port (its log: $folder/postfix/log)"
    where="ls $folder/postfix/mail/all/new"
fi
cat <<TEXT

Sluice listens on 127.0.0.1:$port, in front of $behind.
Its configuration: conf/demo.lua (access, ratelimit, subject_tag and clean_headers filter what you send).

Send it a message, from another terminal:
  swaks --server 127.0.0.1:$port --tls --from me@example.org --to you@example.net --header 'Subject: hello'
  python3 -c "import smtplib; s = smtplib.SMTP('127.0.0.1', $port); s.starttls(); print(s.sendmail('me@example.org', ['you@example.net'], 'Subject: hello\r\n\r\nIt works.\r\n'))"
and see what came of it:
  $where
One line per message follows here. Ctrl-C ends.

TEXT
if [ $postfix = 1 ]; then
    "$root/build/sluice" run -c conf/demo.lua & gateway=$!
    trap 'kill -TERM $gateway 2>/dev/null' INT TERM
    wait $gateway || true
    wait $gateway 2>/dev/null || true
    exit 0
fi
exec "$root/build/sluice" run -c conf/demo.lua
