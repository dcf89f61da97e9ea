#!/bin/sh
# Lets the replica in: `all` in pg_hba.conf means every database, and replication is none. It runs once, when the data is
# made; to a database that is older than this file the line has to be added by hand.
set -eu
echo "host replication all all trust" >> "$PGDATA/pg_hba.conf"
