#!/bin/sh
echo hello {{.User}}
