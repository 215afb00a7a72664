#!/bin/sh
# Goal: the replicated key-value store (examples/kvstore.c) is right: its parts,
# and a whole cluster under a nemesis, on a small scale (CTALK_TEST_SCALE=1 and
# tests/kvstore/kvstore for the full count); its commands do what they say, and
# its demo ends well.
set -u
build=${top_builddir:-.}
kvstore=$build/examples/kvstore
limit=$((120 * ${CTALK_TEST_TIMESCALE:-1}))
tmp=$(mktemp -d) || exit 99
servers=
trap 'for pid in $servers; do kill "$pid" 2>/dev/null; done; wait; rm -rf "$tmp"' EXIT
trap 'exit 99' INT TERM HUP
failed=0

# is NAME STATUS OUTPUT COMMAND...: runs kvstore as the client 100.
is ()
{
    name=$1
    status=$2
    output=$3
    shift 3
    got=$(timeout -k 10 "$limit" "$kvstore" "$@" --config "$tmp/config.json" --pid 100 2>"$tmp/err")
    got_status=$?
    if [ "$got_status" = "$status" ] && [ "$got" = "$output" ]; then
        echo "ok $name"
    else
        failed=$((failed + 1))
        echo "FAIL $name: status $got_status, '$got', wanted $status, '$output'; $(cat "$tmp/err")"
    fi
}

CTALK_TEST_SCALE=$(awk "BEGIN { print 10 * ${CTALK_TEST_SCALE:-1} }") "$build/tests/kvstore/kvstore" || failed=1

cat >"$tmp/config.json" <<END
{
  "Servers": {
    "1": "ipc://$tmp/1", "2": "ipc://$tmp/2", "3": "ipc://$tmp/3", "100": "ipc://$tmp/100"
  }
}
END
for pid in 1 2 3; do
    "$kvstore" serve --config "$tmp/config.json" --pid $pid --data "$tmp/data" &
    servers="$servers $!"
done
is "a key that is not there" 3 "" get colour
is "put" 0 "" put colour red
is "get" 0 red get colour
is "cas with the right value" 0 "" cas colour red green
is "cas with a wrong one" 3 green cas colour red blue
is "get after that" 0 green get colour
is "cas for a key that is there" 3 green cas colour blue
is "cas for a key that is not there" 0 "" cas shape round
is "a value with spaces" 0 "" put text "two words"
is "and back" 0 "two words" get text

if timeout -k 10 "$limit" "$kvstore" demo >"$tmp/demo" 2>&1; then
    echo "ok demo"
else
    failed=$((failed + 1))
    echo "FAIL demo"
    cat "$tmp/demo"
fi
[ "$failed" -eq 0 ]
