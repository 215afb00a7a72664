#!/bin/sh
# cli.sh - tests of the command-line tool from outside: what it prints, where,
# and with which exit status. The tool is $CLUSTERTALK.
#
# Prints "ok NAME" or "FAIL NAME" per check and a closing line with the counts;
# the exit status is 0 when nothing failed. It waits for nothing but lines and
# ends of processes, and every process has a time limit (CTALK_TEST_TIMESCALE
# multiplies it), so it cannot hang.

set -u
tool=${CLUSTERTALK:-clustertalk}
limit=$((60 * ${CTALK_TEST_TIMESCALE:-1}))
passed=0
failed=0
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT
trap 'exit 99' INT TERM HUP

ok ()
{
    passed=$((passed + 1))
    echo "ok $1"
}

fail ()
{
    failed=$((failed + 1))
    echo "FAIL $1"
    [ $# -lt 2 ] || echo "    $2"
    for stream in out err one.err two.err; do
        [ -d "$tmp/$stream" ] || [ ! -s "$tmp/$stream" ] || sed "s/^/    $stream: /" "$tmp/$stream" | cut -c 1-200 | head -n 30
    done
}

# is NAME GOT WANTED
is ()
{
    if [ "$2" = "$3" ]; then ok "$1"; else fail "$1" "got '$(echo "$2" | cut -c 1-200)', wanted '$3'"; fi
}

# contains NAME FILE TEXT: some line of the file has the text.
contains ()
{
    if grep -qF -e "$3" "$2"; then ok "$1"; else fail "$1" "no line with '$3'"; fi
}

# is_empty NAME FILE
is_empty ()
{
    if [ -s "$2" ]; then fail "$1" "not empty"; else ok "$1"; fi
}

# The tool with a time limit; a signal to it reaches the tool once.
run_tool ()
{
    timeout --foreground -k 10 "$limit" "$tool" "$@"
}

# status NAME WANTED ARGUMENT...: runs the tool to its end; out and err are kept.
status ()
{
    name=$1
    wanted=$2
    shift 2
    run_tool "$@" > "$tmp/out" 2> "$tmp/err" < /dev/null
    is "$name: status" $? "$wanted"
}

# usage NAME TEXT ARGUMENT...: wrong usage; one line says so.
usage ()
{
    name=$1
    text=$2
    shift 2
    status "$name" 2 "$@"
    contains "$name: says what was wrong" "$tmp/err" "$text"
    is "$name: in one line" "$(wc -l < "$tmp/err")" 1
    is_empty "$name: nothing on standard output" "$tmp/out"
}

# ------------------------------------------------------------- ports and configs

# Writes a config of three servers on ports that are free now. The ports are
# outside the ephemeral range; a lock per ten of them keeps other runs of this
# script away, and the tool itself tries whether it can bind.
free_config ()
{
    number=$(($$ % 1000))
    tries=0
    while [ $tries -lt 1000 ]; do
        base=$((20000 + (number + tries) % 1000 * 10))
        tries=$((tries + 1))
        exec 9> "${TMPDIR:-/tmp}/clustertalk-cli-ports-$base.lock" || exit 99
        flock -n 9 || continue
        cat > "$1" <<END
{ "Cluster": "cli",
  "Servers": { "1": "127.0.0.1:$((base + 1))", "2": "127.0.0.1:$((base + 2))", "3": "127.0.0.1:$((base + 3))" },
  "Options": { "MaxMessageBytes": 100000 } }
END
        if can_bind "$1" 1 && can_bind "$1" 2 && can_bind "$1" 3; then
            return
        fi
        rm -f "${TMPDIR:-/tmp}/clustertalk-cli-ports-$base.lock"
    done
    echo "no free ports"
    exit 99
}

can_bind ()
{
    run_tool run --config "$1" --pid "$2" < /dev/null > "$tmp/out" 2> "$tmp/err"
}

# ------------------------------------------------------------------------- usage

# Every way to use it wrongly ends with status 2 and one line that names it.
test_usage ()
{
    usage "no command" "a command is missing"
    usage "unknown command" "unknown command 'talk'" talk
    usage "unknown option" "unknown option '--loud'" --loud
    usage "unknown short option" "unknown option '-x'" demo -x
    usage "demo: no file" "FILE is missing" demo
    usage "demo: two files" "not also 'b'" demo a b
    usage "demo: unknown option" "unknown option '--fast'" demo --fast f
    usage "demo: missing argument" "option '--servers' needs an argument" demo f --servers
    usage "demo: unwanted argument" "option '--help' takes no argument" demo --help=yes
    usage "demo: not a number" "--servers: 'five' is not a number" demo --servers five f
    usage "demo: one server" "--servers: '1' is not a number from 2" demo --servers 1 f
    usage "demo: negative repeat" "--repeat: '-3' is not a number" demo --repeat -3 f
    usage "demo: repeat out of range" "--repeat: '99999999999999999999' is not" demo --repeat 99999999999999999999 f
    usage "run: no config" "--config FILE is missing" run --pid 1
    usage "run: no pid" "--pid N is missing" run --config f
    usage "run: bad pid" "--pid: '-1' is not a number" run --config f --pid -1
    usage "run: bad receiver" "--to: 'all' is not a pid or *" run --config f --pid 1 --to all
    usage "run: an argument" "unexpected argument 'hello'" run --config f --pid 1 hello
    usage "check-config: no file" "FILE is missing" check-config
    usage "check-config: two files" "not also 'b'" check-config a b
}

# Help and version go to standard output and are no error.
test_help ()
{
    for words in "--help" "-h" "demo --help" "run --help" "run -h" "check-config --help"; do
        # shellcheck disable=SC2086 # words are to be split
        status "$words" 0 $words
        contains "$words: text" "$tmp/out" "Usage: clustertalk"
        is_empty "$words: no error" "$tmp/err"
    done
    status "--version" 0 --version
    contains "--version: text" "$tmp/out" "clustertalk 0."
    # Standard output that cannot be written is an error, a reader that went is none.
    run_tool --help > /dev/full 2> "$tmp/err"
    is "help on a full disk: status" $? 1
    contains "help on a full disk: says so" "$tmp/err" "standard output"
}

# ------------------------------------------------------------------ check-config

# A good config: ok and a summary; a bad one: each error with line and column.
test_check_config ()
{
    status "good config" 0 check-config "$config"
    contains "good config: ok" "$tmp/out" "$config: ok"
    contains "good config: servers" "$tmp/out" "3, pids 1 to 3"
    contains "good config: option" "$tmp/out" "MaxMessageBytes 100000"
    contains "good config: descriptors and threads" "$tmp/out" "32 descriptors and 3 threads"
    is_empty "good config: no error" "$tmp/err"

    cat > "$tmp/bad.json" <<'END'
{
  "Servers": { "1": "127.0.0.1:5001", "2": "127.0.0.1" },
  "Options": { "QueueBytez": 1 }
}
END
    status "bad config" 1 check-config "$tmp/bad.json"
    contains "bad config: first error" "$tmp/err" "$tmp/bad.json:2:"
    contains "bad config: second error" "$tmp/err" "$tmp/bad.json:3:"
    contains "bad config: names the option" "$tmp/err" "QueueBytez"
    is "bad config: one line each" "$(wc -l < "$tmp/err")" 2
    is_empty "bad config: not ok" "$tmp/out"

    echo '{ "Servers": { "1": "127.0.0.1:5001" }, }' > "$tmp/comma.json"
    status "not JSON" 1 check-config "$tmp/comma.json"
    contains "not JSON: where" "$tmp/err" "$tmp/comma.json:1:"

    status "no such file" 1 check-config "$tmp/nowhere.json"
    contains "no such file: named" "$tmp/err" "$tmp/nowhere.json"
}

# --------------------------------------------------------------------------- run

# start NAME ARGUMENT...: a server in the background, fed from and read through
# fifos: NAME.in, NAME.out; $started is its process.
start ()
{
    server=$1
    shift
    rm -f "$tmp/$server.in" "$tmp/$server.out"
    mkfifo "$tmp/$server.in" "$tmp/$server.out"
    # In a shell of its own that becomes the tool: no copy of the test's own ends
    # of the fifos stays open.
    (
        exec 3>&- 4>&- 5<&- 6<&- 7<&- 9>&-
        exec timeout --foreground -k 10 "$limit" "$tool" run --config "$config" "$@" \
            < "$tmp/$server.in" > "$tmp/$server.out" 2> "$tmp/$server.err"
    ) &
    started=$!
}

# next_is NAME DESCRIPTOR-NUMBER WANTED: the next line of the output is this one.
next_is ()
{
    line=
    case $2 in
        5) IFS= read -r line <&5 ;;
        6) IFS= read -r line <&6 ;;
    esac
    is "$1" "$line" "$3"
}

