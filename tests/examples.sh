#!/bin/sh
# Goal: the examples do what they say they show: three people chat, one of them
# is killed and comes back; the words of a file are counted by servers of which
# one is killed meanwhile, and counted right.
#
# The servers talk over ipc in a folder of this test, so no port is needed. It
# waits for nothing but lines and ends of processes, and every process has a time
# limit (CTALK_TEST_TIMESCALE multiplies it), so it cannot hang.
set -eu
top=$(cd "${top_srcdir:-$(dirname "$0")/..}" && pwd)
build=$(cd "${top_builddir:-.}" && pwd)
limit=$((120 * ${CTALK_TEST_TIMESCALE:-1}))
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 99' INT TERM HUP
count=0
failures=0

# check WHAT COMMAND...: one test, passed when the command succeeds.
check () {
    what=$1
    shift
    count=$((count + 1))
    if "$@"; then
        echo "ok $count - $what"
    else
        failures=$((failures + 1))
        echo "not ok $count - $what"
    fi
}

# config FILE COUNT: a config of so many servers.
config () {
    servers=
    number=0
    while [ $number -lt "$2" ]; do
        number=$((number + 1))
        servers="$servers${servers:+, }\"$number\": \"ipc://$scratch/$number\""
    done
    printf '{"Cluster": "examples", "Servers": {%s}}\n' "$servers" >"$1"
}

# example PROGRAM ARGUMENT...: within the limit.
example () {
    program=$1
    shift
    timeout --foreground -k 10 "$limit" "$build/examples/$program" "$@"
}

# says STATUS TEXT PROGRAM ARGUMENT...: whether it ends with this status and a
# line of its standard error has this text.
says () {
    wanted=$1
    complaint=$2
    shift 2
    status=0
    example "$@" >"$scratch/out" 2>"$scratch/err" </dev/null || status=$?
    [ "$status" -eq "$wanted" ] && grep -qF -e "$complaint" "$scratch/err" && return 0
    echo "status $status, wanted $wanted and '$complaint'"
    cat "$scratch/out" "$scratch/err"
    return 1
}

# ---------------------------------------------------------------- the word count

text=$top/COPYING
LC_ALL=C tr 'A-Z' 'a-z' <"$text" | LC_ALL=C tr -cs 'a-z\200-\377' '\n' | grep . >"$scratch/words"
LC_ALL=C sort "$scratch/words" | uniq -c | LC_ALL=C sort -k 1,1nr -k 2,2 | head -n 10 |
    awk '{ printf "%8d %s\n", $1, $2 }' >"$scratch/most"
total=$(wc -l <"$scratch/words")
different=$(LC_ALL=C sort -u "$scratch/words" | wc -l)

# counts ARGUMENT...: whether wordcount ends well, and with the figures above.
counts () {
    if TMPDIR=$scratch/tmp example wordcount "$@" "$text" >"$scratch/out" 2>"$scratch/err" </dev/null &&
        grep '^ *[0-9][0-9]* [^ ]*$' "$scratch/out" | diff - "$scratch/most" &&
        grep -qx "$total words, $different different, in .*" "$scratch/out" &&
        grep -qx "a plain count says the same: $total words, $different different" "$scratch/out"; then
        return 0
    fi
    cat "$scratch/out" "$scratch/err"
    return 1
}

# printed PATTERN: whether a line of the last wordcount is this.
printed () {
    grep -qx -e "$1" "$scratch/out" && return 0
    cat "$scratch/out" "$scratch/err"
    return 1
}
# At least MIN parts came back, and not all of them.
came_back () {
    again=$(sed -n 's/^handed out again: //p' "$scratch/out")
    [ "${again:-0}" -ge "$1" ] && [ "$again" -lt "$2" ] && return 0
    cat "$scratch/out"
    return 1
}

