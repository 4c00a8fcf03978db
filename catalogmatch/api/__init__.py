"""What every endpoint of the HTTP API shares: authentication, permissions, errors, pages and throttles."""
