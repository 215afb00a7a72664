#!/bin/sh
# Goal: the stress tests and the fault tests pass at full count. A script of its
# own, because only `make check-stress' runs them.
status=0
for program in stress faults; do
    "${top_builddir:-.}/tests/$program/$program" || status=1
done
exit $status