# Two servers: lines go both ways, to one and to all, and a peer's bytes cannot
# drive the terminal. The end of the input and SIGTERM close cleanly.
test_run_two ()
{
    start one --pid 1
    one=$started
    exec 3> "$tmp/one.in" 5< "$tmp/one.out"
    start two --pid 2 --to '1'
    two=$started
    exec 4> "$tmp/two.in" 6< "$tmp/two.out"

    echo '2 hello, two' >&3
    next_is "point to point" 6 '1 1 hello, two'
    echo '2 this line has its own pid' >&4
    next_is "--to sends whole lines" 5 '2 1 2 this line has its own pid'
    echo '* to everybody' >&3
    next_is "broadcast" 6 '1 2 to everybody'
    echo 'not addressed' >&3
    echo '2 after the bad line' >&3
    next_is "message ids are line numbers" 6 '1 4 after the bad line'
    echo '9 nobody' >&3
    echo '2 ' >&3
    next_is "an empty text" 6 '1 6 '
    echo '1 to myself' >&3
    next_is "local delivery" 5 '1 7 to myself'
    printf '2 a\tb \\ \033[31m \303\244 \302\205 \377\n' >&3
    next_is "control characters are escaped" 6 "1 8 a	b \\\\ \\x1b[31m ä \\xc2\\x85 \\xff"
    head -c 100001 /dev/zero | tr '\0' 'x' | sed 's/^/2 /' >&3
    echo '' >&3
    echo '2 after the long line' >&3
    next_is "a line that is too long is left out" 6 '1 10 after the long line'
    printf '2 no newline' >&3
    exec 3>&-
    next_is "the last line needs no newline" 6 '1 11 no newline'
    wait $one
    is "end of input, some lines refused: status" $? 1
    contains "a bad line is told" "$tmp/one.err" "line 3: not \"PID TEXT\""
    contains "an unknown pid is told" "$tmp/one.err" "line 5: there is no server 9"
    contains "a line too long is told" "$tmp/one.err" "line 9:"

    exec 5<&-
    kill -TERM $two
    wait $two
    is "SIGTERM closes: status" $? 0
    is_empty "SIGTERM closes: nothing to say" "$tmp/two.err"
    exec 4>&- 6<&-
}

