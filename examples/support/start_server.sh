#!/bin/sh
# What an instance of the image runs; the configuration and the secrets of the release are in its environment.
exec python3 -m http.server --directory site 8080
