"""Who may ask the page for what: names of hosts, passwords, forms of requests, uploads."""
