#!/bin/sh
# After an installation or an upgrade, by dpkg (configure) and rpm (how many of it there are then).
set -e
if command -v systemd-sysusers >/dev/null; then
  systemd-sysusers grapnel.conf
elif ! getent passwd grapnel >/dev/null; then
  useradd --system --user-group --home-dir /var/lib/grapnel --shell /usr/sbin/nologin grapnel
fi
chown root:grapnel /etc/grapnel/secrets.env
chmod 0640 /etc/grapnel/secrets.env
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  # A host that runs goes on with the new version; nothing is started that was not.
  systemctl try-restart grapnel.service
fi
