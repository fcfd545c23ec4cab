#!/bin/sh
# Before a removal, not before an upgrade. What the host stored stays in /var/lib/grapnel.
set -e
case "$1" in
remove | 0)
  if [ -d /run/systemd/system ]; then
    systemctl disable --now grapnel.service
  fi
  ;;
esac
