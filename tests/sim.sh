#!/bin/sh
# Goal: two thousand simulated worlds hold what is promised. `make check-stress'
# runs twenty thousand (tests/sim_all.sh).
exec "${top_builddir:-.}/tests/sim/sim" --quick --quiet