mkdir "$scratch/tmp"
check "wordcount: four servers count as one process does" counts
check "wordcount: parts and servers as it was told" counts --servers 2 --parts 7
check "wordcount: it says how many" printed ".* in 7 parts on 2 servers"
check "wordcount: one server, more parts than words" counts --servers 1 --parts 4096
check "wordcount: a worker and a server are killed, and nothing is lost" counts --servers 3 --parts 20 --kill
check "wordcount: a worker died with its part" printed "server [123]: the worker dies half through part [0-9]*, .*"
check "wordcount: a process died with its part" printed "server [23]: the process dies half through part [0-9]*, .*"
check "wordcount: the process was started again" printed "server [23] was killed by signal 9, and is started again"
check "wordcount: the two parts were handed out again, the others not" came_back 2 20
check "wordcount: one server, whose worker is killed" counts --servers 1 --parts 3 --kill
check "wordcount: the part was handed out again" came_back 1 3
config "$scratch/four.json" 4
check "wordcount: the first servers of a config" counts --config "$scratch/four.json" --servers 3 --kill
check "wordcount: they are three" printed ".* in 64 parts on 3 servers"
: >"$scratch/empty"
no_words () {
    example wordcount "$scratch/empty" >"$scratch/out" 2>"$scratch/err" </dev/null
}
check "wordcount: an empty file" no_words
check "wordcount: it has no words" printed "0 words, 0 different, in 64 parts on 4 servers"
check "wordcount: no file" says 1 "$scratch/nowhere: No such file" wordcount "$scratch/nowhere"
check "wordcount: no config" says 1 "$scratch/nowhere" wordcount --config "$scratch/nowhere" "$text"
check "wordcount: too few servers in the config" says 1 "lists 4 servers" \
    wordcount --config "$scratch/four.json" --servers 5 "$text"
check "wordcount: wrong usage" says 2 "--servers: a number" wordcount --servers none "$text"
check "wordcount: no file is wrong usage" says 2 "usage: wordcount" wordcount
check "wordcount: nothing is left behind" rmdir "$scratch/tmp"

# ---------------------------------------------------------------------- the chat

# enter PID NAME: a person in the background, NAME.in and NAME.out are fifos;
# $entered is the process of its time limit.
enter () {
    mkfifo "$scratch/$2.in" "$scratch/$2.out"
    : >"$scratch/$2.seen"
    # In a shell of its own that becomes the program: no copy of the test's own
    # ends of the fifos stays open.
    (
        exec 3>&- 4>&- 5>&- 6<&- 7<&- 8<&-
        exec timeout --foreground -k 10 "$limit" "$build/examples/chat" --config "$scratch/three.json" --pid "$1" \
            --name "$2" <"$scratch/$2.in" >"$scratch/$2.out" 2>"$scratch/$2.err"
    ) &
    entered=$!
}

# seen NAME DESCRIPTOR LINE: waits until this person has printed this line.
seen () {
    while ! grep -qxF -e "$3" "$scratch/$1.seen"; do
        if ! IFS= read -r line <&"$2"; then
            echo "$1 has ended without '$3', and printed:"
            cat "$scratch/$1.seen" "$scratch/$1.err"
            return 1
        fi
        printf '%s\n' "$line" >>"$scratch/$1.seen"
    done
}

# never NAME TEXT: no line that this person has printed so far has it.
never () {
    ! grep -F -e "$2" "$scratch/$1.seen"
}

# ends STATUS PROCESS NAME
ends () {
    status=0
    wait "$2" 2>"$scratch/noise" || status=$?
    [ "$status" -eq "$1" ] && return 0
    echo "status $status, wanted $1"
    cat "$scratch/$3.err"
    return 1
}

complained () {
    grep -qF -e "$2" "$scratch/$1.err" && return 0
    cat "$scratch/$1.err"
    return 1
}

