"""The page that runs models in a browser: its files, what it is told, the server."""
