"""What the store tells others: the audit service, and whoever registered a webhook."""
