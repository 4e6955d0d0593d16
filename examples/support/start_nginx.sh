#!/bin/sh
# What an instance of the image runs; the configuration and the secrets of the release are in its environment.
exec /usr/sbin/nginx -g 'daemon off;'
