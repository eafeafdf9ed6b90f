"""A federation in containers of one engine. What `docker compose -f deploy/compose.yaml up` started is one, too."""
