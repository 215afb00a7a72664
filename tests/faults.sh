#!/bin/sh
# Goal: servers that are killed, stopped, or do not receive harm nobody, on a
# small scale: the quick tests' share of what `make check-stress' does in full.
CTALK_TEST_SCALE=$(awk "BEGIN { print 25 * ${CTALK_TEST_SCALE:-1} }")
export CTALK_TEST_SCALE
exec "${top_builddir:-.}/tests/faults/faults"
