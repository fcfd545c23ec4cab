server {
  listen = env("LISTEN", "127.0.0.1:8080")
}

plugins {
  dir = "../../bin/plugins"
}

source "cloudevents" "relay" { # POST /hooks/relay
  secrets = [env("RELAY_KEY")]
}

sink "file" "events" {
  dir = "data/events"
}

route "all" {
  to "file" "events" {
    record = { type = event.type, about = event.subject, data = event.data }
  }
}
