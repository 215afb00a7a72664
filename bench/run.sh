#!/bin/sh
# Runs the workloads one after the other, some ten minutes in all, and writes
# what they gave: a CSV file each, the tables of all with the machine and the
# versions in results.md, and charts (SVG) where gnuplot is installed.
#
#   sh bench/run.sh [--build DIR] [--out DIR] [--only LIST] [--quick] [--faults] [--install]
#
#   --build DIR   where `make bench` was run (build)
#   --out DIR     where the results go (bench-results in the build directory)
#   --only LIST   workloads, as in W1,W3; what the others gave earlier stays
#   --quick       runs of some seconds that say little, to see that all works
#   --faults      also stopped_peer and recovery, which take minutes of their own
#   --install     then copies results.md to bench/RESULTS.md, the charts to bench/charts
#
# `make bench-run` does it in its build directory. A workload that fails is named
# in the results and at the end, and the others still run.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
build=$top/build
out=
only=
quick=
faults=no
install=no

fail () {
    printf '%s\n' "run.sh: $*" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
        --build | --out | --only)
            [ $# -ge 2 ] || fail "$1 needs a value"
            case $1 in
                --build) build=$2 ;;
                --out) out=$2 ;;
                *) only=,$2, ;;
            esac
            shift
            ;;
        --quick) quick=--quick ;;
        --faults) faults=yes ;;
        --install) install=yes ;;
        *) fail "knows no '$1'; its first lines say what it knows" ;;
    esac
    shift
done
build=$(cd "$build" && pwd) || fail "there is no build directory; --build says where it is"
: "${out:=$build/bench-results}"
mkdir -p "$out"
out=$(cd "$out" && pwd)
failed=

if [ -n "$quick" ] && [ $install = yes ]; then fail "the figures of a quick run are not for bench/RESULTS.md"; fi

# ---- the workloads

commit () {
    git -C "$top" describe --always --dirty 2>/dev/null || echo 'a tarball'
}

# run WORKLOADS NAME PROGRAM ARGUMENT...: one program; its tables go to NAME.md,
# its figures to NAME.csv, and what it says about a failure to the terminal.
run () {
    workloads=$1
    name=$2
    program=$3
    shift 3
    wanted=no
    for one in $workloads; do
        case ${only:-,$one,} in *,"$one",*) wanted=yes ;; esac
    done
    if [ $wanted = no ]; then return 0; fi
    begun=$(date +%s)
    printf '== %s: %s %s\n' "$workloads" "$program" "$*"
    status=0
    "$build/bench/$program" "$@" --csv "$out/$name.csv" >"$out/$name.md" || status=$?
    took=$(($(date +%s) - begun))
    cat "$out/$name.md"
    printf '\nBy `bench/%s%s` of %s on %s, in %d s.\n' "$program" "${*:+ $*}" "$(commit)" \
        "$(date -u '+%Y-%m-%d at %H:%M UTC')" "$took" >>"$out/$name.md"
    if [ "$status" -ne 0 ]; then
        printf '\n**It failed: exit status %d.**\n' "$status" >>"$out/$name.md"
        failed="$failed $name"
    fi
    printf '== %s: %d s, exit status %d\n' "$name" "$took" "$status"
}

# workload WORKLOADS NAME PROGRAM ARGUMENT...: the same, with --quick if that is wanted.
workload () {
    if [ -n "$quick" ]; then
        run "$1" "$2" "$3" --quick
    else
        run "$@"
    fi
}

workload W1 oneway_main oneway --size 64,1024 --millis 700 --rounds 7
if [ -z "$quick" ]; then run W1 oneway oneway --size w1 --millis 250 --rounds 3; fi
if [ -z "$quick" ]; then run W2 large oneway --size 10000000 --millis 500 --rounds 5; fi
workload W3 roundtrip roundtrip --millis 500 --rounds 5
workload W4 broadcast broadcast
workload W5 ring ring
workload W6 fanout fanout --rounds 3
workload W7 threads threads --millis 400 --rounds 5
workload W8 mixed mixed --rounds 3
workload W9 idle idle
workload W10 actors actors
workload W11 call call --millis 500 --rounds 5
workload W12 many_actors many_actors
if [ $faults = yes ] && [ -z "$quick" ]; then
    run stopped stopped_peer stopped_peer
    run recovery recovery recovery
fi

# ---- the figures

# The lines of CSV files with tabs between the fields and no quotes: a comma
# within quotes is no end of a field. Files that are not there are passed over.
fields () {
    for file in "$@"; do
        if [ -f "$file" ]; then cat "$file"; fi
    done | awk '{
        line = ""
        n = split ($0, part, "\"")
        for (i = 1; i <= n; i++) {
            if (i % 2) gsub (/,/, "\t", part[i])
            line = line part[i]
        }
        print line
    }'
}

