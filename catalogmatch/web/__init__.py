"""The web server's configuration, and the middleware for limits, logs and security headers."""
