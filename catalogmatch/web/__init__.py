"""What every request passes: limits, log lines, security headers, and the web server's own configuration."""
