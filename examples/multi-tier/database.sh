#!/bin/sh
# Starts PostgreSQL with the shop's table. A second start finds both there, and says so.
set -eu

data=/var/lib/postgresql/15/main
programs=/usr/lib/postgresql/15/bin
printf 'host all all all scram-sha-256\nlocal all all trust\n' >/tmp/hba
printf "hba_file = '/tmp/hba'\nunix_socket_directories = '/tmp'\njit = off\n" >/tmp/postgresql.conf

"$programs/postgres" --single -D "$data" -c config_file=/tmp/postgresql.conf postgres <<SQL
CREATE ROLE shop LOGIN PASSWORD 'shop';
CREATE TABLE orders (id serial PRIMARY KEY, what text NOT NULL);
GRANT ALL ON orders, orders_id_seq TO shop;
SQL
exec "$programs/postgres" -D "$data" -c config_file=/tmp/postgresql.conf -c listen_addresses=*
