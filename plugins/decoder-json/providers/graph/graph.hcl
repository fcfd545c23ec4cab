# Microsoft Graph's change notifications: one request has several, the endpoint is tested by a text in the query, and nothing
# is signed, so the secret is in the URL that the subscription names: https://…/hooks/mail/<GRAPH_TOKEN>
source "json" "mail" {
  auth       = "path_token"
  path_token = env("GRAPH_TOKEN")

  provider = "graph"
  title    = "Microsoft Graph"

  handshake {
    method = "POST"
    when   = { "{query.validationToken}" = "" }
    echo   = "{query.validationToken}"
  }
  reply {
    status = 202
  }

  event {
    items         = "/value"
    type          = "resource.{/changeType}"
    subject       = "{/resource}"
    partition_key = "{/resourceData/id|/resource}"
    tenant        = "{/tenantId}"
  }
  types = {
    "resource.created" = {
      description = "Something that the subscription is about was created."
      sample      = { body = file("notifications.json") }
    }
    "resource.updated" = { sample = { body = file("notifications.json") } }
  }
}

sink "file" "mail" {
  dir = "data/mail"
}

route "mail" {
  on   = ["graph.resource.created"]
  when = event.data.clientState == "route-me" # Graph repeats what the subscription was made with
  to "file" "mail" {
    record = { resource = event.subject, subscription = event.data.subscriptionId }
  }
}
