"""One instance of the shop's API: orders in the database, a count of visits in the cache."""

import json
import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2
import redis


def query(sql, values=()):
    """Runs one statement; the answer is its first column."""
    with psycopg2.connect(os.environ["DATABASE"], connect_timeout=3) as connection:
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchone()[0]


class Api(BaseHTTPRequestHandler):
    """GET tells how things are, POST orders what its body names."""

    def do_GET(self):
        visits = redis.Redis(os.environ["CACHE"], socket_timeout=3).incr("visits")
        self.answer({"visits": visits, "orders": query("SELECT count(*) FROM orders")})

    def do_POST(self):
        what = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.answer({"order": query("INSERT INTO orders (what) VALUES (%s) RETURNING id", (what,))})

    def answer(self, content):
        body = json.dumps({"instance": socket.gethostname(), **content}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("", 8000), Api).serve_forever()
