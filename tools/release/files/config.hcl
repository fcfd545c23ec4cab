# Grapnel: what comes in, and where it goes. `grapnel docs` and https://github.com/grapnelhq/grapnel/tree/main/docs tell what can
# be written here, `grapnel validate` whether it is right, and `systemctl reload grapnel` puts it in force.

server {
  listen = ":8080"
}

admin {
  listen = "127.0.0.1:8081"
}

storage "sqlite" {
  path = "/var/lib/grapnel/grapnel.db"
}

plugins {
  dir = "/usr/lib/grapnel/plugins"
}

# source "peopleforce" "people" { # POST /hooks/people
#   secrets = [env("PEOPLEFORCE_SECRET")]
# }
#
# sink "file" "archive" {
#   dir = "/var/lib/grapnel/events"
# }
#
# route "everything" {
#   on = ["*"]
#   to "file" "archive" {}
# }
