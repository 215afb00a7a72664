#!/bin/sh
# Runs all tests, the quick ones and the stress tests; installs and builds what
# is missing before, in build/. Run again, it only tests. The last line says how
# many tests passed and failed; the exit status is 0 if none failed.
#
#   CTALK_TEST_SCALE=N       divides the counts of envelopes (slow machines)
#   CTALK_TEST_TIMESCALE=N   multiplies the deadlines
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/scripts/lib.sh"
build=$top/build

# shellcheck disable=SC2086 # words, not one argument
need_packages $build_packages $test_packages
need_configure
configure_in "$build"
build_in "$build" all
build_in "$build" check TESTS=
raise_descriptors

find "$build" -name '*.trs' -exec rm -f {} +
status=0
say "make check: the quick tests"
make -s -C "$build" -j"$(tests_at_once)" check VERBOSE=1 || status=$?
# One after the other, not side by side: several of them measure.
say "make check-stress-only: the stress tests"
make -s -C "$build" check-stress-only VERBOSE=1 || status=$?

for kind in stress chaos; do
    if [ -f "$build/tests/$kind.log" ]; then
        say "measured by the $kind tests"
        sed -n '/^  /p' "$build/tests/$kind.log"
    fi
done

# shellcheck disable=SC2046 # three words
set -- $(count_results "$build")
if [ "$status" -ne 0 ] && [ "$2" -eq 0 ]; then set -- "$1" 1 "$3"; fi
if [ -n "${CTALK_TEST_SCALE-}${CTALK_TEST_TIMESCALE-}" ]; then
    say "scaled: counts divided by ${CTALK_TEST_SCALE:-1}, deadlines multiplied by ${CTALK_TEST_TIMESCALE:-1}"
fi
total_line "$@"
[ "$2" -eq 0 ]
