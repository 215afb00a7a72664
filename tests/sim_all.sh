#!/bin/sh
# Goal: twenty thousand simulated worlds hold what is promised, and everything
# that can go wrong in them did.
exec "${top_builddir:-.}/tests/sim/sim"
