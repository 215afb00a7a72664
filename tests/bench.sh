#!/bin/sh
# Goal: each program of bench/ runs with --quick, ends with 0, and writes figures
# of the shape that bench/report.h says; what it cannot do is an error with a
# message, not a hang. What the figures are is not looked at. Half a minute.
#
# Not in make check, which does not build the benches: make check-bench.
set -eu
build=$(cd "${top_builddir:-.}" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
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

# quick PROGRAM WORKLOAD: whether it runs, says that it is this workload, and the
# CSV file has a head, 17 fields in each line, and a row of ctalk.
quick () {
    if ! timeout 60 "$build/bench/$1" --quick --csv "$scratch/$1.csv" >"$scratch/$1.out" 2>&1; then
        cat "$scratch/$1.out"
        return 1
    fi
    grep -q "^### $2: " "$scratch/$1.out" && awk -v workload="\"$2" '
        {
            n = split ($0, part, "\"")
            line = ""
            for (i = 1; i <= n; i += 2) line = line "x" part[i]
            if (split (line, field, ",") != 17) { print "wrong: " $0; wrong++ }
        }
        NR == 1 && !/^workload,parameter,x,contestant,metric,better,rounds,median,least,most,against,ratio,/ { wrong++ }
        NR > 1 && index ($0, workload) != 1 { print "another workload: " $0; wrong++ }
        NR > 1 && /,"ctalk",/ { rows++ }
        END { exit wrong > 0 || !rows }' "$scratch/$1.csv"
}

# says PATTERN STATUS PROGRAM ARGUMENT...: whether it ends with this status and says this, on either output.
says () {
    pattern=$1
    expected=$2
    program=$3
    shift 3
    status=0
    timeout 60 "$build/bench/$program" "$@" >"$scratch/said" 2>&1 || status=$?
    [ "$status" -eq "$expected" ] && grep -q -e "$pattern" "$scratch/said"
}

for pair in oneway=W1 roundtrip=W3 broadcast=W4 ring=W5 fanout=W6 threads=W7 mixed=W8 idle=W9 \
    actors=W10 call=W11 many_actors=W12; do
    check "${pair#*=}: bench/${pair%=*}" quick "${pair%=*}" "${pair#*=}"
done
check 'W2: bench/oneway with 10 MB' says '^### W2: ' 0 oneway --size 10000000 --count 2 --rounds 1
check 'a turn past its deadline is an error' says 'deadline passed' 1 \
    oneway --only zmq --count 1000000000 --deadline 1 --rounds 1
check 'a contestant that there is not is wrong usage' says '"nobody"' 2 oneway --only ctalk,nobody
check 'a ring that does not go into ten servers is wrong usage' says '--ring: a multiple' 2 many_actors --ring 15
check 'too small a payload is wrong usage' says '--size' 2 roundtrip --size 64,7
check 'a ratio that is out of reach is status 3' says '^### W1: ' 3 oneway --only ctalk,zmq --quick --require 1000

echo "$count tests, $failures failed"
exit $((failures > 0))
