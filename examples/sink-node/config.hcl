# New colleagues are announced on the phones of who has subscribed to the topic.

server {
  listen = env("LISTEN", "127.0.0.1:8080")
}

plugins {
  dir = "../../bin/plugins"
}

source "peopleforce" "people" { # POST /hooks/people
  secrets = [env("PEOPLEFORCE_SECRET")]
}

sink "ntfy" "phones" {
  url     = env("NTFY_URL", "https://ntfy.sh")
  topic   = env("NTFY_TOPIC")
  token   = env("NTFY_TOKEN", null)
  max_age = "1d"
}

route "new_colleagues" {
  on   = ["peopleforce.employee.created"]
  when = event.data.attributes.first_name != null

  to "ntfy" "phones" {
    title = "A new colleague"
    text  = "Welcome ${event.data.attributes.first_name}!"
    tags  = ["tada"]
  }
}
