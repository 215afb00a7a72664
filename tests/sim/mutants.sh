#!/bin/sh
# Goal: the simulator finds each fault of tests/sim/mutants/ that is put into the
# protocol, by itself, within 2,000 worlds. `make check-mutants' runs this in a
# build directory where everything was built.
#
# A mutant says in its first line what is wrong with it. Then come replacements:
# a line "=== FILE", the lines to be replaced, which must be there exactly once, a
# line "--- becomes", and what stands there instead. Only the files that are
# changed are compiled; the rest is linked as it is.
#
#   mutants.sh [NAME...]
set -eu
top=${top_srcdir:?}
build=${top_builddir:?}
here=$top/tests/sim
worlds=${CTALK_SIM_SEEDS:-2000}
seconds=120 # the longest that a mutant may run: it hangs then, and is found, too

# Replaces in the files below a directory what a mutant says.
# shellcheck disable=SC2016 # awk, not sh
replace='
function slurp (name,    text, line) {
    text = ""
    while ((getline line < name) > 0) text = text line "\n"
    close (name)
    return text
}
function fail (why) {
    print FILENAME ": " file ": " why > "/dev/stderr"
    failed = 1
    exit 1
}
function apply (    at, rest) {
    if (!(file in source)) source[file] = slurp (top "/" file)
    at = index (source[file], old)
    if (old == "" || at == 0) fail ("the lines to be replaced are not there")
    rest = substr (source[file], at + length (old))
    if (index (rest, old) > 0) fail ("the lines to be replaced are there more than once")
    source[file] = substr (source[file], 1, at - 1) new rest
}
FNR == 1 { next }
/^=== / { if (file != "") apply (); file = substr ($0, 5); old = new = ""; replacing = 0; next }
/^--- becomes$/ { replacing = 1; next }
{ if (replacing) new = new $0 "\n"; else old = old $0 "\n" }
END {
    if (failed) exit 1
    if (file == "") fail ("it replaces nothing")
    apply ()
    for (file in source) {
        name = file
        gsub (/\//, "_", name)
        printf "%s", source[file] > (to "/" name)
    }
}'

# Builds and runs one mutant in a directory of its own; prints its verdict.
try () {
    name=$1
    dir=$scratch/$name
    mkdir "$dir"
    words=$(sed -n 1p "$here/mutants/$name")
    if ! awk -v top="$top" -v to="$dir" "$replace" "$here/mutants/$name"; then
        echo "broken $name: cannot be made"
        return
    fi
    for file in "$dir"/*.c; do
        # shellcheck disable=SC2086 # words, not one argument
        if ! ${CC:-cc} $CPPFLAGS $CFLAGS -w -c -o "${file%.c}.o" "$file"; then
            echo "broken $name: does not compile"
            return
        fi
    done
    # The changed objects first: the archive's own are left out then.
    # shellcheck disable=SC2086
    ${CC:-cc} $CFLAGS -o "$dir/sim" "$dir"/*.o "$build"/tests/sim/sim-*.o "$build/.libs/libtestsupport.a" \
        "$build/.libs/libctki.a" $LIBS
    status=0
    timeout "$seconds" "$dir/sim" --quiet --seeds "1-$worlds" >"$dir/log" 2>&1 || status=$?
    seed=$(sed -n 's/^CTALK_SIM_SEED=\([0-9]*\).*/\1/p' "$dir/log")
    how=$(sed -n 's/^seed [0-9]* at [^:]*: //p' "$dir/log" | cut -c1-100)
    if [ "$status" -eq 124 ]; then
        echo "killed $name: it hangs ($words)"
    elif [ -n "$seed" ]; then
        echo "killed $name by seed $seed: ${how:-it aborts} ($words)"
    else
        echo "ALIVE  $name ($words)"
    fi
}

if [ "${1-}" = --try ]; then
    try "$2"
    exit 0
fi

scratch=$(mktemp -d)
export scratch
trap 'rm -rf "$scratch"' EXIT
if ! "$build/tests/sim/sim" --quiet --seeds "1-$worlds" >"$scratch/log"; then
    cat "$scratch/log"
    echo "not ok 1 - without a mutant the simulator is content"
    exit 1
fi
# shellcheck disable=SC2046 # words, not one argument
if [ $# -eq 0 ]; then set -- $(cd "$here/mutants" && LC_ALL=C ls); fi
printf '%s\n' "$@" | xargs -P "$(nproc 2>/dev/null || echo 1)" -n 1 sh "$0" --try >"$scratch/verdicts"
LC_ALL=C sort "$scratch/verdicts"
killed=$(grep -c '^killed ' "$scratch/verdicts" || :)
echo "mutants killed: $killed of $#"
verdict=ok
if [ "$killed" -ne $# ]; then verdict='not ok'; fi
echo "$verdict 1 - the simulator finds every fault that is put into the protocol"
[ "$verdict" = ok ]
