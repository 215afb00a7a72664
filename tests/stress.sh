#!/bin/sh
# Goal: the stress tests pass at full count. A script of its own, because only
# `make check-stress' runs them.
exec "${top_builddir:-.}/tests/stress/stress"
