#!/bin/sh
# Goal: the replicated key-value store is right at full count; the small count
# and its commands are kvstore.sh.
exec "${top_builddir:-.}/tests/kvstore/kvstore"