# A peer that is not there: the count of what was left, and the status say so.
test_run_undelivered ()
{
    printf '2 a\n2 b\n3 c\n' | run_tool run --config "$config" --pid 1 --timeout 300 > "$tmp/out" 2> "$tmp/err"
    is "absent peer: status" $? 1
    contains "absent peer: the count" "$tmp/err" "3 envelopes were not delivered"
    contains "absent peer: for whom" "$tmp/err" "2 to server 2, 1 to server 3"

    start one --pid 1 --timeout 300
    exec 3> "$tmp/one.in" 5< "$tmp/one.out"
    echo '2 left behind' >&3
    echo '1 seen' >&3
    next_is "absent peer: others are served" 5 '1 2 seen'
    kill -INT $started
    wait $started
    is "absent peer, SIGINT: status" $? 1
    contains "absent peer, SIGINT: the count" "$tmp/one.err" "1 envelope was not delivered"
    exec 3>&- 5<&-
}

# --events tells what becomes of the others, in order, and nothing of it on standard output.
test_run_events ()
{
    start one --pid 1 --events
    one=$started
    exec 3> "$tmp/one.in" 5< "$tmp/one.out"
    for life in first second; do
        start two --pid 2
        exec 4> "$tmp/two.in" 6< "$tmp/two.out"
        echo "1 from the $life" >&4
        next_is "events: the $life one's line" 5 "2 1 from the $life"
        kill -TERM $started
        wait $started
        exec 4>&- 6<&-
    done
    kill -TERM $one
    wait $one
    is "events: status" $? 0
    contains "events: left" "$tmp/one.err" "server 2: left: it closed"
    contains "events: restarted" "$tmp/one.err" "server 2: restarted: "
    first=$(grep -n 'server 2: left' "$tmp/one.err" | head -n 1 | cut -d : -f 1)
    second=$(grep -n 'server 2: restarted' "$tmp/one.err" | head -n 1 | cut -d : -f 1)
    is "events: in order" "$((first < second))" 1
    exec 3>&- 5<&-
}

