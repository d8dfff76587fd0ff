#!/usr/bin/env bash
# quickstart.sh - from a fresh clone to a running gateway on 127.0.0.1:2525.
#   contrib/quickstart.sh              in front of a Maildir of its own (demo/maildir)
#   contrib/quickstart.sh --postfix    in front of a private Postfix instance in the same folder (as root)
#   options: --port N (2525)  --folder DIR (demo)  --build-only  --help
# Installs missing Debian packages (prints which, uses sudo if you are not root), builds a Release, creates a certificate for STARTTLS, and
# runs Sluice in the foreground with conf/demo.lua. Ctrl-C ends it.
set -eu
from=$PWD
cd "$(dirname "$0")/.."
root=$PWD
port=2525 folder= postfix=0 build_only=0
while [ $# -gt 0 ]; do
    case $1 in
    --port|--folder) [ $# -ge 2 ] && [ -n "$2" ] || { echo "quickstart.sh: $1 needs a value (see --help)" >&2; exit 2; } ;;
    esac
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

case $port in
''|*[!0-9]*|??????*) echo "quickstart.sh: --port $port is no port" >&2; exit 2 ;;
esac
[ "$port" -ge 1 ] && [ "$port" -le 65534 ] || { echo "quickstart.sh: --port is 1 to 65534" >&2; exit 2; }
for busy in $port $([ $postfix = 0 ] || echo $((port + 1))); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$busy") 2>/dev/null; then
        echo "quickstart.sh: something listens on 127.0.0.1:$busy already: choose another port with --port N" >&2
        exit 1
    fi
done

packages=(gcc libc6-dev cmake ninja-build pkg-config libuv1-dev libssl-dev libpcre2-dev liblua5.4-dev libc-ares-dev libidn2-dev openssl)
[ $postfix = 0 ] || packages+=(postfix)
missing=()
for p in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    [ -z "$sudo" ] || command -v sudo >/dev/null || {
        echo "quickstart.sh: these packages are missing, and there is no sudo: as root, apt-get install ${missing[*]}" >&2
        exit 1
    }
    echo "Installing from Debian's packages: ${missing[*]}${sudo:+ (with sudo)}"
    log=$(mktemp)
    # Prevents the installation from starting the daemon of a package, of which only the program is needed.
    guard=/usr/sbin/policy-rc.d made=0
    if [ $postfix = 1 ] && [ ! -e $guard ]; then
        printf '#!/bin/sh\nexit 101\n' > $guard && chmod +x $guard && made=1
        trap 'rm -f $guard' EXIT
    fi
    { $sudo apt-get update -q && $sudo env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends "${missing[@]}"; } > "$log" 2>&1 || {
        tail -20 "$log"
        echo "quickstart.sh: the packages could not be installed ($log)" >&2
        exit 1
    }
    [ $made = 0 ] || { rm -f $guard; trap - EXIT; }
fi

# Postfix' processes do not run as root: they need search permission for each directory of the path, which a home of mode 0700 does not give.
postfix_reaches() { setpriv --reuid postfix --clear-groups test -x "$1" 2>/dev/null; }
case $folder in
'')
    folder=$root/demo
    if [ $postfix = 1 ] && ! postfix_reaches "$root"; then
        folder=$(mktemp -d /var/tmp/sluice-demo.XXXXXX)
        chmod 755 "$folder"
    else
        mkdir -p "$folder"
    fi ;;
/*) mkdir -p "$folder" ;;
*) folder=$from/$folder; mkdir -p "$folder" ;;
esac
if [ $postfix = 1 ] && ! postfix_reaches "$folder"; then
    echo "quickstart.sh: Postfix' own user cannot enter $folder: choose another one with --folder DIR" >&2
    exit 1
fi

echo 'Building (Release) ...'
mkdir -p build
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

Sluice will listen on 127.0.0.1:$port, in front of $behind.
Its configuration: conf/demo.lua (access, ratelimit, subject_tag and clean_headers filter what you send).

Send it messages, from another terminal:
  $root/contrib/send.sh --port $port                                 it arrives with [demo] in its Subject
  $root/contrib/send.sh --port $port --from spam@example.com         550: access refuses this sender
  for i in \$(seq 11); do $root/contrib/send.sh --port $port; done     451 from the eleventh on: ratelimit
TEXT
if command -v swaks >/dev/null; then
    echo "  swaks --server 127.0.0.1:$port --tls --from me@example.org --to you@example.net --header 'X-Originating-IP: 10.0.0.1'   by STARTTLS; that field goes"
fi
if command -v python3 >/dev/null; then
    echo "  python3 -c \"import smtplib; s = smtplib.SMTP('127.0.0.1', $port); s.starttls(); print(s.sendmail('me@example.org', ['you@example.net'], 'Subject: hello\\r\\n\\r\\nIt works.\\r\\n'))\""
fi
cat <<TEXT
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