# What is wanted: workload, x, contestant, metric, the one to compare with (-: the
# figure itself counts), at least, aim, in words.
wanted_figures () {
    cat <<'END'
W1;64;ctalk;envelopes/s;zmq;3;4.5;64 B one way to PUSH → PULL
W1;1024;ctalk;envelopes/s;zmq;2;4;1 KiB one way to PUSH → PULL
W1;64;ctalk;envelopes/s;tcp-64k;0.45;0.75;64 B one way to TCP in 64 KiB writes
W2;10000000;ctalk;envelopes/s;zmq;0.8;1;10 MB one way to PUSH → PULL
W3;64;ctalk;p50 us;zmq;1.3;1;64 B round trip, p50, to DEALER ↔ ROUTER
W3;64;ctalk-spin;p50 us;zmq;1;0.7;the same, spinning
W4;10000;ctalk;envelopes/s;pub/sub;2;4;broadcast to PUB/SUB
W4;10000;ctalk;envelopes/s;push;2;4;broadcast to PUSH to each
W5;1000;ctalk;threads;-;2010;2010;threads of 1,000 servers
W5;1000;ctalk;peak MiB;-;1000;200;MiB of 1,000 servers
W6;64;ctalk;envelopes/s;1 peer;0.5;0.9;rate to 64 peers to that to one
W8;10000000;ctalk;p99 us;zmq;1.3;1;small beside a stream, p99, to DEALER ↔ ROUTER
W9;500;ctalk;CPU %;-;2;0.5;% of a core, idle with 64 peers
W9;0;ctalk;beyond/s/peer;-;2;0;wake-ups beyond heartbeats per peer and second
W10;64;ctalk;envelopes/s;zactor;1;2;64 B between two actors, to a zactor
W10;1024;ctalk;envelopes/s;zactor;1;2;1 KiB between two actors, to a zactor
W10;64;ctalk;p50 us;zactor;1;0.8;64 B round trip of two actors, p50, to a zactor
W10;64;ctalk-call;p50 us;zactor;1;0.8;the same, by calls
W11;64;ctalk;p50 us;zmq;1.3;1;64 B call of an actor, p50, to DEALER ↔ ROUTER
W11;64;ctalk-actor;p50 us;zmq;1.3;1;the same, by an actor
END
}

# A table of what is wanted and what is.
glance () {
    fields "$out/oneway_main.csv" "$out/oneway.csv" "$out/large.csv" "$out/roundtrip.csv" "$out/broadcast.csv" \
        "$out/ring.csv" "$out/fanout.csv" "$out/mixed.csv" "$out/idle.csv" "$out/actors.csv" "$out/call.csv" >"$out/fields"
    printf '\n## At a glance\n\n| | | at least | aim | is | |\n|---|---|---:|---:|---:|---|\n'
    wanted_figures | awk -F ';' -v fields="$out/fields" '
        BEGIN {
            while ((getline line < fields) > 0) {
                split (line, f, "\t")
                if (f[1] == "workload") continue
                key = f[1] ";" f[3] ";" f[4] ";" f[5] ";"
                if (!((key "-") in is)) is[key "-"] = f[8]
                if (f[11] != "" && !((key f[11]) in is)) is[key f[11]] = f[12]
                lower[key] = f[6] == "lower"
            }
        }
        {
            key = $1 ";" $2 ";" $3 ";" $4 ";"
            value = "not measured"; verdict = ""
            if ((key $5) in is) {
                got = is[key $5] + 0
                sign = lower[key] ? -1 : 1
                verdict = sign * got >= sign * $7 ? "aim" : sign * got >= sign * $6 ? "enough" : "**too little**"
                if (sign < 0 && verdict ~ /little/) verdict = "**too much**"
                value = sprintf ("%.3g", got)
                if (got >= 1000) value = sprintf ("%.0f", got)
            }
            printf ("| %s | %s | %s | %s | %s | %s |\n", $1, $8, $6, $7, value, verdict)
        }'
    rm -f "$out/fields"
    printf '\nRatios are medians of the rounds; what is compared with nobody is a figure of its own.\n'
}

# ---- the report

version_of () {
    pkg-config --modversion "$1" 2>/dev/null || echo none
}

about () {
    cpu=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
    memory=$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)
    compiler=$(sed -n "s/^CC = //p" "$build/Makefile" | head -n 1)
    flags=$(sed -n "s/^CFLAGS = //p" "$build/Makefile" | head -n 1)
    nng=$(dpkg-query -W -f '${Version}' libnng-dev 2>/dev/null || echo none)
    cat <<END
# Results of the benches