config "$scratch/three.json" 3
enter 1 ann
ann=$entered
exec 3>"$scratch/ann.in" 6<"$scratch/ann.out"
echo 'to myself' >&3
check "chat: alone" seen ann 6 '* nobody else is here'
enter 2 bob
bob=$entered
exec 4>"$scratch/bob.in" 7<"$scratch/bob.out"
check "chat: the first sees the second" seen ann 6 '* bob has joined (server 2)'
check "chat: the second sees the first" seen bob 7 '* ann has joined (server 1)'
echo 'hello, bob' >&3
check "chat: a line" seen bob 7 'ann: hello, bob'
enter 3 cem
cem=$entered
exec 5>"$scratch/cem.in" 8<"$scratch/cem.out"
check "chat: a third comes, the first sees it" seen ann 6 '* cem has joined (server 3)'
check "chat: the second sees it" seen bob 7 '* cem has joined (server 3)'
check "chat: it sees the first" seen cem 8 '* ann has joined (server 1)'
check "chat: it sees the second" seen cem 8 '* bob has joined (server 2)'
printf 'a\tb \033[31m \303\274\n' >&5
check "chat: a line to all; it cannot drive a terminal" seen ann 6 'cem: a	b ?[31m ü'
check "chat: the same at the other one" seen bob 7 'cem: a	b ?[31m ü'
echo '/who' >&4
check "chat: who is there" seen bob 7 '* in the chat: 3'
check "chat: the first" seen bob 7 '* server 1: ann'
check "chat: oneself" seen bob 7 '* server 2: bob (you)'
check "chat: the third" seen bob 7 '* server 3: cem'
echo '/msg 1 for you alone' >&4
echo 'for all' >&4
check "chat: to one" seen ann 6 'bob to you: for you alone'
check "chat: to all, by the third" seen cem 8 'bob: for all'
check "chat: the third got only that" never cem 'alone'
check "chat: nobody sees the own lines again" never bob 'for all'

# The process, not its time limit. No newline ends what stands there.
read -r process <"/proc/$bob/task/$bob/children" || :
# shellcheck disable=SC2086 # its list ends with a blank
kill -KILL $process
check "chat: one is killed" ends 137 "$bob" bob
exec 4>&- 7<&-
enter 2 bobby
bobby=$entered
exec 4>"$scratch/bobby.in" 7<"$scratch/bobby.out"
check "chat: the others see that it is gone" seen ann 6 '* bob has left'
check "chat: and who has come in its place" seen ann 6 '* bobby has joined (server 2)'
check "chat: so does the third" seen cem 8 '* bobby has joined (server 2)'
check "chat: who sees the others" seen bobby 7 '* ann has joined (server 1)'
check "chat: all of them" seen bobby 7 '* cem has joined (server 3)'
echo 'here again' >&4
check "chat: its line" seen cem 8 'bobby: here again'

printf 'I must go' >&5
exec 5>&-
check "chat: the last line needs no end" seen ann 6 'cem: I must go'
check "chat: one leaves" seen ann 6 '* cem has left'
check "chat: the other one sees it" seen bobby 7 '* cem has left'
check "chat: it has ended well" ends 0 "$cem" cem
exec 8<&-
echo '/msg 3 still there?' >&4
echo '/msg 9 who is that?' >&4
echo '/dance' >&4
echo '/msg ann' >&4
echo 'that was it' >&4
check "chat: a line after some that are wrong" seen ann 6 'bobby: that was it'
check "chat: who has left cannot be told" complained bobby 'chat: to server 3: '
check "chat: a server that there is not" complained bobby 'chat: to server 9: there is no such server'
check "chat: a command that there is not" complained bobby 'chat: a text, /msg PID TEXT or /who'
check "chat: a message without a pid" complained bobby 'chat: /msg PID TEXT'
kill -TERM "$bobby"
check "chat: a signal ends it, and some lines did not go out" ends 1 "$bobby" bobby
check "chat: it has left" seen ann 6 '* bobby has left'
exec 3>&- 4>&- 7<&-
check "chat: the last one leaves" ends 0 "$ann" ann
check "chat: and had nothing to complain of" test ! -s "$scratch/ann.err"
exec 6<&-
check "chat: no config" says 1 "$scratch/nowhere" chat --config "$scratch/nowhere" --pid 1 --name ann
check "chat: a pid that the config does not have" says 1 "chat: " chat --config "$scratch/three.json" --pid 4 --name ann
check "chat: wrong usage" says 2 "usage: chat" chat --config "$scratch/three.json" --pid 1
check "chat: a name that is none" says 2 "usage: chat" chat --config "$scratch/three.json" --pid 1 --name ''

# -------------------------------------------------------------------- the README

# Whether the README's table has each program of examples/.
are_listed () {
    for file in $(cd "$top" && grep -l '^int main (' examples/*.c); do
        grep -qF "]($file) |" "$top/README.md" || {
            echo "$file is not in the README"
            return 1
        }
    done
}
check "the README lists all examples" are_listed

echo "$count tests, $failures failed"
[ "$failures" -eq 0 ]
