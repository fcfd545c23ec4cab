# Grapnel's configuration. Check it with `grapnel validate`, run it with `grapnel run`; docs/config.md explains it all.
# Relative paths start at this file's folder.

server {
  listen = env("GRAPNEL_LISTEN", ":8080") # for webhooks; put a TLS proxy in front, or add a tls block with cert and key

  # trusted_proxies = ["10.0.0.0/8"]      # whose X-Forwarded-For header names the client
  limits {
    max_body = "5MiB"
  }
}

# The listener for people and monitoring: user interface, control API, metrics, health. Only this machine reaches it; to
# listen elsewhere takes a token.
admin {
  listen = env("GRAPNEL_ADMIN_LISTEN", "127.0.0.1:8081")
  token  = env("GRAPNEL_ADMIN_TOKEN", null)

  # hosts = ["grapnel.example.com"]       # what browsers call it by, behind a proxy
}

# A trace of every webhook, by OTLP to a collector; docs/operations/tracing.md.
# tracing {
#   endpoint = "http://127.0.0.1:4318"
# }

storage "sqlite" {
  path          = "data/grapnel.db" # one file, written by one host at a time
  retention     = "30d"             # how long settled requests and what came of them are kept
  dedupe_window = "7d"              # how long a repeated request is recognized
}

plugins {
  dir = "bin/plugins" # grapnel-<kind>-<name>; `make build` puts them there
}

# Sources: who posts webhooks. The labels are the plugin and a name of your choice; the name makes the URL.

# Visma Youforce posts to /hooks/hr and signs every request.
source "youforce" "hr" {
  # Two secrets overlap while one is rotated. A null, here an unset variable, is dropped.
  secrets = [env("YOUFORCE_SECRET"), env("YOUFORCE_SECRET_NEXT", null)]

  # Youforce publishes the addresses that it sends from. Behind a proxy this needs trusted_proxies above.
  # allow_ips = ["18.202.121.26", "34.242.104.102", "54.220.26.45"]
}

# PeopleForce posts to /hooks/people and signs every request.
source "peopleforce" "people" {
  secrets = [env("PEOPLEFORCE_SECRET")]
}

# AccuLynx cannot sign: it posts to /hooks/roofing/<token>. The token is cut from the URL before anything is stored.
source "acculynx" "roofing" {
  path_token = env("ACCULYNX_TOKEN")

  # subscriptions = ["…"]               # admit the webhooks of these subscriptions only
}

# Sinks: where events go.

# One JSON text per line, synced to disk before a delivery counts as done.
sink "file" "audit" {
  dir = "data/events"
}

# A folder that the payroll department collects. Where PAYROLL_DIR is not set the sink stays out: the `to` blocks that
# name it make no delivery, and the host says so at start.
sink "file" "payroll" {
  enabled   = env("PAYROLL_DIR", null) != null
  dir       = env("PAYROLL_DIR", null)
  file_mode = "0600"

  # The host's settings for a sink; these are the defaults, but for max_age.
  delivery {
    concurrency = 2                  # calls in flight
    timeout     = "30s"              # of one call
    order_by    = event.partitionkey # one person's deliveries stay in order; null: no order
    retry {
      max_age = "7d" # then it is a dead letter, which `grapnel deliveries retry` revives
    }
  }
}

# A channel of Slack. Without the address of a webhook it stays out, too.
sink "slack" "people_ops" {
  enabled     = env("SLACK_WEBHOOK_URL", null) != null
  webhook_url = env("SLACK_WEBHOOK_URL", null)
}

# Alerts: what the host says by itself when something is wrong, through its sinks. docs/operations/alerts.md has more.
#
# alert "stuck" {           # a sink has not been called for a quarter of an hour: paused, suspended, failing or down
#   sink_parked = "15m"
#   repeat      = "4h"
#
#   to "slack" "people_ops" {
#     text = "${event.data.state}: ${event.data.text}"
#   }
#   to "file" "audit" {     # the other way out, for the day on which Slack is what is stuck
#     path = "alerts.jsonl"
#   }
# }
#
# alert "silent" {          # Youforce has sent nothing for longer than it usually does at this hour of the week
#   source_silent = "usual"
#   sources       = ["hr"]
#
#   to "slack" "people_ops" {
#     text = event.data.text
#   }
# }

# Values that are known when the configuration is loaded.
locals {
  contractors = ["Contractors", "Freelancers"]
}

# Routes: which events go where. All routes that match an event fire.

# Every event of every source goes to data/events/events.jsonl as a CloudEvent.
route "everything" {
  to "file" "audit" {}
}

# New employees that payroll has to know, as records of our own. A field that is absent or null is null, never an error.
route "new_hires" {
  from = [source.peopleforce.people]
  on   = ["peopleforce.employee.created"]
  when = (
    event.data.attributes.hired_on != null &&
    !contains(local.contractors, coalesce(event.data.department.name, "none"))
  )

  to "file" "payroll" {
    path = "new-hires.jsonl"
    record = {
      employee   = event.data.id # a bare reference passes the provider's token untouched
      first_name = event.data.attributes.first_name
      last_name  = event.data.attributes.last_name
      hired_on   = event.data.attributes.hired_on
      department = event.data.department.name
      received   = request.received_at
    }
  }

  to "slack" "people_ops" { # what comes from the event is escaped: a first name <!channel> pings nobody
    text = "Welcome ${coalesce(event.data.attributes.first_name, "our new colleague")}!"
  }
}

# Whatever ends: patterns match any text with *, dots included.
route "leavers" {
  from = [source.peopleforce.people, source.youforce.hr]
  on   = ["peopleforce.employee.terminated", "youforce.employment.deleted"]

  to "file" "payroll" {
    path = "leavers.jsonl"
    record = {
      subject = event.subject
      tenant  = event.tenant
      at      = event.time
    }
  }
}
