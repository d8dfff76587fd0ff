#!/usr/bin/env bash
# private.sh - starts a private Postfix instance in its own directory, for trying Sluice in front of a real MTA, and for tests.
#   private.sh start DIR PORT [discard]   listens on 127.0.0.1:PORT, takes XCLIENT from 127.0.0.1, delivers all mail to DIR/mail/
#                                         ("discard": throws it away)
#                                         PRIVATE_POSTFIX_CF: further lines of main.cf
#   private.sh stop DIR                   ends it, by its own pid file
# Needs root (so does Postfix) and Debian's package postfix. Nothing of the system's own Postfix is touched.
set -eu
usage() { sed -n '2,7s/^# //p' "$0"; exit 2; }
[ $# -ge 2 ] || usage
verb=$1
dir=$(mkdir -p "$2" && cd "$2" && pwd)

# Postfix writes errors to one of the two files; if it cannot read its configuration, only to syslog, and postconf prints the reason.
failed() {
    echo "private.sh: $1; it says:" >&2
    tail -q -n 5 "$dir/start.log" "$dir/log" >&2
    postconf -c "$dir/etc" -n 2>&1 >/dev/null | tail -n 5 >&2
}

start() {
    local port=$1 transport=${2:-virtual:}
    [ "$transport" = discard ] && transport=discard:
    [ "$(id -u)" = 0 ] || { echo 'private.sh: Postfix starts as root only' >&2; exit 1; }
    mkdir -p "$dir/queue" "$dir/data" "$dir/etc" "$dir/mail"
    chown root "$dir/queue"
    chown postfix "$dir/data"
    chown nobody "$dir/mail"
    cat > "$dir/etc/main.cf" <<CF
compatibility_level = 3.6
enable_long_queue_ids = yes
queue_directory = $dir/queue
data_directory = $dir/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mta.example.net
mydestination =
mynetworks = 127.0.0.0/8
smtpd_authorized_xclient_hosts = 127.0.0.0/8
local_header_rewrite_clients =
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions = check_recipient_access inline:{ { unknown@example.net = 550 5.1.1 no such user here } }, permit
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_peername_lookup = no
default_transport = $transport
relay_transport = $transport
virtual_mailbox_domains = static:all
virtual_mailbox_base = $dir/mail
virtual_mailbox_maps = static:all/
virtual_minimum_uid = 100
virtual_uid_maps = static:$(id -u nobody)
virtual_gid_maps = static:$(id -g nobody)
virtual_mailbox_limit = 0
message_size_limit = 268435456
alias_maps =
maillog_file = $dir/log
maillog_file_prefixes = $dir
${PRIVATE_POSTFIX_CF:-}
CF
    cat > "$dir/etc/master.cf" <<CF
127.0.0.1:$port inet n - n - 200 smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
discard unix - - n - - discard
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
CF
    chmod 755 "$dir" "$dir/etc"
    : >> "$dir/log"
    chown postfix "$dir/log"
    postfix -c "$dir/etc" start >"$dir/start.log" 2>&1 || { failed 'Postfix does not start'; exit 1; }
    for _ in $(seq 50); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return 0
        sleep 0.1
    done
    failed "Postfix does not answer on port $port"
    exit 1
}

case $verb in
start) [ $# -ge 3 ] || usage; start "$3" "${4:-}" ;;
stop) [ ! -e "$dir/etc/main.cf" ] || postfix -c "$dir/etc" stop >>"$dir/start.log" 2>&1 || true ;;
*) usage ;;
esac