# A reader that goes away ends the server without a word.
test_run_reader_gone ()
{
    start one --pid 1
    exec 3> "$tmp/one.in" 5< "$tmp/one.out"
    exec 5<&-
    echo '1 nobody reads this' >&3
    wait $started
    is "reader gone: status" $? 0
    is_empty "reader gone: quietly" "$tmp/one.err"
    exec 3>&-
}

# Many lines through small queues both ways at once: neither side stops.
test_run_many ()
{
    sed 's/"MaxMessageBytes"/"QueueBytes": 65536, &/' "$config" > "$tmp/small.json"
    count=20000
    saved=$config
    config=$tmp/small.json
    start one --pid 1 --to 2
    one=$started
    start two --pid 2 --to 1
    two=$started
    config=$saved
    # Both ends are kept open until all has come: either would close the server.
    exec 3> "$tmp/one.in" 4> "$tmp/two.in" 5< "$tmp/one.out" 6< "$tmp/two.out"
    seq 1 $count >&3 &
    seq 1 $count >&4 &
    head -n $count <&5 > "$tmp/one.lines" 3>&- 4>&- &
    reader=$!
    head -n $count <&6 > "$tmp/two.lines" 3>&- 4>&-
    wait $reader
    exec 3>&- 4>&-
    wait $one
    is "many lines, one: status" $? 0
    wait $two
    is "many lines, two: status" $? 0
    exec 5<&- 6<&-
    seq 1 $count | sed 's/.*/2 & &/' > "$tmp/wanted"
    if cmp -s "$tmp/wanted" "$tmp/one.lines"; then ok "many lines to one"; else fail "many lines to one"; fi
    seq 1 $count | sed 's/.*/1 & &/' > "$tmp/wanted"
    if cmp -s "$tmp/wanted" "$tmp/two.lines"; then ok "many lines to two"; else fail "many lines to two"; fi
}

# What the start of a server can refuse.
test_run_refusals ()
{
    status "pid not in the config" 1 run --config "$config" --pid 7
    contains "pid not in the config: named" "$tmp/err" "7"
    status "receiver not in the config" 1 run --config "$config" --pid 1 --to 8
    contains "receiver not in the config: named" "$tmp/err" "no server 8"
    status "no config" 1 run --config "$tmp/nowhere.json" --pid 1
    contains "no config: named" "$tmp/err" "$tmp/nowhere.json"

    start one --pid 1
    exec 3> "$tmp/one.in" 5< "$tmp/one.out"
    echo '1 ready' >&3
    next_is "a server is up" 5 '1 1 ready'
    status "port taken" 1 run --config "$config" --pid 1
    contains "port taken: said so" "$tmp/err" "in use"
    status "demo: port taken" 1 demo --config "$config" "$tmp/text"
    contains "demo: port taken: said so" "$tmp/err" "is taken"
    exec 3>&-
    wait $started
    exec 5<&-
}

# -------------------------------------------------------------------------- demo

