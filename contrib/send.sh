#!/usr/bin/env bash
# send.sh - sends a message with bash alone, and prints the dialogue. Without TLS and AUTH; for these use swaks or smtplib.
#   contrib/send.sh [--port N] [--from ADDRESS] [--to ADDRESS] [--subject TEXT] [--header 'NAME: VALUE']
# Exit code: 0 when the message was accepted, 1 when it was refused or no server answers.
set -u
host=127.0.0.1 port=2525 from=me@example.org to=you@example.net subject=hello header=
usage() { sed -n '2,4s/^# \{0,1\}//p' "$0"; }
while [ $# -gt 0 ]; do
    case $1 in
    --help|-h) usage; exit 0 ;;
    --port|--from|--to|--subject|--header)
        [ $# -ge 2 ] || { echo "send.sh: $1 needs a value" >&2; exit 2; }
        declare "${1#--}=$2"
        shift ;;
    *) echo "send.sh: unknown option $1" >&2; usage >&2; exit 2 ;;
    esac
    shift
done
exec 3<>"/dev/tcp/$host/$port" || { echo "send.sh: nobody listens at $host:$port" >&2; exit 1; }

hear() { # one reply, its code to $code
    local line
    while IFS= read -r -t 60 line <&3; do
        line=${line%$'\r'}
        printf '< %s\n' "$line"
        code=${line:0:3}
        [ "${line:3:1}" = - ] || return 0
    done
    echo 'send.sh: the connection ended' >&2
    exit 1
}
say() { # command, class wanted
    printf '> %s\n' "$1"
    printf '%s\r\n' "$1" >&3
    hear
    [ "${code:0:1}" = "$2" ] || { printf 'QUIT\r\n' >&3; exit 1; }
}

hear
say "EHLO localhost" 2
say "MAIL FROM:<$from>" 2
say "RCPT TO:<$to>" 2
say DATA 3
for line in "From: <$from>" "To: <$to>" "Subject: $subject" ${header:+"$header"} "" "It works."; do
    printf '> %s\n' "$line"
    printf '%s\r\n' "$line" >&3
done
say . 2
say QUIT 2
