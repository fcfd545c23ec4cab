# Slack's Events API: a signed test of the endpoint comes first, events are in "event", and times are Unix seconds.
source "json" "team" { # POST /hooks/team
  secrets = [env("SLACK_SIGNING_SECRET")]

  provider = "slack"
  title    = "Slack"

  signature {
    header  = "X-Slack-Signature"
    prefix  = "v0="
    content = "v0:{timestamp}:{body}"
    timestamp {
      header = "X-Slack-Request-Timestamp"
    }
  }
  handshake {
    method        = "POST"
    when          = { "{/type}" = "url_verification" }
    echo          = "{/challenge}"
    authenticated = true
  }
  dedupe = ["{/event_id}"]

  event {
    type          = "{/event/type|/type}" # app_rate_limited has no event
    subject       = "{/event/channel|/event/user|/event/user/id}"
    partition_key = "{/event/channel|/team_id}"
    tenant        = "{/team_id}"
    time          = "{/event_time}"
    time_format   = "unix"
    data          = "/event"
  }
  types = {
    app_mention = {
      description = "Somebody named the app."
      sample      = { body = file("app-mention.json") }
    }
  }
}

sink "file" "mentions" {
  dir = "data/mentions"
}

route "mentions" {
  on = ["slack.app_mention"]
  to "file" "mentions" {
    record = { who = event.data.user, said = event.data.text, where = event.subject }
  }
}