# The lines of a file go through, three ways, and the table adds up.
test_demo ()
{
    printf 'a line\n\n\tanother, and an empty one\nthe last without its end' > "$tmp/text"
    status "demo" 0 demo --config "$config" --repeat 10 "$tmp/text"
    is_empty "demo: no progress in a pipe" "$tmp/err"
    # 40 lines: 2 x 40 point to point, 3 x 2 x 40 broadcast, 3 x 40 round the ring.
    is "demo: totals" "$(awk '$1 == "all" { print $2, $3, $4, $5, $6 }' "$tmp/out")" "440 440 0 0 0"
    is "demo: a row per server" "$(grep -c '^  *[123] ' "$tmp/out")" 3
    contains "demo: the verdict" "$tmp/out" "All is well"

    status "demo on ports of the system" 0 demo --servers 2 "$tmp/text"
    is "demo on ports of the system: totals" "$(awk '$1 == "all" { print $2, $3 }' "$tmp/out")" "20 20"
    status "demo with a part of the config" 0 demo --config "$config" --servers 2 "$tmp/text"
    is "demo with a part of the config: rows" "$(grep -c '^  *[123] ' "$tmp/out")" 2

    status "demo: too few servers listed" 1 demo --config "$config" --servers 4 "$tmp/text"
    contains "demo: too few servers listed: said so" "$tmp/err" "lists 3 servers, not 4"
    status "demo: no file" 1 demo --servers 2 "$tmp/nowhere"
    contains "demo: no file: named" "$tmp/err" "$tmp/nowhere: No such file"
    : > "$tmp/empty"
    status "demo: empty file" 1 demo --servers 2 "$tmp/empty"
    contains "demo: empty file: said so" "$tmp/err" "no line"
    status "demo: a directory" 1 demo --servers 2 "$tmp"
}

# A demo that runs for long, in the background; returns when its servers are at
# work. $demo is its process, $children are those of its servers.
start_demo ()
{
    seq 1 100 > "$tmp/numbers"
    rm -f "$tmp/demo.out"
    mkfifo "$tmp/demo.out"
    (
        exec timeout --foreground -k 10 "$limit" "$tool" demo --servers 3 --repeat 100000 "$@" "$tmp/numbers" \
            > "$tmp/demo.out" 2> "$tmp/err" < /dev/null
    ) &
    started=$!
    exec 7< "$tmp/demo.out"
    IFS= read -r line <&7
    demo=$(children_of $started)
    children=$(children_of "$demo")
}

children_of ()
{
    read -r found < "/proc/$1/task/$1/children"
    echo "$found"
}

# The rest of what the demo printed, its status in $result.
end_demo ()
{
    cat <&7 > "$tmp/out"
    wait $started
    result=$?
    exec 7<&-
}

none_left ()
{
    left=
    for child in $children; do
        [ ! -e "/proc/$child" ] || left="$left $child"
    done
    is "$1" "$left" ""
}

# Whatever becomes of a server, the demo ends, says so, and leaves none behind.
test_demo_trouble ()
{
    start_demo
    # shellcheck disable=SC2086 # a word per process
    set -- $children
    is "demo: a process per server" $# 3
    kill -KILL "$2"
    end_demo
    is "demo: a server is killed: status" $result 1
    contains "demo: a server is killed: said so" "$tmp/err" "server 2 (process $2) was killed by signal 9"
    contains "demo: a server is killed: the verdict" "$tmp/out" "not well"
    none_left "demo: a server is killed: none left"

    start_demo --timeout 1000
    # shellcheck disable=SC2086 # a word per process
    set -- $children
    kill -STOP "$2"
    end_demo
    is "demo: a server is stopped: status" $result 1
    contains "demo: a server is stopped: said so" "$tmp/err" "nothing has moved for 1000 ms"
    none_left "demo: a server is stopped: none left"

    start_demo
    kill -INT "$started"
    end_demo
    is "demo: SIGINT: status" $result 130
    none_left "demo: SIGINT: none left"

    start_demo
    kill -TERM "$started"
    end_demo
    is "demo: SIGTERM: status" $result 143
    none_left "demo: SIGTERM: none left"
}

config=$tmp/config.json
free_config "$config"
test_usage
test_help
test_check_config
test_demo
test_run_two
test_run_undelivered
test_run_events
test_run_reader_gone
test_run_many
test_run_refusals
test_demo_trouble
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
