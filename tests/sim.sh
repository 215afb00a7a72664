#!/bin/sh
# Goal: some hundred simulated worlds hold what is promised. `make check-stress'
# runs twenty thousand (tests/sim_all.sh).
exec "${top_builddir:-.}/tests/sim/sim" --seeds 1-"${CTALK_SIM_SEEDS:-550}" --quiet