Written by \`make bench-run\` (bench/run.sh) on $(date -u '+%Y-%m-%d at %H:%M UTC').

| | |
|---|---|
| processor | ${cpu:-unknown}, $(nproc) cores |
| memory | $memory |
| system | $(uname -srm), $(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release 2>/dev/null || :) |
| ClusterTalk | $(commit) |
| compiler | $("${compiler:-cc}" --version 2>/dev/null | head -n 1), $flags |
| libzmq | $(version_of libzmq) |
| CZMQ | $(version_of libczmq) |
| nng | $nng |

Contestants take turns within each round. "ratio" is a contestant's value by that of the one in "to", taken round by
round: its median, least and most. For rates more is better, for times less. Processor seconds are those of all
processes of a turn, memory is the peak. bench/README.md says what the workloads and the contestants are.
END
    if [ -n "$quick" ]; then printf '\n**This was a quick run: the figures say next to nothing.**\n'; fi
}

# The machine is at the top, once.
tables () {
    for name in oneway_main oneway large roundtrip broadcast ring fanout threads mixed idle actors call many_actors \
        stopped_peer recovery; do
        if [ -f "$out/$name.md" ]; then grep -v '^machine: ' "$out/$name.md"; fi
    done
}

pictures () {
    printf '\n## Charts\n\n'
    for chart in rate_size latency_64 latency_4096 latency_call rate_peers rate_threads; do
        if [ -f "$out/$chart.svg" ]; then printf '![%s](%s%s.svg)\n' "$chart" "$1" "$chart"; fi
    done
}

# ---- the charts

# Prints the figures of a workload and a metric for gnuplot: a block for each
# contestant with its name on top; value of x, median, least, most, parameter.
# A contestant that has several rows of a figure, for its ratios, counts once.
# figures WORKLOAD METRIC FILE...
figures () {
    workload=$1
    metric=$2
    shift 2
    fields "$@" | awk -F '\t' -v workload="$workload" -v metric="$metric" '
        $1 == workload && $5 == metric && !seen[$4 "=" $3]++ {
            if (!($4 in rows)) order[++contestants] = $4
            rows[$4] = rows[$4] sprintf ("%s %s %s %s \"%s\"\n", $3, $8, $9, $10, $2)
        }
        END {
            for (i = 1; i <= contestants; i++)
                printf ("%s\"%s\"\n%s", (i > 1 ? "\n\n" : ""), order[i], rows[order[i]])
        }'
}

# plot CHART KIND TITLE XLABEL YLABEL: bench/charts.gp draws CHART.dat.
plot () {
    if [ ! -s "$out/$1.dat" ]; then return 0; fi
    gnuplot -e "data='$out/$1.dat'; image='$out/$1.svg'; kind='$2'; heading='$3'; x_says='$4'; y_says='$5'" \
        "$top/bench/charts.gp" || fail "gnuplot could not draw $1"
}

# Percentiles: a line for each contestant.
# percentiles WORKLOAD SIZE FILE
percentiles () {
    for metric in 'p50 us' 'p99 us' 'p99.9 us'; do
        figures "$1" "$metric" "$3" |
            awk -v size="$2" 'NF == 1 { name = $1 } $1 == size && NF > 1 { print name, $2 }' | tr -d '"' >"$out/part"
        LC_ALL=C sort "$out/part" >"$out/part.${metric%% *}"
    done
    join "$out/part.p50" "$out/part.p99" 2>/dev/null | join - "$out/part.p99.9" | LC_ALL=C sort -k 2 -g
    rm -f "$out/part" "$out/part.p50" "$out/part.p99" "$out/part.p99.9"
}

charts () {
    if ! command -v gnuplot >/dev/null 2>&1; then
        echo "== no charts: gnuplot is not installed (Debian: apt-get install gnuplot-nox)"
        return 0
    fi
    figures W1 envelopes/s "$out/oneway.csv" "$out/oneway_main.csv" >"$out/rate_size.dat"
    percentiles W3 64 "$out/roundtrip.csv" >"$out/latency_64.dat"
    percentiles W3 4096 "$out/roundtrip.csv" >"$out/latency_4096.dat"
    percentiles W11 64 "$out/call.csv" >"$out/latency_call.dat"
    figures W6 envelopes/s "$out/fanout.csv" >"$out/rate_peers.dat"
    figures W7 envelopes/s "$out/threads.csv" >"$out/rate_threads.dat"
    plot rate_size both 'One way between two processes' 'payload, bytes' 'envelopes per second'
    plot latency_64 bars 'Round trips of 64 bytes' '' 'microseconds'
    plot latency_4096 bars 'Round trips of 4 KiB' '' 'microseconds'
    plot latency_call bars 'Calls of an actor of another process, 64 bytes' '' 'microseconds'
    plot rate_peers one 'One server to many' 'receiving servers' 'envelopes per second'
    plot rate_threads one 'Threads that send on one server' 'threads' 'envelopes per second'
}

charts
{
    about
    glance
    pictures ''
    printf '\n## Tables\n'
    tables
} >"$out/results.md"
echo "== $out/results.md"

if [ $install = yes ]; then
    if [ -n "$failed" ]; then fail "nothing is installed, for these failed:$failed"; fi
    mkdir -p "$top/bench/charts"
    for chart in "$out"/*.svg; do
        if [ -f "$chart" ]; then cp "$chart" "$top/bench/charts/"; fi
    done
    {
        about
        glance
        pictures charts/
        printf '\n## Tables\n'
        tables
    } >"$top/bench/RESULTS.md"
    echo "== $top/bench/RESULTS.md"
fi
if [ -n "$failed" ]; then fail "these failed:$failed"; fi
