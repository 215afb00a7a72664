#!/bin/sh
# Goal: what README.md shows is true: its complete program is examples/hello.c,
# is built by the command that stands there, and runs; its configs are good; its
# table of options says what the library says; it names every call of the header.
#
# The library is that of the build tree; where there is none, the installed one
# that pkg-config knows. The servers talk over ipc in a folder of their own, so
# no port is needed. CTALK_TEST_TIMESCALE multiplies the time limit.
set -eu
top=$(cd "${top_srcdir:-$(dirname "$0")/..}" && pwd)
build=$(cd "${top_builddir:-.}" && pwd)
readme=$top/README.md
tool=${CLUSTERTALK:-clustertalk}
: "${CC:=cc}" "${PKG_CONFIG:=pkg-config}" "${CFLAGS=}" "${SANITIZER_FLAGS=}"
limit=$((60 * ${CTALK_TEST_TIMESCALE:-1}))
case $tool in
    */*) ;;
    *) if [ -x "$build/$tool" ]; then tool=$build/$tool; fi ;;
esac

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

# block LANGUAGE N: the N-th block of README.md that is marked as this language.
block () {
    awk -v begin="\`\`\`$1" -v number="$2" '
        $0 == "```" { inside = 0 }
        inside { print }
        $0 == begin { inside = ++seen == number }' "$readme"
}

# ---- the program

mkdir "$scratch/bin" "$scratch/run"
block c 1 >"$scratch/run/hello.c"
block sh 1 >"$scratch/run/commands"

# The commands of the README say cc and pkg-config; here they mean the compiler
# of the build, and the library that was just built.
cat >"$scratch/bin/cc" <<END
#!/bin/sh
exec $CC -std=c11 -Wall -Wextra -Wpedantic -Werror $CFLAGS $SANITIZER_FLAGS "\$@"
END
static=
defines=
pc_path=${PKG_CONFIG_PATH-}
if [ -f "$build/clustertalk.pc" ] && [ -d "$build/.libs" ]; then
    if [ ! -e "$build/.libs/libclustertalk.so" ]; then static=--static; fi
    defines="--define-variable=libdir=$build/.libs --define-variable=includedir=$top/include"
    pc_path=$build${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
    LD_LIBRARY_PATH=$build/.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH
fi
cat >"$scratch/bin/pkg-config" <<END
#!/bin/sh
PKG_CONFIG_PATH='$pc_path' PATH='$PATH'
export PKG_CONFIG_PATH PATH
exec $PKG_CONFIG $static $defines "\$@"
END
chmod +x "$scratch/bin/cc" "$scratch/bin/pkg-config"

for pid in 1 2 3; do
    printf '%s "%d": "ipc://%s/%d"' "${servers:+$servers,}" $pid "$scratch/run" $pid >"$scratch/servers"
    servers=$(cat "$scratch/servers")
done
printf '{"Servers": {%s}}\n' "$servers" >"$scratch/run/local-3.json"

# The servers print at the same time and in any order: compared is the sum.
run_commands () {
    (
        cd "$scratch/run"
        PATH=$scratch/bin:$PATH
        export PATH
        timeout -k 5 "$limit" sh -eu ./commands >"$scratch/heard" 2>"$scratch/trouble"
    ) || {
        cat "$scratch/heard" "$scratch/trouble"
        return 1
    }
    cat "$scratch/trouble"
    test ! -s "$scratch/trouble"
}
heard_all () {
    for pid in 1 2 3; do
        echo "server $pid says hello"
        echo "server $pid says hello"
    done | diff - "$scratch/sorted"
}
check "the program is examples/hello.c" diff "$scratch/run/hello.c" "$top/examples/hello.c"
check "its commands build it without a warning and run it" run_commands
sort "$scratch/heard" >"$scratch/sorted" 2>/dev/null || :
check "each of its servers hears each other one" heard_all

# ---- the configs

number=1
while block json $number >"$scratch/config.json" && [ -s "$scratch/config.json" ]; do
    check "config $number is good" "$tool" check-config "$scratch/config.json"
    number=$((number + 1))
done
check "there are configs" test $number -gt 2

# ---- the table of options: | Name | unit | default | range | meaning |

sed -n 's/^| *\([A-Z][A-Za-z]*\) *| *\([a-z]*\) *| *\([a-z0-9]*\) *| *\([^|]*[^| ]\) *| .*/\1:\2:\3:\4/p' "$readme" |
    grep -v '^Option:' >"$scratch/table"

# A config that sets every option to the given field of the table, or to a text.
config_of () {
    awk -F : -v field="$1" '
        BEGIN { printf "{\"Servers\": {\"1\": \"127.0.0.1:5001\"}, \"Options\": {" }
        {
            value = (field ? $field : "none")
            printf "%s\"%s\": %s", (NR > 1 ? ", " : ""), $1, (value ~ /^[0-9]+$/ ? value : "\"" value "\"")
        }
        END { print "}}" }' "$scratch/table"
}
defaults_are_right () {
    config_of 3 >"$scratch/defaults.json"
    "$tool" check-config "$scratch/defaults.json" >"$scratch/summary" &&
        grep -q 'all at their defaults' "$scratch/summary" && return 0
    cat "$scratch/summary"
    return 1
}
# With a value that suits none of them, the tool tells the range of each. The
# tests of the library see to it that it knows no more options than these.
ranges_are_right () {
    config_of 0 >"$scratch/none.json"
    "$tool" check-config "$scratch/none.json" 2>&1 |
        sed -n -e 's/.*: Options\.\([A-Za-z]*\): must be a whole number from \([0-9]* to [0-9]*\) \([a-z]*\).*/\1:\3:\2/p' \
            -e 's/.*: Options\.\([A-Za-z]*\): must be "\([a-z]*\)" or "\([a-z]*\)".*/\1::\2 or \3/p' >"$scratch/told"
    awk -F : '{ print $1 ":" $2 ":" $4 }' "$scratch/table" | diff - "$scratch/told"
}
options_of_the_schema () {
    sed -n '/"Options": {/,/"additionalProperties"/s/^        "\([A-Z][A-Za-z]*\)": {$/\1/p' \
        "$top/config/clustertalk.schema.json" >"$scratch/schema"
    cut -d : -f 1 "$scratch/table" | diff - "$scratch/schema"
}
check "the table's options are those of the schema" options_of_the_schema
check "the table's defaults are the library's" defaults_are_right
check "the table's units and ranges are the library's" ranges_are_right

# ---- the calls

calls_are_named () {
    sed -n 's/^CTALK_EXPORT.*[ *]\(ctalk_[a-z0-9_]*\) (.*/\1/p' "$top/include/clustertalk.h" | sort >"$scratch/declared"
    sed -n 's/^| `\(ctalk_[a-z0-9_]*\)` | .*/\1/p' "$readme" | sort >"$scratch/named"
    test -s "$scratch/declared" && diff "$scratch/declared" "$scratch/named"
}
check "the calls at a glance are those of the header" calls_are_named

[ "$failures" -eq 0 ]
