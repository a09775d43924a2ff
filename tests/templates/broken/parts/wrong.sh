#!/bin/sh
# Says who is at home.
echo {{.User}} in {{.House}}
