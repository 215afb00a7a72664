#!/bin/sh
# Goal: no file includes what stands below it in the order of the layers (the
# list is in HACKING.md), only src/sock.c knows libzmq and only config/ knows
# jsmn; and this check itself catches each kind of violation.
set -eu
top=${srcdir:-$(dirname "$0")/..}

# Prints every violation in a tree; nothing when it is in order.
violations () {
    (
        cd "$1"
        for dir in src config actors sim cli bench examples; do
            if [ -d "$dir" ]; then find "$dir" -name '*.[ch]' -o -name '*.cc'; fi
        done | LC_ALL=C sort | xargs grep -nE '^[[:space:]]*#[[:space:]]*include' /dev/null | awk "$rules"
    )
}

# A layer holds the stems of files (session_out and session_in are one) or a
# folder. A file may include the layers above its own and its own.
# shellcheck disable=SC2016 # awk, not sh
rules='
BEGIN {
    layer("src/base src/countdown src/error src/mem src/log src/sys src/lock src/calls")
    layer("src/envelope src/wire src/crc32c src/route src/peers src/fault src/notice")
    layer("src/session src/life src/supervision")
    layer("src/sock src/mailbox src/ways src/outbox src/inbox src/hall src/node")
    layer("config/")
    layer("actors/")
    layer("src/server actors/supervisor")
    layer("sim/")
    pure = 3                # the second and this one: no socket and no clock; this one no lock either
}
function layer (names,    n, i, name) {
    layers++
    n = split (names, name, " ")
    for (i = 1; i <= n; i++) rank[name[i]] = layers
}
function stem (path) {
    sub (/\.[a-z]+$/, "", path)
    sub (/^src\/session_.*/, "src/session", path)
    sub (/^src\/hall_.*/, "src/hall", path)
    sub (/^src\/server_.*/, "src/server", path)
    if (path in rank) return path
    sub (/\/.*/, "/", path)
    return path
}
function bad (why) {
    printf "%s:%s: %s: %s\n", file, line, target, why
}
{
    split ($0, part, ":")
    file = part[1]; line = part[2]
    text = $0
    sub (/^[^:]*:[^:]*:/, "", text)
    quoted = text ~ /include[ \t]*"/
    target = text
    sub (/^[^"<]*["<]/, "", target)
    sub (/[">].*$/, "", target)
    folder = file; sub (/\/.*/, "/", folder)
    own = stem (file)

    if (!(own in rank) && folder ~ /^(src|config|actors|sim)\//) {
        if (!told[file]++) bad ("the file is in no layer; name its place in tests/includes.sh")
        next
    }
    if (target == "zmq.h" && file != "src/sock.c" && folder != "bench/")
        bad ("only src/sock.c (and the benches, for their yardsticks) may know libzmq")
    if (target == "jsmn.h" && folder != "config/")
        bad ("only config/ may know jsmn")
    if (own in rank && rank[own] > 1 && rank[own] <= pure && folder == "src/" \
        && (target ~ /^(threads|time|sys\/time|poll|sys\/socket|sys\/epoll|sys\/eventfd|unistd)\.h$/ \
            || (target == "pthread.h" && rank[own] == pure)))
        bad ("this layer is pure: no socket, no thread, no clock")
    if (target == "clustertalk_sim.h" && folder != "sim/" && folder != "examples/")
        bad ("only the simulator and its users know it")
    if (target ~ /^clustertalk(_sim)?\.h$/) {
        if (quoted) bad ("the public header is included as <clustertalk.h>")
        next
    }
    if (!quoted) {
        if (target ~ /^(src|config|actors|sim|cli|tests|bench|examples|include)\//)
            bad ("a header of this tree is included in quotes")
        next
    }
    if (target !~ /\//) { bad ("the path from the top of the tree is missing"); next }
    if (target == "tests/support/chaos.h" && folder == "bench/") next     # a tool, no part of the library
    if (!(own in rank)) {                           # cli, bench, examples
        if (index (target, folder) != 1) bad ("only <clustertalk.h> and headers of " folder " may be used here")
        next
    }
    to = stem (target)
    if (!(to in rank)) bad ("this header is in no layer")
    else if (rank[to] > rank[own]) bad ("stands below " own " in the order of the layers")
}'

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
status=0
wrong=0

# in_order FILE LINE: whether a tree that holds only this line is in order.
in_order () {
    rm -rf "$scratch/tree"
    mkdir -p "$scratch/tree/$(dirname "$1")"
    printf '%s\n' "$2" >"$scratch/tree/$1"
    [ -z "$(violations "$scratch/tree")" ]
}

must_catch () {
    if in_order "$@"; then
        echo "not caught: $2 in $1"
        wrong=$((wrong + 1))
    fi
}

must_pass () {
    if ! in_order "$@"; then
        echo "wrongly caught: $2 in $1"
        wrong=$((wrong + 1))
    fi
}

# result NUMBER WHAT COMMAND...
result () {
    number=$1
    what=$2
    shift 2
    if "$@"; then
        echo "ok $number - $what"
    else
        echo "not ok $number - $what"
        status=1
    fi
}

must_catch src/wire.c '#include "src/session.h"'
must_catch src/session_in.c '#include "src/sock.h"'
must_catch src/session.h '#include "actors/actor.h"'
must_catch src/mailbox.c '#include "config/config.h"'
must_catch config/config.c '#include "actors/router.h"'
must_catch actors/router.c '#include "src/server.h"'
must_catch actors/router.c '#include <zmq.h>'
must_catch cli/cmd_run.c '  #  include "zmq.h"'
must_catch src/server.c '#include <jsmn.h>'
must_catch src/session_in.c '#include <pthread.h>'
must_catch src/wire.c '#include <sys/socket.h>'
must_catch src/session_out.c '#include <time.h>'
must_catch src/fault.c '#include "src/session.h"'
must_catch cli/cmd_run.c '#include "src/base.h"'
must_catch examples/pair.c '#include "config/config.h"'
must_catch bench/oneway.c '#include "src/mem.h"'
must_catch bench/oneway.c '#include "tests/support/payload.h"'
must_catch examples/pair.c '#include "tests/support/chaos.h"'
must_catch src/newcomer.c '#include "src/base.h"'
must_catch src/server.c '#include "src/newcomer.h"'
must_catch src/server.c '#include "base.h"'
must_catch src/server.c '#include <src/base.h>'
must_catch src/server.c '#include "clustertalk.h"'
must_catch src/inbox.c '#include "sim/sched.h"'
must_catch src/server.c '#include <clustertalk_sim.h>'
must_catch sim/sched.c '#include <zmq.h>'
must_catch examples/pair.c '#include "sim/sched.h"'
must_pass sim/sim_sock.c '#include "src/sock.h"'
must_pass sim/sched.h '#include <clustertalk_sim.h>'
must_pass src/sock.c '#include <zmq.h>'
must_pass config/json.c '#include <jsmn.h>'
must_pass actors/router.c '#include "src/session.h"'
must_pass src/session_out.c '#include "src/wire.h"'
must_pass cli/cmd_run.c '#include "cli/cli.h"'
must_pass bench/oneway.c '#include <zmq.h>'
must_pass bench/recovery.c '#include "tests/support/chaos.h"'
must_pass src/sys.c '#include <time.h>'

result 1 "the check catches each kind of violation, and only those" test "$wrong" -eq 0

# And the tree itself: it has files to look at, and they are in order.
found=$(violations "$top")
printf '%s' "${found:+$found
}"
result 2 "the tree keeps the order of its layers" test -f "$top/src/base.h" -a -z "$found"
exit $status
