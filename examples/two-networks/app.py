"""The web application: a guest book whose lines are in the database."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import redis


class Guests(BaseHTTPRequestHandler):
    """GET shows the book, POST writes a line into it."""

    def do_GET(self):
        self.answer(self.book().lrange("guests", 0, -1))

    def do_POST(self):
        line = self.rfile.read(int(self.headers["Content-Length"]))
        self.book().rpush("guests", line)
        self.answer([line])

    def book(self):
        return redis.Redis("database", socket_timeout=3)

    def answer(self, lines):
        body = b"".join(line + b"\n" for line in lines)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("", 8000), Guests).serve_forever()
