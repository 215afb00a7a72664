#!/bin/sh
# Goal: the chaos tests pass at full count. A script of its own, because only
# `make check-stress' runs them so; `make check' runs them at a fraction.
exec "${top_builddir:-.}/tests/chaos/chaos" full
